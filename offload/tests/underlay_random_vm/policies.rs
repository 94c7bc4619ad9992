//! Two sets of policies for the four pods that differ in nearly everything, and what both allow and both deny.

use ipnet::IpNet;
use offload::policy::{Action, Origin, PodPolicy, PortRange, PortSet, PrefixSet, Rule, Rules, Tier, Traffic};

use crate::load::Path;
use crate::stand::{v4, v6};

/// Of pod 1, always allowed.
pub const ECHO: u16 = 7000;
/// The rule of the first set that denies port 6001 of pod 1, above one that allows it.
pub const DENIES_6001: Origin = Origin(21);

/// The first host and the neighbour of its address, both versions.
fn near(host: usize) -> PrefixSet {
    let nets = [IpNet::new(v4(host).into(), 31).unwrap(), IpNet::new(v6(host).into(), 127).unwrap()];
    nets.into_iter().collect()
}

fn udp(first: u16, last: u16) -> Traffic {
    Traffic::udp(PortSet::from(PortRange::new(first, last).unwrap()))
}

fn rule(action: Action, peers: PrefixSet, traffic: Traffic, origin: u64) -> Rule {
    Rule { action, peers, traffic, origin: Origin(origin) }
}

fn tier(rules: Vec<Rule>, otherwise: Action, origin: u64) -> Tier {
    Tier { rules, otherwise, origin: Origin(origin) }
}

fn egress(tiers: Vec<Tier>) -> PodPolicy {
    PodPolicy { egress: Rules { tiers }, ..PodPolicy::default() }
}

pub fn ingress(tiers: Vec<Tier>) -> PodPolicy {
    PodPolicy { ingress: Rules { tiers }, ..PodPolicy::default() }
}

/// What pod 0 sends to port 6000 of pod 1 is denied by the sender in the first set and by the receiver in the second: in no
/// mixture of the two may it pass.
pub fn sets() -> [Vec<PodPolicy>; 2] {
    use Action::{Allow, Deny, Pass};
    let any = PrefixSet::any;
    let first = vec![
        egress(vec![tier(vec![rule(Allow, any(), udp(ECHO, ECHO), 10)], Deny, 11)]),
        ingress(vec![tier(
            vec![rule(Deny, any(), udp(6001, 6001), DENIES_6001.0), rule(Allow, any(), udp(6000, 7999), 22)],
            Deny,
            23,
        )]),
        egress(vec![tier(vec![rule(Deny, any(), udp(6000, 6001), 30)], Allow, 31)]),
        PodPolicy::default(),
    ];
    let second = vec![
        egress(vec![
            tier(
                vec![rule(Deny, any(), udp(6001, 6001), 40), rule(Pass, near(0), udp(1, 65_535), 41)],
                Deny,
                42,
            ),
            tier(vec![rule(Allow, any(), udp(1024, 65_535), 43)], Deny, 44),
        ]),
        ingress(vec![
            tier(
                vec![rule(Pass, near(0), udp(ECHO, ECHO), 50), rule(Deny, any(), udp(6000, 6999), 51)],
                Pass,
                52,
            ),
            tier(vec![rule(Allow, any(), udp(ECHO, ECHO), 53)], Deny, 54),
        ]),
        PodPolicy::default(),
        PodPolicy::default(),
    ];
    [first, second]
}

/// What both sets deny: to pod 1, from each of the others and from the wire.
pub fn denied() -> Vec<Path> {
    let paths = [(0, 1, 6000), (0, 1, 6001), (2, 1, 6000), (2, 1, 6001), (3, 1, 6001), (4, 1, 6001)];
    paths
        .iter()
        .flat_map(|(from, to, port)| [false, true].map(|is_ipv6| (*from, *to, is_ipv6, *port)))
        .collect()
}
