//! What a pass did, or could not do.

use std::collections::BTreeSet;

#[derive(Default)]
pub(super) struct Outcome {
    pub(super) steps: usize,
    pub(super) errors: BTreeSet<String>,
    /// Ports that were added or taken away: what the view says of them is what they were before.
    pub(super) moved: BTreeSet<String>,
}

impl Outcome {
    pub(super) fn failed(&mut self, what: &str, error: impl std::fmt::Display) {
        self.errors.insert(format!("{what}: {error}"));
    }
}
