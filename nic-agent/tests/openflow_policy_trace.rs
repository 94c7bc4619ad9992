//! Do the flows of rule sets mean to Open vSwitch what the evaluator means? Random policies and packets, with
//! `ofproto/trace` as the other opinion: tiers, priorities, masked ports and conjunctions in OVS's own classifier.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test's helpers

mod openflow_support;
// The generators of offload's own property test. They name that crate's modules as if they were at home.
use offload::{boundary, ids, openflow, policy, ruleset};
#[allow(dead_code)]
#[path = "../../offload/src/ruleset/tests/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use ids::{MacAddr, OfPort};
use nic_agent::openflow::Session;
use openflow::interpret::{Conntrack, Switch};
use openflow::{CtFlags, diff};
use openflow_support::trace::{traced, words};
use openflow_support::{BRIDGE, PrivateSwitch};
use policy::{Action, Direction, Packet, PodPolicy, Rule, RuleMark, State, verdict};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use world::{Conversation, Dice, PODS, World, any_world, frame, mark_of};

const NETWORK: MacAddr = MacAddr([2, 0, 0, 0, 0, 99]);

/// Brings the bridge from whatever it holds to this world. A second look finds nothing to do.
async fn install(session: &Session, world: &World) {
    let wanted = world.flows();
    session.apply(&diff(&wanted, &session.dump_flows().await.unwrap())).await.unwrap();
    assert_eq!(diff(&wanted, &session.dump_flows().await.unwrap()), vec![]);
}

/// Where and as what each new packet of the conversation meets a boundary.
fn crossings(it: &Conversation) -> Vec<(usize, Direction, Packet)> {
    let out = it.from.map(|pod| (pod, Direction::Egress, it.sent));
    out.into_iter().chain(it.to.map(|pod| (pod, Direction::Ingress, it.arrives))).collect()
}

/// A packet at a boundary, and what it should come to.
struct Case {
    pod: usize,
    direction: Direction,
    packet: Packet,
    enters: OfPort,
    eth_src: MacAddr,
    expected: BTreeSet<u32>,
    by_conjunction: bool,
}

/// What may be said of the connection that this packet begins, if it may: the mark of the rule that admits it, or that
/// none did, and that it was committed. Where several admit it, the mark of any.
fn marks(policy: &PodPolicy, direction: Direction, packet: &Packet) -> BTreeSet<Vec<u32>> {
    let peer = if direction == Direction::Egress { packet.dst } else { packet.src };
    let admits = |rule: &&Rule| {
        rule.action == Action::Allow
            && rule.peers.contains(peer)
            && rule.traffic.covers(packet.transport, peer.is_ipv6())
    };
    let decision = verdict(policy, direction, packet, State::New);
    if !decision.allowed {
        return BTreeSet::from([Vec::new()]);
    }
    let committed = |mark: Option<RuleMark>| vec![RuleMark::COMMITTED | mark.map_or(0, RuleMark::get)];
    let Some(by) = decision.by else { return BTreeSet::from([committed(None)]) };
    let tiers = policy.rules(direction).tiers.iter();
    let others = tiers.flat_map(|tier| tier.rules.iter().filter(admits).map(|rule| rule.origin));
    others.chain([by]).map(|origin| committed(mark_of(origin))).collect()
}

