//! Connections that are there and should not be: in conntrack, by `conntrack -L`, and in the eSwitch, by its own account.

use tests::PolicyLab;
use tests::counters::carried;
use tests::policy_lab::policy_of;

use crate::policies::{DENIED, RECEIVERS};

/// Of this receiver's zone, those with a denied pod at an end.
#[track_caller]
pub fn left(lab: &PolicyLab, receiver: &str) -> Vec<String> {
    assert!(RECEIVERS.contains(&receiver));
    let pod = lab.pod(lab.index(receiver));
    let nic = pod.nic();
    let policy = policy_of(nic).expect("the agent answers");
    let zone = policy["pods"]
        .as_array()
        .and_then(|pods| pods.iter().find(|it| it["uid"] == pod.uid.as_str())?["zone"].as_u64())
        .unwrap_or_else(|| panic!("{receiver}'s zone in {policy}"));
    let denied = DENIED.map(|it| lab.pod(lab.index(it))).map(|it| [&it.ip, &it.ip6]);
    let mut left = Vec::new();
    for (family, is_v6) in [("ipv4", false), ("ipv6", true)] {
        let said = nic.run(&["conntrack", "-L", "-f", family, "-w", &zone.to_string()]).ok();
        let ends = denied.map(|it| format!("={}", it[usize::from(is_v6)]));
        let of_denied = |line: &&str| {
            line.split_whitespace().any(|word| ends.iter().any(|end| word.ends_with(end.as_str())))
        };
        left.extend(said.lines().filter(of_denied).map(|it| format!("conntrack: {it}")));
    }
    let in_zone = format!(" zone {zone} ");
    for ip in denied.as_flattened() {
        let hardware = carried(nic.0, ip);
        left.extend(
            hardware.into_iter().filter(|it| it.contains(&in_zone)).map(|it| format!("eSwitch: {it}")),
        );
    }
    left
}
