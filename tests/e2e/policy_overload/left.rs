//! Connections that are there and should not be: in conntrack, by the kernel's own list, and in the eSwitch, by its own
//! account.

use std::collections::BTreeMap;

use tests::PolicyLab;
use tests::counters::carried;
use tests::netns;
use tests::nic::{NICS, Nic};
use tests::policy_lab::policy_of;

use crate::policies::{DENIED, RECEIVERS};

/// Of a NIC: the receiver whose zone it is.
pub type Zones = BTreeMap<u64, &'static str>;

/// Of this NIC's receivers, by zone, as the agent has it.
#[track_caller]
pub fn zones(lab: &PolicyLab, nic: Nic) -> Zones {
    let policy = policy_of(nic).expect("the agent answers");
    let of = |name: &&'static str| {
        let pod = lab.pod(lab.index(name));
        let pods = policy["pods"].as_array().expect("pods");
        let said = || pods.iter().find(|it| it["uid"] == pod.uid.as_str())?["zone"].as_u64();
        (pod.nic() == nic).then(|| (said().unwrap_or_else(|| panic!("{name}'s zone in {policy}")), *name))
    };
    RECEIVERS.iter().filter_map(of).collect()
}

/// Of the receivers' zones, those with a denied pod at an end.
#[track_caller]
pub fn left(lab: &PolicyLab, zones: &[Zones; 2]) -> Vec<String> {
    let ips: Vec<std::net::IpAddr> = DENIED.iter().flat_map(|it| lab.addresses(lab.index(it))).collect();
    // As proc writes them: IPv6 in full.
    let ends: Vec<String> = ips.iter().map(|ip| format!("={}", in_full(*ip))).collect();
    let mut left = Vec::new();
    for (nic, zones) in NICS.into_iter().zip(zones) {
        let zone_of =
            |line: &str| line.split_whitespace().find_map(|it| it.strip_prefix("zone=")?.parse().ok());
        let list =
            netns::within(&nic.place(), || std::fs::read_to_string("/proc/thread-self/net/nf_conntrack"));
        let list = list.expect("the kernel lists its connections");
        for line in list.lines() {
            let Some(name) = zone_of(line).and_then(|it: u64| zones.get(&it)) else { continue };
            if line.split_whitespace().any(|word| ends.iter().any(|end| word.ends_with(end.as_str()))) {
                left.push(format!("{name}: conntrack: {line}"));
            }
        }
        for ip in &ips {
            for line in carried(nic.0, &ip.to_string()) {
                if let Some((_, name)) = zones.iter().find(|it| line.contains(&format!(" zone {} ", it.0))) {
                    left.push(format!("{name}: eSwitch: {line}"));
                }
            }
        }
    }
    left
}

fn in_full(ip: std::net::IpAddr) -> String {
    match ip {
        std::net::IpAddr::V4(ip) => ip.to_string(),
        std::net::IpAddr::V6(ip) => ip.segments().map(|it| format!("{it:04x}")).join(":"),
    }
}
