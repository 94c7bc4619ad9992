//! The underlay: pods on a VLAN of the fabric, as a TC flower program for ports that the agent owns alone.
//!
//! A pure compiler, [`compile`]: [`Underlay`]s in, a [`Program`] out; and [`plan()`]: what stands on the ports in, steps
//! out that lead to the program. It never asks anybody and never looks at the hardware; where a rule may run is
//! [`checker`](crate::checker)'s.
//!
//! The eSwitch classifies where a packet enters. So the program of a representor decides everything that leaves its
//! pod, and for a neighbour on the same NIC that includes the neighbour's ingress rules; the uplink's program decides
//! what comes from the wire. Both are made of the same chains:
//!
//! ```text
//!  0 classify ─ the pod's own IP: ct ─► state ─ known ──────────────────────────────────► forward ─► out
//!      │                                  └─ new ─► egress tiers ─► dispatch ─► ingress tiers ─► ct commit ┘
//!      └─ ARP, ND ─► link ─► out                    (representors only)  (by destination)
//! ```
//!
//! *Fixed* chains have a number of their own; their filters come and go one by one. *Ordered* chains, the tiers, never
//! change: another content is another chain, equal contents are one chain, whoever uses them. They are built unseen and
//! led to by one filter, in `state` or `dispatch`, that is replaced in place.
//!
//! What a pod sends bears its own MAC and IP, or ends in chain 0. A local address that comes from the wire starts
//! nothing, because conntrack is shared by the VLAN: a connection that only the receiver had agreed to would otherwise
//! be a known one at its sender. For the same reason `dispatch` asks for the receiver's IP and not for its MAC, and
//! `forward` delivers only where both belong together. Groups are reached by ARP and neighbour discovery alone: no
//! multicast, no router advertisements by pods. Discovery has the hop limit, the sources and the destinations that it has
//! on a link (RFC 4861); what it asks for is out of flower's sight, and ARP is out of the hardware's. DHCP there is none. Of fragments only what conntrack has put together is let through.
//!
//! Source: `net/sched/cls_flower.c`, `net/sched/act_ct.c`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

use crate::flower::ChainError;
use crate::ids::{CtZone, IfIndex, MacAddr};
use crate::policy::{Origin, PodPolicy};

mod mark;
mod plan;
mod program;
mod representor;
mod rules;
mod uplink;

pub use mark::{is_ours, origin_of};
pub use plan::{Plan, plan};
pub use program::{Layout, PortProgram, Program};

/// A VLAN of the fabric on this NIC.
#[derive(Clone, Debug)]
pub struct Underlay<'a> {
    pub vlan: u16,
    /// Of this VLAN on this NIC, and of nothing else.
    pub zone: CtZone,
    pub uplink: IfIndex,
    pub members: Vec<Member<'a>>,
}

/// A pod's attachment to it.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    pub rep: IfIndex,
    pub mac: MacAddr,
    /// Without an address of a version, nothing of that version passes.
    pub ipv4: &'a [Ipv4Addr],
    /// The link-local address that derives from the MAC comes by itself.
    pub ipv6: &'a [Ipv6Addr],
    /// Where its neighbours and gateways are, beside the link-local addresses: to whom it may speak of neighbours. A prefix
    /// that also holds groups, or the address of nobody, is none.
    pub on_link: &'a [Ipv6Net],
    pub policy: &'a PodPolicy,
}

/// What makes no sense, or cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{0} is no VLAN id: 1 to 4094 are")]
    Vlan(u16),
    #[error("VLAN {0} is there twice on uplink {1}")]
    SameVlan(u16, IfIndex),
    #[error("conntrack zone {0} belongs to two VLANs")]
    SameZone(CtZone),
    #[error("network device {0} has two roles")]
    SamePort(IfIndex),
    #[error("{1} is not the address of one host, so it cannot be that of device {0}")]
    NotOwn(IfIndex, String),
    #[error("{1} belongs to two members of VLAN {0}")]
    SameAddress(u16, String),
    #[error("rule {origin} would be {filters} filters")]
    TooLarge { origin: Origin, filters: usize },
    #[error("the tier of {0} needs more preferences than there are")]
    TooDeep(Origin),
    #[error("the compiler put two filters where one may be")]
    Chain(#[from] ChainError),
}

