//! Whose word on a pod's addresses counts (docs/security.md), between what a cluster says and what is compiled from it.
//!
//! ```text
//!  pods, slices ───────────────────────► Trust ──Change──► Compiler
//!  PodAttachments, NicNodes, NodeRanges, ──┤
//!  Nodes' uids                             │
//!  what this NIC holds itself ─────────────┘
//! ```
//!
//! A node writes `status.podIPs` of its pods, and what a Service's EndpointSlices say of them follows from that. So a pod's
//! addresses are those that the NIC which holds it says; of a node without a NIC those that are inside of what is confirmed
//! for that Node, by its uid. An endpoint that names a pod counts when its address is one of that pod's.
//!
//! Maps of pods and slices are trees: a hash table of a cluster's is copied whole when it must grow.
//!
//! What follows is the same in whatever order things are said. It waits for [`Trust::flush`], so that many words on one pod
//! cost one.

mod believe;
mod hear;
mod interner;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::model::{
    Confirmed, Endpoint, EndpointSlice, Labels, NamedPort, NicNode, ObjectName, Pod, PodAttachment,
};
use super::report::{Disbelief, Report};
use super::snapshot::{Change, ObjectKind};
use interner::Interner;

/// What this NIC holds: addresses by its pods' uids.
pub type Held = Arc<BTreeMap<Arc<str>, Vec<IpAddr>>>;

#[derive(Debug)]
pub struct Trust {
    /// This NIC's.
    node: Arc<str>,
    /// The node's; of one that is made again the old one's until it is there.
    zone: Arc<str>,
    pods: BTreeMap<ObjectName, Known>,
    /// Names of pods, by their node.
    of_node: HashMap<Arc<str>, BTreeSet<ObjectName>>,
    held: Held,
    /// This node's pods, by uid.
    own: HashMap<Arc<str>, ObjectName>,
    attachments: BTreeMap<ObjectName, PodAttachment>,
    /// Names of attachments, by the pod that they name.
    attached: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
    nics: BTreeMap<Arc<str>, NicNode>,
    /// By the node that they name.
    with_nic: HashMap<Arc<str>, Nics>,
    confirmed: HashMap<Arc<str>, Confirmed>,
    /// Uids of the Nodes that there are.
    nodes: HashMap<Arc<str>, Arc<str>>,
    /// Those that name a Service.
    slices: BTreeMap<ObjectName, EndpointSlice>,
    /// Names of slices, by the pods that they name.
    naming: BTreeMap<ObjectName, HashSet<ObjectName>>,
    /// What is not believed, by whose word it is.
    refused: BTreeMap<Disbelief, BTreeSet<ObjectName>>,
    reports_stale: bool,
    dirt: Dirt,
    texts: Interner<Arc<str>>,
    labels: Interner<Labels>,
    ports: Interner<Arc<[NamedPort]>>,
}

#[derive(Debug)]
struct Known {
    /// As it is said.
    pod: Pod,
    /// Those of its addresses that are believed.
    ips: Vec<IpAddr>,
    disbelief: Vec<Disbelief>,
}

/// The NicNodes that name a node.
#[derive(Debug, Default)]
struct Nics {
    count: usize,
    /// Of these, so many let static pods count.
    allowing: usize,
}

/// What must be looked at again.
#[derive(Debug, Default)]
struct Dirt {
    pods: HashSet<ObjectName>,
    nodes: HashSet<Arc<str>>,
    slices: HashSet<ObjectName>,
    /// This node's.
    zone: bool,
}

impl Trust {
    pub fn new(node: Arc<str>) -> Self {
        Self {
            node,
            zone: "".into(),
            pods: BTreeMap::new(),
            of_node: HashMap::new(),
            held: Held::default(),
            own: HashMap::new(),
            attachments: BTreeMap::new(),
            attached: BTreeMap::new(),
            nics: BTreeMap::new(),
            with_nic: HashMap::new(),
            confirmed: HashMap::new(),
            nodes: HashMap::new(),
            slices: BTreeMap::new(),
            naming: BTreeMap::new(),
            refused: BTreeMap::new(),
            reports_stale: false,
            dirt: Dirt::default(),
            texts: Interner::default(),
            labels: Interner::default(),
            ports: Interner::default(),
        }
    }

