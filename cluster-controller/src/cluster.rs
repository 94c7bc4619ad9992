//! What the plan needs of Kubernetes' objects, as values: trimmed to that, and checked.
//!
//! An object that asks nothing of the northbound (a headless Service, a finished pod) is none here.

pub mod object;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use drawbridge_api::NodeRange;
use k8s_openapi::jiff::Timestamp;

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

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub uid: Arc<str>,
    /// `spec.podCIDRs`: what it claims ([`crate::ranges`]).
    pub pod_cidrs: Vec<String>,
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

/// What a Service's port, or an endpoint's, speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
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

    /// Does a client notice by itself that who answered it is gone? kube-proxy clears what is known of the others' flows
    /// (`IsClearConntrackNeeded` in pkg/proxy/conntrack), and leaves TCP's alone.
    pub const fn has_end(self) -> bool {
        matches!(self, Self::Tcp)
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
    /// Of whom it is the address; nobody's in a slice that is kept by hand.
    pub pod: Option<PodReference>,
    pub node: Option<Arc<str>>,
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
}

/// A pod, as a slice names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodReference {
    pub name: ObjectName,
    pub uid: Arc<str>,
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
    Slice(ObjectName, Option<Slice>),
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
