use std::collections::BTreeSet;

use drawbridge_api::NodeRangeSpec;
use proptest::prelude::*;

use super::*;

fn allocation() -> Allocation {
    let net = |text: &str| text.parse().unwrap();
    Allocation::new(vec![net("10.244.0.0/16"), net("fd00:10:244::/56")], vec![net("10.244.255.0/24")])
}

/// The API's side of it: what was decided is written.
#[derive(Default)]
struct World {
    nodes: BTreeMap<Arc<str>, Node>,
    objects: BTreeMap<Arc<str>, NodeRange>,
    uids: u32,
}

impl World {
    fn of(nodes: &[(&str, &[&str])]) -> Self {
        let mut world = Self::default();
        for (name, cidrs) in nodes {
            world.register(name, cidrs);
        }
        world
    }

    fn register(&mut self, name: &str, cidrs: &[&str]) {
        self.uids += 1;
        let pod_cidrs = cidrs.iter().map(|it| (*it).to_owned()).collect();
        self.nodes
            .insert(name.into(), Node { uid: format!("u{}", self.uids).into(), pod_cidrs, nic_taint: false });
    }

    fn operator(&mut self, name: &str, ranges: &[&str]) {
        let object =
            self.objects.entry(name.into()).or_insert_with(|| NodeRange::new(name, NodeRangeSpec::default()));
        object.spec.ranges = ranges.iter().map(|it| (*it).to_owned()).collect();
    }

    /// As [`crate::plan::Plan`] has it.
    fn held(&self) -> Held {
        let mut held = Held::default();
        for (name, node) in &self.nodes {
            let status = self.objects.get(name).and_then(|it| it.status.as_ref());
            let status = status.filter(|it| it.node_uid.as_deref() == Some(&*node.uid));
            let ranges = status.into_iter().flat_map(|it| &it.ranges).map(|it| it.parse().unwrap());
            held.set(name, ranges.collect());
        }
        held
    }

    /// Writes some of what is decided: all of it, or what the number picks, as a writer does that is stopped.
    fn write(&mut self, picks: u64) {
        let decisions = decide(&allocation(), &self.nodes, &self.objects, &self.held(), "t");
        for (n, (name, decision)) in decisions.into_iter().enumerate() {
            if picks >> (n % 64) & 1 == 0 {
                continue;
            }
            match decision {
                Decision::Delete => drop(self.objects.remove(&name)),
                Decision::Status(status) => {
                    let object = self.objects.entry(Arc::clone(&name));
                    object.or_insert_with(|| NodeRange::new(&name, NodeRangeSpec::default())).status =
                        Some(*status);
                }
            }
        }
    }

    fn settled(mut self) -> Self {
        self.write(u64::MAX);
        self
    }

    fn confirmed(&self, name: &str) -> Vec<String> {
        self.held().sole(name).map(|it| it.to_string()).collect()
    }

    fn condition(&self, name: &str) -> (String, String) {
        let status = self.objects[name].status.clone().unwrap();
        (status.conditions[0].reason.clone(), status.conditions[0].message.clone())
    }
}

#[test]
fn what_fits_the_plan_is_confirmed_and_the_rest_is_refused_by_name() {
    let world = World::of(&[("good", &["10.244.1.0/24", "fd00:10:244:1::/64"])]).settled();
    assert_eq!(world.confirmed("good"), ["10.244.1.0/24", "fd00:10:244:1::/64"]);
    assert_eq!(world.condition("good").0, "Plan");
    for (cidr, reason) in [
        ("10.244.1.0/29", "NotOfPlan"),
        ("10.244.0.0/16", "Reserved"),
        ("10.244.0.0/17", "NotOfPlan"),
        ("0.0.0.0/0", "Reserved"),
        ("10.244.1.7/24", "HostBits"),
        ("10.245.1.0/24", "OutsideOfCluster"),
        ("10.244.255.0/24", "Reserved"),
        ("010.244.1.0/24", "Unreadable"),
        ("10.244.1.0/024", "Unreadable"),
        ("10.244.1.0/+24", "Unreadable"),
        ("10.244.1.0/33", "Unreadable"),
        ("10.244.1.0", "Unreadable"),
        ("::ffff:10.244.1.0/120", "OutsideOfCluster"),
    ] {
        let world = World::of(&[("bad", &[cidr])]).settled();
        assert_eq!(world.confirmed("bad"), [] as [&str; 0], "{cidr}");
        let (said, message) = world.condition("bad");
        assert_eq!(said, reason, "{cidr}");
        assert!(message.contains(cidr), "{message}");
    }
    let two = World::of(&[("greedy", &["10.244.1.0/24", "10.244.2.0/24"])]).settled();
    assert_eq!(two.confirmed("greedy"), ["10.244.1.0/24"]);
    assert_eq!(two.condition("greedy").0, "SecondOfFamily");
    let none = World::of(&[("new", &[])]).settled();
    assert_eq!(none.condition("new").0, "NothingClaimed");
}

