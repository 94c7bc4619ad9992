//! The reconcile loop's part in enforcing policy: whose policy is what, what follows when it changes, and that the
//! hardware, not the processor, does the work where it can.

use std::collections::BTreeMap;
use std::time::Instant;

use tracing::{info, warn};

use super::Reconciler;
use super::pass::Outcome;
use super::published::{PodStatus, PolicyStatus};
use crate::attachment::Attachment;
use crate::claim::SandboxKey;
use crate::config::Config;
use crate::enforcement::cutter::{Done, Job};
use crate::enforcement::kept::{self, Kept};
use crate::enforcement::{Enforced, Policies, resolve};
use crate::management;
use crate::metrics::{CauseLabel, OutcomeLabel};
use crate::ovs::control;
use crate::policy::Origins;

/// What is to be enforced, for every attachment of the ledger.
pub(super) type Enforcement = BTreeMap<SandboxKey, Enforced>;

/// Is there a policy to be ready with?
pub(super) fn policy_known(enforced: Option<&Enforced>) -> Result<(), &str> {
    match enforced {
        Some(Enforced::Policy(_)) => Ok(()),
        Some(Enforced::Closed { why }) => Err(why),
        None => Err("not looked at yet"),
    }
}

impl Reconciler {
    /// What the source says, or last said, of each pod; the latter is kept before anything follows from it.
    pub(super) fn resolve_policies(&mut self, outcome: &mut Outcome) -> Enforcement {
        let policies = self.policies.borrow_and_update().clone();
        self.resolved_source = match &policies {
            Policies::Known(known) => Some(known.source.clone()),
            Policies::Off | Policies::Unknown { .. } => None,
        };
        let of = |attachment: &Attachment| {
            let key = &attachment.claim.key;
            if management::is_management(attachment) {
                return (key.clone(), Enforced::Policy(management::policy()));
            }
            let uid = &attachment.claim.pod.uid;
            (key.clone(), resolve(&policies, uid, self.kept.get(uid)))
        };
        let enforced: Enforcement = self.ledger.attachments().map(of).collect();
        // The management port's is no source's.
        let kept: Kept = (self.ledger.pods())
            .filter_map(|attachment| match enforced.get(&attachment.claim.key)? {
                Enforced::Policy(policy) => Some((attachment.claim.pod.uid.clone(), policy.clone())),
                Enforced::Closed { .. } => None,
            })
            .collect();
        if kept != self.kept {
            match kept::save(&self.kept_path, &kept) {
                Ok(()) => self.kept = kept,
                // What is tighter must not wait for a disk.
                Err(e) => outcome.failed("policy", e),
            }
        }
        let closed = enforced.values().filter(|it| matches!(it, Enforced::Closed { .. })).count();
        for (label, pods) in [("closed", closed), ("policy", enforced.len() - closed)] {
            let gauge = self.metrics.enforced.get_or_create(&OutcomeLabel { outcome: label });
            gauge.set(i64::try_from(pods).unwrap_or(i64::MAX));
        }
        enforced
    }

    /// The flows of all these are in the tables: connections that they deny end.
    pub(super) fn in_tables(&mut self, enforced: &Enforcement) {
        self.source_in_tables.clone_from(&self.resolved_source);
        for attachment in self.ledger.attachments() {
            let key = &attachment.claim.key;
            let (Some(binding), Some(enforced)) = (&attachment.binding, enforced.get(key)) else { continue };
            let policy = enforced.policy();
            let before = self.in_force.insert(key.clone(), policy.clone());
            if before.as_ref() == Some(&policy) {
                continue;
            }
            // A pod that is new here has a zone that was empty when its first flow came.
            let new = before.is_none() && !self.established.contains(key);
            if new || (policy.egress.is_open() && policy.ingress.is_open()) {
                self.clean.insert(key.clone(), policy);
                continue;
            }
            info!(%key, pod = %attachment.claim.pod, "policy in the tables");
            self.cutter.cut(Job {
                key: key.clone(),
                zone: attachment.zone,
                addresses: binding.ips.clone(),
                policy,
                since: Instant::now(),
            });
        }
    }

    pub(super) fn policy_status(&self, enforced: &Enforcement) -> PolicyStatus {
        let pod = |attachment: &Attachment| {
            let (key, pod) = (&attachment.claim.key, &attachment.claim.pod);
            let closed = match enforced.get(key)? {
                Enforced::Policy(_) => None,
                Enforced::Closed { why } => Some(why.clone()),
            };
            let in_force = self.in_force.get(key);
            let (egress, ingress) = in_force.and_then(|it| self.edge.rule_sets(it)).unwrap_or_default();
            let reps = self.seen.as_ref().map(|seen| seen.reps.as_slice()).unwrap_or_default();
            let rep = reps.iter().find(|rep| rep.vf == Some(attachment.claim.vf));
            Some(PodStatus {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                uid: pod.uid.clone(),
                vf: attachment.claim.vf.to_string(),
                zone: attachment.zone.get(),
                closed,
                egress_rule_set: egress.0,
                ingress_rule_set: ingress.0,
                settled: in_force.is_some() && self.clean.get(key) == in_force,
                offload: rep.map(|rep| rep.offload.clone()).unwrap_or_default(),
            })
        };
        let (reports, rules) = match &*self.policies.borrow() {
            Policies::Known(known) => (known.reports.to_vec(), known.origins.clone()),
            Policies::Off => Default::default(),
            Policies::Unknown { why } => (vec![why.clone()], Origins::default()),
        };
        let from_outside = self.seen.as_ref().map(|seen| seen.shared.clone()).unwrap_or_default();
        let pods = self.ledger.pods().filter_map(pod).collect();
        PolicyStatus { source: self.source_in_tables.clone(), pods, from_outside, reports, rules }
    }

    /// Flows that the hardware has refused, or lost, when it may take them now.
    pub(super) fn offer_anew(&mut self, config: &Config) {
        let Ok(seen) = &self.seen else { return };
        let flows = &seen.flows;
        let accepted = flows.accepted.len() - flows.accepted.intersection(&flows.lost).count();
        let counts = [("hardware", accepted), ("refused", flows.refused.len()), ("lost", flows.lost.len())];
        for (outcome, filters) in counts {
            let gauge = self.metrics.filters.get_or_create(&OutcomeLabel { outcome });
            gauge.set(i64::try_from(filters).unwrap_or(i64::MAX));
        }
        let Some(cause) = self.reoffer.look(flows, Instant::now()) else { return };
        info!(
            cause = cause.label(),
            refused = flows.refused.len(),
            lost = flows.lost.len(),
            "flows are offered to the hardware anew"
        );
        self.kernel.forget_flows();
        let (run_dir, done) = (config.ovs.run_dir.clone(), self.metrics.reoffers.clone());
        // OVS answers when all are deleted; what is urgent must not wait for that.
        tokio::spawn(async move {
            match control::forget_flows(&run_dir).await {
                Ok(()) => drop(done.get_or_create(&CauseLabel { cause: cause.label() }).inc()),
                Err(error) => warn!(%error, "flows not offered anew"),
            }
        });
    }

    pub(super) fn cut_done(&mut self, done: Done) {
        for (key, policy) in done.pods {
            if self.in_force.get(&key) == Some(&policy) {
                self.clean.insert(key, policy);
            }
        }
    }
}
