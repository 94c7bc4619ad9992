//! After a change: what depends on what it touched is made again, in this order: which policies select which pods,
//! the sets of peers, the policies' rules, what the groups may have of Services, the pods' policies.

use std::collections::BTreeSet;

use offload::policy::{Direction, Rule};

use super::group::Law;
use super::policies::Policies;
use super::program::Program;
use super::services::{FrontId, Services};
use super::{Affected, Compiler, Dirt};
use crate::policy::model::{ObjectName, Pod, Policy};
use crate::policy::origins::{OriginKey, Origins};

impl Compiler {
    /// Makes again what depends on what was staged.
    pub fn settle(&mut self) -> Affected {
        let mut dirt = std::mem::take(&mut self.dirt);
        let mut recompose: BTreeSet<ObjectName> = BTreeSet::new();
        for name in std::mem::take(&mut dirt.reselect) {
            self.reselect(&name, &mut dirt);
            recompose.insert(name);
        }
        let restated = self.put_in_force(&mut dirt);
        self.rebuild(&restated, &mut recompose);
        // Of the others no policy is another, whatever became of its peers.
        let fresh = self.regroup(&recompose);
        let changed = dirt.sets.iter().filter_map(|id| self.sets.get(*id));
        let moved: BTreeSet<ObjectName> =
            changed.flat_map(|set| &set.users).filter(|it| !restated.contains(*it)).cloned().collect();
        self.rebuild(&moved, &mut recompose);
        self.serve(&fresh, &restated, &moved, &dirt, &mut recompose);
        // A backend may reach itself.
        let backends = &dirt.services.backends;
        if !backends.is_empty() {
            for (name, local) in &mut self.locals {
                if local.pod.ips.iter().any(|ip| backends.contains(ip)) {
                    local.own = own_fronts(&local.pod, &self.services);
                    recompose.insert(name.clone());
                }
            }
        }
        let composed = recompose.len();
        self.reports_stale |=
            composed > 0 || !dirt.affected.is_empty() || self.services.take_excess_changed();
        for name in recompose {
            self.recompose(&name, &mut dirt.affected);
        }
        Affected { pods: dirt.affected, composed }
    }

    /// Which policies select this pod?
    fn reselect(&mut self, name: &ObjectName, dirt: &mut Dirt) {
        let Some(local) = self.locals.get_mut(name) else { return };
        local.own = own_fronts(&local.pod, &self.services);
        let selected_by: BTreeSet<ObjectName> = (self.policies.of_namespace(&name.namespace))
            .filter(|stated| stated.policy.selector.selects(&local.pod.labels))
            .map(|stated| stated.policy.name.clone())
            .collect();
        for policy in local.selected_by.symmetric_difference(&selected_by) {
            let Some(stated) = self.policies.get_mut(policy) else { continue };
            let is_first_or_last = if selected_by.contains(policy) {
                stated.users.insert(name.clone());
                stated.program.is_none()
            } else {
                stated.users.remove(name);
                stated.users.is_empty()
            };
            if is_first_or_last {
                dirt.restated.insert(policy.clone());
            }
        }
        local.selected_by = selected_by;
    }

    /// Programs for the policies that have come to select somebody; none for those that do not any more. Returns the
    /// policies whose rules are not what they were, or bear other numbers.
    fn put_in_force(&mut self, dirt: &mut Dirt) -> BTreeSet<ObjectName> {
        let names = std::mem::take(&mut dirt.restated);
        for name in &names {
            let Some(stated) = self.policies.get_mut(name) else { continue };
            let mut moved = Vec::new();
            if stated.users.is_empty() {
                if let Some(program) = stated.program.take() {
                    program.release(name, &mut self.sets, &mut self.pods);
                    moved = unregister(&mut self.origins, &stated.policy);
                }
            } else if stated.program.is_none() {
                let program = Program::new(&stated.policy, &mut self.sets, &mut self.pods, &self.namespaces);
                stated.program = Some(program);
                for key in origin_keys(&stated.policy) {
                    moved.extend(self.origins.insert(&key));
                }
            }
            self.note_moved(moved, dirt);
        }
        let mut changed = names;
        changed.append(&mut dirt.restated);
        changed
    }

