//! Changes in, compiled policies out.
//!
//! A change first goes into the stores (`pods`, `peers`, `services`) and leaves behind what it touched; `settle` then
//! makes again what depends on that, from policies to pods, and compares.

mod budget;
mod compose;
mod group;
mod ids;
mod moves;
mod peers;
mod pods;
mod policies;
mod program;
mod relist;
mod reports;
mod services;
mod settle;
mod shared;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use offload::policy::{Direction, PodPolicy, PrefixSet};

use super::budget::{Budget, Cost, Excess, Held};
use super::model::{Fault, Labels, Namespace, ObjectName, Pod, Policy};
use super::origins::{OriginKey, Origins};
use super::report::InForce;
use super::snapshot::{Change, Snapshot};
use group::Group;
use ids::SetId;
use peers::Sets;
use pods::Pods;
use policies::Policies;
use program::Program;
use services::{FrontId, Moved, Services};
use settle::unregister;
use shared::Shared;

type Namespaces = BTreeMap<Arc<str>, Labels>;

/// Where we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// As in `spec.nodeName`.
    pub node: Arc<str>,
    /// The node's label `topology.kubernetes.io/zone`; empty if it has none.
    pub zone: Arc<str>,
    /// From which the node reaches its pods: always allowed in.
    pub node_addresses: PrefixSet,
    pub budget: Budget,
}

/// Uids of this node's pods whose policy is another now, or which have none any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affected {
    pub pods: BTreeSet<Arc<str>>,
    /// Pods whose policies were put together anew to find that out.
    pub composed: usize,
}

/// All that is known, and what it means for the pods of this node.
#[derive(Debug)]
pub struct Compiler {
    settings: Settings,
    pods: Pods,
    namespaces: Namespaces,
    sets: Sets,
    services: Services,
    policies: Policies,
    locals: BTreeMap<ObjectName, Local>,
    groups: BTreeMap<Vec<ObjectName>, Group>,
    origins: Origins,
    shared: Shared,
    /// Of what was staged.
    dirt: Dirt,
    /// Policies of which [`Self::reports`] says something.
    reported: BTreeSet<ObjectName>,
    /// [`Self::reports`] may say something else than when it was last asked for.
    reports_stale: bool,
}

/// A policy.
#[derive(Debug)]
struct Stated {
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

/// A pod of this node that policies apply to.
#[derive(Debug)]
struct Local {
    pod: Pod,
    selected_by: BTreeSet<ObjectName>,
    /// Key of its group, if it is isolated on egress.
    group: Option<Vec<ObjectName>>,
    /// Services' ports that it is a backend of.
    own: BTreeSet<FrontId>,
    compiled: Option<Arc<PodPolicy>>,
    /// Directions in which nothing passes, as it would be too much.
    excess: Vec<(Direction, Excess)>,
}

/// What a change touched.
#[derive(Debug, Default)]
struct Dirt {
    /// Sets of peers that are not the same.
    sets: BTreeSet<SetId>,
    /// Addresses that came into a set, or left one.
    ips: BTreeSet<IpAddr>,
    /// Pods of this node whose policies must be looked up again.
    reselect: BTreeSet<ObjectName>,
    /// Policies of which another text is in force.
    restated: BTreeSet<ObjectName>,
    services: Moved,
    affected: BTreeSet<Arc<str>>,
}

impl Compiler {
    pub fn new(settings: Settings, snapshot: Snapshot) -> Self {
        Self::with_origins(settings, snapshot, Origins::default())
    }

    fn with_origins(settings: Settings, snapshot: Snapshot, mut origins: Origins) -> Self {
        for key in [OriginKey::Node, OriginKey::Hairpin, OriginKey::ServiceCovered, OriginKey::ServiceRefused]
        {
            origins.insert(&key);
        }
        let services = Services::new(settings.budget.services, settings.node.clone(), settings.zone.clone());
        let mut compiler = Self {
            settings,
            pods: Pods::default(),
            namespaces: Namespaces::new(),
            sets: Sets::default(),
            services,
            policies: Policies::default(),
            locals: BTreeMap::new(),
            groups: BTreeMap::new(),
            origins,
            shared: Shared::default(),
            dirt: Dirt::default(),
            reported: BTreeSet::new(),
            reports_stale: false,
        };
        compiler.apply_all(snapshot.into_changes());
        compiler
    }

    pub fn apply(&mut self, change: Change) -> Affected {
        self.apply_all([change])
    }

    /// Several changes as one: what two of them touch is made again once.
    pub fn apply_all(&mut self, changes: impl IntoIterator<Item = Change>) -> Affected {
        for change in changes {
            self.stage(change);
        }
        self.settle()
    }

