//! The compiled flows, run by the interpreter, against a few lines that say in plain words what may pass.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::openflow::OtherEtherType;
use crate::openflow::interpret::{Arp, Body, Frame, Icmp, Ip, L4, Nd, Piece, Switch, Tuple};
use crate::policy::{self, Direction, Origin, Rules, Tier};
use crate::ruleset;

mod oracle;

use oracle::{Known, may_arrive, may_leave};

const NOBODY: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
const ALL_V4: Ipv4Addr = Ipv4Addr::BROADCAST;
const DHCP6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);

fn port(number: u32) -> OfPort {
    OfPort::new(number).unwrap()
}

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn v4(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn v6(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)
}

fn nets(nets: &[&str]) -> Vec<IpNet> {
    nets.iter().map(|net| net.parse().unwrap()).collect()
}

/// Dual stack with DHCP, from two servers of each version; dual stack with two addresses of each, a gateway beyond its
/// prefix, and a policy that allows everything; IPv4 only; IPv6 only with DHCP.
fn pods() -> Vec<Boundary> {
    let servers = [IpAddr::from(v4(4)), v4(99).into(), v6(99).into(), mac(3).link_local().into()];
    let pod = |n: u8, ipv4: Vec<Ipv4Addr>, ipv6: Vec<Ipv6Addr>, dhcp: bool| Boundary {
        rep: port(n.into()),
        patch: port(u32::from(n) + 100),
        zone: CtZone::new(u16::from(n) + 1000).unwrap(),
        mac: mac(n),
        ipv4,
        ipv6,
        on_link: nets(&["10.0.0.0/28", "fd00::/123"]),
        dhcp_servers: if dhcp { servers.to_vec() } else { Vec::new() },
        egress: RuleSetId::NONE,
        ingress: RuleSetId::NONE,
        rate: None,
        full: false,
        cookie: Cookie(n.into()),
    };
    vec![
        pod(1, vec![v4(1)], vec![v6(1)], true),
        Boundary {
            egress: ALLOWS,
            on_link: nets(&["10.0.0.0/28", "10.0.0.4/32", "10.0.0.99/32", "fd00::/124", "fd00::63/128"]),
            ..pod(2, vec![v4(2), v4(12)], vec![v6(2), v6(12)], false)
        },
        pod(3, vec![v4(3)], vec![], false),
        pod(4, vec![], vec![v6(4)], true),
    ]
}

/// A policy, of one direction only, and it holds nothing back.
const ALLOWS: RuleSetId = RuleSetId(7);

fn is_ruled(pod: &Boundary) -> bool {
    pod.egress == ALLOWS
}

fn all_flows(pods: &[Boundary]) -> Vec<Flow> {
    let everything = Tier { rules: Vec::new(), otherwise: policy::Action::Allow, origin: Origin(1) };
    let rules =
        ruleset::flows(ALLOWS, Direction::Egress, &Rules { tiers: vec![everything] }, &|_| RuleMark::new(3))
            .unwrap();
    common_flows(Cookie(0)).into_iter().chain(rules).chain(pods.iter().flat_map(Boundary::flows)).collect()
}

// === hostile frames ===

fn any_mac() -> impl Strategy<Value = MacAddr> {
    select(vec![mac(1), mac(2), mac(3), mac(4), mac(9), MacAddr::ZERO, MacAddr::BROADCAST])
}

fn any_v4() -> impl Strategy<Value = Ipv4Addr> {
    select(vec![
        v4(1),
        v4(2),
        v4(12),
        v4(3),
        v4(4),
        v4(99),
        Ipv4Addr::UNSPECIFIED,
        ALL_V4,
        Ipv4Addr::LOCALHOST,
    ])
}

fn any_v6() -> impl Strategy<Value = Ipv6Addr> {
    let local = |n| mac(n).link_local();
    select(vec![
        v6(1),
        v6(2),
        v6(12),
        v6(3),
        v6(4),
        v6(99),
        local(1),
        local(2),
        local(3),
        local(4),
        NOBODY,
        DHCP6,
    ])
}

