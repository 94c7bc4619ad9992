//! Where an attach spends its time: with us, or waiting for OVN.

use std::time::{Duration, Instant};

use crate::backend::Who;
use crate::metrics::{Metrics, StageLabel};

/// A clock for each of the two; one runs at a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waited {
    since: Instant,
    running: Who,
    us: Duration,
    ovn: Duration,
}

impl Waited {
    pub(super) fn begin(now: Instant) -> Self {
        Self { since: now, running: Who::Us, us: Duration::ZERO, ovn: Duration::ZERO }
    }

    /// The time since the last look was spent on whoever was missing then.
    pub(super) fn until(&mut self, now: Instant, missing: Option<Who>) {
        match self.running {
            Who::Us => self.us += now - self.since,
            Who::Ovn => self.ovn += now - self.since,
        }
        self.since = now;
        self.running = missing.unwrap_or(self.running);
    }

    pub(super) fn count(self, metrics: &Metrics) {
        for (stage, spent) in [("ours", self.us), ("ovn-controller", self.ovn)] {
            metrics.attach_seconds.get_or_create(&StageLabel { stage }).observe(spent.as_secs_f64());
        }
    }
}
