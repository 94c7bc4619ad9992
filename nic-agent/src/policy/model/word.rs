//! Whose word on addresses counts, besides that of the pods' nodes: objects of `drawbridge.dev`.

use std::net::IpAddr;
use std::sync::Arc;

use offload::policy::PrefixSet;

use super::ObjectName;

/// A NIC, of a pod of its own node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodAttachment {
    pub name: ObjectName,
    pub pod: ObjectName,
    pub uid: Arc<str>,
    /// Whose NIC wrote it, which admission sees to.
    pub node: Arc<str>,
    pub ips: Vec<IpAddr>,
    /// Something in `status.ips` that is no address.
    pub unreadable: Option<Box<str>>,
}

/// The cluster's operator: this node has a NIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicNode {
    pub name: Arc<str>,
    pub node: Arc<str>,
    /// Do the node's static pods count?
    pub static_pods: bool,
}

/// The API server: the Node that has this name now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: Arc<str>,
    pub uid: Arc<str>,
    /// Label `topology.kubernetes.io/zone`; empty if it has none.
    pub zone: Arc<str>,
}

/// The cluster's controller: these addresses are this node's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRange {
    pub node: Arc<str>,
    /// None: nothing is confirmed and nothing refused yet.
    pub confirmed: Option<Confirmed>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// The uid of the Node of which it was said: one made again under the name may be another machine.
    pub of: Arc<str>,
    /// Of its pods.
    pub pods: PrefixSet,
    /// Of its own network, which its pods on the host's network share.
    pub host: PrefixSet,
}

/// What was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    Attachment(PodAttachment),
    AttachmentGone(ObjectName),
    Nic(NicNode),
    NicGone(Arc<str>),
    Range(NodeRange),
    RangeGone(Arc<str>),
    Node(Node),
    NodeGone(Arc<str>),
}
