//! Objects in, the pods' policies out: what a file and the cluster have in common.
//!
//! Each settling publishes what it changed and nothing else: a map of policies shares all the rest with the one before.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use tracing::warn;

use super::{Disbelieved, Known};
use crate::log::Throttle;
use crate::metrics::Metrics;
use crate::policy::{
    Change, Compiler, Disbelief, Held, ObjectKind, ObjectName, Report, Settings, Snapshot, Trust, Word,
    WordKind,
};

#[derive(Debug)]
pub struct Feed {
    /// This NIC's.
    node: Arc<str>,
    /// None: whoever wrote the objects is believed in all.
    trust: Option<Trust>,
    compiler: Compiler,
    known: Known,
    /// Disbeliefs that are in the log.
    told: BTreeSet<Disbelief>,
    /// Whoever writes policies causes reports.
    throttle: Throttle,
    metrics: Metrics,
}

impl Feed {
    /// Of a file, which this NIC's administrator has written.
    pub fn of_file(settings: Settings, metrics: Metrics) -> Self {
        let node = settings.node.clone();
        let compiler = Compiler::new(settings, Snapshot::default());
        let throttle = Throttle::new(metrics.lines_withheld.clone());
        let (known, told) = (Known::default(), BTreeSet::new());
        Self { node, trust: None, compiler, known, told, throttle, metrics }
    }

    /// Of a cluster, in which nodes write of their own pods.
    pub fn of_cluster(settings: Settings, metrics: Metrics) -> Self {
        let trust = Some(Trust::new(settings.node.clone()));
        Self { trust, ..Self::of_file(settings, metrics) }
    }

    /// Waits for [`Self::settle`] to have an effect.
    pub fn put(&mut self, change: Change) {
        let change = match &mut self.trust {
            Some(trust) => trust.take(change),
            None => Some(change),
        };
        if let Some(change) = change {
            self.compiler.stage(change);
        }
    }

    /// As [`Self::put`].
    pub fn hear(&mut self, word: Word) {
        if let Some(trust) = &mut self.trust {
            trust.hear(word);
        }
    }

    pub fn hold(&mut self, held: Held) {
        if let Some(trust) = &mut self.trust {
            trust.hold(held);
        }
    }

    pub fn only_words(&mut self, kind: WordKind, listed: &HashSet<ObjectName>) {
        if let Some(trust) = &mut self.trust {
            trust.only_words(kind, listed);
        }
    }

    /// These are all of that kind: what else there is goes.
    pub fn only(&mut self, kind: ObjectKind, listed: &HashSet<ObjectName>) {
        if let (Some(trust), ObjectKind::Pod | ObjectKind::EndpointSlice) = (&mut self.trust, kind) {
            return trust.only(kind, listed);
        }
        for change in self.compiler.missing(kind, listed) {
            self.compiler.stage(change);
        }
    }

    /// Says whether anything is another than it was, `source` apart, and apart from what nodes are not believed: any of
    /// them could keep everybody busy with that.
    pub fn settle(&mut self, source: String) -> bool {
        for change in self.trust.as_mut().map(Trust::flush).unwrap_or_default() {
            self.compiler.stage(change);
        }
        let affected = self.compiler.settle();
        self.known.source = source;
        self.metrics.pods_compiled.inc_by(u64::try_from(affected.composed).unwrap_or(u64::MAX));
        for uid in &affected.pods {
            match self.compiler.compiled(uid) {
                Some(policy) => self.known.pods.insert(uid.clone(), policy.clone()),
                None => self.known.pods.remove(uid),
            };
        }
        let of_trust = self.trust.as_mut().is_some_and(Trust::take_reports_changed);
        let of_policies = self.compiler.take_reports_changed();
        let is_other = (of_policies || of_trust) && self.report();
        let reported = of_policies && is_other;
        if affected.pods.is_empty() && !reported {
            return false;
        }
        self.known.origins = self.compiler.origins().clone();
        true
    }

    fn report(&mut self) -> bool {
        let of_policies = self.compiler.reports();
        let disbelieved: Vec<Report> = self.trust.iter().flat_map(Trust::reports).collect();
        let texts: Vec<String> = of_policies.iter().chain(&disbelieved).map(ToString::to_string).collect();
        if *self.known.reports == texts {
            return false;
        }
        let told: HashSet<&String> = self.known.reports.iter().collect();
        for report in texts.iter().take(of_policies.len()).filter(|it| !told.contains(it)) {
            // All of them are in /policy.
            if let Some(withheld) = self.throttle.admit() {
                warn!(report, withheld, "policy");
            }
        }
        // Said once of a node, whichever pods it is that it lies about.
        let whys = disbelieved.iter().filter_map(|it| match it {
            Report::Disbelieved { why, .. } => Some(why.clone()),
            _ => None,
        });
        let whys: BTreeSet<Disbelief> = whys.collect();
        for report in &disbelieved {
            if let Report::Disbelieved { why, .. } = report
                && !self.told.contains(why)
            {
                warn!(%report, "not believed");
            }
        }
        self.told = whys;
        let of_own = |report: &Report| match report {
            Report::Disbelieved { why, .. } if why.node() == Some(&self.node) => {
                Some(Disbelieved { reason: why.reason(), what: report.to_string() })
            }
            _ => None,
        };
        self.known.disbelieved = disbelieved.iter().filter_map(of_own).collect();
        self.known.reports = texts.into();
        true
    }

    pub fn known(&self) -> Arc<Known> {
        Arc::new(self.known.clone())
    }
}
