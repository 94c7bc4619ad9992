//! The policies that are enforced, kept over a restart: `policy.json` beside the ledger.
//!
//! By the pod's uid: a sandbox's name is the server's to give, and what is one pod's must not open another. Written before
//! the flows that follow from it, so that a crash in between leaves the newer policy. Each distinct
//! policy stands once. Failure: a file that is damaged, or newer than we are, is an error; the caller goes on without,
//! and pods whose policy nobody knows pass nothing until the source has spoken.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use offload::policy::PodPolicy;
use serde::{Deserialize, Serialize};

use crate::claim::SandboxKey;
use crate::durable::{self, Disk, DurableError};

/// 1 had it by sandbox.
const VERSION: u32 = 2;

#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    #[error(transparent)]
    File(#[from] DurableError),
    #[error("{path} is damaged: {pod} has policy {index}, and there are {count}")]
    NoSuchPolicy { path: PathBuf, pod: Whose, index: usize, count: usize },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    policies: Vec<PodPolicy>,
    /// Index into `policies`.
    pods: Vec<(Whose, usize)>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Whose {
    Pod(String),
    Sandbox(SandboxKey),
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(uid) => f.write_str(uid),
            Self::Sandbox(key) => key.fmt(f),
        }
    }
}

/// By the pod's uid.
pub type Kept = BTreeMap<String, Arc<PodPolicy>>;

/// A file that is not there keeps nothing. `pod_of` is whose the sandboxes of an older file are; what is nobody's any more is
/// dropped.
pub fn load(
    disk: &dyn Disk,
    path: &Path,
    pod_of: impl Fn(&SandboxKey) -> Option<String>,
) -> Result<Kept, KeptError> {
    let Some(stored) = durable::read_json::<Stored>(disk, path, VERSION)? else {
        return Ok(Kept::new());
    };
    let policies: Vec<Arc<PodPolicy>> = stored.policies.into_iter().map(Arc::new).collect();
    let mut kept = Kept::new();
    for (pod, index) in stored.pods {
        let Some(policy) = policies.get(index) else {
            let count = policies.len();
            return Err(KeptError::NoSuchPolicy { path: path.to_owned(), pod, index, count });
        };
        let uid = match pod {
            Whose::Pod(uid) => Some(uid),
            Whose::Sandbox(key) => pod_of(&key),
        };
        kept.extend(uid.map(|uid| (uid, policy.clone())));
    }
    Ok(kept)
}

pub fn save(disk: &dyn Disk, path: &Path, kept: &Kept) -> Result<(), KeptError> {
    let mut index = BTreeMap::new();
    let mut policies = Vec::new();
    let mut pods = Vec::new();
    for (uid, policy) in kept {
        let number = *index.entry(policy).or_insert_with(|| {
            policies.push(PodPolicy::clone(policy));
            policies.len() - 1
        });
        pods.push((Whose::Pod(uid.clone()), number));
    }
    let stored = Stored { version: VERSION, policies, pods };
    Ok(durable::write_json(disk, path, &stored)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use offload::policy::{Action, Origin, Rules, Tier};

    use super::*;
    use crate::durable::SystemDisk;

    fn nobody(_: &SandboxKey) -> Option<String> {
        None
    }

    #[test]
    fn a_file_by_sandbox_is_read_by_whose_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.json");
        let text = r#"{"version": 1, "policies": [{"egress": {"tiers": []}, "ingress": {"tiers": []}}],
            "pods": [[{"sandbox": "s1", "interface": "eth0"}, 0], [{"sandbox": "s2", "interface": "eth0"}, 0]]}"#;
        fs::write(&path, text).unwrap();
        let kept = load(&SystemDisk, &path, |key| (key.sandbox == "s1").then(|| "u1".to_owned())).unwrap();
        assert_eq!(kept, Kept::from([("u1".to_owned(), Arc::default())]));
        fs::write(&path, text.replace("0]]", "1]]")).unwrap();
        let error = load(&SystemDisk, &path, nobody).unwrap_err();
        assert!(matches!(error, KeptError::NoSuchPolicy { index: 1, count: 1, .. }), "{error}");
        assert!(error.to_string().contains("s2/eth0"), "{error}");
    }

    /// The server names sandboxes: that it gives pod A's to pod B does not give B what A may.
    #[test]
    fn a_sandbox_that_another_pod_has_now_brings_no_policy_along() {
        use crate::enforcement::{Enforced, Policies, resolve};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.json");
        let open = Arc::new(PodPolicy::default());
        let old = Kept::from([("a".to_owned(), open.clone())]);
        save(&SystemDisk, &path, &old).unwrap();
        // After a restart, while nobody has said anything of B.
        let unknown = Policies::Unknown { why: "not asked yet".to_owned() };
        let of = |kept: &Kept, uid: &str| resolve(&unknown, uid, kept.get(uid));
        let kept = load(&SystemDisk, &path, nobody).unwrap();
        assert_eq!(of(&kept, "a"), Enforced::Policy(open));
        assert!(matches!(of(&kept, "b"), Enforced::Closed { .. }));
        // As the version before had it: by the sandbox, which is B's by now.
        let text = r#"{"version": 1, "policies": [{"egress": {"tiers": []}, "ingress": {"tiers": []}}],
            "pods": [[{"sandbox": "s", "interface": "eth0"}, 0]]}"#;
        fs::write(&path, text).unwrap();
        let of_ledger = |uid: &str| load(&SystemDisk, &path, |_| Some(uid.to_owned())).unwrap();
        assert!(matches!(of(&of_ledger("a"), "b"), Enforced::Closed { .. }));
    }

    #[test]
    fn policies_survive_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.json");
        assert_eq!(load(&SystemDisk, &path, nobody).unwrap(), Kept::new());

        let tier = Tier { rules: Vec::new(), otherwise: Action::Deny, origin: Origin(3) };
        let closed = Arc::new(PodPolicy { egress: Rules { tiers: vec![tier] }, ingress: Rules::default() });
        let uid = ToOwned::to_owned;
        let kept = Kept::from([(uid("a"), closed.clone()), (uid("b"), Arc::default()), (uid("c"), closed)]);
        save(&SystemDisk, &path, &kept).unwrap();
        assert_eq!(load(&SystemDisk, &path, nobody).unwrap(), kept);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("tiers").count(), 4, "each policy stands once: {text}");

        fs::write(&path, text.replace("\"version\": 2", "\"version\": 3")).unwrap();
        assert!(matches!(
            load(&SystemDisk, &path, nobody).unwrap_err(),
            KeptError::File(DurableError::Version { found: 3, .. })
        ));
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(matches!(
            load(&SystemDisk, &path, nobody).unwrap_err(),
            KeptError::File(DurableError::Damaged { .. })
        ));
    }
}
