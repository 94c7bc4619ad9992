use std::net::Ipv4Addr;

use super::*;
use crate::ids::MacAddr;
use crate::openflow::{Cookie, Ipv4Match, L4Match, Match, Ports};

fn port(number: u32) -> OfPort {
    OfPort::new(number).unwrap()
}

fn flow(table: u8, priority: u16, matches: Match, actions: Vec<Action>) -> Flow {
    Flow { table: TableId(table), priority, cookie: Cookie(0), matches, actions }
}

fn tcp(src: [u8; 4], dst: [u8; 4], ports: (u16, u16)) -> Frame {
    let l4 = L4::Tcp { src: ports.0, dst: ports.1, syn: true };
    let ip = Ip { src: Ipv4Addr::from(src), dst: Ipv4Addr::from(dst), ttl: 64, piece: Piece::Whole, l4 };
    Frame { eth_src: MacAddr::ZERO, eth_dst: MacAddr::ZERO, vlan: None, body: Body::Ipv4(ip) }
}

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];
const C: [u8; 4] = [10, 0, 0, 3];

fn from(src: [u8; 4]) -> Match {
    Match::any().ipv4(Ipv4Match { src: Ipv4Addr::from(src).into(), ..Ipv4Match::default() })
}

fn to_port(port: u16) -> Match {
    let l4 = L4Match::Tcp(Ports { dst: port.into(), ..Ports::default() });
    Match::any().ipv4(Ipv4Match { l4, ..Ipv4Match::default() })
}

fn part(clause: u8) -> Vec<Action> {
    vec![Action::Conjunction { id: 7, clause, clauses: 2 }]
}

#[test]
fn a_conjunction_needs_every_clause() {
    let out = |n| vec![Action::Output(port(n).into())];
    let mut switch = Switch::new(vec![
        flow(0, 10, from(A), part(1)),
        flow(0, 10, from(B), part(1)),
        flow(0, 10, to_port(80), part(2)),
        flow(0, 10, to_port(443), part(2)),
        flow(0, 10, Match::any().conj_id(7), out(9)),
        flow(0, 5, from(A), out(8)),
    ]);
    let mut goes = |src, to| {
        let sent = switch.receive(port(1), tcp(src, B, (1000, to))).unwrap();
        sent.into_iter().map(|(port, _)| port.get()).collect::<Vec<_>>()
    };
    assert_eq!(goes(A, 80), [9]);
    assert_eq!(goes(B, 443), [9]);
    assert_eq!(goes(A, 22), [8], "a half-met conjunction stands in nobody's way");
    assert_eq!(goes(B, 22), [0; 0]);
    assert_eq!(goes(C, 80), [0; 0]);
}

/// As `classifier_lookup__()` has it.
#[test]
fn a_complete_conjunction_leads_to_whatever_the_packet_then_meets() {
    let out = |n| vec![Action::Output(port(n).into())];
    let id = |flow: Match| flow.conj_id(7);
    let goes = |flows: Vec<Flow>| {
        let sent = Switch::new(flows).receive(port(1), tcp(A, B, (1000, 80))).unwrap();
        sent.into_iter().map(|(port, _)| port.get()).collect::<Vec<_>>()
    };
    let clauses = || vec![flow(0, 10, from(A), part(1)), flow(0, 10, to_port(80), part(2))];
    let with = |more: Vec<Flow>| goes([clauses(), more].concat());
    assert_eq!(with(vec![flow(0, 3, id(Match::any()), out(9)), flow(0, 2, Match::any(), out(8))]), [9]);
    assert_eq!(with(vec![flow(0, 3, id(Match::any()), out(9)), flow(0, 4, Match::any(), out(8))]), [8]);
    assert_eq!(with(vec![flow(0, 10, Match::any(), out(8)), flow(0, 10, id(Match::any()), out(9))]), [8]);
    let same_as_a_clause = flow(0, 5, from(A), out(8));
    assert_eq!(with(vec![flow(0, 3, id(Match::any()), out(9)), same_as_a_clause.clone()]), [9], "hidden");
    assert_eq!(with(vec![flow(0, 3, id(from(C)), out(9)), same_as_a_clause]), [8], "leads nowhere");
    let both = [part(1), part(2)].concat();
    assert_eq!(goes(vec![flow(0, 10, from(A), both), flow(0, 10, id(Match::any()), out(9))]), [0; 0]);
}

