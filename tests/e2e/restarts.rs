//! Each daemon of a NIC is killed, under traffic and under a stream of spoofed frames. The agent's death costs no packet;
//! after each death all comes back as it was, and no spoofed frame arrives at any time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::Ipv4Addr;
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tests::command::in_place;
use tests::fault::Frozen;
use tests::frame;
use tests::traffic::{Client, Echo};
use tests::{Capture, Nic, Pod, State, Wish, until};

/// Spoofed frames from a pod, for as long as this lives.
struct Spoofer(Child);

impl Spoofer {
    fn start(from: &Pod, as_whom: &Pod, to: &Pod) -> Self {
        let (spoofed, target): (Ipv4Addr, Ipv4Addr) = (as_whom.ip.parse().unwrap(), to.ip.parse().unwrap());
        let datagram = frame::udp(6666, 6667, b"drawbridge-evil");
        let bytes = frame::ethernet(&to.mac, &from.mac, 0x0800, &frame::ipv4(spoofed, target, 17, &datagram));
        let pairs: Vec<&str> =
            bytes.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
        let child = in_place(
            &from.place(),
            &["mausezahn", "eth0", "-q", "-c", "0", "-d", "20msec", &pairs.join(":")],
        )
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mausezahn");
        Self(child)
    }
}

impl Drop for Spoofer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The order changes from run to run; the seed is printed, and DRAWBRIDGE_SEED repeats it.
fn shuffled(mut items: Vec<&'static str>) -> Vec<&'static str> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock").as_nanos();
    let mut seed = std::env::var("DRAWBRIDGE_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(u64::try_from(now % (1 << 62)).unwrap());
    println!("DRAWBRIDGE_SEED={seed}");
    for at in (1..items.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(at, usize::try_from(seed >> 33).unwrap() % (at + 1));
    }
    items
}

#[test]
fn whoever_dies_comes_back_to_the_same_state() {
    let nic = Nic(1);
    let near = Pod::add(&Wish { name: "r1", host: "host1", vf: 12, options: &[] });
    let liar = Pod::add(&Wish { name: "r2", host: "host1", vf: 13, options: &[] });
    let far = Pod::add(&Wish { name: "r3", host: "host2", vf: 12, options: &[] });
    assert!(near.pings(&far.ip) && liar.pings(&far.ip));
    nic.settle();
    let before = State::of(nic);

    let evil = Capture::start(&far.place(), "eth0", "udp port 6667");
    let evil_near = Capture::start(&near.place(), "eth0", "udp port 6667");
    let spoof_far = Spoofer::start(&liar, &near, &far);
    let spoof_near = Spoofer::start(&liar, &far, &near);
    let echo = Echo::start(&far, 7777);

    let mut order = shuffled(vec!["agent", "vswitchd", "ovsdb", "ovn-controller"]);
    order.push("agent");
    for daemon in order {
        let client = Client::start(&near, &far.ip, echo.port, Duration::from_millis(20));
        // Established before the blow falls.
        std::thread::sleep(Duration::from_secs(3));
        let old = nic.daemon(daemon, "pid");
        nic.daemon(daemon, "kill");
        until(&format!("{daemon} is back"), Duration::from_secs(20), || {
            let now = nic.run(&["true"]).is_ok().then(|| nic.daemon(daemon, "status"));
            match now {
                Some(status) if status.starts_with("run:") && !status.contains(&format!("pid {old})")) => {
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            }
        });
        std::thread::sleep(Duration::from_secs(2));
        nic.settle();
        until(&format!("all is as before {daemon} was killed"), Duration::from_mins(1), || {
            let now = State::of(nic);
            if now == before { Ok(()) } else { Err(format!("{now:#?}\nbefore: {before:#?}")) }
        });
        until("traffic flows", Duration::from_mins(1), || {
            if near.pings(&far.ip) { Ok(()) } else { Err("no answer".to_owned()) }
        });
        let report = client.stop();
        println!("kill -9 {daemon}: {report:?}, lost {}", report.lost());
        if daemon == "agent" {
            assert_eq!(report.lost(), 0, "the agent is not in the data path: {report:?}");
        }
    }
    drop((spoof_far, spoof_near));
    for (at, capture) in [("far", evil), ("near", evil_near)] {
        let arrived = capture.stop();
        assert!(arrived.is_empty(), "spoofed frames at {at}: {arrived:#?}");
    }
}

/// As after `sriov_numvfs`, with what simnic can do, whose representors are made once: the device of a pod that runs is in no
/// datapath any more, and Open vSwitch, which is busy, has not seen it yet. What is up then is a device of the NIC's own, which
/// answers for the NIC's addresses.
#[test]
fn a_representor_that_ovs_has_lost_reaches_nothing_until_it_has_it_again() {
    const REPRESENTOR: &str = "pf0vf14";
    let nic = Nic(1);
    let pod = Pod::add(&Wish { name: "r4", host: "host1", vf: 14, options: &[] });
    let far = Pod::add(&Wish { name: "r5", host: "host2", vf: 14, options: &[] });
    assert!(pod.pings(&far.ip));
    nic.settle();
    let before = State::of(nic);
    let is_up = || nic.representors()[REPRESENTOR];
    let is_in_database = || nic.ports()["br-edge"].contains(REPRESENTOR);
    assert!(is_up() && is_in_database());

    let (own, vtep) = (pod.ip.parse().unwrap(), Ipv4Addr::new(10, 0, 0, 11));
    let question = frame::arp(1, &pod.mac, own, "00:00:00:00:00:00", vtep);
    let question = frame::ethernet("ff:ff:ff:ff:ff:ff", &pod.mac, 0x0806, &question);
    let ask = || frame::send(&pod.place(), "eth0", &question, 1).ok();
    let listen = || Capture::start(&pod.place(), "eth0", "arp[6:2] = 2 and arp src host 10.0.0.11");

    let (vswitchd, agent) = (Frozen::start(nic, "vswitchd"), Frozen::start(nic, "agent"));
    nic.run(&["ovs-dpctl", "del-if", "ovs-system", REPRESENTOR]).ok();
    let set_up = || nic.run(&["ip", "link", "set", REPRESENTOR, "up"]).ok();
    set_up();
    // What there is to prevent.
    let answers = listen();
    until("the NIC answers the server", Duration::from_mins(1), || {
        ask();
        answers.next().map(drop).ok_or_else(|| "no answer".to_owned())
    });
    drop((agent, answers));
    until("the agent closes it", Duration::from_mins(1), || {
        if is_up() { Err("it is up".to_owned()) } else { Ok(()) }
    });

    // The database says of its row that all is well, and the agent looks again and again.
    let answers = listen();
    let passes = || nic.metric("nic_agent_reconciles_total");
    let until_now = passes();
    // Whoever sets it up: the rule that drops holds, and it is set down again.
    set_up();
    until("passes were made", Duration::from_mins(2), || {
        ask();
        let made = passes() - until_now;
        if made >= 3.0 && !is_up() { Ok(()) } else { Err(format!("{made}")) }
    });
    assert!(is_in_database(), "its row is there all the time");
    let heard = answers.stop();
    assert!(heard.is_empty(), "the NIC answers the server: {heard:#?}");

    drop(vswitchd);
    until("traffic flows", Duration::from_mins(1), || {
        if pod.pings(&far.ip) { Ok(()) } else { Err("no answer".to_owned()) }
    });
    nic.settle();
    assert_eq!(State::of(nic), before);
}
