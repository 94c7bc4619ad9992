//! Kinds of policy. Each is a layer over the index, and gives each pod of this node its tiers; the compiler puts these one
//! behind the other, in the order of [`Layers::in_order`].
//!
//! A layer keeps its own objects, and asks the index for addresses, pods and Services. It does not know the others: which
//! of them decides, the tiers say by their order and their actions.

mod network_policy;
mod rule;

use std::collections::BTreeSet;
use std::fmt::Debug;

use offload::policy::{Origin, PodPolicy, Rule, Traffic};

use super::budget::Budget;
use super::index::{Index, LocalPod, NetworkId, Touched};
use super::model::ObjectName;
use super::origins::{OriginKey, Origins};
use super::report::Report;
pub use network_policy::NetworkPolicies;

/// The network that rules are for: tiers are those of a pod on the overlay.
const NETWORK: NetworkId = NetworkId::Overlay;

/// What all layers stand on.
#[derive(Debug)]
pub struct Base {
    pub index: Index,
    /// The rules in force, of all layers.
    pub origins: Origins,
    pub budget: Budget,
    /// Rules that may bear other numbers, as one of the same hash has come or gone: perhaps another layer's.
    renumbered: Vec<OriginKey>,
}

impl Base {
    pub fn new(index: Index, mut origins: Origins, budget: Budget) -> Self {
        for key in [OriginKey::Node, OriginKey::Hairpin, OriginKey::ServiceCovered, OriginKey::ServiceRefused]
        {
            origins.insert(&key);
        }
        Self { index, origins, budget, renumbered: Vec::new() }
    }

    fn origin(&self, key: &OriginKey) -> Origin {
        self.origins.of(key).unwrap_or_default()
    }

    fn register(&mut self, keys: &[OriginKey]) {
        self.renumbered.extend(keys.iter().flat_map(|key| self.origins.insert(key)));
    }

    fn unregister(&mut self, keys: &[OriginKey]) {
        self.renumbered.extend(keys.iter().flat_map(|key| self.origins.remove(key)));
    }

    /// The node reaches its pods, whatever isolates them.
    pub fn rule_of_node(&self) -> Option<Rule> {
        let node = self.index.node_addresses();
        (!node.is_empty()).then(|| rule::allow(node.clone(), Traffic::Any, self.origin(&OriginKey::Node)))
    }
}

/// A kind of policy. How its objects come and go is its own: the compiler gives it the changes that are meant for it.
pub trait Layer: Debug {
    /// A pod of this node is gone.
    fn forget_pod(&mut self, name: &ObjectName);

    /// First step after changes: which objects are in force for pods of this node? Acquires what sets these need, and
    /// registers their rules.
    fn put_in_force(&mut self, base: &mut Base, touched: &Touched);

    /// Second step: these rules may bear other numbers, whichever layer's they are.
    fn renumber(&mut self, keys: &[OriginKey]);

    /// Third step: makes again what depends on what has changed, and adds the pods whose tiers may be others.
    fn rebuild(&mut self, base: &Base, touched: &Touched, pods: &mut BTreeSet<ObjectName>);

    /// What it has to say of a pod, behind what is there already. Nothing: the pod is not its business.
    fn append_tiers(&self, base: &Base, local: &LocalPod, to: &mut PodPolicy);

    /// What users should know of their objects.
    fn reports(&self, base: &Base) -> Vec<Report>;

    /// May the reports be others than when this was last asked?
    fn take_reports_changed(&mut self) -> bool;
}

#[derive(Debug, Default)]
pub struct Layers {
    pub network_policies: NetworkPolicies,
}

impl Layers {
    /// As a packet meets their tiers. What an administrator decides for all stands before NetworkPolicy (Admin), what holds
    /// where nobody has decided behind it (Baseline).
    pub fn in_order(&self) -> [&dyn Layer; 1] {
        [&self.network_policies]
    }

    pub fn in_order_mut(&mut self) -> [&mut dyn Layer; 1] {
        [&mut self.network_policies]
    }

    /// After changes: brings all layers up to date, and adds the pods whose tiers may be others.
    pub fn settle(&mut self, base: &mut Base, touched: &Touched, pods: &mut BTreeSet<ObjectName>) {
        for layer in self.in_order_mut() {
            layer.put_in_force(base, touched);
        }
        let renumbered = std::mem::take(&mut base.renumbered);
        for layer in self.in_order_mut() {
            layer.renumber(&renumbered);
            layer.rebuild(base, touched, pods);
        }
    }
}