/// As discovery is sent to.
fn any_group() -> impl Strategy<Value = Ipv6Addr> {
    let known =
        ["ff02::1", "ff02::2", "ff02::16", "ff01::2", "ff00::9", "ff05::1:3", "ff12::9", "ff02::1:ff00:63"];
    let of = |ip| discovery::solicited_node(ip);
    let own = [1, 2, 3, 4].map(|n| of(mac(n).link_local()));
    let given = [1, 2, 12, 4].map(|n| of(v6(n)));
    select([known.map(|ip| ip.parse().unwrap()).to_vec(), own.to_vec(), given.to_vec()].concat())
}

fn any_hops() -> impl Strategy<Value = u8> {
    prop_oneof![4 => Just(255u8), 3 => Just(1), 1 => select(vec![0, 64, 254])]
}

/// Neighbour and listener discovery, with one thing or another wrong in it.
fn any_discovery() -> impl Strategy<Value = Body> {
    let kinds = select(vec![130, 131, 132, 133, 134, 135, 135, 135, 136, 136, 136, 137, 143]);
    let nd = (any_v6(), any_mac(), prop::bool::weighted(0.4)).prop_map(|(target, address, absent)| Nd {
        target,
        address: if absent { MacAddr::ZERO } else { address },
    });
    let dst = prop_oneof![2 => any_v6(), 3 => any_group()];
    // A target's own group would hardly be met by chance.
    let (fitting, code) = (prop::bool::weighted(0.7), prop_oneof![9 => Just(0), 1 => Just(1)]);
    (kinds, any_v6(), dst, any_hops(), any_piece(), nd, fitting, code).prop_map(
        |(kind, src, dst, ttl, piece, nd, fitting, code)| {
            let icmp = |code| L4::Icmp(Icmp { kind, code, id: 0, about: None, nd: Some(nd) });
            if !fitting {
                return Body::Ipv6(Ip { src, dst, ttl, piece, l4: icmp(code) });
            }
            let group = |text: &str| text.parse().unwrap();
            let dst = match kind {
                132 | 133 => group("ff02::2"),
                143 => group("ff02::16"),
                135 => discovery::solicited_node(nd.target),
                134 | 136 => group("ff02::1"),
                130 if !dst.is_multicast() => group("ff02::1"),
                137 if dst.is_multicast() => mac(1).link_local(),
                _ => dst,
            };
            let src = if [130, 134, 137].contains(&kind) { mac(4).link_local() } else { src };
            let ttl = if (133..=137).contains(&kind) { 255 } else { 1 };
            Body::Ipv6(Ip { src, dst, ttl, piece: Piece::Whole, l4: icmp(0) })
        },
    )
}

fn any_port() -> impl Strategy<Value = u16> {
    select(vec![67, 68, 546, 547, 80, 0])
}

fn tuple(src: impl Into<IpAddr>, dst: impl Into<IpAddr>, proto: u8, ports: (u16, u16)) -> Tuple {
    Tuple { src: src.into(), dst: dst.into(), proto, ports }
}

fn any_l4(kinds: Vec<u8>, about: BoxedStrategy<Tuple>) -> impl Strategy<Value = L4> {
    let nd = prop_oneof![
        1 => Just(None),
        4 => (any_v6(), any_mac()).prop_map(|(target, address)| Some(Nd { target, address })),
    ];
    let code = prop_oneof![5 => Just(0), 1 => Just(1)];
    let icmp = (select(kinds), code, 0u16..2, proptest::option::of(about), nd)
        .prop_map(|(kind, code, id, about, nd)| L4::Icmp(Icmp { kind, code, id, about, nd }));
    prop_oneof![
        2 => (any_port(), any_port(), any::<bool>()).prop_map(|(src, dst, syn)| L4::Tcp { src, dst, syn }),
        3 => (any_port(), any_port()).prop_map(|(src, dst)| L4::Udp { src, dst }),
        1 => (any_port(), any_port()).prop_map(|(src, dst)| L4::Sctp { src, dst }),
        5 => icmp,
        1 => select(vec![2, 4, 47, 41]).prop_map(L4::Other),
    ]
}

fn any_piece() -> impl Strategy<Value = Piece> {
    prop_oneof![6 => Just(Piece::Whole), 1 => Just(Piece::First), 1 => Just(Piece::Later)]
}

