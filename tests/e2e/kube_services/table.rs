//! Who answers whom: client on the NIC of the backend and on the other, backends near, far and on both, a pod that asks
//! itself; TCP and UDP, IPv4 and IPv6.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tests::{netns, until};

use crate::herald::{By, ask};
use crate::{PORT, SERVICES, Scene};

/// Everything is programmed by then.
const PATIENCE: Duration = Duration::from_mins(3);
/// New connections of which one of two backends has none: one case in a million million.
const ENOUGH: usize = 40;
/// Connections by which a client shows that it stays with one backend: that chance says so is one case in a hundred
/// thousand, over the eight of the table.
const STAYS: usize = 20;
/// Further ones once all backends have answered.
const MORE: usize = 2;

/// The last two are backends: each asks for itself, too.
const CLIENTS: [&str; 4] = ["client-near", "client-far", "near", "far"];

#[derive(Clone, Copy)]
struct Row {
    service: &'static str,
    backends: &'static [&'static str],
    is_sticky: bool,
    ip: IpAddr,
    by: By,
}

impl Row {
    fn to(self) -> SocketAddr {
        SocketAddr::new(self.ip, PORT)
    }

    /// In the client's network: connections until all who should have answered have, and a few more.
    fn check(self) -> Result<usize, String> {
        if self.backends.is_empty() {
            return match ask(self.to(), self.by) {
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => Ok(1),
                other => Err(format!("should be refused: {other:?}")),
            };
        }
        let mut answered = BTreeSet::new();
        let (mut asked, mut end) = (0, if self.is_sticky { STAYS } else { ENOUGH });
        let wanted = if self.is_sticky { 1 } else { self.backends.len() };
        while asked < end {
            let name = ask(self.to(), self.by).map_err(|e| format!("connection {asked}: {e}"))?;
            if !self.backends.contains(&name.as_str()) {
                return Err(format!("{name} answered"));
            }
            asked += 1;
            if answered.insert(name) && answered.len() == wanted && !self.is_sticky {
                end = asked + MORE;
            }
        }
        if answered.len() == wanted { Ok(asked) } else { Err(format!("of {asked}, by {answered:?}")) }
    }
}

fn rows(scene: &Scene) -> Vec<Row> {
    let mut rows = Vec::new();
    for (service, backends, is_sticky) in SERVICES {
        for ip in scene.services[service] {
            rows.extend([By::Tcp, By::Udp].map(|by| Row { service, backends, is_sticky, ip, by }));
        }
    }
    rows
}

pub fn run(scene: &Scene) {
    let rows = rows(scene);
    let asked: Vec<usize> = std::thread::scope(|scope| {
        let clients = CLIENTS.map(|client| {
            let (rows, place) = (&rows, scene.pods[client].place());
            scope.spawn(move || {
                netns::within(&place, || {
                    let mut asked = 0;
                    for row in rows {
                        let what = format!("{client} asks {} at {} by {:?}", row.service, row.ip, row.by);
                        // Until it is programmed, anything may happen, but that a stranger answers.
                        until(&what, PATIENCE, || row.check());
                        // From then on nothing else.
                        asked += row.check().unwrap_or_else(|e| panic!("{what}: {e}"));
                    }
                    asked
                })
            })
        });
        clients.into_iter().map(|it| it.join().expect("the client's thread")).collect()
    });
    println!(
        "{} clients, {} addresses and protocols each, {} connections: all answered by whom they should be",
        CLIENTS.len(),
        rows.len(),
        asked.iter().sum::<usize>()
    );
}
