//! What the loop remembers of one attachment beside the ledger. A restart forgets it.

use std::sync::Arc;

use offload::policy::PodPolicy;

use super::waited::Waited;

#[derive(Debug, Default)]
pub(super) struct Record {
    /// The policy that its flows have.
    pub in_force: Option<Arc<PodPolicy>>,
    /// How long, and for whom, it has waited while it is new.
    pub waited: Option<Waited>,
    /// What the server says keeps the interface from its pod; the server's next word is believed again.
    pub reported: Option<String>,
    /// What was last said of its pod's annotations.
    pub remarks: Vec<String>,
}
