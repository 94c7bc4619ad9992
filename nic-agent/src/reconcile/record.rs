//! What the loop remembers of one attachment beside the ledger. A restart forgets it.

use super::waited::Waited;

#[derive(Debug, Default)]
pub(super) struct Record {
    /// How long, and for whom, it has waited while it is new.
    pub waited: Option<Waited>,
    /// What the server says keeps the interface from its pod; the server's next word is believed again.
    pub reported: Option<String>,
    /// What was last said of its pod's annotations.
    pub remarks: Vec<String>,
}
