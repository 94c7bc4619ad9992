//! Rules per second of the netlink session, beside `tc -batch` on the same rules and a replay of prebuilt messages. Runs in
//! the lab VM, as root. Ends with a line for each figure, `bench`, name, ours, peer, ratio, goal, between tabs.
//! `[RULES [ROUNDS]]`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![forbid(unsafe_code)]

#[allow(dead_code)]
#[path = "netlink_vm/bench.rs"]
mod bench;

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bench::{Bench, output, run};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use offload::flower::{Actions, ChainIndex, IpKey, Key, L4, Payload, Ports, Pref, Rule, Skip};
use offload::ids::IfIndex;
use offload::netlink::link;
use offload::netlink::request::flags;
use offload::netlink::socket::{NetlinkSocket, Protocol};
use offload::netlink::tc::{self, Change, Handle, Place, Reasons};
use offload::openflow::Masked;

/// As many messages per system call as the session sends.
const PER_DATAGRAM: usize = 128;

fn address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 | n)
}

fn rules(count: u32, skip: Skip) -> Vec<Rule> {
    (0..count)
        .map(|n| {
            let l4 = L4::Tcp(Ports { src: Masked::any(), dst: Masked::exact(80) });
            let ip = IpKey { dst: Masked::exact(address(n)), l4, ..IpKey::default() };
            Rule { key: Key { payload: Payload::Ipv4(ip), ..Key::default() }, actions: Actions::drop(), skip }
        })
        .collect()
}

fn changes(ifindex: IfIndex, rules: &[Rule]) -> Vec<Change<'_>> {
    (1u32..)
        .zip(rules)
        .map(|(n, rule)| {
            let handle = Handle::new(n).unwrap();
            let place = Place { ifindex, chain: ChainIndex(0), pref: Pref::FIRST, handle };
            Change::Add { place, rule }
        })
        .collect()
}

/// Datagrams that want nothing but to be sent.
fn prebuilt(changes: &[Change<'_>]) -> Vec<Vec<u8>> {
    let datagram = |changes: &[Change<'_>]| {
        let mut bytes = Vec::new();
        for (n, change) in (1u32..).zip(changes) {
            let request = change.request().unwrap();
            let ack = if n as usize == changes.len() { flags::ACK } else { 0 };
            bytes.extend((16 + u32::try_from(request.payload.len()).unwrap()).to_ne_bytes());
            bytes.extend(request.kind.to_ne_bytes());
            bytes.extend((request.flags | flags::REQUEST | ack).to_ne_bytes());
            bytes.extend(n.to_ne_bytes());
            bytes.extend(0u32.to_ne_bytes());
            bytes.extend(request.payload);
        }
        bytes
    };
    changes.chunks(PER_DATAGRAM).map(datagram).collect()
}

fn replay(datagrams: &[Vec<u8>]) -> Duration {
    let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
    socket.bind_auto().unwrap();
    socket.set_cap_ack(true).unwrap();
    let kernel = SocketAddr::new(0, 0);
    let mut answer = Vec::with_capacity(1 << 16);
    let start = Instant::now();
    for datagram in datagrams {
        socket.send_to(datagram, &kernel, 0).unwrap();
        answer.clear();
        socket.recv_from(&mut answer, 0).unwrap();
        assert_eq!(answer[16..20], [0; 4], "refused");
    }
    start.elapsed()
}

fn session(changes: &[Change<'_>], reasons: Reasons) -> Duration {
    let mut socket = NetlinkSocket::open(Protocol::Route).unwrap();
    let start = Instant::now();
    let outcomes = tc::apply(&mut socket, changes, reasons).unwrap();
    let elapsed = start.elapsed();
    assert!(outcomes.iter().all(Result::is_ok));
    elapsed
}

fn iproute2(device: &str, count: u32, skip: Skip) -> Duration {
    let file = std::env::temp_dir().join(format!("bench-netlink-{}", std::process::id()));
    let skip = if skip == Skip::Hardware { "skip_hw " } else { "" };
    let mut lines = String::new();
    for n in 0..count {
        let handle = n + 1;
        let dst = address(n);
        writeln!(
            lines,
            "filter add dev {device} ingress handle {handle} pref 1 protocol ip flower {skip}dst_ip {dst} ip_proto tcp dst_port 80 action drop"
        )
        .unwrap();
    }
    std::fs::write(&file, lines).unwrap();
    let start = Instant::now();
    run(&format!("tc -batch {}", file.display()));
    let elapsed = start.elapsed();
    std::fs::remove_file(&file).unwrap();
    elapsed
}

/// The best time of each, taken in turn so that whatever else the machine does meets all of them; each time on an empty
/// hook.
fn best<const N: usize>(device: &str, rounds: usize, measures: [&dyn Fn() -> Duration; N]) -> [Duration; N] {
    let mut best = [Duration::MAX; N];
    for _ in 0..rounds {
        for (best, measure) in best.iter_mut().zip(measures) {
            let _ = output(&format!("tc qdisc del dev {device} clsact"));
            run(&format!("tc qdisc add dev {device} clsact"));
            *best = measure().min(*best);
        }
    }
    best
}

fn line(name: &str, count: u32, ours: Duration, peer: Duration, goal: &str) -> String {
    let rate = |time: Duration| f64::from(count) / time.as_secs_f64();
    let ratio = rate(ours) / rate(peer);
    format!("bench\t{name}\t{:.0} rules/s\t{:.0} rules/s\t{ratio:.2}\t{goal}", rate(ours), rate(peer))
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|text| text.parse::<u32>().ok());
    let count = numbers.next().unwrap_or(20_000);
    let rounds = numbers.next().unwrap_or(5) as usize;
    let mut bench = Bench::new();
    bench.nic(1);
    run("ip link add dum0 type dummy");
    let mut lines = Vec::new();
    for (name, device, skip, count) in [
        ("software", "dum0", Skip::Hardware, count),
        ("offloaded to simnic", "pf0vf0", Skip::None, count.min(4000)),
    ] {
        let mut socket = NetlinkSocket::open(Protocol::Route).unwrap();
        let ifindex = link::link_by_name(&mut socket, device).unwrap().unwrap().ifindex;
        let rules = rules(count, skip);
        let changes = changes(ifindex, &rules);
        let datagrams = prebuilt(&changes);
        let [ours, tc, bare, asking] = best(
            device,
            rounds,
            [
                &|| session(&changes, Reasons::Skip),
                &|| iproute2(device, count, skip),
                &|| replay(&datagrams),
                &|| session(&changes, Reasons::Ask),
            ],
        );
        lines.push(line(&format!("netlink, {name}: session, tc -batch"), count, ours, tc, ">= 2.5"));
        lines.push(line(&format!("netlink, {name}: session, replay"), count, ours, bare, ">= 0.9"));
        if skip == Skip::None {
            // What underlay::Session does; tc does not ask.
            lines.push(line(
                &format!("netlink, {name}: session with reasons, tc -batch"),
                count,
                asking,
                tc,
                ">= 2.5",
            ));
            lines.push(line(
                &format!("netlink, {name}: session with reasons, without"),
                count,
                asking,
                ours,
                "-",
            ));
        }
    }
    println!("{}", lines.join("\n"));
}
