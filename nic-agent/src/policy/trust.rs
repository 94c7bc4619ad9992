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
//! What follows is the same in whatever order things are said. It waits for [`Trust::flush`], so that many words on one pod
//! cost one.

mod believe;
mod interner;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::model::{
    AddressKind, Confirmed, Endpoint, EndpointSlice, Labels, NamedPort, NicNode, ObjectName, Pod,
    PodAttachment, Word,
};
use super::report::{Disbelief, Report};
use super::snapshot::{Change, ObjectKind, WordKind};
use interner::Interner;

/// What this NIC holds: addresses by its pods' uids.
pub type Held = Arc<BTreeMap<Arc<str>, Vec<IpAddr>>>;

#[derive(Debug)]
pub struct Trust {
    /// This NIC's.
    node: Arc<str>,
    pods: HashMap<ObjectName, Known>,
    held: Held,
    /// This node's pods, by uid.
    own: HashMap<Arc<str>, ObjectName>,
    attachments: HashMap<ObjectName, PodAttachment>,
    /// Names of attachments, by the pod that they name.
    attached: HashMap<ObjectName, BTreeSet<ObjectName>>,
    nics: BTreeMap<Arc<str>, NicNode>,
    /// By the node that they name.
    with_nic: HashMap<Arc<str>, Nics>,
    confirmed: HashMap<Arc<str>, Confirmed>,
    /// Uids of the Nodes that there are.
    nodes: HashMap<Arc<str>, Arc<str>>,
    /// Those that name a Service.
    slices: HashMap<ObjectName, EndpointSlice>,
    /// Names of slices, by the pods that they name.
    naming: HashMap<ObjectName, HashSet<ObjectName>>,
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
}

