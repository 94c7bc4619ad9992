//! The pods that a selector can mean, by class: those of one namespace with the same labels. A selector is asked once
//! for a class, and a pod of another node costs its name, its addresses and two numbers.
//!
//! Maps are trees: a hash table of a cluster's pods is copied whole when it must grow.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::holders::Holders;
use super::ids::{ClassId, SetId, Slot};
use super::network::{ByNetwork, NetworkId, NetworkIp};
use crate::policy::model::{Labels, NamedPort, ObjectName, Pod};

/// A pod with an address that is its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub class: ClassId,
    pub ips: Box<[NetworkIp]>,
    pub ports: Arc<[NamedPort]>,
}

impl Member {
    pub fn has_addresses_of(&self, pod: &Pod) -> bool {
        self.ips.iter().copied().eq(NetworkIp::of_pod(pod))
    }
}

#[derive(Debug)]
pub struct Class {
    pub namespace: Arc<str>,
    pub labels: Labels,
    /// The sets of addresses that these pods are in.
    pub sets: Vec<SetId>,
    members: Vec<Slot>,
}

#[derive(Debug, Default)]
pub struct Pods {
    by_name: BTreeMap<Arc<str>, BTreeMap<Box<str>, Slot>>,
    slots: Vec<Option<Member>>,
    free: Vec<Slot>,
    classes: BTreeMap<ClassId, Class>,
    class_ids: BTreeMap<Arc<str>, BTreeMap<Labels, ClassId>>,
    next_class: u32,
    holders: ByNetwork<Holders>,
    ports: HashSet<Arc<[NamedPort]>>,
}

impl Pods {
    pub fn get(&self, name: &ObjectName) -> Option<&Member> {
        self.member(*self.by_name.get(&name.namespace)?.get(&*name.name)?)
    }

    fn member(&self, slot: Slot) -> Option<&Member> {
        self.slots.get(usize::try_from(slot.0).ok()?)?.as_ref()
    }

    pub fn names(&self) -> impl Iterator<Item = ObjectName> {
        self.by_name.iter().flat_map(|(namespace, names)| {
            names.keys().map(|name| ObjectName::new(namespace.clone(), &**name))
        })
    }

    pub fn class(&self, id: ClassId) -> Option<&Class> {
        self.classes.get(&id)
    }

    pub fn class_mut(&mut self, id: ClassId) -> Option<&mut Class> {
        self.classes.get_mut(&id)
    }

    pub fn classes(&self) -> impl Iterator<Item = (ClassId, &Class)> {
        self.classes.iter().map(|(id, class)| (*id, class))
    }

    pub fn classes_of(&self, namespace: &str) -> impl Iterator<Item = ClassId> {
        self.class_ids.get(namespace).into_iter().flat_map(|it| it.values().copied())
    }

    pub fn members(&self, class: ClassId) -> impl Iterator<Item = &Member> {
        let slots = self.classes.get(&class).map(|it| it.members.as_slice()).unwrap_or_default();
        slots.iter().filter_map(|slot| self.member(*slot))
    }

    /// Those that have this address.
    pub fn holders(&self, NetworkIp { network, ip }: NetworkIp) -> impl Iterator<Item = &Member> {
        let holders = self.holders.get(&network).into_iter().flat_map(move |it| it.of(ip));
        holders.filter_map(|slot| self.member(slot))
    }

    /// The same, where they are several: nobody is left to an address of one pod that is alone with it.
    pub fn sharers(&self, at: NetworkIp) -> impl Iterator<Item = &Member> {
        let are_several = self.holders.get(&at.network).is_some_and(|it| it.are_several(at.ip));
        are_several.then(|| self.holders(at)).into_iter().flatten()
    }

    /// On which a pod has or had an address.
    pub fn networks(&self) -> impl Iterator<Item = NetworkId> {
        self.holders.keys().copied()
    }

