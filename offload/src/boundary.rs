//! The boundary of a pod: which frames may leave it and which may reach it, as flows of `br-edge`.
//!
//! A pure compiler: a [`Boundary`] in, flows out. It never asks anybody and cannot fail: what makes no sense (a group
//! address as the pod's own, one port in two roles) yields no flows, and without flows nothing passes. The tables:
//!
//! | table | meets | does |
//! |---|---|---|
//! | 0 | every frame | the pod's own, and what its host must speak to live on a link: on; all else: dropped |
//! | 1, 6 | neighbour and listener discovery, from and to the pod | what a host on a link says and hears: out |
//! | 7 | ARP for a pod that may be a neighbour's announcement | is sender and target one: out |
//! | 4 | what the pod sends, tracked | known connections pass; else on to 5 |
//! | 5 | what else the pod sends | new connections as the rule set says |
//! | 9, 10 | what the pod is sent | the same |
//! | 12 | what 5 and 10 allow | the first packet of a connection commits it, if the pod may have one more; out |
//!
//! All pods share the tables from 4 on. Table 0 leaves in registers the port that lies ahead ([`AHEAD`]) and the
//! [`ZONE`]; tables 4 and 9 add [`RULE_SET`], whether the pod is [`RULED`], and [`TIER`], where the rules begin. What the
//! rule sets say is compiled by [`crate::ruleset`], whose module has the table of all priorities; here is only what holds
//! whatever they say, and what holds without any.
//!
//! What the rules are is not known before conntrack, on purpose: OVS keeps the registers of a packet that it hands to
//! conntrack as part of the flow behind it (`struct frozen_metadata`). Were the rule set among them, then each change of
//! policy would send every packet of every connection of the pod, carried by the hardware or not, up to ovs-vswitchd,
//! until the flows were made anew. As it is, the flows of known connections say the same before and after, and stay.
//!
//! A rule leaves its [`RuleMark`] in the connections that it admits. Nothing here ever matches it, for the same reason:
//! what a connection was admitted by is said for people and for who judges connections anew, and decides nothing. (OVS
//! matches on `ct_mark` only where a flow does; what a commit writes does not count, `xlate.c`,
//! `compose_conntrack_action()`.) What 12 asks for is one bit, and only of what is still `+new`.
//!
//! A pod's share of what begins: table 12 has for each pod and direction a flow that commits, behind the pod's meter for
//! that direction ([`Boundary::meters`]), or, of a pod that has as many connections as it may ([`Boundary::full`]), one that
//! drops. What is sent on a connection that was committed before and that nobody has answered is `+new` still; it is told by
//! [`RuleMark::COMMITTED`], needs no commit, and counts for nothing. Denied packets never get here: who floods a pod with
//! those takes nothing of its share. The kernel's own limit of a zone's connections (`CT_Zone.limit`) is of no use: it
//! holds where Open vSwitch's kernel datapath commits, and these flows are in TC, whose `act_ct` does not look at it. To
//! keep them out of TC, by a field that TC lacks, was tried: a packet that has left TC once meets no flow in TC any more,
//! so those of OVN behind it cost an upcall each.
//!
//! What stays outside of conntrack: ARP, neighbour discovery, MLD, and DHCP where it is allowed. Conntrack calls ND and
//! MLD invalid, whichever way they go (`nf_conntrack_proto_icmpv6.c`), so a message of these that found its way into
//! conntrack, as fragments for example, is dropped there.
//!
//! Conntrack takes a TCP segment from the midst of a connection that it does not know for the first of a new one
//! (`nf_conntrack_tcp_loose`). A connection that a policy cut would begin anew with the next segment of the side that
//! may start connections, and the other side's would pass as its answers. So of a pod that has a policy, TCP begins with
//! SYN only. Pods without one keep their connections through a loss of conntrack's memory.
//!
//! Every flow of table 0 asks for frames without a VLAN tag: a match on IP would otherwise also match inside of a tag.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::ids::{CtZone, MacAddr, OfPort};
use crate::openflow::{
    Action, Cookie, Ct, CtExec, CtFlags, CtZoneSource, Flow, Icmp6Match, IcmpMatch, Ipv4Match, Ipv6Match,
    L4Match, Masked, Match, Meter, RegSlice, SetField, TCP_SYN, TableId,
};
use crate::policy::RuleMark;
use crate::ruleset::RuleSetId;
use crate::tables::{
    ADMITTED_BY, AHEAD, ANNOUNCED, CLASSIFY, COMMIT, EGRESS, FROM_POD, INGRESS, LINK_FROM_POD, LINK_TO_POD,
    RELATED, RULE_SET, RULED, TIER, TO_POD, UNRULED, ZONE, allow,
};

