//! What the plan needs of Kubernetes' objects, as values: trimmed to that, and checked.
//!
//! An object that asks nothing of the northbound (a pod without a VF, a headless Service) is none here, so that a
//! cluster of many such pods costs nothing.

pub mod object;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ObjectName {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A node that has addresses for pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<IpNet>,
}

/// A pod that has a VF, a node, and is not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub uid: Arc<str>,
    pub node: Arc<str>,
}

/// What a Service's port, or an endpoint's, speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
pub enum Protocol {
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "UDP")]
    Udp,
    #[serde(rename = "SCTP")]
    Sctp,
}

impl Protocol {
    /// As OVN writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port with its name, which ties a Service's to its endpoints'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: Arc<str>,
    pub protocol: Protocol,
    pub number: u16,
}

/// A Service that has addresses of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `spec.clusterIPs`.
    pub cluster_ips: Vec<IpAddr>,
    pub ports: Vec<Port>,
    /// Seconds for which a client stays with its endpoint.
    pub affinity: Option<u32>,
    /// `internalTrafficPolicy: Local`: only endpoints of the client's node.
    pub local: bool,
}

/// An EndpointSlice of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    pub service: Arc<str>,
    pub ports: Vec<Port>,
    pub endpoints: Vec<Endpoint>,
}

/// Who answers. All of a slice's are of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    pub node: Option<Arc<str>>,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
}

/// A `NicNode`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicNode {
    /// Whose NIC it is.
    pub node: Arc<str>,
    /// Has the server a port of its own?
    pub management: bool,
}

/// What a pod's port had, as the agent on its node's NIC has reported it (a `PodAttachment`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// In the attachment's own namespace.
    pub pod: Arc<str>,
    pub uid: Arc<str>,
    pub logical_port: Arc<str>,
    /// As OVN writes them: the MAC and then the IPs.
    pub addresses: Arc<str>,
}

/// An object that is another now, or (`None`) that is there no more, or asks for nothing any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Node(Arc<str>, Option<Node>),
    NicNode(Arc<str>, Option<NicNode>),
    Pod(ObjectName, Option<Pod>),
    Service(ObjectName, Option<Service>),
    Slice(ObjectName, Option<Slice>),
    Attachment(ObjectName, Option<Attached>),
}

impl Change {
    /// Is there something, now?
    pub const fn is_present(&self) -> bool {
        match self {
            Self::Node(_, node) => node.is_some(),
            Self::NicNode(_, nic_node) => nic_node.is_some(),
            Self::Pod(_, pod) => pod.is_some(),
            Self::Service(_, service) => service.is_some(),
            Self::Slice(_, slice) => slice.is_some(),
            Self::Attachment(_, attached) => attached.is_some(),
        }
    }
}
