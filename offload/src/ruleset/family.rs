//! What differs between IPv4 and IPv6.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::openflow::{
    Bits, Icmp6Match, IcmpMatch, Ipv4Match, Ipv6Match, L4Match, Masked, OtherIcmp6Type, OtherProto, Payload,
    Ports,
};
use crate::policy::{Direction, IcmpKind, PortSet, PrefixSet, Traffic, Transports};

/// A version of IP.
pub trait Family {
    type Addr: Bits;
    type Icmp: Clone + Ord;

    fn nets(peers: &PrefixSet) -> Vec<Masked<Self::Addr>>;
    fn icmp_kinds(transports: &Transports) -> impl Iterator<Item = IcmpKind>;
    /// `None` where no flow needs to be.
    fn icmp(kind: IcmpKind) -> Option<Self::Icmp>;
    fn payload(direction: Direction, peer: Masked<Self::Addr>, l4: L4Match<Self::Icmp>) -> Payload;
}

pub struct V4;
pub struct V6;

impl Family for V4 {
    type Addr = Ipv4Addr;
    type Icmp = IcmpMatch;

    fn nets(peers: &PrefixSet) -> Vec<Masked<Ipv4Addr>> {
        peers.v4().map(Into::into).collect()
    }

    fn icmp_kinds(transports: &Transports) -> impl Iterator<Item = IcmpKind> {
        transports.icmp.iter().copied()
    }

    fn icmp(kind: IcmpKind) -> Option<IcmpMatch> {
        Some(match kind {
            IcmpKind::Any => IcmpMatch::default(),
            IcmpKind::Type(kind) => IcmpMatch { kind: Some(kind), code: None },
            IcmpKind::TypeCode(kind, code) => IcmpMatch { kind: Some(kind), code: Some(code) },
        })
    }

    fn payload(direction: Direction, peer: Masked<Ipv4Addr>, l4: L4Match<IcmpMatch>) -> Payload {
        Payload::Ipv4(match direction {
            Direction::Egress => Ipv4Match { dst: peer, l4, ..Ipv4Match::default() },
            Direction::Ingress => Ipv4Match { src: peer, l4, ..Ipv4Match::default() },
        })
    }
}

impl Family for V6 {
    type Addr = Ipv6Addr;
    type Icmp = Icmp6Match;

    fn nets(peers: &PrefixSet) -> Vec<Masked<Ipv6Addr>> {
        peers.v6().map(Into::into).collect()
    }

    fn icmp_kinds(transports: &Transports) -> impl Iterator<Item = IcmpKind> {
        transports.icmp6.iter().copied()
    }

    /// Neighbour discovery never gets here: table 0 has had its say, and conntrack calls it untracked, never new. So a
    /// rule on the code of a solicitation or advertisement, which a flow could not say, has nothing to match.
    fn icmp(kind: IcmpKind) -> Option<Icmp6Match> {
        match kind {
            IcmpKind::Any => Some(Icmp6Match::Any),
            IcmpKind::Type(kind) => Some(Icmp6Match::kind(kind)),
            IcmpKind::TypeCode(kind, code) => {
                OtherIcmp6Type::new(kind).map(|kind| Icmp6Match::Type(kind, Some(code)))
            }
        }
    }

    fn payload(direction: Direction, peer: Masked<Ipv6Addr>, l4: L4Match<Icmp6Match>) -> Payload {
        Payload::Ipv6(match direction {
            Direction::Egress => Ipv6Match { dst: peer, l4, ..Ipv6Match::default() },
            Direction::Ingress => Ipv6Match { src: peer, l4, ..Ipv6Match::default() },
        })
    }
}

/// Matches that together are the traffic, as far as this version of IP has it.
pub fn l4_matches<F: Family>(traffic: &Traffic) -> Vec<L4Match<F::Icmp>> {
    let Traffic::Of(of) = traffic else { return vec![L4Match::Any] };
    let ports = |set: &PortSet, wrap: fn(Ports) -> L4Match<F::Icmp>| {
        set.blocks().map(move |dst| wrap(Ports { dst, ..Ports::default() })).collect::<Vec<_>>()
    };
    let mut matches = ports(&of.tcp, L4Match::Tcp);
    matches.extend(ports(&of.udp, L4Match::Udp));
    matches.extend(ports(&of.sctp, L4Match::Sctp));
    // `Any` sorts first and makes the others superfluous.
    let is_any = F::icmp_kinds(of).next() == Some(IcmpKind::Any);
    let kinds = F::icmp_kinds(of).take(if is_any { 1 } else { usize::MAX });
    matches.extend(kinds.filter_map(F::icmp).map(L4Match::Icmp));
    matches.extend(of.other.iter().filter_map(|proto| OtherProto::new(*proto)).map(L4Match::Other));
    matches
}
