//! What the reconciler tells the rest of the agent: every attachment and how far it has come.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use offload::ids::{CtZone, MacAddr, VfId};
use serde::{Serialize, Serializer};

use crate::attachment::Binding;
use crate::audit::{Held, PodProgress, Stage};
use crate::claim::{Attached, Claim, SandboxKey};
use crate::enforcement::Disbelieved;
use crate::kernel::view::Offload;
use crate::marks::Marks;
use crate::policy::Origins;

/// A snapshot, replaced after every pass.
#[derive(Debug, Clone, Default)]
pub struct Published {
    pub attachments: BTreeMap<SandboxKey, Entry>,
    pub health: Health,
    /// Passes so far; the first is done when this is not 0.
    pub passes: u64,
    /// What the last pass had to change; 0 when all was right.
    pub steps: usize,
    pub policy: PolicyStatus,
    /// Of the server, where the NicNode names one.
    pub management: Option<ManagementPort>,
}

/// The server's management port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagementPort {
    pub vf: VfId,
    /// None until the southbound has said it.
    pub mac: Option<MacAddr>,
    pub ips: Vec<IpAddr>,
    /// `Err`: the first thing that is missing.
    pub state: Result<(), String>,
}

impl Published {
    /// Why an attach could not succeed now, if so.
    pub fn unready(&self) -> Option<String> {
        let Health { representors, ovs, ovn, cluster, .. } = &self.health;
        representors.as_ref().or(ovs.as_ref()).or(ovn.as_ref()).or(cluster.as_ref()).cloned()
    }
}

/// What attachments depend on: in each, why it is not as it should be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    pub representors: Option<String>,
    pub ovs: Option<String>,
    /// `ovs` is a datapath that is not supported.
    pub datapath_refused: bool,
    pub ovn: Option<String>,
    /// What is read from the Kubernetes API; well where there is no cluster.
    pub cluster: Option<String>,
    /// As its database says it, which need not; none when that cannot be asked.
    pub ovs_version: Option<String>,
    /// Representors of VFs.
    pub vfs: usize,
}

/// How policy is enforced, for whoever asks the agent.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Of the policies that the flows of all pods follow: SHA-256 of the file's text, or the newest resourceVersion of each
    /// kind. None: there is no source, it was never read, or what it says now is not in the tables yet and nothing was
    /// before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    pub pods: Vec<PodStatus>,
    /// By device: of the flows that enter from other nodes, for all pods.
    pub from_outside: BTreeMap<String, Offload>,
    /// What users should know of their policies.
    pub reports: Vec<String>,
    /// What this node is not believed; `reports` have it, too.
    #[serde(skip)]
    pub disbelieved: Arc<[Disbelieved]>,
    /// Cookies of flows, and whose rules they are.
    #[serde(serialize_with = "by_cookie")]
    pub rules: Origins,
    /// Of connections, in the low 24 bits of `ct_mark`, and which rules admitted them.
    pub marks: Marks,
}

fn by_cookie<S: Serializer>(rules: &Origins, to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(rules.iter().map(|(origin, key)| (origin.to_string(), key.to_string())))
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub vf: String,
    pub zone: u16,
    /// Why nothing passes, when nobody knows the pod's policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    /// `reg0` in tables 5 and 10; 0 is no policy.
    pub egress_rule_set: u32,
    pub ingress_rule_set: u32,
    /// No connection is left, in hardware neither, that the policy denies.
    pub settled: bool,
    /// What that waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsettled: Option<Unsettled>,
    /// Settled, and yet it was not shown that the hardware has let go of what was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldStatus>,
    /// Of the flows that enter at the pod's representor.
    pub offload: Offload,
    /// `None`: the kernel has not been asked yet, or does not limit them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<Connections>,
}

/// Why a pod is not settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Unsettled {
    pub waits_for: &'static str,
    /// For so long.
    pub seconds: u64,
    /// Since the rules were in the tables.
    pub connections_cut: usize,
}

impl Unsettled {
    /// `None` of a pod that is settled.
    pub fn of(progress: Option<&PodProgress>) -> Option<Self> {
        let Some(progress) = progress else {
            let waits_for = "its rules to be in the tables";
            return Some(Self { waits_for, seconds: 0, connections_cut: 0 });
        };
        let seconds = progress.since.elapsed().as_secs();
        (progress.stage != Stage::Settled).then(|| Self {
            waits_for: progress.stage.waits_for(),
            seconds,
            connections_cut: progress.cut,
        })
    }
}

/// Conntrack entries that no list has any more and that were not freed at the last look: of connections that were cut, or
/// of others that went meanwhile. The sweeps in which the hardware lets go of those that were cut are over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldStatus {
    pub entries: usize,
    /// Since the last connection was cut.
    pub seconds: u64,
}

impl From<Held> for HeldStatus {
    fn from(held: Held) -> Self {
        Self { entries: held.entries, seconds: held.since.elapsed().as_secs() }
    }
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub claim: Claim,
    /// Grows with each Attach of this sandbox, so that one that gives up does not withdraw another's.
    pub token: u64,
    pub wiring: Wiring,
    pub state: State,
    /// What its CMS has written on the pod and is not used, for people.
    pub remarks: Vec<String>,
    /// Why the server says that the interface is not in the pod. The NIC's side may be ready all the same.
    pub problem: Option<String>,
}

/// Where an attachment is, or will be.
#[derive(Debug, Clone)]
pub struct Wiring {
    pub zone: CtZone,
    pub logical_port: String,
    pub binding: Option<Binding>,
    /// The representor's device, as last seen.
    pub representor: Option<String>,
}

#[derive(Debug, Clone)]
pub enum State {
    Ready(Arc<Attached>),
    /// The first thing that is missing.
    Waiting(String),
}

/// How many connections an attachment has, and may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Connections {
    /// So many it may have.
    pub limit: u32,
    /// At the last look.
    pub used: u32,
    /// As many as it may have, at the last look or at one of the last few minutes: no other begins, or began.
    pub limited: bool,
    /// First packets of connections that were too many for one second, since the agent or Open vSwitch started.
    pub refused_by_rate: u64,
}
