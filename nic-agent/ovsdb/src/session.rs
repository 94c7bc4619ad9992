//! The session: one task owns the socket, handles talk to it.
//!
//! Calls are cancel-safe: dropping the future of a call forgets its answer and nothing else. A request that was sent is
//! still done by the server.

mod link;
mod standing;
mod task;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use crate::command::{Answer, Command, Error};
use crate::entry::Entry;
use crate::monitor::Monitor;
use crate::monitor_table::MonitorTable;
use crate::op::{Op, OpResult, parse_results};
use crate::remote::Remote;
use crate::schema::DatabaseSchema;
use crate::snapshot::Snapshot;
use crate::tls::TlsFiles;

/// How to reach the server, and how patient to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// Tried in turn.
    pub remotes: Vec<Remote>,
    /// For `ssl:` remotes.
    pub tls: Option<TlsFiles>,
    /// After so long a silence the server is asked for a sign of life; zero for never.
    pub probe_interval: Duration,
    /// After so long a silence, or so long a handshake, the connection is given up.
    pub dead_after: Duration,
    /// The shortest pause between two rounds of tries.
    pub backoff_min: Duration,
    /// The longest.
    pub backoff_max: Duration,
    /// The longest message taken from a server, in bytes. A monitor's initial rows are one message.
    pub max_message: usize,
}

impl Options {
    /// The defaults: probe after 5 s, dead after 30 s, back-off 1 to 8 s, messages to 256 MiB.
    pub fn new(remotes: Vec<Remote>) -> Self {
        Self {
            remotes,
            tls: None,
            probe_interval: Duration::from_secs(5),
            dead_after: Duration::from_secs(30),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(8),
            max_message: 256 << 20,
        }
    }
}

/// Is there a server?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Not now.
    Connecting {
        /// Why the last try failed, or the last connection was lost.
        error: Option<String>,
    },
    /// Yes, and it has answered.
    Connected {
        /// Counts the connections, from 1.
        epoch: u64,
        /// Which.
        remote: Remote,
    },
}

impl State {
    /// Is there?
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }
}

/// A handle to a session. When the last clone and the last [`Monitor`] are dropped the task ends.
#[derive(Clone, Debug)]
pub struct Session {
    commands: mpsc::UnboundedSender<Command>,
    state: watch::Receiver<State>,
    next_monitor: Arc<AtomicU64>,
}

impl Session {
    /// Starts the session's task on the current runtime. It connects, and reconnects for ever.
    pub fn start(options: Options) -> Self {
        let (commands, receiver) = mpsc::unbounded_channel();
        let (sender, state) = watch::channel(State::Connecting { error: None });
        tokio::spawn(task::Task::new(options, receiver, sender).run());
        Self { commands, state, next_monitor: Arc::new(AtomicU64::new(1)) }
    }

    /// Is there a server? Follows as it changes.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Waits until there is a server, and returns the connection's number. While something is monitored, one that says of
    /// itself that it is not in good standing is none.
    pub async fn connected(&self) -> Result<u64, Error> {
        let mut state = self.state();
        loop {
            if let State::Connected { epoch, .. } = *state.borrow_and_update() {
                return Ok(epoch);
            }
            state.changed().await.map_err(|_| Error::Closed)?;
        }
    }

    /// Does all of the operations, or none. Never tried again by itself.
    pub async fn transact(&self, db: &str, ops: Vec<Op>) -> Result<Vec<OpResult>, Error> {
        let params = std::iter::once(Value::from(db)).chain(ops.iter().map(Op::to_json)).collect();
        let answer = self.call("transact", params).await?;
        Ok(parse_results(&ops, &answer)?)
    }

    /// A database's schema.
    pub async fn schema(&self, db: &str) -> Result<DatabaseSchema, Error> {
        let answer = self.call("get_schema", json!([db])).await?;
        serde_json::from_value(answer).map_err(|_| Error::Malformed("get_schema"))
    }

    /// The databases that the server has.
    pub async fn list_dbs(&self) -> Result<Vec<String>, Error> {
        let answer = self.call("list_dbs", json!([])).await?;
        serde_json::from_value(answer).map_err(|_| Error::Malformed("list_dbs"))
    }

    /// Keeps a replica of these tables, from now on and through reconnections.
    pub fn monitor(&self, db: &str, tables: Vec<MonitorTable>) -> Monitor {
        let id = self.next_monitor.fetch_add(1, Ordering::Relaxed);
        let names = tables.iter().map(|table| table.name.clone()).collect();
        let (sender, snapshot) = watch::channel(Snapshot::default());
        let entry = Box::new(Entry::new(id, db.into(), tables, sender));
        // Fails only when the task is gone: then the watch says so.
        drop(self.commands.send(Command::Monitor { id, entry }));
        Monitor::new(id, self.commands.clone(), snapshot, names)
    }

    async fn call(&self, method: &'static str, params: Value) -> Answer {
        let (answer, receiver) = oneshot::channel();
        self.commands.send(Command::Call { method, params, answer }).map_err(|_| Error::Closed)?;
        receiver.await.map_err(|_| Error::Closed)?
    }
}