/// Of many random packets every one that a conjunction decides, in the interpreter, and 40 of the others.
fn cases(world: &World, seed: u64) -> Vec<Case> {
    let mut model = Switch::new(world.flows());
    let boundaries = world.boundaries();
    let dice = (1..500u64).map(|n| Dice((seed * 500 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let crossings = dice.flat_map(|dice| crossings(&Conversation::thrown(dice)));
    let all = crossings.map(|(pod, direction, packet)| {
        let boundary = &boundaries[pod];
        let (enters, leaves, eth_src) = match direction {
            Direction::Egress => (boundary.rep, boundary.patch, boundary.mac),
            Direction::Ingress => (boundary.patch, boundary.rep, NETWORK),
        };
        let is_allowed = verdict(&world.policy(pod), direction, &packet, State::New).allowed;
        let expected = is_allowed.then_some(leaves.get()).into_iter().collect();
        model.connections = Conntrack::default();
        model.receive(enters, frame(&packet, eth_src)).unwrap();
        let by_conjunction = model.met.iter().any(|flow| flow.matches.conj_id.is_some());
        Case { pod, direction, packet, enters, eth_src, expected, by_conjunction }
    });
    let (conjunctive, mut others): (Vec<_>, Vec<_>) = all.partition(|case| case.by_conjunction);
    others.truncate(40);
    conjunctive.into_iter().chain(others).collect()
}

#[tokio::test]
async fn open_vswitch_decides_as_the_evaluator_does() {
    let ovs = PrivateSwitch::start(u32::try_from(2 * PODS).unwrap());
    let session = Session::connect(&ovs.management(), Duration::from_mins(1)).await.unwrap();
    let mut runner = TestRunner::deterministic();
    let (mut passed, mut dropped, mut by_conjunction, mut marked) = (0, 0, 0, 0);
    for seed in 0..16 {
        let world = any_world().new_tree(&mut runner).unwrap().current();
        install(&session, &world).await;
        for case in cases(&world, seed) {
            let Case { pod, direction, packet, .. } = &case;
            let seen = traced(&ovs, case.enters, &frame(packet, case.eth_src), CtFlags::TRK | CtFlags::NEW);
            let possible = marks(&world.policy(*pod), *direction, packet);
            assert!(possible.contains(&seen.marks), "{:?}, not one of {possible:?}", seen.marks);
            marked += seen.marks.iter().filter(|mark| *mark & RuleMark::MASK != 0).count();
            assert_eq!(seen.ports, case.expected, "{direction:?} of pod {pod}, {packet:?} in {world:#?}");
            by_conjunction += u32::from(case.by_conjunction);
            if case.expected.is_empty() { dropped += 1 } else { passed += 1 }
        }
    }
    println!("{passed} passed, {marked} with a mark, {dropped} dropped, {by_conjunction} by a conjunction");
    assert!(marked > 100, "{marked}");
    assert!(passed > 150 && dropped > 150 && by_conjunction > 50, "{passed} {dropped} {by_conjunction}");
}

/// Once established, a packet is a matter of no rule: what OVS looks at must not grow by it.
#[tokio::test]
async fn rules_add_nothing_to_what_is_looked_at_of_an_established_connection() {
    let ovs = PrivateSwitch::start(u32::try_from(2 * PODS).unwrap());
    let session = Session::connect(&ovs.management(), Duration::from_mins(1)).await.unwrap();
    let mut runner = TestRunner::deterministic();
    for n in 0..4u64 {
        let world = any_world().new_tree(&mut runner).unwrap().current();
        install(&session, &world).await;
        let boundaries = world.boundaries();
        for m in 0..10u64 {
            let it = Conversation::thrown(Dice((n * 10 + m + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            for (pod, direction, packet) in crossings(&it) {
                let boundary = &boundaries[pod];
                let (enters, eth_src) = match direction {
                    Direction::Egress => (boundary.rep, boundary.mac),
                    Direction::Ingress => (boundary.patch, NETWORK),
                };
                let words = words(enters, &frame(&packet, eth_src));
                let trace = ovs.appctl(&["ofproto/trace", BRIDGE, &words, "--ct-next", "est,trk"]);
                let looked_at = trace.lines().filter(|line| line.starts_with("Megaflow: ")).nth(1).unwrap();
                assert!(looked_at.contains("ct_state=+est+trk"), "{looked_at}");
                for field in
                    ["tp_", "tcp_", "udp_", "icmp_", "ct_mark", "nw_src", "nw_dst", "ipv6_", "nw_proto"]
                {
                    assert!(!looked_at.contains(field), "{field} in {looked_at}");
                }
            }
        }
    }
}