mod arp;
pub(crate) mod dhcp;
pub(crate) mod discovery;
mod from_pod;
mod to_pod;

/// Priorities in tables 4 and 9.
const ESTABLISHED: u16 = 60_000;
const JUDGE: u16 = 100;

/// The highest priority in tables 5 and 10.
const MIDSTREAM: u16 = 55_000;

/// Priorities in table 12.
const COMMITTED: u16 = 200;
const FRESH: u16 = 100;

/// Priorities in table 0, and in those of discovery.
const SPECIAL: u16 = 300;
const NO_SPECIAL: u16 = 290;
const OWN: u16 = 200;
/// Below what it cannot be mistaken for: whoever is above is found first, and OVS then need not look at these fields.
const NOT_OWN: u16 = 100;

/// ICMPv6 types of neighbour discovery: router and neighbour solicitation and advertisement, redirect.
const ND_TYPES: [u8; 5] = [133, 134, 135, 136, 137];
pub(crate) const ROUTER_SOLICITATION: u8 = 133;
/// Of multicast listener discovery: query, report, done, report of version 2.
const MLD_TYPES: [u8; 4] = [130, 131, 132, 143];
/// What a listener sends. Queries are a router's.
const MLD_REPORTS: [u8; 3] = [131, 132, 143];

/// Errors that belong to a connection: unreachable, time exceeded, bad parameter. Not redirects, which conntrack would
/// also call related: a pod is no router.
const ICMP_ERRORS: [u8; 3] = [3, 11, 12];
const ICMP6_ERRORS: [u8; 4] = [1, 2, 3, 4];

/// One pod's attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary {
    /// The pod's representor.
    pub rep: OfPort,
    /// The patch port to the rest of the network.
    pub patch: OfPort,
    pub zone: CtZone,
    pub mac: MacAddr,
    /// Without an address of a version, nothing of that version passes.
    pub ipv4: Vec<Ipv4Addr>,
    pub ipv6: Vec<Ipv6Addr>,
    /// Where its neighbours and gateways are, beside the link-local addresses: what it may ask for. A prefix that also
    /// holds groups, or the address of nobody, is none.
    pub on_link: Vec<IpNet>,
    /// Whom the pod may ask for its address, and hear. None: DHCP is nothing of its own.
    pub dhcp_servers: Vec<IpAddr>,
    /// What it may start, and what may reach it. Flows of these sets must be there, or nothing new passes.
    pub egress: RuleSetId,
    pub ingress: RuleSetId,
    /// How many connections a second may begin, in each direction. `None`: as many as come.
    pub rate: Option<NonZeroU32>,
    /// It has as many connections as it may: no other begins, in either direction.
    pub full: bool,
    /// Names the attachment on its flows.
    pub cookie: Cookie,
}

impl Boundary {
    /// This pod's flows. They need [`common_flows`] beside them.
    pub fn flows(&self) -> Vec<Flow> {
        if !self.mac.is_unicast() || self.rep == self.patch {
            return Vec::new();
        }
        let mut flows = from_pod::flows(self);
        flows.extend(to_pod::flows(self));
        if !flows.is_empty() {
            flows.push(self.judge(FROM_POD, self.rep, EGRESS, self.egress));
            flows.push(self.judge(TO_POD, self.patch, INGRESS, self.ingress));
            flows.extend([self.rep, self.patch].into_iter().flat_map(|entered| self.commit(entered)));
        }
        flows
    }

    /// The meters that its flows name: of what it begins, and of what is begun with it. Their numbers are those of the ports
    /// that it enters by. They stay, with what they have counted, while the pod is [`Self::full`].
    pub fn meters(&self) -> Vec<Meter> {
        let Some(rate) = self.rate.map(NonZeroU32::get) else { return Vec::new() };
        [self.rep, self.patch].map(|port| Meter { id: port.get(), rate, burst: rate }).to_vec()
    }