    /// Takes a change in. What follows from it waits for [`Self::settle`]; until then nothing that is compiled is asked
    /// for.
    pub fn stage(&mut self, change: Change) {
        let mut dirt = std::mem::take(&mut self.dirt);
        self.store(change, &mut dirt);
        self.dirt = dirt;
    }

    /// Of a pod of this node. `None`: there is none of this uid, or none that policies apply to (on the host's network,
    /// finished); whoever enforces must not take that for "everything is allowed".
    pub fn compiled(&self, uid: &str) -> Option<&Arc<PodPolicy>> {
        self.locals.values().find(|it| *it.pod.uid == *uid)?.compiled.as_ref()
    }

    /// Uid, name and policy of each of this node's pods that policies apply to, by name.
    pub fn all_compiled(&self) -> impl Iterator<Item = (&Arc<str>, &ObjectName, &Arc<PodPolicy>)> {
        self.locals.iter().filter_map(|(name, it)| Some((&it.pod.uid, name, it.compiled.as_ref()?)))
    }

    /// The rules in force: those of policies that select a pod of this node.
    pub fn origins(&self) -> &Origins {
        &self.origins
    }

    /// May the reports have changed since this was last asked?
    pub fn take_reports_changed(&mut self) -> bool {
        std::mem::take(&mut self.reports_stale)
    }

    /// Sets of peers that are kept up to date, for whoever watches what that costs.
    pub fn sets(&self) -> usize {
        self.sets.len()
    }

    // === what a change does to the stores ===

    fn store(&mut self, change: Change, dirt: &mut Dirt) {
        match change {
            Change::Pod(pod) => self.put_pod(pod, dirt),
            Change::PodGone(name) => {
                self.move_peer(&name, None, dirt);
                self.unlocal(&name, dirt);
            }
            Change::Namespace(Namespace { name, labels }) => {
                if self.namespaces.get(&name) != Some(&labels) {
                    self.namespaces.insert(name.clone(), labels);
                    self.relabel(&name, dirt);
                }
            }
            Change::NamespaceGone(name) => {
                if self.namespaces.remove(&name).is_some() {
                    self.relabel(&name, dirt);
                }
            }
            Change::Policy(policy) => self.put_policy(policy, dirt),
            Change::PolicyGone(name) => {
                if let Some(stated) = self.policies.remove(&name) {
                    self.reports_stale |= self.reported.remove(&name);
                    self.put_out_of_force(&name, stated, dirt);
                    self.share_out(&name.namespace, dirt);
                }
            }
            Change::Service(service) => self.services.put(service, &mut dirt.services),
            Change::ServiceGone(name) => self.services.remove(&name, &mut dirt.services),
            Change::EndpointSlice(slice) => self.services.put_slice(slice, &mut dirt.services),
            Change::EndpointSliceGone(name) => self.services.remove_slice(&name, &mut dirt.services),
            Change::NodeZone(zone) => self.services.set_zone(zone, &mut dirt.services),
            Change::NodeAddresses(addresses) => {
                if self.settings.node_addresses != addresses {
                    self.settings.node_addresses = addresses;
                    dirt.reselect.extend(self.locals.keys().cloned());
                }
            }
        }
    }

    fn put_policy(&mut self, policy: Policy, dirt: &mut Dirt) {
        let name = policy.name.clone();
        let Held { mut policy, excess, cost } = self.settings.budget.hold(policy);
        let faults = std::mem::take(&mut policy.faults);
        let known = self.policies.remove(&name);
        self.reports_stale |= self.reported.contains(&name) || !faults.is_empty() || !excess.is_empty();
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
            self.put_out_of_force(&name, known, dirt);
        }
        dirt.restated.insert(name.clone());
        let namespace = name.namespace.clone();
        let from_first = self.locals.range(ObjectName::new(namespace.clone(), "")..);
        let in_namespace = from_first.map(|(local, _)| local).take_while(|it| it.namespace == namespace);
        dirt.reselect.extend(in_namespace.cloned());
        let stated = Stated {
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
        self.file(stated);
        self.share_out(&namespace, dirt);
    }

    fn file(&mut self, stated: Stated) {
        let name = &stated.policy.name;
        if stated.is_reported() {
            self.reported.insert(name.clone());
        } else {
            self.reported.remove(name);
        }
        self.policies.insert(stated);
    }

    fn put_out_of_force(&mut self, name: &ObjectName, stated: Stated, dirt: &mut Dirt) {
        dirt.restated.insert(name.clone());
        for user in &stated.users {
            dirt.reselect.insert(user.clone());
            if let Some(local) = self.locals.get_mut(user) {
                local.selected_by.remove(name);
            }
        }
        if let Some(program) = stated.program {
            program.release(name, &mut self.sets, &mut self.pods);
            let moved = unregister(&mut self.origins, &stated.policy);
            self.note_moved(moved, dirt);
        }
    }
}
