//! Changes in, compiled policies out.
//!
//! A change first goes into the index, or into the layer whose object it is, and leaves behind what it touched; `settle` then
//! brings the layers up to date with that, puts together the policies of the pods concerned, and compares.

mod compose;
mod reports;
mod shared;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use offload::policy::{Direction, PodPolicy, PrefixSet};

use super::budget::{Budget, Excess};
use super::index::{Index, LocalPod};
use super::layers::{Base, Layers};
use super::model::ObjectName;
use super::origins::Origins;
use super::snapshot::{Change, ObjectKind, Snapshot};
use shared::Shared;

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
    base: Base,
    layers: Layers,
    /// By the pods' names.
    compiled: BTreeMap<ObjectName, Compiled>,
    shared: Shared,
    /// Uids of pods whose policy is another since it was last said which are.
    affected: BTreeSet<Arc<str>>,
    /// [`Self::reports`] may say something else than when it was last asked for.
    reports_changed: bool,
}

/// Of a pod of this node.
#[derive(Debug)]
struct Compiled {
    uid: Arc<str>,
    policy: Arc<PodPolicy>,
    /// Directions in which nothing passes, as it would be too much.
    excess: Vec<(Direction, Excess)>,
}

impl Compiler {
    pub fn new(settings: Settings, snapshot: Snapshot) -> Self {
        Self::with_origins(settings, snapshot, Origins::default())
    }

    fn with_origins(settings: Settings, snapshot: Snapshot, origins: Origins) -> Self {
        let Settings { node, zone, node_addresses, budget } = settings;
        let index = Index::new(node, zone, node_addresses, budget.services);
        let mut compiler = Self {
            base: Base::new(index, origins, budget),
            layers: Layers::default(),
            compiled: BTreeMap::new(),
            shared: Shared::default(),
            affected: BTreeSet::new(),
            reports_changed: false,
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
        let Self { base, layers, .. } = self;
        let mut gone = None;
        match change {
            Change::Pod(pod) => gone = base.index.put_pod(pod),
            Change::PodGone(name) => gone = base.index.remove_pod(&name),
            Change::Namespace(namespace) => base.index.put_namespace(namespace),
            Change::NamespaceGone(name) => base.index.remove_namespace(&name),
            Change::Service(service) => base.index.put_service(service),
            Change::ServiceGone(name) => base.index.remove_service(&name),
            Change::EndpointSlice(slice) => base.index.put_slice(slice),
            Change::EndpointSliceGone(name) => base.index.remove_slice(&name),
            Change::NodeZone(zone) => base.index.set_zone(zone),
            Change::NodeAddresses(addresses) => base.index.set_node_addresses(addresses),
            Change::Policy(policy) => layers.network_policies.put(policy, base),
            Change::PolicyGone(name) => layers.network_policies.remove(&name, base),
        }
        if let Some(gone) = gone {
            self.forget_pod(&gone);
        }
    }

    fn forget_pod(&mut self, LocalPod { pod, .. }: &LocalPod) {
        for layer in self.layers.in_order_mut() {
            layer.forget_pod(&pod.name);
        }
        if let Some(compiled) = self.compiled.remove(&pod.name) {
            self.shared.release(&compiled.policy);
        }
        self.affected.insert(pod.uid.clone());
    }

    /// Makes again what depends on what was staged.
    pub fn settle(&mut self) -> Affected {
        let touched = self.base.index.take_touched();
        let mut pods = BTreeSet::new();
        self.layers.settle(&mut self.base, &touched, &mut pods);
        pods.extend(touched.pods);
        // A backend may reach itself.
        pods.extend(touched.backends);
        let composed = pods.len();
        self.reports_changed |=
            composed > 0 || !self.affected.is_empty() || self.base.index.take_excess_changed();
        for name in pods {
            self.recompose(&name);
        }
        Affected { pods: std::mem::take(&mut self.affected), composed }
    }

    /// The changes that take away the objects of this kind that are known and are not among these. A namespace's name is
    /// in `name`. What is staged counts.
    pub fn missing(&self, kind: ObjectKind, listed: &HashSet<ObjectName>) -> Vec<Change> {
        let index = &self.base.index;
        match kind {
            ObjectKind::Pod => changes(index.missing_pods(listed), Change::PodGone),
            ObjectKind::Namespace => changes(index.missing_namespaces(listed), Change::NamespaceGone),
            ObjectKind::Service => changes(index.missing_services(listed), Change::ServiceGone),
            ObjectKind::EndpointSlice => changes(index.missing_slices(listed), Change::EndpointSliceGone),
            ObjectKind::Policy => changes(self.layers.network_policies.missing(listed), Change::PolicyGone),
        }
    }

    /// Of a pod of this node. `None`: there is none of this uid, or none that policies apply to (on the host's network,
    /// finished); whoever enforces must not take that for "everything is allowed".
    pub fn compiled(&self, uid: &str) -> Option<&Arc<PodPolicy>> {
        Some(&self.compiled.values().find(|it| *it.uid == *uid)?.policy)
    }

    /// Uid, name and policy of each of this node's pods that policies apply to, by name.
    pub fn all_compiled(&self) -> impl Iterator<Item = (&Arc<str>, &ObjectName, &Arc<PodPolicy>)> {
        self.compiled.iter().map(|(name, it)| (&it.uid, name, &it.policy))
    }

    /// The rules in force: those of policies that select a pod of this node.
    pub fn origins(&self) -> &Origins {
        &self.base.origins
    }

    /// May the reports have changed since this was last asked?
    pub fn take_reports_changed(&mut self) -> bool {
        let of_layers =
            self.layers.in_order_mut().into_iter().fold(false, |any, it| any | it.take_reports_changed());
        std::mem::take(&mut self.reports_changed) | of_layers
    }

    /// Sets of addresses that are kept up to date, for whoever watches what that costs.
    pub fn sets(&self) -> usize {
        self.base.index.sets()
    }
}

fn changes<T>(names: Vec<T>, gone: fn(T) -> Change) -> Vec<Change> {
    names.into_iter().map(gone).collect()
}