    /// These bear other numbers now.
    pub(super) fn note_moved(&self, keys: Vec<OriginKey>, dirt: &mut Dirt) {
        for key in keys {
            match key {
                OriginKey::Rule { policy, .. } | OriginKey::Isolation { policy, .. } => {
                    dirt.restated.insert(policy);
                }
                // Ours, which stand in everybody's rules.
                _ => dirt.restated.extend(self.policies.names().cloned()),
            }
        }
    }

    /// The rules of these policies, as their peers are now; their pods are to be put together again.
    fn rebuild(&mut self, policies: &BTreeSet<ObjectName>, recompose: &mut BTreeSet<ObjectName>) {
        for name in policies {
            if let Some(stated) = self.policies.get_mut(name)
                && let Some(program) = &mut stated.program
            {
                program.rebuild(&stated.policy, &self.sets, &self.origins);
                recompose.extend(stated.users.iter().cloned());
            }
        }
    }

    /// Puts these pods into the groups of those that the same policies isolate on egress. Returns the groups that are new.
    fn regroup(&mut self, pods: &BTreeSet<ObjectName>) -> BTreeSet<Vec<ObjectName>> {
        let mut fresh = BTreeSet::new();
        for name in pods {
            let Some(local) = self.locals.get_mut(name) else { continue };
            let selecting = self.policies.some_of_one(&local.selected_by);
            let isolating = selecting.filter(|it| it.policy.isolates.egress);
            let key: Vec<ObjectName> = isolating.map(|it| it.policy.name.clone()).collect();
            let key = (!key.is_empty()).then_some(key);
            if local.group == key {
                continue;
            }
            let old = std::mem::replace(&mut local.group, key.clone());
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

    /// What may each group that a change has to do with have of Services?
    fn serve(
        &mut self,
        fresh: &BTreeSet<Vec<ObjectName>>,
        restated: &BTreeSet<ObjectName>,
        moved: &BTreeSet<ObjectName>,
        dirt: &Dirt,
        recompose: &mut BTreeSet<ObjectName>,
    ) {
        let is_served = !dirt.services.gone.is_empty() || !dirt.services.new.is_empty();
        if !is_served && fresh.is_empty() && restated.is_empty() && moved.is_empty() {
            return;
        }
        let touched = dirt.ips.iter().flat_map(|ip| self.services.with_address(*ip)).collect();
        let none = BTreeSet::new();
        let law = Law {
            services: &self.services,
            origins: &self.origins,
            most: self.settings.budget.pod_service_flows,
        };
        for (key, group) in &mut self.groups {
            let is_restated = fresh.contains(key) || key.iter().any(|it| restated.contains(it));
            let is_moved = is_restated || key.iter().any(|it| moved.contains(it));
            if is_moved {
                group.rules = egress_rules(key, &self.policies);
            }
            let is_changed = if is_restated {
                group.judge_all(&law)
            } else {
                let touched = if is_moved { &touched } else { &none };
                (is_served || !touched.is_empty()) && group.judge_some(touched, &dirt.services, &law)
            };
            if is_changed {
                recompose.extend(group.users.iter().cloned());
            }
        }
    }
}

/// Services' ports that it is a ready backend of.
fn own_fronts(pod: &Pod, services: &Services) -> BTreeSet<FrontId> {
    pod.ips.iter().flat_map(|ip| services.with_backend(*ip)).collect()
}

/// All that these policies allow together.
fn egress_rules(names: &[ObjectName], policies: &Policies) -> Vec<Rule> {
    let programs = policies.some_of_one(names).filter_map(|it| it.program.as_ref());
    programs.flat_map(|it| it.egress_rules.iter().cloned()).collect()
}

/// Takes its rules from those in force; returns those that may bear other numbers then.
pub(super) fn unregister(origins: &mut Origins, policy: &Policy) -> Vec<OriginKey> {
    origin_keys(policy).iter().flat_map(|key| origins.remove(key)).collect()
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
