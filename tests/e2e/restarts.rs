//! Each daemon of a NIC is killed, under traffic and under a stream of spoofed frames. The agent's death costs no packet;
//! after each death all comes back as it was, and no spoofed frame arrives at any time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::Ipv4Addr;
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tests::command::in_place;
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
