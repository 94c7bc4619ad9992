//! Connections that are there and should not be: in conntrack, by `conntrack -L` (`/proc/net/nf_conntrack` takes 14 s for
//! 28 000 of them), and in the eSwitch, by its own account.

use std::collections::BTreeMap;

use tests::PolicyLab;
use tests::counters::carried;
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
    let ends: Vec<String> = ips.iter().map(|ip| format!("={ip}")).collect();
    let mut left = Vec::new();
    for (nic, zones) in NICS.into_iter().zip(zones) {
        let zone_of =
            |line: &str| line.split_whitespace().find_map(|it| it.strip_prefix("zone=")?.parse().ok());
        let list = ["ipv4", "ipv6"].map(|family| nic.run(&["conntrack", "-L", "-f", family]).ok()).concat();
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
