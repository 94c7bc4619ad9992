//! The emitted flows, run by the interpreter, against the evaluator.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::*;
use crate::boundary::Boundary;
use crate::ids::MacAddr;
use crate::openflow::interpret::{Conntrack, Switch};
use crate::openflow::{FlowKey, FlowMod, InstalledFlow, diff};
use crate::policy::{
    self as ir, Decision, Origin, Packet, PodPolicy, PortRange, PortSet, Rule, State, Tier, Traffic,
    Transport, verdict,
};
use world::{Conversation, Dice, World, answer, any_world, frame, mark_of};

mod world;

/// A pod's boundary, and what its conntrack zone should know of the one conversation that is under way.
struct Side<'a> {
    boundary: &'a Boundary,
    policy: &'a PodPolicy,
    /// Which way the packet went that was committed: as the conversation (true), or against it.
    committed: Option<bool>,
    answered: bool,
}

impl Side<'_> {
    fn state(&mut self, along: bool, packet: &Packet) -> State {
        match self.committed {
            Some(way) if way != along => {
                self.answered = true;
                State::Established
            }
            Some(_) if self.answered => State::Established,
            // An answer to nothing. Of other protocols it looks as if it began something.
            None if matches!(packet.transport, Transport::Icmp { kind: 0 | 129, .. }) => State::Invalid,
            _ => State::New,
        }
    }

    /// Sends the packet across, and holds what happens against the evaluator. Did it pass?
    fn cross(&mut self, switch: &mut Switch, direction: Direction, along: bool, packet: &Packet) -> bool {
        let state = self.state(along, packet);
        let decision = verdict(self.policy, direction, packet, state);
        let (enters, leaves, eth_src) = match direction {
            Direction::Egress => (self.boundary.rep, self.boundary.patch, self.boundary.mac),
            Direction::Ingress => (self.boundary.patch, self.boundary.rep, MacAddr([2, 0, 0, 0, 0, 99])),
        };
        let frame = frame(packet, eth_src);
        let sent = switch.receive(enters, frame.clone()).unwrap();
        let expected = if decision.allowed { vec![(leaves, frame.clone())] } else { Vec::new() };
        assert_eq!(sent, expected, "{direction:?} {state:?} {packet:?}: {decision:?}");
        if state == State::New {
            let is_first = self.committed.is_none();
            self.committed = self.committed.or(decision.allowed.then_some(along));
            // What is allowed goes on to where it is committed.
            let met = switch.met.iter().rfind(|flow| flow.table == table(direction)).unwrap();
            let (rules, named) = (self.policy.rules(direction), Origin(met.cookie.0));
            assert!(bears_the_name(rules, direction, packet, decision, named), "{met}");
            if decision.allowed {
                let mark = switch.connections.mark(self.boundary.zone.get(), &frame).unwrap();
                let (committed, mark) = (mark & !RuleMark::MASK, mark & RuleMark::MASK);
                assert_eq!(committed, RuleMark::COMMITTED, "{met}");
                // One that goes on unanswered keeps the name that it got first.
                if is_first {
                    assert!(names_who_admitted(rules, direction, packet, decision, mark), "{mark:#x}: {met}");
                }
            }
        }
        decision.allowed
    }
}

/// What decided is named as the tier that did, or as a rule that matches and says the same.
fn bears_the_name(
    rules: &Rules,
    direction: Direction,
    packet: &Packet,
    decision: Decision,
    named: Origin,
) -> bool {
    let peer = if direction == Direction::Egress { packet.dst } else { packet.src };
    let action = |says: ir::Action| match says {
        ir::Action::Deny => !decision.allowed,
        // Only the last tier's pass decides, and then it allows.
        ir::Action::Allow | ir::Action::Pass => decision.allowed,
    };
    let mut all = rules.tiers.iter().flat_map(|tier| &tier.rules);
    if let Some(rule) = all.find(|rule| rule.origin == named) {
        return action(rule.action)
            && rule.peers.contains(peer)
            && rule.traffic.covers(packet.transport, peer.is_ipv6());
    }
    match rules.tiers.iter().find(|tier| tier.origin == named) {
        Some(tier) => action(tier.otherwise) && decision.by.is_none_or(|by| by == named),
        None => rules.is_open() && named == Origin(0),
    }
}

