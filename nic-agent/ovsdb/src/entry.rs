//! One monitor on the session's side: what to ask the server next, and what its answers mean. No I/O.
//!
//! ```text
//!            get_schema        monitor_cond_since, or monitor_cond      monitor_cond_change
//!   Idle ──────────────► Schema ──────────────► Initial ──► Live ◄─────────────► Changing
//!     ▲                    └────── refused ───────┴──► Failed (asked again later)
//!     └── connection lost, from anywhere
//! ```
//! There is one request under way at most, so an answer needs no label other than the monitor's id.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use crate::monitor_table::{MonitorTable, Rows};
use crate::replica::{Layout, Replica, ReplicaFault};
use crate::rpc::RpcError;
use crate::schema::DatabaseSchema;
use crate::snapshot::Snapshot;

/// A request to be sent; its answer goes to [`Entry::answer`].
#[derive(Debug, PartialEq)]
pub(crate) struct Ask {
    pub method: &'static str,
    pub params: Value,
}

/// Why the connection cannot be used any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    #[error("monitor: {0}")]
    Replica(#[from] ReplicaFault),
    #[error("monitor: malformed {0}")]
    Malformed(&'static str),
}

type Conditions = BTreeMap<String, Rows>;

#[derive(Debug)]
enum Phase {
    Idle,
    Schema,
    Initial { since: bool, conditions: Conditions, generation: u64 },
    Live,
    Changing { conditions: Conditions, generation: u64 },
    Failed,
}

#[derive(Debug)]
pub(crate) struct Entry {
    id: u64,
    db: String,
    columns: BTreeMap<String, Vec<String>>,
    phase: Phase,
    wanted: Conditions,
    wanted_generation: u64,
    /// What the rows in the replica were selected by.
    held: Conditions,
    /// The transaction up to which the replica holds everything that `held` selects.
    resume: Option<Uuid>,
    replica: Replica,
    snapshot: watch::Sender<Snapshot>,
}

impl Entry {
    pub fn new(id: u64, db: String, tables: Vec<MonitorTable>, snapshot: watch::Sender<Snapshot>) -> Self {
        let mut columns = BTreeMap::new();
        let mut wanted = Conditions::new();
        for table in tables {
            columns.insert(table.name.clone(), table.columns);
            wanted.insert(table.name, table.conditions);
        }
        Self {
            id,
            db,
            columns,
            phase: Phase::Idle,
            wanted,
            wanted_generation: 0,
            held: Conditions::new(),
            resume: None,
            replica: Replica::default(),
            snapshot,
        }
    }

    /// The server is there: begin.
    pub fn begin(&mut self) -> Ask {
        self.phase = Phase::Schema;
        Ask { method: "get_schema", params: json!([self.db]) }
    }

    /// Of which database?
    pub fn db(&self) -> &str {
        &self.db
    }

    /// Has it not begun on this connection?
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    /// The request under way was refused; it is asked again later.
    pub fn has_failed(&self) -> bool {
        matches!(self.phase, Phase::Failed)
    }

    /// Does the server hold a monitor of this id?
    pub fn is_at_server(&self) -> bool {
        matches!(self.phase, Phase::Initial { .. } | Phase::Live | Phase::Changing { .. })
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        // Rows of conditions that were never acknowledged may be in the replica already: no id stands for that mixture.
        if matches!(self.phase, Phase::Changing { .. }) {
            self.resume = None;
        }
        self.phase = Phase::Idle;
        self.snapshot.send_if_modified(|snapshot| std::mem::replace(&mut snapshot.connected, false));
    }

    /// Other rows are wanted.
    pub fn set_conditions(&mut self, table: String, rows: Rows, generation: u64) -> Option<Ask> {
        self.wanted.insert(table, rows);
        self.wanted_generation = generation;
        match self.phase {
            Phase::Live => self.change(),
            Phase::Failed => Some(self.begin()),
            _ => None,
        }
    }

    /// The answer to the request under way, and what to ask next.
    pub fn answer(&mut self, answer: Result<Value, RpcError>) -> Result<Option<Ask>, Fault> {
        // Until the answer turns out to be good.
        match std::mem::replace(&mut self.phase, Phase::Failed) {
            Phase::Schema => self.take_schema(answer),
            Phase::Initial { since: true, .. } if matches!(&answer, Err(error) if error.is_unknown_method()) => {
                Ok(Some(self.ask_initial(false)))
            }
            Phase::Initial { since, conditions, generation } => match answer {
                Ok(answer) => self.take_initial(since, conditions, generation, &answer),
                Err(error) => {
                    self.refused("monitor", &error);
                    Ok(None)
                }
            },
            Phase::Changing { conditions, generation } => {
                self.phase = Phase::Live;
                match answer {
                    Ok(_) => {
                        // The server has sent the rows that the change brings, and takes, before this answer.
                        self.held = conditions;
                        self.acknowledge(generation);
                        Ok(self.change())
                    }
                    Err(error) => {
                        self.refused("monitor_cond_change", &error);
                        // The same again would be refused again; later conditions may be better.
                        Ok(if self.wanted_generation > generation { self.change() } else { None })
                    }
                }
            }
            phase @ (Phase::Idle | Phase::Live | Phase::Failed) => {
                self.phase = phase;
                Err(Fault::Malformed("answer to no request"))
            }
        }
    }

    /// An `update2` or `update3` of this monitor.
    pub fn update(&mut self, last_transaction: Option<&Value>, updates: &Value) -> Result<(), Fault> {
        if !matches!(self.phase, Phase::Live | Phase::Changing { .. }) {
            return Err(Fault::Malformed("update before the initial rows"));
        }
        // A fault leaves the replica at an unknown distance from the server.
        let resume = self.resume.take();
        let changed = self.replica.update(updates)?;
        self.resume = match last_transaction {
            Some(id) => transaction(id)?,
            None => resume,
        };
        if changed {
            self.publish(|_| ());
        }
        Ok(())
    }

    fn take_schema(&mut self, answer: Result<Value, RpcError>) -> Result<Option<Ask>, Fault> {
        let schema = match answer {
            Ok(schema) => schema,
            Err(error) => {
                self.refused("get_schema", &error);
                return Ok(None);
            }
        };
        let schema: DatabaseSchema =
            serde_json::from_value(schema).map_err(|_| Fault::Malformed("schema"))?;
        let wanted = self.columns.iter().map(|(table, columns)| (table.as_str(), columns.as_slice()));
        let (layout, missing) = Layout::new(&schema, wanted);
        if *self.snapshot.borrow().missing != *missing {
            tracing::warn!(db = %self.db, version = %schema.version, ?missing, "the server's schema lacks what is monitored");
            self.snapshot.send_modify(|snapshot| snapshot.missing = missing.into());
        }
        if layout != *self.replica.layout() {
            self.replica.set_layout(layout);
            self.resume = None;
        }
        Ok(Some(self.ask_initial(true)))
    }

    fn ask_initial(&mut self, since: bool) -> Ask {
        let mut requests = Map::new();
        for (table, columns) in self.replica.layout().tables() {
            let rows = self.wanted.get(table).map_or(Value::Bool(true), Rows::to_json);
            let columns: Vec<&str> = columns.iter().map(|column| &**column).collect();
            requests.insert(table.into(), json!([{"columns": columns, "where": rows}]));
        }
        self.phase =
            Phase::Initial { since, conditions: self.wanted.clone(), generation: self.wanted_generation };
        if !since {
            return Ask { method: "monitor_cond", params: json!([self.db, self.id, requests]) };
        }
        // Resuming is right only for the very rows that the replica holds.
        let last = if self.held == self.wanted { self.resume } else { None };
        let last = last.unwrap_or_default().to_string();
        Ask { method: "monitor_cond_since", params: json!([self.db, self.id, requests, last]) }
    }

    fn take_initial(
        &mut self,
        since: bool,
        conditions: Conditions,
        generation: u64,
        answer: &Value,
    ) -> Result<Option<Ask>, Fault> {
        let resumed_from = self.resume.take();
        if since {
            let [found, last, updates] = answer.as_array().map(Vec::as_slice).unwrap_or_default() else {
                return Err(Fault::Malformed("answer to monitor_cond_since"));
            };
            let found = found.as_bool().ok_or(Fault::Malformed("answer to monitor_cond_since"))?;
            if found {
                self.replica.update(updates)?;
            } else {
                self.replica.refresh(updates)?;
            }
            self.resume = transaction(last)?;
            tracing::debug!(db = %self.db, found, offered = ?resumed_from, "monitor has its rows");
        } else {
            self.replica.refresh(answer)?;
        }
        self.held = conditions;
        self.phase = Phase::Live;
        self.publish(|snapshot| {
            snapshot.synced = true;
            snapshot.connected = true;
            snapshot.generation = generation;
            snapshot.error = None;
        });
        Ok(self.change())
    }

    /// Asks for the wanted conditions, if they are other than those that the server has.
    fn change(&mut self) -> Option<Ask> {
        let generation = self.wanted_generation;
        if generation == self.snapshot.borrow().generation {
            return None;
        }
        let requests: Map<String, Value> = self
            .wanted
            .iter()
            .filter(|(table, rows)| self.held.get(*table) != Some(rows) && self.replica.layout().has(table))
            .map(|(table, rows)| (table.clone(), json!([{"where": rows.to_json()}])))
            .collect();
        if requests.is_empty() {
            self.held = self.wanted.clone();
            self.acknowledge(generation);
            return None;
        }
        self.phase = Phase::Changing { conditions: self.wanted.clone(), generation };
        Some(Ask { method: "monitor_cond_change", params: json!([self.id, self.id, requests]) })
    }

    fn acknowledge(&self, generation: u64) {
        self.publish(|snapshot| {
            snapshot.generation = generation;
            snapshot.error = None;
        });
    }

    fn refused(&mut self, method: &'static str, error: &RpcError) {
        tracing::warn!(db = %self.db, method, %error, "the server refuses a monitor");
        let text: Arc<str> = format!("{method}: {error}").into();
        self.snapshot.send_modify(|snapshot| snapshot.error = Some(text));
    }

    fn publish(&self, change: impl FnOnce(&mut Snapshot)) {
        let tables = self.replica.tables();
        self.snapshot.send_modify(|snapshot| {
            if crate::replica::differ(&snapshot.tables, tables) {
                snapshot.revision += 1;
            }
            snapshot.tables = tables.clone();
            change(snapshot);
        });
    }
}

/// A transaction's id; a standalone server's is zero and stands for nothing.
fn transaction(id: &Value) -> Result<Option<Uuid>, Fault> {
    let id: Uuid = id.as_str().and_then(|id| id.parse().ok()).ok_or(Fault::Malformed("transaction id"))?;
    Ok(Some(id).filter(|id| !id.is_nil()))
}

#[cfg(test)]
mod tests;
