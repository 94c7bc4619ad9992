//! Functions of a server that no pod holds: what one of them tries, and where that arrives.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::process::{Child, Stdio};

use crate::command::{in_place, place};
use crate::frame::{self, BROADCAST};
use crate::{Capture, Nic, Pod};

/// MAC addresses that begin so are nobody's.
const NOBODY: &str = "0a:66:66:66";
/// tcpdump's word for them.
const FROM_NOBODY: &str = "ether[6:4] = 0x0a666666";

/// A function that asks for its NIC's own address, by broadcast, fifty times a second for as long as this lives. Whatever
/// passes its frames on passes these, and the NIC's kernel would answer.
pub struct Trying {
    place: String,
    interface: String,
    mac: String,
    child: Child,
}

impl Trying {
    /// `number` tells several apart.
    #[track_caller]
    pub fn start(nic: Nic, interface: &str, number: u8) -> Self {
        let place = format!("host{}", nic.0);
        crate::command::sh(&place, &format!("ip link set {interface} up")).ok();
        let mac = format!("{NOBODY}:{:02x}:{number:02x}", nic.0);
        let child = in_place(
            &place,
            &["mausezahn", interface, "-q", "-c", "0", "-d", "20msec", &question(nic, &mac, number)],
        )
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mausezahn");
        Self { place, interface: interface.to_owned(), mac, child }
    }
}

impl Drop for Trying {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// "Who has the NIC's address?", as mausezahn takes it.
fn question(nic: Nic, mac: &str, number: u8) -> String {
    let (asks, asked) = (Ipv4Addr::new(10, 0, 0, 200 + number), Ipv4Addr::new(10, 0, 0, 10 + nic.0));
    let arp = frame::arp(1, mac, asks, "00:00:00:00:00:00", asked);
    let hex = frame::ethernet(BROADCAST, mac, 0x0806, &arp);
    let pairs: Vec<&str> = hex.as_bytes().chunks(2).map(|it| std::str::from_utf8(it).expect("hex")).collect();
    pairs.join(":")
}

/// Three of the same from each of these interfaces of the server.
#[track_caller]
pub fn try_once(nic: Nic, interfaces: &[String]) {
    let at = format!("host{}", nic.0);
    for (number, interface) in (1..).zip(interfaces) {
        place(&at, &["ip", "link", "set", interface, "up"]).ok();
        let mac = format!("{NOBODY}:{:02x}:{number:02x}", nic.0);
        place(&at, &["mausezahn", interface, "-q", "-c", "3", "-d", "2msec", &question(nic, &mac, number)])
            .ok();
    }
}

/// All places where it could arrive.
pub struct Watch(Vec<(String, Capture)>);

/// How many frames arrived where, and one of them.
#[derive(Debug, Clone, Default)]
pub struct Reached(pub BTreeMap<String, (usize, String)>);

impl Watch {
    /// On the fabric, in these pods, and, as an answer, at the functions themselves.
    #[track_caller]
    pub fn start(trying: &[&Trying], pods: &[&Pod]) -> Self {
        let mut captures = vec![("the fabric".to_owned(), Capture::start("central", "fabric", FROM_NOBODY))];
        for pod in pods {
            captures.push((format!("pod {}", pod.name), Capture::start(&pod.place(), "eth0", FROM_NOBODY)));
        }
        for it in trying {
            let to_us = format!("ether dst {}", it.mac);
            captures.push((
                format!("{}, answered", it.interface),
                Capture::start(&it.place, &it.interface, &to_us),
            ));
        }
        Self(captures)
    }

    pub fn stop(self) -> Reached {
        let arrived = self.0.into_iter().map(|(at, capture)| (at, capture.stop()));
        let counted = arrived.filter_map(|(at, frames)| Some((at, (frames.len(), frames.first()?.clone()))));
        Reached(counted.collect())
    }
}

impl Reached {
    pub fn nothing(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nothing() {
            return f.write_str("nothing");
        }
        let each: Vec<String> =
            self.0.iter().map(|(at, (frames, _))| format!("{at}: {frames} frames")).collect();
        f.write_str(&each.join(", "))
    }
}
