//! Sandboxes that take the place of others.

use super::bench::{Bench, run};
use super::names::{claim, key, rep, vf};
use super::order::ready;
use super::world::Effect;
use crate::claim::Refusal;

fn at(log: &[Effect], what: &Effect) -> usize {
    log.iter().position(|it| it == what).unwrap_or_else(|| panic!("no {what:?} in {log:?}"))
}

/// The same VF for another pod closes before the old flows and ports go: between two pods there is no open representor.
#[test]
fn a_vf_that_changes_hands_is_closed_in_between() {
    run(async {
        for has_identity in [true, false] {
            let mut bench = ready().await;
            bench.gone(1);
            bench.record(2);
            bench.policy(2, false);
            if has_identity {
                bench.logical_port(2);
            }
            bench.attach(claim(2, 2, 1));
            bench.turn().await;
            bench.daemons();
            let log = bench.world.take_log();
            let flows = log.iter().position(|it| matches!(it, Effect::Flows { .. })).unwrap();
            assert!(at(&log, &Effect::Close(rep(1))) < flows, "{log:?}");
            bench.logical_port(2);
            assert!(bench.rest().await);
            assert!(bench.attached.contains_key(&key(2)));
            bench.is_fine();
        }
    });
}

#[test]
fn a_pods_new_sandbox_closes_its_old_vf() {
    run(async {
        let mut bench = ready().await;
        bench.attach(claim(2, 1, 2));
        bench.turn().await;
        assert!(!bench.world.lock().reps[&Some(vf(1))].is_open());
        assert!(bench.rest().await);
        let log = bench.world.take_log();
        assert!(at(&log, &Effect::Close(rep(1))) < at(&log, &Effect::Open(rep(2))), "{log:?}");
        bench.is_fine();
        // The old one is over for good.
        bench.attach(claim(1, 1, 1));
        bench.turn().await;
        assert!(matches!(bench.refused.as_slice(), [(_, Refusal::SandboxReplayed { .. })]));
    });
}

/// A new sandbox on the very same VF.
#[test]
fn a_pods_new_sandbox_has_a_zone_of_its_own() {
    run(async {
        let mut bench = ready().await;
        let zone = bench.world.ledger().of_sandbox(&key(1)).unwrap().port.zone();
        bench.attach(claim(2, 1, 1));
        assert!(bench.rest().await);
        assert_ne!(bench.world.ledger().of_sandbox(&key(2)).unwrap().port.zone(), zone);
        assert!(bench.attached.contains_key(&key(2)));
        bench.is_fine();
    });
}

#[test]
fn a_live_pods_vf_is_nobody_elses() {
    run(async {
        let mut bench = ready().await;
        bench.pod(2);
        bench.attach(claim(2, 2, 1));
        bench.turn().await;
        assert!(matches!(bench.refused.as_slice(), [(_, Refusal::VfHeld { .. })]));
        assert_eq!(bench.world.take_log(), []);
    });
}

/// Whoever asks and goes away before the attachment was ready leaves nothing behind.
#[test]
fn an_attach_that_is_given_up_leaves_nothing() {
    run(async {
        let mut bench = Bench::at_rest(3).await;
        bench.pod(1);
        bench.attach(claim(1, 1, 1));
        bench.turn().await;
        bench.daemons();
        bench.give_up(&key(1));
        assert!(bench.rest().await);
        assert_eq!(bench.world.ledger().attachments().count(), 0);
        bench.is_fine();
        // It was never over: the sandbox may ask again.
        bench.attach(claim(1, 1, 1));
        assert!(bench.rest().await);
        assert!(bench.attached.contains_key(&key(1)));
        bench.is_fine();
    });
}

#[test]
fn a_ledger_that_cannot_be_written_believes_nobody() {
    run(async {
        let mut bench = Bench::at_rest(3).await;
        bench.pod(1);
        bench.world.lock().fails(super::world::Part::Disk);
        bench.attach(claim(1, 1, 1));
        bench.turn().await;
        assert!(matches!(bench.refused.as_slice(), [(_, Refusal::Internal(_))]));
        assert!(!bench.world.take_log().iter().any(|it| matches!(it, Effect::Flows { .. } | Effect::Ovs(_))));
    });
}
