//! The policies that are enforced, kept over a restart: `policy.json` beside the ledger.
//!
//! Written before the flows that follow from it, so that a crash in between leaves the newer policy. Each distinct
//! policy stands once. Failure: a file that is damaged, or newer than we are, is an error; the caller goes on without,
//! and pods whose policy nobody knows pass nothing until the source has spoken.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use offload::policy::PodPolicy;
use serde::{Deserialize, Serialize};

use crate::claim::SandboxKey;
use crate::durable::{self, DurableError};

const VERSION: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    #[error(transparent)]
    File(#[from] DurableError),
    #[error("{path} is damaged: {pod} has policy {index}, and there are {count}")]
    NoSuchPolicy { path: PathBuf, pod: SandboxKey, index: usize, count: usize },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    policies: Vec<PodPolicy>,
    /// Index into `policies`.
    pods: Vec<(SandboxKey, usize)>,
}

/// By attachment.
pub type Kept = BTreeMap<SandboxKey, Arc<PodPolicy>>;

/// A file that is not there keeps nothing.
pub fn load(path: &Path) -> Result<Kept, KeptError> {
    let Some(stored) = durable::read_json::<Stored>(path, VERSION)? else {
        return Ok(Kept::new());
    };
    let policies: Vec<Arc<PodPolicy>> = stored.policies.into_iter().map(Arc::new).collect();
    let of = |(pod, index): (SandboxKey, usize)| match policies.get(index) {
        Some(policy) => Ok((pod, policy.clone())),
        None => Err(KeptError::NoSuchPolicy { path: path.to_owned(), pod, index, count: policies.len() }),
    };
    stored.pods.into_iter().map(of).collect()
}

pub fn save(path: &Path, kept: &Kept) -> Result<(), KeptError> {
    let mut index = BTreeMap::new();
    let mut policies = Vec::new();
    let mut pods = Vec::new();
    for (pod, policy) in kept {
        let number = *index.entry(policy).or_insert_with(|| {
            policies.push(PodPolicy::clone(policy));
            policies.len() - 1
        });
        pods.push((pod.clone(), number));
    }
    let stored = Stored { version: VERSION, policies, pods };
    Ok(durable::write_json(path, &stored)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use offload::policy::{Action, Origin, Rules, Tier};

    use super::*;

    #[test]
    fn policies_survive_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.json");
        assert_eq!(load(&path).unwrap(), Kept::new());

        let tier = Tier { rules: Vec::new(), otherwise: Action::Deny, origin: Origin(3) };
        let closed = Arc::new(PodPolicy { egress: Rules { tiers: vec![tier] }, ingress: Rules::default() });
        let key = |sandbox: &str| SandboxKey { sandbox: sandbox.to_owned(), interface: "eth0".to_owned() };
        let kept = Kept::from([(key("a"), closed.clone()), (key("b"), Arc::default()), (key("c"), closed)]);
        save(&path, &kept).unwrap();
        assert_eq!(load(&path).unwrap(), kept);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches("tiers").count(), 4, "each policy stands once: {text}");

        fs::write(&path, text.replace("\"version\": 1", "\"version\": 2")).unwrap();
        assert!(matches!(load(&path).unwrap_err(), KeptError::File(DurableError::Version { found: 2, .. })));
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        assert!(matches!(load(&path).unwrap_err(), KeptError::File(DurableError::Damaged { .. })));
    }
}
