//! Pods that come, go, or are others than before: in the sets of peers, and among those of this node.

use std::collections::BTreeSet;

use super::ids::SetId;
use super::{Compiler, Dirt, Local};
use crate::policy::model::{ObjectName, Pod};

impl Compiler {
    pub(super) fn put_pod(&mut self, pod: Pod, dirt: &mut Dirt) {
        if !self.pods.is_same(&pod) {
            self.move_peer(&pod.name, Some(&pod), dirt);
        }
        let is_local = pod.node == self.settings.node && pod.is_networked();
        match self.locals.get_mut(&pod.name) {
            Some(local) if is_local && local.pod == pod => {}
            Some(local) if is_local && local.pod.uid == pod.uid => {
                dirt.reselect.insert(pod.name.clone());
                local.pod = pod;
            }
            known => {
                if known.is_some() {
                    self.unlocal(&pod.name, dirt);
                }
                if is_local {
                    dirt.reselect.insert(pod.name.clone());
                    let local = Local {
                        pod,
                        selected_by: BTreeSet::new(),
                        group: None,
                        own: BTreeSet::new(),
                        compiled: None,
                        excess: Vec::new(),
                    };
                    self.locals.insert(local.pod.name.clone(), local);
                }
            }
        }
    }

    /// Takes what was known of a pod from the sets of peers that it was in, and puts what is known now into those that it is
    /// in. A set that it stays in with the same addresses and ports is left alone, and so is all that is made of it: most
    /// labels are nobody's peers.
    pub(super) fn move_peer(&mut self, name: &ObjectName, pod: Option<&Pod>, dirt: &mut Dirt) {
        let old = self.pods.remove(name);
        let old_sets: BTreeSet<SetId> = (old.iter().filter_map(|it| self.pods.class(it.class)))
            .flat_map(|it| it.sets.iter().copied())
            .collect();
        let new_sets = pod.map(|it| self.admit(it)).unwrap_or_default();
        let is_as_it_was =
            old.as_ref().zip(pod).is_some_and(|(old, new)| *old.ips == *new.ips && old.ports == new.ports);
        let stays = |id: &SetId| is_as_it_was && old_sets.contains(id) && new_sets.contains(id);
        // The pods are all where they belong by now: an address that another one has, or this one still, stays.
        if let Some(old) = &old {
            for id in old_sets.iter().filter(|id| !stays(id)) {
                if let Some(set) = self.sets.get_mut(*id) {
                    set.drop(old, |ip| self.pods.holders(ip));
                }
                dirt.sets.insert(*id);
            }
        }
        for id in new_sets.iter().filter(|id| !stays(id)) {
            if let (Some(set), Some(pod)) = (self.sets.get_mut(*id), pod) {
                set.add(&pod.ips, &pod.ports);
            }
            dirt.sets.insert(*id);
        }
        // What Services' rules have to do with these is asked only where a set is another.
        dirt.ips.extend(old.iter().flat_map(|it| it.ips.iter().copied()));
        dirt.ips.extend(pod.iter().flat_map(|it| it.ips.iter().copied()));
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

    pub(super) fn unlocal(&mut self, name: &ObjectName, dirt: &mut Dirt) {
        let Some(local) = self.locals.remove(name) else { return };
        dirt.reselect.remove(name);
        dirt.affected.insert(local.pod.uid.clone());
        if let Some(compiled) = &local.compiled {
            self.shared.release(compiled);
        }
        for policy in &local.selected_by {
            if let Some(stated) = self.policies.get_mut(policy) {
                stated.users.remove(name);
                // Its program goes when the dust has settled; while it has others, nothing about it is another.
                if stated.users.is_empty() {
                    dirt.restated.insert(policy.clone());
                }
            }
        }
        self.leave_group(name, local.group.as_ref());
    }

    pub(super) fn leave_group(&mut self, pod: &ObjectName, key: Option<&Vec<ObjectName>>) {
        let Some(key) = key else { return };
        let Some(group) = self.groups.get_mut(key) else { return };
        group.users.remove(pod);
        if group.users.is_empty() {
            self.groups.remove(key);
        }
    }

    pub(super) fn relabel(&mut self, namespace: &str, dirt: &mut Dirt) {
        let (sets, classes) = self.sets.relabel(namespace, &mut self.pods, &self.namespaces);
        dirt.sets.extend(sets);
        for class in classes {
            dirt.ips.extend(self.pods.ips_of_class(class));
        }
    }
}
