use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::ids::CtZone;
use crate::netlink::conntrack::Status;
use crate::policy::{
    Action, IcmpKind, Origin, PortRange, PortSet, PrefixSet, Rule, Rules, State, Tier, Traffic, Transport,
    Transports, verdict,
};
use crate::tuple::{ICMP, ICMPV6, L4, SCTP, TCP, Tuple, UDP};

/// Few addresses, so that rules and entries meet.
fn v4(low: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, low).into()
}

fn v6(low: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, low.into()).into()
}

const POD: u8 = 1;

fn pod() -> [IpAddr; 2] {
    [v4(POD), v6(POD)]
}

fn entry(src: IpAddr, dst: IpAddr, proto: u8, l4: L4) -> Entry {
    let orig = Tuple { src, dst, proto, l4 };
    let reply = Tuple { src: dst, dst: src, proto, l4 };
    let (zone, status, timeout) = (CtZone::new(7), Status::SEEN_REPLY, None);
    Entry { zone, orig, reply, mark: 0, status, id: 1, timeout, began: None }
}

fn transports() -> impl Strategy<Value = (u8, u8, L4)> {
    let ports = (0..4u16, 0..4u16).prop_map(|(src, dst)| L4::Ports { src, dst });
    let ported =
        (prop_oneof![Just(TCP), Just(UDP), Just(SCTP)], ports).prop_map(|(proto, l4)| (proto, proto, l4));
    let echo = (prop_oneof![Just(8u8), Just(13), Just(128)], 0..2u8, any::<u16>())
        .prop_map(|(kind, code, id)| (ICMP, ICMPV6, L4::Icmp { kind, code, id }));
    let other = prop_oneof![Just((50, 50, L4::None)), Just((47, 47, L4::Ports { src: 0, dst: 0 }))];
    prop_oneof![3 => ported, 1 => echo, 1 => other]
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let one =
        (any::<bool>(), 1..5u8, 1..5u8, transports()).prop_map(|(six, src, dst, (proto4, proto6, l4))| {
            if six { entry(v6(src), v6(dst), proto6, l4) } else { entry(v4(src), v4(dst), proto4, l4) }
        });
    vec(one, 0..12)
}

fn peers() -> impl Strategy<Value = PrefixSet> {
    let net = prop_oneof![
        (0..6u8, 29..=32u8).prop_map(|(low, len)| IpNet::new(v4(low), len).unwrap()),
        (0..6u8, 125..=128u8).prop_map(|(low, len)| IpNet::new(v6(low), len).unwrap()),
    ];
    prop_oneof![1 => Just(PrefixSet::any()), 3 => vec(net, 1..4).prop_map(|nets| nets.into_iter().collect())]
}

fn traffic() -> impl Strategy<Value = Traffic> {
    let ports = || {
        vec((0..4u16, 0..4u16), 0..2)
            .prop_map(|all| all.into_iter().filter_map(|(a, b)| PortRange::new(a, b)).collect::<PortSet>())
    };
    let kinds = || {
        let kind = prop_oneof![
            Just(IcmpKind::Any),
            prop_oneof![Just(8u8), Just(128)].prop_map(IcmpKind::Type),
            Just(IcmpKind::TypeCode(8, 1))
        ];
        btree_set(kind, 0..2)
    };
    let of =
        (ports(), ports(), ports(), kinds(), kinds(), btree_set(prop_oneof![Just(47u8), Just(50)], 0..2));
    let of = of.prop_map(|(tcp, udp, sctp, icmp, icmp6, other)| {
        Traffic::Of(Transports { tcp, udp, sctp, icmp, icmp6, other })
    });
    prop_oneof![1 => Just(Traffic::Any), 3 => of]
}

fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![Just(Action::Allow), Just(Action::Deny), Just(Action::Pass)]
}

fn rules() -> impl Strategy<Value = Rules> {
    let rule = (actions(), peers(), traffic()).prop_map(|(action, peers, traffic)| Rule {
        action,
        peers,
        traffic,
        origin: Origin(1),
    });
    let tier = (vec(rule, 0..4), actions()).prop_map(|(rules, otherwise)| Tier {
        rules,
        otherwise,
        origin: Origin(2),
    });
    vec(tier, 0..3).prop_map(|tiers| Rules { tiers })
}

