//! Which flow of a table a packet meets.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use super::frame::{Arp, Body, Icmp, Ip, L4, Piece};
use super::{Packet, Unsupported};
use crate::ids::MacAddr;
use crate::openflow::actions::Action;
use crate::openflow::fields::{Bits, Reg, TableId};
use crate::openflow::flow::Flow;
use crate::openflow::matches::{
    ArpMatch, FragMatch, Icmp6Match, IcmpMatch, L4Match, Match, ND_ADVERT, ND_SOLICIT, Payload, Ports,
    VlanMatch,
};
use crate::openflow::{Masked, TCP_ACK, TCP_SYN};

/// The `conj_id` of a packet of which no conjunction is known to be complete.
const NO_CONJUNCTION: u32 = 0;

/// The flow of the highest priority that matches. A complete conjunction counts with its own priority, and leads to
/// whatever the packet meets with the conjunction's id among its fields.
pub fn best<'a>(flows: &'a [Flow], table: TableId, packet: &Packet) -> Result<Option<&'a Flow>, Unsupported> {
    let here: Vec<&Flow> = flows.iter().filter(|flow| flow.table == table).collect();
    if let Some(odd) = here.iter().find(|flow| !flow.matches.other.is_empty()) {
        return Err(Unsupported(format!("match {}", odd.matches)));
    }
    let matching: Vec<&Flow> =
        here.iter().copied().filter(|flow| matches(&flow.matches, packet, NO_CONJUNCTION)).collect();
    let priorities: BTreeSet<u16> = matching.iter().map(|flow| flow.priority).collect();
    for priority in priorities.into_iter().rev() {
        let equals = || matching.iter().copied().filter(|flow| flow.priority == priority);
        if let Some(plain) = equals().find(|flow| clauses(flow).is_none()) {
            return Ok(Some(plain));
        }
        if let Some(flow) = complete(equals()).into_iter().find_map(|id| led_to(&here, packet, id)) {
            return Ok(Some(flow));
        }
    }
    Ok(None)
}

/// The second look-up, in which clauses count no more: any flow may be the answer, not only one that asks for the id.
/// OVS looks at the first of all flows with the same match, so a clause hides those of lower priority.
fn led_to<'a>(here: &[&'a Flow], packet: &Packet, id: u32) -> Option<&'a Flow> {
    let mut matching: Vec<&Flow> =
        here.iter().copied().filter(|flow| matches(&flow.matches, packet, id)).collect();
    matching.sort_by_key(|flow| Reverse(flow.priority));
    let mut hidden = BTreeSet::new();
    matching.into_iter().find(|flow| {
        let is_clause = clauses(flow).is_some();
        if is_clause {
            hidden.insert(&flow.matches);
        }
        !is_clause && !hidden.contains(&flow.matches)
    })
}

/// The (id, clause, clauses) of a flow that is part of conjunctions.
fn clauses(flow: &Flow) -> Option<Vec<(u32, u8, u8)>> {
    let found: Vec<_> = flow
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Conjunction { id, clause, clauses } => Some((*id, *clause, *clauses)),
            _ => None,
        })
        .collect();
    if found.is_empty() { None } else { Some(found) }
}

/// Ids of the conjunctions of which every clause is met. OVS does not look at a flow whose shortest conjunction has more
/// clauses than there are flows at this priority: one flow alone never completes any.
fn complete<'a>(flows: impl Iterator<Item = &'a Flow>) -> Vec<u32> {
    let flows: Vec<_> = flows.filter_map(clauses).collect();
    let mut met: BTreeMap<(u32, u8), BTreeSet<u8>> = BTreeMap::new();
    for clauses in &flows {
        let fewest = clauses.iter().map(|(_, _, clauses)| usize::from(*clauses)).min();
        if fewest.is_some_and(|fewest| fewest > flows.len()) {
            continue;
        }
        for (id, clause, clauses) in clauses {
            met.entry((*id, *clauses)).or_default().insert(*clause);
        }
    }
    met.into_iter()
        .filter(|((_, of), clauses)| clauses.len() == usize::from(*of))
        .map(|((id, _), _)| id)
        .collect()
}

fn matches(wanted: &Match, packet: &Packet, conj_id: u32) -> bool {
    let frame = &packet.frame;
    let vlan = match wanted.vlan {
        VlanMatch::Any => true,
        VlanMatch::Untagged => frame.vlan.is_none(),
        VlanMatch::Tagged => frame.vlan.is_some(),
        VlanMatch::Vid(vid) => frame.vlan == Some(vid),
    };
    wanted.in_port.is_none_or(|port| port == packet.in_port)
        && vlan
        && matches_payload(&wanted.payload, &frame.body)
        && wanted.metadata.covers(0)
        && Reg::ALL.into_iter().all(|reg| wanted.reg_match(reg).covers(packet.reg(reg)))
        && wanted.conj_id.is_none_or(|id| id == conj_id)
        && wanted.ct_state.covers(packet.ct_state)
        && wanted.ct_zone.is_none_or(|zone| zone == packet.ct_zone)
        && wanted.ct_mark.covers(packet.ct_mark)
        && wanted.eth_src.covers(frame.eth_src)
        && wanted.eth_dst.covers(frame.eth_dst)
}

