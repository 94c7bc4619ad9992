//! Our rules beside what iproute2 sends for the same, and what Linux shows beside our rules.

use super::captured::{self as c, Capture, FOREIGN};
use super::*;
use crate::flower::{CtKey, Icmp, IpKey, VlanKey, VlanTag};
use crate::ids::MacAddr;
use crate::netlink::tc::action::police::{self, Police};
use crate::openflow::{CtFlags, FragMatch, OtherEtherType, OtherProto};

fn mac(text: &str) -> MacAddr {
    text.parse().unwrap()
}

fn v4(ip: IpKey<std::net::Ipv4Addr>) -> Key {
    Key { payload: Payload::Ipv4(ip), ..Key::default() }
}

fn rule(key: Key, steps: Vec<Step>, end: End) -> Rule {
    Rule { key, actions: Actions::new(steps, end), skip: Skip::None }
}

fn ct(commit: bool) -> Step {
    Step::Ct(CtAction { zone: CtZone::new(9).unwrap(), commit })
}

fn to(chain: u32) -> End {
    End::Goto(NextChain::new(chain).unwrap())
}

const DUM1: IfIndex = IfIndex(3);

/// What each capture's command says, in our words.
fn cases() -> Vec<(&'static Capture, Rule)> {
    let own = mac("02:00:00:00:00:01");
    let net = |text: &str| text.parse::<ipnet::Ipv4Net>().unwrap().into();
    let tcp = Key {
        eth_dst: Masked::exact(own),
        eth_src: Masked::new(mac("02:00:5e:00:00:00"), mac("ff:ff:ff:00:00:00")),
        ..v4(IpKey {
            src: net("10.0.0.0/8"),
            dst: net("10.1.2.3/32"),
            l4: L4::Tcp(Ports { src: Masked::new(1024, 0xfc00), dst: Masked::exact(80) }),
            ..IpKey::default()
        })
    };
    let udp = Ports { src: Masked::any(), dst: Masked::exact(53) };
    let udp6 = Payload::Ipv6(IpKey {
        src: "fd00::/16".parse::<ipnet::Ipv6Net>().unwrap().into(),
        dst: Masked::exact("fd00::1".parse().unwrap()),
        l4: L4::Udp(udp),
        ..IpKey::default()
    });
    let tagged = Key { vlan: VlanKey::Id(100), ..v4(IpKey { dst: net("10.0.0.1/32"), ..IpKey::default() }) };
    let arp = Key { eth_src: Masked::exact(own), payload: Payload::Arp, ..Key::default() };
    let established = Masked::new(CtFlags::TRK | CtFlags::EST, CtFlags::TRK | CtFlags::EST | CtFlags::REL);
    let sctp = Key {
        ct: CtKey { state: established, zone: Some(9) },
        ..v4(IpKey { l4: L4::Sctp(Ports { src: Masked::any(), dst: Masked::exact(7) }), ..IpKey::default() })
    };
    let echo = L4::Icmp(Icmp { kind: Masked::exact(8), code: Masked::exact(0) });
    let echo6 = L4::Icmp(Icmp { kind: Masked::new(128, 254), code: Masked::any() });
    let icmp6 = Key {
        ct: CtKey { state: Masked::new(CtFlags::NONE, CtFlags::TRK), zone: None },
        payload: Payload::Ipv6(IpKey { l4: echo6, ..IpKey::default() }),
        ..Key::default()
    };
    let lldp = Payload::Other(OtherEtherType::new(0x88cc).unwrap());
    // iproute2 reads the number as hexadecimal.
    let other = L4::Other(OtherProto::new(0x89).unwrap());
    let marked = rule(v4(IpKey { l4: other, ..IpKey::default() }), vec![], End::Redirect(DUM1));
    vec![
        (&c::TCP, rule(tcp, vec![], End::Drop)),
        (&c::UDP6, rule(Key { payload: udp6, ..Key::default() }, vec![], End::Trap)),
        (&c::TAGGED, rule(tagged, vec![Step::VlanPop], End::Redirect(DUM1))),
        (&c::TAG, rule(Key { vlan: VlanKey::Id(7), ..Key::default() }, vec![], End::Drop)),
        (
            &c::ARP,
            rule(arp, vec![Step::Mirror(DUM1), Step::VlanPush(VlanTag { id: 5 })], End::Redirect(DUM1)),
        ),
        (&c::SCTP, rule(sctp, vec![ct(true)], to(3))),
        (
            &c::ICMP,
            rule(
                v4(IpKey { frag: FragMatch::No, l4: echo, ..IpKey::default() }),
                vec![Step::CtClear],
                End::Drop,
            ),
        ),
        (&c::ICMP6, rule(icmp6, vec![ct(false)], to(3))),
        (&c::FRAGMENT, rule(v4(IpKey { frag: FragMatch::Later, ..IpKey::default() }), vec![], End::Drop)),
        (
            &c::LLDP,
            Rule { skip: Skip::Hardware, ..rule(Key { payload: lldp, ..Key::default() }, vec![], End::Trap) },
        ),
        (
            &c::MARKED,
            Rule { actions: marked.actions.clone().cookie(Cookie::new(b"drbridgec").unwrap()), ..marked },
        ),
    ]
}

