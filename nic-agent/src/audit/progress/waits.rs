//! What is waited for outside of the book: that the hardware lets go of what was cut, and that what waits in Open vSwitch's
//! queues has passed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use offload::ids::CtZone;
use offload::netlink::conntrack::{Deleted, Release};

use super::{Book, Held, PATIENCE, Pod, Stage, Told};

/// Waits for the hardware: these zones, with the version of their rules.
#[derive(Debug, Clone)]
pub struct ToRelease {
    pub zones: BTreeMap<CtZone, u64>,
    pub deleted: Deleted,
    pub patience: Duration,
}

/// Waits for Open vSwitch's queues: these zones, with the version of their rules.
#[derive(Debug, Clone)]
pub struct ToDrain {
    pub zones: BTreeMap<CtZone, u64>,
    /// What was put there before this has to have come out.
    pub from: Instant,
}

impl Book {
    /// What has to be waited for; each is told once, and again after the next complete audit if the hardware was not seen
    /// to let go.
    pub fn next_release(&mut self) -> Option<ToRelease> {
        let fresh = |pod: &&Pod| pod.stage == Stage::Releasing;
        let held = |pod: &&Pod| pod.stage == Stage::Settled && pod.held.is_some();
        let some = |which: &dyn Fn(&&Pod) -> bool, patience| {
            let pods: Vec<_> = self.pods.iter().filter(|(_, pod)| which(pod)).collect();
            let at = pods.iter().filter_map(|(_, pod)| pod.last_cut).max()?;
            let zones = pods.iter().map(|(zone, pod)| (**zone, pod.version)).collect();
            let cut = pods.iter().map(|(_, pod)| pod.unreleased).sum();
            Some(ToRelease { zones, deleted: Deleted { deleted: cut, gone: 0, at }, patience })
        };
        if let Some(found) = some(&fresh, PATIENCE) {
            return Some(found);
        }
        let found = if self.is_held_due { some(&held, Duration::ZERO) } else { None };
        self.is_held_due = false;
        found
    }

    pub fn released(&mut self, of: &ToRelease, release: Release, now: Instant) -> Vec<Told> {
        let mut told = Vec::new();
        for (zone, version) in &of.zones {
            let current = |pod: &&mut Pod| {
                pod.version == *version && pod.last_cut.is_some_and(|at| at <= of.deleted.at)
            };
            let Some(pod) = self.pods.get_mut(zone).filter(current) else { continue };
            if pod.stage < Stage::Releasing {
                continue;
            }
            pod.held = match release {
                Release::Complete { .. } => {
                    pod.unreleased = 0;
                    None
                }
                Release::Unproven { held, .. } => Some(Held { entries: held, since: of.deleted.at }),
            };
            if pod.stage == Stage::Releasing {
                told.extend(pod.drain(now));
            }
        }
        told
    }

    /// Everyone who waits for the queues to have been empty, from `now` on.
    pub fn next_drain(&self, now: Instant) -> Option<ToDrain> {
        let waiting = self.pods.iter().filter(|(_, pod)| pod.stage == Stage::Draining);
        let zones: BTreeMap<CtZone, u64> = waiting.map(|(zone, pod)| (*zone, pod.version)).collect();
        (!zones.is_empty()).then_some(ToDrain { zones, from: now })
    }

    /// The queues have been empty since then. Who came to wait for it later does so still. What was cut may have been
    /// answered by what came out of them, which an audit has to look for.
    pub fn drained(&mut self, of: &ToDrain, now: Instant) -> Vec<Told> {
        let mut told = Vec::new();
        for (zone, version) in &of.zones {
            let waits = |pod: &&mut Pod| {
                pod.version == *version && pod.stage == Stage::Draining && pod.since <= of.from
            };
            let Some(pod) = self.pods.get_mut(zone).filter(waits) else { continue };
            pod.is_queued = false;
            if pod.answers.is_empty() {
                told.extend(pod.settle(now));
            } else {
                pod.enter(Stage::Confirming, now);
            }
        }
        told
    }
}
