use proptest::prelude::*;

use super::*;
use crate::cluster;

const TIMING: Timing = Timing {
    silence: Duration::from_mins(3),
    settle_bad: Duration::from_secs(30),
    settle_good: Duration::from_secs(15),
};

/// A cluster with a clock; what is planned is done at once, as the watch would show it.
struct World {
    nics: Nics,
    start: Instant,
    now: u64,
    beats: u64,
    tainted: BTreeSet<String>,
    nodes: BTreeSet<String>,
}

impl World {
    fn new(nodes: &[&str]) -> Self {
        let mut world = Self {
            nics: Nics::new(TIMING),
            start: Instant::now(),
            now: 0,
            beats: 0,
            tainted: BTreeSet::new(),
            nodes: BTreeSet::new(),
        };
        for node in nodes {
            world.nodes.insert((*node).to_owned());
            world.show(node);
        }
        world
    }

    fn at(&self) -> Instant {
        self.start + Duration::from_secs(self.now)
    }

    fn show(&mut self, node: &str) {
        let object = self.nodes.contains(node).then(|| cluster::Node {
            uid: format!("uid-of-{node}").into(),
            pod_cidrs: Vec::new(),
            nic_taint: self.tainted.contains(node),
        });
        let at = self.at();
        self.nics.take(&Change::Node(node.into(), object), at);
    }

    fn nic(&mut self, node: &str, health: Option<NicHealth>) {
        let nic = health.map(|health| NicNode {
            node: node.into(),
            management: false,
            static_pods: false,
            chassis: None,
            managed: None,
            health,
        });
        let at = self.at();
        self.nics.take(&Change::NicNode(format!("nic-{node}").into(), nic), at);
    }

    /// A heartbeat that there was not before.
    fn beat(&mut self, node: &str, ready: bool) {
        self.beats += 1;
        let health = NicHealth {
            ready,
            message: "no OVN".into(),
            heartbeat: Some(format!("beat {}", self.beats).into()),
        };
        self.nic(node, Some(health));
    }

    /// Lets time pass, in which these NICs beat, and does what is planned. Returns who is tainted.
    fn pass(&mut self, seconds: u64, beating: &[(&str, bool)]) -> Vec<String> {
        for second in 0..seconds {
            if second % 60 == 0 {
                for (node, ready) in beating {
                    self.beat(node, *ready);
                }
            }
            self.now += 1;
            let at = self.at();
            for (node, wanted) in self.nics.plan(at) {
                assert_eq!(*wanted.uid, *format!("uid-of-{node}"));
                if wanted.tainted {
                    assert!(self.tainted.insert(node.to_string()), "tainted twice");
                } else {
                    assert!(self.tainted.remove(&*node), "freed twice");
                }
                self.show(&node);
            }
            assert_eq!(self.nics.plan(at), AllWanted::new(), "the second plan is empty");
        }
        self.tainted.iter().cloned().collect()
    }
}

#[test]
fn a_nic_that_says_it_is_not_ready_taints_its_node_and_no_other() {
    let mut world = World::new(&["a", "b", "plain"]);
    assert_eq!(world.pass(120, &[("a", true), ("b", true)]), Vec::<String>::new());
    world.beat("a", false);
    assert_eq!(world.pass(29, &[]), Vec::<String>::new());
    assert_eq!(world.pass(3, &[]), ["a"]);
    world.beat("a", true);
    assert_eq!(world.pass(14, &[]), ["a"]);
    assert_eq!(world.pass(3, &[]), Vec::<String>::new());
}

#[test]
fn it_does_not_flap() {
    let mut world = World::new(&["a", "b"]);
    for _ in 0..20 {
        assert_eq!(world.pass(25, &[("a", false), ("b", true)]), Vec::<String>::new());
        assert_eq!(world.pass(5, &[("a", true), ("b", true)]), Vec::<String>::new());
    }
    assert_eq!(world.pass(40, &[("a", false), ("b", true)]), ["a"]);
    for _ in 0..20 {
        assert_eq!(world.pass(10, &[("a", true), ("b", true)]), ["a"]);
        assert_eq!(world.pass(5, &[("a", false), ("b", true)]), ["a"]);
    }
}

#[test]
fn a_nic_that_stops_reporting_taints_its_node() {
    let mut world = World::new(&["a", "b"]);
    world.beat("a", true);
    assert_eq!(world.pass(120, &[("a", true), ("b", true)]), Vec::<String>::new());
    assert_eq!(world.pass(100, &[("b", true)]), Vec::<String>::new());
    assert_eq!(world.pass(130, &[("b", true)]), ["a"]);
    assert_eq!(world.pass(20, &[("a", true), ("b", true)]), Vec::<String>::new());
}

#[test]
fn a_nic_that_has_never_reported_taints_its_node_also_where_it_is_the_only_one() {
    let mut world = World::new(&["a"]);
    world.nic("a", Some(NicHealth::default()));
    assert_eq!(world.pass(40, &[]), ["a"]);
    // It reports for the first time: that is one change, and so fresh.
    assert_eq!(world.pass(20, &[("a", true)]), Vec::<String>::new());
}

