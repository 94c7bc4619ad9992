//! Conntrack against a real kernel, and connections that the simulated NIC's eSwitch carries. Runs in the lab VM, as root;
//! `cargo test -p offload --test conntrack_vm` there. What the kernel has is read with conntrack-tools, what the eSwitch
//! has in simnic's debugfs, never with the code under test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![forbid(unsafe_code)]

#[path = "netlink_vm/bench.rs"]
#[allow(dead_code, reason = "shared with another target")]
mod bench;
#[path = "conntrack_vm/oracle.rs"]
mod oracle;
#[path = "../../tests/src/patience.rs"]
mod patience;
#[path = "conntrack_vm/pods.rs"]
mod pods;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bench::Bench;
use offload::cut::cut;
use offload::ids::CtZone;
use offload::netlink::conntrack::{Conntrack, Entry, NewConnection, NewConnections, Release, Status};
use offload::policy::{Action, Origin, PodPolicy, PrefixSet, Rule, Rules, Tier, Traffic};
use offload::tuple::{L4, SCTP, TCP, UDP};
use oracle::{insert, listed, ours};
use patience::patience;
use pods::{Pods, Tcp, Udp, V4, V6, ZONE, ping, until};

fn zone(zone: u16) -> CtZone {
    CtZone::new(zone).unwrap()
}

fn seen(entries: &[Entry]) -> Vec<oracle::Seen> {
    let mut seen: Vec<_> = entries.iter().map(ours).collect();
    seen.sort_unstable();
    seen
}

/// The entry of a connection to this port.
fn to_port(entries: &[Entry], proto: u8, port: u16) -> Entry {
    let ours = |entry: &&Entry| {
        entry.orig.proto == proto && matches!(entry.orig.l4, L4::Ports { dst, .. } if dst == port)
    };
    *entries.iter().find(ours).unwrap_or_else(|| panic!("no connection to {port}: {entries:?}"))
}

#[test]
fn vm_a_dump_is_what_the_tool_shows() {
    let mut bench = Bench::new();
    let pods = Pods::new(&mut bench);
    let mut tcp = [Tcp::open(V4[1], 80), Tcp::open(V6[1], 80)];
    let udp = [Udp::open(V4[1], 53), Udp::open(V6[1], 53)];
    udp.iter().for_each(Udp::turn);
    ping(V4[1]);
    ping(V6[1]);
    // Never answered.
    let silent = Udp::open(V4[1], 5353);
    insert(&format!(
        "-w {ZONE} -s 10.9.1.1 -d 10.9.1.2 -p sctp --sport 5 --dport 6 --orig-vtag 1 --reply-vtag 2 --state ESTABLISHED -u UNSET"
    ));
    insert(&format!(
        "-w {ZONE} -s fd09:1::1 -d fd09:1::2 -p udplite --sport 7 --dport 8 -u UNSET -m 0x12345678"
    ));
    insert(&format!("-w {ZONE} -s 10.9.1.1 -d 10.9.1.2 -p 50 -u UNSET"));
    // Other zones, and none: not ours.
    insert("-w 78 -s 10.9.0.1 -d 10.9.0.2 -p udp --sport 1 --dport 2 -u UNSET");
    insert("-s 10.9.0.1 -d 10.9.0.2 -p udp --sport 1 --dport 2 -u UNSET");
    let turn = || {
        tcp.iter_mut().for_each(Tcp::turn);
        udp.iter().for_each(Udp::turn);
        silent.client.send(b"x").unwrap();
    };
    until("both directions of four connections, one of a fifth in hardware", turn, || {
        pods.in_hardware().len() == 9
    });

    let mut conntrack = Conntrack::open().unwrap();
    let entries = conntrack.entries(zone(ZONE)).unwrap();
    assert_eq!(seen(&entries), listed(Some(ZONE)));
    assert_eq!(entries.len(), 10, "{entries:#?}");
    assert_eq!(conntrack.count(zone(ZONE)).unwrap(), 10);
    assert_eq!(conntrack.count(zone(78)).unwrap(), 1);
    assert_eq!(conntrack.count(zone(79)).unwrap(), 0);
    assert_eq!(conntrack.kept().unwrap(), 12);
    assert_eq!(conntrack.held().unwrap(), 0);
    let web = to_port(&entries, TCP, 80);
    assert!(web.status.has(Status::HW_OFFLOAD) && web.status.has(Status::ASSURED), "{web:?}");
    assert!(web.timeout.is_none(), "{web:?}");
    assert!(to_port(&entries, SCTP, 6).timeout.is_some());
    // Every kind of tuple can be named so that the kernel finds it, and nothing else goes.
    assert_eq!(conntrack.delete(&entries).unwrap().deleted, 10);
    assert_eq!(listed(None).iter().map(|it| it.0).collect::<Vec<_>>(), [0, 78]);
}

