//! What arrives at the receivers, of whom, and since when it should not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tests::recording::{Packet, Recording};
use tests::{Pod, PolicyLab};

use crate::policies::{DENIED, KNOCK, RECEIVERS};

/// Since 1970: the same clock as a recorded packet's.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Tcp,
    Udp,
    Icmp,
}

pub const KINDS: [Kind; 3] = [Kind::Tcp, Kind::Udp, Kind::Icmp];

/// From whom, to whom, what.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sort {
    pub from: &'static str,
    pub to: &'static str,
    pub kind: Kind,
    pub is_v6: bool,
}

impl fmt::Debug for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = if self.is_v6 { "v6" } else { "v4" };
        write!(f, "{}→{} {:?} {version}", self.from, self.to, self.kind)
    }
}

/// A packet of IP.
#[derive(Debug, Clone)]
struct Read {
    source: IpAddr,
    kind: Kind,
    /// Of TCP and UDP.
    port: u16,
    /// A SYN, a datagram, an echo request.
    begins: bool,
    text: String,
}

/// Of TCP, UDP and ICMP; `None` is anything else, neighbour discovery among it.
fn read(packet: &Packet) -> Option<Read> {
    let bytes = &packet.bytes;
    let short = |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let ip = bytes.get(14..)?;
    let (protocol, source, message): (u8, IpAddr, &[u8]) = match short(bytes, 12)? {
        0x0800 => {
            let source: [u8; 4] = ip.get(12..16)?.try_into().ok()?;
            (*ip.get(9)?, Ipv4Addr::from(source).into(), ip.get(usize::from(ip[0] & 0xf) * 4..)?)
        }
        0x86dd => {
            let source: [u8; 16] = ip.get(8..24)?.try_into().ok()?;
            (*ip.get(6)?, Ipv6Addr::from(source).into(), ip.get(40..)?)
        }
        _ => return None,
    };
    let ports = (short(message, 0)?, short(message, 2)?);
    let (kind, port, begins, what) = match protocol {
        6 => {
            let flags = *message.get(13)?;
            (
                Kind::Tcp,
                ports.1,
                flags & 0x12 == 0x02,
                format!("TCP {} > {} flags {flags:#04x}", ports.0, ports.1),
            )
        }
        17 => (Kind::Udp, ports.1, true, format!("UDP {} > {}", ports.0, ports.1)),
        1 | 58 => {
            let kind = *message.first()?;
            // Neighbour discovery and MLD.
            if protocol == 58 && matches!(kind, 130..=137 | 143) {
                return None;
            }
            (
                Kind::Icmp,
                0,
                matches!((protocol, kind), (1, 8) | (58, 128)),
                format!("ICMP type {kind} id {:?}", short(message, 4)),
            )
        }
        _ => return None,
    };
    Some(Read { source, kind, port, begins, text: format!("{source} {what}") })
}

#[derive(Debug, Clone)]
struct Arrival {
    at: Duration,
    sort: Sort,
    /// Begins a connection, to the port at which new ones knock.
    knocks: bool,
    is_flood: bool,
    text: String,
}

/// How often what arrived.
pub type Count = BTreeMap<Sort, usize>;

/// All that has arrived at the receivers since this was begun.
pub struct Arrivals {
    recordings: Vec<(&'static str, Recording)>,
    names: BTreeMap<IpAddr, &'static str>,
    all: Vec<Arrival>,
}

impl Arrivals {
    /// Of these pods.
    #[track_caller]
    pub fn start(lab: &PolicyLab, senders: &[&'static str]) -> Self {
        let pod = |name: &str| lab.pod(lab.index(name));
        let ips = |pod: &Pod| [&pod.ip, &pod.ip6].map(|it| it.parse().expect("an address"));
        let names: BTreeMap<IpAddr, &str> =
            senders.iter().flat_map(|name| ips(pod(name)).map(|ip| (ip, *name))).collect();
        let hosts: Vec<String> = names.keys().map(|ip| format!("src host {ip}")).collect();
        let filter = format!("(ip or ip6) and ({})", hosts.join(" or "));
        let start = |name| (name, Recording::start(&pod(name).place(), "eth0", &filter));
        Self { recordings: RECEIVERS.map(start).into(), names, all: Vec::new() }
    }

    #[track_caller]
    fn look(&mut self) {
        for (to, recording) in &mut self.recordings {
            let packets = recording.read();
            self.all.extend(packets.iter().filter_map(|it| arrival(&self.names, to, it)));
        }
    }

    /// First packets that knocked in this time.
    #[track_caller]
    pub fn knocked(&mut self, from: Duration, until: Duration) -> Count {
        self.look();
        count(self.all.iter().filter(|it| it.knocks && it.at >= from && it.at < until))
    }

    /// First packets of the flood in this time.
    #[track_caller]
    pub fn flooded(&mut self, from: Duration, until: Duration) -> usize {
        self.look();
        self.all.iter().filter(|it| it.is_flood && it.at >= from && it.at < until).count()
    }

    /// What arrived of denied pods after a receiver had settled, as text, in order, each with how long after.
    pub fn denied_after(&self, settled: &BTreeMap<&'static str, Duration>) -> (Count, Vec<String>) {
        let late = |it: &&Arrival| {
            DENIED.contains(&it.sort.from) && settled.get(it.sort.to).is_some_and(|since| it.at > *since)
        };
        let all: Vec<&Arrival> = self.all.iter().filter(late).collect();
        let tell = |it: &&Arrival| {
            let after = it.at.saturating_sub(settled[it.sort.to]);
            format!("{:.3} s after: {:?}: {}", after.as_secs_f64(), it.sort, it.text)
        };
        (count(all.iter().copied()), all.iter().map(tell).collect())
    }

    /// Ends the recordings. Panics when tcpdump was too slow for some of it: then nothing was proven.
    #[track_caller]
    pub fn stop(&mut self) {
        let stop = |(to, it): (&'static str, Recording)| std::thread::spawn(move || (to, it.stop()));
        let stopping: Vec<_> = self.recordings.drain(..).map(stop).collect();
        for it in stopping {
            let (to, (packets, missed)) = it.join().expect("tcpdump ends");
            self.all.extend(packets.iter().filter_map(|it| arrival(&self.names, to, it)));
            assert_eq!(missed, 0, "late: tcpdump has missed packets that arrived at {to}");
        }
    }
}

fn arrival(names: &BTreeMap<IpAddr, &'static str>, to: &'static str, packet: &Packet) -> Option<Arrival> {
    let read = read(packet)?;
    let from = *names.get(&read.source)?;
    let sort = Sort { from, to, kind: read.kind, is_v6: read.source.is_ipv6() };
    let knocks = read.begins && (read.kind == Kind::Icmp || read.port == KNOCK);
    let is_flood = read.begins && read.port >= 20_000;
    Some(Arrival { at: packet.at, sort, knocks, is_flood, text: read.text })
}

fn count<'a>(all: impl IntoIterator<Item = &'a Arrival>) -> Count {
    let mut count = Count::new();
    for it in all {
        *count.entry(it.sort).or_default() += 1;
    }
    count
}

/// Of `wanted`, what is not there.
pub fn missing(wanted: &BTreeSet<Sort>, seen: &Count) -> Vec<Sort> {
    wanted.iter().filter(|it| !seen.contains_key(it)).copied().collect()
}
