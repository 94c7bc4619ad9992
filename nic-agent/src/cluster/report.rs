//! All that the agent writes to the API, as one task: it begins anew with each new credential and ends with the agent.
//!
//! ```text
//!  Accesses ─► own NicNode ─► watch<Own> ─► the configuration
//!              status      ◄─ Published, configuration's Report, Daemons
//!              attachments ◄─ Published
//!              events      ◄─ refusals, Published
//! ```
//!
//! Nothing of the data path ever waits for it: it is fed by watch channels and one short queue that drops.

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::client::Accesses;
use super::own_node::{self, Own};
use super::{attachments, events, status};

pub struct Inputs {
    pub accesses: Accesses,
    /// `node.name`, and so `metadata.name` of our NicNode.
    pub node: String,
    pub own: watch::Sender<Own>,
    pub status: status::Inputs,
    pub attachments: attachments::Inputs,
    pub events: events::Teller,
}

/// Until cancelled.
pub async fn run(from: Inputs, cancel: CancellationToken) {
    let Inputs { mut accesses, node, own, status: of_status, attachments: of_pods, events: mut teller } =
        from;
    loop {
        let access = accesses.borrow_and_update().clone();
        let work = async {
            // Why there is no credential is in the log already.
            let Ok(access) = access else { return std::future::pending().await };
            let client = match access.client() {
                Ok(client) => client,
                Err(error) => {
                    warn!(error = %error, "nothing is written to the Kubernetes API");
                    return std::future::pending().await;
                }
            };
            tokio::join!(
                own_node::follow(client.clone(), &node, &own),
                status::run(client.clone(), of_status.clone()),
                attachments::run(client.clone(), of_pods.clone()),
                teller.run(client, &node),
            );
            // Each ended because the agent stops.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = work => {}
            changed = accesses.changed() => if changed.is_err() { return },
        }
    }
}