/// Attributes sorted, nests without their flag, masks of all ones left out: iproute2 sends some of them, we all.
fn canonical(options: &[u8], depth: u32) -> Vec<u8> {
    const MASKS: [u16; 19] = [5, 7, 11, 13, 15, 17, 35, 36, 37, 38, 39, 40, 50, 52, 54, 56, 92, 94, 48];
    let mut all: Vec<(u16, Vec<u8>)> = Vec::new();
    for attribute in Attributes::new(options) {
        let attribute = attribute.unwrap();
        let is_ones = attribute.value.iter().all(|byte| *byte == 0xff);
        if depth == 0 && MASKS.contains(&attribute.kind) && is_ones {
            continue;
        }
        let is_nest = matches!((depth, attribute.kind), (0, 3) | (1, _) | (2, 2));
        let value = if is_nest { canonical(attribute.value, depth + 1) } else { attribute.value.to_vec() };
        all.push((attribute.kind, value));
    }
    all.sort();
    let mut w = Writer::default();
    for (kind, value) in all {
        w.put(kind, &value);
    }
    w.finish().unwrap()
}

fn raw_options(payload: &[u8]) -> Vec<u8> {
    Attributes::after(payload, TCMSG).unwrap().find(TCA_OPTIONS).unwrap().unwrap().value.to_vec()
}

#[test]
fn we_send_what_iproute2_sends() {
    for (capture, rule) in cases() {
        let sent = hex(capture.sent);
        let ours = written(place(), &rule);
        assert_eq!(ours[16..18], sent[16..18], "protocol: {}", capture.command);
        assert_eq!(
            canonical(&raw_options(&ours), 0),
            canonical(&raw_options(&sent), 0),
            "{}\n{rule:?}",
            capture.command
        );
    }
}

#[test]
fn what_iproute2_wrote_reads_as_our_rule() {
    for (capture, rule) in cases() {
        for bytes in [capture.sent, capture.shown] {
            let filter = Filter::decode(&hex(bytes), IfIndex(2)).unwrap().unwrap();
            assert_eq!(filter.flower.unwrap().rule.as_ref(), Ok(&rule), "{}", capture.command);
            assert!(filter.raw.is_empty());
        }
    }
}

#[test]
fn foreign_filters_are_named_and_kept() {
    for (command, shown) in FOREIGN {
        let filter = Filter::decode(&hex(shown), IfIndex(2)).unwrap().unwrap();
        match filter.flower {
            // Open vSwitch's mark: what the filter does can be read, and that it is not ours.
            Some(flower) if command.contains("cookie 0011") => {
                assert!(flower.is_of_open_vswitch() && filter.raw.is_empty(), "{command}");
                assert_eq!(flower.rule.unwrap().actions.cookie, None);
                continue;
            }
            None => assert_eq!(filter.kind, "matchall", "{command}"),
            Some(flower) => assert!(flower.rule.is_err(), "{command}: {:?}", flower.rule),
        }
        assert!(!filter.raw.is_empty(), "{command}");
    }
    let why = |command: &str| {
        let (_, shown) = FOREIGN.iter().find(|(known, _)| known.contains(command)).unwrap();
        Filter::decode(&hex(shown), IfIndex(2)).unwrap().unwrap().flower.unwrap().rule.unwrap_err()
    };
    assert_eq!(why("ip_tos"), "beyond our rules: IP's type of service");
    assert_eq!(why("goto chain 0"), "beyond our rules: action gact");
    assert_eq!(why("vlan_ethtype"), "it matches tagged frames of any VLAN");
    assert_eq!(why("classid"), "it has class 0x10002");
}

