//! The northbound as it shall be, from the cluster's objects. Pure.
//!
//! Level-triggered and incremental: [`Plan::apply`] takes one object as it is now, makes again the rows that depend on
//! it, and says which of them are others than before. The rows depend on the objects alone, never on the order in which
//! they came.
//!
//! | object | rows |
//! |---|---|
//! | none | the router, the load balancers' group, the switches' and the router's Copp with its Meters |
//! | Nodes with a switch in one zone | that zone's group of load balancers |
//! | Node whose NodeRange says what is confirmed | its switch, the router's port there, the switch's port to it |
//! | NicNode with a management VF | that node's management port, what it had for addresses, and its DHCP options |
//! | Pod with a VF | its port, once the node has a switch |
//! | PodAttachment | what its pod's port had for an address, should the northbound no longer know; where its pod answers |
//! | Service with its EndpointSlices | a load balancer for each protocol; for each zone, or each node, where these get other endpoints |

mod copp;
mod node;
mod pod;
mod service;
#[cfg(test)]
mod tests;
mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use drawbridge_api::{NodeRange, NodeRangeStatus};
use ipnet::IpNet;
use kube_services::{Backing, Excess, Shares};

use crate::cluster::{Attached, Change, EndpointSlice, NicHealth, NicNode, Node, ObjectName, Pod, Service};
use crate::northbound::{GROUP_NAME, Key, Table, WantedRow, ZONE_GROUPS};
use crate::ranges::{self, Decision, Held};
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
    Zone(Arc<str>),
}

/// Keys whose wanted rows are others than before.
pub type Touched = BTreeSet<Key>;