#[test]
fn a_node_without_a_nic_has_no_taint_and_loses_what_it_has() {
    let mut world = World::new(&["a", "b"]);
    world.tainted.insert("a".to_owned());
    world.show("a");
    assert_eq!(world.pass(1, &[]), Vec::<String>::new());
    world.pass(120, &[("a", false), ("b", true)]);
    assert_eq!(world.pass(1, &[]), ["a"]);
    world.nic("a", None);
    assert_eq!(world.pass(1, &[]), Vec::<String>::new());
    assert!(world.nics.standing.len() <= 1, "nothing is kept of it");
}

#[test]
fn an_outage_of_all_taints_nobody_and_its_end_neither() {
    let mut world = World::new(&["a", "b", "c", "d"]);
    world.nic("d", Some(NicHealth::default()));
    let all = [("a", true), ("b", true), ("c", false)];
    assert_eq!(world.pass(120, &all), ["c", "d"]);
    assert!(!world.nics.is_disrupted());
    assert_eq!(world.pass(3000, &[]), ["c", "d"], "nothing changes while nobody reports");
    assert!(world.nics.is_disrupted());
    // One is the first to report again: the others have their time.
    assert_eq!(world.pass(170, &[("a", true)]), ["c", "d"]);
    assert_eq!(world.pass(120, &all), ["c", "d"]);
    // One never comes back.
    assert_eq!(world.pass(240, &[("a", true), ("c", true)]), ["b", "d"]);
}

#[test]
fn a_restart_changes_nothing_before_it_knows() {
    for was_tainted in [false, true] {
        let mut world = World::new(&["a", "b"]);
        if was_tainted {
            world.tainted.insert("a".to_owned());
            world.show("a");
        }
        let before: Vec<String> = world.tainted.iter().cloned().collect();
        // As the list shows them: how old that is nobody knows.
        world.beat("a", was_tainted);
        world.beat("b", true);
        assert_eq!(world.pass(70, &[]), before);
        // `b` reports: now `a` counts by what it said, or stays as it is until it is known to be silent.
        assert_eq!(world.pass(60, &[("b", true)]), ["a"]);
    }
}

#[test]
fn a_node_that_is_made_again_is_judged_as_another() {
    let mut world = World::new(&["a", "b"]);
    world.pass(120, &[("a", false), ("b", true)]);
    world.nodes.remove("a");
    world.tainted.remove("a");
    world.show("a");
    assert_eq!(world.pass(1, &[]), Vec::<String>::new());
    world.nodes.insert("a".to_owned());
    world.show("a");
    assert_eq!(world.pass(40, &[]), ["a"]);
}

#[test]
fn of_several_nics_the_worst_counts() {
    let mut world = World::new(&["a", "b"]);
    let second = |world: &mut World, ready: bool| {
        world.beats += 1;
        let health =
            NicHealth { ready, message: "".into(), heartbeat: Some(format!("beat {}", world.beats).into()) };
        let nic = NicNode {
            node: "a".into(),
            management: false,
            static_pods: false,
            chassis: None,
            managed: None,
            health,
        };
        let at = world.at();
        world.nics.take(&Change::NicNode("a-second".into(), Some(nic)), at);
    };
    second(&mut world, true);
    world.pass(60, &[("a", true), ("b", true)]);
    second(&mut world, false);
    assert_eq!(world.pass(40, &[("a", true)]), ["a"]);
    second(&mut world, true);
    assert_eq!(world.pass(40, &[("a", true)]), Vec::<String>::new());
}

#[derive(Clone, Debug)]
enum Step {
    Beat(u8, bool),
    Silent(u8),
    Gone(u8),
    Node(u8, bool),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4_u8, any::<bool>()).prop_map(|(n, ready)| Step::Beat(n, ready)),
        (0..4_u8).prop_map(Step::Silent),
        (0..4_u8).prop_map(Step::Gone),
        (0..4_u8, any::<bool>()).prop_map(|(n, there)| Step::Node(n, there)),
        (1..240_u64).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Whatever happened before: NICs that report for long enough have their nodes as they say, and nodes without a NIC have
    /// no taint; the second plan is always empty (`World::pass`).
    #[test]
    fn after_any_history_it_comes_to_what_the_nics_say(
        steps in prop::collection::vec(step(), 0..24),
        ends in prop::collection::vec(prop::option::of(any::<bool>()), 4),
    ) {
        let names = ["n0", "n1", "n2", "n3"];
        let mut world = World::new(&names);
        for step in steps {
            match step {
                Step::Beat(n, ready) => world.beat(names[usize::from(n)], ready),
                Step::Silent(n) => world.nic(names[usize::from(n)], Some(NicHealth::default())),
                Step::Gone(n) => world.nic(names[usize::from(n)], None),
                Step::Node(n, there) => {
                    let name = names[usize::from(n)];
                    if there {
                        world.nodes.insert(name.to_owned());
                    } else {
                        world.nodes.remove(name);
                        world.tainted.remove(name);
                    }
                    world.show(name);
                }
                Step::Pass(seconds) => drop(world.pass(seconds, &[])),
            }
        }
        let mut beating = Vec::new();
        for (name, end) in names.iter().zip(&ends) {
            match end {
                Some(ready) => beating.push((*name, *ready)),
                None => world.nic(name, None),
            }
        }
        let tainted = world.pass(120, &beating);
        let bad = beating.iter().filter(|(name, ready)| !ready && world.nodes.contains(*name));
        prop_assert_eq!(tainted, bad.map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
    }
}
