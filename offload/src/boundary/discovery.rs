//! Neighbour discovery (RFC 4861) and multicast listener discovery (RFC 2710, RFC 3810). They pass without conntrack and
//! without policy, so what passes is what a host on a link has to say and to hear, and no more.
//!
//! Two steps. [`CLASSIFY`] knows such a message by its type and by the pod's own source, and sends it on; the tables here
//! look at the hop limit, the destination and the target. In one step OVS would look at the hop limit of all IPv6 to and
//! from the same addresses: a flow of its own for every distance, which some hardware does not even take.
//!
//! | from a pod | source | destination | hop limit |
//! |---|---|---|---|
//! | router solicitation | its own, none | all routers | 255 |
//! | neighbour solicitation of a target on its link | its own | on its link; a solicited-node group | 255 |
//! | neighbour solicitation of its own address | none | that address's solicited-node group | 255 |
//! | neighbour advertisement of its own address | its own | on its link; all nodes | 255 |
//! | MLD report, of version 1 | link-local, none | the group, none that MLD is silent about | 1 |
//! | MLD done | link-local, none | all routers | 1 |
//! | MLD report, of version 2 | link-local, none | all MLDv2 routers | 1 |
//!
//! | to a pod | source | destination | hop limit |
//! |---|---|---|---|
//! | router advertisement | link-local | its own; all nodes | 255 |
//! | redirect | link-local | its own | 255 |
//! | neighbour solicitation of its address | on its link | that address, its solicited-node group | 255 |
//! | the same, to detect a duplicate | none | that solicited-node group | 255 |
//! | neighbour advertisement of a target on its link | on its link | its own; all nodes | 255 |
//! | MLD query | link-local | a group | 1 |
//!
//! What only routers hear reaches no pod: router solicitations, MLD reports, which other listeners do without.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::{
    Boundary, CLASSIFY, LINK_FROM_POD, LINK_TO_POD, MLD_REPORTS, NO_SPECIAL, OWN, ROUTER_SOLICITATION,
    SPECIAL,
};
use crate::ids::MacAddr;
use crate::openflow::{
    Action, Cookie, Flow, FragMatch, Icmp6Match, Ipv6Match, L4Match, Masked, Match, ND_ADVERT, ND_SOLICIT,
    TableId,
};

pub const ROUTER_ADVERTISEMENT: u8 = 134;
pub const REDIRECT: u8 = 137;
const MLD_QUERY: u8 = 130;
const MLD_REPORT: u8 = 131;
const MLD_DONE: u8 = 132;
const MLD2_REPORT: u8 = 143;

/// RFC 4861: no router has let it by.
pub const ND_HOPS: u8 = 255;
/// RFC 2710: no router will.
const MLD_HOPS: u8 = 1;

pub const NOBODY: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
pub const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const ALL_MLD2_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);

/// `fe80::/10`
pub const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
pub const GROUPS: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8);
pub const SOLICITED_NODES: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0), 104);

/// The group in which whoever has the address hears that it is asked for.
pub fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., g, h] = ip.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (g & 0xff), h)
}

/// What a pod may say.
pub fn from_pod(pod: &Boundary) -> Vec<Flow> {
    let own = pod.own_ipv6();
    if own.is_empty() {
        return Vec::new();
    }
    let frame = Match::any().in_port(pod.rep).untagged().eth_src(pod.mac);
    let mut flows = Vec::new();
    let mut enter = |src: Ipv6Addr, kinds: &[u8]| {
        for kind in kinds {
            flows.push(entry(pod, frame.clone(), src.into(), *kind, LINK_FROM_POD));
        }
    };
    for src in &own {
        enter(*src, &[ROUTER_SOLICITATION, ND_SOLICIT, ND_ADVERT]);
    }
    enter(NOBODY, &[ROUTER_SOLICITATION, ND_SOLICIT]);
    for src in pod.own_link_locals().into_iter().chain([NOBODY]) {
        enter(src, &MLD_REPORTS);
    }

    let to = |hops, dst: Masked<Ipv6Addr>, icmp| Ipv6Match { dst, hops: Some(hops), ..of(icmp) };
    let mut pass = |priority, ip: Ipv6Match| {
        let matches = Match::any().in_port(pod.rep).ipv6(ip);
        let actions = vec![Action::Output(pod.patch.into())];
        flows.push(Flow { table: LINK_FROM_POD, priority, cookie: pod.cookie, matches, actions });
    };
    // An address that is not there reads as zero.
    let absent = Masked::exact(MacAddr::ZERO);
    let own_or_absent = [Masked::exact(pod.mac), absent];
    let link = pod.link_ipv6();
    for target in &own {
        let asked = Icmp6Match::Solicit { target: (*target).into(), sll: absent };
        pass(SPECIAL, Ipv6Match { src: NOBODY.into(), ..to(ND_HOPS, solicited_node(*target).into(), asked) });
    }
    for option in own_or_absent {
        for net in &link {
            let asked = Icmp6Match::Solicit { target: (*net).into(), sll: option };
            for dst in [SOLICITED_NODES, *net] {
                pass(OWN, to(ND_HOPS, dst.into(), asked));
            }
        }
        for target in &own {
            let said = Icmp6Match::Advert { target: (*target).into(), tll: option };
            for dst in link.iter().map(|net| Masked::from(*net)).chain([ALL_NODES.into()]) {
                pass(OWN, to(ND_HOPS, dst, said));
            }
        }
    }
    for (kind, hops, dst) in [
        (ROUTER_SOLICITATION, ND_HOPS, ALL_ROUTERS.into()),
        (MLD_REPORT, MLD_HOPS, GROUPS.into()),
        (MLD_DONE, MLD_HOPS, ALL_ROUTERS.into()),
        (MLD2_REPORT, MLD_HOPS, ALL_MLD2_ROUTERS.into()),
    ] {
        let priority = if kind == MLD_REPORT { OWN } else { SPECIAL };
        pass(priority, to(hops, dst, Icmp6Match::kind(kind)));
    }
    flows
}