#[test]
fn vm_only_the_named_entry_goes() {
    let mut bench = Bench::new();
    let _pods = Pods::new(&mut bench);
    let mut conntrack = Conntrack::open().unwrap();
    let (mut one, mut other) = (Tcp::open(V4[1], 80), Tcp::open(V4[1], 81));
    one.turn();
    let entries = conntrack.entries(zone(ZONE)).unwrap();
    let gone = to_port(&entries, TCP, 80);
    let from = match gone.orig.l4 {
        L4::Ports { src, .. } => src,
        l4 => panic!("{l4:?}"),
    };
    let twin =
        format!("-s {} -d {} -p tcp --sport {from} --dport 80 --state ESTABLISHED -u UNSET", V4[0], V4[1]);
    insert(&format!("-w 78 {twin}"));
    insert(&twin);

    let done = conntrack.delete(&[gone]).unwrap();
    assert_eq!((done.deleted, done.gone), (1, 0));
    let left = listed(None);
    assert_eq!(left.iter().map(|it| it.0).collect::<Vec<_>>(), [0, ZONE, 78], "{left:?}");
    assert_eq!(left[1].1, to_port(&entries, TCP, 81).orig);
    other.turn();

    // Another connection with the same tuple is not meant. The kernel may give it the very same id, if it put it into the
    // same memory; so this one's is changed.
    let left = to_port(&entries, TCP, 81);
    let earlier = Entry { id: !left.id, ..left };
    let done = conntrack.delete(&[gone, earlier]).unwrap();
    assert_eq!((done.deleted, done.gone), (0, 2));
    assert_eq!(to_port(&conntrack.entries(zone(ZONE)).unwrap(), TCP, 81).id, left.id);

    // Once the hardware has let go of the one that was deleted, it goes on as a new connection.
    let release = conntrack.wait_until_released(done, patience(Duration::from_mins(1))).unwrap();
    assert!(release.is_complete(), "{release:?}");
    one.turn();
    assert_eq!(to_port(&conntrack.entries(zone(ZONE)).unwrap(), TCP, 80).orig, gone.orig);
}

/// All that is told until nothing comes for a second.
fn told(socket: &mut NewConnections) -> Vec<NewConnection> {
    let mut told = Vec::new();
    loop {
        let more = socket.wait(Duration::from_secs(1)).unwrap();
        if more.is_empty() {
            return told;
        }
        told.extend(more);
    }
}

/// Of the zones asked for, whether by a tool or by packets that the NIC's TC rules commit; and what is lost is told.
#[test]
fn vm_new_connections_are_told_by_zone() {
    let mut bench = Bench::new();
    let pods = Pods::new(&mut bench);
    let mut socket = NewConnections::open(zone(ZONE)..=zone(ZONE)).unwrap();
    let udp = [Udp::open(V4[1], 53), Udp::open(V6[1], 53)];
    let mut tcp = Tcp::open(V4[1], 80);
    let turn = || {
        udp.iter().for_each(Udp::turn);
        tcp.turn();
    };
    until("three connections in hardware", turn, || pods.in_hardware().len() == 6);
    for other in [ZONE - 1, ZONE + 1] {
        insert(&format!("-w {other} -s 10.9.0.1 -d 10.9.0.2 -p udp --sport 1 --dport 2 -u UNSET"));
    }
    insert("-s 10.9.0.1 -d 10.9.0.2 -p udp --sport 1 --dport 2 -u UNSET");
    insert(&format!("-w {ZONE} -s 10.9.0.1 -d 10.9.0.2 -p udp --sport 1 --dport 2 -m 7 -u UNSET"));
    let began: Vec<Entry> = told(&mut socket)
        .into_iter()
        .map(|it| match it {
            NewConnection::Began(entry) => entry,
            NewConnection::Lost => panic!("nothing was lost"),
        })
        .collect();
    // As they were when they began: the same but for what became of them.
    let key = |seen: &oracle::Seen| (seen.0, seen.1, seen.2, seen.4);
    let mut keys: Vec<_> = began.iter().map(ours).map(|seen| key(&seen)).collect();
    keys.sort_unstable();
    assert_eq!(keys, listed(Some(ZONE)).iter().map(key).collect::<Vec<_>>());
    assert_eq!(keys.len(), 4, "{began:#?}");
    assert!(began.iter().any(|it| it.mark == 7), "{began:#?}");

    let mut small = NewConnections::with_buffer(zone(ZONE)..=zone(ZONE), 2048).unwrap();
    for port in 1..60 {
        insert(&format!("-w {ZONE} -s 10.9.0.1 -d 10.9.0.3 -p udp --sport {port} --dport 2 -u UNSET"));
    }
    let told = told(&mut small);
    assert!(told.contains(&NewConnection::Lost) && told.len() < 60, "{told:?}");
}

