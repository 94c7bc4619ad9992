//! What a pass does first and what last.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::bench::{Bench, run};
use super::names::{claim, key, logical, rep, vf, zone};
use super::world::{Effect, Part};
use crate::claim::Attachments as _;
use crate::ovs::view::OvsView;
use crate::southbound::state::ChassisState;

fn write(name: &str) -> Effect {
    Effect::Write(name.to_owned())
}

fn ovs(steps: &[&str]) -> Effect {
    Effect::Ovs(steps.iter().map(|it| (*it).to_owned()).collect())
}

/// Flows by whether some are put and some deleted: how many there are is the boundary's business.
fn shape(log: Vec<Effect>) -> Vec<Effect> {
    let some = |it: usize| usize::from(it > 0);
    let of = |effect| match effect {
        Effect::Flows { put, deleted } => Effect::Flows { put: some(put), deleted: some(deleted) },
        other => other,
    };
    log.into_iter().map(of).collect()
}

#[test]
fn a_start_closes_all_before_it_does_anything() {
    run(async {
        let bench = Bench::new(3).await;
        let closed = ["r-pf0", "r-pf0vf0", "r-pf0vf1", "r-pf0vf2"].map(|it| Effect::Close(it.to_owned()));
        assert_eq!(bench.world.take_log(), closed);
    });
}

#[test]
fn a_boundary_comes_before_its_ports_and_its_representor_opens_last() {
    run(async {
        let mut bench = Bench::at_rest(3).await;
        bench.pod(1);
        bench.attach(claim(1, 1, 1));
        bench.turn().await;
        let first = [
            write("ledger.json"),
            write("policy.json"),
            Effect::Flush(zone(61000)),
            write("ledger.json"),
            Effect::Meters,
            Effect::Flows { put: 1, deleted: 0 },
            ovs(&["+r-pf0vf1", "+e-pf0vf1", "+i-pf0vf1"]),
        ];
        assert_eq!(shape(bench.world.take_log()), first);
        bench.turn().await;
        assert_eq!(bench.world.take_log(), [], "ovs-vswitchd has not taken the ports");
        bench.daemons();
        bench.turn().await;
        assert_eq!(bench.world.take_log(), [Effect::Open(rep(1))]);
        assert_eq!(bench.stage(&key(1)), None);
        assert!(bench.attached.contains_key(&key(1)));
        assert!(bench.rest().await);
        bench.is_fine();
    });
}

