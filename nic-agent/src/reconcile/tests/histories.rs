//! Random histories: whatever is asked, fails, ends and comes back, and in which order, nothing is open without its boundary
//! on the way, and nothing is missing or stray when all is quiet.
//!
//! `DRAWBRIDGE_HISTORIES` says how many: 10000 take about two minutes of a processor, and all processors share them. A failure
//! prints the shortest history that shows it.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::bench::{Bench, run};
use super::names::{claim, key, logical, vf};
use super::recording::{Buffer, replayed};
use super::world::Part;
use crate::claim::Claim;
use crate::directory::Directory;
use crate::enforcement::Policies;
use crate::recording::End;
use crate::southbound::state::ChassisState;

/// In a run of all tests.
const FEW: u32 = 300;
/// Those that are recorded and replayed.
const RECORDED: u32 = 40;
/// Pods at a time, and VFs.
const SLOTS: u16 = 3;

#[derive(Debug, Clone)]
enum Event {
    /// The slot's pod asks for a VF, in a new sandbox.
    Attach(u16, u16),
    /// As it did last.
    AttachAgain(u16),
    GiveUp(u16),
    Detach(u16),
    /// The slot's pod is deleted; another takes its place.
    Gone(u16),
    /// OVN knows the pod's port no longer, or again.
    Port(u16, bool),
    /// Another chassis binds the port, or lets go of it.
    Elsewhere(u16, bool),
    /// The pod's policy denies everything, or there is none.
    Policy(u16, bool),
    /// The policy source and the directory are silent, or speak.
    Api(bool),
    Fails(Part),
    Mended,
    Ovsdb(bool),
    /// ovs-vswitchd ends, and starts at once or later.
    SwitchEnds(bool),
    SwitchStarts,
    Ovn(bool),
    Southbound(bool),
    /// A VF is made again, up or down.
    Remade(u16, bool),
    /// Something in the host sets a representor up.
    SetUp(u16),
    /// The agent ends before so many effects more.
    Ends(u64),
    Restart,
    Wait(u64),
    Rest,
}

/// What happens after an event.
#[derive(Debug, Clone, Copy)]
enum Then {
    Nothing,
    Pass,
    PassAndDaemons,
    DaemonsAndPass,
}

fn event() -> impl Strategy<Value = Event> {
    let (slot, number) = (0..SLOTS, 0..SLOTS);
    let part = prop_oneof![
        Just(Part::Links),
        Just(Part::Sight),
        Just(Part::Ovs),
        Just(Part::Switch),
        Just(Part::Disk)
    ];
    prop_oneof![
        12 => (slot.clone(), number.clone()).prop_map(|(slot, vf)| Event::Attach(slot, vf)),
        2 => slot.clone().prop_map(Event::AttachAgain),
        2 => slot.clone().prop_map(Event::GiveUp),
        6 => slot.clone().prop_map(Event::Detach),
        5 => slot.clone().prop_map(Event::Gone),
        2 => (slot.clone(), any::<bool>()).prop_map(|(slot, is)| Event::Port(slot, is)),
        2 => (slot.clone(), any::<bool>()).prop_map(|(slot, is)| Event::Elsewhere(slot, is)),
        3 => (slot.clone(), any::<bool>()).prop_map(|(slot, is)| Event::Policy(slot, is)),
        1 => any::<bool>().prop_map(Event::Api),
        4 => part.prop_map(Event::Fails),
        4 => Just(Event::Mended),
        2 => any::<bool>().prop_map(Event::Ovsdb),
        2 => any::<bool>().prop_map(Event::SwitchEnds),
        2 => Just(Event::SwitchStarts),
        1 => any::<bool>().prop_map(Event::Ovn),
        2 => any::<bool>().prop_map(Event::Southbound),
        2 => (number.clone(), any::<bool>()).prop_map(|(vf, up)| Event::Remade(vf, up)),
        1 => number.prop_map(Event::SetUp),
        5 => (0..12_u64).prop_map(Event::Ends),
        2 => Just(Event::Restart),
        4 => (1..12_u64).prop_map(Event::Wait),
        1 => Just(Event::Rest),
    ]
}

fn then() -> impl Strategy<Value = Then> {
    prop_oneof![
        1 => Just(Then::Nothing),
        2 => Just(Then::Pass),
        3 => Just(Then::PassAndDaemons),
        3 => Just(Then::DaemonsAndPass),
    ]
}