fn any_body() -> impl Strategy<Value = Body> {
    let other = select(vec![0x88cc, 0x888e, 0x8035, 0x8847, 0x9100, 0x0027, 0x8808])
        .prop_map(|kind| Body::Other(OtherEtherType::new(kind).unwrap()));
    let arp = (0u16..5, any_v4(), any_v4(), any_mac(), any_mac())
        .prop_map(|(op, spa, tpa, sha, tha)| Body::Arp(Arp { op, spa, tpa, sha, tha }));
    let about4 =
        (any_v4(), any_v4(), any_port(), any_port()).prop_map(|(s, d, p, q)| tuple(s, d, 17, (p, q))).boxed();
    let about6 =
        (any_v6(), any_v6(), any_port(), any_port()).prop_map(|(s, d, p, q)| tuple(s, d, 17, (p, q))).boxed();
    let ipv4 =
        (any_v4(), any_v4(), any_hops(), any_piece(), any_l4(vec![0, 3, 4, 5, 8, 9, 10, 11, 12, 13], about4))
            .prop_map(|(src, dst, ttl, piece, l4)| Body::Ipv4(Ip { src, dst, ttl, piece, l4 }));
    let kinds = vec![
        0, 1, 2, 3, 4, 100, 128, 129, 130, 131, 132, 133, 134, 135, 135, 136, 136, 137, 141, 143, 148, 151,
    ];
    let ipv6 = (any_v6(), any_v6(), any_hops(), any_piece(), any_l4(kinds, about6))
        .prop_map(|(src, dst, ttl, piece, l4)| Body::Ipv6(Ip { src, dst, ttl, piece, l4 }));
    prop_oneof![1 => other, 3 => arp, 5 => ipv4, 4 => ipv6, 8 => any_discovery()]
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let vlan = prop_oneof![12 => Just(None), 1 => Just(Some(0)), 1 => Just(Some(7))];
    (any_mac(), any_mac(), vlan, any_body()).prop_map(|(eth_src, eth_dst, vlan, body)| Frame {
        eth_src,
        eth_dst,
        vlan,
        body,
    })
}

/// Addresses as the pod would write them, where there is room for them.
fn as_own(pod: &Boundary, body: &mut Body) {
    match body {
        Body::Arp(arp) => {
            arp.sha = pod.mac;
            arp.spa = pod.ipv4.first().copied().unwrap_or(arp.spa);
        }
        Body::Ipv4(ip) => ip.src = pod.ipv4.first().copied().unwrap_or(ip.src),
        Body::Ipv6(ip) => {
            ip.src = pod.mac.link_local();
            if let L4::Icmp(Icmp { kind: 136, nd: Some(nd), .. }) = &mut ip.l4 {
                nd.target = pod.mac.link_local();
            }
        }
        Body::Other(_) => {}
    }
}

/// A frame that comes from a pod (true) or to it, from the network. Most frames of a pod bear its own MAC and many its
/// own address, else nearly all would fail at that.
fn any_case() -> impl Strategy<Value = (usize, bool, Frame)> {
    let bias = (prop::bool::weighted(0.85), prop::bool::weighted(0.6));
    (0usize..4, any::<bool>(), bias, any_frame()).prop_map(|(index, leaves, (own_mac, own_ip), mut frame)| {
        let pod = &pods()[index];
        if own_mac {
            frame.eth_src = pod.mac;
        }
        if own_ip && leaves {
            as_own(pod, &mut frame.body);
        }
        (index, leaves, frame)
    })
}

fn without_pieces(mut frame: Frame) -> Frame {
    match &mut frame.body {
        Body::Ipv4(ip) => ip.piece = Piece::Whole,
        Body::Ipv6(ip) => ip.piece = Piece::Whole,
        _ => {}
    }
    frame
}

