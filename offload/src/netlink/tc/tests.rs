//! Bytes that iproute2 sends, bytes that Linux 6.12 answers, and a second decoder over what we send.

use netlink_bindings::tc as oracle;
use proptest::prelude::*;

use super::action::{ActionSpec, Verdict};
use super::filter::PROTOCOL_ALL;
use super::*;
use crate::ids::IfIndex;
use crate::netlink::wire::{Attributes, hex};

/// The options of `tc filter add dev lo ingress pref 1 protocol all flower verbose action drop cookie
/// 647262726964676563`: verdict, cookie, flags.
const IPROUTE2_OPTIONS: &str = concat!(
    "400003003c0001000900010067616374000000001c000280180002000000000000000000020000000000000000000000",
    "0d0006006472627269646765630000000800160010000000",
);

/// What the kernel shows of that filter on the simulated NIC.
const FILTER: &str = concat!(
    "000000000400000001000000f2ffffff000301000b000100666c6f776572000008000b0000000000d0000200080016001400",
    "00000800560001000000bc000300b80001000900010067616374000000004400040014000100000000000000000000000000",
    "0000000014000700000000000000000000000000000000001800030000000000000000000000000000000000000000000d00",
    "06006472627269646765630000000c000900020000000300000008000a000000000040000200180002000100000000000000",
    "020000000100000001000000240001008600000000000000860000000000000000000000000000000000000000000000",
);

/// The entry that stands for the classifier.
const CLASSIFIER: &str = "000000000400000000000000f2ffffff000301000b000100666c6f776572000008000b0000000000";

/// `pref 2 chain 5 protocol ip flower ip_proto tcp dst_port 80 action ct zone 5 pipe action goto chain 7`.
const CT: &str = concat!(
    "000000000400000001000000f2ffffff080002000b000100666c6f776572000008000b000500000094010200060008000800",
    "00000500090006000000060013000050000006002400ffff00000800160004000000080056000100000060010300b4000100",
    "0700010063740000440004001400010000000000000000000000000000000000140007000000000000000000000000000000",
    "00001800030000000000000000000000000000000000000000000c000900020000000300000008000a000000000050000200",
    "06000300000000000600040005000000180001000100000000000000030000000100000001000000240002007e0000000000",
    "00007d0000000000000000000000000000000000000000000000a80002000900010067616374000000004400040014000100",
    "0000000000000000000000000000000014000700000000000000000000000000000000001800030000000000000000000000",
    "000000000000000000000c000900020000000300000008000a00000000004000020018000200020000000000000007000020",
    "0100000001000000240001007e000000000000007d0000000000000000000000000000000000000000000000",
);

/// An ingress qdisc.
const INGRESS: &str = concat!(
    "00000000040000000000fffff1ffffff010000000c000100696e6772657373000400020005000c0000000000300007001400",
    "0100000000000000000000000000000000001800030000000000000000000000000000000000000000002c00030000000000",
    "000000000000000000000000000000000000000000000000000000000000000000000000",
);

fn spec() -> FilterSpec {
    let cookie = Cookie::new(b"drbridgec");
    FilterSpec {
        ifindex: IfIndex(4),
        chain: ChainIndex(0),
        pref: Pref::FIRST,
        protocol: PROTOCOL_ALL,
        flower: FlowerSpec {
            skip: Skip::None,
            actions: vec![ActionSpec::Verdict { verdict: Verdict::Drop, cookie }],
        },
    }
}

#[test]
fn our_options_are_iproute2s_byte_for_byte() {
    let request = spec().create();
    let options = Attributes::after(&request.payload, TCMSG).unwrap().find(TCA_OPTIONS).unwrap().unwrap();
    // iproute2 sets the nest flag on an action's options, netlink-packet-route does not; the kernel takes both.
    let mut expected = hex(IPROUTE2_OPTIONS);
    let flag = expected.windows(4).position(|w| w == [0x1c, 0, 2, 0x80]).unwrap();
    expected[flag + 3] = options.value[flag + 3];
    assert_eq!(options.value, expected);
}

#[test]
fn the_second_decoder_reads_what_we_send() {
    let request = spec().create();
    let (header, attributes) = oracle::OpNewtfilterDo::decode_request(&request.payload);
    assert_eq!((header.ifindex, header.parent, header.info), (4, PARENT_INGRESS_FILTERS, 0x0001_0300));
    assert_eq!(attributes.get_kind().unwrap(), c"flower");
    assert_eq!(attributes.get_chain().unwrap(), 0);
    let oracle::OptionsMsg::Flower(flower) = attributes.get_options().unwrap() else { panic!("no flower") };
    assert_eq!(flower.get_flags().unwrap(), 16);
    let action = flower.get_act().unwrap().next().unwrap();
    assert_eq!(action.get_kind().unwrap(), c"gact");
    assert_eq!(action.get_cookie().unwrap(), b"drbridgec");
    let oracle::ActOptionsMsg::Gact(gact) = action.get_options().unwrap() else { panic!("no gact") };
    assert_eq!(gact.get_parms().unwrap().action, 2);
}

