//! What is right, in plain words, on top of the evaluator: who gets which frame.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use super::random::{LINK, Pod, UPLINK, World};
use crate::ids::{IfIndex, MacAddr};
use crate::openflow::interpret::{Body, Frame, Ip, L4, Piece, Tuple};
use crate::policy::{Direction, Packet, State, Transport, verdict};

/// Where a frame is to come out, and with which tag.
pub type Deliveries = BTreeSet<(IfIndex, Option<u16>)>;

/// Connections by VLAN, as they were begun; true once answered.
#[derive(Clone, Debug, Default)]
pub struct Known(BTreeMap<(u16, Tuple), bool>);

fn transport(l4: &L4) -> Transport {
    match l4 {
        L4::Tcp { src, dst, .. } => Transport::Tcp { src: *src, dst: *dst },
        L4::Udp { src, dst } => Transport::Udp { src: *src, dst: *dst },
        L4::Sctp { src, dst } => Transport::Sctp { src: *src, dst: *dst },
        L4::Icmp(icmp) => Transport::Icmp { kind: icmp.kind, code: icmp.code },
        L4::Other(proto) => Transport::Other(*proto),
    }
}

impl Known {
    fn state(&mut self, vlan: u16, src: IpAddr, dst: IpAddr, l4: &L4) -> (State, Option<Tuple>) {
        let (proto, ports) = match l4 {
            L4::Tcp { src, dst, .. } => (6, (*src, *dst)),
            L4::Udp { src, dst } => (17, (*src, *dst)),
            L4::Sctp { src, dst } => (132, (*src, *dst)),
            L4::Other(proto) => (*proto, (0, 0)),
            L4::Icmp(icmp) => match (src.is_ipv6(), icmp.kind) {
                (false, 8 | 0) => (1, (icmp.id, icmp.id)),
                (true, 128 | 129) => (58, (icmp.id, icmp.id)),
                (false, 3 | 11 | 12) | (true, 1..=4) => {
                    let has = |it| self.0.contains_key(&(vlan, it));
                    let related = icmp.about.is_some_and(|about| has(about) || has(about.reversed()));
                    return (if related { State::Related } else { State::Invalid }, None);
                }
                _ => return (State::Invalid, None),
            },
        };
        let tuple = Tuple { src, dst, proto, ports };
        if let Some(answered) = self.0.get(&(vlan, tuple)) {
            return (if *answered { State::Established } else { State::New }, Some(tuple));
        }
        if let Some(answered) = self.0.get_mut(&(vlan, tuple.reversed())) {
            *answered = true;
            return (State::Established, Some(tuple));
        }
        let begins = !matches!(l4, L4::Icmp(icmp) if [0, 129].contains(&icmp.kind));
        (if begins { State::New } else { State::Invalid }, Some(tuple))
    }

    fn begin(&mut self, vlan: u16, tuple: Option<Tuple>) {
        if let Some(tuple) = tuple {
            self.0.entry((vlan, tuple)).or_insert(false);
        }
    }
}

impl World {
    /// Who gets what enters there.
    pub fn expect(&self, known: &mut Known, port: IfIndex, frame: &Frame) -> Deliveries {
        if port == UPLINK { self.sent_by_wire(known, frame) } else { self.sent_by(known, port, frame) }
    }

    fn on(&self, vlan: u16) -> impl Iterator<Item = &Pod> {
        self.pods.iter().filter(move |pod| pod.vlan == vlan)
    }

    fn sent_by(&self, known: &mut Known, port: IfIndex, frame: &Frame) -> Deliveries {
        let Some(own) = self.pods.iter().find(|pod| pod.rep == port) else { return Deliveries::new() };
        if frame.vlan.is_some() || frame.eth_src != own.mac {
            return Deliveries::new();
        }
        let wire = (UPLINK, Some(own.vlan));
        let peers = || self.on(own.vlan).filter(|pod| pod.rep != port);
        let link = || -> Deliveries {
            if frame.eth_dst.is_group() {
                return peers().map(|pod| (pod.rep, None)).chain([wire]).collect();
            }
            [peers().find(|pod| pod.mac == frame.eth_dst).map_or(wire, |pod| (pod.rep, None))].into()
        };
        let Some((src, dst, l4)) = ip(frame) else {
            let arp = matches!(frame.body, Body::Arp(_)) && !own.ipv4.is_empty();
            return if arp { link() } else { Deliveries::new() };
        };
        let is_own = own.ips().contains(&src);
        if !own.ipv6.is_empty()
            && let Some(ip) = discovery(frame)
            && says(own, ip)
        {
            return link();
        }
        if !is_own {
            return Deliveries::new();
        }
        let packet = Packet { src, dst, transport: transport(l4) };
        let (state, tuple) = known.state(own.vlan, src, dst, l4);
        let receiver = peers().find(|pod| pod.ips().contains(&dst));
        let allowed = verdict(&own.policy, Direction::Egress, &packet, state).allowed
            && receiver.is_none_or(|pod| verdict(&pod.policy, Direction::Ingress, &packet, state).allowed);
        if !allowed || state == State::New && is_dhcp(&packet) {
            return Deliveries::new();
        }
        if state == State::New {
            known.begin(own.vlan, tuple);
        }
        let is_here = |mac: MacAddr| self.on(own.vlan).any(|pod| pod.mac == mac);
        match receiver {
            Some(pod) if pod.mac == frame.eth_dst => [(pod.rep, None)].into(),
            _ if is_here(frame.eth_dst) || frame.eth_dst.is_group() => Deliveries::new(),
            _ => [wire].into(),
        }
    }

