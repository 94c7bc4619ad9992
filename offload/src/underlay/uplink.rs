//! What the wire may send to pods: chain 0 knows the VLANs, each VLAN has chains of its own.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use super::program::{
    Filters, Fixed, Layout, PortBuilder, PortProgram, commit, deliver, groups, ipv4, ipv6, new_connection,
    pref, state_chain, to_ips, to_mac, track,
};
use super::rules::tiers;
use super::{Error, Vlan};
use crate::boundary::discovery::{
    ALL_NODES, LINK_LOCAL, ND_HOPS, REDIRECT, ROUTER_ADVERTISEMENT, solicited_node,
};
use crate::flower::{ChainBuilder, ChainIndex, End, Icmp, IpKey, Key, L4, Payload, Ports, Step, VlanKey};
use crate::openflow::{FragMatch, Masked, ND_ADVERT, ND_SOLICIT};
use crate::policy::Direction;

use super::mark::ours;
use crate::flower::Actions;

pub fn program(vlans: &[&Vlan<'_>]) -> Result<PortProgram, Error> {
    let mut port = PortBuilder::new(Layout::Uplink);
    let mut filters = Filters::default();
    for vlan in vlans {
        let at = Fixed::vlan(vlan.id);
        classify(&mut filters, vlan)?;
        port.fixed(at.link.index(), link(vlan)?);
        let mut forward = Filters::default();
        deliver(&mut forward, vlan.stations.iter())?;
        port.fixed(at.forward.index(), forward.closed()?);
        let dispatch = dispatch(vlan, &mut port)?;
        port.fixed(at.dispatch.index(), dispatch);
        let lead_in = ours(Actions::new(Vec::new(), End::Goto(at.dispatch)));
        port.fixed(at.state.index(), state_chain(at, lead_in)?);
    }
    port.fixed(ChainIndex(0), filters.open());
    Ok(port.finish())
}

fn classify(filters: &mut Filters, vlan: &Vlan<'_>) -> Result<(), Error> {
    let at = Fixed::vlan(vlan.id);
    let tagged = |key| Key { vlan: VlanKey::Id(vlan.id), ..key };
    let mut tracked = |position, key| {
        filters.structural(position, tagged(key), vec![Step::VlanPop, track(vlan.zone)], End::Goto(at.state))
    };
    tracked(1, ipv4(IpKey::default()))?;
    for l4 in [L4::Tcp(Ports::default()), L4::Udp(Ports::default())] {
        tracked(1, ipv6(IpKey { l4, ..IpKey::default() }))?;
    }
    tracked(2, ipv6(IpKey::default()))?;
    let mut linked = |key| filters.structural(1, tagged(key), vec![Step::VlanPop], End::Goto(at.link));
    linked(Key { payload: Payload::Arp, ..Key::default() })?;
    for (src, dst, kind) in discovery(vlan) {
        let l4 = L4::Icmp(Icmp { kind: kind.into(), ..Icmp::default() });
        linked(ipv6(IpKey { src, dst, ttl: ND_HOPS.into(), frag: FragMatch::No, l4 }))?;
    }
    filters.structural(3, tagged(Key::default()), Vec::new(), End::Drop)
}

/// Neighbour discovery that a host hears, by source, destination and type. Solicitations of routers are for routers.
fn discovery(vlan: &Vlan<'_>) -> Vec<(Masked<Ipv6Addr>, Masked<Ipv6Addr>, u8)> {
    let own: BTreeSet<Ipv6Addr> = vlan.stations.iter().flat_map(|it| it.ipv6.iter().copied()).collect();
    let groups: BTreeSet<Ipv6Addr> = own.iter().map(|ip| solicited_node(*ip)).collect();
    let (any, router) = (Masked::any(), Masked::from(LINK_LOCAL));
    let mut all: Vec<_> = groups.into_iter().map(|group| (any, Masked::exact(group), ND_SOLICIT)).collect();
    for dst in own.iter().copied().map(Masked::exact) {
        all.extend([(any, dst, ND_SOLICIT), (any, dst, ND_ADVERT)]);
        all.extend([(router, dst, ROUTER_ADVERTISEMENT), (router, dst, REDIRECT)]);
    }
    if !own.is_empty() {
        all.extend([(any, ALL_NODES.into(), ND_ADVERT), (router, ALL_NODES.into(), ROUTER_ADVERTISEMENT)]);
    }
    all
}

fn link(vlan: &Vlan<'_>) -> Result<ChainBuilder, Error> {
    let mut filters = Filters::default();
    for station in &vlan.stations {
        filters.structural(1, to_mac(station.mac), Vec::new(), End::Redirect(station.rep))?;
    }
    if let Some((last, others)) = vlan.stations.split_last() {
        let copies = others.iter().map(|station| Step::Mirror(station.rep)).collect();
        filters.structural(1, groups(), copies, End::Redirect(last.rep))?;
    }
    filters.closed()
}

fn dispatch(vlan: &Vlan<'_>, port: &mut PortBuilder) -> Result<ChainBuilder, Error> {
    let accept = commit(vlan.zone, Fixed::vlan(vlan.id).forward);
    let mut filters = Filters::default();
    for station in &vlan.stations {
        for src in &station.ipv4 {
            let key = new_connection(ipv4(IpKey { src: (*src).into(), ..IpKey::default() }));
            filters.structural(1, key, Vec::new(), End::Drop)?;
        }
        for src in &station.ipv6 {
            let key = new_connection(ipv6(IpKey { src: (*src).into(), ..IpKey::default() }));
            filters.structural(2, key, Vec::new(), End::Drop)?;
        }
        let lead_in = tiers(port, &station.policy.ingress, Direction::Ingress, &accept)?;
        let (v4, v6) = to_ips(station);
        for (position, keys) in [(3, v4), (4, v6)] {
            for key in keys {
                let key = new_connection(Key { eth_dst: station.mac.into(), ..key });
                filters.add(pref(position), key, lead_in.clone())?;
            }
        }
    }
    filters.closed()
}