/// The program of all ports of these VLANs.
///
/// # Errors
///
/// The first thing that makes no sense. No part of the program can then be had: whoever calls names the culprit and
/// asks again without it.
pub fn compile(underlays: &[Underlay<'_>]) -> Result<Program, Error> {
    let mut sorted: Vec<Vlan<'_>> = underlays.iter().map(Vlan::new).collect::<Result<_, _>>()?;
    sorted.sort_by_key(|vlan| (vlan.uplink, vlan.id));
    check_roles(&sorted)?;
    let mut program = Program::default();
    let mut uplinks: BTreeMap<IfIndex, Vec<&Vlan<'_>>> = BTreeMap::new();
    for vlan in &sorted {
        uplinks.entry(vlan.uplink).or_default().push(vlan);
        for station in &vlan.stations {
            program.ports.insert(station.rep, representor::program(vlan, station)?);
        }
    }
    for (port, vlans) in uplinks {
        program.ports.insert(port, uplink::program(&vlans)?);
    }
    Ok(program)
}

/// An [`Underlay`] that makes sense, in an order of its own.
struct Vlan<'a> {
    id: u16,
    zone: CtZone,
    uplink: IfIndex,
    stations: Vec<Station<'a>>,
}

/// A [`Member`] that makes sense.
struct Station<'a> {
    rep: IfIndex,
    mac: MacAddr,
    ipv4: BTreeSet<Ipv4Addr>,
    ipv6: BTreeSet<Ipv6Addr>,
    /// Prefixes of which none holds another.
    link: Vec<Ipv6Net>,
    policy: &'a PodPolicy,
}

impl<'a> Vlan<'a> {
    fn new(underlay: &Underlay<'a>) -> Result<Self, Error> {
        if !(1..=4094).contains(&underlay.vlan) {
            return Err(Error::Vlan(underlay.vlan));
        }
        let mut stations: Vec<Station<'a>> =
            underlay.members.iter().map(Station::new).collect::<Result<_, _>>()?;
        stations.sort_by_key(|station| station.rep);
        let (mut macs, mut ips) = (BTreeSet::new(), BTreeSet::new());
        for station in &stations {
            if !macs.insert(station.mac) {
                return Err(Error::SameAddress(underlay.vlan, station.mac.to_string()));
            }
            if let Some(ip) = station.ips().find(|ip| !ips.insert(*ip)) {
                return Err(Error::SameAddress(underlay.vlan, ip.to_string()));
            }
        }
        Ok(Self { id: underlay.vlan, zone: underlay.zone, uplink: underlay.uplink, stations })
    }

    /// The others on this NIC.
    fn peers(&self, of: &Station<'_>) -> impl Iterator<Item = &Station<'a>> {
        let rep = of.rep;
        self.stations.iter().filter(move |station| station.rep != rep)
    }
}

impl<'a> Station<'a> {
    fn new(member: &Member<'a>) -> Result<Self, Error> {
        let foreign = |what: String| Err(Error::NotOwn(member.rep, what));
        if !member.mac.is_unicast() {
            return foreign(member.mac.to_string());
        }
        let ipv4: BTreeSet<Ipv4Addr> = member.ipv4.iter().copied().collect();
        let mut ipv6: BTreeSet<Ipv6Addr> = member.ipv6.iter().copied().collect();
        let is_group = |ip: &&Ipv4Addr| {
            ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast() || ip.is_loopback()
        };
        if let Some(ip) = ipv4.iter().find(is_group) {
            return foreign(ip.to_string());
        }
        if let Some(ip) = ipv6.iter().find(|ip| ip.is_unspecified() || ip.is_multicast() || ip.is_loopback())
        {
            return foreign(ip.to_string());
        }
        if !ipv6.is_empty() {
            ipv6.insert(member.mac.link_local());
        }
        let link = crate::boundary::link_ipv6(member.on_link.iter().copied());
        Ok(Self { rep: member.rep, mac: member.mac, ipv4, ipv6, link, policy: member.policy })
    }

    fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.ipv4.iter().copied().map(IpAddr::from).chain(self.ipv6.iter().copied().map(IpAddr::from))
    }
}

fn check_roles(vlans: &[Vlan<'_>]) -> Result<(), Error> {
    let (mut seen, mut zones, mut reps) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let uplinks: BTreeSet<IfIndex> = vlans.iter().map(|vlan| vlan.uplink).collect();
    for vlan in vlans {
        if !seen.insert((vlan.uplink, vlan.id)) {
            return Err(Error::SameVlan(vlan.id, vlan.uplink));
        }
        if !zones.insert(vlan.zone) {
            return Err(Error::SameZone(vlan.zone));
        }
        for station in &vlan.stations {
            if uplinks.contains(&station.rep) || !reps.insert(station.rep) {
                return Err(Error::SamePort(station.rep));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