    /// Takes in what concerns pods and endpoints, and gives back what does not.
    pub fn take(&mut self, change: Change) -> Option<Change> {
        match change {
            Change::Pod(pod) => self.put_pod(pod),
            Change::PodGone(name) => self.remove_pod(&name),
            Change::EndpointSlice(slice) => self.put_slice(slice),
            Change::EndpointSliceGone(name) => self.remove_slice(&name),
            other => return Some(other),
        }
        None
    }

    /// What this NIC holds now.
    pub fn hold(&mut self, held: Held) {
        let uids: BTreeSet<&Arc<str>> = self.held.keys().chain(held.keys()).collect();
        let changed = uids.into_iter().filter(|uid| self.held.get(*uid) != held.get(*uid));
        self.dirt.pods.extend(changed.filter_map(|uid| self.own.get(uid)).cloned());
        self.held = held;
    }

    /// These are all pods, or all slices, that there are.
    pub fn only(&mut self, kind: ObjectKind, listed: &HashSet<ObjectName>) {
        let gone = |names: &mut dyn Iterator<Item = &ObjectName>| -> Vec<ObjectName> {
            names.filter(|it| !listed.contains(*it)).cloned().collect()
        };
        match kind {
            ObjectKind::Pod => {
                for name in gone(&mut self.pods.keys()) {
                    self.remove_pod(&name);
                }
            }
            ObjectKind::EndpointSlice => {
                for name in gone(&mut self.slices.keys()) {
                    self.remove_slice(&name);
                }
            }
            ObjectKind::Namespace | ObjectKind::Policy | ObjectKind::Service => {}
        }
    }

    /// What follows from all that was taken in since this was last called.
    pub fn flush(&mut self) -> Vec<Change> {
        let mut dirt = std::mem::take(&mut self.dirt);
        let of_nodes = dirt.nodes.iter().filter_map(|it| self.of_node.get(it));
        dirt.pods.extend(of_nodes.flatten().cloned());
        let mut changes = Vec::with_capacity(dirt.pods.len());
        if dirt.zone {
            changes.push(Change::NodeZone(self.zone.clone()));
        }
        for name in dirt.pods {
            changes.push(match self.believe(&name) {
                None => Change::PodGone(name.clone()),
                Some((pod, is_other)) => {
                    if is_other {
                        dirt.slices.extend(self.naming.get(&name).into_iter().flatten().cloned());
                    }
                    Change::Pod(pod)
                }
            });
        }
        for name in dirt.slices {
            changes.push(match self.slices.get(&name) {
                None => Change::EndpointSliceGone(name),
                Some(slice) => Change::EndpointSlice(self.believed_slice(slice)),
            });
        }
        changes
    }

    pub fn take_reports_changed(&mut self) -> bool {
        std::mem::take(&mut self.reports_stale)
    }

    /// What is not believed, sorted.
    pub fn reports(&self) -> impl Iterator<Item = Report> {
        self.refused.iter().map(|(why, objects)| Report::Disbelieved {
            why: why.clone(),
            some: objects.iter().take(Report::SOME).cloned().collect(),
            count: objects.len(),
        })
    }

    // === what is said ===

    fn put_pod(&mut self, mut pod: Pod) {
        pod.node = self.texts.one(pod.node);
        pod.name.namespace = self.texts.one(pod.name.namespace);
        pod.labels = self.labels.one(pod.labels);
        pod.ports = self.ports.one(pod.ports);
        let name = pod.name.clone();
        let known = self.pods.get(&name);
        if known.is_some_and(|it| it.pod == pod) {
            return;
        }
        // One of the same name may be another.
        if known.is_some_and(|it| it.pod.uid != pod.uid || it.pod.mirror != pod.mirror) {
            self.dirt.slices.extend(self.naming.get(&name).into_iter().flatten().cloned());
        }
        let (ips, disbelief) = match self.pods.remove(&name) {
            Some(old) => {
                self.leave_node(&old.pod);
                (old.ips, old.disbelief)
            }
            None => Default::default(),
        };
        self.of_node.entry(pod.node.clone()).or_default().insert(name.clone());
        if pod.node == self.node {
            self.own.insert(pod.uid.clone(), name.clone());
        }
        self.pods.insert(name.clone(), Known { pod, ips, disbelief });
        self.dirt.pods.insert(name);
    }

