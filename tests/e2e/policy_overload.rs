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
//! `DRAWBRIDGE_OVERLOAD_ROUNDS` (2; `make soak`: 100), `DRAWBRIDGE_OVERLOAD_FIRST` (0: with which it begins, so that two labs share
//! them), `DRAWBRIDGE_OVERLOAD_SHARE` (thousandths of a core that OVS has;
//! else it varies), `DRAWBRIDGE_OVERLOAD_SECONDS` (how long the load goes on for the receivers to settle), `DRAWBRIDGE_OVERLOAD_PORTS`
//! (so many megaflows the flood needs of each of its kinds), `DRAWBRIDGE_OVERLOAD_EVERY` (microseconds between two of its packets; 0:
//! as fast as they are made).
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

/// How long the load goes on for the receivers to settle, once the policy is in the tables: seconds.
const UNDER_LOAD: u32 = 15;
/// And for it to get there.
const IN_TABLES: Duration = Duration::from_secs(25);
/// Thousandths of a core. With the least of it nothing settles before the load ends; with more, it may while old packets wait.
const SHARES: [u32; 4] = [40, 25, 60, 15];
/// Between two looks.
const LOOK: Duration = Duration::from_millis(300);
/// How long OVS stands still.
const FROZEN: Duration = Duration::from_secs(3);
/// In which what is denied is not to arrive, at least.
const WINDOW: Duration = Duration::from_secs(2);
/// For the witnesses.
const PATIENCE: Duration = Duration::from_mins(1);
/// For the pod to settle when the load has ended.
const CALM: Duration = Duration::from_mins(10);

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
        if round.is_multiple_of(2) { Self::Throttled(nic) } else { Self::Frozen(nic) }
    }

    fn nic(self) -> Nic {
        let (Self::Throttled(nic) | Self::Frozen(nic)) = self;
        nic
    }
}

/// To be settled.
struct Missing {
    /// Of both NICs.
    in_tables: bool,
    why: Vec<String>,
}

struct Test {
    lab: PolicyLab,
    sets: [Vec<Value>; 2],
    neighbour: Busy,
    zones: [left::Zones; 2],
    ports: u16,
    permille: Option<u32>,
    /// Some round had more connections than the throttled switch took.
    overloaded: bool,
}

/// When each receiver had settled, as far as it has.
type Settled = BTreeMap<&'static str, Duration>;

impl Test {
    /// Looks once. What is missing, as the agents say it. An answer is long, and costs the emulated processor dear: each NIC
    /// is asked no more when its receivers have settled.
    fn look(&self, settled: &mut Settled) -> Result<(), Missing> {
        let mut missing = Missing { in_tables: true, why: Vec::new() };
        for nic in NICS {
            let on_it =
                |it: &&str| self.lab.pod(self.lab.index(it)).nic() == nic && !settled.contains_key(*it);
            let receivers: Vec<&str> = RECEIVERS.into_iter().filter(|it| on_it(it)).collect();
            if receivers.is_empty() {
                continue;
            }
            let said = match self.lab.unsettled(nic) {
                Ok(said) => said,
                Err(why) => {
                    missing.in_tables = false;
                    missing.why.push(why);
                    continue;
                }
            };
            for name in receivers {
                match said.get(&self.lab.pod(self.lab.index(name)).uid) {
                    Some(None) => drop(settled.insert(name, now())),
                    Some(Some(reason)) => missing.why.push(format!("{name}: {reason}")),
                    None => missing.why.push(format!("{name}: not known")),
                }
            }
        }
        if missing.why.is_empty() { Ok(()) } else { Err(missing) }
    }

