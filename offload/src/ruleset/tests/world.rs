//! A few pods behind one bridge, random policies for them, and what they say to each other. Also a part of nic-agent's
//! `openflow_policy_trace`, where a real Open vSwitch is asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

use crate::boundary::{Boundary, common_flows};
use crate::ids::{CtZone, MacAddr, OfPort};
use crate::openflow::interpret::{Body, Frame, Icmp, Ip, L4, Piece};
use crate::openflow::{Cookie, Flow};
use crate::policy::{
    Action, Direction, IcmpKind, Origin, Packet, PodPolicy, PortRange, PortSet, PrefixSet, Rule, RuleMark,
    Rules, Tier, Traffic, Transport, Transports,
};
use crate::ruleset::{RuleSets, flows};

/// Their representors are ports 1 to 3, their patch ports 4 to 6.
pub const PODS: usize = 3;

/// Which of the pool's rules each pod has, per direction.
#[derive(Clone, Debug)]
pub struct World {
    pub pool: Vec<Rules>,
    pub pods: Vec<(usize, usize)>,
}

impl World {
    pub fn policy(&self, pod: usize) -> PodPolicy {
        let (egress, ingress) = self.pods[pod];
        PodPolicy { egress: self.pool[egress].clone(), ingress: self.pool[ingress].clone() }
    }

    pub fn sets(&self) -> RuleSets {
        let used = self.pods.iter().flat_map(|(egress, ingress)| [*egress, *ingress]);
        RuleSets::new(used.map(|index| Arc::new(self.pool[index].clone())))
    }

    pub fn boundaries(&self) -> Vec<Boundary> {
        let sets = self.sets();
        let id = |index: usize| sets.id(&self.pool[index]).unwrap();
        let boundary = |(n, (egress, ingress)): (usize, &(usize, usize))| {
            let number = u32::try_from(n).unwrap();
            Boundary {
                rep: OfPort::new(number + 1).unwrap(),
                patch: OfPort::new(number + 4).unwrap(),
                zone: CtZone::new(u16::try_from(n).unwrap() + 1).unwrap(),
                mac: mac(n),
                ipv4: vec![ipv4(n)],
                ipv6: vec![ipv6(n)],
                on_link: Vec::new(),
                dhcp_servers: Vec::new(),
                egress: id(*egress),
                ingress: id(*ingress),
                rate: None,
                full: false,
                cookie: Cookie(1),
            }
        };
        self.pods.iter().enumerate().map(boundary).collect()
    }

    /// Everything that is on the bridge.
    pub fn flows(&self) -> Vec<Flow> {
        let mut all = common_flows(Cookie(0));
        all.extend(self.boundaries().iter().flat_map(Boundary::flows));
        let sets = self.sets();
        for direction in [Direction::Egress, Direction::Ingress] {
            let mut ids: Vec<_> = self
                .boundaries()
                .iter()
                .map(|it| if direction == Direction::Egress { it.egress } else { it.ingress })
                .collect();
            ids.sort_unstable();
            ids.dedup();
            for rules in ids.into_iter().filter_map(|id| Some((id, sets.get(id)?))) {
                all.extend(flows(rules.0, direction, rules.1, &mark_of).unwrap());
            }
        }
        all
    }
}

pub fn mac(pod: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, u8::try_from(pod).unwrap() + 1])
}

fn ipv4(pod: usize) -> Ipv4Addr {
    near4(u32::try_from(pod).unwrap() + 1)
}

fn ipv6(pod: usize) -> Ipv6Addr {
    near6(u32::try_from(pod).unwrap() + 1)
}

fn near4(low: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 | low)
}

fn near6(low: u32) -> Ipv6Addr {
    Ipv6Addr::from(0xfd00 << 112 | u128::from(low))
}

// === policies ===

/// Prefixes around the pods' addresses, so that they meet.
fn any_net() -> impl Strategy<Value = IpNet> {
    let len = prop_oneof![4 => Just(0u8), 4 => 0..5u8, 1 => Just(8), 1 => Just(24)];
    (any::<bool>(), 0..16u32, len).prop_map(|(is_v4, low, cut)| {
        if is_v4 {
            IpNet::from(Ipv4Net::new(near4(low), 32 - cut).unwrap())
        } else {
            IpNet::from(Ipv6Net::new(near6(low), 128 - cut).unwrap())
        }
    })
}

/// Addresses that make up no prefix: sets of them stay large.
fn apart(every: u32, chosen: u8) -> PrefixSet {
    let lows = (0..8u32).filter(|n| chosen >> n & 1 == 1).map(|n| n * 2 + every % 2);
    lows.flat_map(|low| [IpAddr::from(near4(low)), near6(low).into()]).collect()
}