/// Ends what runs beside a test, however the test ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Nothing may be started, nothing be received.
fn closed() -> PodPolicy {
    let none =
        Rule { action: Action::Allow, peers: PrefixSet::default(), traffic: Traffic::Any, origin: Origin(1) };
    let rules = Rules { tiers: vec![Tier { rules: vec![none], otherwise: Action::Deny, origin: Origin(2) }] };
    PodPolicy { egress: rules.clone(), ingress: rules }
}

#[test]
fn vm_tightening_is_done_when_the_hardware_has_let_go() {
    let mut bench = Bench::new();
    let pods = Pods::new(&mut bench);
    let mut conntrack = Conntrack::open().unwrap();
    let udp = [Udp::open(V4[1], 53), Udp::open(V6[1], 53)];
    let mut tcp = [Tcp::open(V4[1], 80), Tcp::open(V6[1], 80)];
    let turn = || {
        udp.iter().for_each(Udp::turn);
        tcp.iter_mut().for_each(Tcp::turn);
    };
    until("two directions of four connections in hardware", turn, || pods.in_hardware().len() == 8);

    Pods::close();
    let entries = conntrack.entries(zone(ZONE)).unwrap();
    let address = V4[0].parse().unwrap();
    let address6 = V6[0].parse().unwrap();
    assert_eq!(cut(&[address, address6], &PodPolicy::default(), &entries), Vec::<&Entry>::new());
    let denied: Vec<Entry> = cut(&[address, address6], &closed(), &entries).into_iter().copied().collect();
    assert_eq!(denied.len(), 4);

    let done = AtomicBool::new(false);
    let (release, left, hardware_after) = std::thread::scope(|scope| {
        let over = Over(&done);
        // Allowed once, denied now: it goes on for as long as the hardware lets it.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for it in &udp {
                    it.client.send(b"x").unwrap();
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let deleted = conntrack.delete(&denied).unwrap();
        assert_eq!(deleted.deleted, 4);
        let at_once = conntrack.wait_until_released(deleted, Duration::ZERO).unwrap();
        if !pods.in_hardware().is_empty() {
            assert!(matches!(at_once, Release::Unproven { held: 4.., .. }), "{at_once:?}");
        }
        let (pods, done) = (&pods, &done);
        let hardware = scope.spawn(move || {
            while !pods.in_hardware().is_empty() && !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            deleted.at.elapsed()
        });
        let release = conntrack.wait_until_released(deleted, patience(Duration::from_mins(1))).unwrap();
        let left = pods.in_hardware();
        drop(over);
        (release, left, hardware.join().unwrap())
    });
    let carried: Vec<usize> = udp.iter().map(Udp::arrived).collect();
    assert_eq!(left, Vec::<String>::new(), "{release:?}");
    assert!(release.is_complete(), "{release:?}");
    assert!(hardware_after <= release.after(), "{hardware_after:?} {release:?}");
    println!(
        "the hardware let go {} ms after the deletion, known after {} ms; packets that passed meanwhile: {carried:?}",
        hardware_after.as_millis(),
        release.after().as_millis()
    );

    // From here on nothing passes: neither in hardware nor in software.
    for _ in 0..50 {
        for it in &udp {
            it.client.send(b"x").unwrap();
        }
    }
    for connection in &mut tcp {
        std::io::Write::write_all(&mut connection.client, b"x").unwrap();
    }
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(udp.iter().map(Udp::arrived).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(pods.in_hardware(), Vec::<String>::new());
    assert_eq!(listed(Some(ZONE)), []);
}

#[test]
fn vm_what_software_carried_is_released_at_once() {
    let _bench = Bench::new();
    let mut conntrack = Conntrack::open().unwrap();
    for port in 0..6 {
        insert(&format!("-w {ZONE} -s 10.9.0.1 -d 10.9.0.2 -p udp --sport 1 --dport {port} -u UNSET"));
    }
    let entries = conntrack.entries(zone(ZONE)).unwrap();
    assert_eq!(to_port(&entries, UDP, 3).orig.proto, UDP);
    let before = Instant::now();
    let deleted = conntrack.delete(&entries).unwrap();
    let release = conntrack.wait_until_released(deleted, Duration::ZERO).unwrap();
    assert!(release.is_complete() && release.after() <= before.elapsed(), "{release:?}");
    let nothing = conntrack.delete(&[]).unwrap();
    assert_eq!(
        conntrack.wait_until_released(nothing, Duration::ZERO).unwrap(),
        Release::Complete { after: Duration::ZERO }
    );
}