    fn sent_by_wire(&self, known: &mut Known, frame: &Frame) -> Deliveries {
        let Some(vlan) = frame.vlan else { return Deliveries::new() };
        let link = || -> Deliveries {
            let gets = |pod: &&Pod| frame.eth_dst.is_group() || pod.mac == frame.eth_dst;
            self.on(vlan).filter(gets).map(|pod| (pod.rep, None)).collect()
        };
        let Some((src, dst, l4)) = ip(frame) else {
            return if matches!(frame.body, Body::Arp(_)) { link() } else { Deliveries::new() };
        };
        if let Some(ip) = discovery(frame)
            && self.on(vlan).any(|pod| hears(pod, ip))
        {
            return link();
        }
        let (state, tuple) = known.state(vlan, src, dst, l4);
        let receiver = self.on(vlan).find(|pod| pod.mac == frame.eth_dst && pod.ips().contains(&dst));
        let Some(pod) = receiver else { return Deliveries::new() };
        let packet = Packet { src, dst, transport: transport(l4) };
        let lie = self.on(vlan).any(|pod| pod.ips().contains(&src));
        if state == State::New && (lie || is_dhcp(&packet))
            || !verdict(&pod.policy, Direction::Ingress, &packet, state).allowed
        {
            return Deliveries::new();
        }
        if state == State::New {
            known.begin(vlan, tuple);
        }
        [(pod.rep, None)].into()
    }
}

/// Nobody begins it, client or server.
fn is_dhcp(packet: &Packet) -> bool {
    let Transport::Udp { src, dst } = packet.transport else { return false };
    let ports = if packet.src.is_ipv6() { [546, 547] } else { [67, 68] };
    src != dst && ports.contains(&src) && ports.contains(&dst)
}

/// A whole message of it, and its type.
fn discovery(frame: &Frame) -> Option<(&Ip<Ipv6Addr>, u8)> {
    match &frame.body {
        Body::Ipv6(ip @ Ip { l4: L4::Icmp(icmp), piece: Piece::Whole, .. })
            if (133..=137).contains(&icmp.kind) =>
        {
            Some((ip, icmp.kind))
        }
        _ => None,
    }
}

fn group(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn own6(pod: &Pod) -> Vec<Ipv6Addr> {
    if pod.ipv6.is_empty() { vec![] } else { [pod.ipv6.clone(), vec![pod.mac.link_local()]].concat() }
}

/// The group of this address among the solicited nodes.
fn is_group_of(ip: Ipv6Addr, dst: Ipv6Addr) -> bool {
    let (groups, all) = (group("ff02::1:ff00:0").octets(), dst.octets());
    all[..13] == groups[..13] && all[13..] == ip.octets()[13..]
}

/// What a host says, as far as flower sees: not whom it asks for.
fn says(own: &Pod, (ip, kind): (&Ip<Ipv6Addr>, u8)) -> bool {
    let (is_own, nobodys) = (own6(own).contains(&ip.src), ip.src.is_unspecified());
    let to_neighbour = ip.dst.is_unicast_link_local() || LINK.iter().any(|net| net.contains(&ip.dst));
    let solicits = group("ff02::1:ff00:0").octets()[..13] == ip.dst.octets()[..13];
    ip.ttl == 255
        && match kind {
            133 => (is_own || nobodys) && ip.dst == group("ff02::2"),
            135 if nobodys => own6(own).iter().any(|own| is_group_of(*own, ip.dst)),
            135 => is_own && (solicits || to_neighbour),
            136 => is_own && (ip.dst == group("ff02::1") || to_neighbour),
            _ => false,
        }
}

/// What a host hears from the wire.
fn hears(pod: &Pod, (ip, kind): (&Ip<Ipv6Addr>, u8)) -> bool {
    let own = own6(pod);
    let to_own = own.contains(&ip.dst);
    let to_all = ip.dst == group("ff02::1") && !own.is_empty();
    let router = ip.src.is_unicast_link_local();
    ip.ttl == 255
        && match kind {
            134 => router && (to_own || to_all),
            135 => to_own || own.iter().any(|own| is_group_of(*own, ip.dst)),
            136 => to_own || to_all,
            137 => router && to_own,
            _ => false,
        }
}

fn ip(frame: &Frame) -> Option<(IpAddr, IpAddr, &L4)> {
    match &frame.body {
        Body::Ipv4(ip) => Some((ip.src.into(), ip.dst.into(), &ip.l4)),
        Body::Ipv6(ip) => Some((ip.src.into(), ip.dst.into(), &ip.l4)),
        Body::Arp(_) | Body::Other(_) => None,
    }
}
