//! Drawbridge's objects in the Kubernetes API, group `drawbridge.dev`, version `v1alpha1`.
//!
//! | kind | | written by |
//! |---|---|---|
//! | [`NicNode`] | a SmartNIC: what it is to do, and what became of that | `spec`: the cluster's operator; `status`: that NIC's agent |
//! | [`PodAttachment`] | where a pod's interface is wired | the agent of the pod's node |
//! | [`NodeRange`] | which addresses are a node's | `spec`: the cluster's operator; `status`: `cluster-controller` |
//!
//! The CRDs in `packaging/kubernetes/crds` are generated from these types; a test keeps them so. What a type cannot say
//! is a CEL rule, so the API server refuses what an agent would have to. This crate does no I/O.
#![forbid(unsafe_code)]

mod condition;
mod nic_node;
mod node_range;
mod pod_attachment;

pub use condition::{Condition, ConditionStatus};
pub use nic_node::{
    Address, AddressType, Addressing, BridgeMapping, Encapsulation, EncapsulationType, HardwareOffload,
    ManagedPort, NicNode, NicNodeSpec, NicNodeStatus, OffloadFigures, OffloadMode, Ovn, PodLimits, Profile,
    ProfileKind, Shim, StaticPods, TcPolicy, Versions, Vf, VfCount, ZoneRange, conditions,
};
pub use node_range::{NodeRange, NodeRangeSpec, NodeRangeStatus, range_conditions};
pub use pod_attachment::{
    AttachmentOffload, Connections, PodAttachment, PodAttachmentSpec, PodAttachmentStatus, PodReference,
    RuleSets, SoftwareRule, attachment_conditions,
};

/// `group/version` of every object here.
pub const GROUP: &str = "drawbridge.dev";
pub const VERSION: &str = "v1alpha1";
