//! What the cluster is, for whichever kind of policy: its pods and namespaces, which addresses selectors mean, which pods are
//! this node's, and what is behind Services.
//!
//! ```text
//!  Pod, Namespace ──► pods, by class ──► sets of addresses ──┐
//!                └──► this node's pods                       ├──► layers of policy
//!  Service, EndpointSlice ──► ports of Services ─────────────┘
//! ```
//!
//! A change goes in at once, and is added to what is [`Touched`]. It knows no kind of policy, and never who asks it: a set is
//! kept up to date while somebody has acquired it.

mod address_sets;
mod holders;
mod ids;
mod local_pods;
mod network;
mod pods;
mod services;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use kube_services::Limits;
use offload::policy::PrefixSet;

use super::model::{EndpointSlice, Labels, Namespace, ObjectName, Protocol, Service};
use address_sets::AddressSets;
pub use address_sets::{AddressSet, Scope, SetKey};
pub use ids::SetId;
pub use local_pods::LocalPod;
pub use network::NetworkId;
use network::NetworkIp;
use pods::Pods;
pub use services::{Front, FrontId, Moved, Services};

type Namespaces = BTreeMap<Arc<str>, Labels>;

#[derive(Debug)]
pub struct Index {
    /// As in `spec.nodeName` of this node's pods.
    node: Arc<str>,
    node_addresses: PrefixSet,
    pods: Pods,
    namespaces: Namespaces,
    sets: AddressSets,
    services: Services,
    local_pods: BTreeMap<ObjectName, LocalPod>,
    touched: Touched,
}

/// What changes have touched.
#[derive(Debug, Default)]
pub struct Touched {
    /// Sets that are not the same.
    pub sets: BTreeSet<SetId>,
    /// Addresses that came into a set, or left one.
    pub ips: BTreeSet<NetworkIp>,
    /// Pods of this node that are new or have other labels, ports or addresses; all of them, if the node's addresses are
    /// others.
    pub pods: BTreeSet<ObjectName>,
    /// Pods of this node that may be behind other Services than before.
    pub backends: BTreeSet<ObjectName>,
    pub services: Moved,
}

impl Index {
    pub fn new(node: Arc<str>, zone: Arc<str>, node_addresses: PrefixSet, limits: Limits) -> Self {
        Self {
            services: Services::new(limits, node.clone(), zone),
            node,
            node_addresses,
            pods: Pods::default(),
            namespaces: Namespaces::new(),
            sets: AddressSets::default(),
            local_pods: BTreeMap::new(),
            touched: Touched::default(),
        }
    }

    /// What was touched since this was last asked for.
    pub fn take_touched(&mut self) -> Touched {
        let mut touched = std::mem::take(&mut self.touched);
        self.refresh_fronts(&mut touched);
        touched
    }

    // === what is asked ===

    /// From which the node reaches its pods.
    pub fn node_addresses(&self) -> &PrefixSet {
        &self.node_addresses
    }

    /// One more needs this set, with these names of ports.
    pub fn acquire_set(&mut self, key: SetKey, names: &[(Protocol, Arc<str>)]) -> SetId {
        self.sets.acquire(key, names, &mut self.pods, &self.namespaces)
    }

    pub fn release_set(&mut self, id: SetId) {
        self.sets.release(id, &mut self.pods);
    }

    pub fn set(&self, id: SetId) -> Option<&AddressSet> {
        self.sets.get(id)
    }

    /// How many sets are kept up to date.
    pub fn sets(&self) -> usize {
        self.sets.len()
    }

    pub fn services(&self) -> &Services {
        &self.services
    }

    /// May [`Services::excesses`] be others than when this was last asked?
    pub fn take_excess_changed(&mut self) -> bool {
        self.services.take_excess_changed()
    }

    // === what changes ===

    pub fn put_namespace(&mut self, Namespace { name, labels }: Namespace) {
        if self.namespaces.get(&name) != Some(&labels) {
            self.namespaces.insert(name.clone(), labels);
            self.relabel(&name);
        }
    }

    pub fn remove_namespace(&mut self, name: &str) {
        if self.namespaces.remove(name).is_some() {
            self.relabel(name);
        }
    }

    fn relabel(&mut self, namespace: &str) {
        let (sets, classes) = self.sets.relabel(namespace, &mut self.pods, &self.namespaces);
        self.touched.sets.extend(sets);
        for class in classes {
            self.touched.ips.extend(self.pods.ips_of_class(class));
        }
    }

    pub fn put_service(&mut self, service: Service) {
        self.services.put(service, &mut self.touched.services);
    }

    pub fn remove_service(&mut self, name: &ObjectName) {
        self.services.remove(name, &mut self.touched.services);
    }

    pub fn put_slice(&mut self, slice: EndpointSlice) {
        self.services.put_slice(slice, &mut self.touched.services);
    }

    pub fn remove_slice(&mut self, name: &ObjectName) {
        self.services.remove_slice(name, &mut self.touched.services);
    }

    pub fn set_zone(&mut self, zone: Arc<str>) {
        self.services.set_zone(zone, &mut self.touched.services);
    }

    pub fn set_node_addresses(&mut self, addresses: PrefixSet) {
        if self.node_addresses != addresses {
            self.node_addresses = addresses;
            self.touched.pods.extend(self.local_pods.keys().cloned());
        }
    }

    // === what a complete list leaves out ===

    pub fn missing_pods(&self, listed: &HashSet<ObjectName>) -> Vec<ObjectName> {
        // A pod without an address is in no set, but may be one of ours.
        let ours = self.local_pods.keys().filter(|it| self.pods.get(it).is_none()).cloned();
        self.pods.names().chain(ours).filter(|it| !listed.contains(it)).collect()
    }

    /// A namespace's name is in `name`.
    pub fn missing_namespaces(&self, listed: &HashSet<ObjectName>) -> Vec<Arc<str>> {
        let names = self.namespaces.keys();
        names.filter(|it| !listed.contains(&ObjectName::new("", (*it).clone()))).cloned().collect()
    }

    pub fn missing_services(&self, listed: &HashSet<ObjectName>) -> Vec<ObjectName> {
        self.services.names().filter(|it| !listed.contains(*it)).cloned().collect()
    }

    pub fn missing_slices(&self, listed: &HashSet<ObjectName>) -> Vec<ObjectName> {
        self.services.slice_names().filter(|it| !listed.contains(*it)).cloned().collect()
    }
}
