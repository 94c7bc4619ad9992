//! Pods: what policy asks of each, and of this node's what a claim is judged by.

use std::collections::HashSet;

use serde_json::Value;

use super::{Resource, Watched, read, text};
use crate::cluster::receivers::Receivers;
use crate::directory::PodRecord;
use crate::policy::{Change, ObjectKind, ObjectName, Pod};
use crate::profile::cms;

#[derive(Debug, Clone)]
pub struct Pods;

impl Watched for Pods {
    const RESOURCE: Resource = Resource { group: "", version: "v1", name: "Pod", plural: "pods" };

    type Kept = (Pod, PodRecord);

    fn read(object: &Value) -> Result<Self::Kept, serde_json::Error> {
        let pod: Pod = read(object)?;
        let record = PodRecord {
            uid: pod.uid.to_string(),
            namespace: pod.name.namespace.to_string(),
            name: pod.name.name.to_string(),
            node: pod.node.to_string(),
            host_network: pod.host_network,
            mirror: pod.mirror,
            static_uid: if pod.mirror {
                text(object, "/metadata/annotations/kubernetes.io~1config.hash").to_owned()
            } else {
                String::new()
            },
            phase: text(object, "/status/phase").to_owned(),
            annotations: cms_annotations(object),
        };
        Ok((pod, record))
    }

    fn put(name: ObjectName, (pod, record): Self::Kept, receivers: &mut Receivers) {
        receivers.own_pods.put(name, record);
        receivers.policy.put(Change::Pod(pod));
    }

    fn remove(name: ObjectName, uid: &str, receivers: &mut Receivers) {
        receivers.own_pods.remove(&name, uid);
        receivers.policy.put(Change::PodGone(name));
    }

    fn retain(listed: &HashSet<ObjectName>, receivers: &mut Receivers) {
        receivers.own_pods.retain(listed);
        receivers.policy.only(ObjectKind::Pod, listed);
    }
}

/// One that is too long stays, cut: it is then not readable, and its reader says so.
fn cms_annotations(object: &Value) -> cms::Annotations {
    let all = object.pointer("/metadata/annotations");
    let of = |key: &str| {
        let text = all?.get(key)?.as_str()?;
        let end = text.floor_char_boundary(cms::LONGEST + 1);
        Some((key.to_owned(), text.get(..end).unwrap_or_default().to_owned()))
    };
    cms::READ.into_iter().filter_map(of).collect()
}
