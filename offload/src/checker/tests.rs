//! What mlx5 refuses, line by line; the closure rule is tested where whole programs are (`underlay::tests`).

use super::*;
use crate::flower::{CtAction, CtKey, End, Icmp, NextChain, Pref, VlanTag};
use crate::ids::CtZone;

const AT: Place = Place { port: IfIndex(1), chain: ChainIndex(0), pref: Pref::FIRST };

fn ip(l4: L4) -> Key {
    Key { payload: Payload::Ipv4(IpKey { l4, ..IpKey::default() }), ..Key::default() }
}

fn verdict(key: Key, actions: Actions) -> Result<(), Reason> {
    check(&Rule { key, actions, skip: Skip::None }, AT, &Profile::MLX5)
}

fn state(bits: CtFlags) -> Key {
    let state = crate::openflow::Masked::new(bits, bits);
    Key { ct: CtKey { state, zone: None }, ..Key::default() }
}

#[test]
fn keys() {
    let port = Ports { dst: 80.into(), ..Ports::default() };
    let block = Ports { dst: crate::openflow::Masked::new(80, 0xfff8), ..Ports::default() };
    let icmp = L4::Icmp(Icmp { kind: 8.into(), ..Icmp::default() });
    for (key, wanted) in [
        (Key::default(), Ok(())),
        (ip(L4::Tcp(port)), Ok(())),
        (ip(L4::Udp(block)), Ok(())),
        (ip(L4::Sctp(Ports::default())), Ok(())),
        (ip(L4::Sctp(port)), Err(Reason::L4)),
        (ip(icmp), Ok(())),
        (state(CtFlags::TRK | CtFlags::EST), Ok(())),
        (state(CtFlags::TRK | CtFlags::REL), Err(Reason::CtRelated)),
        (state(CtFlags::TRK | CtFlags::INV), Err(Reason::CtInvalid)),
    ] {
        assert_eq!(verdict(key.clone(), Actions::drop()), wanted, "{key:?}");
    }
    for (frag, wanted) in [(FragMatch::No, Ok(())), (FragMatch::Later, Err(Reason::Fragments))] {
        let key = Key { payload: Payload::Ipv4(IpKey { frag, ..IpKey::default() }), ..Key::default() };
        assert_eq!(verdict(key, Actions::drop()), wanted);
    }
    let bare = Profile { icmp: false, conntrack: false, ..Profile::MLX5 };
    let on_bare = |key| check(&Rule { key, actions: Actions::drop(), skip: Skip::None }, AT, &bare);
    assert_eq!(on_bare(ip(icmp)), Err(Reason::Icmp));
    assert_eq!(on_bare(ip(L4::Icmp(Icmp::default()))), Ok(()));
    assert_eq!(on_bare(state(CtFlags::TRK | CtFlags::NEW)), Err(Reason::CtMatch));
}

#[test]
fn actions() {
    let redirect = |port| End::Redirect(IfIndex(port));
    let mirrors = |count: u32| (2..count + 2).map(|port| Step::Mirror(IfIndex(port))).collect::<Vec<_>>();
    let push = Step::VlanPush(VlanTag { id: 5 });
    let ct = Step::Ct(CtAction { zone: CtZone::new(5).unwrap(), commit: true });
    let goto = End::Goto(NextChain::FIRST);
    for (steps, end, wanted) in [
        (vec![], redirect(2), Ok(())),
        (vec![], redirect(1), Err(Reason::SamePort)),
        (mirrors(31), redirect(99), Ok(())),
        (mirrors(32), redirect(99), Err(Reason::Outputs)),
        (mirrors(1), redirect(2), Err(Reason::SameOutput)),
        (mirrors(1), End::Drop, Err(Reason::DropForward)),
        (vec![push, push], redirect(2), Ok(())),
        (vec![push, push, push], redirect(2), Err(Reason::Vlans)),
        (vec![Step::VlanPop, ct], goto, Ok(())),
    ] {
        assert_eq!(verdict(Key::default(), Actions::new(steps.clone(), end)), wanted, "{steps:?} {end:?}");
    }
    let one_copy = Profile { split_mirror: false, conntrack: false, ..Profile::MLX5 };
    let on_small = |steps, end| {
        check(
            &Rule { key: Key::default(), actions: Actions::new(steps, end), skip: Skip::None },
            AT,
            &one_copy,
        )
    };
    assert_eq!(on_small([mirrors(1), vec![push]].concat(), redirect(9)), Err(Reason::SplitMirror));
    assert_eq!(on_small(vec![push, Step::Mirror(IfIndex(2))], redirect(9)), Ok(()));
    assert_eq!(on_small(vec![ct], goto), Err(Reason::CtAction));
}

#[test]
fn places() {
    let rule = |skip| Rule { key: Key::default(), actions: Actions::drop(), skip };
    let small = Profile { chain: ChainIndex(3), pref: 16, ..Profile::MLX5 };
    let at =
        |chain, pref| Place { port: IfIndex(1), chain: ChainIndex(chain), pref: Pref::new(pref).unwrap() };
    assert_eq!(check(&rule(Skip::None), at(3, 16), &small), Ok(()));
    assert_eq!(check(&rule(Skip::None), at(4, 1), &small), Err(Reason::Chain));
    assert_eq!(check(&rule(Skip::None), at(0, 17), &small), Err(Reason::Pref));
    assert_eq!(check(&rule(Skip::Hardware), AT, &Profile::MLX5), Err(Reason::Told));
}