#[test]
fn the_second_decoder_reads_every_action() {
    let steps =
        vec![Step::Mirror(DUM1), Step::VlanPop, Step::VlanPush(VlanTag { id: 5 }), ct(true), Step::CtClear];
    let payload = written(place(), &rule(Key::default(), steps, to(7)));
    let (_, attributes) = oracle::OpNewtfilterDo::decode_request(&payload);
    let oracle::OptionsMsg::Flower(flower) = attributes.get_options().unwrap() else { panic!("no flower") };
    let kinds: Vec<_> = flower
        .get_act()
        .unwrap()
        .map(|action| match action.get_options().unwrap() {
            oracle::ActOptionsMsg::Mirred(mirred) => {
                let words: Vec<_> = mirred.get_parms().unwrap().chunks(4).map(|w| w[0]).collect();
                format!("mirred {words:?}")
            }
            oracle::ActOptionsMsg::Vlan(vlan) => {
                let parms = vlan.get_parms().unwrap();
                let push = (vlan.get_push_vlan_id().ok(), vlan.get_push_vlan_protocol().ok());
                format!("vlan {} {} {push:?}", parms.action, parms.v_action)
            }
            oracle::ActOptionsMsg::Ct(ct) => {
                format!("ct {} {:?}", ct.get_action().unwrap(), ct.get_zone().ok())
            }
            oracle::ActOptionsMsg::Gact(gact) => format!("gact {:#x}", gact.get_parms().unwrap().action),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "mirred [0, 0, 3, 0, 0, 2, 3]",
            "vlan 3 1 (None, None)",
            "vlan 3 2 (Some(5), None)",
            "ct 1 Some(9)",
            "ct 4 None",
            "gact 0x20000007"
        ]
    );
}

fn police(payload: &str) -> Vec<u8> {
    let options = raw_options(&hex(payload));
    let actions = Attributes::new(&options).find(3).unwrap().unwrap();
    let first = actions.nested().next().unwrap().unwrap();
    let options = first.nested().find(2).unwrap().unwrap();
    options.value.to_vec()
}

#[test]
fn police_is_iproute2s() {
    let nonzero = |n| std::num::NonZeroU64::new(n).unwrap();
    // 1 Mbit/s, 10 KiB.
    let bytes = police::Rate::Bytes { per_second: nonzero(125_000), burst: 10_240 };
    let packets = police::Rate::Packets { per_second: nonzero(1000), burst: 100 };
    for (capture, rate) in [(&c::POLICE, bytes), (&c::POLICE_PACKETS, packets)] {
        let expected = Police::new(rate);
        for text in [capture.sent, capture.shown] {
            let theirs = police(text);
            assert_eq!(
                Police::decode(Attributes::new(&theirs)).unwrap(),
                Some(expected),
                "{}",
                capture.command
            );
        }
        let mut w = Writer::default();
        expected.write(&mut w, 1);
        let ours = w.finish().unwrap();
        let entry = Attributes::new(&ours).next().unwrap().unwrap();
        let options = entry.nested().find(2).unwrap().unwrap();
        let theirs = police(capture.sent);
        // Rates, bursts of packets, results: the same. The bucket differs by the size of the largest packet.
        for kind in [5, 8, 10, 11] {
            assert_eq!(
                options.nested().find(kind).unwrap().map(|a| a.value),
                Attributes::new(&theirs).find(kind).unwrap().map(|a| a.value),
                "{} attribute {kind}",
                capture.command
            );
        }
        // Computed in floating point there: a tick more here and there.
        let table = |attributes: Attributes<'_>| {
            let table = attributes.find(2).unwrap().map(|a| a.value.to_vec()).unwrap_or_default();
            table.chunks(4).map(|cell| u32::from_ne_bytes(cell.try_into().unwrap())).collect::<Vec<_>>()
        };
        let (cells, expected) = (table(options.nested()), table(Attributes::new(&theirs)));
        assert_eq!(cells.len(), expected.len());
        assert!(cells.iter().zip(&expected).all(|(cell, expected)| cell.abs_diff(*expected) <= 1));
        let bucket = |attributes: Attributes<'_>| attributes.find(1).unwrap().unwrap().value.to_vec();
        let (mut ours, theirs) = (bucket(options.nested()), bucket(Attributes::new(&theirs)));
        ours[16..20].copy_from_slice(&theirs[16..20]);
        assert_eq!(ours, theirs, "{}", capture.command);
    }
}

proptest! {
    #[test]
    fn a_rate_reads_as_it_was_written(per_second in 1u64..1 << 40, burst in 1u32..1 << 24, is_packets: bool) {
        let per_second = std::num::NonZeroU64::new(per_second).unwrap();
        let rate = if is_packets { police::Rate::Packets { per_second, burst } } else { police::Rate::Bytes { per_second, burst } };
        // A bucket that takes longer than 274 s to fill has no form for bytes.
        prop_assume!(is_packets || u64::from(burst) / per_second < 274);
        let mut w = Writer::default();
        Police::new(rate).write(&mut w, 1);
        let bytes = w.finish().unwrap();
        let entry = Attributes::new(&bytes).next().unwrap().unwrap();
        let seen = Police::decode(entry.nested().find(2).unwrap().unwrap().nested()).unwrap().unwrap();
        let (police::Rate::Bytes { per_second: rate, burst: seen } | police::Rate::Packets { per_second: rate, burst: seen }) = seen.rate;
        prop_assert_eq!(rate, per_second);
        // Rounded up to a tick when written, down when read.
        prop_assert!(u64::from(seen) >= u64::from(burst) && u64::from(seen) - u64::from(burst) <= rate.get() / 15_625_000 + 1);
    }
}