/// The case of the issue, in every order: neither later nor longer wins.
#[test]
fn no_claim_takes_what_another_has() {
    for claim in ["10.244.2.0/29", "10.244.2.0/24", "10.244.0.0/16"] {
        let mut world = World::of(&[("node2", &["10.244.2.0/24"])]).settled();
        world.register("server1", &[claim]);
        let world = world.settled();
        assert_eq!(world.confirmed("node2"), ["10.244.2.0/24"], "{claim}");
        assert_eq!(world.confirmed("server1"), [] as [&str; 0], "{claim}");
    }
    // Both before either is confirmed: nobody's, and each is told of the other.
    let world = World::of(&[("node2", &["10.244.2.0/24"]), ("server1", &["10.244.2.0/24"])]).settled();
    for (one, other) in [("node2", "server1"), ("server1", "node2")] {
        assert_eq!(world.confirmed(one), [] as [&str; 0]);
        let (reason, message) = world.condition(one);
        assert!(reason == "Contended" && message.contains(other), "{reason} {message}");
    }
    // Until an operator decides; or one of them goes.
    let mut decided = world;
    decided.operator("node2", &["10.244.2.0/24"]);
    let mut decided = decided.settled();
    assert_eq!(decided.confirmed("node2"), ["10.244.2.0/24"]);
    assert_eq!(decided.condition("node2").0, "Operator");
    assert_eq!(decided.condition("server1").0, "HeldByAnother");
    decided.nodes.remove("node2");
    decided.operator("node2", &[]);
    let decided = decided.settled();
    assert_eq!(decided.confirmed("server1"), ["10.244.2.0/24"]);
    assert!(!decided.objects.contains_key("node2"), "nothing is said of a node that is not there");
}

#[test]
fn a_node_that_is_made_anew_has_nothing_of_the_old_one() {
    let mut world = World::of(&[("a", &["10.244.1.0/24"])]).settled();
    world.register("a", &[]);
    assert_eq!(world.confirmed("a"), [] as [&str; 0]);
    world.register("b", &["10.244.1.0/24"]);
    let world = world.settled();
    assert_eq!(world.confirmed("b"), ["10.244.1.0/24"]);
}

#[test]
fn an_operator_moves_a_node_but_takes_nothing_from_another() {
    let mut world = World::of(&[("a", &["10.244.1.0/24"]), ("b", &["10.244.2.0/24"])]).settled();
    world.operator("a", &["10.244.2.0/23"]);
    let mut world = world.settled();
    assert_eq!(world.confirmed("b"), ["10.244.2.0/24"]);
    assert_eq!(world.condition("a").0, "HeldByAnother");
    world.operator("b", &["10.244.9.0/25", "10.244.9.128/25"]);
    let world = world.settled().settled();
    assert_eq!(world.confirmed("a"), ["10.244.2.0/23"]);
    assert_eq!(world.confirmed("b"), ["10.244.9.0/25", "10.244.9.128/25"]);
    // What is reserved for a node that is not there yet is nobody else's.
    let mut world = World::default();
    world.operator("later", &["10.244.3.0/24"]);
    world.register("early", &["10.244.3.0/24"]);
    let mut world = world.settled();
    assert_eq!(world.confirmed("early"), [] as [&str; 0]);
    assert_eq!(world.condition("later").0, "NoNode");
    world.register("later", &[]);
    assert_eq!(world.settled().confirmed("later"), ["10.244.3.0/24"]);
}

/// Should the API hold what overlaps, by whatever accident, it counts for neither.
#[test]
fn what_stands_and_overlaps_is_nobodys() {
    let mut world = World::of(&[("a", &["10.244.1.0/24"]), ("b", &["10.244.2.0/24"])]).settled();
    let status = world.objects.get_mut("b").unwrap().status.as_mut().unwrap();
    status.ranges = vec!["10.244.1.128/25".to_owned()];
    assert_eq!(world.confirmed("a"), [] as [&str; 0]);
    assert_eq!(world.confirmed("b"), [] as [&str; 0]);
    let world = world.settled();
    assert_eq!(world.confirmed("a"), ["10.244.1.0/24"]);
    assert_eq!(world.confirmed("b"), ["10.244.2.0/24"]);
}

