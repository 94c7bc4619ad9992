//! Objects in, the pods' policies out: what a file and the cluster have in common.
//!
//! Each settling publishes what it changed and nothing else: a map of policies shares all the rest with the one before.

use std::collections::HashSet;
use std::sync::Arc;

use tracing::warn;

use super::Known;
use crate::metrics::Metrics;
use crate::policy::{Change, Compiler, ObjectKind, ObjectName, Settings, Snapshot};

#[derive(Debug)]
pub struct Feed {
    compiler: Compiler,
    known: Known,
    metrics: Metrics,
}

impl Feed {
    pub fn new(settings: Settings, metrics: Metrics) -> Self {
        Self { compiler: Compiler::new(settings, Snapshot::default()), known: Known::default(), metrics }
    }

    /// Waits for [`Self::settle`] to have an effect.
    pub fn put(&mut self, change: Change) {
        self.compiler.stage(change);
    }

    /// These are all of that kind: what else there is goes.
    pub fn only(&mut self, kind: ObjectKind, listed: &HashSet<ObjectName>) {
        for change in self.compiler.missing(kind, listed) {
            self.compiler.stage(change);
        }
    }

    /// Says whether anything is another than it was, `source` apart.
    pub fn settle(&mut self, source: String) -> bool {
        let affected = self.compiler.settle();
        self.known.source = source;
        self.metrics.pods_compiled.inc_by(u64::try_from(affected.composed).unwrap_or(u64::MAX));
        for uid in &affected.pods {
            match self.compiler.compiled(uid) {
                Some(policy) => self.known.pods.insert(uid.clone(), policy.clone()),
                None => self.known.pods.remove(uid),
            };
        }
        let reported = self.compiler.take_reports_changed() && self.report();
        if affected.pods.is_empty() && !reported {
            return false;
        }
        self.known.origins = self.compiler.origins().clone();
        true
    }

    fn report(&mut self) -> bool {
        let reports: Vec<String> = self.compiler.reports().iter().map(ToString::to_string).collect();
        if *self.known.reports == reports {
            return false;
        }
        for report in reports.iter().filter(|it| !self.known.reports.contains(it)) {
            warn!(report, "policy");
        }
        self.known.reports = reports.into();
        true
    }

    pub fn known(&self) -> Arc<Known> {
        Arc::new(self.known.clone())
    }
}
