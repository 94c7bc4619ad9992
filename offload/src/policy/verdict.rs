//! What is right: the evaluator against which every compiled program is checked. Slow, and small enough to be checked
//! by eye. It is the definition; where a program differs, the program is wrong.

use std::net::IpAddr;

use super::{Action, Origin, PodPolicy, Rules};

/// Seen from the pod whose policy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// The pod sends.
    Egress,
    /// The pod is sent.
    Ingress,
}

/// The first packet of a connection, or one like it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packet {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub transport: Transport,
}

/// What the packet carries, as far as a rule can ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    Tcp {
        src: u16,
        dst: u16,
    },
    Udp {
        src: u16,
        dst: u16,
    },
    Sctp {
        src: u16,
        dst: u16,
    },
    /// ICMP in IPv4, ICMPv6 in IPv6.
    Icmp {
        kind: u8,
        code: u8,
    },
    Other(u8),
}

/// What the pod's conntrack zone knows of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    New,
    /// Of a connection that was allowed and has been answered, or the answer itself.
    Established,
    /// An ICMP error about such a connection.
    Related,
    Invalid,
}

/// A verdict, and who gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Decision {
    pub allowed: bool,
    /// `None`: no rule had a say (no policy, or not a new connection).
    pub by: Option<Origin>,
}

/// May this packet pass the pod's boundary?
pub fn verdict(policy: &PodPolicy, direction: Direction, packet: &Packet, state: State) -> Decision {
    match state {
        State::Established | State::Related => Decision { allowed: true, by: None },
        State::Invalid => Decision { allowed: false, by: None },
        State::New => decide(policy.rules(direction), direction, packet),
    }
}

/// What the rules of one direction say of a new connection.
pub fn decide(rules: &Rules, direction: Direction, packet: &Packet) -> Decision {
    let peer = match direction {
        Direction::Egress => packet.dst,
        Direction::Ingress => packet.src,
    };
    for tier in &rules.tiers {
        let matching = tier
            .rules
            .iter()
            .find(|rule| rule.peers.contains(peer) && rule.traffic.covers(packet.transport, peer.is_ipv6()));
        let (action, by) = match matching {
            Some(rule) => (rule.action, rule.origin),
            None => (tier.otherwise, tier.origin),
        };
        match action {
            Action::Allow => return Decision { allowed: true, by: Some(by) },
            Action::Deny => return Decision { allowed: false, by: Some(by) },
            Action::Pass => {}
        }
    }
    Decision { allowed: true, by: None }
}