#[test]
fn overlaps_are_found_as_by_comparing_all() {
    let nets: Vec<IpNet> = ["0.0.0.0/0", "10.0.0.0/8", "10.244.0.0/16", "10.244.1.0/24", "10.244.1.255/32"]
        .into_iter()
        .chain(["10.244.2.0/24", "10.245.0.0/16", "255.255.255.255/32", "::/0", "fd00::/64", "fd00::1/128"])
        .map(|it| it.parse().unwrap())
        .collect();
    let mut held = Held::default();
    for (n, net) in nets.iter().enumerate() {
        held.add(&format!("n{n}").into(), *net);
    }
    for (n, net) in nets.iter().enumerate() {
        let found: BTreeSet<IpNet> = held.overlapping(net, &format!("n{n}")).map(|(_, it)| it).collect();
        let all = nets.iter().enumerate().filter(|(m, it)| *m != n && overlap(it, net));
        assert_eq!(found, all.map(|(_, it)| *it).collect(), "{net}");
    }
}

/// What happens to a cluster. Honest nodes are h0.., each with a range that the allocator gives to no other, whatever
/// others claim; hostile ones are x0.., and claim what they like.
#[derive(Clone, Debug)]
enum Event {
    Honest(u8),
    Hostile(u8, Vec<String>),
    Gone(bool, u8),
    /// The writer gets so far.
    Write(u64),
}

fn any_event() -> impl Strategy<Value = Event> {
    let claim = prop_oneof![
        (0..12_u8).prop_map(|n| format!("10.244.{n}.0/24")),
        (0..12_u8, 16..=30_u8).prop_map(|(n, length)| {
            let net: IpNet = format!("10.244.{n}.0/{length}").parse().unwrap();
            net.trunc().to_string()
        }),
        (0..4_u8).prop_map(|n| format!("fd00:10:244:{n}::/64")),
        Just("0.0.0.0/0".to_owned()),
        Just("nonsense".to_owned()),
    ];
    prop_oneof![
        (0..4_u8).prop_map(Event::Honest),
        (0..3_u8, prop::collection::vec(claim, 0..3)).prop_map(|(n, claims)| Event::Hostile(n, claims)),
        (any::<bool>(), 0..4_u8).prop_map(|(honest, n)| Event::Gone(honest, n)),
        any::<u64>().prop_map(Event::Write),
        Just(Event::Write(u64::MAX)),
    ]
}

proptest! {
    #[test]
    fn a_liar_takes_nothing_from_anybody(events in prop::collection::vec(any_event(), 0..60)) {
        let mut world = World::default();
        let mut had: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in events {
            match event {
                Event::Honest(n) => {
                    let name = format!("h{n}");
                    if !world.nodes.contains_key(&*name) {
                        world.register(&name, &[&format!("10.244.{n}.0/24")]);
                    }
                }
                Event::Hostile(n, claims) => {
                    let name = format!("x{n}");
                    // Its podCIDRs are its to write while they are empty.
                    let empty = world.nodes.get(&*name).is_none_or(|node| node.pod_cidrs.is_empty());
                    if empty {
                        let claims: Vec<&str> = claims.iter().map(String::as_str).collect();
                        world.register(&name, &claims);
                    }
                }
                Event::Gone(honest, n) => {
                    let name = format!("{}{n}", if honest { "h" } else { "x" });
                    world.nodes.remove(&*name);
                    had.remove(&name);
                }
                Event::Write(picks) => world.write(picks),
            }
            let held = world.held();
            let all: Vec<(&Arc<str>, IpNet)> =
                world.nodes.keys().flat_map(|name| held.of(name).map(move |range| (name, range))).collect();
            for (n, (a, one)) in all.iter().enumerate() {
                for (b, other) in all.iter().skip(n + 1) {
                    prop_assert!(a == b || !overlap(one, other), "{a} {one}, {b} {other}");
                }
                prop_assert!(allocation().cluster.iter().any(|cluster| cluster.contains(one)));
            }
            for name in world.nodes.keys().filter(|name| name.starts_with('h')) {
                let now = world.confirmed(name);
                if let Some(before) = had.get(&**name) {
                    prop_assert_eq!(before, &now, "{}'s range has changed", name);
                }
                if !now.is_empty() {
                    had.insert(name.to_string(), now);
                }
            }
        }
        // Written twice, nothing is left to be decided.
        world.write(u64::MAX);
        world.write(u64::MAX);
        let decided = decide(&allocation(), &world.nodes, &world.objects, &world.held(), "later");
        for (name, decision) in decided {
            let there = world.objects.get(&name).and_then(|it| it.status.clone());
            prop_assert_eq!(decision, Decision::Status(Box::new(there.unwrap())));
        }
    }
}
