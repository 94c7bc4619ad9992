//! `PodAttachment`: where one interface of a pod is wired.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Condition, Vf};

/// Condition types of a [`PodAttachment`].
pub mod attachment_conditions {
    /// The pod is wired: logical port bound here, boundary's flows in, representor open.
    pub const BOUND: &str = "Bound";
    /// The pod's policy is in the tables, and no connection is left that it denies.
    pub const POLICY_ENFORCED: &str = "PolicyEnforced";
    /// Every TC rule on its representor runs in hardware.
    pub const OFFLOADED: &str = "Offloaded";
    /// It has, or had a few minutes ago, as many connections as it may: new ones are dropped.
    pub const CONNECTIONS_LIMITED: &str = "ConnectionsLimited";
}

/// Written by the agent of the pod's node, owned by the pod; named `POD-INTERFACE`, or `POD-` and a hash where that could
/// be another's or is no name.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "drawbridge.dev",
    version = "v1alpha1",
    kind = "PodAttachment",
    plural = "podattachments",
    singular = "podattachment",
    shortname = "pa",
    category = "drawbridge",
    namespaced,
    status = "PodAttachmentStatus",
    selectable = ".spec.nodeName",
    derive = "PartialEq",
    doc = "Where one interface of a pod is wired, as the agent on its node's SmartNIC sees it.",
    printcolumn = r#"{"name": "Pod", "type": "string", "jsonPath": ".spec.pod.name"}"#,
    printcolumn = r#"{"name": "Node", "type": "string", "jsonPath": ".spec.nodeName"}"#,
    printcolumn = r#"{"name": "Representor", "type": "string", "jsonPath": ".status.representor"}"#,
    printcolumn = r#"{"name": "IPs", "type": "string", "jsonPath": ".status.ips"}"#,
    printcolumn = r#"{"name": "Bound", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Bound')].status"}"#,
    printcolumn = r#"{"name": "Policy", "type": "string", "jsonPath": ".status.conditions[?(@.type=='PolicyEnforced')].status"}"#,
    printcolumn = r#"{"name": "Offloaded", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Offloaded')].status"}"#,
    printcolumn = r#"{"name": "Port", "type": "string", "jsonPath": ".status.logicalPort", "priority": 1}"#,
    printcolumn = r#"{"name": "MAC", "type": "string", "jsonPath": ".status.mac", "priority": 1}"#,
    printcolumn = r#"{"name": "Zone", "type": "integer", "jsonPath": ".status.conntrackZone", "priority": 1}"#,
    printcolumn = r#"{"name": "Connections", "type": "integer", "jsonPath": ".status.connections.used", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a PodAttachment's spec cannot be changed: another sandbox or VF is another attachment"))]
pub struct PodAttachmentSpec {
    pub pod: PodReference,
    /// Of the pod's network namespace.
    #[schemars(length(min = 1, max = 15))]
    pub interface: String,
    #[schemars(length(min = 1, max = 253))]
    pub node_name: String,
    pub vf: Vf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PodReference {
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    #[schemars(length(min = 1, max = 128))]
    pub uid: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodAttachmentStatus {
    /// The representor's device on the NIC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub representor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logical_port: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub ips: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1, max = 65535))]
    pub conntrack_zone: Option<u16>,
    #[serde(default)]
    pub rule_sets: RuleSets,
    #[serde(default)]
    pub offload: AttachmentOffload,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<Connections>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// `reg0` of `br-edge`'s tables 5 and 10; 0: no policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RuleSets {
    #[schemars(with = "i64", range(min = 0, max = 4_294_967_295_i64))]
    pub egress: u32,
    #[schemars(with = "i64", range(min = 0, max = 4_294_967_295_i64))]
    pub ingress: u32,
}

/// What conntrack holds of the attachment, and what did not get so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connections {
    /// `spec.podLimits.connections` of the NicNode.
    #[schemars(range(min = 0))]
    pub limit: i32,
    /// At the last look, up to a minute ago.
    #[schemars(range(min = 0))]
    pub used: i32,
    /// First packets that were dropped as `newConnectionsPerSecond` had begun before, since the agent or Open vSwitch started.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub refused_by_rate: i64,
}

/// Of the TC rules on the representor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentOffload {
    #[schemars(range(min = 0))]
    pub hardware_rules: i32,
    #[schemars(range(min = 0))]
    pub software_rules: i32,
    /// Some of those in software, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub in_software: Vec<SoftwareRule>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SoftwareRule {
    #[schemars(length(max = 1024))]
    pub rule: String,
    #[schemars(length(max = 1024))]
    pub reason: String,
}
