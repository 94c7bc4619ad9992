//! The objects as Kubernetes writes them: of each kind the fields that matter, each of any JSON ([`lenient_json`]), so that
//! one object that is wrong hides no other.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube_services::{EndpointSlice, Service, WithMetadata};
use lenient_json::{Dict, Flag, List, Part, Scalar, Text, Whole};
use serde::Deserialize;
use serde::de::IgnoredAny;

macro_rules! resource {
    ($($name:ident: $group:literal, $version:literal, $kind:literal, $plural:literal, $scope:ident;)*) => {$(
        impl Resource for $name {
            type DynamicType = ();
            type Scope = k8s_openapi::$scope;
            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }
            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }
            fn version((): &()) -> Cow<'_, str> {
                $version.into()
            }
            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    )*};
}

resource! {
    NodeObject: "", "v1", "Node", "nodes", ClusterResourceScope;
    NicNodeObject: "drawbridge.dev", "v1alpha1", "NicNode", "nicnodes", ClusterResourceScope;
    RangeObject: "drawbridge.dev", "v1alpha1", "NodeRange", "noderanges", ClusterResourceScope;
    PodObject: "", "v1", "Pod", "pods", NamespaceResourceScope;
    ServiceObject: "", "v1", "Service", "services", NamespaceResourceScope;
    AttachmentObject: "drawbridge.dev", "v1alpha1", "PodAttachment", "podattachments", NamespaceResourceScope;
    SliceObject: "discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", NamespaceResourceScope;
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeObject {
    #[serde(deserialize_with = "lenient_json::metadata")]
    pub(super) metadata: ObjectMeta,
    pub(super) spec: Part<NodeSpec>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct NodeSpec {
    #[serde(rename = "podCIDRs")]
    pub(super) pod_cidrs: List<Text>,
    pub(super) taints: List<Part<NodeTaint>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct NodeTaint {
    pub(super) key: Text,
    pub(super) effect: Text,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NicNodeObject {
    #[serde(deserialize_with = "lenient_json::metadata")]
    pub(super) metadata: ObjectMeta,
    pub(super) spec: Part<NicNodeSpec>,
    pub(super) status: Part<NicNodeStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct NicNodeSpec {
    pub(super) node_name: Text,
    /// Which VF it is concerns the NIC alone.
    pub(super) management_port: Option<IgnoredAny>,
    pub(super) static_pods: Text,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct NicNodeStatus {
    pub(super) chassis: Text,
    pub(super) management_port: Part<ManagedPort>,
    pub(super) last_heartbeat_time: Text,
    pub(super) conditions: List<Part<NicCondition>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct NicCondition {
    #[serde(rename = "type")]
    pub(super) kind: Text,
    pub(super) status: Text,
    pub(super) message: Text,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ManagedPort {
    pub(super) mac: Text,
    pub(super) ips: List<Text>,
}

/// A `NodeRange`, as [`drawbridge_api`] has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RangeObject {
    #[serde(deserialize_with = "lenient_json::metadata")]
    pub(super) metadata: ObjectMeta,
    pub(super) spec: Part<RangeSpec>,
    pub(super) status: Option<Part<RangeStatus>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RangeSpec {
    pub(super) ranges: List<Text>,
    pub(super) addresses: List<Text>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RangeStatus {
    pub(super) observed_generation: Whole,
    pub(super) node_uid: Text,
    pub(super) ranges: List<Text>,
    pub(super) addresses: List<Text>,
    pub(super) conditions: List<Part<RangeCondition>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct RangeCondition {
    #[serde(rename = "type")]
    pub(super) kind: Text,
    pub(super) status: Text,
    pub(super) observed_generation: Whole,
    pub(super) last_transition_time: Text,
    pub(super) reason: Text,
    pub(super) message: Text,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AttachmentObject {
    #[serde(deserialize_with = "lenient_json::metadata")]
    pub(super) metadata: ObjectMeta,
    pub(super) spec: Part<AttachmentSpec>,
    pub(super) status: Part<AttachmentStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct AttachmentSpec {
    pub(super) pod: Part<AttachedPod>,
    pub(super) node_name: Text,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct AttachedPod {
    pub(super) name: Text,
    pub(super) uid: Text,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct AttachmentStatus {
    pub(super) logical_port: Text,
    pub(super) mac: Text,
    pub(super) ips: List<Text>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodObject {
    #[serde(deserialize_with = "lenient_json::metadata")]
    pub(super) metadata: ObjectMeta,
    pub(super) spec: Part<PodSpec>,
    pub(super) status: Part<PodStatus>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PodSpec {
    pub(super) node_name: Text,
    pub(super) host_network: Flag,
    pub(super) containers: List<Part<Container>>,
    pub(super) init_containers: List<Part<Container>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Container {
    pub(super) resources: Part<Resources>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Resources {
    /// Quantities.
    pub(super) limits: Dict<Scalar>,
    pub(super) requests: Dict<Scalar>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PodStatus {
    pub(super) phase: Text,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(from = "WithMetadata<Service>")]
pub struct ServiceObject {
    pub(super) metadata: ObjectMeta,
    pub(super) service: Service,
}

impl From<WithMetadata<Service>> for ServiceObject {
    fn from(it: WithMetadata<Service>) -> Self {
        Self { metadata: it.metadata, service: it.object }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(from = "WithMetadata<EndpointSlice>")]
pub struct SliceObject {
    pub(super) metadata: ObjectMeta,
    pub(super) slice: EndpointSlice,
}

impl From<WithMetadata<EndpointSlice>> for SliceObject {
    fn from(it: WithMetadata<EndpointSlice>) -> Self {
        Self { metadata: it.metadata, slice: it.object }
    }
}