/// The connection's mark is that of the rule that the evaluator names. Where several in a row admit the packet,
/// of any of them; where it names none, or that one has no mark, there is none.
fn names_who_admitted(
    rules: &Rules,
    direction: Direction,
    packet: &Packet,
    decision: Decision,
    mark: u32,
) -> bool {
    let peer = if direction == Direction::Egress { packet.dst } else { packet.src };
    let matches = |rule: &&Rule| {
        rule.action == ir::Action::Allow
            && rule.peers.contains(peer)
            && rule.traffic.covers(packet.transport, peer.is_ipv6())
    };
    let number = |origin| mark_of(origin).map_or(0, policy::RuleMark::get);
    let admitting: BTreeSet<Origin> = rules
        .tiers
        .iter()
        .flat_map(|tier| tier.rules.iter().filter(matches).map(|rule| rule.origin))
        .chain(decision.by)
        .collect();
    match decision.by {
        None => mark == 0,
        Some(_) => admitting.into_iter().any(|origin| {
            number(origin) == mark && bears_the_name(rules, direction, packet, decision, origin)
        }),
    }
}

/// What goes wrong in tests of several pods ends here.
struct Bench {
    boundaries: Vec<Boundary>,
    policies: Vec<PodPolicy>,
    switch: Switch,
}

impl Bench {
    fn new(world: &World, flows: Vec<Flow>) -> Self {
        let policies = (0..world.pods.len()).map(|pod| world.policy(pod)).collect();
        Self { boundaries: world.boundaries(), policies, switch: Switch::new(flows) }
    }

    fn side(&self, pod: usize) -> Side<'_> {
        let (boundary, policy) = (&self.boundaries[pod], &self.policies[pod]);
        Side { boundary, policy, committed: None, answered: false }
    }

    /// The first packet, the answer to it (whether or not it came through), and the first once more. Did it come
    /// through?
    fn hold(&mut self, it: &Conversation) -> bool {
        let mut switch = std::mem::replace(&mut self.switch, Switch::new(Vec::new()));
        switch.connections = Conntrack::default();
        let mut from = it.from.map(|pod| self.side(pod));
        let mut to = it.to.map(|pod| self.side(pod));
        let forth = |switch: &mut Switch, from: &mut Option<Side<'_>>, to: &mut Option<Side<'_>>| {
            from.as_mut().is_none_or(|side| side.cross(switch, Direction::Egress, true, &it.sent))
                && to.as_mut().is_none_or(|side| side.cross(switch, Direction::Ingress, true, &it.arrives))
        };
        let passed = forth(&mut switch, &mut from, &mut to);
        let _ = to
            .as_mut()
            .is_none_or(|side| side.cross(&mut switch, Direction::Egress, false, &answer(&it.arrives)))
            && from
                .as_mut()
                .is_none_or(|side| side.cross(&mut switch, Direction::Ingress, false, &answer(&it.sent)));
        let again = forth(&mut switch, &mut from, &mut to);
        assert!(again || !passed, "{it:?} passed once only");
        self.switch = switch;
        passed
    }
}

fn shuffled<T>(mut items: Vec<T>, seed: u64) -> Vec<T> {
    let mut state = seed | 1;
    for last in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        items.swap(last, usize::try_from(state % (last as u64 + 1)).unwrap());
    }
    items
}

proptest! {
    // 1000 random worlds (four random sets of rules, spread over three pods, both directions), each with 120
    // conversations: 120 000 cases. A case is one conversation: a first packet, its answer, and the first once more,
    // through one or two boundaries, each step held against the evaluator.
    #![proptest_config(ProptestConfig { max_shrink_iters: 4000, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn the_flows_say_what_the_evaluator_says(world in any_world(), seed in any::<u64>(), dice in vec(any::<u64>(), 120)) {
        let mut bench = Bench::new(&world, shuffled(world.flows(), seed));
        for dice in dice {
            bench.hold(&Conversation::thrown(Dice(dice)));
        }
    }
}