proptest! {
    // 4000 runs of 25 frames each through one bridge that remembers connections: 100 000 frames.
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_pod_speaks_only_as_itself(cases in proptest::collection::vec(any_case(), 25)) {
        let pods = pods();
        let mut switch = Switch::new(all_flows(&pods));
        let mut known = Known::default();
        for (index, leaves, frame) in cases {
            let pod = &pods[index];
            let (enters, expected_port, may) = if leaves {
                (pod.rep, pod.patch, may_leave(pod, &frame, &mut known))
            } else {
                (pod.patch, pod.rep, may_arrive(pod, &frame, &mut known))
            };
            let sent = switch.receive(enters, frame.clone()).unwrap();
            let sent: Vec<_> = sent.into_iter().map(|(port, frame)| (port, without_pieces(frame))).collect();
            let expected = if may { vec![(expected_port, without_pieces(frame.clone()))] } else { vec![] };
            prop_assert_eq!(sent, expected, "in {} leaves {} {:?}", index, leaves, frame);
        }
    }

    #[test]
    fn other_ports_reach_nothing(frame in any_frame(), number in select(vec![5u32, 99, 105, 0xfeff])) {
        let mut switch = Switch::new(all_flows(&pods()));
        prop_assert_eq!(switch.receive(port(number), frame).unwrap(), vec![]);
    }
}

// === what the property must not have missed ===

/// The generator is no good if hardly anything passes, or if some kind of discovery never does.
#[test]
fn enough_of_the_frames_pass() {
    use proptest::strategy::ValueTree as _;
    let pods = pods();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut left, mut arrived) = (0, 0);
    let mut discovered = BTreeMap::new();
    for _ in 0..8000 {
        let (index, leaves, frame) = any_case().new_tree(&mut runner).unwrap().current();
        let mut known = Known::default();
        let kind = match &frame.body {
            Body::Ipv6(Ip { l4: L4::Icmp(icmp), .. }) if oracle::is_discovery(icmp) => Some(icmp.kind),
            // No kinds of discovery.
            Body::Arp(arp) => u8::try_from(arp.op).ok(),
            _ => None,
        };
        if leaves && may_leave(&pods[index], &frame, &mut known) {
            left += 1;
        } else if !leaves && may_arrive(&pods[index], &frame, &mut known) {
            arrived += 1;
        } else {
            continue;
        }
        *discovered.entry((leaves, kind)).or_insert(0) += 1;
    }
    assert!(left > 500 && arrived > 500, "{left} {arrived}");
    let heard = [130, 134, 135, 136, 137].map(|kind| (false, Some(kind)));
    let arp = [false, true].into_iter().flat_map(|leaves| [1, 2].map(|op| (leaves, Some(op))));
    for way in
        heard.into_iter().chain(arp).chain([131, 132, 133, 135, 136, 143].map(|kind| (true, Some(kind))))
    {
        assert!(discovered.get(&way).is_some_and(|count| *count >= 10), "{way:?} {discovered:?}");
    }
}

fn frame(eth_src: MacAddr, body: Body) -> Frame {
    Frame { eth_src, eth_dst: mac(99), vlan: None, body }
}

fn icmp6(src: Ipv6Addr, kind: u8, nd: Option<Nd>) -> Body {
    let l4 = L4::Icmp(Icmp { kind, code: 0, id: 1, about: None, nd });
    Body::Ipv6(Ip { src, dst: v6(99), ttl: 255, piece: Piece::Whole, l4 })
}

/// The same to somebody.
fn icmp6_to(dst: Ipv6Addr, src: Ipv6Addr, kind: u8, nd: Option<Nd>) -> Body {
    let Body::Ipv6(ip) = icmp6(src, kind, nd) else { panic!("it is IPv6") };
    Body::Ipv6(Ip { dst, ..ip })
}