#[test]
fn what_the_kernel_shows() {
    let filter = Filter::decode(&hex(FILTER), IfIndex(4)).unwrap().unwrap();
    assert_eq!(
        (filter.chain, filter.pref, filter.protocol, filter.handle),
        (ChainIndex(0), 1, PROTOCOL_ALL, 1)
    );
    let flower = filter.flower.unwrap();
    assert!(
        flower.keys.is_empty() && flower.in_hw && !flower.not_in_hw && !flower.skip_sw && !flower.skip_hw
    );
    assert_eq!(flower.in_hw_count, 1);
    let drop =
        Action { kind: "gact".to_owned(), verdict: Some(Verdict::Drop), cookie: Some(b"drbridgec".to_vec()) };
    assert_eq!(flower.actions, [drop]);
    assert_eq!(Filter::decode(&hex(CLASSIFIER), IfIndex(4)).unwrap(), None);
}

#[test]
fn actions_and_keys_that_we_do_not_make() {
    let filter = Filter::decode(&hex(CT), IfIndex(4)).unwrap().unwrap();
    assert_eq!((filter.chain, filter.pref, filter.protocol), (ChainIndex(5), 2, 0x0800));
    let flower = filter.flower.unwrap();
    // ETH_TYPE, IP_PROTO, TCP_DST, TCP_DST_MASK.
    assert_eq!(flower.keys, [8, 9, 19, 36]);
    let kinds: Vec<_> = flower.actions.iter().map(|action| (action.kind.as_str(), action.verdict)).collect();
    assert_eq!(kinds, [("ct", None), ("gact", Some(Verdict::GotoChain(7)))]);
}

#[test]
fn an_ingress_qdisc() {
    let qdisc = Qdisc::decode(&hex(INGRESS)).unwrap();
    assert!(qdisc.has_ingress_hook());
    assert_eq!(
        (qdisc.ifindex, qdisc.kind.as_str(), qdisc.handle, qdisc.ingress_block),
        (IfIndex(4), "ingress", 0xffff_0000, None)
    );
}

#[test]
fn cookies_have_bounds() {
    assert!(Cookie::new(b"").is_none());
    assert!(Cookie::new(b"thirteen byte").is_none());
    assert_eq!(Cookie::new(b"drawbridge:c").unwrap().as_bytes(), b"drawbridge:c");
}

proptest! {
    #[test]
    fn verdicts_survive_the_kernel(chain in 0u32..0x1000_0000, number: i32) {
        prop_assert_eq!(Verdict::from_kernel(Verdict::GotoChain(chain).to_kernel()), Verdict::GotoChain(chain));
        prop_assert_eq!(Verdict::from_kernel(number).to_kernel(), number);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = (Filter::decode(&bytes, IfIndex(1)), Qdisc::decode(&bytes));
    }

    #[test]
    fn a_damaged_capture_does_not_panic(at in 0usize..444, with: u8) {
        let mut bytes = hex(CT);
        bytes[at] = with;
        let _ = Filter::decode(&bytes, IfIndex(1));
    }

    /// A dump shows what a spec says, whatever the numbers.
    #[test]
    fn a_filter_reads_as_it_was_written(index in 1u32..1 << 30, chain: u32, pref in 1u16.., protocol: u16, mark in proptest::collection::vec(any::<u8>(), 1..=12)) {
        let cookie = Cookie::new(&mark);
        let spec = FilterSpec {
            ifindex: IfIndex(index),
            chain: ChainIndex(chain),
            pref: Pref(std::num::NonZeroU16::new(pref).unwrap()),
            protocol,
            flower: FlowerSpec { skip: Skip::Hardware, actions: vec![ActionSpec::Verdict { verdict: Verdict::Drop, cookie }] },
        };
        let seen = Filter::decode(&spec.create().payload, spec.ifindex).unwrap().unwrap();
        prop_assert_eq!((seen.chain, seen.pref, seen.protocol), (spec.chain, pref, protocol));
        let flower = seen.flower.unwrap();
        prop_assert!(flower.skip_hw && flower.keys.is_empty());
        prop_assert!(flower.actions[0].bears(&cookie.unwrap()));
    }
}
