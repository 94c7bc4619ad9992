//! Random worlds: few addresses, ports and prefixes, so that rules meet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::ids::{CtZone, IfIndex, MacAddr};
use crate::openflow::interpret::{Arp, Body, Frame, Icmp, Ip, L4, Piece, Tuple};
use crate::policy::{
    Action, IcmpKind, Origin, PodPolicy, PortRange, PortSet, PrefixSet, Rule, Rules, Tier, Traffic,
    Transports,
};
use crate::underlay::{Member, Underlay};

use super::dice::Dice;

pub const UPLINK: IfIndex = IfIndex(1);

#[derive(Clone, Debug)]
pub struct Pod {
    pub rep: IfIndex,
    pub vlan: u16,
    pub mac: MacAddr,
    pub ipv4: Vec<Ipv4Addr>,
    pub ipv6: Vec<Ipv6Addr>,
    pub policy: PodPolicy,
}

#[derive(Clone, Debug)]
pub struct World {
    pub pods: Vec<Pod>,
}

pub fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

pub fn v4(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

pub fn v6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
}

pub fn zone(vlan: u16) -> CtZone {
    CtZone::new(60_000 + vlan).unwrap()
}

impl World {
    pub fn underlays(&self) -> Vec<Underlay<'_>> {
        [100, 200]
            .map(|vlan| Underlay {
                vlan,
                zone: zone(vlan),
                uplink: UPLINK,
                members: self.pods.iter().filter(|pod| pod.vlan == vlan).map(Pod::member).collect(),
            })
            .into_iter()
            .filter(|underlay| !underlay.members.is_empty() || underlay.vlan == 100)
            .collect()
    }
}

/// All of the pods' addresses, and none of the strangers'.
pub const LINK: [Ipv6Net; 1] = [Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0), 122)];

impl Pod {
    pub fn member(&self) -> Member<'_> {
        let (ipv4, ipv6, policy) = (&self.ipv4, &self.ipv6, &self.policy);
        Member { rep: self.rep, mac: self.mac, ipv4, ipv6, on_link: &LINK, policy }
    }

    pub fn ips(&self) -> Vec<IpAddr> {
        let local = (!self.ipv6.is_empty()).then(|| self.mac.link_local());
        let v6 = self.ipv6.iter().copied().chain(local).map(IpAddr::from);
        self.ipv4.iter().copied().map(IpAddr::from).chain(v6).collect()
    }
}

// === policies ===

fn ports() -> impl Strategy<Value = PortSet> {
    let range = select(vec![(80, 80), (81, 81), (80, 90), (1, 65_535), (0, 65_535), (443, 8080), (22, 22)]);
    vec(range, 0..3).prop_map(|ranges| ranges.into_iter().filter_map(|(a, b)| PortRange::new(a, b)).collect())
}

fn kinds(echo: u8) -> impl Strategy<Value = std::collections::BTreeSet<IcmpKind>> {
    let kind = select(vec![
        IcmpKind::Any,
        IcmpKind::Type(echo),
        IcmpKind::TypeCode(echo, 0),
        IcmpKind::TypeCode(echo, 1),
    ]);
    btree_set(kind, 0..3)
}

fn traffic() -> impl Strategy<Value = Traffic> {
    let other = btree_set(select(vec![47u8, 50]), 0..2);
    let of = (ports(), ports(), ports(), kinds(8), kinds(128), other).prop_map(
        |(tcp, udp, sctp, icmp, icmp6, other)| Traffic::Of(Transports { tcp, udp, sctp, icmp, icmp6, other }),
    );
    prop_oneof![1 => Just(Traffic::Any), 3 => of]
}

fn peers() -> impl Strategy<Value = PrefixSet> {
    let nets = [
        "10.0.0.1/32",
        "10.0.0.2/32",
        "10.0.0.0/30",
        "10.0.0.2/31",
        "10.0.0.0/24",
        "0.0.0.0/0",
        "192.0.2.9/32",
        "fd00::1/128",
        "fd00::2/127",
        "fd00::/120",
        "::/0",
        "fe80::/10",
        "2001:db8::9/128",
    ];
    let any = Just(PrefixSet::any());
    prop_oneof![1 => any, 4 => subsequence(nets.to_vec(), 0..5)
        .prop_map(|nets| nets.into_iter().map(|net| net.parse::<ipnet::IpNet>().unwrap()).collect())]
}

fn rule() -> impl Strategy<Value = Rule> {
    let action = select(vec![Action::Allow, Action::Allow, Action::Deny, Action::Pass]);
    (action, peers(), traffic(), 1..50u64).prop_map(|(action, peers, traffic, origin)| Rule {
        action,
        peers,
        traffic,
        origin: Origin(origin),
    })
}

