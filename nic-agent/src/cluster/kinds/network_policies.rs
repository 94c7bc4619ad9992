//! NetworkPolicies.

use std::collections::HashSet;

use serde_json::Value;

use super::{Resource, Watched, clear_lists, read};
use crate::cluster::receivers::Receivers;
use crate::policy::{Change, ObjectKind, ObjectName, Policy};

#[derive(Debug, Clone)]
pub struct NetworkPolicies;

impl Watched for NetworkPolicies {
    const RESOURCE: Resource = Resource {
        group: "networking.k8s.io",
        version: "v1",
        name: "NetworkPolicy",
        plural: "networkpolicies",
    };

    type Kept = Policy;

    fn read(object: &Value) -> Result<Self::Kept, serde_json::Error> {
        read(object)
    }

    fn read_cut(object: &mut Value) -> Result<Self::Kept, String> {
        clear_lists(object, &["/spec/ingress", "/spec/egress"]);
        let mut policy = Self::read(object).or_else(|_| {
            // Its selector was cut, too: everybody in the namespace, rather than nobody.
            if let Some(selector) = object.pointer_mut("/spec/podSelector") {
                *selector = Value::Null;
            }
            Self::read(object).map_err(|e| e.to_string())
        })?;
        policy.cut();
        Ok(policy)
    }

    fn put(_: ObjectName, kept: Self::Kept, receivers: &mut Receivers) {
        receivers.policy.put(Change::Policy(kept));
    }

    fn remove(name: ObjectName, _: &str, receivers: &mut Receivers) {
        receivers.policy.put(Change::PolicyGone(name));
    }

    fn retain(listed: &HashSet<ObjectName>, receivers: &mut Receivers) {
        receivers.policy.only(ObjectKind::Policy, listed);
    }
}
