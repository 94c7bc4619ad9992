//! Kubernetes' NetworkPolicy: one tier for each direction in which a pod is isolated, of rules that allow, and that denies
//! the rest.
//!
//! ```text
//!  Policy ──► entry, within budgets ──► program: its rules, while it selects a pod of this node ──┬──► tiers
//!                                       group: what the same policies allow of Services ──────────┘
//! ```

mod budget;
mod group;
mod policies;
mod program;
mod reports;
mod set_users;
mod settle;
mod tiers;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use offload::policy::{Direction, PodPolicy};

use super::{Base, Layer};
use crate::policy::budget::{Cost, Excess, Held};
use crate::policy::index::{LocalPod, Touched};
use crate::policy::model::{Fault, ObjectName, Policy};
use crate::policy::origins::OriginKey;
use crate::policy::report::{InForce, Report};
use group::Group;
use policies::Policies;
use program::Program;
use set_users::SetUsers;

#[derive(Debug, Default)]
pub struct NetworkPolicies {
    policies: Policies,
    /// Pods of this node.
    selected: BTreeMap<ObjectName, Selected>,
    groups: BTreeMap<Vec<ObjectName>, Group>,
    set_users: SetUsers,
    dirty: DirtySet,
    /// Policies of which something is reported.
    reported: BTreeSet<ObjectName>,
    reports_changed: bool,
}

/// A policy.
#[derive(Debug)]
struct PolicyEntry {
    /// What is in force.
    policy: Policy,
    /// What is not in force, as the namespace's policies are too much together.
    withheld: Option<Box<Policy>>,
    /// The same, and not even kept: it is not in force before it is written again.
    is_dropped: bool,
    /// Of what the API says, as far as the policy alone may have it.
    cost: Cost,
    /// What was taken from it because it is too much by itself.
    excess: Vec<(Option<Direction>, Excess)>,
    /// Too much together with the others.
    excess_together: Option<Excess>,
    /// What is wrong with what the API says.
    faults: Vec<Fault>,
    in_force: InForce,
    /// Pods of this node that it selects.
    users: BTreeSet<ObjectName>,
    /// While there are users.
    program: Option<Program>,
}

/// What applies to a pod of this node.
#[derive(Debug, Default)]
struct Selected {
    by: BTreeSet<ObjectName>,
    /// Key of its group, if it is isolated on egress.
    group: Option<Vec<ObjectName>>,
}

/// What must be looked at again.
#[derive(Debug, Default)]
struct DirtySet {
    /// Policies of which another text is in force, or whose rules bear other numbers.
    policies: BTreeSet<ObjectName>,
    /// Pods of this node whose policies must be looked up again.
    pods: BTreeSet<ObjectName>,
}

impl NetworkPolicies {
    pub fn put(&mut self, policy: Policy, base: &mut Base) {
        let name = policy.name.clone();
        let Held { mut policy, excess, cost } = base.budget.hold(policy);
        let faults = std::mem::take(&mut policy.faults);
        let known = self.policies.remove(&name);
        self.reports_changed |= self.reported.contains(&name) || !faults.is_empty() || !excess.is_empty();
        if let Some(mut known) = known {
            // Of a policy that was deleted and made again, what the old one said is nothing to us.
            let was_good = known.faults.is_empty() || known.in_force == InForce::LastGood;
            if !faults.is_empty() && was_good && known.policy.uid == policy.uid {
                (known.faults, known.in_force) = (faults, InForce::LastGood);
                return self.file(known);
            }
            if !known.is_dropped && *known.text() == policy {
                (known.faults, known.in_force, known.excess) = (faults, InForce::Closed, excess);
                return self.file(known);
            }
            self.put_out_of_force(&name, known, base);
        }
        self.dirty.policies.insert(name.clone());
        self.dirty.pods.extend(base.index.local_pods_of(&name.namespace).cloned());
        let entry = PolicyEntry {
            policy,
            withheld: None,
            is_dropped: false,
            cost,
            excess,
            excess_together: None,
            faults,
            in_force: InForce::Closed,
            users: BTreeSet::new(),
            program: None,
        };
        self.file(entry);
        self.share_out(&name.namespace, base);
    }

    pub fn remove(&mut self, name: &ObjectName, base: &mut Base) {
        if let Some(entry) = self.policies.remove(name) {
            self.reports_changed |= self.reported.remove(name);
            self.put_out_of_force(name, entry, base);
            self.share_out(&name.namespace, base);
        }
    }

    pub fn missing(&self, listed: &HashSet<ObjectName>) -> Vec<ObjectName> {
        self.policies.names().filter(|it| !listed.contains(*it)).cloned().collect()
    }

    fn file(&mut self, entry: PolicyEntry) {
        let name = &entry.policy.name;
        if entry.is_reported() {
            self.reported.insert(name.clone());
        } else {
            self.reported.remove(name);
        }
        self.policies.insert(entry);
    }

    fn put_out_of_force(&mut self, name: &ObjectName, entry: PolicyEntry, base: &mut Base) {
        self.dirty.policies.insert(name.clone());
        for user in &entry.users {
            self.dirty.pods.insert(user.clone());
            if let Some(selected) = self.selected.get_mut(user) {
                selected.by.remove(name);
            }
        }
        if let Some(program) = entry.program {
            self.set_users.remove(name, &program);
            settle::end(program, &entry.policy, base);
        }
    }
}

impl Layer for NetworkPolicies {
    fn forget_pod(&mut self, name: &ObjectName) {
        self.dirty.pods.remove(name);
        let Some(selected) = self.selected.remove(name) else { return };
        for policy in &selected.by {
            if let Some(entry) = self.policies.get_mut(policy) {
                entry.users.remove(name);
                // Its program goes when the dust has settled; while it has others, nothing about it is another.
                if entry.users.is_empty() {
                    self.dirty.policies.insert(policy.clone());
                }
            }
        }
        self.leave_group(name, selected.group.as_ref());
    }

    fn put_in_force(&mut self, base: &mut Base, touched: &Touched) {
        self.select(base, touched);
        self.run_programs(base);
    }

    fn renumber(&mut self, keys: &[OriginKey]) {
        for key in keys {
            match key {
                OriginKey::Rule { policy, .. } | OriginKey::Isolation { policy, .. } => {
                    self.dirty.policies.insert(policy.clone());
                }
                // Nobody's, which stand in everybody's rules.
                OriginKey::Node
                | OriginKey::Hairpin
                | OriginKey::ServiceCovered
                | OriginKey::ServiceRefused => self.dirty.policies.extend(self.policies.names().cloned()),
            }
        }
    }

    fn rebuild(&mut self, base: &Base, touched: &Touched, pods: &mut BTreeSet<ObjectName>) {
        pods.append(&mut self.settle(base, touched));
    }

    fn append_tiers(&self, base: &Base, local: &LocalPod, to: &mut PodPolicy) {
        let Some(selected) = self.selected.get(&local.pod.name) else { return };
        to.egress.tiers.extend(self.egress(base, local, selected));
        to.ingress.tiers.extend(self.ingress(base, local, selected));
    }

    fn reports(&self, base: &Base) -> Vec<Report> {
        self.all_reports(base)
    }

    fn take_reports_changed(&mut self) -> bool {
        std::mem::take(&mut self.reports_changed)
    }
}
