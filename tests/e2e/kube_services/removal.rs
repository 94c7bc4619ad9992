//! A pod behind a Service is deleted under traffic. As long as it lives on, whoever comes is answered; once the NICs know,
//! never by it; connections to the others do not notice.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tests::cluster::{Api, KubePod};
use tests::nic::NICS;
use tests::policy_lab::revalidated;
use tests::{netns, place, until};

use crate::herald::{By, Caller, Line, ask};
use crate::{PORT, Scene};

const SERVICE: &str = "shrinking";
const GOES: &str = "second";
const CLIENTS: [&str; 2] = ["client-near", "client-far"];
const PATIENCE: Duration = Duration::from_mins(2);
const PAUSE: Duration = Duration::from_millis(100);
/// From each client, at each address, after the pod has gone.
const AFTERWARDS: usize = 12;

/// A connection that is kept busy, until something goes wrong or it is told to stop.
struct Busy {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<usize, String>>,
    what: String,
}

impl Busy {
    fn start(mut line: Line, what: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut said = 0;
            while !stopped.load(Ordering::Relaxed) {
                line.talk().map_err(|e| format!("after {said}: {e}"))?;
                said += 1;
                std::thread::sleep(PAUSE);
            }
            Ok(said)
        });
        Self { stop, thread, what }
    }

    #[track_caller]
    fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let said = self.thread.join().expect("the connection's thread");
        said.unwrap_or_else(|e| panic!("{}: {e}", self.what))
    }
}

/// Connections to each of those that stay.
fn established(client: &KubePod, to: SocketAddr) -> Vec<Busy> {
    let mut found: Vec<(String, Line)> = Vec::new();
    netns::within(&client.place(), || {
        until(&format!("a connection to each at {to}"), PATIENCE, || {
            let line = Line::open(to).map_err(|e| e.to_string())?;
            let with = line.with.clone();
            if with != GOES && found.iter().all(|it| it.0 != with) {
                found.push((with, line));
            }
            if found.len() == 2 { Ok(()) } else { Err(format!("{} so far", found.len())) }
        });
    });
    let busy = |(with, line)| Busy::start(line, format!("{} to {with} at {to}", client.name));
    found.into_iter().map(busy).collect()
}

/// New connections one after the other, each with the moment at which it was begun.
struct Coming {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(Instant, Result<String, String>)>>,
}

impl Coming {
    fn start(client: &KubePod, to: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = netns::spawn(&client.place(), move || {
            let mut all = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                all.push((begun, ask(to, By::Tcp).map_err(|e| e.to_string())));
                std::thread::sleep(PAUSE);
            }
            all
        });
        Self { stop, thread }
    }

    fn stop(self) -> Vec<(Instant, Result<String, String>)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the thread of new connections")
    }
}

/// A socket of which the pod that goes has answered the first datagram.
fn with_the_one_that_goes(client: &KubePod, to: SocketAddr) -> Caller {
    netns::within(&client.place(), || {
        until(&format!("{GOES} answers {} at {to}", client.name), PATIENCE, || {
            let caller = Caller::new(to).map_err(|e| e.to_string())?;
            match caller.call() {
                Ok(name) if name == GOES => Ok(caller),
                other => Err(format!("{other:?}")),
            }
        })
    })
}

/// Neither OVN's northbound nor the groups of either NIC's `br-int` name the pod's addresses.
fn forgotten(pod: &KubePod) -> Result<(), String> {
    let mut texts = vec![
        place("central", &["ovn-nbctl", "--timeout=20", "--bare", "--columns=vips", "list", "Load_Balancer"])
            .ok(),
    ];
    for nic in NICS {
        let groups = ["ovs-ofctl", "-O", "OpenFlow15", "dump-groups", "br-int"];
        texts.push(place(&nic.place(), &groups).ok());
    }
    let known = |ip: &IpAddr| {
        let (plain, bracketed) = (format!("{ip}:"), format!("[{ip}]"));
        texts.iter().any(|text| text.contains(if ip.is_ipv6() { &bracketed } else { &plain }))
    };
    if pod.addresses.iter().any(known) { Err(format!("{} is still there", pod.name)) } else { Ok(()) }
}

pub fn run(api: &Api, scene: &Scene) {
    let goes = &scene.pods[GOES];
    assert!(forgotten(goes).is_err(), "what is looked for is there before");
    let pairs: Vec<(&KubePod, SocketAddr)> = CLIENTS
        .iter()
        .flat_map(|client| scene.services[SERVICE].map(|ip| (&scene.pods[client], SocketAddr::new(ip, PORT))))
        .collect();
    let busy: Vec<Busy> = pairs.iter().flat_map(|(client, to)| established(client, *to)).collect();
    let kept: Vec<Caller> = pairs.iter().map(|(client, to)| with_the_one_that_goes(client, *to)).collect();
    let coming: Vec<Coming> = pairs.iter().map(|(client, to)| Coming::start(client, *to)).collect();

    api.delete(&goes.path());
    until("the NICs know", PATIENCE, || forgotten(goes));
    // And what has been made of it before.
    NICS.into_iter().for_each(revalidated);
    let (known, lived) = (Instant::now(), !goes.is_dead());
    // UDP has no end: whoever keeps its port would ask the one that has gone for ever.
    for (caller, (client, to)) in kept.iter().zip(&pairs) {
        until(&format!("another answers the socket of {} at {to}", client.name), PATIENCE, || {
            match caller.call() {
                Ok(name) if name != GOES => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
    let moved = known.elapsed();
    let mut afterwards = 0;
    for (client, to) in &pairs {
        for by in [By::Tcp, By::Udp] {
            let names =
                netns::within(&client.place(), || (0..AFTERWARDS).map(|_| ask(*to, by)).collect::<Vec<_>>());
            for name in names {
                let name =
                    name.unwrap_or_else(|e| panic!("{} at {to} by {by:?}, afterwards: {e}", client.name));
                assert!(
                    ["near", "far"].contains(&name.as_str()),
                    "{} at {to} by {by:?}: {name}",
                    client.name
                );
                afterwards += 1;
            }
        }
    }

    let mut meanwhile = 0;
    for (it, (client, to)) in coming.into_iter().zip(&pairs) {
        for (begun, said) in it.stop() {
            let what = format!(
                "{} at {to}, {:?} after the NICs knew",
                client.name,
                begun.saturating_duration_since(known)
            );
            match said {
                Ok(name) => assert!(begun < known || name != GOES, "{what}: {name}"),
                // It was told to end, and served on: nobody had to be turned away.
                Err(e) => assert!(!lived && begun < known, "{what}: {e}"),
            }
            meanwhile += 1;
        }
    }
    let said: usize = busy.into_iter().map(Busy::stop).sum();
    println!(
        "{} sockets that kept their ports had another {:.1} s after the NICs knew",
        kept.len(),
        moved.as_secs_f64()
    );
    println!(
        "{meanwhile} new connections while a pod went (it {} when the NICs knew), {afterwards} afterwards; {said} messages on \
         established ones",
        if lived { "served on" } else { "had ended" }
    );
}
