//! Where clients come from.

use std::sync::Arc;

use kube::Client;
use tokio::sync::watch;

/// Called when the server has answered a request with success.
pub type Answered = Arc<dyn Fn() + Send + Sync>;

/// Makes clients with one credential.
pub trait Access: Send + Sync + 'static {
    /// One with connections of its own, that calls `answered`.
    fn watched_client(&self, answered: Answered) -> Result<Client, String>;
}

/// A client whose credential somebody else keeps. Whether the server answers is known by what a watch says.
impl Access for Client {
    fn watched_client(&self, _: Answered) -> Result<Client, String> {
        Ok(self.clone())
    }
}

/// The newest, or why there is none yet.
pub type Accesses<A> = watch::Receiver<Result<Arc<A>, String>>;
