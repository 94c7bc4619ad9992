//! What the policies of a namespace may cost together.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{NetworkPolicies, PolicyEntry};
use crate::policy::budget::Cost;
use crate::policy::layers::Base;
use crate::policy::model::{ObjectName, Policy};

/// Policies that are withheld are kept, to be in force when others have gone; up to this many times what may be in force.
const KEPT: usize = 4;

impl PolicyEntry {
    /// What the API says, as far as it is kept.
    pub(super) fn text(&self) -> &Policy {
        self.withheld.as_deref().unwrap_or(&self.policy)
    }

    /// Is there anything that its owner should know?
    pub(super) fn is_reported(&self) -> bool {
        !self.faults.is_empty() || !self.excess.is_empty() || self.excess_together.is_some()
    }
}

impl NetworkPolicies {
    /// After a policy has come or gone: which of the namespace's may be in force together? The small ones first, so that
    /// one that is out of all measure is alone in having no effect.
    pub(super) fn share_out(&mut self, namespace: &Arc<str>, base: &mut Base) {
        let most = base.budget.namespace;
        let of_namespace = || self.policies.of_namespace(namespace);
        let all = of_namespace().fold(Cost::default(), |sum, entry| sum.plus(entry.cost));
        let is_too_much = all.beyond_namespace(&most).is_some();
        if !is_too_much && of_namespace().all(|it| it.excess_together.is_none()) {
            return;
        }
        let mut by_size: Vec<(Cost, ObjectName)> =
            of_namespace().map(|it| (it.cost, it.policy.name.clone())).collect();
        by_size.sort();
        let (mut sum, mut together) = (Cost::default(), None);
        for (cost, name) in by_size {
            sum = sum.plus(cost);
            if together.is_none() && sum.beyond_namespace(&most).is_some() {
                together = all.beyond_namespace(&most);
            }
            let Some(mut entry) = self.policies.remove(&name) else { continue };
            // What was dropped has nothing to come back with.
            let of_this = if entry.is_dropped { together.or(entry.excess_together) } else { together };
            self.reports_changed |= entry.excess_together != of_this;
            entry.excess_together = of_this;
            let entry = self.withhold(&name, entry, base);
            self.file(entry);
            if sum.bytes > most.bytes.saturating_mul(KEPT)
                && let Some(entry) = self.policies.get_mut(&name)
            {
                entry.is_dropped |= entry.withheld.take().is_some();
            }
        }
    }

    /// Puts it out of force, or in force, as its excess says.
    fn withhold(&mut self, name: &ObjectName, mut entry: PolicyEntry, base: &mut Base) -> PolicyEntry {
        let is_withheld = entry.withheld.is_some() || entry.is_dropped;
        if is_withheld == entry.excess_together.is_some() {
            return entry;
        }
        let (policy, withheld) = if let Some(text) = entry.withheld.take() {
            (*text, None)
        } else {
            let mut closed = entry.policy.clone();
            closed.close();
            (closed, Some(Box::new(entry.policy.clone())))
        };
        // As if another policy of that name had come.
        let fresh = PolicyEntry {
            policy,
            withheld,
            is_dropped: false,
            cost: entry.cost,
            excess: std::mem::take(&mut entry.excess),
            excess_together: entry.excess_together,
            faults: std::mem::take(&mut entry.faults),
            in_force: entry.in_force,
            users: BTreeSet::new(),
            program: None,
        };
        self.put_out_of_force(name, entry, base);
        fresh
    }
}

#[cfg(test)]
mod tests;
