//! What a pod may send.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use super::program::{
    Filters, Fixed, Layout, PortBuilder, PortProgram, commit, deliver, groups, ipv4, ipv6, new_connection,
    state_chain, tag, to_ips, to_mac, track,
};
use super::rules::tiers;
use super::{Error, Station, Vlan};
use crate::boundary::ROUTER_SOLICITATION;
use crate::boundary::discovery::{ALL_NODES, ALL_ROUTERS, ND_HOPS, NOBODY, SOLICITED_NODES, solicited_node};
use crate::flower::{Actions, ChainIndex, End, Icmp, IpKey, Key, L4, Payload, Ports, Step};
use crate::openflow::{FragMatch, Masked, ND_ADVERT, ND_SOLICIT};
use crate::policy::Direction;

use super::mark::ours;

pub fn program(vlan: &Vlan<'_>, own: &Station<'_>) -> Result<PortProgram, Error> {
    let at = Fixed::REPRESENTOR;
    let mut port = PortBuilder::new(Layout::Representor);
    port.fixed(at.link.index(), link(vlan, own)?);
    port.fixed(at.forward.index(), forward(vlan, own)?);
    let dispatch = dispatch(vlan, own, &mut port)?;
    port.fixed(at.dispatch.index(), dispatch);
    let accept = ours(Actions::new(Vec::new(), End::Goto(at.dispatch)));
    let lead_in = tiers(&mut port, &own.policy.egress, Direction::Egress, &accept)?;
    port.fixed(at.state.index(), state_chain(at, lead_in)?);
    port.fixed(ChainIndex(0), classify(vlan, own)?);
    Ok(port.finish())
}

/// The pod's own, and nothing else. TCP and UDP of IPv6 stand before neighbour discovery and the rest: hardware that
/// has no match on ICMP's types then still has these.
fn classify(vlan: &Vlan<'_>, own: &Station<'_>) -> Result<crate::flower::ChainBuilder, Error> {
    let at = Fixed::REPRESENTOR;
    let mut filters = Filters::default();
    let from = |key| Key { eth_src: own.mac.into(), ..key };
    let tracked = || (vec![track(vlan.zone)], End::Goto(at.state));
    let mut add = |position, key, (steps, end)| filters.structural(position, from(key), steps, end);
    for src in &own.ipv4 {
        add(1, ipv4(IpKey { src: (*src).into(), ..IpKey::default() }), tracked())?;
    }
    for src in &own.ipv6 {
        for l4 in [L4::Tcp(Ports::default()), L4::Udp(Ports::default())] {
            add(2, ipv6(IpKey { src: (*src).into(), l4, ..IpKey::default() }), tracked())?;
        }
        add(3, ipv6(IpKey { src: (*src).into(), ..IpKey::default() }), tracked())?;
    }
    for (src, dst, kind) in discovery(own) {
        let l4 = L4::Icmp(Icmp { kind: kind.into(), ..Icmp::default() });
        let nd = IpKey { src: src.into(), dst, ttl: ND_HOPS.into(), frag: FragMatch::No, l4 };
        add(2, ipv6(nd), (Vec::new(), End::Goto(at.link)))?;
    }
    if !own.ipv4.is_empty() {
        let arp = Key { payload: Payload::Arp, ..Key::default() };
        add(4, arp, (Vec::new(), End::Goto(at.link)))?;
    }
    filters.closed()
}

/// Neighbour discovery that a host sends, by source, destination and type: advertisements and redirects are a router's.
/// (As in [`crate::boundary`], but for the target, which flower cannot match.)
fn discovery(own: &Station<'_>) -> Vec<(Ipv6Addr, Masked<Ipv6Addr>, u8)> {
    if own.ipv6.is_empty() {
        return Vec::new();
    }
    let link = || own.link.iter().map(|net| Masked::from(*net));
    let mut all = vec![(NOBODY, ALL_ROUTERS.into(), ROUTER_SOLICITATION)];
    // Of two addresses that end alike.
    let groups: BTreeSet<Ipv6Addr> = own.ipv6.iter().map(|ip| solicited_node(*ip)).collect();
    all.extend(groups.into_iter().map(|group| (NOBODY, group.into(), ND_SOLICIT)));
    for src in own.ipv6.iter().copied() {
        all.push((src, ALL_ROUTERS.into(), ROUTER_SOLICITATION));
        all.extend(link().chain([SOLICITED_NODES.into()]).map(|dst| (src, dst, ND_SOLICIT)));
        all.extend(link().chain([ALL_NODES.into()]).map(|dst| (src, dst, ND_ADVERT)));
    }
    all
}

/// By MAC alone. The hardware cannot look into ARP and neighbour discovery.
fn link(vlan: &Vlan<'_>, own: &Station<'_>) -> Result<crate::flower::ChainBuilder, Error> {
    let mut filters = Filters::default();
    for peer in vlan.peers(own) {
        filters.structural(1, to_mac(peer.mac), Vec::new(), End::Redirect(peer.rep))?;
    }
    let mut flood: Vec<Step> = vlan.peers(own).map(|peer| Step::Mirror(peer.rep)).collect();
    flood.push(tag(vlan));
    filters.structural(1, groups(), flood, End::Redirect(vlan.uplink))?;
    filters.structural(2, Key::default(), vec![tag(vlan)], End::Redirect(vlan.uplink))?;
    filters.closed()
}

fn forward(vlan: &Vlan<'_>, own: &Station<'_>) -> Result<crate::flower::ChainBuilder, Error> {
    let mut filters = Filters::default();
    deliver(&mut filters, vlan.peers(own))?;
    for station in &vlan.stations {
        filters.structural(3, to_mac(station.mac), Vec::new(), End::Drop)?;
    }
    filters.structural(3, groups(), Vec::new(), End::Drop)?;
    filters.structural(4, Key::default(), vec![tag(vlan)], End::Redirect(vlan.uplink))?;
    filters.closed()
}

/// New connections that the pod may start: those to a neighbour with rules of its own are held against them.
fn dispatch(
    vlan: &Vlan<'_>,
    own: &Station<'_>,
    port: &mut PortBuilder,
) -> Result<crate::flower::ChainBuilder, Error> {
    let at = Fixed::REPRESENTOR;
    let accept = commit(vlan.zone, at.forward);
    let mut filters = Filters::default();
    for peer in vlan.peers(own).filter(|peer| !peer.policy.ingress.is_open()) {
        let lead_in = tiers(port, &peer.policy.ingress, Direction::Ingress, &accept)?;
        let (v4, v6) = to_ips(peer);
        for (position, keys) in [(1, v4), (2, v6)] {
            for key in keys {
                filters.add(super::program::pref(position), new_connection(key), lead_in.clone())?;
            }
        }
    }
    filters.add(super::program::pref(DISPATCH_REST), new_connection(Key::default()), accept)?;
    filters.closed()
}

/// Where in `dispatch` the destinations that have no rules here are accepted.
pub const DISPATCH_REST: u16 = 3;
