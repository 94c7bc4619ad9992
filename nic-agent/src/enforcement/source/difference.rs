//! What happened between two snapshots, object by object.

use std::collections::BTreeMap;

use crate::policy::{Change, Snapshot};

/// The changes that make `new` of `old`.
pub fn between(old: &Snapshot, new: &Snapshot) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut kind = Changes { into: &mut changes };
    kind.of(&old.namespaces, &new.namespaces, |it| &it.name, Change::Namespace, Change::NamespaceGone);
    kind.of(&old.pods, &new.pods, |it| &it.name, Change::Pod, Change::PodGone);
    kind.of(&old.services, &new.services, |it| &it.name, Change::Service, Change::ServiceGone);
    kind.of(&old.slices, &new.slices, |it| &it.name, Change::EndpointSlice, Change::EndpointSliceGone);
    kind.of(&old.policies, &new.policies, |it| &it.name, Change::Policy, Change::PolicyGone);
    changes
}

struct Changes<'a> {
    into: &'a mut Vec<Change>,
}

impl Changes<'_> {
    fn of<T: Clone + PartialEq, N: Clone + Ord>(
        &mut self,
        old: &[T],
        new: &[T],
        name: impl Fn(&T) -> &N,
        put: impl Fn(T) -> Change,
        gone: impl Fn(N) -> Change,
    ) {
        // Of two objects of one name the last counts.
        let by_name =
            |all: &[T]| -> BTreeMap<N, T> { all.iter().map(|it| (name(it).clone(), it.clone())).collect() };
        let (old, new) = (by_name(old), by_name(new));
        self.into.extend(old.keys().filter(|name| !new.contains_key(*name)).cloned().map(gone));
        let changed = new.into_iter().filter(|(name, it)| old.get(name) != Some(it));
        self.into.extend(changed.map(|(_, it)| put(it)));
    }
}