pub fn rules() -> impl Strategy<Value = Rules> {
    let otherwise = select(vec![Action::Deny, Action::Deny, Action::Pass, Action::Allow]);
    let tier = (vec(rule(), 0..4), otherwise, 50..60u64).prop_map(|(rules, otherwise, origin)| Tier {
        rules,
        otherwise,
        origin: Origin(origin),
    });
    prop_oneof![1 => Just(Rules::default()), 3 => vec(tier, 1..3).prop_map(|tiers| Rules { tiers })]
}

pub fn policy() -> impl Strategy<Value = PodPolicy> {
    (rules(), rules()).prop_map(|(egress, ingress)| PodPolicy { egress, ingress })
}

/// Five pods that can be: four on one VLAN (the second with two addresses, the third without IPv6, the fourth without
/// IPv4), and one on another that bears the first one's addresses.
pub fn worlds() -> impl Strategy<Value = World> {
    let pod = |n: u8, vlan: u16, ipv4: &[u8], ipv6: &[u16]| {
        let (ipv4, ipv6): (Vec<_>, Vec<_>) =
            (ipv4.iter().map(|n| v4(*n)).collect(), ipv6.iter().map(|n| v6(*n)).collect());
        policy().prop_map(move |policy| Pod {
            rep: IfIndex(10 + u32::from(n)),
            vlan,
            mac: mac(if vlan == 200 { 1 } else { n }),
            ipv4: ipv4.clone(),
            ipv6: ipv6.clone(),
            policy,
        })
    };
    let all = (
        pod(1, 100, &[1], &[1]),
        pod(2, 100, &[2, 12], &[2]),
        pod(3, 100, &[3], &[]),
        pod(4, 100, &[], &[4]),
        pod(5, 200, &[1], &[1]),
    );
    (all, 1..32u8).prop_map(|((a, b, c, d, e), chosen)| World {
        pods: [a, b, c, d, e]
            .into_iter()
            .enumerate()
            .filter(|(n, _)| chosen & 1 << n != 0)
            .map(|(_, pod)| pod)
            .collect(),
    })
}

// === frames ===

/// A port, and a frame that enters there: mostly what a pod would send or the wire would bring, sometimes a lie.
pub fn frame(dice: &mut Dice, world: &World) -> (IfIndex, Frame) {
    let macs =
        [mac(1), mac(2), mac(3), mac(4), mac(9), MacAddr::BROADCAST, MacAddr([0x33, 0x33, 0, 0, 0, 1])];
    let is_v6 = dice.roll(3) == 0;
    let local = |n: u8| mac(n).link_local();
    let all4 = [v4(1), v4(2), v4(12), v4(3), v4(99), "192.0.2.9".parse().unwrap(), Ipv4Addr::UNSPECIFIED];
    let all6 = [
        v6(1),
        v6(2),
        v6(4),
        v6(99),
        local(1),
        local(2),
        local(4),
        "2001:db8::9".parse().unwrap(),
        Ipv6Addr::UNSPECIFIED,
    ];
    let from = dice.one(&world.pods);
    let to = dice.one(&world.pods);
    let entry = if dice.roll(4) == 0 { UPLINK } else { from.rep };
    let eth_src = if entry == from.rep && !dice.seldom(8) { from.mac } else { dice.one(&macs) };
    let eth_dst = if dice.roll(3) == 0 {
        mac(9)
    } else if !dice.seldom(8) {
        to.mac
    } else {
        dice.one(&macs)
    };
    let vlan = match (entry == UPLINK, !dice.seldom(8)) {
        (true, true) => Some(to.vlan),
        (false, true) => None,
        (_, false) => dice.one(&[None, Some(100), Some(200), Some(300)]),
    };
    let piece =
        dice.one(&[Piece::Whole, Piece::Whole, Piece::Whole, Piece::Whole, Piece::First, Piece::Later]);
    let l4 = l4(dice, is_v6, &all4, &all6);
    let arp = dice.roll(12) == 0;
    let body = if arp {
        Body::Arp(Arp { op: 1, spa: dice.one(&all4), tpa: dice.one(&all4), sha: eth_src, tha: MacAddr::ZERO })
    } else if is_v6 {
        let own =
            if entry == UPLINK { vec![] } else { [from.ipv6.clone(), vec![from.mac.link_local()]].concat() };
        let src = if own.is_empty() || dice.seldom(8) { dice.one(&all6) } else { dice.one(&own) };
        let theirs: Vec<Ipv6Addr> = [to.ipv6.clone(), vec![to.mac.link_local()]].concat();
        let dst = if eth_dst == to.mac && !dice.seldom(8) { dice.one(&theirs) } else { dice.one(&all6) };
        let discovers = matches!(&l4, L4::Icmp(icmp) if (133..=137).contains(&icmp.kind));
        let groups = ["ff02::1", "ff02::2", "ff02::9", "ff02::1:ff00:1", "ff02::1:ff00:2", "ff02::1:ff00:63"];
        let dst = if discovers && dice.roll(2) == 0 { dice.one(&groups).parse().unwrap() } else { dst };
        let src = if discovers && dice.roll(4) == 0 { Ipv6Addr::UNSPECIFIED } else { src };
        let ttl = if discovers && !dice.seldom(4) { 255 } else { 64 };
        Body::Ipv6(Ip { src, dst, ttl, piece, l4 })
    } else {
        let own = if entry == UPLINK { vec![] } else { from.ipv4.clone() };
        let src = if own.is_empty() || dice.seldom(8) { dice.one(&all4) } else { dice.one(&own) };
        let theirs = if to.ipv4.is_empty() { all4.to_vec() } else { to.ipv4.clone() };
        let dst = if eth_dst == to.mac && !dice.seldom(8) { dice.one(&theirs) } else { dice.one(&all4) };
        Body::Ipv4(Ip { src, dst, ttl: 64, piece, l4 })
    };
    (entry, Frame { eth_src, eth_dst, vlan, body })
}

