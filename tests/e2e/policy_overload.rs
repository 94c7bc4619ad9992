//! Policy is tightened while a NIC's Open vSwitch has too little of the processor, or none for a while, and a pod floods
//! connections that are denied from then on: whatever the agent calls settled is.
//!
//! ```text
//!  loose ─► knocks, busy connections, recordings ─► flood ─► fault ─► tight ─► settled? ─► fault and flood end ─► settled!
//!                                                              nothing denied arrives: └──────────────────────────────►
//! ```
//!
//! Nothing is expected of *when* the agent says so while the load goes on; after it, it must. From that moment on nothing
//! denied arrives, and no connection is in conntrack or in the eSwitch that is denied. What would have arrived shows a
//! witness: allowed pods begin connections of the same kinds all the time, and a window is not over before each has arrived.
//! Where that does not come the test says `late`; where something arrives, or is left, it says `wrong`.
//!
//! `DRAWBRIDGE_OVERLOAD_ROUNDS` (2; `make soak`: 100), `DRAWBRIDGE_OVERLOAD_SHARE` (thousandths of a core that OVS has),
//! `DRAWBRIDGE_OVERLOAD_PORTS` (so many megaflows are needed, for each receiver, protocol and version of IP).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "policy_overload/arrivals.rs"]
mod arrivals;
#[path = "policy_overload/left.rs"]
mod left;
#[path = "policy_overload/load.rs"]
mod load;
#[path = "policy_overload/policies.rs"]
mod policies;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::fault::{Frozen, Throttled};
use tests::nic::{NICS, Nic};
use tests::{PolicyLab, until};

use arrivals::{Arrivals, Count, missing, now};
use load::{Busy, Knocking};
use policies::RECEIVERS;

/// The load is not waited for longer than this.
const UNDER_LOAD: Duration = Duration::from_secs(10);
/// How long OVS stands still.
const FROZEN: Duration = Duration::from_secs(3);
/// In which what is denied is not to arrive, at least.
const WINDOW: Duration = Duration::from_secs(2);
/// For the witnesses.
const PATIENCE: Duration = Duration::from_mins(1);
/// For the pod to settle when the load has ended.
const CALM: Duration = Duration::from_mins(3);

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |it| it.parse().unwrap_or_else(|e| panic!("{name}: {it:?}: {e}")))
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// As long as the load goes on.
    Throttled(Nic),
    /// In the midst of the change.
    Frozen(Nic),
}

impl Fault {
    fn of(round: u32) -> Self {
        let nic = NICS[(round / 2 % 2) as usize];
        if round % 2 == 0 { Self::Throttled(nic) } else { Self::Frozen(nic) }
    }

    fn nic(self) -> Nic {
        let (Self::Throttled(nic) | Self::Frozen(nic)) = self;
        nic
    }
}

struct Test {
    lab: PolicyLab,
    sets: [Vec<Value>; 2],
    neighbour: Busy,
    ports: u16,
    permille: u32,
}

/// When each receiver had settled, as far as it has.
type Settled = BTreeMap<&'static str, Duration>;

impl Test {
    /// Looks once. What is missing, as the agents say it.
    fn look(&self, settled: &mut Settled) -> Result<(), String> {
        let mut why = Vec::new();
        for nic in NICS {
            let receivers = RECEIVERS.iter().filter(|it| self.lab.pod(self.lab.index(it)).nic() == nic);
            let said = self.lab.unsettled(nic);
            for name in receivers.filter(|it| !settled.contains_key(*it)).collect::<Vec<_>>() {
                match said.as_ref().map(|it| it.get(&self.lab.pod(self.lab.index(name)).uid)) {
                    Ok(Some(None)) => drop(settled.insert(name, now())),
                    Ok(Some(Some(reason))) => why.push(format!("{name}: {reason}")),
                    Ok(None) => why.push(format!("{name}: not known")),
                    Err(reason) => why.push(format!("{name}: {reason}")),
                }
            }
        }
        if why.is_empty() { Ok(()) } else { Err(why.join("; ")) }
    }