#[test]
fn duplicate_address_detection_and_stolen_neighbours() {
    let pods = pods();
    let mut switch = Switch::new(all_flows(&pods));
    let mut passes = |body| !switch.receive(pods[0].rep, frame(mac(1), body)).unwrap().is_empty();
    let nd = |target, address| Some(Nd { target, address });
    let (own, group) = (mac(1).link_local(), discovery::solicited_node);
    assert!(passes(icmp6_to(group(own), NOBODY, 135, nd(own, MacAddr::ZERO))));
    assert!(!passes(icmp6_to(group(v6(2)), NOBODY, 135, nd(own, MacAddr::ZERO))), "another group");
    assert!(!passes(icmp6_to(own, NOBODY, 135, nd(own, MacAddr::ZERO))), "no group");
    assert!(passes(icmp6_to(group(v6(2)), v6(1), 135, nd(v6(2), mac(1)))));
    assert!(passes(icmp6_to(v6(2), v6(1), 135, nd(v6(2), mac(1)))), "is it still there?");
    assert!(!passes(icmp6_to(group(v6(99)), v6(1), 135, nd(v6(99), mac(1)))), "beyond the link");
    assert!(!passes(icmp6_to(v6(99), v6(1), 135, nd(v6(2), mac(1)))), "beyond the link");
    assert!(!passes(icmp6_to("ff02::9".parse().unwrap(), v6(1), 135, nd(v6(2), mac(1)))), "some group");
    assert!(passes(icmp6_to(v6(2), v6(1), 136, nd(v6(1), mac(1)))));
    assert!(passes(icmp6_to("ff02::1".parse().unwrap(), v6(1), 136, nd(v6(1), mac(1)))));
    assert!(!passes(icmp6_to("ff02::2".parse().unwrap(), v6(1), 136, nd(v6(1), mac(1)))));
    assert!(!passes(icmp6_to(v6(2), v6(1), 136, nd(v6(2), mac(1)))), "someone else's address");
    assert!(!passes(icmp6_to(v6(2), v6(1), 136, nd(v6(1), mac(9)))), "someone else's MAC");
    assert!(
        !passes(icmp6_to(group(v6(2)), NOBODY, 135, nd(v6(2), MacAddr::ZERO))),
        "claims another's address"
    );
    let twice = icmp6_to(group(v6(2)), v6(1), 135, None);
    assert!(!passes(twice), "an option twice: a receiver might read the other one");
    assert!(!passes(icmp6_to("ff02::1".parse().unwrap(), own, 134, None)), "router advertisement");
}

/// Nobody says more to a neighbour than that it looks for it: whatever a pod sends, no other gets a solicitation that is
/// not for an address of its own, and none of what is for routers.
#[test]
fn what_is_not_for_a_host_reaches_none() {
    let pods = pods();
    let mut switch = Switch::new(all_flows(&pods));
    let mut passes = |body| !switch.receive(pods[0].patch, frame(mac(2), body)).unwrap().is_empty();
    let nd = |target| Some(Nd { target, address: mac(2) });
    let group = discovery::solicited_node;
    assert!(passes(icmp6_to(group(v6(1)), v6(2), 135, nd(v6(1)))));
    assert!(!passes(icmp6_to(group(v6(1)), v6(2), 135, nd(v6(0x1001)))), "of the same group");
    assert!(!passes(icmp6_to(group(v6(12)), v6(2), 135, nd(v6(12)))));
    assert!(!passes(icmp6_to("ff02::1".parse().unwrap(), v6(2), 135, nd(v6(1)))), "to all nodes");
    for (kind, dst, ttl) in
        [(133, "ff02::2", 255), (131, "ff02::9", 1), (132, "ff02::2", 1), (143, "ff02::16", 1)]
    {
        let Body::Ipv6(ip) = icmp6_to(dst.parse().unwrap(), mac(2).link_local(), kind, None) else {
            panic!()
        };
        assert!(!passes(Body::Ipv6(Ip { ttl, ..ip })), "{kind}");
    }
}

