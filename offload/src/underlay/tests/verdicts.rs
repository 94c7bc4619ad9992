//! Evaluator = interpreter, in all engines.

use std::cell::Cell;

use proptest::prelude::*;

use super::dice::Dice;
use super::kernel::Kernel;
use super::model::{Deliveries, Known};
use super::random::{UPLINK, World, answer, complaint, frame, worlds};
use crate::checker::{Profile, place};
use crate::flower::interpret::{Engine, Nic, Outcome};
use crate::ids::IfIndex;
use crate::openflow::interpret::Frame;
use crate::underlay::{compile, plan};

pub fn deliveries(outcome: &Outcome) -> Deliveries {
    outcome.sent.iter().map(|(to, frame)| (*to, frame.vlan)).collect()
}

/// As it stands after a first plan.
pub fn installed(world: &World) -> Kernel {
    let mut kernel = Kernel::new();
    let mut program = compile(&world.underlays()).unwrap();
    place(&mut program, &Profile::MLX5);
    plan(&program, &kernel.filters).steps().for_each(|step| kernel.apply(step));
    kernel
}

/// Frames one after the other: strangers' and pods', and answers to and complaints about those that arrived.
pub fn conversation(
    world: &World,
    seed: u64,
    length: usize,
) -> impl FnMut(&[(IfIndex, Frame)]) -> Option<(IfIndex, Frame)> {
    let (world, mut dice, mut left) = (world.clone(), Dice(seed), length);
    let mut arrived: Vec<(IfIndex, Frame)> = Vec::new();
    move |sent| {
        arrived.extend_from_slice(sent);
        left = left.checked_sub(1)?;
        if !arrived.is_empty() && dice.roll(2) == 0 {
            let (port, old) = dice.one(&arrived);
            // An answer comes from where the frame went to; now and then from somewhere else.
            let port = if dice.roll(16) == 0 { UPLINK } else { port };
            let mut new = if dice.roll(8) == 0 { complaint(&old, &mut dice) } else { None }
                .unwrap_or_else(|| answer(&old));
            if dice.roll(6) == 0 {
                new = old;
            }
            return Some((port, new));
        }
        Some(frame(&mut dice, &world))
    }
}

const ENGINES: [Engine; 3] = [Engine::Software, Engine::Eswitch, Engine::Eager];

#[test]
fn what_the_program_does_is_what_the_evaluator_says() {
    let (frames, passed, in_hardware) = (Cell::new(0u32), Cell::new(0u32), Cell::new(0u32));
    let config = ProptestConfig { cases: 1200, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(world in worlds(), seed in any::<u64>())| {
        let kernel = installed(&world);
        let mut nics = ENGINES.map(|_| Nic::new(&kernel.filters));
        let mut known = Known::default();
        let mut next = conversation(&world, seed, 90);
        let mut sent = Vec::new();
        while let Some((port, frame)) = next(&sent) {
            let wanted = world.expect(&mut known, port, &frame);
            for (nic, engine) in nics.iter_mut().zip(ENGINES) {
                let outcome = nic.receive(port, frame.clone(), engine).unwrap();
                prop_assert_eq!(deliveries(&outcome), wanted.clone(), "{:?} {} {:?} {:?}", engine, port, frame, outcome);
                in_hardware.set(in_hardware.get() + u32::from(outcome.in_hardware && engine == Engine::Eswitch));
                sent = outcome.sent;
            }
            frames.set(frames.get() + 1);
            passed.set(passed.get() + u32::from(!wanted.is_empty()));
        }
    });
    println!("{} frames, {} passed, {} in hardware", frames.get(), passed.get(), in_hardware.get());
    assert!(frames.get() >= 100_000);
    // Neither everything nor nothing.
    assert!(passed.get() > frames.get() / 10 && passed.get() < frames.get() * 9 / 10);
    assert!(in_hardware.get() > frames.get() / 10);
}
