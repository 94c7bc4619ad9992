//! One pass: reap, close, wanted, each backend, open, publish.
//!
//! The order is what makes it safe. Representors without a boundary are closed before anything else is tried. A backend's
//! flows go in before its ports, and a representor opens when both are there; it closes before they go.

use std::collections::BTreeSet;
use std::time::Instant;

use offload::ids::VfId;
use tracing::{debug, info, warn};

use super::{Reconciler, admission};
use crate::attachment::Sandbox;
use crate::backend::{self, Backend as _, Brought};
use crate::config::Config;
use crate::metrics::OutcomeLabel;
use crate::outcome::Outcome;
use crate::platform::Platform;
use crate::recording::Kind;
use crate::representors::plan;

impl<P: Platform> Reconciler<P> {
    /// True when nothing failed and nothing is left to do.
    pub(super) async fn look_and_change(&mut self) -> bool {
        let started = self.clock.now();
        let config = self.inputs.config.borrow_and_update().clone();
        let mut outcome = Outcome::default();
        // Reap.
        self.drop_the_dead(&config);
        let management = self.keep_management(&config);
        // Close.
        self.close_unheld(&mut outcome).await;
        // Wanted.
        self.overlay.learn(&config, &mut self.book);
        self.tell_access(&config);
        self.address_management(&mut outcome).await;
        let intents = self.resolve_intents(&mut outcome);
        // Each backend.
        let pass = backend::Pass {
            config: &config,
            book: &mut self.book,
            representors: &mut self.representors,
            intents: &intents,
            marks: self.marks.current(),
            outcome: &mut outcome,
        };
        let Brought { whole, in_tables } = self.overlay.bring(pass).await;
        if in_tables {
            self.source_in_tables.clone_from(&self.resolved_source);
        }
        self.empty_zones(&mut outcome).await;
        self.offer_anew(&config);
        // Open.
        self.open(&whole, &config, &mut outcome).await;
        self.publish(&config, &intents, &management, &outcome);
        self.account(outcome, started)
    }

    /// Pods that the cluster says are no more, or not here.
    fn drop_the_dead(&mut self, config: &Config) {
        let directory = self.inputs.directories.borrow_and_update().clone();
        let dead: Vec<_> = self
            .book
            .ledger
            .pods()
            .filter(|(_, sandbox)| admission::is_dead(sandbox, &directory, config.served()))
            .map(|(_, sandbox)| sandbox.clone())
            .collect();
        let any = !dead.is_empty();
        for Sandbox { key, pod, .. } in dead {
            if let Some(attachment) = self.book.ledger.detach(&key) {
                info!(%key, %pod, vf = %attachment.vf, "pod is gone, VF taken back");
                self.forget(&attachment);
            }
        }
        if any {
            self.book.changed();
        }
        self.book.keep();
    }

    /// What a start does before it can fail for any other reason.
    pub async fn close_first(&mut self) {
        self.trace.begins(Kind::CloseFirst);
        let mut outcome = Outcome::default();
        self.close_unheld(&mut outcome).await;
        for error in outcome.errors {
            warn!(error, "not all representors closed, the first pass tries again");
        }
    }

    /// Representors that no backend keeps reach nothing: nobody holds them, or they have no boundary.
    async fn close_unheld(&mut self, outcome: &mut Outcome) {
        self.representors.observe(outcome).await;
        if let Ok(seen) = self.representors.seen() {
            let keep = self.overlay.keeps(&self.inputs.config.borrow(), &self.book, &seen.reps);
            let steps = plan::close(&seen.reps, &keep);
            self.representors.apply(steps, outcome).await;
        }
    }

    /// Connections of attachments that are gone.
    async fn empty_zones(&mut self, outcome: &mut Outcome) {
        let now = self.clock.now();
        for zone in self.book.ledger.zones_to_empty(now) {
            if self.overlay.empty(zone, outcome).await {
                self.book.ledger.emptied(zone, now);
            }
        }
    }

    /// What has its boundary.
    async fn open(&mut self, whole: &BTreeSet<VfId>, config: &Config, outcome: &mut Outcome) {
        let steps = plan::open(self.representors.all(), whole, config.edge.mtu);
        if !steps.is_empty() {
            self.representors.apply(steps, outcome).await;
            self.representors.observe(outcome).await;
        }
    }

    fn account(&mut self, outcome: Outcome, started: Instant) -> bool {
        for error in outcome.errors.difference(&self.errors) {
            warn!(error, "pass incomplete");
        }
        for error in self.errors.difference(&outcome.errors) {
            info!(error, "resolved");
        }
        let took = self.clock.now().saturating_duration_since(started);
        let complete = outcome.errors.is_empty() && outcome.steps == 0;
        let label = if outcome.errors.is_empty() { "complete" } else { "incomplete" };
        self.metrics.reconciles.get_or_create(&OutcomeLabel { outcome: label }).inc();
        self.metrics.reconcile_seconds.observe(took.as_secs_f64());
        self.metrics
            .steps
            .get_or_create(&OutcomeLabel { outcome: label })
            .inc_by(u64::try_from(outcome.steps).unwrap_or(u64::MAX));
        let attachments = self.book.ledger.pods().count();
        self.metrics.attachments.set(i64::try_from(attachments).unwrap_or(i64::MAX));
        let free = i64::from(self.inputs.config.borrow().edge.ct_zones.size());
        let zones = self.book.ledger.attachments().count() + self.book.ledger.quarantined();
        self.metrics.zones_free.set(free - i64::try_from(zones).unwrap_or(free));
        self.metrics.pending_steps.set(i64::try_from(outcome.steps).unwrap_or(i64::MAX));
        debug!(steps = outcome.steps, attachments, "pass");
        self.errors = outcome.errors;
        complete
    }
}