fn any_peers() -> impl Strategy<Value = PrefixSet> {
    prop_oneof![
        1 => Just(PrefixSet::any()),
        1 => Just(PrefixSet::from(IpNet::from(Ipv4Net::default()))),
        6 => vec(any_net(), 0..9).prop_map(|nets| nets.into_iter().collect()),
        4 => (any::<u32>(), any::<u8>()).prop_map(|(every, chosen)| apart(every, chosen | 0x24)),
    ]
}

/// Ports that make up no block.
fn single_ports(chosen: u16) -> PortSet {
    (0..13u16).filter(|n| chosen >> n & 1 == 1).map(|n| PortRange::one(n * 2)).collect()
}

fn any_ports() -> impl Strategy<Value = PortSet> {
    let range = (prop_oneof![8 => 0..24u16, 1 => 65_528..=u16::MAX], 0..6u16)
        .prop_map(|(first, more)| PortRange::new(first, first.saturating_add(more)).unwrap());
    prop_oneof![
        6 => Just(PortSet::default()),
        1 => Just(PortSet::all()),
        5 => vec(range, 1..3).prop_map(|ranges| ranges.into_iter().collect()),
        5 => any::<u16>().prop_map(single_ports),
    ]
}

fn any_traffic() -> impl Strategy<Value = Traffic> {
    let kind = |request: u8| {
        select(vec![
            IcmpKind::Any,
            IcmpKind::Type(request),
            IcmpKind::Type(3),
            IcmpKind::Type(135),
            IcmpKind::TypeCode(request, 0),
            IcmpKind::TypeCode(request, 1),
            IcmpKind::TypeCode(136, 1),
        ])
    };
    let icmp = |request| btree_set(kind(request), 0..3);
    let other = btree_set(select(vec![47u8, 50, 6]), 0..2);
    let of = (any_ports(), any_ports(), any_ports(), icmp(8), icmp(128), other);
    let of = of.prop_map(|(tcp, udp, sctp, icmp, icmp6, other)| {
        Traffic::Of(Transports { tcp, udp, sctp, icmp, icmp6, other })
    });
    let many_ports =
        (any::<u16>(), any::<u16>()).prop_map(|(some, more)| Traffic::tcp(single_ports(some | more)));
    prop_oneof![1 => Just(Traffic::Any), 4 => of, 2 => many_ports]
}

fn any_action() -> impl Strategy<Value = Action> {
    prop_oneof![4 => Just(Action::Allow), 4 => Just(Action::Deny), 2 => Just(Action::Pass)]
}

fn any_rules() -> impl Strategy<Value = Rules> {
    let origin = Origin::default();
    let rule = (any_action(), any_peers(), any_traffic()).prop_map(move |(action, peers, traffic)| Rule {
        action,
        peers,
        traffic,
        origin,
    });
    let tier =
        (vec(rule, 0..6), any_action()).prop_map(move |(rules, otherwise)| Tier { rules, otherwise, origin });
    let count = prop_oneof![1 => Just(0usize), 4 => Just(1), 3 => Just(2), 3 => Just(3)];
    (vec(tier, 3), count).prop_map(|(tiers, count)| Rules { tiers: tiers.into_iter().take(count).collect() })
}

/// Every rule and tier gets an origin of its own.
fn named((index, mut rules): (usize, Rules)) -> Rules {
    for (t, tier) in rules.tiers.iter_mut().enumerate() {
        let tier_name = ((index as u64 + 1) << 32) | ((t as u64) << 16);
        tier.origin = Origin(tier_name);
        for (rule, n) in tier.rules.iter_mut().zip(1..) {
            rule.origin = Origin(tier_name | n);
        }
    }
    rules
}

/// What a rule leaves in the connections that it admits. Some have no mark.
pub fn mark_of(origin: Origin) -> Option<RuleMark> {
    let (set, tier, rule) = (origin.0 >> 32, origin.0 >> 16 & 0xffff, origin.0 & 0xffff);
    let number = u32::try_from(set << 12 | tier << 8 | rule).ok().filter(|_| rule != 4)?;
    RuleMark::new(number)
}

pub fn any_world() -> impl Strategy<Value = World> {
    let pods = vec((0..4usize, 0..4usize), PODS);
    (vec(any_rules(), 4), pods)
        .prop_map(|(pool, pods)| World { pool: pool.into_iter().enumerate().map(named).collect(), pods })
}

// === packets ===

/// One random number, of which packets are made. Cheap to make, and it shrinks.
#[derive(Clone, Copy, Debug)]
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, sides: u64) -> u64 {
        let thrown = self.0 % sides;
        self.0 /= sides;
        thrown
    }

    fn small(&mut self, sides: u64) -> u32 {
        u32::try_from(self.below(sides)).unwrap()
    }
}

/// What one side sends to the other, of whom one at least is a pod. In between the destination may be translated.
#[derive(Clone, Debug)]
pub struct Conversation {
    pub from: Option<usize>,
    pub to: Option<usize>,
    /// As the sender's boundary sees it.
    pub sent: Packet,
    /// As the receiver's does.
    pub arrives: Packet,
}

