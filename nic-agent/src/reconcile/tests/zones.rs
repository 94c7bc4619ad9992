//! Conntrack zones that are used again.

use std::time::Duration;

use super::bench::{Bench, run};
use super::names::{ZONES, claim, key, rep, zone};
use super::order::ready;
use super::world::{Effect, Part};
use crate::claim::Refusal;

fn flushes(log: &[Effect]) -> usize {
    log.iter().filter(|it| matches!(it, Effect::Flush(_))).count()
}

#[test]
fn a_zone_is_emptied_at_once_and_again_before_it_is_free() {
    run(async {
        let mut bench = ready().await;
        bench.detach(key(1));
        bench.turn().await;
        assert_eq!(flushes(&bench.world.take_log()), 1);
        // What was on its way has come in since.
        assert!(!bench.world.lock().connections[&zone(61000)].is_empty());
        bench.turn().await;
        assert_eq!(flushes(&bench.world.take_log()), 0);
        bench.world.wait(Duration::from_secs(5));
        bench.turn().await;
        assert_eq!(flushes(&bench.world.take_log()), 1);
        assert!(bench.rest().await);
        bench.is_fine();
    });
}

/// With each zone in use or in quarantine nobody gets one; then all of them are free again.
#[test]
fn zones_run_out_and_come_back() {
    run(async {
        let count = u16::try_from(ZONES.len()).unwrap();
        let mut bench = Bench::at_rest(count + 1).await;
        for pod in 0..=count {
            bench.pod(pod);
        }
        for pod in 0..count {
            bench.attach(claim(pod, pod, pod));
        }
        assert!(bench.rest().await);
        for pod in 0..count {
            bench.detach(key(pod));
        }
        bench.turn().await;
        bench.attach(claim(100, count, count));
        bench.turn().await;
        assert!(matches!(bench.refused.as_slice(), [(_, Refusal::NoZone { .. })]));
        assert!(bench.rest().await);
        bench.is_fine();
        for pod in 0..count {
            bench.attach(claim(200 + pod, pod, pod));
        }
        assert!(bench.rest().await);
        assert_eq!(bench.attached.len(), usize::from(count));
        bench.is_fine();
    });
}

/// A restart forgets how far the quarantine was, and never that there was one.
#[test]
fn a_quarantine_outlives_the_process() {
    run(async {
        let mut bench = ready().await;
        bench.detach(key(1));
        bench.turn().await;
        bench.restart().await;
        bench.pod(2);
        bench.attach(claim(2, 2, 2));
        bench.turn().await;
        assert_eq!(bench.world.ledger().of_sandbox(&key(2)).unwrap().port.zone(), zone(61001));
        assert!(bench.rest().await);
        bench.is_fine();
    });
}

#[test]
fn nothing_opens_on_a_zone_that_cannot_be_emptied() {
    run(async {
        let mut bench = Bench::at_rest(3).await;
        bench.pod(1);
        bench.world.lock().fails(Part::Switch);
        bench.attach(claim(1, 1, 1));
        for _ in 0..3 {
            bench.turn().await;
            bench.daemons();
        }
        assert!(bench.stage(&key(1)).unwrap().starts_with("flows not installed"));
        assert!(!bench.world.take_log().contains(&Effect::Open(rep(1))));
        bench.world.lock().failing.clear();
        assert!(bench.rest().await);
        bench.is_fine();
    });
}

#[test]
fn a_zone_that_could_not_be_emptied_is_emptied_later() {
    run(async {
        let mut bench = ready().await;
        bench.detach(key(1));
        bench.turn().await;
        bench.world.wait(Duration::from_secs(5));
        bench.world.lock().fails(Part::Switch);
        bench.turn().await;
        bench.world.lock().failing.clear();
        bench.world.take_log();
        bench.turn().await;
        assert_eq!(flushes(&bench.world.take_log()), 1);
        assert!(bench.rest().await);
        bench.is_fine();
    });
}