    /// The pod's own IPv4 addresses.
    fn own_ipv4(&self) -> Vec<Ipv4Addr> {
        let is_own = |ip: &Ipv4Addr| {
            !(ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast() || ip.is_loopback())
        };
        sorted(self.ipv4.iter().copied().filter(is_own))
    }

    /// The pod's own IPv6 addresses: those given, and the one that it derives from its MAC.
    fn own_ipv6(&self) -> Vec<Ipv6Addr> {
        let is_own = |ip: &Ipv6Addr| !(ip.is_unspecified() || ip.is_multicast() || ip.is_loopback());
        let given = sorted(self.ipv6.iter().copied().filter(is_own));
        if given.is_empty() { given } else { sorted(given.into_iter().chain([self.mac.link_local()])) }
    }

    /// Where the pod's neighbours are, and its own addresses.
    fn link_ipv4(&self) -> Vec<Ipv4Net> {
        let is_link = |net: &Ipv4Net| !net.contains(&Ipv4Addr::UNSPECIFIED) && net.broadcast() < arp::GROUPS;
        let given = self.on_link.iter().filter_map(|net| match net {
            IpNet::V4(net) => Some(net.trunc()),
            IpNet::V6(_) => None,
        });
        let own = self.own_ipv4().into_iter().map(Ipv4Net::from);
        Ipv4Net::aggregate(&given.filter(is_link).chain(own).collect())
    }

    /// Where the pod's neighbours are.
    fn link_ipv6(&self) -> Vec<Ipv6Net> {
        link_ipv6(self.on_link.iter().filter_map(|net| match net {
            IpNet::V6(net) => Some(*net),
            IpNet::V4(_) => None,
        }))
    }

    fn own_link_locals(&self) -> Vec<Ipv6Addr> {
        self.own_ipv6().into_iter().filter(Ipv6Addr::is_unicast_link_local).collect()
    }

    fn flow(&self, priority: u16, matches: Match, actions: Vec<Action>) -> Flow {
        Flow { table: CLASSIFY, priority, cookie: self.cookie, matches, actions }
    }

    /// Into conntrack, and on to `table` with `ahead` as the way out.
    fn track(&self, table: TableId, ahead: OfPort) -> Vec<Action> {
        let set = |reg, value: u32| Action::Set(SetField::Reg(reg, value.into()));
        vec![
            set(AHEAD, ahead.get()),
            set(ZONE, u32::from(self.zone.get())),
            Action::Ct(Ct::lookup(self.zone, table)),
        ]
    }

    /// What no connection is known for, from `table` on to that of the rules.
    fn judge(&self, table: TableId, entered: OfPort, rules: TableId, id: RuleSetId) -> Flow {
        let set = |reg, value: u32| Action::Set(SetField::Reg(reg, value.into()));
        let is_ruled = [self.egress, self.ingress].iter().any(|id| *id != RuleSetId::NONE);
        let actions =
            vec![set(RULE_SET, id.0), set(RULED, is_ruled.into()), set(TIER, 0), Action::Resubmit(rules)];
        Flow { table, priority: JUDGE, cookie: self.cookie, matches: Match::any().in_port(entered), actions }
    }
}

impl Boundary {
    /// The first packet of a connection that is allowed.
    fn commit(&self, entered: OfPort) -> [Flow; 2] {
        let by = CtExec::CopyToMark(RegSlice { reg: ADMITTED_BY, offset: 0, bits: RuleMark::BITS });
        let exec = vec![by, CtExec::SetMark(committed())];
        let commit = Ct { exec, ..Ct::commit(CtZoneSource::Reg(RegSlice::low16(ZONE))) };
        let metered = self.rate.map(|_| Action::Meter(entered.get()));
        let actions: Vec<Action> = if self.full {
            Vec::new()
        } else {
            metered.into_iter().chain([Action::Ct(commit), pass()]).collect()
        };
        // OVS takes a commit only in a flow that says which version of IP it is for.
        let any = Match::any().in_port(entered);
        [any.clone().ipv4(Ipv4Match::default()), any.ipv6(Ipv6Match::default())].map(|matches| Flow {
            table: COMMIT,
            priority: FRESH,
            cookie: self.cookie,
            matches,
            actions: actions.clone(),
        })
    }
}

