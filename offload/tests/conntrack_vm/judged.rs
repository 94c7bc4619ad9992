//! What entries are held against in the benches of conntrack.

use std::net::Ipv4Addr;

use offload::policy::{Action, Origin, PodPolicy, PrefixSet, Rule, Rules, Tier, Traffic};

const RULES: u32 = 20;

/// One pod: twenty rules for one peer each, then the rest of 10.0.0.0/8, so that every entry is judged to the end and none is
/// denied.
pub fn policy() -> PodPolicy {
    let rule = |net: ipnet::IpNet| Rule {
        action: Action::Allow,
        peers: [net].into_iter().collect::<PrefixSet>(),
        traffic: Traffic::Any,
        origin: Origin(1),
    };
    let one = |n| ipnet::IpNet::new(Ipv4Addr::from(0x0b00_0000 + n).into(), 32).unwrap();
    let rules = (0..RULES).map(|n| rule(one(n))).chain(["10.0.0.0/8".parse().map(rule).unwrap()]);
    let rules =
        Rules { tiers: vec![Tier { rules: rules.collect(), otherwise: Action::Deny, origin: Origin(2) }] };
    PodPolicy { egress: rules.clone(), ingress: rules }
}