impl Conversation {
    pub fn thrown(mut dice: Dice) -> Self {
        let is_v6 = dice.below(2) == 1;
        let ends = dice.below(6);
        let pod = |n: usize| if is_v6 { IpAddr::from(ipv6(n)) } else { ipv4(n).into() };
        let pod_index = |dice: &mut Dice| usize::try_from(dice.below(PODS as u64)).unwrap();
        // Never the first pod's own address, which would make a conversation its own answer. Another pod's may be.
        let stranger = |dice: &mut Dice, pod: usize| match (dice.below(18), is_v6) {
            (17, false) => Ipv4Addr::new(10, 0, 1, 9).into(),
            (16, false) => Ipv4Addr::new(192, 0, 2, 1).into(),
            (17, true) => near6(0x109).into(),
            (16, true) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
            (low, is_v6) => {
                let low = if low == pod as u64 + 1 { 0 } else { u32::try_from(low).unwrap() };
                if is_v6 { IpAddr::from(near6(low)) } else { near4(low).into() }
            }
        };
        let port = |dice: &mut Dice| match u16::try_from(dice.below(30)).unwrap() {
            low @ 0..26 => low,
            high => 65_505 + high,
        };
        let first = pod_index(&mut dice);
        let second = (first + 1 + usize::try_from(dice.below(PODS as u64 - 1)).unwrap()) % PODS;
        let other = stranger(&mut dice, first);
        let (src, dst) = (port(&mut dice), port(&mut dice));
        let transport = match dice.below(10) {
            0..4 => Transport::Tcp { src, dst },
            4..6 => Transport::Udp { src, dst },
            6 => Transport::Sctp { src, dst },
            7 | 8 => Transport::Icmp {
                kind: if is_v6 { 128 } else { 8 },
                code: u8::try_from(dice.small(2)).unwrap(),
            },
            _ => Transport::Other([47, 50, 4][usize::try_from(dice.small(3)).unwrap()]),
        };
        match ends {
            0 | 1 => {
                let sent = Packet { src: pod(first), dst: other, transport };
                Self { from: Some(first), to: None, sent, arrives: sent }
            }
            2 | 3 => {
                let sent = Packet { src: other, dst: pod(first), transport };
                Self { from: None, to: Some(first), sent, arrives: sent }
            }
            4 => {
                let sent = Packet { src: pod(first), dst: pod(second), transport };
                Self { from: Some(first), to: Some(second), sent, arrives: sent }
            }
            // To a service: one of its backends gets it, at another port.
            _ => {
                let sent = Packet { src: pod(first), dst: other, transport };
                let transport = at_port(transport, port(&mut dice));
                let arrives = Packet { src: pod(first), dst: pod(second), transport };
                Self { from: Some(first), to: Some(second), sent, arrives }
            }
        }
    }
}

fn at_port(transport: Transport, dst: u16) -> Transport {
    match transport {
        Transport::Tcp { src, .. } => Transport::Tcp { src, dst },
        Transport::Udp { src, .. } => Transport::Udp { src, dst },
        Transport::Sctp { src, .. } => Transport::Sctp { src, dst },
        Transport::Icmp { .. } | Transport::Other(_) => transport,
    }
}

pub fn answer(packet: &Packet) -> Packet {
    let transport = match packet.transport {
        Transport::Tcp { src, dst } => Transport::Tcp { src: dst, dst: src },
        Transport::Udp { src, dst } => Transport::Udp { src: dst, dst: src },
        Transport::Sctp { src, dst } => Transport::Sctp { src: dst, dst: src },
        Transport::Icmp { kind: 8, code } => Transport::Icmp { kind: 0, code },
        Transport::Icmp { code, .. } => Transport::Icmp { kind: 129, code },
        other @ Transport::Other(_) => other,
    };
    Packet { src: packet.dst, dst: packet.src, transport }
}

pub fn frame(packet: &Packet, eth_src: MacAddr) -> Frame {
    let l4 = match packet.transport {
        Transport::Tcp { src, dst } => L4::Tcp { src, dst, syn: true },
        Transport::Udp { src, dst } => L4::Udp { src, dst },
        Transport::Sctp { src, dst } => L4::Sctp { src, dst },
        Transport::Icmp { kind, code } => L4::Icmp(Icmp { kind, code, id: 7, about: None, nd: None }),
        Transport::Other(proto) => L4::Other(proto),
    };
    let piece = Piece::Whole;
    let body = match (packet.src, packet.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => Body::Ipv4(Ip { src, dst, ttl: 64, piece, l4 }),
        (IpAddr::V6(src), IpAddr::V6(dst)) => Body::Ipv6(Ip { src, dst, ttl: 64, piece, l4 }),
        _ => panic!("two versions in {packet:?}"),
    };
    Frame { eth_src, eth_dst: MacAddr([2, 0, 0, 0, 0, 99]), vlan: None, body }
}