    fn remove_pod(&mut self, name: &ObjectName) {
        let Some(known) = self.pods.remove(name) else { return };
        self.leave_node(&known.pod);
        self.complain(name, &known.disbelief, &[]);
        self.dirt.slices.extend(self.naming.get(name).into_iter().flatten().cloned());
        self.dirt.pods.insert(name.clone());
    }

    fn leave_node(&mut self, pod: &Pod) {
        self.own.remove(&pod.uid);
        if let Some(names) = self.of_node.get_mut(&pod.node) {
            names.remove(&pod.name);
            if names.is_empty() {
                self.of_node.remove(&pod.node);
            }
        }
    }

    fn put_slice(&mut self, mut slice: EndpointSlice) {
        if slice.service.is_none() {
            return self.remove_slice(&slice.name);
        }
        for node in slice.endpoints.iter_mut().filter_map(|it| it.node.as_mut()) {
            *node = self.texts.one(node.clone());
        }
        for target in slice.endpoints.iter_mut().filter_map(|it| it.target.as_mut()) {
            if let Some((name, known)) = self.pods.get_key_value(&target.pod) {
                target.pod = name.clone();
                if target.uid == known.pod.uid {
                    target.uid = known.pod.uid.clone();
                }
            }
        }
        let name = slice.name.clone();
        if self.slices.get(&name) == Some(&slice) {
            return;
        }
        self.forget_slice(&name);
        for target in slice.endpoints.iter().filter_map(|it| it.target.as_ref()) {
            self.naming.entry(target.pod.clone()).or_default().insert(name.clone());
        }
        self.complain(&name, &[], complaint(&slice).as_slice());
        self.slices.insert(name.clone(), slice);
        self.dirt.slices.insert(name);
    }

    fn remove_slice(&mut self, name: &ObjectName) {
        if self.forget_slice(name) {
            self.dirt.slices.insert(name.clone());
        }
    }

    fn forget_slice(&mut self, name: &ObjectName) -> bool {
        let Some(slice) = self.slices.remove(name) else { return false };
        self.complain(name, complaint(&slice).as_slice(), &[]);
        for target in slice.endpoints.iter().filter_map(|it| it.target.as_ref()) {
            if let Some(names) = self.naming.get_mut(&target.pod) {
                names.remove(name);
                if names.is_empty() {
                    self.naming.remove(&target.pod);
                }
            }
        }
        true
    }

    /// Of this object one thing was not believed, another is not now.
    fn complain(&mut self, object: &ObjectName, before: &[Disbelief], now: &[Disbelief]) {
        if before == now {
            return;
        }
        self.reports_stale = true;
        for why in before {
            if let Some(objects) = self.refused.get_mut(why) {
                objects.remove(object);
                if objects.is_empty() {
                    self.refused.remove(why);
                }
            }
        }
        for why in now {
            self.refused.entry(why.clone()).or_default().insert(object.clone());
        }
    }

    fn believed_slice(&self, slice: &EndpointSlice) -> EndpointSlice {
        let counts = |endpoint: &&Endpoint| {
            let Some(target) = &endpoint.target else { return true };
            let pod = self.pods.get(&target.pod);
            let pod = pod.filter(|it| target.uid.is_empty() || target.uid == it.pod.uid);
            let is_there = |it: &Known| endpoint.node.as_ref().is_none_or(|node| *node == it.pod.node);
            pod.is_some_and(|it| it.ips.contains(&endpoint.address) && is_there(it))
        };
        let endpoints = slice.endpoints.iter().filter(counts);
        let endpoints = endpoints.map(|it| Endpoint { target: None, ..it.clone() }).collect();
        EndpointSlice {
            name: slice.name.clone(),
            service: slice.service.clone(),
            endpoints,
            ports: slice.ports.clone(),
            fault: None,
            is_cut: slice.is_cut,
        }
    }
}

fn complaint(slice: &EndpointSlice) -> Option<Disbelief> {
    slice.fault.as_ref().map(|_| Disbelief::Unreadable { node: None })
}
