//! Rules, as every layer makes them.

use offload::policy::{Action, Origin, PortSet, PrefixSet, Rule, Traffic, Transports};

use crate::policy::model::Protocol;

pub fn transports(protocol: Protocol, ports: impl Into<PortSet>) -> Transports {
    let ports = ports.into();
    match protocol {
        Protocol::Tcp => Transports { tcp: ports, ..Transports::default() },
        Protocol::Udp => Transports { udp: ports, ..Transports::default() },
        Protocol::Sctp => Transports { sctp: ports, ..Transports::default() },
    }
}

pub fn allow(peers: PrefixSet, traffic: Traffic, origin: Origin) -> Rule {
    Rule { action: Action::Allow, peers, traffic, origin }
}

pub fn matches_nothing(rule: &Rule) -> bool {
    rule.peers.is_empty() || rule.traffic.is_empty()
}