#[test]
fn arp_is_for_what_is_on_the_link() {
    let pods = pods();
    let mut switch = Switch::new(all_flows(&pods));
    let none = Ipv4Addr::UNSPECIFIED;
    let mut passes = |port, op, spa, tpa| {
        let arp = Arp { op, spa, tpa, sha: mac(1), tha: MacAddr::ZERO };
        !switch.receive(port, frame(mac(1), Body::Arp(arp))).unwrap().is_empty()
    };
    for (op, spa, tpa, may) in [
        (1, v4(1), v4(5), true),
        (1, v4(1), v4(99), false),
        (1, v4(1), none, false),
        (1, none, v4(1), true),
        (1, none, v4(5), false),
        (1, v4(1), v4(1), true),
        (2, v4(1), v4(1), true),
        (2, v4(1), v4(5), true),
        (2, v4(1), v4(99), false),
        (2, v4(1), none, true),
    ] {
        assert_eq!(passes(pods[0].rep, op, spa, tpa), may, "from the pod: {op} {spa} {tpa}");
    }
    for (op, spa, tpa, may) in [
        (1, v4(5), v4(1), true),
        (1, v4(99), v4(1), false),
        (1, none, v4(1), true),
        (1, none, v4(5), false),
        (1, v4(5), v4(6), false),
        (2, v4(5), v4(1), true),
        (2, v4(99), v4(1), false),
        (2, v4(5), v4(6), false),
        (2, v4(1), none, true),
        (2, v4(5), none, false),
        (1, v4(5), v4(5), true),
        (2, v4(5), v4(5), true),
        (1, v4(99), v4(99), false),
    ] {
        assert_eq!(passes(pods[0].patch, op, spa, tpa), may, "to the pod: {op} {spa} {tpa}");
    }
    // An announcement is one to the last bit.
    let wide = Boundary { on_link: nets(&["8.0.0.0/5"]), ..pods[0].clone() };
    let mut switch = Switch::new(all_flows(std::slice::from_ref(&wide)));
    for bit in 0..27 {
        let tpa = (u32::from(v4(5)) ^ 1 << bit).into();
        let arp = Arp { op: 1, spa: v4(5), tpa, sha: mac(5), tha: MacAddr::ZERO };
        let sent = switch.receive(wide.patch, frame(mac(5), Body::Arp(arp))).unwrap();
        assert_eq!(sent.is_empty(), !wide.ipv4.contains(&tpa), "{bit}");
    }
}

#[test]
fn a_prefix_of_everything_is_no_link() {
    let all = ["::/0", "ff02::/16", "fd00::5/123", "0.0.0.0/0", "128.0.0.0/1", "224.0.0.0/8", "10.1.0.0/16"];
    let pod = Boundary { on_link: nets(&all), ..pods().remove(0) };
    assert_eq!(pod.link_ipv4(), ["10.0.0.1/32", "10.1.0.0/16"].map(|net| net.parse().unwrap()));
    assert_eq!(pod.link_ipv6(), ["fd00::/123".parse().unwrap(), discovery::LINK_LOCAL]);
}

#[test]
fn errors_pass_for_known_connections_only_and_redirects_never() {
    let pods = pods();
    let mut switch = Switch::new(all_flows(&pods));
    let udp = Body::Ipv4(Ip {
        src: v4(1),
        dst: v4(99),
        ttl: 64,
        piece: Piece::Whole,
        l4: L4::Udp { src: 5, dst: 6 },
    });
    let error = |kind, about| {
        let icmp = Icmp { kind, code: 0, id: 0, about: Some(about), nd: None };
        frame(
            mac(9),
            Body::Ipv4(Ip { src: v4(50), dst: v4(1), ttl: 64, piece: Piece::Whole, l4: L4::Icmp(icmp) }),
        )
    };
    let about = tuple(v4(1), v4(99), 17, (5, 6));
    assert!(switch.receive(pods[0].patch, error(3, about)).unwrap().is_empty(), "nothing known yet");
    assert_eq!(switch.receive(pods[0].rep, frame(mac(1), udp)).unwrap().len(), 1);
    assert_eq!(switch.receive(pods[0].patch, error(3, about)).unwrap().len(), 1);
    assert!(switch.receive(pods[0].patch, error(5, about)).unwrap().is_empty(), "redirect");
    assert!(switch.receive(pods[1].patch, error(3, about)).unwrap().is_empty(), "another pod's zone");
}