    /// Is it what we have?
    pub fn is_same(&self, pod: &Pod) -> bool {
        match self.get(&pod.name) {
            None => !is_selectable(pod),
            Some(member) => {
                is_selectable(pod)
                    && member.has_addresses_of(pod)
                    && member.ports == pod.ports
                    && self.class(member.class).is_some_and(|class| class.labels == pod.labels)
            }
        }
    }

    /// Of a pod that is not there. Says whether its class is new; `None`: no selector means it.
    pub fn insert(&mut self, pod: &Pod) -> Option<(ClassId, bool)> {
        if !is_selectable(pod) {
            return None;
        }
        let namespace = match self.by_name.get_key_value(&pod.name.namespace) {
            Some((known, _)) => known.clone(),
            None => pod.name.namespace.clone(),
        };
        let ports = self.ports.get(&pod.ports).unwrap_or(&pod.ports).clone();
        self.ports.insert(ports.clone());
        let known = self.class_ids.get(&namespace).and_then(|it| it.get(&pod.labels)).copied();
        let class = known.unwrap_or_else(|| {
            let id = ClassId(self.next_class);
            self.next_class += 1;
            let class = Class {
                namespace: namespace.clone(),
                labels: pod.labels.clone(),
                sets: Vec::new(),
                members: Vec::new(),
            };
            self.classes.insert(id, class);
            self.class_ids.entry(namespace.clone()).or_default().insert(pod.labels.clone(), id);
            id
        });
        let member = Some(Member { class, ips: NetworkIp::of_pod(pod).collect(), ports });
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            Slot(u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX))
        });
        if let Some(place) = usize::try_from(slot.0).ok().and_then(|at| self.slots.get_mut(at)) {
            *place = member;
        }
        for NetworkIp { network, ip } in NetworkIp::of_pod(pod) {
            self.holders.entry(network).or_default().insert(ip, slot);
        }
        if let Some(class) = self.classes.get_mut(&class) {
            class.members.push(slot);
        }
        self.by_name.entry(namespace).or_default().insert((*pod.name.name).into(), slot);
        Some((class, known.is_none()))
    }

    /// Its class stays, perhaps empty: see [`Self::forget_if_empty`].
    pub fn remove(&mut self, name: &ObjectName) -> Option<Member> {
        let names = self.by_name.get_mut(&name.namespace)?;
        let slot = names.remove(&*name.name)?;
        if names.is_empty() {
            self.by_name.remove(&name.namespace);
        }
        let member = self.slots.get_mut(usize::try_from(slot.0).ok()?)?.take()?;
        self.free.push(slot);
        for NetworkIp { network, ip } in &member.ips {
            if let Some(holders) = self.holders.get_mut(network) {
                holders.remove(*ip, slot);
            }
        }
        if let Some(class) = self.classes.get_mut(&member.class)
            && let Some(at) = class.members.iter().position(|it| *it == slot)
        {
            class.members.swap_remove(at);
        }
        if Arc::strong_count(&member.ports) == 2 {
            self.ports.remove(&member.ports);
        }
        Some(member)
    }

    /// The sets that a class was in, if that was its last pod.
    pub fn forget_if_empty(&mut self, id: ClassId) -> Vec<SetId> {
        if self.classes.get(&id).is_none_or(|class| !class.members.is_empty()) {
            return Vec::new();
        }
        let Some(class) = self.classes.remove(&id) else { return Vec::new() };
        if let Some(ids) = self.class_ids.get_mut(&class.namespace) {
            ids.remove(&class.labels);
            if ids.is_empty() {
                self.class_ids.remove(&class.namespace);
            }
        }
        class.sets
    }

    pub fn ips_of_class(&self, class: ClassId) -> BTreeSet<NetworkIp> {
        self.members(class).flat_map(|it| it.ips.iter().copied()).collect()
    }
}

/// On the host's network its addresses are the node's, which no selector means: so does ovn-kubernetes, and Calico,
/// which has no endpoint for it. Once finished, its addresses may be another's.
fn is_selectable(pod: &Pod) -> bool {
    pod.is_networked() && !pod.ips.is_empty() && pod.unkept.is_none()
}
