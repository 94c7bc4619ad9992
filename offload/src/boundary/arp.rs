//! ARP (RFC 826, RFC 5227): what a host on a link has to ask for and to answer. It passes without conntrack and policy.
//!
//! | from a pod | sender | target |
//! |---|---|---|
//! | request | its own | on its link |
//! | probe | none | its own |
//! | reply | its own | on its link; none: to a probe |
//!
//! | to a pod | sender | target |
//! |---|---|---|
//! | request | on its link; none: a probe | its own |
//! | reply | on its link | its own |
//! | reply to its probe | its own address, which somebody else has | none |
//! | announcement | on its link | the sender |
//!
//! That two fields of a frame are equal is nothing that a flow can say, so one clause of a conjunction says it of each
//! bit. ([`ANNOUNCED`]; all pods share it.) Without it whatever a pod asks for would reach its neighbours.

use std::net::Ipv4Addr;

use super::{AHEAD, ANNOUNCED, Boundary, OWN, SPECIAL};
use crate::openflow::{Action, ArpMatch, Cookie, Flow, Masked, Match, SetField};

const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const NOBODY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
/// Groups and broadcast begin there.
pub const GROUPS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 0);
/// Of the conjunction. No other one is in its table.
const SAME: u32 = 1;

/// What a pod may say.
pub fn from_pod(pod: &Boundary) -> Vec<Flow> {
    let own = pod.own_ipv4();
    let link: Vec<Masked<Ipv4Addr>> = pod.link_ipv4().into_iter().map(Masked::from).collect();
    let mut flows = Vec::new();
    let mut pass = |op, spa: Ipv4Addr, tpa: Masked<Ipv4Addr>| {
        let arp = ArpMatch { op: Some(op), spa: spa.into(), tpa, sha: pod.mac.into(), ..ArpMatch::default() };
        let matches = Match::any().in_port(pod.rep).untagged().eth_src(pod.mac).arp(arp);
        flows.push(pod.flow(SPECIAL, matches, vec![Action::Output(pod.patch.into())]));
    };
    for ip in own {
        pass(REQUEST, NOBODY, ip.into());
        for tpa in &link {
            pass(REQUEST, ip, *tpa);
            pass(REPLY, ip, *tpa);
        }
        pass(REPLY, ip, NOBODY.into());
    }
    flows
}

/// What a pod may be told.
pub fn to_pod(pod: &Boundary) -> Vec<Flow> {
    let own = pod.own_ipv4();
    if own.is_empty() {
        return Vec::new();
    }
    let link: Vec<Masked<Ipv4Addr>> = pod.link_ipv4().into_iter().map(Masked::from).collect();
    let out = vec![Action::Output(pod.rep.into())];
    let mut flows = Vec::new();
    let mut add = |priority, op, spa: Masked<Ipv4Addr>, tpa: Masked<Ipv4Addr>, actions: &[Action]| {
        let arp = ArpMatch { op: Some(op), spa, tpa, ..ArpMatch::default() };
        let matches = Match::any().in_port(pod.patch).untagged().arp(arp);
        flows.push(pod.flow(priority, matches, actions.to_vec()));
    };
    for ip in own {
        for spa in &link {
            add(SPECIAL, REQUEST, *spa, ip.into(), &out);
            add(SPECIAL, REPLY, *spa, ip.into(), &out);
        }
        add(SPECIAL, REQUEST, NOBODY.into(), ip.into(), &out);
        add(SPECIAL, REPLY, ip.into(), NOBODY.into(), &out);
    }
    let compared = [Action::Set(SetField::Reg(AHEAD, pod.rep.get().into())), Action::Resubmit(ANNOUNCED)];
    for net in link {
        for op in [REQUEST, REPLY] {
            add(OWN, op, net, net, &compared);
        }
    }
    flows
}

/// Sender and target are one.
pub fn common(cookie: Cookie, out: Action) -> Vec<Flow> {
    let flow =
        |matches, action| Flow { table: ANNOUNCED, priority: OWN, cookie, matches, actions: vec![action] };
    let clause = |bit: u8, set: bool| {
        let mask = 1u32 << bit;
        let same = Masked::new(Ipv4Addr::from(if set { mask } else { 0 }), Ipv4Addr::from(mask));
        let arp = ArpMatch { spa: same, tpa: same, ..ArpMatch::default() };
        let action = Action::Conjunction { id: SAME, clause: bit.saturating_add(1), clauses: 32 };
        flow(Match::any().arp(arp), action)
    };
    let mut flows: Vec<Flow> = (0..32).flat_map(|bit| [false, true].map(|set| clause(bit, set))).collect();
    flows.push(flow(Match::any().conj_id(SAME), out));
    flows
}
