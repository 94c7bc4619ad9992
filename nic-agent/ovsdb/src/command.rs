//! What handles ask of the session, and how that fails.

use serde_json::Value;
use tokio::sync::oneshot;

use crate::entry::Entry;
use crate::monitor_table::Rows;
use crate::op::ResultError;
use crate::rpc::RpcError;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no connection; nothing was sent.
    #[error("not connected: {0}")]
    NotConnected(String),
    /// The connection was lost before the answer: whether the server did it is not known.
    #[error("connection lost before the answer: {0}")]
    Lost(String),
    /// The server takes nothing any more; nothing was sent.
    #[error("too much is waiting to be sent")]
    Backlog,
    /// The session's task has ended.
    #[error("the session has ended")]
    Closed,
    /// The server refused the request as such.
    #[error("{method}: {error}")]
    Refused {
        /// Which request.
        method: &'static str,
        /// Its words.
        error: RpcError,
    },
    /// The transaction was not done.
    #[error(transparent)]
    Transaction(#[from] ResultError),
    /// An answer that is none.
    #[error("{0}: malformed answer")]
    Malformed(&'static str),
}

pub(crate) type Answer = Result<Value, Error>;

/// What handles ask of the task.
#[derive(Debug)]
pub(crate) enum Command {
    Call { method: &'static str, params: Value, answer: oneshot::Sender<Answer> },
    Monitor { id: u64, entry: Box<Entry> },
    Conditions { monitor: u64, table: String, rows: Rows, generation: u64 },
    Forget { monitor: u64 },
}