/// Whatever policy says: pods are no servers, and only servers that are named are heard.
#[test]
fn dhcp_is_between_a_client_and_its_servers() {
    let pods = pods();
    let (client, other) = (&pods[0], &pods[1]);
    let mut switch = Switch::new(all_flows(&pods));
    let mut passes = |port, src, dst, ports: (u16, u16)| {
        let l4 = L4::Udp { src: ports.0, dst: ports.1 };
        let eth_src = if port == other.rep { other.mac } else { client.mac };
        let body = Body::Ipv4(Ip { src, dst, ttl: 64, piece: Piece::Whole, l4 });
        !switch.receive(port, frame(eth_src, body)).unwrap().is_empty()
    };
    assert!(!passes(client.rep, v4(1), v4(2), (67, 68)), "answers as a server");
    assert!(!passes(other.rep, v4(2), v4(1), (67, 68)));
    assert!(!passes(client.patch, v4(2), v4(1), (68, 67)), "asked as a server");
    assert!(!passes(client.patch, v4(3), v4(1), (67, 68)), "no server of its own");
    assert!(!passes(other.patch, v4(99), v4(2), (67, 68)), "no client");
    assert!(!passes(other.rep, v4(2), v4(99), (68, 67)), "no client");
    assert!(!passes(client.rep, v4(1), v4(3), (68, 67)), "no server of its own");
    assert!(passes(client.rep, v4(1), v4(99), (68, 67)), "once more");
    assert!(passes(client.rep, Ipv4Addr::UNSPECIFIED, ALL_V4, (68, 67)));
    assert!(passes(client.patch, v4(99), v4(1), (67, 68)));
    assert!(passes(client.patch, v4(99), ALL_V4, (67, 68)));
}

/// Were conntrack to let such messages by, they would still end before it.
/// A connection that a policy cut, so that conntrack knows nothing of it any more, stays cut whichever side goes on.
#[test]
fn with_a_policy_tcp_begins_with_syn_only() {
    let [plain, ruled] = [0, 1].map(|i| pods()[i].clone());
    for (pod, midstream_passes) in [(plain, true), (ruled, false)] {
        let mut switch = Switch::new(all_flows(&pods()));
        let (own, peer) = (pod.ipv4[0], v4(99));
        let segment = |src, dst, ports: (u16, u16), syn| {
            let l4 = L4::Tcp { src: ports.0, dst: ports.1, syn };
            frame(pod.mac, Body::Ipv4(Ip { src, dst, ttl: 64, piece: Piece::Whole, l4 }))
        };
        let mut passes = |port, frame| !switch.receive(port, frame).unwrap().is_empty();
        assert_eq!(passes(pod.rep, segment(own, peer, (80, 1000), false)), midstream_passes);
        assert_eq!(passes(pod.patch, segment(peer, own, (1001, 80), false)), midstream_passes);
        assert!(passes(pod.patch, segment(peer, own, (1002, 80), true)));
        assert!(passes(pod.rep, segment(own, peer, (80, 1002), true)), "the answer");
        assert!(passes(pod.patch, segment(peer, own, (1002, 80), false)), "and on it goes");
    }
}

#[test]
fn forbidden_discovery_does_not_even_reach_conntrack() {
    let pods = pods();
    let mut flows = all_flows(&pods);
    flows.retain(|flow| flow.table == CLASSIFY);
    let pass = vec![Action::OutputReg(RegSlice::whole(AHEAD))];
    flows.push(Flow {
        table: FROM_POD,
        priority: 1,
        cookie: Cookie(0),
        matches: Match::any(),
        actions: pass,
    });
    let mut switch = Switch::new(flows);
    let mut passes =
        |kind| !switch.receive(pods[0].rep, frame(mac(1), icmp6(v6(1), kind, None))).unwrap().is_empty();
    for kind in [130, 131, 132, 134, 135, 136, 137, 143] {
        assert!(!passes(kind), "{kind}");
    }
    assert!(!passes(133), "to no router");
    assert!(passes(128));
}

#[test]
fn nonsense_yields_no_flows() {
    let good = pods().remove(0);
    assert!(!good.flows().is_empty());
    for mac in [MacAddr::ZERO, MacAddr::BROADCAST, MacAddr([1, 0, 0, 0, 0, 1])] {
        assert!(Boundary { mac, ..good.clone() }.flows().is_empty());
    }
    assert!(Boundary { patch: good.rep, ..good.clone() }.flows().is_empty());
    let bad = Boundary {
        ipv4: vec![ALL_V4, Ipv4Addr::UNSPECIFIED, Ipv4Addr::LOCALHOST, Ipv4Addr::new(224, 0, 0, 1)],
        ipv6: vec![NOBODY, Ipv6Addr::LOCALHOST, DHCP6],
        ..good
    };
    assert!(bad.flows().is_empty());
}

