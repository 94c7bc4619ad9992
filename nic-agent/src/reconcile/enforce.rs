//! The reconcile loop's part in enforcing policy: whose policy is what, what follows when it changes, and that the
//! hardware, not the processor, does the work where it can.

use std::sync::Arc;

use tracing::{info, warn};

use super::Reconciler;
use crate::attachment::{Attachment, Owner, Sandbox};
use crate::audit::Stage;
use crate::backend::{Backend as _, InForce};
use crate::config::Config;
use crate::enforcement::kept::{self, Kept};
use crate::enforcement::{Enforced, Policies, resolve};
use crate::intent::{Intents, PodIntent};
use crate::management;
use crate::metrics::{CauseLabel, OutcomeLabel};
use crate::outcome::Outcome;
use crate::platform::Platform;
use crate::policy::Origins;
use crate::published::{HeldStatus, PodStatus, PolicyStatus, Unsettled};

impl<P: Platform> Reconciler<P> {
    /// What the source says, or last said, of each pod; the latter is kept before anything follows from it.
    pub(super) fn resolve_intents(&mut self, outcome: &mut Outcome) -> Intents {
        let policies = self.inputs.policies.borrow_and_update().clone();
        self.resolved_source = match &policies {
            Policies::Known(known) => Some(known.source.clone()),
            Policies::Off | Policies::Unknown { .. } => None,
        };
        let of = |attachment: &Attachment| {
            let policy = match &attachment.owner {
                Owner::Host => Enforced::Policy(management::policy()),
                Owner::Pod(Sandbox { pod, .. }) => resolve(&policies, &pod.uid, self.kept.get(&pod.uid)),
            };
            (attachment.id(), PodIntent { policy })
        };
        let intents: Intents = self.book.ledger.attachments().map(of).collect();
        // The management port's is no source's.
        let kept: Kept = (self.book.ledger.pods())
            .filter_map(|(attachment, Sandbox { pod, .. })| match &intents.get(&attachment.id())?.policy {
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
        self.name_rules(&policies, &intents, outcome);
        let closed = intents.values().filter(|it| it.policy_known().is_err()).count();
        for (label, pods) in [("closed", closed), ("policy", intents.len() - closed)] {
            let gauge = self.metrics.enforced.get_or_create(&OutcomeLabel { outcome: label });
            gauge.set(i64::try_from(pods).unwrap_or(i64::MAX));
        }
        intents
    }

    /// Every rule in force that admits connections gets a mark, which is kept before a flow bears it.
    fn name_rules(&mut self, policies: &Policies, intents: &Intents, outcome: &mut Outcome) {
        let said = match policies {
            Policies::Known(known) => Some(known.clone()),
            Policies::Off | Policies::Unknown { .. } => None,
        };
        let in_force = intents.values().filter_map(|it| match &it.policy {
            Enforced::Policy(policy) => Some(policy.clone()),
            Enforced::Closed { .. } => None,
        });
        // Policy holds without a name.
        if let Err(e) = self.marks.name(in_force.collect(), said) {
            outcome.failed("marks", e);
        }
    }

    pub(super) fn policy_status(&self, intents: &Intents, config: &Config) -> PolicyStatus {
        let pod = |(attachment, Sandbox { pod, .. }): (&Attachment, &Sandbox)| {
            let closed = intents.get(&attachment.id())?.policy_known().err().map(str::to_owned);
            let InForce { progress, egress_rule_set, ingress_rule_set, connections } =
                self.overlay.in_force(attachment, intents, config);
            Some(PodStatus {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                uid: pod.uid.clone(),
                vf: attachment.vf.to_string(),
                zone: attachment.port.zone().get(),
                closed,
                egress_rule_set,
                ingress_rule_set,
                settled: progress.as_ref().is_some_and(|it| it.stage == Stage::Settled),
                unsettled: Unsettled::of(progress.as_ref()),
                held: progress.and_then(|it| it.held).map(HeldStatus::from),
                offload: self
                    .representors
                    .of(attachment.vf)
                    .map(|rep| rep.offload.clone())
                    .unwrap_or_default(),
                connections,
            })
        };
        let (mut reports, disbelieved, rules) = match &*self.inputs.policies.borrow() {
            Policies::Known(known) => {
                (known.reports.to_vec(), known.disbelieved.clone(), known.origins.clone())
            }
            Policies::Off => Default::default(),
            Policies::Unknown { why } => (vec![why.clone()], Arc::default(), Origins::default()),
        };
        reports.extend(self.marks.trouble());
        reports.extend(self.overlay.trouble());
        let seen = self.representors.seen().as_ref();
        let from_outside = seen.map(|seen| seen.shared.clone()).unwrap_or_default();
        let pods = self.book.ledger.pods().filter_map(pod).collect();
        let (source, marks) = (self.source_in_tables.clone(), self.marks.current().clone());
        PolicyStatus { source, pods, from_outside, reports, disbelieved, rules, marks }
    }

    /// Flows that the hardware has refused, or lost, when it may take them now.
    pub(super) fn offer_anew(&mut self, config: &Config) {
        let Ok(seen) = self.representors.seen() else { return };
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
        self.representors.forget_flows();
        let forget = self.overlay.offer_anew(config);
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
