//! A PodAttachment as the API has it, whoever wrote what into it.

use std::borrow::Cow;

use drawbridge_api::{PodAttachment, PodAttachmentSpec, PodReference, Vf};
use kube::Resource;
use kube::core::{NamespaceResourceScope, ObjectMeta};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Reading one never fails: it would keep the others of its list from being seen. A spec that makes no sense is one that
/// is not wanted, and a status that makes none is none, so both are put right.
#[derive(Debug, Clone)]
pub struct OwnAttachment(pub PodAttachment);

impl<'de> Deserialize<'de> for OwnAttachment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(from)?;
        let mut part = |name: &str| object.get_mut(name).map(Value::take).unwrap_or_default();
        let (metadata, spec, status) = (part("metadata"), part("spec"), part("status"));
        let node_name = spec.get("nodeName").and_then(Value::as_str).unwrap_or_default().to_owned();
        let nothing = || PodAttachmentSpec {
            pod: PodReference { name: String::new(), uid: String::new() },
            interface: String::new(),
            node_name,
            vf: Vf { pf: 0, vf: 0 },
        };
        let mut attachment =
            PodAttachment::new("", PodAttachmentSpec::deserialize(spec).unwrap_or_else(|_| nothing()));
        attachment.metadata = lenient_json::metadata(metadata).map_err(serde::de::Error::custom)?;
        attachment.status = serde_json::from_value(status).ok();
        Ok(Self(attachment))
    }
}

impl Resource for OwnAttachment {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        PodAttachment::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        PodAttachment::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        PodAttachment::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        PodAttachment::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(object: Value) -> PodAttachment {
        serde_json::from_value::<OwnAttachment>(object).unwrap().0
    }

    #[test]
    fn what_makes_no_sense_is_not_what_is_wanted() {
        let object = json!({"metadata": {"namespace": "a", "name": "p-eth0", "uid": "u", "managedFields": [{"time": "x"}]},
            "spec": {"pod": {"name": "p", "uid": "u1"}, "interface": "eth0", "nodeName": "n", "vf": {"pf": 0, "vf": 1}},
            "status": {"ips": ["10.0.0.1"], "conntrackZone": 5}});
        let good = read(object.clone());
        assert_eq!((good.spec.vf.vf, good.status.unwrap().conntrack_zone), (1, Some(5)));
        let mut odd = object.clone();
        odd["status"]["conntrackZone"] = json!(70_000);
        assert_eq!((read(odd.clone()).status, read(odd).spec), (None, good.spec.clone()));
        let mut odd = object;
        odd["spec"]["vf"]["vf"] = json!(-1);
        let seen = read(odd);
        assert_eq!((seen.spec.node_name.as_str(), seen.spec.interface.as_str()), ("n", ""));
        assert_eq!(seen.metadata.uid.as_deref(), Some("u"));
        assert_eq!(read(json!(5)).metadata.name, None);
    }
}
