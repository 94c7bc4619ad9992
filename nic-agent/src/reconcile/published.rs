//! What the reconciler tells the rest of the agent: every attachment and how far it has come.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::claim::{Attached, Claim, SandboxKey};

/// A snapshot, replaced after every pass.
#[derive(Debug, Clone, Default)]
pub struct Published {
    pub attachments: BTreeMap<SandboxKey, Entry>,
    /// Why an attach could not succeed now, if so.
    pub unready: Option<String>,
    /// Passes so far; the first is done when this is not 0.
    pub passes: u64,
    /// What the last pass had to change; 0 when all was right.
    pub steps: usize,
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub claim: Claim,
    /// Grows with each Attach of this sandbox, so that one that gives up does not withdraw another's.
    pub token: u64,
    pub state: State,
}

#[derive(Debug, Clone)]
pub enum State {
    Ready(Arc<Attached>),
    /// The first thing that is missing.
    Waiting(String),
}
