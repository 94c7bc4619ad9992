//! Services: their addresses and ports.

use std::collections::HashSet;

use serde_json::Value;

use super::{Resource, Watched, clear_lists, read};
use crate::cluster::receivers::Receivers;
use crate::policy::{Change, ObjectKind, ObjectName, Policy, Service};

#[derive(Debug, Clone)]
pub struct Services;

impl Watched for Services {
    const RESOURCE: Resource = Resource { group: "", version: "v1", name: "Service", plural: "services" };

    type Kept = Service;

    fn read(object: &Value) -> Result<Self::Kept, serde_json::Error> {
        read(object)
    }

    fn read_cut(object: &mut Value) -> Result<Self::Kept, String> {
        clear_lists(object, &["/spec/ports"]);
        let service = Self::read(object).map_err(|e| e.to_string())?;
        Ok(Service { ports_found: Policy::MOST_ITEMS + 1, ..service })
    }

    fn put(_: ObjectName, kept: Self::Kept, receivers: &mut Receivers) {
        receivers.policy.put(Change::Service(kept));
    }

    fn remove(name: ObjectName, _: &str, receivers: &mut Receivers) {
        receivers.policy.put(Change::ServiceGone(name));
    }

    fn retain(listed: &HashSet<ObjectName>, receivers: &mut Receivers) {
        receivers.policy.only(ObjectKind::Service, listed);
    }
}
