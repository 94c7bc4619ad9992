//! Between two policies: after each step nothing passes that both deny, nothing is lost that both let go to the same
//! place; and the hardware, whatever it refuses, lets nothing by.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};

use proptest::prelude::*;

use super::dice::Dice;
use super::kernel::{Kernel, Whim};
use super::model::Deliveries;
use super::random::{World, answer, frame, policy, worlds};
use super::verdicts::deliveries;
use crate::checker::{Profile, place, recover, settle};
use crate::flower::interpret::{Engine, Nic};
use crate::flower::{Change, Filters};
use crate::ids::IfIndex;
use crate::openflow::interpret::{Conntrack, Frame};
use crate::underlay::{Plan, Program, compile, plan};

pub fn program(world: &World) -> Program {
    let mut program = compile(&world.underlays()).unwrap();
    place(&mut program, &Profile::MLX5);
    program
}

/// A hardware that refuses a part of the rules, always the same ones.
pub fn fussy(seed: u64, one_in: u64) -> Whim {
    Box::new(move |rule, at| {
        let mut hasher = DefaultHasher::new();
        (seed, &rule.key, &rule.actions, at).hash(&mut hasher);
        !hasher.finish().is_multiple_of(one_in)
    })
}

/// All that the session does: each part of the plan, and after it what the hardware makes of it.
pub fn sync(kernel: &mut Kernel, wanted: &Program, mut each: impl FnMut(&Change, &Filters)) -> usize {
    let plan = plan(wanted, &kernel.filters);
    let mut count = 0;
    for part in [plan.build, plan.flip, plan.clean] {
        for change in part {
            kernel.apply(&change);
            each(&change, &kernel.filters);
            count += 1;
        }
        count += settled(kernel, &mut each);
    }
    count
}

pub fn settled(kernel: &mut Kernel, mut each: impl FnMut(&Change, &Filters)) -> usize {
    let mut count = 0;
    loop {
        let changes = settle(&kernel.filters, &Profile::MLX5);
        if changes.is_empty() {
            return count;
        }
        for change in changes {
            kernel.apply(&change);
            each(&change, &kernel.filters);
            count += 1;
            assert!(count < 100_000, "it never settles");
        }
    }
}

/// Frames to look with, and the connections that are known while they are looked at.
struct Probes {
    frames: Vec<(IfIndex, Frame)>,
    connections: Conntrack,
}

impl Probes {
    /// Connections are what `old` lets be, answers included.
    fn new(old: &Filters, worlds: &[&World], seed: u64, count: usize) -> Self {
        let mut dice = Dice(seed);
        let mut nic = Nic::new(old);
        let mut frames = Vec::new();
        for n in 0..count {
            let (port, first) = frame(&mut dice, worlds[n % worlds.len()]);
            if dice.roll(3) == 0 {
                let sent = nic.receive(port, first.clone(), Engine::Software).unwrap().sent;
                if let [(to, there)] = sent.as_slice() {
                    let back = answer(there);
                    nic.receive(*to, back.clone(), Engine::Software).unwrap();
                    frames.push((*to, back));
                }
            }
            frames.push((port, first));
        }
        Self { frames, connections: nic.connections }
    }

    fn look(&self, filters: &Filters, engine: Engine) -> Vec<Deliveries> {
        let mut nic = Nic::new(filters);
        let one = |(port, frame): &(IfIndex, Frame)| {
            nic.connections = self.connections.clone();
            deliveries(&nic.receive(*port, frame.clone(), engine).unwrap())
        };
        self.frames.iter().map(one).collect()
    }
}

/// The same pods with other rules for some, some gone and some new; now and then one has another's address.
fn next_world(old: &World, new: World, keep: u8, swap: bool) -> World {
    let mut new = new;
    for (n, pod) in new.pods.iter_mut().enumerate() {
        if let Some(before) = old.pods.iter().find(|it| it.rep == pod.rep) {
            if keep >> (2 * n % 8) & 1 != 0 {
                pod.policy.egress = before.policy.egress.clone();
            }
            if keep >> ((2 * n + 1) % 8) & 1 != 0 {
                pod.policy.ingress = before.policy.ingress.clone();
            }
        }
    }
    if let ([a, b, ..], true) = (new.pods.as_mut_slice(), swap) {
        std::mem::swap(&mut a.ipv4, &mut b.ipv4);
        std::mem::swap(&mut a.ipv6, &mut b.ipv6);
    }
    new
}

fn pairs() -> impl Strategy<Value = (World, World)> {
    (worlds(), worlds(), any::<u8>(), 0..8u8).prop_map(|(old, new, keep, swap)| {
        let new = next_world(&old, new, keep, swap == 0);
        (old, new)
    })
}