/// A history under way.
struct Story {
    bench: Bench,
    /// The pod of each slot, and its newest sandbox.
    pods: Vec<u16>,
    sandboxes: Vec<Option<(u16, u16)>>,
    next: u16,
}

impl Story {
    async fn new(tape: Option<fn() -> Buffer>) -> Self {
        let mut bench = Bench::with(SLOTS, tape).await;
        for pod in 0..SLOTS {
            bench.pod(pod);
        }
        let slots = usize::from(SLOTS);
        Self { bench, pods: (0..SLOTS).collect(), sandboxes: vec![None; slots], next: SLOTS }
    }

    async fn happens(&mut self, event: &Event) {
        let bench = &mut self.bench;
        let at = |slot: u16| usize::from(slot);
        match *event {
            Event::Attach(slot, number) => {
                self.next += 1;
                self.sandboxes[at(slot)] = Some((self.next, number));
                let claim = claim(self.next, self.pods[at(slot)], number);
                // Its older sandbox may be over with this.
                bench.attached.retain(|_, other| other.pod != claim.pod);
                bench.attach(claim);
            }
            Event::AttachAgain(slot) => {
                if let Some((sandbox, number)) = self.sandboxes[at(slot)] {
                    let claim = claim(sandbox, self.pods[at(slot)], number);
                    let is_other = |it: &Claim| it.pod != claim.pod || it.key == claim.key;
                    bench.attached.retain(|_, it| is_other(it));
                    bench.attach(claim);
                }
            }
            Event::GiveUp(slot) => {
                if let Some((sandbox, _)) = self.sandboxes[at(slot)] {
                    bench.give_up(&key(sandbox));
                }
            }
            Event::Detach(slot) => {
                if let Some((sandbox, _)) = self.sandboxes[at(slot)] {
                    bench.detach(key(sandbox));
                }
            }
            Event::Gone(slot) => {
                let pod = self.pods[at(slot)];
                bench.gone(pod);
                bench.world.lock().logical_ports.remove(&logical(pod));
                self.next += 1;
                (self.pods[at(slot)], self.sandboxes[at(slot)]) = (self.next, None);
                bench.pod(self.next);
            }
            Event::Port(slot, is) => {
                let pod = self.pods[at(slot)];
                if is {
                    if !bench.world.lock().logical_ports.contains_key(&logical(pod)) {
                        bench.logical_port(pod);
                    }
                } else {
                    bench.world.lock().logical_ports.remove(&logical(pod));
                }
            }
            Event::Elsewhere(slot, is) => {
                let other = ChassisState::Other { name: "nic2".to_owned(), requested: false };
                if let Some(port) = bench.world.lock().logical_ports.get_mut(&logical(self.pods[at(slot)])) {
                    port.chassis = if is { other } else { ChassisState::Unbound };
                }
            }
            Event::Policy(slot, denies) => bench.policy(self.pods[at(slot)], denies),
            Event::Api(true) => self.api_speaks(),
            Event::Api(false) => {
                bench.policies(Policies::Unknown { why: "silent".to_owned() });
                bench.directory(Directory::Unknown { why: "silent".to_owned() });
            }
            Event::Fails(part) => bench.world.lock().fails(part),
            Event::Mended => bench.world.lock().failing.clear(),
            Event::Ovsdb(is) => bench.world.lock().ovsdb_up = is,
            Event::SwitchEnds(start) => bench.world.lock().switch_ends(start),
            Event::SwitchStarts => bench.world.lock().switch_up = true,
            Event::Ovn(is) => bench.world.lock().ovn_controller_up = is,
            Event::Southbound(is) => bench.world.lock().southbound_up = is,
            Event::Remade(number, up) => bench.world.lock().made_again(vf(number), up),
            Event::SetUp(number) => {
                if let Some(rep) = bench.world.lock().reps.get_mut(&Some(vf(number))) {
                    rep.up = true;
                }
            }
            Event::Ends(effects) => bench.world.lock().crash_in = Some(effects),
            Event::Restart => bench.restart().await,
            Event::Wait(seconds) => bench.world.wait(Duration::from_secs(seconds)),
            Event::Rest => {
                bench.rest().await;
            }
        }
    }

