//! An OVSDB session with one monitor: what the agent's two databases have in common.

use std::sync::Arc;

use ovsdb_session::{Monitor, MonitorTable, Options, Session, Snapshot, State};
use tokio::sync::watch;

use crate::news;

/// Why rows are not up to date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Outage {
    /// The server takes the connection, and not the monitor.
    #[error("{0}")]
    Refused(Arc<str>),
    /// Or not found yet.
    #[error("{0}")]
    Lost(String),
    #[error("connecting")]
    Connecting,
    #[error("its contents have not come yet")]
    Empty,
}

pub struct Replica {
    pub session: Session,
    pub monitor: Monitor,
    snapshots: watch::Receiver<Snapshot>,
    state: watch::Receiver<State>,
}

impl Replica {
    pub fn start(options: Options, database: &str, tables: Vec<MonitorTable>) -> Self {
        let session = Session::start(options);
        let monitor = session.monitor(database, tables);
        let (snapshots, state) = (monitor.watch(), session.state());
        Self { session, monitor, snapshots, state }
    }

    /// Resolves when the rows, or whether they are kept up to date, changed since [`Replica::last`].
    pub async fn changed(&mut self) {
        news::changed(&mut self.snapshots).await;
    }

    /// The rows as last seen: a lost connection leaves them.
    pub fn last(&mut self) -> Snapshot {
        self.snapshots.borrow_and_update().clone()
    }

    /// Why the rows are not up to date, if they are not.
    pub fn outage(&self) -> Option<Outage> {
        let snapshot = self.snapshots.borrow();
        if let Some(error) = &snapshot.error {
            return Some(Outage::Refused(error.clone()));
        }
        if snapshot.connected && snapshot.synced {
            return None;
        }
        Some(match &*self.state.borrow() {
            State::Connecting { error: Some(error) } => Outage::Lost(error.clone()),
            State::Connecting { error: None } => Outage::Connecting,
            State::Connected { .. } => Outage::Empty,
        })
    }
}