fn installed(flows: &[Flow]) -> Vec<InstalledFlow> {
    flows.iter().cloned().map(InstalledFlow::fresh).collect()
}

fn apply(changes: Vec<FlowMod>, flows: &[Flow]) -> Vec<Flow> {
    let mut table: BTreeMap<FlowKey, Flow> = flows.iter().map(|flow| (flow.key(), flow.clone())).collect();
    for change in changes {
        match change {
            FlowMod::Add(flow) => {
                table.insert(flow.key(), flow);
            }
            FlowMod::ModifyStrict(flow) => {
                table.get_mut(&flow.key()).unwrap().actions.clone_from(&flow.actions);
            }
            FlowMod::DeleteStrict(key) => {
                table.remove(&key).unwrap();
            }
            FlowMod::Delete { .. } => panic!("not from a diff"),
        }
    }
    table.into_values().collect()
}

fn keys(flows: &[Flow]) -> BTreeSet<FlowKey> {
    flows.iter().map(Flow::key).collect()
}

fn changed(change: &FlowMod) -> FlowKey {
    match change {
        FlowMod::Add(flow) | FlowMod::ModifyStrict(flow) => flow.key(),
        FlowMod::DeleteStrict(key) => key.clone(),
        FlowMod::Delete { .. } => panic!("not from a diff"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4000, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn a_change_ends_where_it_should_and_touches_nobody_else(
        before in any_world(),
        other in any_world(),
        keep in any::<u64>(),
        dice in vec(any::<u64>(), 20),
    ) {
        let wanted = before.flows();
        prop_assert_eq!(keys(&wanted).len(), wanted.len(), "no two flows of one key");
        prop_assert_eq!(diff(&wanted, &installed(&wanted)), vec![]);

        // Resync: whatever is there, the wanted flows are there afterwards.
        let there = shuffled([wanted.clone(), other.flows()].concat(), keep);
        let there = apply(Vec::new(), &there[..there.len() / 2]);
        let after = apply(diff(&wanted, &installed(&there)), &there);
        prop_assert!(after == apply(Vec::new(), &wanted));

        // The last pod gets another policy.
        let mut changed_world = before.clone();
        changed_world.pool.push(other.pool[0].clone());
        changed_world.pods[2] = (4, before.pods[2].1);
        let next = changed_world.flows();
        let steps = diff(&next, &installed(&wanted));
        let [last_before, last] = [before.boundaries(), changed_world.boundaries()].map(|all| all[2].clone());
        let sets = [last_before.egress.0, last.egress.0];
        // What comes to the pod knows whether it has a policy at all.
        let is_ruled = |pod: &Boundary| [pod.egress, pod.ingress] != [RuleSetId::NONE; 2];
        let own = if is_ruled(&last_before) == is_ruled(&last) { vec![last.rep] } else { vec![last.rep, last.patch] };
        for step in &steps {
            let key = changed(step);
            let is_own = key.matches.in_port.is_some_and(|port| own.contains(&port));
            let is_of_its_rules = key.table == EGRESS && sets.iter().any(|id| key.matches.reg_match(RULE_SET) == (*id).into());
            prop_assert!(is_own || is_of_its_rules, "{:?}", step);
        }
        let mut bench = Bench::new(&changed_world, apply(steps, &wanted));
        for dice in &dice {
            bench.hold(&Conversation::thrown(Dice(*dice)));
        }

        // The last pod goes.
        let mut without = before.clone();
        without.pods.pop();
        let left = without.flows();
        let steps = diff(&left, &installed(&wanted));
        prop_assert!(steps.iter().all(|step| matches!(step, FlowMod::DeleteStrict(_))));
        let mut bench = Bench::new(&without, apply(steps, &wanted));
        for dice in dice {
            let it = Conversation::thrown(Dice(dice));
            if it.from != Some(2) && it.to != Some(2) {
                bench.hold(&it);
            }
        }
    }
}

/// The generator is no good if hardly anything passes, or if conjunctions and tiers hardly come into it.
#[test]
fn enough_of_everything_happens() {
    let mut runner = TestRunner::deterministic();
    let (mut passed, mut stopped, mut by_conjunction, mut in_later_stages, mut translated) = (0, 0, 0, 0, 0);
    for n in 0..100u64 {
        let world = any_world().new_tree(&mut runner).unwrap().current();
        let mut bench = Bench::new(&world, world.flows());
        for m in 0..50u64 {
            let it = Conversation::thrown(Dice((n * 50 + m + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            if bench.hold(&it) {
                passed += 1;
            } else {
                stopped += 1;
            }
            let met = &bench.switch.met;
            by_conjunction += usize::from(met.iter().any(|flow| flow.matches.conj_id.is_some()));
            in_later_stages += usize::from(met.iter().any(|flow| flow.matches.reg_match(TIER).value() > 0));
            translated += usize::from(it.sent.dst != it.arrives.dst);
        }
    }
    let counts = [passed, stopped, by_conjunction, in_later_stages, translated];
    assert!(counts.iter().all(|count| *count > 40), "{counts:?}");
}

// === named cases ===

fn one_tier(rules: Vec<Rule>) -> Rules {
    Rules { tiers: vec![Tier { rules, otherwise: ir::Action::Deny, origin: Origin(9) }] }
}

fn rule(action: ir::Action, peers: &[&str], traffic: Traffic) -> Rule {
    let peers = peers.iter().map(|net| net.parse::<ipnet::IpNet>().unwrap()).collect();
    Rule { action, peers, traffic, origin: Origin(5) }
}

/// Of 24 bits or none.
fn by_origin(origin: Origin) -> Option<policy::RuleMark> {
    policy::RuleMark::new(u32::try_from(origin.0).ok()?)
}

fn compiled(rules: &Rules) -> Vec<String> {
    flows(RuleSetId(7), Direction::Egress, rules, &by_origin)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn ports(ranges: &[(u16, u16)]) -> PortSet {
    ranges.iter().map(|(first, last)| PortRange::new(*first, *last).unwrap()).collect()
}

#[test]
fn as_ovs_ofctl_would_write_it() {
    let dns = rule(ir::Action::Allow, &["10.0.0.10/32"], Traffic::udp(53));
    let new = "reg0=0x7,reg3=0x0,ct_state=+new+trk";
    let allow = "actions=set_field:0x5->reg5,resubmit(,12)";
    assert_eq!(
        compiled(&one_tier(vec![dns])),
        [
            format!("cookie=0x5, table=5, priority=49999,udp,{new},nw_dst=10.0.0.10,tp_dst=53 {allow}"),
            format!("cookie=0x9, table=5, priority=101,{new} actions=drop"),
        ]
    );
}

/// The flow to which a conjunction leads bears the mark, its clauses do not; of one match it is the first rule's.
#[test]
fn each_rule_of_a_run_leaves_its_own_mark() {
    let named = |peers: &[&str], ports: &[(u16, u16)], origin| Rule {
        origin: Origin(origin),
        ..rule(ir::Action::Allow, peers, Traffic::tcp(self::ports(ports)))
    };
    let many = ["10.0.0.1/32", "10.0.0.3/32", "10.0.0.5/32"];
    let rules = one_tier(vec![
        named(&many, &[(1, 1), (3, 3), (5, 5), (7, 7)], 5),
        named(&["10.0.0.9/32"], &[(80, 80)], 6),
        named(&["10.0.0.9/32"], &[(80, 80)], 7),
        named(&["10.0.0.9/32"], &[(443, 443)], 0x0100_0000),
    ]);
    let sets: Vec<(u64, String)> = flows(RuleSetId(7), Direction::Egress, &rules, &by_origin)
        .unwrap()
        .iter()
        .filter(|flow| flow.actions.contains(&Action::Resubmit(crate::tables::COMMIT)))
        .map(|flow| (flow.cookie.0, flow.to_string()))
        .collect();
    let cookies: Vec<u64> = sets.iter().map(|(cookie, _)| *cookie).collect();
    assert_eq!(cookies, [6, 0x0100_0000, 5]);
    for (cookie, flow) in sets {
        let mark = if cookie < 0x0100_0000 { cookie } else { 0 };
        assert!(flow.contains(&format!("set_field:{mark:#x}->reg5,")), "{flow}");
        assert_eq!(flow.contains("conj_id="), cookie == 5, "{flow}");
    }
}

/// Three peers and five ports are fifteen flows, or nine.
#[test]
fn what_is_large_becomes_a_conjunction() {
    let peers = ["10.0.0.1/32", "10.0.0.3/32", "10.0.0.5/32"];
    let all = ports(&[(1, 1), (3, 3), (5, 5), (7, 7), (9, 9)]);
    let large = rule(ir::Action::Deny, &peers, Traffic::tcp(all.clone()));
    let made = flows(RuleSetId(7), Direction::Ingress, &one_tier(vec![large]), &|_| None).unwrap();
    assert_eq!(made.len(), 3 + 5 + 1 + 1);
    assert!(made.iter().all(|flow| flow.cookie == Cookie(5) || flow.priority == OTHERWISE));
    let small = rule(ir::Action::Deny, &peers[..1], Traffic::tcp(all));
    assert_eq!(
        flows(RuleSetId(7), Direction::Ingress, &one_tier(vec![small]), &|_| None).unwrap().len(),
        5 + 1
    );
}

#[test]
fn tiers_that_only_hand_on_are_one_stage() {
    use ir::Action::{Allow, Deny, Pass};

    let tier = |actions: &[ir::Action], otherwise| {
        let rules = actions.iter().map(|action| rule(*action, &["10.0.0.1/32"], Traffic::Any)).collect();
        Tier { rules, otherwise, origin: Origin(9) }
    };
    let stages = |tiers| stages(&Rules { tiers }).iter().map(|stage| stage.rules.len()).collect::<Vec<_>>();
    assert_eq!(stages(vec![]), [0]);
    assert_eq!(stages(vec![tier(&[Allow, Deny], Pass), tier(&[Allow], Deny)]), [3]);
    assert_eq!(stages(vec![tier(&[Allow, Pass], Pass), tier(&[Allow], Pass), tier(&[Deny], Allow)]), [2, 2]);
    assert_eq!(stages(vec![tier(&[Allow], Deny), tier(&[Allow], Pass)]), [1, 1]);
}

#[test]
fn what_does_not_fit_is_said() {
    let turn = |n: usize| if n.is_multiple_of(2) { ir::Action::Allow } else { ir::Action::Deny };
    let turns = |count| one_tier((0..count).map(|n| rule(turn(n), &["10.0.0.1/32"], Traffic::Any)).collect());
    let made = flows(RuleSetId(7), Direction::Egress, &turns(MAX_RUNS), &|_| None).unwrap();
    assert_eq!(keys(&made).len(), made.len());
    assert!(made.iter().all(|flow| (OTHERWISE..RELATED).contains(&flow.priority)));
    let too_large = flows(RuleSetId(7), Direction::Egress, &turns(MAX_RUNS + 1), &|_| None);
    assert_eq!(too_large, Err(TooLarge::Runs(MAX_RUNS + 1)));

    let tier = Tier {
        rules: vec![rule(ir::Action::Pass, &["10.0.0.1/32"], Traffic::Any)],
        otherwise: ir::Action::Deny,
        origin: Origin(1),
    };
    let deep = |count| Rules { tiers: vec![tier.clone(); count] };
    assert!(flows(RuleSetId(7), Direction::Egress, &deep(MAX_STAGES), &|_| None).is_ok());
    assert_eq!(flows(RuleSetId(7), Direction::Egress, &deep(17), &|_| None), Err(TooLarge::Stages(17)));
}

/// Every flow must fit in a message, however many rules ask for the same port.
#[test]
fn a_clause_of_very_many_rules_still_fits() {
    let odd = ports(&[(1, 1), (3, 3), (5, 5)]);
    let of = |n: usize| {
        let nets = [0, 2, 4].map(|low| format!("10.{}.{}.{low}/32", n / 250, n % 250));
        rule(ir::Action::Allow, &nets.each_ref().map(String::as_str), Traffic::tcp(odd.clone()))
    };
    let made =
        flows(RuleSetId(7), Direction::Egress, &one_tier((0..4500).map(of).collect()), &by_origin).unwrap();
    assert_eq!(made.len(), 4500 * 4 + 3 * 3 + 1);
    let longest = made.iter().map(|flow| flow.actions.len()).max().unwrap();
    assert_eq!(longest, 2000);
    let flow = made.into_iter().find(|flow| flow.actions.len() == longest).unwrap();
    let message = crate::openflow::Message::FlowMod(FlowMod::Add(flow));
    assert!(message.encode(crate::openflow::Xid(1)).is_ok());
}

#[test]
fn open_rules_need_no_flows_but_get_them_under_a_number() {
    let open = Rules::default();
    assert_eq!(flows(RuleSetId::NONE, Direction::Egress, &open, &by_origin), Ok(Vec::new()));
    let numbered = flows(RuleSetId(7), Direction::Egress, &open, &by_origin).unwrap();
    assert!(numbered.iter().all(|flow| flow.actions == allow(None)) && numbered.len() == 1);
}

/// Allowed to the service's address, translated, allowed from the client: the answer finds its way back through both.
#[test]
fn translated_between_two_boundaries() {
    let mut world = any_world().new_tree(&mut TestRunner::deterministic()).unwrap().current();
    let to_service = rule(ir::Action::Allow, &["10.0.0.12/32"], Traffic::tcp(8));
    let from_client = rule(ir::Action::Allow, &["10.0.0.1/32"], Traffic::tcp(20));
    world.pool = vec![one_tier(vec![to_service]), one_tier(vec![from_client]), one_tier(Vec::new())];
    world.pods = vec![(0, 2), (2, 1), (2, 2)];
    let packet = |dst: [u8; 4], port| Packet {
        src: [10, 0, 0, 1].into(),
        dst: dst.into(),
        transport: Transport::Tcp { src: 1000, dst: port },
    };
    let mut bench = Bench::new(&world, world.flows());
    let (sent, arrives) = (packet([10, 0, 0, 12], 8), packet([10, 0, 0, 2], 20));
    assert!(bench.hold(&Conversation { from: Some(0), to: Some(1), sent, arrives }));
    assert!(
        !bench.hold(&Conversation { from: Some(0), to: Some(1), sent: arrives, arrives }),
        "around the service"
    );
    let arrives = packet([10, 0, 0, 2], 8);
    assert!(
        !bench.hold(&Conversation { from: Some(0), to: Some(1), sent, arrives }),
        "another port of the backend"
    );
}

/// A pod that calls a service and is picked itself: OVN puts the service's address in the source.
#[test]
fn a_hairpin_is_two_connections_in_one_zone() {
    let mut world = any_world().new_tree(&mut TestRunner::deterministic()).unwrap().current();
    let service = |port| rule(ir::Action::Allow, &["10.0.0.12/32"], Traffic::tcp(port));
    world.pool = vec![one_tier(vec![service(8)]), one_tier(vec![service(20)]), one_tier(Vec::new())];
    let (own, service) = ([10, 0, 0, 1].into(), [10, 0, 0, 12].into());
    let packet = |src, dst, port| Packet { src, dst, transport: Transport::Tcp { src: 1000, dst: port } };
    let (sent, arrives) = (packet(own, service, 8), packet(service, own, 20));
    for (ingress, passes) in [(1, true), (2, false)] {
        world.pods = vec![(0, ingress), (2, 2), (2, 2)];
        let passed = Bench::new(&world, world.flows()).hold(&Conversation {
            from: Some(0),
            to: Some(0),
            sent,
            arrives,
        });
        assert_eq!(passed, passes);
    }
}
