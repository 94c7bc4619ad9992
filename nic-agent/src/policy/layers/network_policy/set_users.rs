//! Which policies must be looked at again when a set of addresses is another.

use std::collections::{BTreeMap, BTreeSet};

use super::program::Program;
use crate::policy::index::SetId;
use crate::policy::model::ObjectName;

/// Policies that are in force here, by the sets in their rules.
#[derive(Debug, Default)]
pub struct SetUsers(BTreeMap<SetId, BTreeSet<ObjectName>>);

impl SetUsers {
    pub fn of(&self, id: SetId) -> impl Iterator<Item = &ObjectName> {
        self.0.get(&id).into_iter().flatten()
    }

    pub fn insert(&mut self, policy: &ObjectName, program: &Program) {
        for id in program.sets() {
            self.0.entry(id).or_default().insert(policy.clone());
        }
    }

    pub fn remove(&mut self, policy: &ObjectName, program: &Program) {
        for id in program.sets() {
            if let Some(users) = self.0.get_mut(&id) {
                users.remove(policy);
                if users.is_empty() {
                    self.0.remove(&id);
                }
            }
        }
    }
}