fn policies() -> impl Strategy<Value = PodPolicy> {
    (rules(), rules()).prop_map(|(egress, ingress)| PodPolicy { egress, ingress })
}

/// What the definition says of a first packet that crosses the pod's boundary.
fn allows(policy: &PodPolicy, direction: Direction, packet: &Packet) -> bool {
    verdict(policy, direction, packet, State::New).allowed
}

fn admitted(policy: &PodPolicy, entry: &Entry) -> bool {
    let packet = entry.orig.packet();
    match (pod().contains(&packet.src), pod().contains(&packet.dst)) {
        (true, false) => allows(policy, Direction::Egress, &packet),
        (false, _) => allows(policy, Direction::Ingress, &packet),
        (true, true) => {
            allows(policy, Direction::Egress, &packet) && allows(policy, Direction::Ingress, &packet)
        }
    }
}

/// Allows everything that `rules` allow, and what `more` covers.
fn loosened(rules: &Rules, more: (PrefixSet, Traffic)) -> Rules {
    let rule = Rule { action: Action::Allow, peers: more.0, traffic: more.1, origin: Origin(3) };
    let first = Tier { rules: vec![rule], otherwise: Action::Pass, origin: Origin(3) };
    Rules { tiers: std::iter::once(first).chain(rules.tiers.iter().cloned()).collect() }
}

proptest! {
    #[test]
    fn exactly_what_the_definition_denies_is_cut(policy in policies(), entries in entries()) {
        let cut = cut(&pod(), &policy, &entries);
        let denied: Vec<&Entry> = entries.iter().filter(|entry| !admitted(&policy, entry)).collect();
        prop_assert_eq!(cut, denied);
    }

    #[test]
    fn what_a_policy_let_in_stays_under_it_and_under_any_looser_one(
        policy in policies(), entries in entries(), out in (peers(), traffic()), into in (peers(), traffic()),
    ) {
        let admitted: Vec<Entry> = entries.into_iter().filter(|entry| admitted(&policy, entry)).collect();
        prop_assert_eq!(cut(&pod(), &policy, &admitted), Vec::<&Entry>::new());
        let looser = PodPolicy { egress: loosened(&policy.egress, out), ingress: loosened(&policy.ingress, into) };
        prop_assert_eq!(cut(&pod(), &looser, &admitted), Vec::<&Entry>::new());
    }

    #[test]
    fn in_a_shared_zone_both_ends_must_allow(a in policies(), b in policies(), entries in entries()) {
        // 1 and 2 are pods, 3 and 4 are the world.
        let pods: BTreeMap<IpAddr, &PodPolicy> =
            [(v4(1), &a), (v6(1), &a), (v4(2), &b), (v6(2), &b)].into_iter().collect();
        let cut = cut_shared(|address| pods.get(&address).copied(), &entries);
        let denied: Vec<&Entry> = entries
            .iter()
            .filter(|entry| {
                let packet = entry.orig.packet();
                let out = pods.get(&packet.src).is_none_or(|policy| allows(policy, Direction::Egress, &packet));
                let into = pods.get(&packet.dst).is_none_or(|policy| allows(policy, Direction::Ingress, &packet));
                !(out && into)
            })
            .collect();
        prop_assert_eq!(cut, denied);
    }
}

fn only(action: Action, rule: Option<Rule>) -> Rules {
    Rules { tiers: vec![Tier { rules: rule.into_iter().collect(), otherwise: action, origin: Origin(9) }] }
}

