//! What the cluster wants of a pod, whatever network its interface is on.

use std::collections::BTreeMap;

use crate::attachment::AttachmentId;
use crate::enforcement::Enforced;

/// Of one attachment. Steering and a rate will stand beside the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodIntent {
    pub policy: Enforced,
}

impl PodIntent {
    /// Is there a policy to be ready with?
    pub fn policy_known(&self) -> Result<(), &str> {
        match &self.policy {
            Enforced::Policy(_) => Ok(()),
            Enforced::Closed { why } => Err(why),
        }
    }
}

/// For every attachment of the ledger.
pub type Intents = BTreeMap<AttachmentId, PodIntent>;
