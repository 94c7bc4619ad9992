//! The interpreter by hand: what a reader can check by eye.

use super::*;
use crate::flower::{
    CtKey, Handle, Installed, IpKey, Key, L4 as KeyL4, NextChain, Payload, Ports, Rule, VlanKey, VlanTag,
};
use crate::ids::{CtZone, MacAddr};
use crate::openflow::Masked;
use crate::openflow::interpret::Ip;

const IN: IfIndex = IfIndex(1);
const OUT: IfIndex = IfIndex(2);

fn frame(dst_port: u16, piece: Piece) -> Frame {
    let l4 = L4::Tcp { src: 1000, dst: dst_port, syn: true };
    let ip = Ip { src: [10, 0, 0, 1].into(), dst: [10, 0, 0, 2].into(), ttl: 64, piece, l4 };
    Frame { eth_src: MacAddr([2; 6]), eth_dst: MacAddr([4; 6]), vlan: None, body: Body::Ipv4(ip) }
}

fn tcp(dst: impl Into<Masked<u16>>) -> Key {
    let l4 = KeyL4::Tcp(Ports { dst: dst.into(), ..Ports::default() });
    Key { payload: Payload::Ipv4(IpKey { l4, ..IpKey::default() }), ..Key::default() }
}

/// Filters in order: chain, preference, key, actions, in hardware.
fn nic(lines: Vec<(u32, u16, Key, Actions, bool)>) -> Nic {
    let mut filters = PortFilters::default();
    for (chain, pref, key, actions, in_hw) in lines {
        let rule = Some(Rule { key, actions, skip: Skip::None });
        filters.insert(
            ChainIndex(chain),
            Pref::new(pref).unwrap(),
            Installed { handle: Handle(1), rule, in_hw },
        );
    }
    Nic::new(&[(IN, filters)].into())
}

fn out() -> Actions {
    Actions::new(vec![], End::Redirect(OUT))
}

fn goto(chain: u32) -> Actions {
    Actions::new(vec![], End::Goto(NextChain::new(chain).unwrap()))
}

/// `lab/inversion.sh`: a drop that the hardware refused, over a redirect that it took.
#[test]
fn an_inversion_shows_in_hardware_only() {
    let mut nic = nic(vec![(0, 1, tcp(80), Actions::drop(), false), (0, 2, Key::default(), out(), true)]);
    let mut end = |engine| nic.receive(IN, frame(80, Piece::Whole), engine).unwrap().end;
    assert_eq!(end(Engine::Software), Ending::Dropped);
    assert_eq!(end(Engine::Eswitch), Ending::Redirected);
}

#[test]
fn a_miss_goes_on_in_software_in_its_chain() {
    let mut nic = nic(vec![(0, 1, Key::default(), goto(1), true), (1, 1, tcp(80), out(), false)]);
    let hit = nic.receive(IN, frame(80, Piece::Whole), Engine::Eswitch).unwrap();
    assert_eq!((hit.end, hit.in_hardware, hit.sent.len()), (Ending::Redirected, false, 1));
    let miss = nic.receive(IN, frame(81, Piece::Whole), Engine::Eswitch).unwrap();
    assert_eq!((miss.end, miss.sent.len()), (Ending::Unmatched(ChainIndex(1)), 0));
}

#[test]
fn a_fragment_shows_no_ports_until_conntrack_has_it() {
    let zone = CtZone::new(7).unwrap();
    let track = Actions::new(vec![Step::Ct(CtAction { zone, commit: false })], goto(1).end);
    let lines = |first: Key| {
        vec![
            (0, 1, first, out(), true),
            (0, 2, Key { payload: Payload::Ipv4(IpKey::default()), ..Key::default() }, track.clone(), true),
            (1, 1, Key { ct: CtKey::new_connection(), ..tcp(80) }, out(), true),
        ]
    };
    let mut nic = nic(lines(tcp(80)));
    let seen = |nic: &mut Nic, piece| {
        nic.receive(IN, frame(80, piece), Engine::Software).unwrap().last.unwrap().chain
    };
    assert_eq!(seen(&mut nic, Piece::Whole), ChainIndex(0));
    assert_eq!(seen(&mut nic, Piece::First), ChainIndex(1));
    assert_eq!(seen(&mut nic, Piece::Later), ChainIndex(1));
}

#[test]
fn no_tag_means_untagged_only_beside_a_protocol() {
    let any = vec![(0, 1, Key::default(), out(), true)];
    let ip = vec![(0, 1, tcp(80), out(), true)];
    let vlan = vec![(
        0,
        1,
        Key { vlan: VlanKey::Id(5), ..tcp(80) },
        Actions::new(vec![Step::VlanPop], out().end),
        true,
    )];
    let tagged = |id| Frame { vlan: Some(id), ..frame(80, Piece::Whole) };
    let sent = |lines, frame| nic(lines).receive(IN, frame, Engine::Eswitch).unwrap().sent;
    assert_eq!(sent(any, tagged(5)), [(OUT, tagged(5))]);
    assert_eq!(sent(ip, tagged(5)), []);
    assert_eq!(sent(vlan.clone(), tagged(5)), [(OUT, frame(80, Piece::Whole))]);
    assert_eq!(sent(vlan, tagged(6)), []);
}

#[test]
fn copies_go_out_as_the_frame_is_at_that_time_and_circles_end() {
    let flood = vec![Step::Mirror(OUT), Step::VlanPush(VlanTag { id: 9 })];
    let mut flooding =
        nic(vec![(0, 1, Key::default(), Actions::new(flood, End::Redirect(IfIndex(3))), true)]);
    let sent = flooding.receive(IN, frame(80, Piece::Whole), Engine::Eswitch).unwrap().sent;
    assert_eq!(
        sent.iter().map(|(to, frame)| (to.0, frame.vlan)).collect::<Vec<_>>(),
        [(2, None), (3, Some(9))]
    );
    let mut circle = nic(vec![(0, 1, Key::default(), goto(1), true), (1, 1, Key::default(), goto(1), true)]);
    assert_eq!(circle.receive(IN, frame(80, Piece::Whole), Engine::Software).unwrap().end, Ending::Dropped);
}

#[test]
fn the_eswitch_takes_a_connection_once_it_is_answered() {
    let zone = CtZone::new(7).unwrap();
    let ct = |commit, end| Actions::new(vec![Step::Ct(CtAction { zone, commit })], end);
    let mut nic = nic(vec![
        (
            0,
            1,
            Key { payload: Payload::Ipv4(IpKey::default()), ..Key::default() },
            ct(false, goto(1).end),
            true,
        ),
        (1, 1, Key { ct: CtKey::established(), ..Key::default() }, out(), true),
        (1, 2, Key { ct: CtKey::new_connection(), ..Key::default() }, ct(true, out().end), true),
    ]);
    let mut answer = frame(1000, Piece::Whole);
    answer.body = Body::Ipv4(Ip {
        src: [10, 0, 0, 2].into(),
        dst: [10, 0, 0, 1].into(),
        ttl: 64,
        piece: Piece::Whole,
        l4: L4::Tcp { src: 80, dst: 1000, syn: true },
    });
    let mut in_hardware =
        |frame: &Frame| nic.receive(IN, frame.clone(), Engine::Eswitch).unwrap().in_hardware;
    let syn = frame(80, Piece::Whole);
    assert_eq!([&syn, &syn, &answer, &syn].map(&mut in_hardware), [false, false, true, true]);
    assert!(!in_hardware(&frame(80, Piece::First)));
}
