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
use crate::config::Served;
use crate::profile::cms;

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
    /// Of a mirror: the uid that its static pod has at the runtime (`kubernetes.io/config.hash`).
    #[serde(default)]
    pub static_uid: String,
    /// `status.phase`.
    #[serde(default)]
    pub phase: String,
    /// What its CMS has written on it, and whoever else may: [`cms::READ`] alone, each no longer than [`cms::LONGEST`].
    #[serde(default)]
    pub annotations: cms::Annotations,
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

    /// The pod by the uid that the API has it by. To the runtime a static pod has one of kubelet's making; the API has its
    /// mirror, which says that.
    pub fn resolve(&self, pod: &PodRef) -> PodRef {
        let uid = match self {
            Self::Known(pods) if !pods.contains_key(&pod.uid) => {
                mirrors_of(pods, pod).find(|it| it.static_uid == pod.uid).map(|it| it.uid.clone())
            }
            Self::Known(_) | Self::Unknown { .. } => None,
        };
        PodRef { uid: uid.unwrap_or_else(|| pod.uid.clone()), ..pod.clone() }
    }

    /// Is there such a pod, on this NIC's node, that may hold a VF?
    pub fn judge(&self, pod: &PodRef, served: Served<'_>) -> Result<(), Refusal> {
        let pods = match self {
            Self::Unknown { why } => return Err(Refusal::DirectoryUnavailable { why: why.clone() }),
            Self::Known(pods) => pods,
        };
        let Some(record) = pods.get(&pod.uid) else {
            let (uid, name) = (pod.uid.clone(), pod.to_string());
            return Err(match mirrors_of(pods, pod).next() {
                None => Refusal::UnknownPod { pod: name, uid },
                Some(_) if !served.static_pods => Refusal::MirrorPod { pod: name },
                Some(mirror) => Refusal::OtherMirror { pod: name, uid, mirrored: mirror.static_uid.clone() },
            });
        };
        if (&record.namespace, &record.name) != (&pod.namespace, &pod.name) {
            return Err(Refusal::WrongPod {
                uid: pod.uid.clone(),
                actual: format!("{}/{}", record.namespace, record.name),
                claimed: pod.to_string(),
            });
        }
        if record.node != served.node {
            return Err(Refusal::WrongNode {
                pod: pod.to_string(),
                actual: record.node.clone(),
                served: served.node.to_owned(),
            });
        }
        if record.host_network {
            return Err(Refusal::HostNetwork { pod: pod.to_string() });
        }
        if record.mirror && !served.static_pods {
            return Err(Refusal::MirrorPod { pod: pod.to_string() });
        }
        if record.is_finished() {
            return Err(Refusal::Finished { pod: pod.to_string(), phase: record.phase.clone() });
        }
        Ok(())
    }
}

fn mirrors_of<'a>(
    pods: &'a BTreeMap<String, PodRecord>,
    pod: &PodRef,
) -> impl Iterator<Item = &'a PodRecord> {
    pods.values().filter(move |it| it.mirror && (&it.namespace, &it.name) == (&pod.namespace, &pod.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSING: Served<'static> = Served { node: "server1", static_pods: false };
    const ALLOWING: Served<'static> = Served { static_pods: true, ..REFUSING };

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
                    static_uid: if uid == "mirror" { "hash".to_owned() } else { String::new() },
                    phase: phase.into(),
                    annotations: cms::Annotations::new(),
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
        directory().judge(&pod, REFUSING).map_or_else(|r| r.reason(), |()| "believed")
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
        assert_eq!(unknown.judge(&pod, REFUSING).unwrap_err().reason(), "directory-unavailable");
    }

    #[test]
    fn a_static_pod_is_its_mirror_where_an_operator_lets_it_be() {
        let runtimes =
            |uid: &str| PodRef { namespace: "default".into(), name: "pod-mirror".into(), uid: uid.into() };
        let judged = |uid: &str, served| {
            let directory = directory();
            let pod = directory.resolve(&runtimes(uid));
            (pod.uid.clone(), directory.judge(&pod, served).map_err(|it| it.reason()))
        };
        assert_eq!(judged("hash", ALLOWING), ("mirror".to_owned(), Ok(())));
        assert_eq!(judged("mirror", ALLOWING), ("mirror".to_owned(), Ok(())));
        // Of a file that was changed: its mirror comes.
        assert_eq!(judged("newer", ALLOWING), ("newer".to_owned(), Err("other-mirror")));
        for uid in ["hash", "mirror", "newer"] {
            assert_eq!(judged(uid, REFUSING).1, Err("mirror-pod"), "{uid}");
        }
        // Neither the name nor the uid alone, nor another node's mirror.
        let other = PodRef { name: "pod-good".into(), ..runtimes("hash") };
        assert_eq!(directory().resolve(&other), other);
        assert_eq!(directory().judge(&other, ALLOWING).unwrap_err().reason(), "unknown-pod");
        let there = Served { node: "server2", ..ALLOWING };
        assert_eq!(judged("hash", there).1, Err("wrong-node"));
        let said = directory().judge(&runtimes("hash"), REFUSING).unwrap_err().to_string();
        assert!(said.contains("spec.staticPods") && said.contains("DaemonSet"), "{said}");
    }
}