/// What a pod may be told.
pub fn to_pod(pod: &Boundary) -> Vec<Flow> {
    let own = pod.own_ipv6();
    if own.is_empty() {
        return Vec::new();
    }
    let frame = Match::any().in_port(pod.patch).untagged();
    let kinds = [ROUTER_ADVERTISEMENT, ND_SOLICIT, ND_ADVERT, REDIRECT, MLD_QUERY];
    let mut flows: Vec<Flow> =
        kinds.map(|kind| entry(pod, frame.clone(), Masked::any(), kind, LINK_TO_POD)).into();

    let mut pass = |src: Masked<Ipv6Addr>, dst: Masked<Ipv6Addr>, hops, icmp| {
        let matches =
            Match::any().in_port(pod.patch).ipv6(Ipv6Match { src, dst, hops: Some(hops), ..of(icmp) });
        let actions = vec![Action::Output(pod.rep.into())];
        flows.push(Flow { table: LINK_TO_POD, priority: SPECIAL, cookie: pod.cookie, matches, actions });
    };
    let link: Vec<Masked<Ipv6Addr>> = pod.link_ipv6().into_iter().map(Masked::from).collect();
    for target in &own {
        let group = Masked::exact(solicited_node(*target));
        let asked = |sll| Icmp6Match::Solicit { target: (*target).into(), sll };
        pass(NOBODY.into(), group, ND_HOPS, asked(Masked::exact(MacAddr::ZERO)));
        for src in &link {
            pass(*src, (*target).into(), ND_HOPS, asked(Masked::any()));
            pass(*src, group, ND_HOPS, asked(Masked::any()));
        }
    }
    let router = Masked::from(LINK_LOCAL);
    for dst in own.iter().copied().chain([ALL_NODES]).map(Masked::exact) {
        for (src, target) in link.iter().flat_map(|src| link.iter().map(move |target| (*src, *target))) {
            pass(src, dst, ND_HOPS, Icmp6Match::Advert { target, tll: Masked::any() });
        }
        pass(router, dst, ND_HOPS, Icmp6Match::kind(ROUTER_ADVERTISEMENT));
    }
    for dst in own {
        pass(router, dst.into(), ND_HOPS, Icmp6Match::kind(REDIRECT));
    }
    pass(router, GROUPS.into(), MLD_HOPS, Icmp6Match::kind(MLD_QUERY));
    flows
}

/// What is the same for all pods: the exceptions to the above.
pub fn common(cookie: Cookie) -> Vec<Flow> {
    let drop = |ip| {
        let matches = Match::any().ipv6(ip);
        Flow { table: LINK_FROM_POD, priority: NO_SPECIAL, cookie, matches, actions: Vec::new() }
    };
    // Of the interface, and of a scope that there is not (RFC 2710, section 5: no message is ever sent for these).
    let narrow = Masked::new(GROUPS.addr(), Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 0));
    let silent = [narrow, Masked::exact(ALL_NODES)];
    let mut flows: Vec<Flow> =
        silent.map(|dst| drop(Ipv6Match { dst, ..of(Icmp6Match::kind(MLD_REPORT)) })).into();
    flows.push(drop(Ipv6Match { src: NOBODY.into(), ..of(Icmp6Match::kind(ND_SOLICIT)) }));
    flows
}

/// Out of [`CLASSIFY`]. Whole packets only (RFC 6980): in a fragment OVS sees no options.
fn entry(pod: &Boundary, frame: Match, src: Masked<Ipv6Addr>, kind: u8, table: TableId) -> Flow {
    let ip = Ipv6Match { src, frag: FragMatch::No, ..of(Icmp6Match::kind(kind)) };
    let actions = vec![Action::Resubmit(table)];
    Flow { table: CLASSIFY, priority: SPECIAL, cookie: pod.cookie, matches: frame.ipv6(ip), actions }
}

fn of(icmp: Icmp6Match) -> Ipv6Match {
    Ipv6Match { l4: L4Match::Icmp(icmp), ..Ipv6Match::default() }
}
