//! Which pods exist, and on which node: what a claim of the server is checked against (docs/security.md).
//!
//! The consumer sees a [`watch::Receiver`] of [`Directory`] and does not know what fills it: the [`crate::cluster`], or
//! without one a [mod@file].

pub mod file;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::claim::{PodRef, Refusal};

/// What the cluster knows of a pod, as far as a claim depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PodRecord {
    pub uid: String,
    pub namespace: String,
    pub name: String,
    /// `spec.nodeName`; empty while the pod is not scheduled.
    #[serde(default)]
    pub node: String,
    #[serde(default)]
    pub host_network: bool,
    /// Its node made it by itself.
    #[serde(default)]
    pub mirror: bool,
    /// `status.phase`.
    #[serde(default)]
    pub phase: String,
}

impl PodRecord {
    /// A pod in one of these phases never runs again, and its VF is free (`pkg/api/v1/pod`, `IsPodTerminal`).
    pub fn is_finished(&self) -> bool {
        matches!(self.phase.as_str(), "Succeeded" | "Failed")
    }
}

/// All pods by uid, of a cluster those of this NIC's node, or why they are not known. Once known, a source that fails keeps its last snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directory {
    Unknown { why: String },
    Known(Arc<BTreeMap<String, PodRecord>>),
}

pub type Directories = watch::Receiver<Directory>;

impl Directory {
    pub fn get(&self, uid: &str) -> Option<&PodRecord> {
        match self {
            Self::Unknown { .. } => None,
            Self::Known(pods) => pods.get(uid),
        }
    }

    /// Is there such a pod, on this NIC's node, that may hold a VF?
    pub fn judge(&self, pod: &PodRef, served: &str) -> Result<(), Refusal> {
        let pods = match self {
            Self::Unknown { why } => return Err(Refusal::DirectoryUnavailable { why: why.clone() }),
            Self::Known(pods) => pods,
        };
        let record = pods
            .get(&pod.uid)
            .ok_or_else(|| Refusal::UnknownPod { pod: pod.to_string(), uid: pod.uid.clone() })?;
        if (&record.namespace, &record.name) != (&pod.namespace, &pod.name) {
            return Err(Refusal::WrongPod {
                uid: pod.uid.clone(),
                actual: format!("{}/{}", record.namespace, record.name),
                claimed: pod.to_string(),
            });
        }
        if record.node != served {
            return Err(Refusal::WrongNode {
                pod: pod.to_string(),
                actual: record.node.clone(),
                served: served.to_owned(),
            });
        }
        if record.host_network {
            return Err(Refusal::HostNetwork { pod: pod.to_string() });
        }
        if record.mirror {
            return Err(Refusal::MirrorPod { pod: pod.to_string() });
        }
        if record.is_finished() {
            return Err(Refusal::Finished { pod: pod.to_string(), phase: record.phase.clone() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> Directory {
        let pod = |uid: &str, node: &str, host_network, phase: &str| {
            (
                uid.to_owned(),
                PodRecord {
                    uid: uid.into(),
                    namespace: "default".into(),
                    name: format!("pod-{uid}"),
                    node: node.into(),
                    host_network,
                    mirror: uid == "mirror",
                    phase: phase.into(),
                },
            )
        };
        Directory::Known(Arc::new(BTreeMap::from([
            pod("good", "server1", false, "Pending"),
            pod("elsewhere", "server2", false, "Running"),
            pod("host", "server1", true, "Running"),
            pod("mirror", "server1", false, "Running"),
            pod("done", "server1", false, "Succeeded"),
            pod("failed", "server1", false, "Failed"),
        ])))
    }

    fn reason(uid: &str, name: &str) -> &'static str {
        let pod = PodRef { namespace: "default".into(), name: name.into(), uid: uid.into() };
        directory().judge(&pod, "server1").map_or_else(|r| r.reason(), |()| "believed")
    }

    #[test]
    fn a_claim_is_believed_only_of_a_live_pod_of_this_node() {
        assert_eq!(reason("good", "pod-good"), "believed");
        assert_eq!(reason("good", "pod-other"), "wrong-pod");
        assert_eq!(reason("nobody", "pod-good"), "unknown-pod");
        assert_eq!(reason("elsewhere", "pod-elsewhere"), "wrong-node");
        assert_eq!(reason("host", "pod-host"), "host-network");
        assert_eq!(reason("mirror", "pod-mirror"), "mirror-pod");
        assert_eq!(reason("done", "pod-done"), "finished");
        assert_eq!(reason("failed", "pod-failed"), "finished");
        let unknown = Directory::Unknown { why: "no such file".into() };
        let pod = PodRef { namespace: "default".into(), name: "pod-good".into(), uid: "good".into() };
        assert_eq!(unknown.judge(&pod, "server1").unwrap_err().reason(), "directory-unavailable");
    }
}
