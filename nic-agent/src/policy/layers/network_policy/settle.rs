//! After a change: what depends on what it touched is made again, in this order: which policies select which pods, the
//! policies' programs, their rules, and what the groups may have of Services.

use std::collections::BTreeSet;

use offload::policy::{Direction, Rule};

use super::group::Law;
use super::policies::Policies;
use super::program::Program;
use super::{DirtySet, NetworkPolicies};
use crate::policy::index::{FrontId, Touched};
use crate::policy::layers::Base;
use crate::policy::model::{ObjectName, Policy};
use crate::policy::origins::OriginKey;

impl NetworkPolicies {
    /// Which policies select which of the pods that were touched?
    pub(super) fn select(&mut self, base: &Base, touched: &Touched) {
        let mut pods = std::mem::take(&mut self.dirty.pods);
        pods.extend(touched.pods.iter().cloned());
        for name in &pods {
            self.select_one(name, base);
        }
        self.dirty.pods = pods;
    }

    fn select_one(&mut self, name: &ObjectName, base: &Base) {
        let Some(local) = base.index.local_pod(name) else { return };
        let selected_by: BTreeSet<ObjectName> = (self.policies.of_namespace(&name.namespace))
            .filter(|entry| entry.policy.selector.selects(&local.pod.labels))
            .map(|entry| entry.policy.name.clone())
            .collect();
        let selected = self.selected.entry(name.clone()).or_default();
        for policy in selected.by.symmetric_difference(&selected_by) {
            let Some(entry) = self.policies.get_mut(policy) else { continue };
            let is_first_or_last = if selected_by.contains(policy) {
                entry.users.insert(name.clone());
                entry.program.is_none()
            } else {
                entry.users.remove(name);
                entry.users.is_empty()
            };
            if is_first_or_last {
                self.dirty.policies.insert(policy.clone());
            }
        }
        selected.by = selected_by;
    }

    /// Programs for the policies that have come to select somebody; none for those that do not any more.
    pub(super) fn run_programs(&mut self, base: &mut Base) {
        let names = std::mem::take(&mut self.dirty.policies);
        for name in &names {
            let Some(entry) = self.policies.get_mut(name) else { continue };
            if entry.users.is_empty() {
                if let Some(program) = entry.program.take() {
                    self.set_users.remove(name, &program);
                    end(program, &entry.policy, base);
                }
            } else if entry.program.is_none() {
                let program = Program::new(&entry.policy, &mut base.index);
                self.set_users.insert(name, &program);
                entry.program = Some(program);
                base.register(&origin_keys(&entry.policy));
            }
        }
        self.dirty.policies = names;
    }

    /// Returns the pods whose tiers may be others.
    pub(super) fn settle(&mut self, base: &Base, touched: &Touched) -> BTreeSet<ObjectName> {
        let DirtySet { policies: changed, pods: mut recompose } = std::mem::take(&mut self.dirty);
        self.rebuild_programs(&changed, base, &mut recompose);
        // Of the others no policy is another, whatever became of its peers.
        let fresh = self.regroup(&recompose);
        let users = touched.sets.iter().flat_map(|id| self.set_users.of(*id));
        let moved: BTreeSet<ObjectName> = users.filter(|it| !changed.contains(*it)).cloned().collect();
        self.rebuild_programs(&moved, base, &mut recompose);
        self.serve(&Changed { fresh, policies: changed, moved }, base, touched, &mut recompose);
        recompose
    }

    /// The rules of these policies, as their peers are now; their pods are to be put together again.
    fn rebuild_programs(
        &mut self,
        policies: &BTreeSet<ObjectName>,
        base: &Base,
        recompose: &mut BTreeSet<ObjectName>,
    ) {
        for name in policies {
            if let Some(entry) = self.policies.get_mut(name)
                && let Some(program) = &mut entry.program
            {
                program.rebuild(&entry.policy, &base.index, &base.origins);
                recompose.extend(entry.users.iter().cloned());
            }
        }
    }

