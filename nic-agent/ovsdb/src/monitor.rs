//! Monitors: tables kept as a replica for as long as the handle lives, through any number of connections.
//!
//! A monitor is asked for with `monitor_cond_since`; a server that lacks it gets `monitor_cond`. After a reconnection
//! the last transaction's id is offered: a clustered server resumes there, a standalone one sends everything, which is
//! then compared with the replica. In both cases a watcher sees only what has changed.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, watch};

use crate::command::{Command, Error};
use crate::monitor_table::Rows;
use crate::snapshot::Snapshot;

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
