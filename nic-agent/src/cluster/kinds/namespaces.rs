//! Namespaces: their labels, by which policies select.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

use super::{Resource, Watched, read};
use crate::cluster::receivers::Receivers;
use crate::policy::{Change, Namespace, ObjectKind, ObjectName};

#[derive(Debug, Clone)]
pub struct Namespaces;

impl Watched for Namespaces {
    const RESOURCE: Resource = Resource { group: "", version: "v1", name: "Namespace", plural: "namespaces" };

    type Kept = Namespace;

    fn read(object: &Value) -> Result<Self::Kept, serde_json::Error> {
        read(object)
    }

    fn owner(name: &ObjectName) -> &Arc<str> {
        &name.name
    }

    fn put(_: ObjectName, kept: Self::Kept, receivers: &mut Receivers) {
        receivers.policy.put(Change::Namespace(kept));
    }

    fn remove(name: ObjectName, _: &str, receivers: &mut Receivers) {
        receivers.policy.put(Change::NamespaceGone(name.name));
    }

    fn retain(listed: &HashSet<ObjectName>, receivers: &mut Receivers) {
        receivers.policy.only(ObjectKind::Namespace, listed);
    }
}
