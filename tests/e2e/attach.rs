//! The main job: pods on two servers, attached by a real CNI call, reach each other over IPv4 and IPv6, and once a
//! connection is established no frame of it reaches software.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use serde_json::Value;
use tests::counters::Counters;
use tests::nic::NICS;
use tests::traffic::{Client, Echo};
use tests::{Capture, Pod, Wish};

fn wish<'a>(name: &'a str, host: &'a str, vf: u16) -> Wish<'a> {
    Wish { name, host, vf, options: &[] }
}

#[test]
fn pods_reach_each_other_and_hardware_carries_them() {
    let (a, b, c) = (
        Pod::add(&wish("a", "host1", 0)),
        Pod::add(&wish("b", "host1", 1)),
        Pod::add(&wish("c", "host2", 0)),
    );
    for (from, to) in [(&a, &b), (&a, &c), (&c, &b), (&b, &a)] {
        assert!(from.pings(&to.ip), "{} to {} over IPv4", from.name, to.name);
        assert!(from.pings(&to.ip6), "{} to {} over IPv6", from.name, to.name);
    }
    assert!(a.pings("10.244.0.1"), "the router");

    for target in [&c.ip, &c.ip6] {
        let echo = Echo::start(&c, 7777);
        // What the eSwitch hands on comes in by a representor. There is other traffic, neighbours' questions for one.
        let of_us = format!("udp port {}", echo.port);
        let watch_software = || {
            NICS.map(|nic| {
                [("pf0vf0", of_us.clone()), ("p0", format!("geneve and {of_us}"))]
                    .map(|(representor, filter)| Capture::start(&nic.place(), representor, &filter))
            })
        };
        let first = watch_software();
        let client = Client::start(&a, target, echo.port, Duration::from_millis(20));
        // Established, offloaded by OVS, and known to the eSwitch on both NICs.
        std::thread::sleep(Duration::from_secs(5));
        for (nic, seen) in NICS.iter().zip(first.map(|both| both.map(Capture::stop))) {
            assert!(seen.iter().all(|it| !it.is_empty()), "{nic:?}: software begins each way: {seen:#?}");
        }
        let passes = || NICS.map(|nic| nic.metric("drawbridge_nic_agent_reconciles_total"));
        let in_software = watch_software();
        let (before, passes_before) = (NICS.map(|nic| Counters::of(nic.0)), passes());
        std::thread::sleep(Duration::from_secs(3));
        let (after, passes_after) = (NICS.map(|nic| Counters::of(nic.0)), passes());
        let in_software = in_software.map(|both| both.map(Capture::stop).concat());
        let report = client.stop();
        for ((nic, seen), (before, after)) in NICS.iter().zip(in_software).zip(before.into_iter().zip(after))
        {
            let during = after.since(before);
            println!("{nic:?} to {target}: {during:?}, {} of the connection in software", seen.len());
            assert!(
                during.hardware >= 150,
                "{nic:?}: the connection runs in the eSwitch: {during:?}, {report:?}"
            );
            // None as a rule; OVS may write a flow anew at any time.
            assert!(seen.len() <= 3, "{nic:?}: its frames do not reach software: {seen:#?}");
        }
        assert!(report.lost() <= 2, "{report:?}");
        for (nic, (before, after)) in NICS.iter().zip(passes_before.into_iter().zip(passes_after)) {
            let during = after - before;
            assert!(during <= 5.0, "{nic:?}: an agent to whom nothing happens looks rarely: {during} passes");
        }
    }

    let flows = a.nic().flows();
    assert!(flows.iter().any(|flow| flow.contains(&a.ip)), "{flows:#?}");
    let links: Value = serde_json::from_str(&a.run(&["ip", "-j", "addr", "show", "eth0"]).ok()).unwrap();
    assert_eq!(links[0]["address"], a.mac.as_str());
    assert_eq!(links[0]["mtu"], 1400);

    let result = a.cni("ADD", &[]).ok();
    let again: Value = serde_json::from_str(&result).unwrap();
    assert_eq!(again["interfaces"][0]["mac"], a.mac.as_str(), "ADD again for the same sandbox says the same");
    a.cni("CHECK", &[&format!("{{\"prevResult\": {result}}}")]).ok();
    a.run(&["ip", "link", "set", "eth0", "mtu", "1280"]).ok();
    let check = a.cni("CHECK", &[&format!("{{\"prevResult\": {result}}}")]);
    assert!(
        !check.is_ok() && check.stdout.to_lowercase().contains("mtu"),
        "CHECK sees what changed: {check:?}"
    );
    a.delete();
    assert!(!c.pings("10.244.1.10"), "a pod that is gone answers nobody");
    assert!(b.pings(&c.ip), "the others stay");
}
