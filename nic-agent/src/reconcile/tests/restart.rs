//! The process ends in the midst of each step, and the next one goes on from what is on the disk.

use super::bench::{Bench, run};
use super::names::{claim, key, logical, vf};
use super::order::ready;
use super::world::Effect;
use crate::directory::Directory;
use crate::enforcement::Policies;

/// A zone that is not free yet stands in the second file, which is written first.
const LEDGER_FILES: u64 = 2;

/// Ends the process before its first effect, its second, and so on, until `scenario` comes to its end; after each, the next
/// process has to bring everything in order, and `after` may look.
async fn at_each_step(scenario: impl AsyncFn(&mut Bench), after: impl Fn(&Bench, u64)) {
    for step in 0.. {
        assert!(step < 100, "the scenario never ends");
        let mut bench = ready().await;
        bench.world.lock().crash_in = Some(step);
        scenario(&mut bench).await;
        let ended = bench.world.lock().crash_in.take().is_none();
        assert_eq!(ended, !bench.is_running(), "step {step}");
        if ended {
            assert_eq!(bench.violations(), [""; 0], "step {step}");
            bench.start().await;
        }
        assert!(bench.rest().await, "step {step}");
        bench.is_fine();
        after(&bench, step);
        if !ended {
            return;
        }
    }
}

async fn turns(bench: &mut Bench) {
    for _ in 0..4 {
        if bench.is_running() {
            bench.turn().await;
            bench.daemons();
        }
    }
}

#[test]
fn in_an_attach() {
    run(at_each_step(
        async |bench| {
            bench.pod(2);
            bench.attach(claim(2, 2, 2));
            turns(bench).await;
        },
        |bench, _| {
            // It is there as a whole or not at all; which of both, the ledger's first write decides.
            let open = bench.world.lock().reps[&Some(vf(2))].is_open();
            assert_eq!(open, bench.world.ledger().of_sandbox(&key(2)).is_some());
            assert!(bench.world.lock().reps[&Some(vf(1))].is_open());
        },
    ));
}

#[test]
fn in_a_detach() {
    run(at_each_step(
        async |bench| {
            bench.detach(key(1));
            turns(bench).await;
        },
        |bench, step| {
            let is_over = bench.world.ledger().is_detached(&key(1));
            assert_eq!(is_over, bench.world.ledger().of_sandbox(&key(1)).is_none());
            assert_eq!(is_over, step >= LEDGER_FILES, "the first effects are the ledger's writes");
        },
    ));
}

#[test]
fn when_a_pod_is_gone() {
    run(at_each_step(
        async |bench| {
            bench.gone(1);
            turns(bench).await;
        },
        |bench, _| assert_eq!(bench.world.ledger().attachments().count(), 0),
    ));
}

#[test]
fn when_a_policy_changes() {
    run(at_each_step(
        async |bench| {
            bench.policy(1, true);
            turns(bench).await;
        },
        |bench, _| assert_eq!(bench.world.lock().is_ruled(vf(1)), Some(true)),
    ));
}

#[test]
fn when_open_vswitch_starts_again() {
    run(at_each_step(
        async |bench| {
            bench.world.lock().switch_ends(true);
            for _ in 0..3 {
                turns(bench).await;
            }
        },
        |_, _| {},
    ));
}

#[test]
fn when_a_sandbox_is_superseded() {
    run(at_each_step(
        async |bench| {
            bench.attach(claim(2, 1, 2));
            turns(bench).await;
        },
        |bench, step| {
            let ledger = bench.world.ledger();
            assert_eq!(ledger.attachments().count(), 1);
            assert_eq!(ledger.of_sandbox(&key(2)).is_some(), step >= LEDGER_FILES);
        },
    ));
}

/// What is right stays as it is, whoever cannot be asked.
#[test]
fn changes_nothing_that_is_right_and_needs_nobody() {
    run(async {
        for silent in ["nobody", "southbound", "cluster"] {
            let mut bench = ready().await;
            bench.policy(1, true);
            assert!(bench.rest().await);
            bench.world.take_log();
            match silent {
                "southbound" => bench.world.lock().southbound_up = false,
                "cluster" => {
                    bench.directory(Directory::Unknown { why: "silent".to_owned() });
                    bench.policies(Policies::Unknown { why: "silent".to_owned() });
                }
                _ => {}
            }
            bench.restart().await;
            for _ in 0..3 {
                bench.turn().await;
                bench.daemons();
            }
            let log = bench.world.take_log();
            // Whether OVS waits for its flows a new process does not know, so it says that they are in.
            let is_restore = |it: &Effect| matches!(it, Effect::Ovs(steps) if *steps == ["~"]);
            let other: Vec<_> = log.iter().filter(|it| !is_restore(it)).collect();
            assert!(other.is_empty(), "{silent}: {other:?}");
            assert!(bench.world.lock().reps[&Some(vf(1))].is_open(), "{silent}");
            assert_eq!(bench.world.lock().is_ruled(vf(1)), Some(true), "{silent}");
            assert_eq!(bench.stage(&key(1)), None, "{silent}");
        }
    });
}

/// What OVN says later goes to the disk as what it said first.
#[test]
fn an_identity_that_changes_is_kept() {
    run(async {
        let mut bench = ready().await;
        let other: std::net::IpAddr = "10.0.0.77".parse().unwrap();
        bench.world.lock().logical_ports.get_mut(&logical(1)).unwrap().ip = other;
        assert!(bench.rest().await);
        let kept = bench.world.ledger().of_sandbox(&key(1)).unwrap().binding().cloned().unwrap();
        assert_eq!(kept.ips, [other]);
        bench.is_fine();
        bench.world.lock().southbound_up = false;
        bench.restart().await;
        bench.world.take_log();
        bench.turn().await;
        let log = bench.world.take_log();
        assert!(!log.iter().any(|it| matches!(it, Effect::Flows { .. })), "{log:?}");
    });
}

#[test]
fn without_a_policy_of_its_own_a_pod_is_closed_until_it_is_known() {
    run(async {
        let mut bench = Bench::at_rest(3).await;
        bench.record(1);
        bench.logical_port(1);
        bench.policies(Policies::Unknown { why: "silent".to_owned() });
        bench.attach(claim(1, 1, 1));
        bench.rest().await;
        assert_eq!(bench.world.lock().is_ruled(vf(1)), Some(true));
        assert_eq!(bench.stage(&key(1)).as_deref(), Some("policy not known: silent"));
        bench.restart().await;
        bench.rest().await;
        assert_eq!(bench.world.lock().is_ruled(vf(1)), Some(true), "nothing was kept");
        assert_eq!(bench.violations(), [""; 0]);
    });
}