/// The cluster's objects, and the rows that they want.
#[derive(Debug)]
pub struct Plan {
    settings: Settings,
    nodes: BTreeMap<Arc<str>, Node>,
    node_ranges: BTreeMap<Arc<str>, NodeRange>,
    /// What is confirmed for the Nodes that there are.
    held: Held,
    /// Counts up when nodes or their ranges change.
    ranges_revision: u64,
    nic_nodes: BTreeMap<Arc<str>, NicNode>,
    nics_of: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    pods: BTreeMap<ObjectName, Pod>,
    pods_of: BTreeMap<Arc<str>, BTreeSet<ObjectName>>,
    attachments: BTreeMap<ObjectName, Attached>,
    attachments_of: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
    attachments_by_ip: BTreeMap<IpAddr, BTreeSet<ObjectName>>,
    services: BTreeMap<ObjectName, Service>,
    /// Which of them are too much.
    shares: Shares,
    /// Services whose load balancers are a node's own, or a zone's.
    scoped: BTreeSet<ObjectName>,
    /// Nodes that have a switch, by their zones; of those without a zone it is empty.
    zones: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
    slices: BTreeMap<ObjectName, EndpointSlice>,
    slices_of: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
    /// Slices that name a pod.
    slices_with: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
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

/// The group of those that the switches of a zone's nodes have.
pub fn zone_key(zone: &str) -> Key {
    Key::new(Table::LoadBalancerGroup, format!("{ZONE_GROUPS}{zone}"))
}

impl Plan {
    pub fn new(settings: Settings) -> Self {
        let router = WantedRow::marked(&router_key()).column("name", "drawbridge");
        let router = copp::bounded(&settings, router, copp::Of::Router);
        // A group has no place for marks: its name is one.
        let group = WantedRow::default().column("name", GROUP_NAME);
        let mut rows = copp::rows(&settings);
        rows.extend([(router_key(), router), (group_key(), group)]);
        let mut counts = BTreeMap::new();
        for key in rows.keys() {
            *counts.entry(key.table).or_default() += 1;
        }
        let shares = Shares::new(settings.services);
        Self {
            settings,
            nodes: BTreeMap::new(),
            node_ranges: BTreeMap::new(),
            held: Held::default(),
            ranges_revision: 0,
            nic_nodes: BTreeMap::new(),
            nics_of: BTreeMap::new(),
            pods: BTreeMap::new(),
            pods_of: BTreeMap::new(),
            attachments: BTreeMap::new(),
            attachments_of: BTreeMap::new(),
            attachments_by_ip: BTreeMap::new(),
            services: BTreeMap::new(),
            shares,
            scoped: BTreeSet::new(),
            zones: BTreeMap::new(),
            slices: BTreeMap::new(),
            slices_of: BTreeMap::new(),
            slices_with: BTreeMap::new(),
            rows,
            made_of: BTreeMap::new(),
            counts,
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

    /// Counts up when what [`Plan::decisions`] says may be another.
    pub const fn ranges_revision(&self) -> u64 {
        self.ranges_revision
    }

    /// A Node of which nothing has been decided.
    pub fn undecided(&self) -> Option<&str> {
        self.nodes.keys().map(|name| &**name).find(|name| self.confirmed(name).is_none())
    }

    /// What shall stand in the `NodeRange`s and does not.
    pub fn decisions(&self, now: &str) -> BTreeMap<Arc<str>, (Decision, Option<&NodeRange>)> {
        let all = ranges::decide(&self.settings.allocation, &self.nodes, &self.node_ranges, &self.held, now);
        let with = all.into_iter().map(|(name, decision)| {
            let there = self.node_ranges.get(&name);
            (name, (decision, there))
        });
        with.filter(|(_, (decision, there))| match decision {
            Decision::Delete => there.is_some(),
            Decision::Status(status) => there.and_then(|it| it.status.as_ref()) != Some(status),
        })
        .collect()
    }

    /// What is confirmed of each Node that there is, for whoever cannot read `NodeRange`s.
    pub fn confirmed_ranges(&self) -> BTreeMap<&str, (Vec<IpNet>, &[String])> {
        let names = self.nodes.keys().map(|name| &**name);
        let of = |name: &str| self.confirmed(name).map(|it| it.addresses.as_slice()).unwrap_or_default();
        names.map(|name| (name, (self.held.sole(name).collect(), of(name)))).collect()
    }

    /// Takes an object as it is now.
    pub fn apply(&mut self, change: Change) -> Touched {
        match change {
            Change::Node(name, node) => {
                if self.nodes.get(&name) == node.as_ref() {
                    return Touched::new();
                }
                put(&mut self.nodes, &name, node);
                self.hold(&name, true)
            }
            Change::NodeRange(name, range) => {
                let addresses = |plan: &Self| plan.confirmed(&name).map(|it| it.addresses.clone());
                let before = addresses(self);
                put(&mut self.node_ranges, &name, range.map(|it| *it));
                let changed = before != addresses(self);
                self.hold(&name, changed)
            }
            Change::NicNode(name, nic_node) => {
                // A heartbeat changes no row.
                let nic_node = nic_node.map(|it| NicNode { health: NicHealth::default(), ..it });
                if self.nic_nodes.get(&name) == nic_node.as_ref() {
                    return Touched::new();
                }
                let whose = |nic: &NicNode| Arc::clone(&nic.node);
                let nodes = relate(&mut self.nic_nodes, &mut self.nics_of, &name, nic_node, whose);
                nodes.iter().flat_map(|node| self.remake_all_of(node)).collect()
            }
            Change::Pod(name, pod) => {
                relate(&mut self.pods, &mut self.pods_of, &name, pod, |pod| Arc::clone(&pod.node));
                self.remake_pod_and_services(&name)
            }
            Change::Attachment(name, attached) => {
                let mut pods = BTreeSet::new();
                let before = self.attachments.get(&name).map(|it| it.ips.clone()).unwrap_or_default();
                let after = attached.as_ref().map(|it| it.ips.clone()).unwrap_or_default();
                for ip in &before {
                    unlist(&mut self.attachments_by_ip, ip, &name);
                }
                for ip in before.iter().chain(&after) {
                    let sharers = self.attachments_by_ip.get(ip).into_iter().flatten();
                    pods.extend(sharers.filter_map(|it| self.pod_of(it)));
                }
                for ip in after {
                    self.attachments_by_ip.entry(ip).or_default().insert(name.clone());
                }
                let pod = |attached: &Attached| ObjectName {
                    namespace: Arc::clone(&name.namespace),
                    name: Arc::clone(&attached.pod),
                };
                pods.extend(relate(&mut self.attachments, &mut self.attachments_of, &name, attached, pod));
                pods.iter().flat_map(|pod| self.remake_pod_and_services(pod)).collect()
            }
            Change::Service(name, service) => {
                put(&mut self.services, &name, service);
                self.count_service(&name)
            }
            Change::Slice(name, slice) => {
                let pods = |slice: Option<&EndpointSlice>| -> BTreeSet<ObjectName> {
                    let endpoints = slice.into_iter().flat_map(|slice| &slice.endpoints);
                    endpoints.filter_map(|it| Some(it.target.as_ref()?.pod.clone())).collect()
                };
                for pod in pods(self.slices.get(&name)) {
                    unlist(&mut self.slices_with, &pod, &name);
                }
                for pod in pods(slice.as_ref()) {
                    self.slices_with.entry(pod).or_default().insert(name.clone());
                }
                let service = |slice: &EndpointSlice| ObjectName {
                    namespace: Arc::clone(&name.namespace),
                    name: slice.service.clone().unwrap_or_default(),
                };
                let services = relate(&mut self.slices, &mut self.slices_of, &name, slice, service);
                services.iter().flat_map(|service| self.count_service(service)).collect()
            }
        }
    }

    fn pod_of(&self, attachment: &ObjectName) -> Option<ObjectName> {
        let pod = &self.attachments.get(attachment)?.pod;
        Some(ObjectName { namespace: Arc::clone(&attachment.namespace), name: Arc::clone(pod) })
    }

    /// What stands in the node's `NodeRange`, if it was said of this very Node.
    fn confirmed(&self, node: &str) -> Option<&NodeRangeStatus> {
        let uid = &self.nodes.get(node)?.uid;
        let status = self.node_ranges.get(node)?.status.as_ref();
        status.filter(|status| status.node_uid.as_deref() == Some(uid))
    }

    /// Takes what stands there now.
    fn hold(&mut self, name: &Arc<str>, changed: bool) -> Touched {
        self.ranges_revision += 1;
        let before: Vec<IpNet> = self.held.of(name).collect();
        let texts = self.confirmed(name).map(|it| it.ranges.as_slice()).unwrap_or_default();
        let now: Vec<IpNet> = texts.iter().filter_map(|text| text.parse().ok()).collect();
        if now == before && !changed {
            return Touched::new();
        }
        // Others of which an address would be this one's, too, lose it, or have it again.
        let mut nodes = BTreeSet::from([Arc::clone(name)]);
        for range in before.iter().chain(&now) {
            nodes.extend(self.held.overlapping(range, name).map(|(other, _)| other));
        }
        self.held.set(name, now);
        nodes.iter().flat_map(|node| self.remake_all_of(node)).collect()
    }

    /// The node's rows, and all that depends on what it is.
    fn remake_all_of(&mut self, name: &Arc<str>) -> Touched {
        let ranges: Vec<IpNet> = self.held.sole(name).collect();
        let rows = if let Some(node) = self.nodes.get(name) {
            let nic = self.nic(name);
            let had = nic.as_ref().and_then(|nic| self.server_had(name, nic));
            node::rows(&self.settings, name, &node.zone, &ranges, nic.as_ref(), had)
        } else {
            Rows::new()
        };
        let mut touched = self.replace(Source::Node(Arc::clone(name)), rows);
        let moved = self.rezone(name, &mut touched);
        let mut services = BTreeSet::new();
        for pod in self.pods_of.get(name).cloned().unwrap_or_default() {
            touched.append(&mut self.remake_pod(&pod));
            services.extend(self.services_with(&pod));
        }
        if moved {
            services.extend(self.scoped.iter().cloned());
        }
        for service in services {
            touched.append(&mut self.remake_service(&service));
        }
        touched
    }

    /// Says whether the node has come to a zone, with its switch, or has left one.
    fn rezone(&mut self, name: &Arc<str>, touched: &mut Touched) -> bool {
        let zone = self.nodes.get(name).filter(|_| self.rows.contains_key(&switch_key(name)));
        let zone = zone.map(|node| Arc::clone(&node.zone));
        let before = self.zones.iter().find(|(_, nodes)| nodes.contains(name));
        let before = before.map(|(zone, _)| Arc::clone(zone));
        if before == zone {
            return false;
        }
        if let Some(before) = &before {
            unlist(&mut self.zones, before, name);
        }
        if let Some(zone) = &zone {
            self.zones.entry(Arc::clone(zone)).or_default().insert(Arc::clone(name));
        }
        for zone in before.into_iter().chain(zone) {
            let key = zone_key(&zone);
            let row = self.zones.contains_key(&zone).then(|| WantedRow::default().column("name", &*key.id));
            let rows = row.map(|row| (key, row)).into_iter().collect();
            touched.append(&mut self.replace(Source::Zone(zone), rows));
        }
        true
    }

    /// The Services for which the pod may answer.
    fn services_with(&self, pod: &ObjectName) -> BTreeSet<ObjectName> {
        let slices = self.slices_with.get(pod).into_iter().flatten();
        let of = |name: &ObjectName| {
            let service = self.slices.get(name)?.service.clone()?;
            Some(ObjectName { namespace: Arc::clone(&name.namespace), name: service })
        };
        slices.filter_map(of).collect()
    }

    fn remake_pod_and_services(&mut self, name: &ObjectName) -> Touched {
        let mut touched = self.remake_pod(name);
        for service in self.services_with(name) {
            touched.append(&mut self.remake_service(&service));
        }
        touched
    }

    fn remake_pod(&mut self, name: &ObjectName) -> Touched {
        let wired = |pod: &&Pod| pod.vf && !pod.host_network && self.counts(pod);
        let rows = self.pods.get(name).filter(wired).and_then(|pod| {
            let ranges: Vec<IpNet> = self.held.sole(&pod.node).collect();
            let subnets = node::assigned(&self.settings, &ranges);
            let port = pod::port_name(name);
            let had = self.had(name, pod, &port);
            let chassis = self.nic(&pod.node).and_then(|nic| nic.chassis);
            (!subnets.is_empty()).then(|| pod::rows(name, pod, port, subnets, had, chassis))
        });
        let rows = rows.unwrap_or_default();
        self.replace(Source::Pod(name.clone()), rows)
    }

    /// Services that are too much, and so have no load balancer.
    pub fn refused_services(&self) -> impl Iterator<Item = (&ObjectName, Excess)> {
        self.shares.refused()
    }

    /// It costs something else now, and so others of its namespace may be too much, or not any more.
    fn count_service(&mut self, name: &ObjectName) -> Touched {
        let service = self.services.get(name);
        let cost = service.and_then(|it| self.shares.limits().cost(it, self.slices_for(name)));
        let mut services = self.shares.set(name, cost);
        services.insert(name.clone());
        services.iter().flat_map(|service| self.remake_service(service)).collect()
    }

    fn slices_for(&self, service: &ObjectName) -> impl Iterator<Item = &EndpointSlice> + Clone {
        let names = self.slices_of.get(service).into_iter().flatten();
        names.filter_map(|slice| self.slices.get(slice))
    }

    fn remake_service(&mut self, name: &ObjectName) -> Touched {
        let rows = match self.services.get(name) {
            Some(service) if !self.shares.refuses(name) => {
                let backing = Backing::new(service, self.slices_for(name), |endpoint| self.answers(endpoint));
                service::rows(name, service, &backing, &self.zones)
            }
            _ => Rows::new(),
        };
        let is_scoped =
            rows.values().any(|row| row.parent.as_ref().is_some_and(|(key, _)| *key != group_key()));
        // Without a node there is none yet.
        if is_scoped || self.services.contains_key(name) && rows.is_empty() {
            self.scoped.insert(name.clone());
        } else {
            self.scoped.remove(name);
        }
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
fn relate<N: Ord + Clone, V, P: Ord + Clone>(
    all: &mut BTreeMap<N, V>,
    of: &mut BTreeMap<P, BTreeSet<N>>,
    name: &N,
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