fn matches_payload(wanted: &Payload, body: &Body) -> bool {
    match (wanted, body) {
        (Payload::Any, _) => true,
        (Payload::Other(wanted), Body::Other(is)) => wanted == is,
        (Payload::Arp(wanted), Body::Arp(arp)) => matches_arp(wanted, arp),
        (Payload::Ipv4(wanted), Body::Ipv4(ip)) => {
            wanted.src.covers(ip.src)
                && wanted.dst.covers(ip.dst)
                && matches_frag(wanted.frag, ip.piece)
                && matches_l4(&wanted.l4, ip, false, |wanted, icmp| matches_icmp(*wanted, icmp))
        }
        (Payload::Ipv6(wanted), Body::Ipv6(ip)) => {
            wanted.src.covers(ip.src)
                && wanted.dst.covers(ip.dst)
                && wanted.hops.is_none_or(|hops| hops == ip.ttl)
                && matches_frag(wanted.frag, ip.piece)
                && matches_l4(&wanted.l4, ip, true, matches_icmp6)
        }
        _ => false,
    }
}

fn matches_arp(wanted: &ArpMatch, arp: &Arp) -> bool {
    wanted.op.is_none_or(|op| op == arp.op)
        && wanted.spa.covers(arp.spa)
        && wanted.tpa.covers(arp.tpa)
        && wanted.sha.covers(arp.sha)
        && wanted.tha.covers(arp.tha)
}

fn matches_frag(wanted: FragMatch, piece: Piece) -> bool {
    match wanted {
        FragMatch::Any => true,
        FragMatch::No => piece == Piece::Whole,
        FragMatch::Yes => piece != Piece::Whole,
        FragMatch::First => piece == Piece::First,
        FragMatch::Later => piece == Piece::Later,
        FragMatch::NotLater => piece != Piece::Later,
    }
}

fn matches_l4<A, I>(wanted: &L4Match<I>, ip: &Ip<A>, v6: bool, icmp: impl Fn(&I, &Icmp) -> bool) -> bool {
    // A later fragment has a protocol, but whatever follows reads zero.
    let shown = ip.piece != Piece::Later;
    let ports = |wanted: &Ports, src: u16, dst: u16| {
        let (src, dst) = if shown { (src, dst) } else { (0, 0) };
        wanted.src.covers(src) && wanted.dst.covers(dst)
    };
    match (wanted, &ip.l4) {
        (L4Match::Any, _) => true,
        (L4Match::TcpFlags(wanted), L4::Tcp { syn, .. }) => {
            let flags = if *syn { TCP_SYN } else { TCP_ACK };
            wanted.covers(if shown { flags } else { 0 })
        }
        (L4Match::Tcp(wanted), L4::Tcp { src, dst, .. })
        | (L4Match::Udp(wanted), L4::Udp { src, dst })
        | (L4Match::Sctp(wanted), L4::Sctp { src, dst }) => ports(wanted, *src, *dst),
        (L4Match::Icmp(wanted), L4::Icmp(is)) => {
            if shown {
                icmp(wanted, is)
            } else {
                icmp(wanted, &Icmp { kind: 0, code: 0, id: 0, about: None, nd: None })
            }
        }
        (L4Match::Other(wanted), is) => wanted.get() == is.proto(v6),
        _ => false,
    }
}

fn matches_icmp(wanted: IcmpMatch, icmp: &Icmp) -> bool {
    wanted.kind.is_none_or(|kind| kind == icmp.kind) && wanted.code.is_none_or(|code| code == icmp.code)
}

fn matches_icmp6(wanted: &Icmp6Match, icmp: &Icmp) -> bool {
    // OVS reads the rest of the message only if the code is zero.
    let nd = icmp.nd.filter(|_| icmp.code == 0);
    let (target, address) = nd.map_or((Ipv6Addr::UNSPECIFIED, MacAddr::ZERO), |nd| (nd.target, nd.address));
    let both = |wanted_target: &Masked<Ipv6Addr>, wanted_address: &Masked<MacAddr>| {
        covers(*wanted_target, target) && covers(*wanted_address, address)
    };
    match wanted {
        Icmp6Match::Any => true,
        Icmp6Match::Type(kind, code) => kind.get() == icmp.kind && code.is_none_or(|code| code == icmp.code),
        Icmp6Match::Solicit { target, sll } => icmp.kind == ND_SOLICIT && both(target, sll),
        Icmp6Match::Advert { target, tll } => icmp.kind == ND_ADVERT && both(target, tll),
    }
}

fn covers<T: Bits>(wanted: Masked<T>, is: T) -> bool {
    wanted.covers(is)
}
