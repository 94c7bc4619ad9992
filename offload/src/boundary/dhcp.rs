//! DHCP. A pod whose port names DHCP servers asks them, past conntrack and policy, and hears these alone. Beyond that DHCP
//! is no connection that anybody may begin, whatever policy says: no pod is asked as a server, and none answers as one.
//!
//! Of a fragment OVS shows no ports, not even of the first one (`rule_dpif_lookup_from_table()`, unless a controller sets
//! `nx-match`), nor of what conntrack has put together, which it still calls a first fragment: there policy decides, as it
//! does of all UDP in fragments.
//!
//! | a pod that has servers of the version | source | destination | ports |
//! |---|---|---|---|
//! | asks | none | broadcast | 68, 67 |
//! | asks again | its own | a server | 68, 67 |
//! | hears | a server | its own; broadcast | 67, 68 |
//! | asks | link-local | all DHCPv6 servers | 546, 547 |
//! | hears | a server | link-local | 547, 546 |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Boundary, EGRESS, INGRESS, MIDSTREAM, NOT_OWN, SPECIAL};
use crate::openflow::{
    Action, Cookie, CtFlags, Flow, FragMatch, Ipv4Match, Ipv6Match, L4Match, Masked, Match,
};

/// Server and client.
pub const PORTS: (u16, u16) = (67, 68);
pub const PORTS6: (u16, u16) = (547, 546);
/// `All_DHCP_Relay_Agents_and_Servers`.
const ALL_SERVERS6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

/// Its questions.
pub fn from_pod(pod: &Boundary) -> Vec<Flow> {
    let frame = || Match::any().in_port(pod.rep).untagged().eth_src(pod.mac);
    let past = |priority, matches| pod.flow(priority, matches, vec![Action::Output(pod.patch.into())]);
    let ask = |src: Ipv4Addr, dst: Ipv4Addr| ipv4(src.into(), dst.into(), (PORTS.1, PORTS.0));
    let servers = servers4(pod);
    let mut flows = Vec::new();
    if !servers.is_empty() {
        flows.push(past(NOT_OWN, frame().ipv4(ask(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST))));
    }
    for server in servers {
        let again = pod.own_ipv4().into_iter().map(|src| past(SPECIAL, frame().ipv4(ask(src, server))));
        flows.extend(again);
    }
    if !servers6(pod).is_empty() {
        flows.extend(pod.own_link_locals().into_iter().map(|src| {
            let ip = ipv6(src.into(), ALL_SERVERS6.into(), (PORTS6.1, PORTS6.0));
            past(SPECIAL, frame().ipv6(ip))
        }));
    }
    flows
}

/// Their answers. Offers come to all, or to the address that is offered.
pub fn to_pod(pod: &Boundary) -> Vec<Flow> {
    let frame = || Match::any().in_port(pod.patch).untagged();
    let past = |matches| pod.flow(SPECIAL, matches, vec![Action::Output(pod.rep.into())]);
    let mut flows = Vec::new();
    for server in servers4(pod) {
        for dst in pod.own_ipv4().into_iter().chain([Ipv4Addr::BROADCAST]) {
            flows.push(past(frame().ipv4(ipv4(server.into(), dst.into(), PORTS))));
        }
    }
    for server in servers6(pod) {
        for dst in pod.own_link_locals() {
            flows.push(past(frame().ipv6(ipv6(server.into(), dst.into(), PORTS6))));
        }
    }
    flows
}

/// Nothing of it is ever new to conntrack, and so nothing is ever known. Here and not before conntrack, where OVS would
/// look at the ports of all UDP.
pub fn common(cookie: Cookie) -> Vec<Flow> {
    let new = || Match::any().ct_state(CtFlags::TRK | CtFlags::NEW, CtFlags::NONE);
    let mut matches: Vec<Match> = both(PORTS)
        .map(|(src, dst)| new().ipv4(Ipv4Match { l4: L4Match::udp(src, dst), ..Ipv4Match::default() }))
        .into();
    matches.extend(
        both(PORTS6)
            .map(|(src, dst)| new().ipv6(Ipv6Match { l4: L4Match::udp(src, dst), ..Ipv6Match::default() })),
    );
    let drop = |table, matches: &Match| Flow {
        table,
        priority: MIDSTREAM,
        cookie,
        matches: matches.clone(),
        actions: Vec::new(),
    };
    [EGRESS, INGRESS].iter().flat_map(|table| matches.iter().map(|it| drop(*table, it))).collect()
}

/// Source and destination, of answers and of questions.
pub fn both((server, client): (u16, u16)) -> [(u16, u16); 2] {
    [(server, client), (client, server)]
}

/// A pod without an address of the version does not ask: OVN answers for addresses that it knows only.
fn servers4(pod: &Boundary) -> Vec<Ipv4Addr> {
    let all = pod.dhcp_servers.iter().filter_map(|ip| match ip {
        IpAddr::V4(ip) if !pod.own_ipv4().is_empty() => Some(*ip),
        _ => None,
    });
    all.collect()
}

fn servers6(pod: &Boundary) -> Vec<Ipv6Addr> {
    let all = pod.dhcp_servers.iter().filter_map(|ip| match ip {
        IpAddr::V6(ip) => Some(*ip),
        IpAddr::V4(_) => None,
    });
    all.collect()
}

fn ipv4(src: Masked<Ipv4Addr>, dst: Masked<Ipv4Addr>, (from, to): (u16, u16)) -> Ipv4Match {
    Ipv4Match { src, dst, frag: FragMatch::No, l4: L4Match::udp(from, to) }
}

fn ipv6(src: Masked<Ipv6Addr>, dst: Masked<Ipv6Addr>, (from, to): (u16, u16)) -> Ipv6Match {
    Ipv6Match { src, dst, frag: FragMatch::No, l4: L4Match::udp(from, to), ..Ipv6Match::default() }
}
