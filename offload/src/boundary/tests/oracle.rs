//! What may pass, in plain words: the few lines that the compiled flows are held against.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::boundary::Boundary;
use crate::ids::MacAddr;
use crate::openflow::interpret::{Body, Frame, Icmp, Ip, L4, Piece, Tuple};

use super::{ALL_V4, DHCP6, NOBODY, is_ruled};

/// Connections, and whether they were answered.
#[derive(Default)]
pub struct Known(BTreeMap<(u32, Tuple), bool>);

impl Known {
    fn has(&self, pod: &Boundary, tuple: Tuple) -> bool {
        self.0.contains_key(&(pod.rep.get(), tuple))
            || self.0.contains_key(&(pod.rep.get(), tuple.reversed()))
    }

    /// May this pass conntrack, where every new connection is allowed? If so, it is known from now on.
    fn allows(&mut self, pod: &Boundary, src: IpAddr, dst: IpAddr, l4: &L4) -> bool {
        let (proto, ports, opens) = match l4 {
            L4::Tcp { src, dst, syn } => (6, (*src, *dst), *syn || !is_ruled(pod)),
            L4::Udp { src, dst } => (17, (*src, *dst), true),
            L4::Sctp { src, dst } => (132, (*src, *dst), true),
            L4::Other(proto) => (*proto, (0, 0), true),
            L4::Icmp(icmp) => match (src.is_ipv6(), icmp.kind) {
                (false, 8) => (1, (icmp.id, icmp.id), true),
                (true, 128) => (58, (icmp.id, icmp.id), true),
                (false, 0) => (1, (icmp.id, icmp.id), false),
                (true, 129) => (58, (icmp.id, icmp.id), false),
                (false, 3 | 11 | 12) | (true, 1..=4) => {
                    return icmp.about.is_some_and(|about| self.has(pod, about));
                }
                _ => return false,
            },
        };
        let tuple = Tuple { src, dst, proto, ports };
        let midstream = matches!(l4, L4::Tcp { syn: false, .. }) && is_ruled(pod);
        if let Some(answered) = self.0.get(&(pod.rep.get(), tuple)) {
            return *answered || !midstream;
        }
        if let Some(answered) = self.0.get_mut(&(pod.rep.get(), tuple.reversed())) {
            *answered = true;
            return true;
        }
        if opens {
            self.0.insert((pod.rep.get(), tuple), false);
        }
        opens
    }
}

fn own6(pod: &Boundary) -> Vec<Ipv6Addr> {
    if pod.ipv6.is_empty() { vec![] } else { [pod.ipv6.clone(), vec![pod.mac.link_local()]].concat() }
}

fn servers4(pod: &Boundary) -> Vec<Ipv4Addr> {
    pod.dhcp_servers.iter().filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None }).collect()
}

fn servers6(pod: &Boundary) -> Vec<Ipv6Addr> {
    pod.dhcp_servers.iter().filter_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None }).collect()
}

/// Is it a neighbour's, or a gateway's?
fn on_link(pod: &Boundary, ip: impl Into<IpAddr>) -> bool {
    let ip = ip.into();
    let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    link_local || pod.on_link.iter().any(|net| net.contains(&ip))
}

/// Or the pod's own?
fn is_neighbour(pod: &Boundary, ip: Ipv4Addr) -> bool {
    pod.ipv4.contains(&ip) || on_link(pod, ip)
}

/// Is a neighbour's address in the prefix that the other one is in?
fn side_by_side(pod: &Boundary, a: Ipv6Addr, b: Ipv6Addr) -> bool {
    let prefix = |net: &ipnet::IpNet| net.contains(&IpAddr::V6(a)) && net.contains(&IpAddr::V6(b));
    a.is_unicast_link_local() && b.is_unicast_link_local() || pod.on_link.iter().any(prefix)
}