fn l4(dice: &mut Dice, is_v6: bool, all4: &[Ipv4Addr], all6: &[Ipv6Addr]) -> L4 {
    let ports = [80u16, 81, 85, 22, 443, 1000, 0];
    let (src, dst) = if dice.roll(24) == 0 {
        dice.one(&[(67, 68), (68, 67), (546, 547), (547, 546)])
    } else {
        (dice.one(&[1000u16, 80]), dice.one(&ports))
    };
    let echo = if is_v6 { [128, 129] } else { [8, 0] };
    let errors: &[u8] = if is_v6 { &[1, 2, 3, 4, 137] } else { &[3, 4, 5, 11, 12] };
    let icmp = |kind, code, about| L4::Icmp(Icmp { kind, code, id: 7, about, nd: None });
    match dice.roll(16) {
        0..6 => L4::Tcp { src, dst, syn: true },
        6..9 => L4::Udp { src, dst },
        9 => L4::Sctp { src, dst },
        10 => L4::Other(dice.one(&[47, 50, 99])),
        11 | 12 => icmp(dice.one(&echo), dice.one(&[0, 1]), None),
        13 => {
            let ip = |dice: &mut Dice| {
                if is_v6 { IpAddr::from(dice.one(all6)) } else { IpAddr::from(dice.one(all4)) }
            };
            let about = Tuple { src: ip(dice), dst: ip(dice), proto: 6, ports: (src, dst) };
            icmp(dice.one(errors), 0, (!dice.seldom(8)).then_some(about))
        }
        14 if is_v6 => icmp(dice.one(&[133, 134, 135, 136, 137, 130, 143]), 0, None),
        _ => icmp(dice.one(&[13, 42]), 0, None),
    }
}

/// What the other side would answer, MACs and all.
pub fn answer(frame: &Frame) -> Frame {
    fn turned<A: Copy>(ip: &Ip<A>, is_v6: bool) -> Ip<A> {
        let l4 = match &ip.l4 {
            L4::Tcp { src, dst, syn } => L4::Tcp { src: *dst, dst: *src, syn: *syn },
            L4::Udp { src, dst } => L4::Udp { src: *dst, dst: *src },
            L4::Sctp { src, dst } => L4::Sctp { src: *dst, dst: *src },
            L4::Icmp(icmp) => L4::Icmp(Icmp {
                kind: match icmp.kind {
                    8 if !is_v6 => 0,
                    128 if is_v6 => 129,
                    kind => kind,
                },
                ..icmp.clone()
            }),
            other @ L4::Other(_) => other.clone(),
        };
        Ip { src: ip.dst, dst: ip.src, ttl: 64, piece: ip.piece, l4 }
    }
    let body = match &frame.body {
        Body::Ipv4(ip) => Body::Ipv4(turned(ip, false)),
        Body::Ipv6(ip) => Body::Ipv6(turned(ip, true)),
        other => other.clone(),
    };
    Frame { eth_src: frame.eth_dst, eth_dst: frame.eth_src, vlan: frame.vlan, body }
}

/// An error about it, from whom it went to.
pub fn complaint(frame: &Frame, dice: &mut Dice) -> Option<Frame> {
    let mut error = answer(frame);
    let about = |src: IpAddr, dst: IpAddr, l4: &L4| {
        let (proto, ports) = match l4 {
            L4::Tcp { src, dst, .. } => (6, (*src, *dst)),
            L4::Udp { src, dst } => (17, (*src, *dst)),
            _ => return None,
        };
        Some(Tuple { src, dst, proto, ports })
    };
    let l4 = |kind, about| L4::Icmp(Icmp { kind, code: 1, id: 0, about: Some(about), nd: None });
    match (&mut error.body, &frame.body) {
        (Body::Ipv4(ip), Body::Ipv4(old)) => {
            ip.l4 = l4(dice.one(&[3, 3, 11, 5]), about(old.src.into(), old.dst.into(), &old.l4)?);
        }
        (Body::Ipv6(ip), Body::Ipv6(old)) => {
            ip.l4 = l4(dice.one(&[1, 2, 4, 137]), about(old.src.into(), old.dst.into(), &old.l4)?);
        }
        _ => return None,
    }
    Some(error)
}
