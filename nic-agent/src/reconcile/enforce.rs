//! The reconcile loop's part in enforcing policy: whose policy is what, what follows when it changes, and that the
//! hardware, not the processor, does the work where it can.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::{info, warn};

use super::Reconciler;
use super::outcome::Outcome;
use crate::attachment::{Attachment, AttachmentId, Owner, Sandbox};
use crate::audit::{Stage, Wanted};
use crate::config::Config;
use crate::enforcement::kept::{self, Kept};
use crate::enforcement::{Enforced, Policies, resolve};
use crate::management;
use crate::metrics::{CauseLabel, OutcomeLabel};
use crate::platform::{Links as _, Ovs as _, Platform};
use crate::policy::Origins;
use crate::published::{HeldStatus, PodStatus, PolicyStatus, Unsettled};

/// What is to be enforced, for every attachment of the ledger.
pub(super) type Enforcement = BTreeMap<AttachmentId, Enforced>;

/// Is there a policy to be ready with?
pub(super) fn policy_known(enforced: Option<&Enforced>) -> Result<(), &str> {
    match enforced {
        Some(Enforced::Policy(_)) => Ok(()),
        Some(Enforced::Closed { why }) => Err(why),
        None => Err("not looked at yet"),
    }
}

impl<P: Platform> Reconciler<P> {
    /// What the source says, or last said, of each pod; the latter is kept before anything follows from it.
    pub(super) fn resolve_policies(&mut self, outcome: &mut Outcome) -> Enforcement {
        let policies = self.policies.borrow_and_update().clone();
        self.resolved_source = match &policies {
            Policies::Known(known) => Some(known.source.clone()),
            Policies::Off | Policies::Unknown { .. } => None,
        };
        let of = |attachment: &Attachment| {
            let enforced = match &attachment.owner {
                Owner::Host => Enforced::Policy(management::policy()),
                Owner::Pod(Sandbox { pod, .. }) => resolve(&policies, &pod.uid, self.kept.get(&pod.uid)),
            };
            (attachment.id(), enforced)
        };
        let enforced: Enforcement = self.ledger.attachments().map(of).collect();
        // The management port's is no source's.
        let kept: Kept = (self.ledger.pods())
            .filter_map(|(attachment, Sandbox { pod, .. })| match enforced.get(&attachment.id())? {
                Enforced::Policy(policy) => Some((pod.uid.clone(), policy.clone())),
                Enforced::Closed { .. } => None,
            })
            .collect();
        if kept != self.kept {
            match kept::save(&*self.disk, &self.kept_path, &kept) {
                Ok(()) => self.kept = kept,
                // What is tighter must not wait for a disk.
                Err(e) => outcome.failed("policy", e),
            }
        }
        self.name_rules(&policies, &enforced, outcome);
        let closed = enforced.values().filter(|it| matches!(it, Enforced::Closed { .. })).count();
        for (label, pods) in [("closed", closed), ("policy", enforced.len() - closed)] {
            let gauge = self.metrics.enforced.get_or_create(&OutcomeLabel { outcome: label });
            gauge.set(i64::try_from(pods).unwrap_or(i64::MAX));
        }
        enforced
    }

    /// Every rule in force that admits connections gets a mark, which is kept before a flow bears it.
    fn name_rules(&mut self, policies: &Policies, enforced: &Enforcement, outcome: &mut Outcome) {
        let said = match policies {
            Policies::Known(known) => Some(known.clone()),
            Policies::Off | Policies::Unknown { .. } => None,
        };
        let in_force = enforced.values().filter_map(|it| match it {
            Enforced::Policy(policy) => Some(policy.clone()),
            Enforced::Closed { .. } => None,
        });
        // Policy holds without a name.
        if let Err(e) = self.marks.name(in_force.collect(), said) {
            outcome.failed("marks", e);
        }
    }