/// Prefixes of which none holds another, the link-local one among them.
pub(crate) fn link_ipv6(given: impl Iterator<Item = Ipv6Net>) -> Vec<Ipv6Net> {
    let groups = discovery::GROUPS;
    let is_link = |net: &Ipv6Net| {
        !net.contains(&Ipv6Addr::UNSPECIFIED) && !net.contains(&groups) && !groups.contains(net)
    };
    let given = given.map(|net| net.trunc()).filter(is_link);
    Ipv6Net::aggregate(&given.chain([discovery::LINK_LOCAL]).collect())
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.collect();
    items.sort();
    items.dedup();
    items
}

/// The flows that all pods share.
pub fn common_flows(cookie: Cookie) -> Vec<Flow> {
    let mut flows = discovery::common(cookie);
    flows.extend(arp::common(cookie, pass()));
    flows.extend(dhcp::common(cookie));
    // What no flow above has let by must not be taken for the pod's ordinary traffic.
    flows.extend(ND_TYPES.into_iter().chain(MLD_TYPES).map(|kind| {
        let l4 = L4Match::Icmp(Icmp6Match::kind(kind));
        let matches = Match::any().ipv6(Ipv6Match { l4, ..Ipv6Match::default() });
        Flow { table: CLASSIFY, priority: NO_SPECIAL, cookie, matches, actions: Vec::new() }
    }));
    for table in [FROM_POD, TO_POD] {
        let established = Match::any().ct_state(CtFlags::TRK | CtFlags::EST, CtFlags::NONE);
        flows.push(Flow {
            table,
            priority: ESTABLISHED,
            cookie,
            matches: established,
            actions: vec![pass()],
        });
    }
    for table in [EGRESS, INGRESS] {
        flows.extend(unknown_flows(table, cookie));
    }
    let known = Match { ct_mark: committed(), ..Match::any() };
    flows.push(Flow { table: COMMIT, priority: COMMITTED, cookie, matches: known, actions: vec![pass()] });
    flows
}

/// What a boundary has committed.
fn committed() -> Masked<u32> {
    Masked::new(RuleMark::COMMITTED, RuleMark::COMMITTED)
}

fn pass() -> Action {
    Action::OutputReg(RegSlice::whole(AHEAD))
}

/// What belongs to no connection, or is the first of one.
fn unknown_flows(table: TableId, cookie: Cookie) -> Vec<Flow> {
    let flow = |priority, matches, actions| Flow { table, priority, cookie, matches, actions };
    let related = || Match::any().ct_state(CtFlags::TRK | CtFlags::REL, CtFlags::NEW);
    let new =
        || Match::any().ct_state(CtFlags::TRK | CtFlags::NEW, CtFlags::NONE).reg(RULE_SET, RuleSetId::NONE.0);
    let icmp = |kind| L4Match::Icmp(IcmpMatch { kind: Some(kind), code: None });

    let mut flows = Vec::new();
    let midstream = || Match::any().ct_state(CtFlags::TRK | CtFlags::NEW, CtFlags::NONE).reg(RULED, 1);
    let no_syn = Masked::new(0, TCP_SYN);
    let l4 = L4Match::TcpFlags(no_syn);
    flows.push(flow(MIDSTREAM, midstream().ipv4(Ipv4Match { l4, ..Ipv4Match::default() }), Vec::new()));
    let l4 = L4Match::TcpFlags(no_syn);
    flows.push(flow(MIDSTREAM, midstream().ipv6(Ipv6Match { l4, ..Ipv6Match::default() }), Vec::new()));
    for kind in ICMP_ERRORS {
        let matches = related().ipv4(Ipv4Match { l4: icmp(kind), ..Ipv4Match::default() });
        flows.push(flow(RELATED, matches, vec![pass()]));
    }
    for kind in ICMP6_ERRORS {
        let l4 = L4Match::Icmp(Icmp6Match::kind(kind));
        flows.push(flow(RELATED, related().ipv6(Ipv6Match { l4, ..Ipv6Match::default() }), vec![pass()]));
    }
    flows.push(flow(UNRULED, new(), allow(None)));
    flows
}

#[cfg(test)]
mod tests;
