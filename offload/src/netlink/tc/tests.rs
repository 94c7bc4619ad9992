//! Bytes that iproute2 sends, bytes that Linux 6.12 answers, and a second decoder over what we send.

use netlink_bindings::tc as oracle;
use proptest::prelude::*;

use super::action::{Meaning, Verdict};
use super::key::PROTOCOL_ALL;
use super::*;
use crate::flower::{Actions, CtAction, End, Key, L4, Payload, Ports, Rule, Step};
use crate::ids::{CtZone, IfIndex};
use crate::netlink::wire::{Attributes, hex};
use crate::openflow::Masked;

mod captured;
mod captures;
mod rules;
mod statistics;

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

pub(super) fn place() -> Place {
    Place { ifindex: IfIndex(4), chain: ChainIndex(0), pref: Pref::FIRST, handle: Handle::new(1).unwrap() }
}

pub(super) fn drop_all() -> Rule {
    let actions = Actions::drop().cookie(Cookie::new(b"drbridgec").unwrap());
    Rule { key: Key::default(), actions, skip: Skip::None }
}

pub(super) fn written(place: Place, rule: &Rule) -> Vec<u8> {
    Change::Add { place, rule }.request().unwrap().payload
}

/// Without the flag on nests, which iproute2 sets here and there, we everywhere; the kernel takes both.
fn without_nest_flags(options: &[u8], depth: u32) -> Vec<u8> {
    let mut w = Writer::default();
    for attribute in Attributes::new(options) {
        let attribute = attribute.unwrap();
        // TCA_FLOWER_ACT, an entry, TCA_ACT_OPTIONS.
        let is_nest = matches!((depth, attribute.kind), (0, 3) | (1, _) | (2, 2));
        let value =
            if is_nest { without_nest_flags(attribute.value, depth + 1) } else { attribute.value.to_vec() };
        w.put(attribute.kind, &value);
    }
    w.finish().unwrap()
}

fn options(payload: &[u8]) -> Vec<u8> {
    let options = Attributes::after(payload, TCMSG).unwrap().find(TCA_OPTIONS).unwrap().unwrap();
    without_nest_flags(options.value, 0)
}

#[test]
fn our_options_are_iproute2s_byte_for_byte() {
    let ours = options(&written(place(), &drop_all()));
    assert_eq!(ours, without_nest_flags(&hex(IPROUTE2_OPTIONS), 0));
}

#[test]
fn the_second_decoder_reads_what_we_send() {
    let payload = written(place(), &drop_all());
    let (header, attributes) = oracle::OpNewtfilterDo::decode_request(&payload);
    assert_eq!((header.ifindex, header.parent, header.info), (4, PARENT_INGRESS_FILTERS, 0x0001_0300));
    assert_eq!(header.handle, 1);
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
    assert!(flower.in_hw && !flower.not_in_hw && !flower.skip_sw && !flower.skip_hw);
    assert_eq!(flower.in_hw_count, 1);
    assert_eq!(flower.rule, Ok(drop_all()));
    assert!(filter.raw.is_empty());
    let [drop] = &*flower.actions else { panic!("{flower:?}") };
    assert_eq!(
        (drop.kind.as_str(), drop.verdict, drop.meaning),
        ("gact", Some(Verdict::Drop), Some(Meaning::End(End::Drop)))
    );
    assert_eq!(drop.cookie.as_deref(), Some(&b"drbridgec"[..]));
    assert_eq!(drop.hardware_stats, Some(HardwareStats { immediate: false, delayed: true }));
    assert_eq!(flower.statistics(), Statistics::default());
    assert_eq!(Filter::decode(&hex(CLASSIFIER), IfIndex(4)).unwrap(), None);
}

#[test]
fn a_rule_that_tc_wrote() {
    let filter = Filter::decode(&hex(CT), IfIndex(4)).unwrap().unwrap();
    assert_eq!((filter.chain, filter.pref, filter.protocol), (ChainIndex(5), 2, 0x0800));
    let tcp = Ports { src: Masked::any(), dst: Masked::exact(80) };
    let ct = Step::Ct(CtAction { zone: CtZone::new(5).unwrap(), commit: false });
    let rule = Rule {
        key: Key {
            payload: Payload::Ipv4(crate::flower::IpKey { l4: L4::Tcp(tcp), ..Default::default() }),
            ..Key::default()
        },
        actions: Actions::new(vec![ct], End::Goto(NextChain::new(7).unwrap())),
        skip: Skip::None,
    };
    assert_eq!(filter.flower.unwrap().rule, Ok(rule));
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
}