    fn api_speaks(&mut self) {
        self.bench.tell_policies();
        self.bench.tell_pods();
    }

    async fn then(&mut self, then: Then) {
        let bench = &mut self.bench;
        if !bench.is_running() {
            bench.start().await;
        }
        if matches!(then, Then::DaemonsAndPass) {
            bench.daemons();
        }
        if !matches!(then, Then::Nothing) {
            bench.turn().await;
        }
        if matches!(then, Then::PassAndDaemons) {
            bench.daemons();
        }
    }

    /// All is well from now on, and everybody has the time that he needs.
    async fn ends(&mut self) -> Result<(), TestCaseError> {
        {
            let mut state = self.bench.world.lock();
            state.failing.clear();
            state.crash_in = None;
            (state.ovsdb_up, state.switch_up) = (true, true);
            (state.southbound_up, state.ovn_controller_up) = (true, true);
            for port in state.logical_ports.values_mut() {
                port.chassis = ChassisState::Unbound;
            }
        }
        for pod in self.pods.clone() {
            if !self.bench.world.lock().logical_ports.contains_key(&logical(pod)) {
                self.bench.logical_port(pod);
            }
        }
        self.api_speaks();
        if !self.bench.is_running() {
            self.bench.start().await;
        }
        prop_assert!(self.bench.rest().await, "never quiet: {:?}", self.bench.world.take_log());
        prop_assert_eq!(self.bench.violations(), Vec::<String>::new());
        prop_assert_eq!(self.bench.world.at_rest(), Vec::<String>::new());
        self.look_at_who_is_there()
    }

    /// Those who were told that they are attached are, those who were told that they are not are not.
    fn look_at_who_is_there(&mut self) -> Result<(), TestCaseError> {
        let ledger = self.bench.world.ledger();
        let bench = &mut self.bench;
        for key in bench.attached.keys() {
            prop_assert!(ledger.of_sandbox(key).is_some(), "{key} was attached, and is not");
        }
        for key in &bench.detached {
            prop_assert!(ledger.of_sandbox(key).is_none(), "{key} was detached, and is there");
            prop_assert!(ledger.is_detached(key), "{key} was detached, and may come back");
        }
        prop_assert!(bench.attaching.is_empty(), "nobody answered");
        for attachment in ledger.attachments() {
            let of = &attachment.claim().unwrap();
            prop_assert!(bench.lives_in_api(of), "{} is gone, and attached", of.pod);
            prop_assert_eq!(bench.stage(&of.key), None);
            prop_assert_eq!(bench.world.lock().is_ruled(of.vf), bench.denies(of), "{}'s policy", of.pod);
        }
        Ok(())
    }
}

async fn tell(history: &[(Event, Then)], tape: Option<fn() -> Buffer>) -> Result<(), TestCaseError> {
    let mut story = Story::new(tape).await;
    for (step, (event, then)) in history.iter().enumerate() {
        story.happens(event).await;
        story.then(*then).await;
        let violations = story.bench.violations();
        prop_assert!(violations.is_empty(), "step {step}, {event:?}: {violations:?}");
    }
    story.ends().await?;
    story.bench.stop();
    for tape in &story.bench.tapes {
        let (end, told) = replayed(tape.text()).await;
        prop_assert!(matches!(end, End::Over), "{end}\n{told}");
    }
    Ok(())
}

/// So many, on one thread.
fn tell_some(cases: u32, tape: Option<fn() -> Buffer>) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 4000, ..Config::default() };
    let histories = proptest::collection::vec((event(), then()), 1..30);
    let outcome = TestRunner::new(config).run(&histories, |history| run(tell(&history, tape)));
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn nothing_is_open_without_its_boundary_and_nothing_is_missing_or_stray_at_rest() {
    let cases = std::env::var("DRAWBRIDGE_HISTORIES").ok().map_or(FEW, |it| it.parse().unwrap());
    let threads = std::thread::available_parallelism().map_or(1, |it| u32::try_from(it.get()).unwrap());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(move || tell_some(cases.div_ceil(threads), None));
        }
    });
}

/// Each process by its own recording, also where it ended in the midst of something.
#[test]
fn a_replay_of_whatever_happened_does_the_same() {
    tell_some(RECORDED, Some(Buffer::default));
}