    /// Puts these pods into the groups of those that the same policies isolate on egress. Returns the groups that are new.
    fn regroup(&mut self, pods: &BTreeSet<ObjectName>) -> BTreeSet<Vec<ObjectName>> {
        let mut fresh = BTreeSet::new();
        for name in pods {
            let Some(selected) = self.selected.get_mut(name) else { continue };
            let selecting = self.policies.some_of_one(&selected.by);
            let isolating = selecting.filter(|it| it.policy.isolates.egress);
            let key: Vec<ObjectName> = isolating.map(|it| it.policy.name.clone()).collect();
            let key = (!key.is_empty()).then_some(key);
            if selected.group == key {
                continue;
            }
            let old = std::mem::replace(&mut selected.group, key.clone());
            self.leave_group(name, old.as_ref());
            if let Some(key) = key {
                let group = self.groups.entry(key.clone()).or_default();
                if group.users.is_empty() {
                    fresh.insert(key);
                }
                group.users.insert(name.clone());
            }
        }
        fresh
    }

    pub(super) fn leave_group(&mut self, pod: &ObjectName, key: Option<&Vec<ObjectName>>) {
        let Some(key) = key else { return };
        let Some(group) = self.groups.get_mut(key) else { return };
        group.users.remove(pod);
        if group.users.is_empty() {
            self.groups.remove(key);
        }
    }

    /// What may each group that a change has to do with have of Services?
    fn serve(
        &mut self,
        changed: &Changed,
        base: &Base,
        touched: &Touched,
        recompose: &mut BTreeSet<ObjectName>,
    ) {
        let Changed { fresh, policies, moved } = changed;
        let is_served = !touched.services.gone.is_empty() || !touched.services.new.is_empty();
        if !is_served && fresh.is_empty() && policies.is_empty() && moved.is_empty() {
            return;
        }
        let services = base.index.services();
        let concerned: BTreeSet<FrontId> =
            touched.ips.iter().flat_map(|ip| services.with_address(*ip)).collect();
        let none = BTreeSet::new();
        let law = Law { services, origins: &base.origins, most: base.budget.pod_service_flows };
        for (key, group) in &mut self.groups {
            let is_changed = fresh.contains(key) || key.iter().any(|it| policies.contains(it));
            let is_moved = is_changed || key.iter().any(|it| moved.contains(it));
            if is_moved {
                group.rules = egress_rules(key, &self.policies);
            }
            let is_other = if is_changed {
                group.judge_all(&law)
            } else {
                let concerned = if is_moved { &concerned } else { &none };
                (is_served || !concerned.is_empty()) && group.judge_some(concerned, &touched.services, &law)
            };
            if is_other {
                recompose.extend(group.users.iter().cloned());
            }
        }
    }
}

/// What a group is asked about again for.
struct Changed {
    fresh: BTreeSet<Vec<ObjectName>>,
    policies: BTreeSet<ObjectName>,
    /// Policies whose peers are others.
    moved: BTreeSet<ObjectName>,
}

/// All that these policies allow together.
fn egress_rules(names: &[ObjectName], policies: &Policies) -> Vec<Rule> {
    let programs = policies.some_of_one(names).filter_map(|it| it.program.as_ref());
    programs.flat_map(|it| it.egress_rules.iter().cloned()).collect()
}

/// Gives back what the program of a policy has acquired that is not in force any more.
pub(super) fn end(program: Program, policy: &Policy, base: &mut Base) {
    program.release(&mut base.index);
    base.unregister(&origin_keys(policy));
}

fn origin_keys(policy: &Policy) -> Vec<OriginKey> {
    let mut keys = Vec::new();
    for (direction, isolates, rules) in [
        (Direction::Ingress, policy.isolates.ingress, &policy.ingress),
        (Direction::Egress, policy.isolates.egress, &policy.egress),
    ] {
        if isolates {
            keys.push(isolation(policy, direction));
            keys.extend(rules.iter().enumerate().map(|(index, rule)| OriginKey::Rule {
                policy: policy.name.clone(),
                uid: policy.uid.clone(),
                direction,
                index,
                text: rule.to_string().into(),
            }));
        }
    }
    keys
}

pub(super) fn isolation(policy: &Policy, direction: Direction) -> OriginKey {
    OriginKey::Isolation { policy: policy.name.clone(), uid: policy.uid.clone(), direction }
}