fn group(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn is_solicited_node(ip: Ipv6Addr) -> bool {
    ip.octets().starts_with(&group("ff02::1:ff00:0").octets()[..13])
}

/// The solicited-node group of just this address.
fn is_group_of(target: Ipv6Addr, ip: Ipv6Addr) -> bool {
    is_solicited_node(ip) && ip.octets()[13..] == target.octets()[13..]
}

pub fn is_discovery(icmp: &Icmp) -> bool {
    (130..=137).contains(&icmp.kind) || icmp.kind == 143
}

/// Target and link-layer address of a solicitation or an advertisement. None: not to be read.
fn read(icmp: &Icmp) -> (Option<Ipv6Addr>, MacAddr) {
    let nd = icmp.nd.filter(|nd| icmp.code == 0 && !nd.target.is_unspecified());
    (nd.map(|nd| nd.target), nd.map_or(MacAddr::ZERO, |nd| nd.address))
}

/// RFC 4861, 4862, 2710, 3810: what a host says.
fn may_say(pod: &Boundary, ip: &Ip<Ipv6Addr>, icmp: &Icmp) -> bool {
    let (is_own, nobodys) = (own6(pod).contains(&ip.src), ip.src == NOBODY);
    let (target, address) = read(icmp);
    let own_target = target.is_some_and(|target| own6(pod).contains(&target));
    let own_address = [pod.mac, MacAddr::ZERO].contains(&address);
    let listener = ip.ttl == 1 && (ip.src == pod.mac.link_local() || nobodys);
    let neighbour = ip.ttl == 255 && is_own;
    match icmp.kind {
        133 => ip.ttl == 255 && (is_own || nobodys) && ip.dst == group("ff02::2"),
        135 if nobodys => {
            let of_target = target.is_some_and(|target| is_group_of(target, ip.dst));
            ip.ttl == 255 && own_target && of_target && address == MacAddr::ZERO
        }
        135 => {
            // Whether to just the target, the receiver's own boundary judges.
            let asks = |target| {
                is_solicited_node(ip.dst) && on_link(pod, target) || side_by_side(pod, ip.dst, target)
            };
            neighbour && own_address && target.is_some_and(asks)
        }
        136 => neighbour && own_address && own_target && (on_link(pod, ip.dst) || ip.dst == group("ff02::1")),
        131 => {
            let [first, second, ..] = ip.dst.octets();
            listener && first == 0xff && second & 0xf >= 2 && ip.dst != group("ff02::1")
        }
        132 => listener && ip.dst == group("ff02::2"),
        143 => listener && ip.dst == group("ff02::16"),
        // Advertisements and redirects are a router's, queries are, too.
        _ => false,
    }
}

/// What a host hears.
fn may_hear(pod: &Boundary, ip: &Ip<Ipv6Addr>, icmp: &Icmp) -> bool {
    let router = ip.src.is_unicast_link_local();
    let to_own = own6(pod).contains(&ip.dst);
    let to_all = ip.dst == group("ff02::1");
    let (target, address) = read(icmp);
    match icmp.kind {
        134 => ip.ttl == 255 && router && (to_own || to_all),
        137 => ip.ttl == 255 && router && to_own,
        135 => target.is_some_and(|target| {
            let detects = ip.src == NOBODY && address == MacAddr::ZERO && is_group_of(target, ip.dst);
            let asks = on_link(pod, ip.src) && (ip.dst == target || is_group_of(target, ip.dst));
            ip.ttl == 255 && own6(pod).contains(&target) && (detects || asks)
        }),
        136 => {
            let of_neighbour = on_link(pod, ip.src) && target.is_some_and(|target| on_link(pod, target));
            ip.ttl == 255 && of_neighbour && (to_own || to_all)
        }
        130 => ip.ttl == 1 && router && ip.dst.is_multicast(),
        // Solicitations of routers and reports are for routers.
        _ => false,
    }
}

pub fn may_leave(pod: &Boundary, frame: &Frame, known: &mut Known) -> bool {
    if frame.vlan.is_some() || frame.eth_src != pod.mac {
        return false;
    }
    match &frame.body {
        Body::Other(_) => false,
        Body::Arp(arp) => {
            let (own, none) = (pod.ipv4.contains(&arp.spa), Ipv4Addr::UNSPECIFIED);
            arp.sha == pod.mac
                && match arp.op {
                    1 if arp.spa == none => pod.ipv4.contains(&arp.tpa),
                    1 => own && is_neighbour(pod, arp.tpa),
                    2 => own && (is_neighbour(pod, arp.tpa) || arp.tpa == none),
                    _ => false,
                }
        }
        Body::Ipv4(ip) => {
            let (client, none) = (!servers4(pod).is_empty() && !pod.ipv4.is_empty(), Ipv4Addr::UNSPECIFIED);
            let discovers = client && (ip.src, ip.dst) == (none, ALL_V4);
            let renews = pod.ipv4.contains(&ip.src) && servers4(pod).contains(&ip.dst);
            match ip.l4 {
                L4::Udp { src: 68, dst: 67 } => ip.piece == Piece::Whole && (discovers || renews),
                L4::Udp { src: 67, dst: 68 } => false,
                _ => pod.ipv4.contains(&ip.src) && known.allows(pod, ip.src.into(), ip.dst.into(), &ip.l4),
            }
        }
        Body::Ipv6(_) if pod.ipv6.is_empty() => false,
        Body::Ipv6(ip) => match &ip.l4 {
            L4::Icmp(icmp) if is_discovery(icmp) => ip.piece == Piece::Whole && may_say(pod, ip, icmp),
            L4::Udp { src: 546, dst: 547 } => {
                let client = !servers6(pod).is_empty() && ip.src == pod.mac.link_local();
                client && ip.dst == DHCP6 && ip.piece == Piece::Whole
            }
            L4::Udp { src: 547, dst: 546 } => false,
            l4 => own6(pod).contains(&ip.src) && known.allows(pod, ip.src.into(), ip.dst.into(), l4),
        },
    }
}

pub fn may_arrive(pod: &Boundary, frame: &Frame, known: &mut Known) -> bool {
    if frame.vlan.is_some() {
        return false;
    }
    match &frame.body {
        Body::Other(_) => false,
        Body::Arp(arp) => {
            let (own, none) = (pod.ipv4.contains(&arp.tpa), Ipv4Addr::UNSPECIFIED);
            let neighbour = is_neighbour(pod, arp.spa);
            let announced = neighbour && arp.spa == arp.tpa;
            !pod.ipv4.is_empty()
                && match arp.op {
                    1 => own && (neighbour || arp.spa == none) || announced,
                    2 => own && neighbour || arp.tpa == none && pod.ipv4.contains(&arp.spa) || announced,
                    _ => false,
                }
        }
        Body::Ipv4(ip) => {
            let to_client = ip.dst == ALL_V4 || pod.ipv4.contains(&ip.dst);
            match ip.l4 {
                _ if pod.ipv4.is_empty() => false,
                L4::Udp { src: 67, dst: 68 } => {
                    ip.piece == Piece::Whole && servers4(pod).contains(&ip.src) && to_client
                }
                L4::Udp { src: 68, dst: 67 } => false,
                _ => known.allows(pod, ip.src.into(), ip.dst.into(), &ip.l4),
            }
        }
        Body::Ipv6(_) if pod.ipv6.is_empty() => false,
        Body::Ipv6(ip) => match &ip.l4 {
            L4::Icmp(icmp) if is_discovery(icmp) => ip.piece == Piece::Whole && may_hear(pod, ip, icmp),
            L4::Udp { src: 547, dst: 546 } => {
                let answers = servers6(pod).contains(&ip.src) && ip.dst == pod.mac.link_local();
                answers && ip.piece == Piece::Whole
            }
            L4::Udp { src: 546, dst: 547 } => false,
            l4 => known.allows(pod, ip.src.into(), ip.dst.into(), l4),
        },
    }
}