#[test]
fn a_flip_lets_nothing_by_and_loses_nothing() {
    let looks = Cell::new(0usize);
    let config = ProptestConfig { cases: 80, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |((old, new) in pairs(), seed in any::<u64>())| {
        let mut kernel = Kernel::new();
        sync(&mut kernel, &program(&old), |_, _| {});
        let probes = Probes::new(&kernel.filters, &[&old, &new], seed, 16);
        let before = probes.look(&kernel.filters, Engine::Software);
        let after = {
            let mut other = Kernel::new();
            sync(&mut other, &program(&new), |_, _| {});
            probes.look(&other.filters, Engine::Software)
        };
        sync(&mut kernel, &program(&new), |change, filters| {
            for engine in [Engine::Software, Engine::Eager] {
                let now = probes.look(filters, engine);
                looks.set(looks.get() + now.len());
                for (n, now) in now.iter().enumerate() {
                    let lost: Vec<_> = before[n].intersection(&after[n]).filter(|it| !now.contains(*it)).collect();
                    let let_by: Vec<_> = now.iter().filter(|it| !before[n].contains(*it) && !after[n].contains(*it)).collect();
                    assert!(lost.is_empty() && let_by.is_empty(), "{engine:?}: {:?} lost {lost:?} let by {let_by:?} after {change:?}", probes.frames[n]);
                }
            }
        });
        prop_assert_eq!(probes.look(&kernel.filters, Engine::Software), after.clone());
        prop_assert_eq!(probes.look(&kernel.filters, Engine::Eager), after);
        prop_assert_eq!(plan(&program(&new), &kernel.filters), Plan::default());
    });
    println!("{} looks", looks.get());
}

#[test]
fn hardware_that_refuses_lets_nothing_by() {
    let (looks, refused) = (Cell::new(0usize), Cell::new(0usize));
    let config = ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |((old, new) in pairs(), seed in any::<u64>(), one_in in 2..12u64)| {
        let mut kernel = Kernel::with(fussy(seed, one_in));
        sync(&mut kernel, &program(&old), |_, _| {});
        let probes = Probes::new(&kernel.filters, &[&old, &new], seed, 12);
        let before = probes.look(&kernel.filters, Engine::Software);
        // Settled: the hardware agrees with software, whatever it refused.
        prop_assert_eq!(&probes.look(&kernel.filters, Engine::Eager), &before);
        kernel.whim(fussy(seed ^ 1, one_in));
        let mut other = Kernel::new();
        sync(&mut other, &program(&new), |_, _| {});
        let after = probes.look(&other.filters, Engine::Software);
        let check = |change: &Change, filters: &Filters| {
            for engine in [Engine::Eswitch, Engine::Eager] {
                for (n, now) in probes.look(filters, engine).iter().enumerate() {
                    looks.set(looks.get() + 1);
                    let let_by: Vec<_> = now.iter().filter(|it| !before[n].contains(*it) && !after[n].contains(*it)).collect();
                    assert!(let_by.is_empty(), "{engine:?}: {:?} let by {let_by:?} after {change:?}", probes.frames[n]);
                }
            }
        };
        sync(&mut kernel, &program(&new), check);
        let missing = |kernel: &Kernel| crate::checker::compare(&kernel.filters, &Profile::MLX5).len();
        refused.set(refused.get() + missing(&kernel));
        prop_assert_eq!(&probes.look(&kernel.filters, Engine::Eager), &after);
        // Room is back: everything that can be is in hardware, and on the way there nothing changes for a packet.
        kernel.whim(Box::new(|_, _| true));
        let same = |change: &Change, filters: &Filters| {
            assert_eq!(probes.look(filters, Engine::Eager), after, "after {change:?}");
        };
        while missing(&kernel) > 0 {
            for change in recover(&kernel.filters, &Profile::MLX5) {
                kernel.apply(&change);
                same(&change, &kernel.filters);
            }
            settled(&mut kernel, same);
        }
        prop_assert_eq!(missing(&kernel), 0);
        let in_hw = |kernel: &Kernel| kernel.filters.values().flat_map(|it| it.chains.values())
            .flat_map(|it| it.values().flatten()).filter(|it| it.in_hw).count();
        prop_assert_eq!(in_hw(&kernel), in_hw(&other));
    });
    println!("{} looks, {} refused", looks.get(), refused.get());
    assert!(refused.get() > 100);
}

/// Rules that change leave alone what they have nothing to do with.
#[test]
fn another_pods_egress_is_one_ports_matter() {
    let config = ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(world in worlds(), new in policy(), which in any::<prop::sample::Index>())| {
        let mut kernel = Kernel::new();
        sync(&mut kernel, &program(&world), |_, _| {});
        let mut changed = world.clone();
        let pod = which.index(world.pods.len());
        changed.pods[pod].policy.egress = new.egress;
        let plan = plan(&program(&changed), &kernel.filters);
        prop_assert!(plan.steps().all(|step| step.port() == world.pods[pod].rep));
        // One filter leads in, whatever changed behind it.
        prop_assert!(plan.flip.len() <= 1, "{:?}", plan.flip);
    });
}