#[test]
fn priority_then_nothing() {
    let mut switch = Switch::new(vec![
        flow(0, 20, from(A), vec![]),
        flow(0, 10, Match::any(), vec![Action::Output(port(2).into())]),
    ]);
    assert!(switch.receive(port(1), tcp(A, B, (1, 2))).unwrap().is_empty());
    assert_eq!(switch.receive(port(1), tcp(B, A, (1, 2))).unwrap().len(), 1);
    assert!(
        switch.receive(port(2), tcp(B, A, (1, 2))).unwrap().is_empty(),
        "never back to where it came from"
    );
}

#[test]
fn registers_survive_conntrack_and_zones_are_apart() {
    let set = |reg, value: u32| Action::Set(SetField::Reg(reg, value.into()));
    let enter = |zone: u16, ahead| {
        vec![set(Reg::R1, ahead), Action::Ct(Ct::lookup(CtZoneSource::Fixed(zone), TableId(1)))]
    };
    let out = || Action::OutputReg(RegSlice::whole(Reg::R1));
    let state = |flag| Match::any().ct_state(CtFlags::TRK | flag, CtFlags::NONE);
    let mut switch = Switch::new(vec![
        flow(0, 1, Match::any().in_port(port(1)), enter(5, 11)),
        flow(0, 1, Match::any().in_port(port(2)), enter(5, 12)),
        flow(0, 1, Match::any().in_port(port(3)), enter(6, 13)),
        flow(1, 2, state(CtFlags::EST), vec![out()]),
        flow(
            1,
            1,
            state(CtFlags::NEW).reg(Reg::R1, 11),
            vec![Action::Ct(Ct::commit(CtZoneSource::Fixed(5))), out()],
        ),
    ]);
    let mut goes = |from, frame| {
        switch.receive(port(from), frame).unwrap().into_iter().map(|(p, _)| p.get()).next_back()
    };
    assert_eq!(goes(2, tcp(B, A, (80, 1000))), None, "an answer to nothing");
    assert_eq!(goes(1, tcp(A, B, (1000, 80))), Some(11));
    assert_eq!(goes(3, tcp(B, A, (80, 1000))), None, "another zone");
    assert_eq!(goes(2, tcp(B, A, (80, 1000))), Some(12));
    assert_eq!(goes(1, tcp(A, B, (1000, 80))), Some(11));
}

#[test]
fn what_is_not_modelled_is_said() {
    let mut switch = Switch::new(vec![flow(0, 1, Match::any(), vec![Action::Output(Port::Normal)])]);
    assert!(switch.receive(port(1), tcp(A, B, (1, 2))).is_err());
    let mut switch = Switch::new(vec![flow(0, 1, Match::any(), vec![Action::Resubmit(TableId(0))])]);
    assert!(switch.receive(port(1), tcp(A, B, (1, 2))).is_err());
}

#[test]
fn a_later_fragment_shows_no_ports_until_conntrack_had_it() {
    let track = vec![Action::Ct(Ct::lookup(CtZoneSource::Fixed(5), TableId(1)))];
    let mut switch = Switch::new(vec![
        flow(0, 2, to_port(80), vec![Action::Output(port(8).into())]),
        flow(0, 1, Match::any(), track),
        flow(1, 1, to_port(80), vec![Action::Output(port(9).into())]),
    ]);
    let mut piece = tcp(A, B, (1000, 80));
    if let Body::Ipv4(ip) = &mut piece.body {
        ip.piece = Piece::Later;
    }
    let sent = switch.receive(port(1), piece).unwrap();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].0, port(9));
}
