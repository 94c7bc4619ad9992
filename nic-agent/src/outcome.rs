//! What a pass did, or could not do.

use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub struct Outcome {
    pub steps: usize,
    pub errors: BTreeSet<String>,
}

impl Outcome {
    pub fn failed(&mut self, what: &str, error: impl std::fmt::Display) {
        self.errors.insert(format!("{what}: {error}"));
    }
}
