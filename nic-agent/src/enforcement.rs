//! Which policy holds for which pod of this NIC: what the source says, else what it last said, else nothing passes.
//!
//! ```text
//!  policy source ── watch<Policies> ──► resolve ──► flows of br-edge ──► audit: connections no longer allowed
//!                                         ▲
//!  policy.json (what was last enforced) ──┘
//! ```
//!
//! Losing the source changes nothing that is enforced, over a restart of the agent, too. A pod that the source has
//! never spoken of passes nothing and is not ready: nobody knows what it may do.

pub mod feed;
pub mod kept;
pub mod source;

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use offload::policy::{Action, Origin, PodPolicy, Rules, Tier};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::policy::{OriginKey, Origins};

/// What the policy source says.
#[derive(Debug, Clone)]
pub enum Policies {
    /// There is none: pods have no policy.
    Off,
    Unknown {
        why: String,
    },
    /// Once known, a source that fails keeps its last word.
    Known(Arc<Known>),
}

/// A policy source's word. A copy costs next to nothing, however many pods there are.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// What it was made from, so that who wrote it can see that it is in force: SHA-256 of the file's text, in hex, or
    /// of each kind the resourceVersion up to which all has been taken in.
    pub source: String,
    /// Of every pod of this node, by uid.
    pub pods: OrdMap<Arc<str>, Arc<PodPolicy>>,
    /// What users should know of their policies.
    pub reports: Arc<[String]>,
    /// Of them, what this NIC's own node is not believed.
    pub disbelieved: Arc<[Disbelieved]>,
    /// Whose rule it is that bears this mark in a cookie.
    pub origins: Origins,
    /// The same as a recording tells it, of which no `origins` are made again.
    pub told: Arc<BTreeMap<Origin, RuleName>>,
}

/// What a rule is known by, whatever becomes of the policy's other rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleName {
    /// The policy's.
    pub uid: String,
    /// All that the rule says.
    pub wording: String,
}

impl Known {
    pub fn rule(&self, origin: Origin) -> Option<RuleName> {
        let of = |key: &OriginKey| RuleName { uid: key.uid().to_owned(), wording: key.wording() };
        self.origins.key(origin).map(of).or_else(|| self.told.get(&origin).cloned())
    }

    pub fn rules(&self) -> BTreeMap<Origin, RuleName> {
        let of = |key: &OriginKey| RuleName { uid: key.uid().to_owned(), wording: key.wording() };
        let made = self.origins.iter().map(|(origin, key)| (origin, of(key)));
        made.chain(self.told.iter().map(|(origin, name)| (*origin, name.clone()))).collect()
    }
}

/// Something that a node says of its pods and that counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disbelieved {
    /// For programs.
    pub reason: &'static str,
    pub what: String,
}

pub type PolicyWatch = watch::Receiver<Policies>;

/// What is enforced on one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enforced {
    /// As the source says, or as it last said.
    Policy(Arc<PodPolicy>),
    /// Nothing passes, until the source says more.
    Closed { why: String },
}

impl Enforced {
    pub fn policy(&self) -> Arc<PodPolicy> {
        match self {
            Self::Policy(policy) => policy.clone(),
            Self::Closed { .. } => Arc::new(closed()),
        }
    }
}

/// Denies both directions in nobody's name.
pub(crate) fn closed() -> PodPolicy {
    let nothing =
        Rules { tiers: vec![Tier { rules: Vec::new(), otherwise: Action::Deny, origin: Origin::default() }] };
    PodPolicy { egress: nothing.clone(), ingress: nothing }
}

/// `kept` is what was last enforced on this pod.
pub fn resolve(policies: &Policies, uid: &str, kept: Option<&Arc<PodPolicy>>) -> Enforced {
    let why = match policies {
        Policies::Off => return Enforced::Policy(Arc::default()),
        Policies::Known(known) => match known.pods.get(uid) {
            Some(policy) => return Enforced::Policy(policy.clone()),
            None => "the policy source does not know the pod yet".to_owned(),
        },
        Policies::Unknown { why } => why.clone(),
    };
    kept.map_or(Enforced::Closed { why }, |policy| Enforced::Policy(policy.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_last_said_holds_and_the_unknown_pass_nothing() {
        let some = Arc::new(closed());
        let known = Policies::Known(Arc::new(Known {
            pods: OrdMap::unit("a".into(), some.clone()),
            ..Known::default()
        }));
        let unknown = Policies::Unknown { why: "file is gone".to_owned() };
        let open = Arc::new(PodPolicy::default());
        assert_eq!(resolve(&Policies::Off, "a", Some(&some)), Enforced::Policy(open.clone()));
        assert_eq!(resolve(&known, "a", Some(&open)), Enforced::Policy(some.clone()));
        assert_eq!(resolve(&known, "b", Some(&open)), Enforced::Policy(open.clone()));
        assert_eq!(resolve(&unknown, "a", Some(&some)), Enforced::Policy(some));
        for policies in [known, unknown] {
            let nobody = resolve(&policies, "b", None);
            assert!(matches!(&nobody, Enforced::Closed { .. }), "{nobody:?}");
            assert!(!nobody.policy().egress.is_open() && !nobody.policy().ingress.is_open());
        }
    }
}
