//! Any rule there is, written and read back; and what has no form on the wire.

use super::*;
use crate::flower::{CtKey, Icmp, IpKey, VlanKey, VlanTag};
use crate::ids::MacAddr;
use crate::openflow::{Bits, CtFlags, FragMatch, OtherEtherType, OtherProto};

fn masked<T: Bits + std::fmt::Debug + 'static>() -> impl Strategy<Value = Masked<T>> + Clone {
    let bits = || any::<u128>().prop_map(T::from_bits);
    prop_oneof![
        2 => Just(Masked::any()),
        2 => bits().prop_map(Masked::exact),
        1 => (bits(), bits()).prop_map(|(value, mask)| Masked::new(value, mask)),
    ]
}

fn ports() -> impl Strategy<Value = Ports> {
    (masked(), masked()).prop_map(|(src, dst)| Ports { src, dst })
}

fn l4() -> impl Strategy<Value = L4> {
    prop_oneof![
        Just(L4::Any),
        ports().prop_map(L4::Tcp),
        ports().prop_map(L4::Udp),
        ports().prop_map(L4::Sctp),
        (masked(), masked()).prop_map(|(kind, code)| L4::Icmp(Icmp { kind, code })),
        any::<u8>().prop_filter_map("has its own", OtherProto::new).prop_map(L4::Other),
    ]
}

fn ip<A: Bits + std::fmt::Debug + 'static>() -> impl Strategy<Value = IpKey<A>> {
    let frag = proptest::sample::select(vec![
        FragMatch::Any,
        FragMatch::No,
        FragMatch::Yes,
        FragMatch::First,
        FragMatch::Later,
    ]);
    (masked(), masked(), masked(), frag, l4()).prop_map(|(src, dst, ttl, frag, l4)| IpKey {
        src,
        dst,
        ttl,
        frag,
        l4,
    })
}

pub fn key() -> impl Strategy<Value = Key> {
    let payload = prop_oneof![
        Just(Payload::Any),
        Just(Payload::Arp),
        (5u16..).prop_filter_map("has its own", OtherEtherType::new).prop_map(Payload::Other),
        ip().prop_map(Payload::Ipv4),
        ip().prop_map(Payload::Ipv6),
    ];
    let vlan = prop_oneof![Just(VlanKey::None), (0u16..4096).prop_map(VlanKey::Id)];
    // Without SNAT and DNAT, for which the kernel has no key.
    let flags = || (0u32..0x40).prop_map(CtFlags);
    let ct = (flags(), flags(), any::<Option<u16>>())
        .prop_map(|(state, mask, zone)| CtKey { state: Masked::new(state, mask), zone });
    (masked::<MacAddr>(), masked::<MacAddr>(), vlan, ct, payload)
        .prop_map(|(eth_src, eth_dst, vlan, ct, payload)| Key { eth_src, eth_dst, vlan, ct, payload })
}

pub fn actions() -> impl Strategy<Value = Actions> {
    let zone = (1u16..).prop_filter_map("not 0", CtZone::new);
    let step = prop_oneof![
        any::<u32>().prop_map(|n| Step::Mirror(IfIndex(n))),
        (0u16..4095).prop_map(|id| Step::VlanPush(VlanTag { id })),
        Just(Step::VlanPop),
        (zone, any::<bool>()).prop_map(|(zone, commit)| Step::Ct(CtAction { zone, commit })),
        Just(Step::CtClear),
    ];
    let end = prop_oneof![
        Just(End::Drop),
        Just(End::Trap),
        any::<u32>().prop_map(|n| End::Redirect(IfIndex(n))),
        (1..=NextChain::MAX).prop_filter_map("not 0", NextChain::new).prop_map(End::Goto),
    ];
    let cookie = proptest::collection::vec(any::<u8>(), 0..=12).prop_map(|mark| Cookie::new(&mark));
    (proptest::collection::vec(step, 0..5), end, cookie).prop_map(|(steps, end, cookie)| Actions {
        steps,
        end,
        cookie,
    })
}

pub fn rule() -> impl Strategy<Value = Rule> {
    let skip = proptest::sample::select(vec![Skip::None, Skip::Hardware, Skip::Software]);
    (key(), actions(), skip).prop_map(|(key, actions, skip)| Rule { key, actions, skip })
}

pub fn any_place() -> impl Strategy<Value = Place> {
    (any::<u32>(), 0..=NextChain::MAX, 1u16.., 1..=Handle::MAX).prop_map(|(device, chain, pref, handle)| {
        Place {
            ifindex: IfIndex(device),
            chain: ChainIndex(chain),
            pref: Pref::new(pref).unwrap(),
            handle: Handle::new(handle).unwrap(),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_rule_reads_as_it_was_written(rule in rule(), place in any_place()) {
        let payload = written(place, &rule);
        let seen = Filter::decode(&payload, place.ifindex).unwrap().unwrap();
        prop_assert_eq!((seen.chain, seen.pref, seen.handle), (place.chain, place.pref.0.get(), place.handle.get()));
        prop_assert_eq!(seen.protocol, key::protocol(&rule.key));
        prop_assert!(seen.raw.is_empty());
        prop_assert_eq!(seen.flower.unwrap().rule, Ok(rule));
    }

    /// One byte of a key or an action that is another rule must not read as the same one.
    #[test]
    fn any_damage_is_read_or_refused(rule in rule(), place in any_place(), at: prop::sample::Index, with: u8) {
        let mut payload = written(place, &rule);
        let at = at.index(payload.len());
        payload[at] = with;
        let _ = Filter::decode(&payload, place.ifindex);
    }
}

#[test]
fn what_has_no_form_on_the_wire_is_not_written() {
    let refusal = |rule: Rule| Change::Add { place: place(), rule: &rule }.request().unwrap_err();
    let keyed = |key: Key| Rule { key, ..drop_all() };
    let later = IpKey { frag: FragMatch::NotLater, ..IpKey::default() };
    assert_eq!(refusal(keyed(Key { payload: Payload::Ipv4(later), ..Key::default() })), Unwritable::NotLater);
    assert_eq!(refusal(keyed(Key { vlan: VlanKey::Id(4096), ..Key::default() })), Unwritable::VlanId(4096));
    for number in [0, 3] {
        let payload = Payload::Other(OtherEtherType::new(number).unwrap());
        assert_eq!(refusal(keyed(Key { payload, ..Key::default() })), Unwritable::EtherType(number));
    }
    let acting = |steps| Rule { actions: Actions::new(steps, End::Drop), ..drop_all() };
    assert_eq!(refusal(acting(vec![Step::CtClear; 32])), Unwritable::Actions(33));
    assert_eq!(refusal(acting(vec![Step::VlanPush(VlanTag { id: 4095 })])), Unwritable::VlanId(4095));
}