/// Named cases, by hand.
#[test]
fn the_first_packet_decides_not_the_answer() {
    let web =
        Rule { action: Action::Allow, peers: PrefixSet::any(), traffic: Traffic::tcp(80), origin: Origin(1) };
    let policy = PodPolicy { egress: only(Action::Deny, Some(web)), ingress: only(Action::Deny, None) };
    let tcp = |src, dst, from, to| entry(src, dst, TCP, L4::Ports { src: from, dst: to });
    let echo = |src, dst| entry(src, dst, ICMP, L4::Icmp { kind: 8, code: 0, id: 3 });
    let (pod, peer, group) = (v4(POD), v4(3), IpAddr::from([224, 0, 0, 9]));
    let all = [
        tcp(pod, peer, 4000, 80),
        // Allowed as an answer only: the peer began it.
        tcp(peer, pod, 80, 4000),
        tcp(pod, peer, 80, 4000),
        echo(pod, peer),
        // Sent to the pod, though not by its address.
        entry(peer, group, UDP, L4::Ports { src: 1, dst: 1 }),
        // To itself: ingress denies it.
        tcp(pod, pod, 4000, 80),
    ];
    let kept: Vec<&Entry> =
        all.iter().filter(|entry| !cut(&pod_of(), &policy, &all).contains(entry)).collect();
    assert_eq!(kept, [&all[0]]);
    let open = PodPolicy::default();
    assert!(cut(&pod_of(), &open, &all).is_empty());
}

fn pod_of() -> [IpAddr; 1] {
    [v4(POD)]
}

#[test]
fn a_translated_entry_is_judged_by_what_was_sent() {
    let to_vip = Rule {
        action: Action::Allow,
        peers: PrefixSet::from(IpNet::from(v4(3))),
        traffic: Traffic::Any,
        origin: Origin(1),
    };
    let policy = PodPolicy { egress: only(Action::Deny, Some(to_vip)), ingress: Rules::default() };
    let mut entry = entry(v4(POD), v4(3), TCP, L4::Ports { src: 1, dst: 2 });
    entry.reply.src = v4(4);
    assert!(cut(&pod(), &policy, [&entry]).is_empty());
    entry.orig.dst = v4(4);
    entry.reply.src = v4(3);
    assert_eq!(cut(&pod(), &policy, [&entry]), [&entry]);
}

#[test]
fn a_shared_zone_leaves_alone_what_is_nobodys() {
    let policy = PodPolicy { egress: only(Action::Deny, None), ingress: only(Action::Deny, None) };
    let theirs = entry(v4(3), v4(4), TCP, L4::Ports { src: 1, dst: 2 });
    let ours = entry(v4(3), v4(POD), TCP, L4::Ports { src: 1, dst: 2 });
    let of = |address: IpAddr| pod().contains(&address).then_some(&policy);
    assert_eq!(cut_shared(of, [&theirs, &ours]), [&ours]);
}

#[test]
fn a_tuple_is_a_packet() {
    let packet = |proto, l4| entry(v4(1), v4(2), proto, l4).orig.packet().transport;
    let ports = L4::Ports { src: 1, dst: 2 };
    assert_eq!(packet(TCP, ports), Transport::Tcp { src: 1, dst: 2 });
    assert_eq!(packet(UDP, ports), Transport::Udp { src: 1, dst: 2 });
    assert_eq!(packet(SCTP, ports), Transport::Sctp { src: 1, dst: 2 });
    assert_eq!(packet(136, ports), Transport::Other(136), "UDP-Lite has ports, but no rule asks for them");
    assert_eq!(
        packet(ICMPV6, L4::Icmp { kind: 128, code: 0, id: 5 }),
        Transport::Icmp { kind: 128, code: 0 }
    );
    assert_eq!(packet(50, L4::None), Transport::Other(50));
}

#[test]
fn an_answer_that_was_under_way_does_not_bring_a_connection_back() {
    let ports = |src, dst| L4::Ports { src, dst };
    let sent = entry(v4(1), v4(2), UDP, ports(4000, 53));
    let sent = Entry { reply: Tuple { l4: ports(53, 4000), ..sent.reply }, ..sent };
    let cut = BTreeSet::from([sent.reply]);
    // As conntrack sees the answer, once the entry is gone.
    let begun = entry(v4(2), v4(1), UDP, ports(53, 4000));
    let others = [sent, entry(v4(2), v4(1), UDP, ports(53, 4001)), entry(v4(2), v4(3), UDP, ports(53, 4000))];
    assert!(is_answer(&cut, &begun.orig));
    assert!(!others.iter().any(|it| is_answer(&cut, &it.orig)));
    // Policy alone would let it stay: the pod may send.
    let pod = PodPolicy { ingress: Rules::default(), ..PodPolicy::default() };
    assert_eq!(super::cut(&[v4(2)], &pod, [&begun]), Vec::<&Entry>::new());
}