#[test]
fn no_two_flows_of_one_key_and_all_of_table_zero_untagged_by_port() {
    let flows = all_flows(&pods());
    let keys: BTreeSet<_> = flows.iter().map(Flow::key).collect();
    assert_eq!(keys.len(), flows.len());
    for flow in flows.iter().filter(|flow| flow.table == CLASSIFY && !flow.actions.is_empty()) {
        assert_eq!(flow.matches.vlan, crate::openflow::VlanMatch::Untagged, "{flow}");
        assert!(flow.matches.in_port.is_some(), "{flow}");
    }
}

/// A change of policy leaves the flows alone that packets of known connections meet: before conntrack, and the first ones
/// behind it.
#[test]
fn what_known_connections_meet_does_not_depend_on_the_rules() {
    let pod = pods().remove(0);
    let ruled = Boundary { egress: ALLOWS, ingress: ALLOWS, ..pod.clone() };
    let met = |pod: &Boundary| -> Vec<Flow> {
        let flows = all_flows(std::slice::from_ref(pod));
        flows.into_iter().filter(|it| it.table == CLASSIFY || it.priority == ESTABLISHED).collect()
    };
    assert_eq!(met(&pod), met(&ruled));
    assert_ne!(pod.flows(), ruled.flows());
}

#[test]
fn a_pod_without_room_begins_nothing_and_what_stands_goes_on() {
    let rate = NonZeroU32::new(50);
    let with = |full| pods().into_iter().map(|pod| Boundary { rate, full, ..pod }).collect::<Vec<_>>();
    let (free, full) = (with(false), with(true));
    let udp = |src, dst, l4| Body::Ipv4(Ip { src, dst, ttl: 64, piece: Piece::Whole, l4 });
    let udp = |src, dst, ports: (u16, u16)| udp(src, dst, L4::Udp { src: ports.0, dst: ports.1 });
    let out = |ports| frame(mac(1), udp(v4(1), v4(9), ports));
    let into = |ports| frame(mac(9), udp(v4(9), v4(1), ports));
    let (rep, patch) = (free[0].rep, free[0].patch);
    let mut switch = Switch::new(all_flows(&free));
    for (port, it) in [(rep, out((1000, 1))), (patch, into((2000, 2)))] {
        assert_eq!(switch.receive(port, it).unwrap().len(), 1);
        let commit = switch.met.last().unwrap();
        assert_eq!((commit.table, &commit.actions[0]), (COMMIT, &Action::Meter(port.get())), "{commit}");
    }
    switch.flows = all_flows(&full);
    // Nobody has answered these: they are new still, and known.
    for (port, it) in [(rep, out((1000, 1))), (patch, into((2000, 2)))] {
        assert_eq!(switch.receive(port, it).unwrap().len(), 1);
        let met = switch.met.last().unwrap();
        assert_eq!((met.table, met.priority), (COMMIT, COMMITTED), "{met}");
    }
    for (port, it) in [(rep, out((1001, 1))), (patch, into((2001, 2)))] {
        assert_eq!(switch.receive(port, it).unwrap(), []);
    }
    // Established ones do not get so far.
    assert_eq!(switch.receive(patch, into((1, 1000))).unwrap().len(), 1);
    assert_eq!(switch.met.last().unwrap().table, TO_POD);
    let meters = |pods: &[Boundary]| pods.iter().flat_map(Boundary::meters).collect::<Vec<_>>();
    assert_eq!(meters(&free), meters(&full), "they have counted what was refused");
    let named = |flow: &Flow| match flow.actions[..] {
        [Action::Meter(id), ..] => Some(id),
        _ => None,
    };
    let named: BTreeSet<u32> = all_flows(&free).iter().filter_map(named).collect();
    assert_eq!(named, meters(&free).iter().map(|it| it.id).collect());
    assert_eq!((named.len(), meters(&pods()).len()), (8, 0));
}
