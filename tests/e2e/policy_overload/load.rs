//! What is sent: the flood, new connections of every kind, and connections that are kept busy.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tests::policy_lab::ROLES;
use tests::traffic::{Beginning, Beginnings, Begins, Client, End, Stream};
use tests::{Pod, PolicyLab, until};

use crate::arrivals::{KINDS, Kind, Sort};
use crate::policies::{DENIED, KNOCK, RECEIVERS, TCP, UDP, flooded};

/// Of a connection that is kept busy. There are 36 of them.
const OFTEN: Duration = Duration::from_millis(500);
/// Between two new connections of one pod.
const EVERY: Duration = Duration::from_millis(100);
/// What TCP was not answered it sends again later each time: after as long as nothing passed, at most.
const PATIENCE: Duration = Duration::from_mins(3);

/// A new connection of every kind, from each of these to each of those.
const WITNESSES: [(&str, &str); 6] =
    [("a1", "a2"), ("a1", "a3"), ("a1", "c1"), ("c1", "a2"), ("c1", "a3"), ("a3", "c1")];

fn ends(pod: &Pod) -> [End; 2] {
    [&pod.ip, &pod.ip6].map(|ip| End { mac: pod.mac.clone(), ip: ip.parse().expect("an address") })
}

/// Each knows the others' MACs for good: looking for them is no part of this, and fails where OVS is late.
#[track_caller]
pub fn introduce(lab: &PolicyLab) {
    let all: Vec<&Pod> = (0..ROLES.len()).map(|it| lab.pod(it)).collect();
    for pod in &all {
        let others =
            all.iter().filter(|it| it.ip != pod.ip).flat_map(|it| [&it.ip, &it.ip6].map(|ip| (ip, &it.mac)));
        let lines: Vec<String> = others
            .map(|(ip, mac)| format!("ip neigh replace {ip} lladdr {mac} dev eth0 nud permanent"))
            .collect();
        pod.run(&["sh", "-ec", &lines.join("\n")]).ok();
    }
}

/// All that an allowed pod begins, each of which shows that the like of it arrives.
pub fn witnesses() -> BTreeSet<Sort> {
    sorts(WITNESSES.into_iter(), |_| true)
}

/// All that a denied one begins. `b1`'s policy speaks of ports, so its ICMP is never allowed.
pub fn denied() -> BTreeSet<Sort> {
    let pairs = DENIED.into_iter().flat_map(|from| RECEIVERS.map(|to| (from, to)));
    sorts(pairs, |it| it.from != DENIED[0] || it.kind != Kind::Icmp)
}

fn sorts(
    pairs: impl Iterator<Item = (&'static str, &'static str)>,
    which: impl Fn(&Sort) -> bool,
) -> BTreeSet<Sort> {
    let of = |(from, to)| {
        KINDS.into_iter().flat_map(move |kind| [false, true].map(|is_v6| Sort { from, to, kind, is_v6 }))
    };
    pairs.flat_map(of).filter(which).collect()
}

/// New connections, slowly, from allowed and denied pods, as long as this lives.
pub struct Knocking {
    _all: Vec<Beginnings>,
}

impl Knocking {
    #[track_caller]
    pub fn start(lab: &PolicyLab) -> Self {
        let all: BTreeSet<Sort> = witnesses().into_iter().chain(denied()).collect();
        let senders: BTreeSet<&str> = all.iter().map(|it| it.from).collect();
        let of = |from: &&str| {
            let sender = lab.pod(lab.index(from));
            let list = all.iter().filter(|it| it.from == *from).map(|sort| {
                let begins = match sort.kind {
                    Kind::Tcp => Begins::Tcp(KNOCK),
                    Kind::Udp => Begins::Udp(KNOCK),
                    Kind::Icmp => Begins::Echo,
                };
                let version = usize::from(sort.is_v6);
                Beginning::new(begins, &ends(sender)[version], &ends(lab.pod(lab.index(sort.to)))[version])
            });
            Beginnings::start(&sender.place(), list.collect(), Some(EVERY))
        };
        Self { _all: senders.iter().map(of).collect() }
    }
}

/// TCP and UDP, IPv4 and IPv6, near and far: each connection from a port of its own.
#[track_caller]
pub fn flood(lab: &PolicyLab, ports: u16, every: Option<Duration>) -> Beginnings {
    let sender = lab.pod(lab.index(DENIED[0]));
    let mut list = Vec::new();
    for port in flooded(ports) {
        // The near one, and one on the other server.
        for receiver in &RECEIVERS[..2] {
            let pairs = ends(sender).into_iter().zip(ends(lab.pod(lab.index(receiver))));
            for (from, to) in pairs {
                list.extend([Begins::Tcp(port), Begins::Udp(port)].map(|it| Beginning::new(it, &from, &to)));
            }
        }
    }
    Beginnings::start(&sender.place(), list, every)
}

/// Established connections to every receiver, both protocols and both versions of IP.
pub struct Busy {
    name: &'static str,
    datagrams: Vec<(IpAddr, Client)>,
    streams: Vec<(IpAddr, Stream)>,
}

impl Busy {
    #[track_caller]
    pub fn start(lab: &PolicyLab, from: &'static str) -> Self {
        let sender = lab.pod(lab.index(from));
        let to: Vec<IpAddr> = RECEIVERS.iter().flat_map(|it| lab.addresses(lab.index(it))).collect();
        let datagrams =
            to.iter().map(|ip| (*ip, Client::start(sender, &ip.to_string(), UDP, OFTEN))).collect();
        let streams = to.iter().map(|ip| (*ip, Stream::start(sender, &ip.to_string(), TCP, OFTEN))).collect();
        Self { name: from, datagrams, streams }
    }

    fn answered(&self) -> Vec<(String, u32)> {
        let datagrams = self.datagrams.iter().map(|(ip, it)| (format!("UDP {ip}"), it.answered()));
        datagrams.chain(self.streams.iter().map(|(ip, it)| (format!("TCP {ip}"), it.answered()))).collect()
    }

    /// Returns when each has been answered some more: a connection that is broken never is.
    #[track_caller]
    pub fn go_on(&self) {
        let before = self.answered();
        let began = Instant::now();
        let mut told = Duration::from_secs(5);
        until(
            &format!("wrong, broken: the connections of {}, which is allowed them, go on", self.name),
            PATIENCE,
            || {
                let stuck = |(now, before): (&(String, u32), &(String, u32))| {
                    (now.1 < before.1 + 5).then(|| now.0.clone())
                };
                let stuck: Vec<String> = self.answered().iter().zip(&before).filter_map(stuck).collect();
                if began.elapsed() > told {
                    println!("  {:.0} s without enough answers: {stuck:?}", began.elapsed().as_secs_f64());
                    told *= 2;
                }
                if stuck.is_empty() { Ok(()) } else { Err(format!("no answer: {stuck:?}")) }
            },
        );
    }

    /// Sends no more, without waiting for what will not be answered.
    pub fn halt(self) {
        self.datagrams.iter().for_each(|it| it.1.halt());
        self.streams.iter().for_each(|it| it.1.halt());
    }
}