    /// What the tables are to say, as far as it can be said of whom.
    pub(super) fn to_audit(&self, enforced: &Enforcement) -> Vec<Wanted> {
        let of = |attachment: &Attachment| {
            let key = attachment.id();
            let policy = enforced.get(&key)?.policy();
            Some(Wanted {
                zone: attachment.port.zone(),
                key,
                pod: attachment.owner.to_string(),
                addresses: attachment.binding()?.sources(),
                policy,
            })
        };
        self.ledger.attachments().filter_map(of).collect()
    }

    /// The flows of all these are in the tables: connections that they deny end.
    pub(super) fn in_tables(&mut self, wanted: Vec<Wanted>) {
        self.source_in_tables.clone_from(&self.resolved_source);
        for Wanted { key, policy, .. } in &wanted {
            self.records.entry(key.clone()).or_default().in_force = Some(policy.clone());
        }
        for key in self.auditor.in_tables(wanted, self.marks.current()) {
            let pod = self.ledger.get(&key).map(|it| it.owner.to_string());
            info!(%key, pod, "policy in the tables");
        }
    }

    pub(super) fn policy_status(&self, enforced: &Enforcement) -> PolicyStatus {
        let pod = |(attachment, Sandbox { pod, .. }): (&Attachment, &Sandbox)| {
            let (key, zone) = (&attachment.id(), attachment.port.zone());
            let closed = match enforced.get(key)? {
                Enforced::Policy(_) => None,
                Enforced::Closed { why } => Some(why.clone()),
            };
            let in_force = self.records.get(key).and_then(|it| it.in_force.as_ref());
            // Of the policy that shall hold now, not of one that the tables still have because they cannot be written.
            let is_current =
                in_force.zip(enforced.get(key)).is_some_and(|(has, wanted)| *has == wanted.policy());
            let progress = self.auditor.progress(zone, key).filter(|_| is_current);
            let (egress, ingress) = in_force.and_then(|it| self.edge.rule_sets(it)).unwrap_or_default();
            let reps = self.seen.as_ref().map(|seen| seen.reps.as_slice()).unwrap_or_default();
            let rep = reps.iter().find(|rep| rep.vf == Some(attachment.vf));
            Some(PodStatus {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                uid: pod.uid.clone(),
                vf: attachment.vf.to_string(),
                zone: zone.get(),
                closed,
                egress_rule_set: egress.0,
                ingress_rule_set: ingress.0,
                settled: progress.as_ref().is_some_and(|it| it.stage == Stage::Settled),
                unsettled: Unsettled::of(progress.as_ref()),
                held: progress.and_then(|it| it.held).map(HeldStatus::from),
                offload: rep.map(|rep| rep.offload.clone()).unwrap_or_default(),
                connections: self.connections_of(attachment),
            })
        };
        let (mut reports, disbelieved, rules) = match &*self.policies.borrow() {
            Policies::Known(known) => {
                (known.reports.to_vec(), known.disbelieved.clone(), known.origins.clone())
            }
            Policies::Off => Default::default(),
            Policies::Unknown { why } => (vec![why.clone()], Arc::default(), Origins::default()),
        };
        reports.extend(self.marks.trouble());
        reports.extend(self.edge.trouble());
        let from_outside = self.seen.as_ref().map(|seen| seen.shared.clone()).unwrap_or_default();
        let pods = self.ledger.pods().filter_map(pod).collect();
        let (source, marks) = (self.source_in_tables.clone(), self.marks.current().clone());
        PolicyStatus { source, pods, from_outside, reports, disbelieved, rules, marks }
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
        let Some(cause) = self.reoffer.look(flows, self.clock.now()) else { return };
        info!(
            cause = cause.label(),
            refused = flows.refused.len(),
            lost = flows.lost.len(),
            "flows are offered to the hardware anew"
        );
        self.kernel.forget_flows();
        let forget = self.ovs.forget_flows(&config.ovs.run_dir);
        let done = self.metrics.offload_retries.clone();
        // OVS answers when all are deleted; what is urgent must not wait for that.
        tokio::spawn(async move {
            match forget.await {
                Ok(()) => drop(done.get_or_create(&CauseLabel { cause: cause.label() }).inc()),
                Err(error) => warn!(%error, "flows not offered anew"),
            }
        });
    }
}
