//! Objects of `drawbridge.dev`, as far as they say whose addresses are whose.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use super::{Metadata, addresses, or_default, read_as};
use crate::policy::model::{ObjectName, word};

read_as! {
    PodAttachment => word::PodAttachment,
    NicNode => word::NicNode,
    NodeName => word::Node,
    NodeRange => word::NodeRange,
}

#[derive(Debug, Deserialize)]
struct PodAttachment {
    metadata: Metadata,
    spec: AttachmentSpec,
    #[serde(default, deserialize_with = "or_default")]
    status: AttachmentStatus,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AttachmentSpec {
    pod: PodReference,
    node_name: String,
}

#[derive(Debug, Deserialize)]
struct PodReference {
    name: String,
    uid: String,
}

#[derive(Debug, Default, Deserialize)]
struct AttachmentStatus {
    #[serde(default, deserialize_with = "or_default")]
    ips: Vec<String>,
}

impl From<PodAttachment> for word::PodAttachment {
    fn from(raw: PodAttachment) -> Self {
        let name = raw.metadata.name();
        let (ips, unreadable) = addresses(raw.status.ips.iter().map(String::as_str));
        Self {
            pod: ObjectName::new(name.namespace.clone(), raw.spec.pod.name),
            name,
            uid: raw.spec.pod.uid.into(),
            node: raw.spec.node_name.into(),
            ips,
            unreadable,
        }
    }
}

#[derive(Debug, Deserialize)]
struct NicNode {
    metadata: Metadata,
    spec: NicNodeSpec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct NicNodeSpec {
    node_name: String,
    #[serde(default, deserialize_with = "or_default")]
    static_pods: String,
}

impl From<NicNode> for word::NicNode {
    fn from(raw: NicNode) -> Self {
        let static_pods = raw.spec.static_pods == "Allowed";
        Self { name: raw.metadata.name.into(), node: raw.spec.node_name.into(), static_pods }
    }
}

/// Of a Node that is read for its metadata alone.
#[derive(Debug, Deserialize)]
struct NodeName {
    metadata: Metadata,
}

impl From<NodeName> for word::Node {
    fn from(raw: NodeName) -> Self {
        let zone = raw.metadata.labels.get(kube_services::ZONE).map(String::as_str);
        Self {
            name: raw.metadata.name.as_str().into(),
            uid: raw.metadata.uid.as_str().into(),
            zone: zone.unwrap_or_default().into(),
        }
    }
}

#[derive(Debug, Deserialize)]
struct NodeRange {
    metadata: Metadata,
    status: Option<RangeStatus>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RangeStatus {
    #[serde(default, deserialize_with = "or_default")]
    node_uid: String,
    #[serde(default, deserialize_with = "or_default")]
    ranges: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    addresses: Vec<String>,
}

impl From<NodeRange> for word::NodeRange {
    /// What cannot be read confirms nothing.
    fn from(raw: NodeRange) -> Self {
        let confirmed = raw.status.map(|status| {
            let ranges = status.ranges.iter().filter_map(|it| it.parse::<IpNet>().ok());
            let host: Vec<IpAddr> = addresses(status.addresses.iter().map(String::as_str)).0;
            let of = status.node_uid.into();
            word::Confirmed { of, pods: ranges.collect(), host: host.into_iter().collect() }
        });
        Self { node: raw.metadata.name.into(), confirmed }
    }
}
