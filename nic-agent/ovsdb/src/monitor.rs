//! Monitors: tables kept as a replica for as long as the handle lives, through any number of connections.
//!
//! A monitor is asked for with `monitor_cond_since`; a server that lacks it gets `monitor_cond`. After a reconnection
//! the last transaction's id is offered: a clustered server resumes there, a standalone one sends everything, which is
//! then compared with the replica. In both cases a watcher sees only what has changed.

pub(crate) mod entry;

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::op::Condition;
use crate::row::Table;
use crate::session::{Command, Error};
use crate::snapshot::Snapshot;

/// Which rows of a table a monitor wants.
///
/// On the wire no condition at all means *every* row. To collect the ports one has and to ask for "any of these" would
/// thus, for nobody's port, ask for everybody's. So here "any of none" is no row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rows {
    /// Every row.
    #[default]
    All,
    /// The rows for which at least one of the conditions holds.
    Any(Vec<Condition>),
}

impl From<Vec<Condition>> for Rows {
    fn from(conditions: Vec<Condition>) -> Self {
        Self::Any(conditions)
    }
}

impl Rows {
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::All => json!([true]),
            Self::Any(conditions) if conditions.is_empty() => json!([false]),
            Self::Any(conditions) => conditions.iter().map(Condition::to_json).collect(),
        }
    }
}

/// A table to be monitored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitorTable {
    /// Its name; a monitor holds a table once, and of two entries for one the last counts.
    pub name: String,
    /// Its columns. Those that the server's schema lacks are left out, and named in the snapshot's `missing`.
    pub columns: Vec<String>,
    /// Its rows.
    pub conditions: Rows,
}

impl MonitorTable {
    /// The columns that a typed row reads, of every row.
    pub fn of<T: Table>() -> Self {
        Self {
            name: T::NAME.into(),
            columns: T::COLUMNS.iter().map(|column| (*column).into()).collect(),
            conditions: Rows::All,
        }
    }

    /// Only these rows.
    #[must_use]
    pub fn when(mut self, rows: impl Into<Rows>) -> Self {
        self.conditions = rows.into();
        self
    }
}

/// A monitor's handle. While a clone of it lives the session goes on, too; when the last is dropped the server is told
/// to stop.
#[derive(Clone, Debug)]
pub struct Monitor {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: u64,
    commands: mpsc::UnboundedSender<Command>,
    snapshot: watch::Receiver<Snapshot>,
    tables: Vec<String>,
    /// The last generation given out. Locked while the command is sent: generations arrive in order.
    generation: Mutex<u64>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Fails only when the session's task is gone, and the monitor with it.
        drop(self.commands.send(Command::Forget { monitor: self.id }));
    }
}

impl Monitor {
    pub(crate) fn new(
        id: u64,
        commands: mpsc::UnboundedSender<Command>,
        snapshot: watch::Receiver<Snapshot>,
        tables: Vec<String>,
    ) -> Self {
        Self { inner: Arc::new(Inner { id, commands, snapshot, tables, generation: Mutex::new(0) }) }
    }

    /// The replica, as it changes.
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.inner.snapshot.clone()
    }

    /// The replica as it is.
    pub fn snapshot(&self) -> Snapshot {
        self.inner.snapshot.borrow().clone()
    }

    /// Changes which rows of a table are wanted, now and after every reconnection.
    ///
    /// Returns the change's generation: once [`Snapshot::covers`] says yes to it, the rows that match are here and those
    /// that do not are gone. Several changes made while the server has not answered go out as one.
    pub fn set_conditions(&self, table: &str, rows: impl Into<Rows>) -> u64 {
        let mut last = self.inner.generation.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.inner.tables.iter().any(|name| name == table) {
            tracing::error!(table, "conditions for a table that is not monitored are ignored");
            return *last;
        }
        *last += 1;
        let command = Command::Conditions {
            monitor: self.inner.id,
            table: table.into(),
            rows: rows.into(),
            generation: *last,
        };
        // Fails only when the session's task is gone: then the watch says so.
        drop(self.inner.commands.send(command));
        *last
    }

    /// Waits until the replica is connected and covers a generation, and returns it.
    pub async fn synced_to(&self, generation: u64) -> Result<Snapshot, Error> {
        let mut watch = self.watch();
        let snapshot = watch
            .wait_for(|snapshot| snapshot.connected && snapshot.covers(generation))
            .await
            .map_err(|_| Error::Closed)?;
        Ok(snapshot.clone())
    }
}