impl Trust {
    pub fn new(node: Arc<str>) -> Self {
        Self {
            node,
            pods: HashMap::new(),
            held: Held::default(),
            own: HashMap::new(),
            attachments: HashMap::new(),
            attached: HashMap::new(),
            nics: BTreeMap::new(),
            with_nic: HashMap::new(),
            confirmed: HashMap::new(),
            nodes: HashMap::new(),
            slices: HashMap::new(),
            naming: HashMap::new(),
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

    pub fn hear(&mut self, word: Word) {
        match word {
            Word::Attachment(attachment) => {
                let name = &attachment.name;
                if self.attachments.get(name) == Some(&attachment) {
                    return;
                }
                self.remove_attachment(&name.clone());
                self.dirt.pods.insert(attachment.pod.clone());
                self.attached.entry(attachment.pod.clone()).or_default().insert(name.clone());
                self.attachments.insert(name.clone(), attachment);
            }
            Word::AttachmentGone(name) => self.remove_attachment(&name),
            Word::Nic(nic) => {
                if self.nics.get(&nic.name) == Some(&nic) {
                    return;
                }
                self.remove_nic(&nic.name);
                let nics = self.with_nic.entry(nic.node.clone()).or_default();
                nics.count += 1;
                nics.allowing += usize::from(nic.static_pods);
                self.dirt.nodes.insert(nic.node.clone());
                self.nics.insert(nic.name.clone(), nic);
            }
            Word::NicGone(name) => self.remove_nic(&name),
            Word::Range(range) => {
                let before = match range.confirmed.clone() {
                    Some(confirmed) => self.confirmed.insert(range.node.clone(), confirmed),
                    None => self.confirmed.remove(&range.node),
                };
                if before != range.confirmed {
                    self.dirt.nodes.insert(range.node);
                }
            }
            Word::RangeGone(node) => {
                if self.confirmed.remove(&node).is_some() {
                    self.dirt.nodes.insert(node);
                }
            }
            Word::Node(node) => {
                if self.nodes.get(&node.name) != Some(&node.uid) {
                    self.dirt.nodes.insert(node.name.clone());
                    self.nodes.insert(node.name, node.uid);
                }
            }
            Word::NodeGone(name) => {
                if self.nodes.remove(&name).is_some() {
                    self.dirt.nodes.insert(name);
                }
            }
        }
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

    /// As [`Self::only`]; of an object of the cluster's the name is in `name`.
    pub fn only_words(&mut self, kind: WordKind, listed: &HashSet<ObjectName>) {
        let is_gone = |name: &Arc<str>| !listed.contains(&ObjectName::new("", name.clone()));
        let words: Vec<Word> = match kind {
            WordKind::Attachment => {
                let gone = self.attachments.keys().filter(|it| !listed.contains(*it));
                gone.cloned().map(Word::AttachmentGone).collect()
            }
            WordKind::Nic => self.nics.keys().filter(|it| is_gone(it)).cloned().map(Word::NicGone).collect(),
            WordKind::Range => {
                self.confirmed.keys().filter(|it| is_gone(it)).cloned().map(Word::RangeGone).collect()
            }
            WordKind::Node => {
                self.nodes.keys().filter(|it| is_gone(it)).cloned().map(Word::NodeGone).collect()
            }
        };
        for word in words {
            self.hear(word);
        }
    }

    /// What follows from all that was taken in since this was last called.
    pub fn flush(&mut self) -> Vec<Change> {
        let mut dirt = std::mem::take(&mut self.dirt);
        if !dirt.nodes.is_empty() {
            let of_nodes = self.pods.iter().filter(|(_, it)| dirt.nodes.contains(&it.pod.node));
            dirt.pods.extend(of_nodes.map(|(name, _)| name.clone()));
        }
        let mut changes = Vec::with_capacity(dirt.pods.len());
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
                self.own.remove(&old.pod.uid);
                (old.ips, old.disbelief)
            }
            None => Default::default(),
        };
        if pod.node == self.node {
            self.own.insert(pod.uid.clone(), name.clone());
        }
        self.pods.insert(name.clone(), Known { pod, ips, disbelief });
        self.dirt.pods.insert(name);
    }

    fn remove_pod(&mut self, name: &ObjectName) {
        let Some(known) = self.pods.remove(name) else { return };
        self.own.remove(&known.pod.uid);
        self.complain(name, &known.disbelief, &[]);
        self.dirt.slices.extend(self.naming.get(name).into_iter().flatten().cloned());
        self.dirt.pods.insert(name.clone());
    }

    fn remove_attachment(&mut self, name: &ObjectName) {
        let Some(old) = self.attachments.remove(name) else { return };
        if let Some(names) = self.attached.get_mut(&old.pod) {
            names.remove(name);
            if names.is_empty() {
                self.attached.remove(&old.pod);
            }
        }
        self.dirt.pods.insert(old.pod);
    }

    fn remove_nic(&mut self, name: &str) {
        let Some(nic) = self.nics.remove(name) else { return };
        if let Some(nics) = self.with_nic.get_mut(&nic.node) {
            nics.count -= 1;
            nics.allowing -= usize::from(nic.static_pods);
            if nics.count == 0 {
                self.with_nic.remove(&nic.node);
            }
        }
        self.dirt.nodes.insert(nic.node);
    }

    fn put_slice(&mut self, mut slice: EndpointSlice) {
        if slice.service.is_none() {
            return self.remove_slice(&slice.name);
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
        let of = |endpoint: &Endpoint| {
            let mut addresses = endpoint.addresses.clone();
            if let Some(target) = &endpoint.target {
                let pod = self.pods.get(&target.pod);
                let pod = pod.filter(|it| target.uid.is_empty() || target.uid == it.pod.uid);
                addresses.retain(|ip| pod.is_some_and(|it| it.ips.contains(ip)));
            }
            (!addresses.is_empty()).then_some(Endpoint { addresses, ready: endpoint.ready, target: None })
        };
        let endpoints = match slice.kind {
            AddressKind::Ip => slice.endpoints.iter().filter_map(of).collect(),
            AddressKind::Fqdn => Vec::new(),
        };
        EndpointSlice { endpoints, unreadable: None, ..slice.clone() }
    }
}

fn complaint(slice: &EndpointSlice) -> Option<Disbelief> {
    slice.unreadable.as_ref().map(|_| Disbelief::Unreadable { node: None })
}
