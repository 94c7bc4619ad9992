//! EndpointSlices: what is behind a Service's address.

use std::collections::HashSet;

use serde_json::Value;

use super::{Resource, Watched, clear_lists, read};
use crate::cluster::receivers::Receivers;
use crate::policy::{Change, EndpointSlice, ObjectKind, ObjectName};

#[derive(Debug, Clone)]
pub struct EndpointSlices;

impl Watched for EndpointSlices {
    const RESOURCE: Resource = Resource {
        group: "discovery.k8s.io",
        version: "v1",
        name: "EndpointSlice",
        plural: "endpointslices",
    };

    type Kept = EndpointSlice;

    fn read(object: &Value) -> Result<Self::Kept, serde_json::Error> {
        read(object)
    }

    fn read_cut(object: &mut Value) -> Result<Self::Kept, String> {
        clear_lists(object, &["/endpoints", "/ports"]);
        let slice = Self::read(object).map_err(|e| e.to_string())?;
        Ok(EndpointSlice { is_cut: true, ..slice })
    }

    fn put(_: ObjectName, kept: Self::Kept, receivers: &mut Receivers) {
        receivers.policy.put(Change::EndpointSlice(kept));
    }

    fn remove(name: ObjectName, _: &str, receivers: &mut Receivers) {
        receivers.policy.put(Change::EndpointSliceGone(name));
    }

    fn retain(listed: &HashSet<ObjectName>, receivers: &mut Receivers) {
        receivers.policy.only(ObjectKind::EndpointSlice, listed);
    }
}
