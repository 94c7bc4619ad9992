//! What the server claims, what it is answered, and why it is refused.

use std::fmt;
use std::future::Future;

use ipnet::IpNet;
use offload::ids::{MacAddr, VfId};
use serde::{Deserialize, Serialize};

/// An attachment as the server names it: one interface of one sandbox.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SandboxKey {
    pub sandbox: String,
    pub interface: String,
}

impl fmt::Display for SandboxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.sandbox, self.interface)
    }
}

/// A pod by its name and by the uid that tells it from its namesakes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodRef {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// "This sandbox of this pod got this VF", as the server says it. Well-formed, not yet believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub key: SandboxKey,
    pub pod: PodRef,
    pub network: String,
    pub pci_address: String,
    pub vf: VfId,
}

/// What the pod's interface is to look like. All of it comes from the NIC's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    pub mac: MacAddr,
    pub mtu: u32,
    pub addresses: Vec<(IpNet, Option<std::net::IpAddr>)>,
    pub routes: Vec<(IpNet, Option<std::net::IpAddr>)>,
    pub logical_port: String,
}

/// Why a request was not granted. `reason` is stable and for machines, the text for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{field}: {problem}")]
    Malformed { field: &'static str, problem: String },
    #[error("pod {pod} with uid {uid} is not known to the cluster")]
    UnknownPod { pod: String, uid: String },
    #[error("uid {uid} belongs to pod {actual}, not to {claimed}")]
    WrongPod { uid: String, actual: String, claimed: String },
    #[error("pod {pod} is bound to node {actual:?}; this NIC serves {served:?}")]
    WrongNode { pod: String, actual: String, served: String },
    #[error("pod {pod} uses the host's network")]
    HostNetwork { pod: String },
    #[error(
        "pod {pod} is a static pod, which its node made by itself: no VF is given to it; run it by a DaemonSet instead, or \
         let an operator write spec.staticPods: Allowed into the NicNode"
    )]
    MirrorPod { pod: String },
    #[error(
        "static pod {pod} has the uid {uid} at the runtime, but its mirror in the API says {mirrored:?} \
         (kubernetes.io/config.hash): kubelet makes the mirror anew after a change of the pod's file; if it does not, \
         delete the mirror"
    )]
    OtherMirror { pod: String, uid: String, mirrored: String },
    #[error("pod {pod} is finished ({phase})")]
    Finished { pod: String, phase: String },
    #[error("which pods exist is not known yet: {why}")]
    DirectoryUnavailable { why: String },
    #[error("{vf} is held by pod {holder}")]
    VfHeld { vf: VfId, holder: String },
    #[error("{vf} has no representor on this NIC; it has: {candidates}")]
    NoSuchVf { vf: VfId, candidates: String },
    #[error("sandbox {key} holds {vf} for pod {pod} already")]
    SandboxInUse { key: SandboxKey, vf: VfId, pod: String },
    #[error(
        "logical port {logical_port} is that of {vf} already: profile.template must tell interfaces apart"
    )]
    LogicalPortHeld { logical_port: String, vf: VfId },
    #[error("sandbox {key} was detached already")]
    SandboxReplayed { key: SandboxKey },
    #[error("sandbox {key} has no attachment")]
    NotAttached { key: SandboxKey },
    #[error("no free conntrack zone: all {size} of edge.ct-zones are in use, or were a moment ago")]
    NoZone { size: u32 },
    #[error("no VF is left: {budget} of spec.vfBudget are in use")]
    BudgetUsed { budget: u32 },
    #[error("{vf} is the server's management port")]
    ManagementPort { vf: VfId },
    /// The claim is good, but what it asks for was not in place in time. Worth another try.
    #[error("not ready within the deadline: {stage}")]
    NotReady { stage: String },
    /// We are stopping, or something of ours failed. Worth another try.
    #[error("{0}")]
    Internal(String),
}

impl Refusal {
    pub fn stopping() -> Self {
        Self::Internal("nic-agent is stopping".to_owned())
    }

    pub fn taken_back(key: &SandboxKey) -> Self {
        Self::Internal(format!(
            "the attachment of sandbox {key} was taken back: detached, or its pod deleted"
        ))
    }

    /// A stable name for machines: metrics labels, gRPC metadata.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed",
            Self::UnknownPod { .. } => "unknown-pod",
            Self::WrongPod { .. } => "wrong-pod",
            Self::WrongNode { .. } => "wrong-node",
            Self::HostNetwork { .. } => "host-network",
            Self::MirrorPod { .. } => "mirror-pod",
            Self::OtherMirror { .. } => "other-mirror",
            Self::Finished { .. } => "finished",
            Self::DirectoryUnavailable { .. } => "directory-unavailable",
            Self::VfHeld { .. } => "vf-held",
            Self::NoSuchVf { .. } => "no-such-vf",
            Self::SandboxInUse { .. } => "sandbox-in-use",
            Self::LogicalPortHeld { .. } => "logical-port-held",
            Self::SandboxReplayed { .. } => "sandbox-replayed",
            Self::NotAttached { .. } => "not-attached",
            Self::NoZone { .. } => "no-zone",
            Self::BudgetUsed { .. } => "budget-used",
            Self::ManagementPort { .. } => "management-port",
            Self::NotReady { .. } => "not-ready",
            Self::Internal(_) => "internal",
        }
    }
}

/// What the gRPC server asks of the rest of the agent. The requests come from an authenticated host and are
/// well-formed; whether they are believed is decided behind this trait.
pub trait Attachments: Send + Sync + 'static {
    fn attach(&self, claim: Claim) -> impl Future<Output = Result<Attached, Refusal>> + Send;
    /// True when there was something to detach.
    fn detach(&self, key: SandboxKey) -> impl Future<Output = Result<bool, Refusal>> + Send;
    /// `problem`: why the server says that the interface is not in the pod as it should be.
    fn check(
        &self,
        key: SandboxKey,
        problem: Option<String>,
    ) -> impl Future<Output = Result<Attached, Refusal>> + Send;
    fn list(&self) -> impl Future<Output = Vec<Claim>> + Send;
    /// `Err` says why an attach could not succeed now.
    fn status(&self) -> impl Future<Output = Result<(), String>> + Send;
}
