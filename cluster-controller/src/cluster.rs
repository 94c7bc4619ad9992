//! What the plan needs of Kubernetes' objects, as values: trimmed to that, and checked.
//!
//! An object that asks nothing of the northbound (a headless Service, a finished pod) is none here.

pub mod object;

use std::net::IpAddr;
use std::sync::Arc;

use drawbridge_api::NodeRange;
use k8s_openapi::jiff::Timestamp;
pub use kube_services::{Endpoint, EndpointSlice, Hints, ObjectName, Port, Protocol, Service, Target};

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub uid: Arc<str>,
    /// `spec.podCIDRs`: what it claims ([`crate::ranges`]).
    pub pod_cidrs: Vec<String>,
    /// Label `topology.kubernetes.io/zone`; empty if it has none.
    pub zone: Arc<str>,
    /// Has it the taint of [`crate::taint`]?
    pub nic_taint: bool,
}

/// A pod that has a node and is not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub uid: Arc<str>,
    pub node: Arc<str>,
    /// Has it asked for a VF?
    pub vf: bool,
    pub host_network: bool,
    /// Is it the mirror of a static pod? Then its namespace, name and labels are of its server's choice.
    pub mirror: bool,
}

/// A `NicNode`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicNode {
    /// Whose NIC it is.
    pub node: Arc<str>,
    /// Has the server a port of its own?
    pub management: bool,
    /// Do static pods count?
    pub static_pods: bool,
    /// Its name in OVN, once its agent has said so.
    pub chassis: Option<Arc<str>>,
    /// What the server's port has, once its agent has said so.
    pub managed: Option<Managed>,
    /// What its agent last said of itself. No row depends on it.
    pub health: NicHealth,
}

/// What a NIC's agent says of itself in `NicNode.status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NicHealth {
    /// The status of the condition `Ready` is `True`.
    pub ready: bool,
    /// That condition's message, cut to [`NicHealth::LONGEST`] bytes.
    pub message: Arc<str>,
    /// As it stands there. By which clock it was written does not matter: only that it changes.
    pub heartbeat: Option<Arc<str>>,
}

impl NicHealth {
    /// A message becomes part of an Event's note, of which the API takes 1024 bytes.
    pub const LONGEST: usize = 512;
}

/// What the server's own port has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Managed {
    pub mac: Arc<str>,
    pub ips: Vec<IpAddr>,
}

/// What a pod's port had, as the agent on its node's NIC has reported it (a `PodAttachment`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// In the attachment's own namespace.
    pub pod: Arc<str>,
    pub uid: Arc<str>,
    /// Whose NIC has written it: admission sees to that.
    pub node: Arc<str>,
    pub logical_port: Arc<str>,
    pub mac: Arc<str>,
    pub ips: Vec<IpAddr>,
    /// When the API server made it.
    pub created: Option<Timestamp>,
}

/// An object that is another now, or (`None`) that is there no more, or asks for nothing any more.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Node(Arc<str>, Option<Node>),
    NodeRange(Arc<str>, Option<Box<NodeRange>>),
    NicNode(Arc<str>, Option<NicNode>),
    Pod(ObjectName, Option<Pod>),
    Service(ObjectName, Option<Service>),
    Slice(ObjectName, Option<EndpointSlice>),
    Attachment(ObjectName, Option<Attached>),
}

impl Change {
    /// Is there something, now?
    pub const fn is_present(&self) -> bool {
        match self {
            Self::Node(_, node) => node.is_some(),
            Self::NodeRange(_, range) => range.is_some(),
            Self::NicNode(_, nic_node) => nic_node.is_some(),
            Self::Pod(_, pod) => pod.is_some(),
            Self::Service(_, service) => service.is_some(),
            Self::Slice(_, slice) => slice.is_some(),
            Self::Attachment(_, attached) => attached.is_some(),
        }
    }
}
