//! The cluster's policies, by namespace: who asks for those of a pod walks past none of other namespaces, however many
//! there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::PolicyEntry;
use crate::policy::model::ObjectName;

#[derive(Debug, Default)]
pub struct Policies {
    by_namespace: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Box<PolicyEntry>>>,
}

impl Policies {
    pub fn get(&self, name: &ObjectName) -> Option<&PolicyEntry> {
        self.by_namespace.get(&name.namespace)?.get(&name.name).map(|it| &**it)
    }

    pub fn get_mut(&mut self, name: &ObjectName) -> Option<&mut PolicyEntry> {
        self.by_namespace.get_mut(&name.namespace)?.get_mut(&name.name).map(|it| &mut **it)
    }

    /// By name.
    pub fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &PolicyEntry> {
        self.by_namespace.get(namespace).into_iter().flat_map(|it| it.values().map(|it| &**it))
    }

    /// Those of these names, which are of one namespace: it is looked up once.
    pub fn some_of_one<'a>(
        &self,
        names: impl IntoIterator<Item = &'a ObjectName>,
    ) -> impl Iterator<Item = &PolicyEntry> {
        let mut names = names.into_iter().peekable();
        let of_namespace = names.peek().and_then(|it| self.by_namespace.get(&it.namespace));
        let found = of_namespace.map(|all| names.filter_map(|it| all.get(&it.name).map(|it| &**it)));
        found.into_iter().flatten()
    }

    pub fn names(&self) -> impl Iterator<Item = &ObjectName> {
        self.by_namespace.values().flat_map(|it| it.values().map(|it| &it.policy.name))
    }

    pub fn insert(&mut self, entry: PolicyEntry) {
        let ObjectName { namespace, name } = entry.policy.name.clone();
        self.by_namespace.entry(namespace).or_default().insert(name, Box::new(entry));
    }

    pub fn remove(&mut self, name: &ObjectName) -> Option<PolicyEntry> {
        let names = self.by_namespace.get_mut(&name.namespace)?;
        let entry = names.remove(&name.name)?;
        if names.is_empty() {
            self.by_namespace.remove(&name.namespace);
        }
        Some(*entry)
    }
}
