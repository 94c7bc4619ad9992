//! `NodeRange`: which addresses are a node's, confirmed.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Condition;

/// Condition types of a [`NodeRange`].
pub mod range_conditions {
    /// All that is claimed for the node is confirmed. If not: what is refused, and why.
    pub const CONFIRMED: &str = "Confirmed";
}

/// Named like the node. What a Node says of itself (`spec.podCIDRs`, `status.addresses`) its own server can write; what
/// stands here it cannot.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "drawbridge.dev",
    version = "v1alpha1",
    kind = "NodeRange",
    plural = "noderanges",
    singular = "noderange",
    shortname = "nr",
    category = "drawbridge",
    status = "NodeRangeStatus",
    derive = "PartialEq",
    doc = "Which addresses are a node's, confirmed: by an operator (spec), or because they fit the cluster's plan.",
    printcolumn = r#"{"name": "Ranges", "type": "string", "jsonPath": ".status.ranges"}"#,
    printcolumn = r#"{"name": "Confirmed", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Confirmed')].status"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Confirmed')].reason"}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Confirmed')].message", "priority": 1}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NodeRangeSpec {
    /// An operator's word for the pods' ranges: it takes the place of what the Node says of itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(max = 49)))]
    #[x_kube(validation = Rule::new("self.all(r, isCIDR(r) && cidr(r) == cidr(r).masked())").message("each of spec.ranges is a prefix such as 10.244.1.0/24, without bits set after its length"))]
    pub ranges: Vec<String>,
    /// An operator's word for the server's own addresses, which its pods on the host's network have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 45)))]
    #[x_kube(validation = Rule::new("self.all(a, isIP(a))").message("each of spec.addresses is an IPv4 or IPv6 address"))]
    pub addresses: Vec<String>,
}

/// What is confirmed. `cluster-controller` alone writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeRangeStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Of which Node it was confirmed: one that was made anew under the name has nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub node_uid: Option<String>,
    /// No two nodes' overlap.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 49)))]
    pub ranges: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 45)))]
    pub addresses: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
