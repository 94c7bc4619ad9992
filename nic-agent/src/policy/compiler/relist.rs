//! What a complete list of a kind leaves out.

use std::collections::HashSet;

use super::Compiler;
use crate::policy::model::ObjectName;
use crate::policy::snapshot::{Change, ObjectKind};

impl Compiler {
    /// The changes that take away the objects of this kind that are known and are not among these. A namespace's name is
    /// in `name`. What is staged counts.
    pub fn missing(&self, kind: ObjectKind, listed: &HashSet<ObjectName>) -> Vec<Change> {
        let gone = |name: &ObjectName| !listed.contains(name);
        match kind {
            ObjectKind::Pod => {
                // A pod without an address is no peer, but may be one of ours.
                let ours = self.locals.keys().filter(|it| self.pods.get(it).is_none()).cloned();
                self.pods.names().chain(ours).filter(gone).map(Change::PodGone).collect()
            }
            ObjectKind::Namespace => {
                let names = self.namespaces.keys();
                let gone = names.filter(|it| gone(&ObjectName::new("", (*it).clone())));
                gone.cloned().map(Change::NamespaceGone).collect()
            }
            ObjectKind::Policy => {
                self.policies.names().filter(|it| gone(it)).cloned().map(Change::PolicyGone).collect()
            }
            ObjectKind::Service => {
                self.services.names().filter(|it| gone(it)).cloned().map(Change::ServiceGone).collect()
            }
            ObjectKind::EndpointSlice => {
                let names = self.services.slice_names();
                names.filter(|it| gone(it)).cloned().map(Change::EndpointSliceGone).collect()
            }
        }
    }
}
