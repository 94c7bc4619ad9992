//! The northbound as it shall be, from the cluster's objects. Pure.
//!
//! Level-triggered and incremental: [`Plan::apply`] takes one object as it is now, makes again the rows that depend on
//! it, and says which of them are others than before. The rows depend on the objects alone, never on the order in which
//! they came.
//!
//! | object | rows |
//! |---|---|
//! | none | the router, the load balancers' group |
//! | Node with podCIDRs | its switch, the router's port there, the switch's port to it |
//! | NicNode with a management VF | that node's management port, and its DHCP options |
//! | Pod with a VF | its port, once the node has a switch |
//! | PodAttachment | what its pod's port had for an address, should the northbound no longer know |
//! | Service with its EndpointSlices | a load balancer for each protocol; with `internalTrafficPolicy: Local` for each node |

mod node;
mod pod;
mod service;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cluster::{Attached, Change, NicNode, Node, ObjectName, Pod, Service, Slice};
use crate::northbound::{GROUP_NAME, Key, Table, WantedRow};
use crate::settings::Settings;

pub use node::{management_port, switch_key};

/// Rows, by their keys.
type Rows = BTreeMap<Key, WantedRow>;

/// What rows are made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Node(Arc<str>),
    Pod(ObjectName),
    Service(ObjectName),
}

/// Keys whose wanted rows are others than before.
pub type Touched = BTreeSet<Key>;

/// The cluster's objects, and the rows that they want.
#[derive(Debug)]
pub struct Plan {
    settings: Settings,
    nodes: BTreeMap<Arc<str>, Node>,
    nic_nodes: BTreeMap<Arc<str>, NicNode>,
    pods: BTreeMap<ObjectName, Pod>,
    pods_of: BTreeMap<Arc<str>, BTreeSet<ObjectName>>,
    attachments: BTreeMap<ObjectName, Attached>,
    attachments_of: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
    services: BTreeMap<ObjectName, Service>,
    /// Services whose load balancers are a node's own.
    local: BTreeSet<ObjectName>,
    slices: BTreeMap<ObjectName, Slice>,
    slices_of: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
    rows: Rows,
    made_of: BTreeMap<Source, Vec<Key>>,
    counts: BTreeMap<Table, usize>,
}

/// The router of the cluster.
pub fn router_key() -> Key {
    Key::new(Table::LogicalRouter, "cluster")
}

/// The group of the load balancers that every switch has.
pub fn group_key() -> Key {
    Key::new(Table::LoadBalancerGroup, GROUP_NAME)
}

impl Plan {
    pub fn new(settings: Settings) -> Self {
        let router = WantedRow::marked(&router_key()).column("name", "drawbridge");
        // A group has no place for marks: its name is one.
        let group = WantedRow::default().column("name", GROUP_NAME);
        Self {
            settings,
            nodes: BTreeMap::new(),
            nic_nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            pods_of: BTreeMap::new(),
            attachments: BTreeMap::new(),
            attachments_of: BTreeMap::new(),
            services: BTreeMap::new(),
            local: BTreeSet::new(),
            slices: BTreeMap::new(),
            slices_of: BTreeMap::new(),
            rows: [(router_key(), router), (group_key(), group)].into(),
            made_of: BTreeMap::new(),
            counts: [(Table::LogicalRouter, 1), (Table::LoadBalancerGroup, 1)].into(),
        }
    }

    /// The row of this key, if there shall be one.
    pub fn get(&self, key: &Key) -> Option<&WantedRow> {
        self.rows.get(key)
    }

    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = (&Key, &WantedRow)> {
        self.rows.iter()
    }

    /// How many rows of a table there shall be.
    pub fn count(&self, table: Table) -> usize {
        self.counts.get(&table).copied().unwrap_or_default()
    }

