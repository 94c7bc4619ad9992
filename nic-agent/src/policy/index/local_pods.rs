//! Pods that come, go, or are others than before: in the sets of addresses, and among those of this node.

use std::collections::BTreeSet;

use super::ids::SetId;
use super::network::NetworkIp;
use super::services::{FrontId, Services};
use super::{Index, Touched};
use crate::policy::model::{ObjectName, Pod};

/// A pod of this node that has addresses of its own.
#[derive(Debug)]
pub struct LocalPod {
    pub pod: Pod,
    /// Services' ports that it is a backend of.
    pub fronts: BTreeSet<FrontId>,
}

impl Index {
    pub fn local_pod(&self, name: &ObjectName) -> Option<&LocalPod> {
        self.local_pods.get(name)
    }

    /// Names of this node's pods in a namespace.
    pub fn local_pods_of(&self, namespace: &str) -> impl Iterator<Item = &ObjectName> {
        let from_first = self.local_pods.range(ObjectName::new(namespace, "")..);
        from_first.map(|(name, _)| name).take_while(move |it| *it.namespace == *namespace)
    }

    /// Returns the pod of this node of which that is the end: one of the same name may be another.
    pub fn put_pod(&mut self, pod: Pod) -> Option<LocalPod> {
        if !self.pods.is_same(&pod) {
            self.move_pod(&pod.name, Some(&pod));
        }
        let is_local = pod.node == self.node && pod.is_networked();
        match self.local_pods.get_mut(&pod.name) {
            Some(local) if is_local && local.pod == pod => None,
            Some(local) if is_local && local.pod.uid == pod.uid => {
                self.touched.pods.insert(pod.name.clone());
                local.pod = pod;
                None
            }
            _ => {
                let gone = self.remove_local_pod(&pod.name);
                if is_local {
                    self.touched.pods.insert(pod.name.clone());
                    self.local_pods.insert(pod.name.clone(), LocalPod { pod, fronts: BTreeSet::new() });
                }
                gone
            }
        }
    }

    /// As [`Self::put_pod`].
    pub fn remove_pod(&mut self, name: &ObjectName) -> Option<LocalPod> {
        self.move_pod(name, None);
        self.remove_local_pod(name)
    }

    fn remove_local_pod(&mut self, name: &ObjectName) -> Option<LocalPod> {
        let gone = self.local_pods.remove(name)?;
        self.touched.pods.remove(name);
        Some(gone)
    }

    /// Takes what was known of a pod from the sets that it was in, and puts what is known now into those that it is in. A set
    /// that it stays in with the same addresses and ports is left alone, and so is all that is made of it: most labels are
    /// selected by nobody.
    fn move_pod(&mut self, name: &ObjectName, pod: Option<&Pod>) {
        let old = self.pods.remove(name);
        let old_sets: BTreeSet<SetId> = (old.iter().filter_map(|it| self.pods.class(it.class)))
            .flat_map(|it| it.sets.iter().copied())
            .collect();
        let new_sets = pod.map(|it| self.admit(it)).unwrap_or_default();
        let is_as_it_was = old
            .as_ref()
            .zip(pod)
            .is_some_and(|(old, new)| old.has_addresses_of(new) && old.ports == new.ports);
        let stays = |id: &SetId| is_as_it_was && old_sets.contains(id) && new_sets.contains(id);
        // The pods are all where they belong by now: an address that another one has, or this one still, stays.
        if let Some(old) = &old {
            for id in old_sets.iter().filter(|id| !stays(id)) {
                if let Some(set) = self.sets.get_mut(*id) {
                    set.drop(old, |ip| self.pods.holders(ip));
                }
                self.touched.sets.insert(*id);
            }
        }
        for id in new_sets.iter().filter(|id| !stays(id)) {
            if let (Some(set), Some(pod)) = (self.sets.get_mut(*id), pod) {
                set.add(NetworkIp::of_pod(pod), &pod.ports);
            }
            self.touched.sets.insert(*id);
        }
        // Which Services have to do with these is asked only where a set is another.
        self.touched.ips.extend(old.iter().flat_map(|it| it.ips.iter().copied()));
        self.touched.ips.extend(pod.into_iter().flat_map(NetworkIp::of_pod));
        if let Some(old) = old {
            let emptied = self.pods.forget_if_empty(old.class);
            self.sets.expel(old.class, &emptied);
        }
    }

    /// Its sets, once it is among the pods.
    fn admit(&mut self, pod: &Pod) -> BTreeSet<SetId> {
        let Some((id, is_new)) = self.pods.insert(pod) else { return BTreeSet::new() };
        let Some(class) = self.pods.class_mut(id) else { return BTreeSet::new() };
        if is_new {
            self.sets.admit(id, class, &self.namespaces);
        }
        class.sets.iter().copied().collect()
    }

    /// Of the pods that were touched, and of those whose addresses were or are behind a Service that was.
    pub(super) fn refresh_fronts(&mut self, touched: &mut Touched) {
        for name in &touched.pods {
            if let Some(local) = self.local_pods.get_mut(name) {
                local.fronts = fronts_of(&local.pod, &self.services);
            }
        }
        let backends = &touched.services.backends;
        if backends.is_empty() {
            return;
        }
        for (name, local) in &mut self.local_pods {
            if NetworkIp::of_pod(&local.pod).any(|it| backends.contains(&it)) {
                local.fronts = fronts_of(&local.pod, &self.services);
                touched.backends.insert(name.clone());
            }
        }
    }
}

fn fronts_of(pod: &Pod, services: &Services) -> BTreeSet<FrontId> {
    NetworkIp::of_pod(pod).flat_map(|it| services.with_backend(it)).collect()
}