    /// Of a core, in thousandths, that OVS has.
    fn share(&self, round: u32) -> u32 {
        self.permille.unwrap_or(SHARES[(round / 4) as usize % SHARES.len()])
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
        let every = Duration::from_micros(number("DRAWBRIDGE_OVERLOAD_EVERY", 2000).into());
        let throttled = matches!(fault, Fault::Throttled(_))
            .then(|| Throttled::start(fault.nic(), "vswitchd", self.share(round)));
        let (flood_began, upcalls) = (now(), Upcalls::of(fault.nic()));
        let flood = load::flood(&self.lab, self.ports, (!every.is_zero()).then_some(every));
        std::thread::sleep(Duration::from_secs(2));
        let (sent, loaded) = (flood.sent(), now().saturating_sub(flood_began));
        let through = arrivals.flooded(flood_began, now()) as u64;
        self.overloaded |= throttled.is_some() && through < sent;
        let (changed, mut settled) = (Instant::now(), Settled::new());
        self.lab.announce(&tight);
        if let Fault::Frozen(nic) = fault {
            self.midst(round, nic);
            let _frozen = Frozen::start(nic, "vswitchd");
            std::thread::sleep(FROZEN);
        }
        let patience = Duration::from_secs(number("DRAWBRIDGE_OVERLOAD_SECONDS", UNDER_LOAD).into());
        let (mut in_tables, mut why) = (None, self.look(&mut settled));
        while let Err(missing) = &why {
            let is_late =
                in_tables.map_or(changed.elapsed() > IN_TABLES, |it: Instant| it.elapsed() > patience);
            if is_late {
                break;
            }
            if missing.in_tables {
                in_tables.get_or_insert_with(Instant::now);
            }
            std::thread::sleep(LOOK);
            why = self.look(&mut settled);
        }
        let (under_load, settled_in) = (why.is_ok(), changed.elapsed());
        let mut wrong = Vec::new();
        let mut witnessed = None;
        if under_load {
            wrong.extend(self.left("under load"));
            std::thread::sleep(WINDOW);
            witnessed = Some(Self::witnessed(&mut arrivals, &settled, patience));
        }
        let held_back = throttled.as_ref().map(Throttled::held_back);
        let lost = Upcalls::of(fault.nic()).since(upcalls);
        let (flooded, flood_took) = (flood.stop(), now().saturating_sub(flood_began));
        let throttled_to = throttled.map(|_| self.share(round));

        // And calm.
        if let Err(missing) = &why {
            println!("  not settled under load: {}", missing.why.join("; "));
            until("wrong, never settled: the load has ended", CALM, || {
                self.look(&mut settled).map_err(|it| it.why.join("; "))
            });
        }
        let calm_in = changed.elapsed();
        std::thread::sleep(WINDOW);
        let seen = Self::witnessed(&mut arrivals, &settled, PATIENCE);
        let seen = seen.unwrap_or_else(|missing| panic!("late: witnesses that never came: {missing:?}"));
        wrong.extend(self.left("calm"));
        drop(knocking);
        cut.into_iter().for_each(Busy::halt);
        arrivals.stop();
        let (count, texts) = arrivals.denied_after(&settled);
        if !texts.is_empty() {
            wrong.push(format!(
                "arrived after settled: {count:?}, first {:#?}, last {:?}",
                &texts[..texts.len().min(4)],
                texts.last()
            ));
        }
        self.neighbour.go_on();
        let rate = |packets: u64, time: Duration| u128::from(packets) * 1000 / time.as_millis().max(1);
        println!(
            "round {round} {fault:?} {}: {:.1} s (ready {:.1}); flood {}/s, {}/s arrived before the change; sent {}/s in all; \
             {lost:?}; held back {held_back:.1?}; settled under load {under_load} {:.1} s, calm {:.1} s; witnesses under load {}, calm {}; \
             denied arrived {}; wrong {}",
            throttled_to.map_or_else(String::new, |it| format!("to {it} ‰")),
            began.elapsed().as_secs_f64(),
            ready.as_secs_f64(),
            rate(sent, loaded),
            rate(through, loaded),
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

    /// Somewhere between a policy that was just written and its cutting: by turns at some moment before it is in the tables, and
    /// right after that.
    fn midst(&self, round: u32, nic: Nic) {
        let nth = round / 4;
        if nth.is_multiple_of(2) {
            std::thread::sleep(Duration::from_millis((nth * 7 % 20 * 100).into()));
        } else {
            until("late: the policy is in the tables", PATIENCE, || self.lab.unsettled(nic));
        }
    }

    /// Waits until each witness has arrived since all have settled. `Err`: those that have not.
    fn witnessed(
        arrivals: &mut Arrivals,
        settled: &Settled,
        patience: Duration,
    ) -> Result<Count, Vec<arrivals::Sort>> {
        let since = *settled.values().max().expect("all have settled");
        let end = Instant::now() + patience;
        loop {
            let seen: Count = arrivals.knocked(since, now());
            let missing = missing(&load::witnesses(), &seen);
            if missing.is_empty() {
                return Ok(seen);
            }
            if Instant::now() >= end {
                return Err(missing);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What should not be there: `Some` as text.
    fn left(&self, when: &str) -> Option<String> {
        let left = left::left(&self.lab, &self.zones);
        let some = &left[..left.len().min(5)];
        (!left.is_empty()).then(|| format!("{when}, {} connections are left, first {some:#?}", left.len()))
    }
}

fn tell(witnessed: Option<&Result<Count, Vec<arrivals::Sort>>>) -> String {
    match witnessed {
        None => "-".to_owned(),
        Some(Ok(seen)) => seen.values().sum::<usize>().to_string(),
        Some(Err(missing)) => format!("late ({} kinds did not come)", missing.len()),
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
    let permille = Some(number("DRAWBRIDGE_OVERLOAD_SHARE", 0)).filter(|it| *it > 0);
    let lab = PolicyLab::start();
    let sets = policies::sets(&lab, ports);
    load::introduce(&lab);
    let neighbour = Busy::start(&lab, "a1");
    let zones = NICS.map(|nic| left::zones(&lab, nic));
    let mut test = Test { lab, sets, neighbour, zones, ports, permille, overloaded: false };
    let mut failed = Vec::new();
    let first = number("DRAWBRIDGE_OVERLOAD_FIRST", 0);
    for round in first..first + rounds {
        let wrong = test.round(round);
        if !wrong.is_empty() {
            println!("  wrong: {wrong:#?}");
            failed.push(round);
        }
    }
    assert!(test.overloaded, "late: the throttled switch took all that was sent, so nothing was proven");
    assert!(failed.is_empty(), "wrong in {} of {rounds} rounds: {failed:?}", failed.len());
}