    /// Takes an object as it is now.
    pub fn apply(&mut self, change: Change) -> Touched {
        match change {
            Change::Node(name, node) => {
                put(&mut self.nodes, &name, node);
                self.remake_node(&name)
            }
            Change::NicNode(name, nic_node) => {
                let old = put(&mut self.nic_nodes, &name, nic_node).map(|old| old.node);
                let new = self.nic_nodes.get(&name).map(|new| Arc::clone(&new.node));
                let nodes: BTreeSet<Arc<str>> = old.into_iter().chain(new).collect();
                nodes.iter().flat_map(|node| self.remake_node(node)).collect()
            }
            Change::Pod(name, pod) => {
                relate(&mut self.pods, &mut self.pods_of, &name, pod, |pod| Arc::clone(&pod.node));
                self.remake_pod(&name)
            }
            Change::Attachment(name, attached) => {
                let pod = |attached: &Attached| ObjectName {
                    namespace: Arc::clone(&name.namespace),
                    name: Arc::clone(&attached.pod),
                };
                let pods = relate(&mut self.attachments, &mut self.attachments_of, &name, attached, pod);
                pods.iter().flat_map(|pod| self.remake_pod(pod)).collect()
            }
            Change::Service(name, service) => {
                if service.as_ref().is_some_and(|service| service.local) {
                    self.local.insert(name.clone());
                } else {
                    self.local.remove(&name);
                }
                put(&mut self.services, &name, service);
                self.remake_service(&name)
            }
            Change::Slice(name, slice) => {
                let service = |slice: &Slice| ObjectName {
                    namespace: Arc::clone(&name.namespace),
                    name: Arc::clone(&slice.service),
                };
                let services = relate(&mut self.slices, &mut self.slices_of, &name, slice, service);
                services.iter().flat_map(|service| self.remake_service(service)).collect()
            }
        }
    }

    fn remake_node(&mut self, name: &Arc<str>) -> Touched {
        let switch = switch_key(name);
        let before = self.rows.get(&switch).cloned();
        let managed = self.nic_nodes.values().any(|nic| nic.node == *name && nic.management);
        let rows = match self.nodes.get(name) {
            Some(node) => node::rows(&self.settings, name, node, managed),
            None => Rows::new(),
        };
        let mut touched = self.replace(Source::Node(Arc::clone(name)), rows);
        if before.as_ref() != self.rows.get(&switch) {
            for pod in self.pods_of.get(name).cloned().unwrap_or_default() {
                touched.append(&mut self.remake_pod(&pod));
            }
            for service in self.local.clone() {
                touched.append(&mut self.remake_service(&service));
            }
        }
        touched
    }

    fn remake_pod(&mut self, name: &ObjectName) -> Touched {
        let rows = self.pods.get(name).and_then(|pod| {
            let subnets = node::assigned(&self.settings, self.nodes.get(&pod.node)?);
            let attachments = self.attachments_of.get(name).into_iter().flatten();
            let attached = attachments.filter_map(|it| self.attachments.get(it));
            (!subnets.is_empty()).then(|| pod::rows(name, pod, subnets, attached))
        });
        let rows = rows.unwrap_or_default();
        self.replace(Source::Pod(name.clone()), rows)
    }

    fn remake_service(&mut self, name: &ObjectName) -> Touched {
        let rows = match self.services.get(name) {
            Some(service) => {
                let names = self.slices_of.get(name).into_iter().flatten();
                let slices: Vec<&Slice> = names.filter_map(|slice| self.slices.get(slice)).collect();
                let switches = self.nodes.keys().filter(|node| self.rows.contains_key(&switch_key(node)));
                service::rows(name, service, &slices, switches)
            }
            None => Rows::new(),
        };
        self.replace(Source::Service(name.clone()), rows)
    }

    /// Puts the source's rows in place of those it had.
    fn replace(&mut self, source: Source, new: Rows) -> Touched {
        let mut touched = Touched::new();
        for key in self.made_of.remove(&source).unwrap_or_default() {
            if !new.contains_key(&key) {
                self.rows.remove(&key);
                *self.counts.entry(key.table).or_default() -= 1;
                touched.insert(key);
            }
        }
        if !new.is_empty() {
            self.made_of.insert(source, new.keys().cloned().collect());
        }
        for (key, row) in new {
            if self.rows.get(&key) != Some(&row) {
                if self.rows.insert(key.clone(), row).is_none() {
                    *self.counts.entry(key.table).or_default() += 1;
                }
                touched.insert(key);
            }
        }
        touched
    }
}

fn put<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, key: &K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(key),
    }
}

/// Puts it, and keeps up which of them belong to whom. Returns to whom it belonged and belongs.
fn relate<V, P: Ord + Clone>(
    all: &mut BTreeMap<ObjectName, V>,
    of: &mut BTreeMap<P, BTreeSet<ObjectName>>,
    name: &ObjectName,
    value: Option<V>,
    whose: impl Fn(&V) -> P,
) -> BTreeSet<P> {
    let old = put(all, name, value).as_ref().map(&whose);
    let new = all.get(name).map(&whose);
    if let Some(old) = &old {
        unlist(of, old, name);
    }
    if let Some(new) = &new {
        of.entry(new.clone()).or_default().insert(name.clone());
    }
    old.into_iter().chain(new).collect()
}

fn unlist<K: Ord, V: Ord>(index: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = index.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            index.remove(key);
        }
    }
}
