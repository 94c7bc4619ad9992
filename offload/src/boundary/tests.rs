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

/// Dual stack with DHCP; dual stack with two addresses of each and a policy that allows everything; IPv4 only; IPv6 only
/// with DHCP.
fn pods() -> Vec<Boundary> {
    let pod = |n: u8, ipv4: Vec<Ipv4Addr>, ipv6: Vec<Ipv6Addr>, dhcp| Boundary {
        rep: port(n.into()),
        patch: port(u32::from(n) + 100),
        zone: CtZone::new(u16::from(n) + 1000).unwrap(),
        mac: mac(n),
        ipv4,
        ipv6,
        dhcp,
        egress: RuleSetId::NONE,
        ingress: RuleSetId::NONE,
        cookie: Cookie(n.into()),
    };
    vec![
        pod(1, vec![v4(1)], vec![v6(1)], true),
        Boundary { egress: ALLOWS, ..pod(2, vec![v4(2), v4(12)], vec![v6(2), v6(12)], false) },
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

// === what may pass, in plain words ===

/// Connections, and whether they were answered.
#[derive(Default)]
struct Known(BTreeMap<(u32, Tuple), bool>);

impl Known {
    fn has(&self, pod: &Boundary, tuple: Tuple) -> bool {
        self.0.contains_key(&(pod.rep.get(), tuple))
            || self.0.contains_key(&(pod.rep.get(), tuple.reversed()))
    }

    /// May this pass conntrack, where every new connection is allowed? If so, it is known from now on.
    fn allows(&mut self, pod: &Boundary, src: IpAddr, dst: IpAddr, l4: &L4) -> bool {
        let (proto, ports, opens) = match l4 {
            L4::Tcp { src, dst, syn } => (6, (*src, *dst), *syn || !is_ruled(pod)),
            L4::Udp { src, dst } => (17, (*src, *dst), true),
            L4::Sctp { src, dst } => (132, (*src, *dst), true),
            L4::Other(proto) => (*proto, (0, 0), true),
            L4::Icmp(icmp) => match (src.is_ipv6(), icmp.kind) {
                (false, 8) => (1, (icmp.id, icmp.id), true),
                (true, 128) => (58, (icmp.id, icmp.id), true),
                (false, 0) => (1, (icmp.id, icmp.id), false),
                (true, 129) => (58, (icmp.id, icmp.id), false),
                (false, 3 | 11 | 12) | (true, 1..=4) => {
                    return icmp.about.is_some_and(|about| self.has(pod, about));
                }
                _ => return false,
            },
        };
        let tuple = Tuple { src, dst, proto, ports };
        let midstream = matches!(l4, L4::Tcp { syn: false, .. }) && is_ruled(pod);
        if let Some(answered) = self.0.get(&(pod.rep.get(), tuple)) {
            return *answered || !midstream;
        }
        if let Some(answered) = self.0.get_mut(&(pod.rep.get(), tuple.reversed())) {
            *answered = true;
            return true;
        }
        if opens {
            self.0.insert((pod.rep.get(), tuple), false);
        }
        opens
    }
}

fn own6(pod: &Boundary) -> Vec<Ipv6Addr> {
    if pod.ipv6.is_empty() { vec![] } else { [pod.ipv6.clone(), vec![pod.mac.link_local()]].concat() }
}

fn may_leave(pod: &Boundary, frame: &Frame, known: &mut Known) -> bool {
    if frame.vlan.is_some() || frame.eth_src != pod.mac {
        return false;
    }
    match &frame.body {
        Body::Other(_) => false,
        Body::Arp(arp) => {
            let named = pod.ipv4.contains(&arp.spa) && [1, 2].contains(&arp.op);
            let probe = arp.spa.is_unspecified() && arp.op == 1 && !pod.ipv4.is_empty();
            arp.sha == pod.mac && (named || probe)
        }
        Body::Ipv4(ip) => {
            let discover = pod.dhcp
                && !pod.ipv4.is_empty()
                && (ip.src, ip.dst, &ip.l4) == (Ipv4Addr::UNSPECIFIED, ALL_V4, &L4::Udp { src: 68, dst: 67 })
                && ip.piece == Piece::Whole;
            discover || pod.ipv4.contains(&ip.src) && known.allows(pod, ip.src.into(), ip.dst.into(), &ip.l4)
        }
        Body::Ipv6(ip) => {
            let own = own6(pod);
            let local = pod.mac.link_local();
            if own.is_empty() {
                return false;
            }
            match &ip.l4 {
                L4::Icmp(icmp) if (130..=137).contains(&icmp.kind) || icmp.kind == 143 => {
                    let is_own = own.contains(&ip.src);
                    let nd = icmp.nd.filter(|nd| icmp.code == 0 && !nd.target.is_unspecified());
                    let good_address = nd.is_some_and(|nd| [pod.mac, MacAddr::ZERO].contains(&nd.address));
                    let own_target = nd.is_some_and(|nd| own.contains(&nd.target));
                    let dad =
                        ip.src == NOBODY && own_target && nd.is_some_and(|nd| nd.address == MacAddr::ZERO);
                    ip.piece == Piece::Whole
                        && match icmp.kind {
                            133 => is_own || ip.src == NOBODY,
                            135 => is_own && good_address || dad,
                            136 => is_own && own_target && good_address,
                            131 | 132 | 143 => ip.src == local || ip.src == NOBODY,
                            _ => false,
                        }
                }
                L4::Udp { src: 546, dst: 547 }
                    if pod.dhcp && ip.src == local && ip.dst == DHCP6 && ip.piece == Piece::Whole =>
                {
                    true
                }
                l4 => own.contains(&ip.src) && known.allows(pod, ip.src.into(), ip.dst.into(), l4),
            }
        }
    }
}

fn may_arrive(pod: &Boundary, frame: &Frame, known: &mut Known) -> bool {
    if frame.vlan.is_some() {
        return false;
    }
    match &frame.body {
        Body::Other(_) => false,
        Body::Arp(_) => !pod.ipv4.is_empty(),
        Body::Ipv4(ip) => {
            let answer = pod.dhcp
                && ip.l4 == (L4::Udp { src: 67, dst: 68 })
                && ip.piece == Piece::Whole
                && (ip.dst == ALL_V4 || pod.ipv4.contains(&ip.dst));
            !pod.ipv4.is_empty() && (answer || known.allows(pod, ip.src.into(), ip.dst.into(), &ip.l4))
        }
        Body::Ipv6(ip) => match &ip.l4 {
            _ if pod.ipv6.is_empty() => false,
            L4::Icmp(icmp) if (130..=137).contains(&icmp.kind) || icmp.kind == 143 => {
                let unreadable =
                    icmp.kind == 135 && icmp.nd.is_none_or(|nd| icmp.code != 0 || nd.target.is_unspecified());
                ip.piece == Piece::Whole && !unreadable
            }
            L4::Udp { src: 547, dst: 546 }
                if pod.dhcp && ip.dst == pod.mac.link_local() && ip.piece == Piece::Whole =>
            {
                true
            }
            l4 => known.allows(pod, ip.src.into(), ip.dst.into(), l4),
        },
    }
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
    let ipv4 = (any_v4(), any_v4(), any_piece(), any_l4(vec![0, 3, 4, 5, 8, 9, 10, 11, 12, 13], about4))
        .prop_map(|(src, dst, piece, l4)| Body::Ipv4(Ip { src, dst, piece, l4 }));
    let kinds = vec![
        0, 1, 2, 3, 4, 100, 128, 129, 130, 131, 132, 133, 134, 135, 135, 136, 136, 137, 141, 143, 148, 151,
    ];
    let ipv6 = (any_v6(), any_v6(), any_piece(), any_l4(kinds, about6))
        .prop_map(|(src, dst, piece, l4)| Body::Ipv6(Ip { src, dst, piece, l4 }));
    prop_oneof![1 => other, 3 => arp, 5 => ipv4, 8 => ipv6]
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
        Body::Ipv6(ip) => ip.src = pod.mac.link_local(),
        Body::Other(_) => {}
    }
}

/// A frame that comes from a pod (true) or to it, from the network. Most frames of a pod bear its own MAC and many its
/// own address, else nearly all would fail at that.
fn any_case() -> impl Strategy<Value = (usize, bool, Frame)> {
    let bias = (prop::bool::weighted(0.85), prop::bool::weighted(0.4));
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

/// The generator is no good if hardly anything passes.
#[test]
fn enough_of_the_frames_pass() {
    use proptest::strategy::ValueTree as _;
    let pods = pods();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut left, mut arrived) = (0, 0);
    for _ in 0..4000 {
        let (index, leaves, frame) = any_case().new_tree(&mut runner).unwrap().current();
        let mut known = Known::default();
        if leaves && may_leave(&pods[index], &frame, &mut known) {
            left += 1;
        } else if !leaves && may_arrive(&pods[index], &frame, &mut known) {
            arrived += 1;
        }
    }
    assert!(left > 250 && arrived > 500, "{left} {arrived}");
}

fn frame(eth_src: MacAddr, body: Body) -> Frame {
    Frame { eth_src, eth_dst: mac(99), vlan: None, body }
}

fn icmp6(src: Ipv6Addr, kind: u8, nd: Option<Nd>) -> Body {
    let l4 = L4::Icmp(Icmp { kind, code: 0, id: 1, about: None, nd });
    Body::Ipv6(Ip { src, dst: v6(99), piece: Piece::Whole, l4 })
}

#[test]
fn duplicate_address_detection_and_stolen_neighbours() {
    let pods = pods();
    let mut switch = Switch::new(all_flows(&pods));
    let mut passes = |body| !switch.receive(pods[0].rep, frame(mac(1), body)).unwrap().is_empty();
    let nd = |target, address| Some(Nd { target, address });
    assert!(passes(icmp6(NOBODY, 135, nd(mac(1).link_local(), MacAddr::ZERO))));
    assert!(passes(icmp6(v6(1), 135, nd(v6(99), mac(1)))));
    assert!(passes(icmp6(v6(1), 136, nd(v6(1), mac(1)))));
    assert!(!passes(icmp6(v6(1), 136, nd(v6(99), mac(1)))), "someone else's address");
    assert!(!passes(icmp6(v6(1), 136, nd(v6(1), mac(9)))), "someone else's MAC");
    assert!(!passes(icmp6(NOBODY, 135, nd(v6(99), MacAddr::ZERO))), "claims another's address");
    assert!(!passes(icmp6(v6(1), 135, None)), "an option twice: a receiver might read the other one");
    assert!(!passes(icmp6(mac(1).link_local(), 134, None)), "router advertisement");
}

#[test]
fn errors_pass_for_known_connections_only_and_redirects_never() {
    let pods = pods();
    let mut switch = Switch::new(all_flows(&pods));
    let udp = Body::Ipv4(Ip { src: v4(1), dst: v4(99), piece: Piece::Whole, l4: L4::Udp { src: 5, dst: 6 } });
    let error = |kind, about| {
        let icmp = Icmp { kind, code: 0, id: 0, about: Some(about), nd: None };
        frame(mac(9), Body::Ipv4(Ip { src: v4(50), dst: v4(1), piece: Piece::Whole, l4: L4::Icmp(icmp) }))
    };
    let about = tuple(v4(1), v4(99), 17, (5, 6));
    assert!(switch.receive(pods[0].patch, error(3, about)).unwrap().is_empty(), "nothing known yet");
    assert_eq!(switch.receive(pods[0].rep, frame(mac(1), udp)).unwrap().len(), 1);
    assert_eq!(switch.receive(pods[0].patch, error(3, about)).unwrap().len(), 1);
    assert!(switch.receive(pods[0].patch, error(5, about)).unwrap().is_empty(), "redirect");
    assert!(switch.receive(pods[1].patch, error(3, about)).unwrap().is_empty(), "another pod's zone");
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
            frame(pod.mac, Body::Ipv4(Ip { src, dst, piece: Piece::Whole, l4 }))
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
    assert!(passes(128) && passes(133));
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