    /// Returns what is wrong.
    fn round(&mut self, round: u32) -> Vec<String> {
        let (began, fault) = (Instant::now(), Fault::of(round));
        let [loose, tight] = self.sets.clone();
        self.lab.enforce(&loose);
        self.lab.settle();
        let mut arrivals = Arrivals::start(&self.lab, &["a1", "a3", "b1", "b2", "c1"]);
        let cut = policies::DENIED.map(|it| Busy::start(&self.lab, it));
        let knocking = Knocking::start(&self.lab);
        let all = load::witnesses().into_iter().chain(load::denied()).collect();
        let start = now();
        until("late: all that is allowed yet arrives", PATIENCE, || {
            match missing(&all, &arrivals.knocked(start, now())) {
                missing if missing.is_empty() => Ok(()),
                missing => Err(format!("missing {missing:?}")),
            }
        });
        let ready = began.elapsed();

        // The load.
        let flood_began = now();
        let every = Duration::from_micros(number("DRAWBRIDGE_OVERLOAD_EVERY", 500).into());
        let flood = load::flood(&self.lab, self.ports, (!every.is_zero()).then_some(every));
        let upcalls = Upcalls::of(fault.nic());
        let throttled = matches!(fault, Fault::Throttled(_))
            .then(|| Throttled::start(fault.nic(), "vswitchd", self.permille));
        std::thread::sleep(Duration::from_secs(2));
        let (sent, loaded) = (flood.sent(), now() - flood_began);
        let through = arrivals.flooded(flood_began, now());
        let (changed, mut settled) = (Instant::now(), Settled::new());
        self.lab.announce(&tight);
        if let Fault::Frozen(nic) = fault {
            std::thread::sleep(Duration::from_millis(u64::from(round % 7) * 70));
            let _frozen = Frozen::start(nic, "vswitchd");
            std::thread::sleep(FROZEN);
        }
        let mut why = self.look(&mut settled);
        while why.is_err() && changed.elapsed() < UNDER_LOAD {
            std::thread::sleep(Duration::from_millis(100));
            why = self.look(&mut settled);
        }
        let (under_load, settled_in) = (why.is_ok(), changed.elapsed());
        let mut wrong = Vec::new();
        let mut witnessed = None;
        if under_load {
            wrong.extend(self.left("under load"));
            std::thread::sleep(WINDOW);
            witnessed = Some(self.witnessed(&mut arrivals, &settled, UNDER_LOAD));
        }
        let held_back = throttled.as_ref().map(Throttled::held_back);
        let lost = Upcalls::of(fault.nic()).since(upcalls);
        let (flooded, flood_took) = (flood.stop(), now() - flood_began);
        drop(throttled);

        // And calm.
        if let Err(why) = &why {
            println!("  not settled under load: {why}");
            until("wrong: the receivers settle when the load has ended", CALM, || self.look(&mut settled));
        }
        let calm_in = changed.elapsed();
        std::thread::sleep(WINDOW);
        let seen = self.witnessed(&mut arrivals, &settled, PATIENCE);
        let seen = seen.unwrap_or_else(|missing| panic!("late: witnesses that never came: {missing}"));
        wrong.extend(self.left("calm"));
        drop(knocking);
        cut.into_iter().for_each(Busy::halt);
        arrivals.stop();
        let (count, texts) = arrivals.denied_after(&settled);
        if !texts.is_empty() {
            wrong
                .push(format!("arrived after settled: {count:?}, first {:#?}", &texts[..texts.len().min(5)]));
        }
        self.neighbour.go_on();
        let rate = |packets: u64, time: Duration| packets as f64 / time.as_secs_f64();
        println!(
            "round {round} {fault:?}: {:.1} s (ready {:.1}); flood {:.0}/s, {:.0}/s arrived before the change; sent {:.0}/s in all; \
             {lost:?}; held back {held_back:.1?}; settled under load {under_load} {:.1} s, calm {:.1} s; witnesses under load {}, calm {}; \
             denied arrived {}; wrong {}",
            began.elapsed().as_secs_f64(),
            ready.as_secs_f64(),
            rate(sent, loaded),
            rate(through as u64, loaded),
            rate(flooded, flood_took),
            settled_in.as_secs_f64(),
            calm_in.as_secs_f64(),
            tell(witnessed.as_ref()),
            seen.values().sum::<usize>(),
            texts.len(),
            wrong.len(),
        );
        wrong
    }

    /// Waits until each witness has arrived since all have settled. `Err`: those that have not.
    fn witnessed(
        &self,
        arrivals: &mut Arrivals,
        settled: &Settled,
        patience: Duration,
    ) -> Result<Count, String> {
        let since = *settled.values().max().expect("all have settled");
        let end = Instant::now() + patience;
        loop {
            let seen: Count = arrivals.knocked(since, now());
            let missing = missing(&load::witnesses(), &seen);
            if missing.is_empty() {
                return Ok(seen);
            }
            if Instant::now() >= end {
                return Err(format!("{missing:?}"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn left(&self, when: &str) -> Vec<String> {
        let left: Vec<String> = RECEIVERS.iter().flat_map(|it| left::left(&self.lab, it)).collect();
        if left.is_empty() {
            return Vec::new();
        }
        vec![format!("{when}, {} connections are left, first {:#?}", left.len(), &left[..left.len().min(5)])]
    }
}

fn tell(witnessed: Option<&Result<Count, String>>) -> String {
    match witnessed {
        None => "-".to_owned(),
        Some(Ok(seen)) => seen.values().sum::<usize>().to_string(),
        Some(Err(missing)) => format!("late: {missing}"),
    }
}

/// What the kernel counts of packets that it asked OVS about.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code)]
struct Upcalls {
    missed: u64,
    lost: u64,
}

impl Upcalls {
    #[track_caller]
    fn of(nic: Nic) -> Self {
        let said = nic.run(&["ovs-dpctl", "show"]).ok();
        let of = |name: &str| {
            let value = said.split_whitespace().find_map(|it| it.strip_prefix(name)?.parse().ok());
            value.unwrap_or_else(|| panic!("{name} in {said}"))
        };
        Self { missed: of("missed:"), lost: of("lost:") }
    }

    fn since(self, before: Self) -> Self {
        Self { missed: self.missed - before.missed, lost: self.lost - before.lost }
    }
}

#[test]
fn settled_is_settled_under_overload() {
    let rounds = number("DRAWBRIDGE_OVERLOAD_ROUNDS", 2);
    let ports = u16::try_from(number("DRAWBRIDGE_OVERLOAD_PORTS", 64)).unwrap();
    let permille = number("DRAWBRIDGE_OVERLOAD_SHARE", 50);
    let lab = PolicyLab::start();
    let sets = policies::sets(&lab, ports);
    let neighbour = Busy::start(&lab, "a1");
    let mut test = Test { lab, sets, neighbour, ports, permille };
    let mut failed = Vec::new();
    for round in 0..rounds {
        let wrong = test.round(round);
        if !wrong.is_empty() {
            println!("  wrong: {wrong:#?}");
            failed.push(round);
        }
    }
    assert!(failed.is_empty(), "wrong in {} of {rounds} rounds: {failed:?}", failed.len());
}