#[test]
fn the_loop_goes_round_by_itself() {
    run(async {
        let mut bench = Bench::new(3).await;
        bench.pod(1);
        let (reconciler, handle) = bench.take();
        let daemons = async {
            loop {
                bench.daemons();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let asks = async {
            handle.attach(claim(1, 1, 1)).await.expect("attached");
            assert!(bench.world.lock().reps[&Some(vf(1))].is_open());
            assert_eq!(handle.detach(key(1)).await, Ok(true));
            assert!(!bench.world.lock().reps[&Some(vf(1))].is_open());
        };
        tokio::select! {
            () = reconciler.run(CancellationToken::new()) => panic!("the loop ended"),
            () = daemons => {}
            () = asks => {}
        }
        assert_eq!(bench.violations(), [""; 0]);
    });
}

#[test]
fn a_representor_closes_before_its_flows_and_ports_go() {
    run(async {
        let mut bench = ready().await;
        bench.detach(key(1));
        bench.turn().await;
        let log = [
            write("ledger-more.json"),
            write("ledger.json"),
            Effect::Close(rep(1)),
            write("policy.json"),
            Effect::Flows { put: 0, deleted: 1 },
            Effect::Meters,
            ovs(&["-e-pf0vf1", "-r-pf0vf1", "-i-pf0vf1"]),
            Effect::Flush(zone(61000)),
        ];
        assert_eq!(shape(bench.world.take_log()), log);
        assert!(bench.detached.contains(&key(1)));
        assert!(bench.rest().await);
        bench.is_fine();
    });
}

/// One attachment, open, and nothing in the log.
pub async fn ready() -> Bench {
    let mut bench = Bench::at_rest(3).await;
    bench.pod(1);
    bench.attach(claim(1, 1, 1));
    assert!(bench.rest().await);
    assert!(bench.attached.contains_key(&key(1)));
    bench.is_fine();
    bench.world.take_log();
    bench
}

#[test]
fn a_pass_that_finds_all_right_changes_nothing() {
    run(async {
        let mut bench = ready().await;
        for _ in 0..5 {
            assert!(bench.turn().await);
            bench.world.wait(Duration::from_secs(10));
        }
        assert_eq!(bench.world.take_log(), []);
    });
}

/// Beside one that stays.
#[test]
fn whatever_fails_what_nobody_holds_is_closed() {
    async fn two_ready() -> Bench {
        let mut bench = ready().await;
        bench.pod(2);
        bench.attach(claim(2, 2, 2));
        assert!(bench.rest().await);
        bench.is_fine();
        bench.world.take_log();
        bench
    }
    run(async {
        for part in [Part::Ovs, Part::Switch, Part::Disk] {
            let mut bench = Box::pin(two_ready()).await;
            bench.world.lock().fails(part);
            bench.gone(1);
            bench.turn().await;
            let log = bench.world.take_log();
            assert!(log.contains(&Effect::Close(rep(1))), "{part:?}");
            assert!(!log.contains(&Effect::Close(rep(2))), "{part:?}");
            bench.world.lock().failing.clear();
            assert!(bench.rest().await, "{part:?}");
            bench.is_fine();
        }
        for down in ["ovsdb", "switch", "southbound"] {
            let mut bench = Box::pin(two_ready()).await;
            match down {
                "ovsdb" => bench.world.lock().ovsdb_up = false,
                "switch" => bench.world.lock().switch_ends(false),
                _ => bench.world.lock().southbound_up = false,
            }
            bench.gone(1);
            bench.turn().await;
            let log = bench.world.take_log();
            assert!(log.contains(&Effect::Close(rep(1))), "{down}");
            assert!(!log.contains(&Effect::Close(rep(2))), "{down}");
        }
    });
}

/// Without Open vSwitch it would be a device of the NIC's own.
#[test]
fn no_port_goes_while_its_representor_may_be_open() {
    run(async {
        for part in [Part::Links, Part::Sight] {
            let mut bench = ready().await;
            bench.world.lock().fails(part);
            bench.gone(1);
            for _ in 0..2 {
                bench.turn().await;
                bench.daemons();
            }
            let log = bench.world.take_log();
            assert!(!log.iter().any(|it| matches!(it, Effect::Ovs(_))), "{part:?}: {log:?}");
            bench.world.lock().failing.clear();
            assert!(bench.rest().await, "{part:?}");
            bench.is_fine();
        }
    });
}

/// The port is another chassis', so its pod is only behind its boundary; then it is gone, and the boundary with it.
#[test]
fn a_port_that_ovn_gives_away_and_deletes_takes_no_open_representor_along() {
    run(async {
        let mut bench = ready().await;
        let other = ChassisState::Other { name: "nic2".to_owned(), requested: false };
        bench.world.lock().logical_ports.get_mut(&logical(1)).unwrap().chassis = other;
        bench.turn().await;
        bench.daemons();
        assert_eq!(bench.world.take_log(), [ovs(&["-i-pf0vf1"])]);
        bench.world.lock().logical_ports.remove(&logical(1));
        bench.turn().await;
        bench.daemons();
        let log = [Effect::Close(rep(1)), ovs(&["-e-pf0vf1", "-r-pf0vf1"])];
        assert_eq!(bench.world.take_log(), log);
        bench.logical_port(1);
        assert!(bench.rest().await);
        bench.is_fine();
    });
}

#[test]
fn what_cannot_be_reached_is_left_as_it_is_and_nothing_new_opens() {
    run(async {
        for down in ["ovsdb", "switch", "southbound"] {
            let mut bench = ready().await;
            match down {
                "ovsdb" => bench.world.lock().ovsdb_up = false,
                "switch" => bench.world.lock().switch_ends(false),
                _ => bench.world.lock().southbound_up = false,
            }
            bench.pod(2);
            bench.attach(claim(2, 2, 2));
            for _ in 0..5 {
                bench.daemons();
                bench.turn().await;
            }
            let is_open = |number| bench.world.lock().reps[&Some(vf(number))].is_open();
            assert_eq!((is_open(1), is_open(2)), (true, false), "{down}");
            let log = bench.world.take_log();
            let links = log.iter().filter(|it| it.part() == Part::Links).count();
            assert_eq!(links, 0, "{down}: {log:?}");
            {
                let mut state = bench.world.lock();
                (state.ovsdb_up, state.switch_up, state.southbound_up) = (true, true, true);
            }
            assert!(bench.rest().await, "{down}");
            assert!(bench.attached.contains_key(&key(2)), "{down}");
            bench.is_fine();
        }
    });
}

#[test]
fn where_the_datapath_is_another_all_is_closed_and_nothing_is_written() {
    run(async {
        let mut bench = ready().await;
        bench.world.lock().ovs.other_config.insert("doca-init".to_owned(), "true".to_owned());
        bench.turn().await;
        assert_eq!(bench.world.take_log(), [Effect::Close(rep(1))]);
        let doca = |view: &mut OvsView| view.other_config.remove("doca-init");
        doca(&mut bench.world.lock().ovs);
        assert!(bench.rest().await);
        bench.is_fine();
    });
}

#[test]
fn a_representor_that_is_made_again_is_closed_until_open_vswitch_has_it() {
    run(async {
        let mut bench = ready().await;
        bench.world.lock().made_again(vf(1), true);
        bench.turn().await;
        assert_eq!(bench.world.take_log(), [Effect::Close(rep(1))]);
        bench.turn().await;
        assert_eq!(bench.world.take_log(), [], "the row has the old device's numbers");
        bench.daemons();
        bench.turn().await;
        assert_eq!(bench.world.take_log(), [Effect::Open(rep(1))]);
        assert!(bench.rest().await);
        bench.is_fine();
    });
}

#[test]
fn flows_that_are_lost_come_back_before_open_vswitch_serves() {
    run(async {
        let mut bench = ready().await;
        bench.world.lock().switch_ends(true);
        bench.world.lock().fails(Part::Switch);
        bench.turn().await;
        bench.daemons();
        assert!(bench.world.lock().switch_waits, "it has no flows");
        bench.world.lock().failing.clear();
        bench.world.take_log();
        assert!(bench.rest().await);
        bench.is_fine();
        let log = shape(bench.world.take_log());
        let flows = log.iter().position(|it| matches!(it, Effect::Flows { put: 1, .. }));
        let released = log.iter().position(|it| *it == ovs(&["~"]));
        assert!(flows.is_some() && flows < released, "{log:?}");
    });
}

/// Nobody is told that his policy is in force before it is.
#[test]
fn a_source_is_in_the_tables_when_its_flows_are() {
    run(async {
        let mut bench = ready().await;
        bench.source("1");
        assert!(bench.rest().await);
        assert_eq!(bench.source_in_tables().as_deref(), Some("1"));
        bench.world.lock().fails(Part::Switch);
        bench.policy(1, true);
        bench.source("2");
        bench.turn().await;
        assert_eq!(bench.source_in_tables().as_deref(), Some("1"));
        bench.world.lock().failing.clear();
        assert!(bench.rest().await);
        assert_eq!(bench.source_in_tables().as_deref(), Some("2"));
        bench.is_fine();
    });
}
