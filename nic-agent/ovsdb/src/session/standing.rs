//! Is the server one to stay with? No I/O.
//!
//! A member of a cluster that is cut off from the others goes on to answer: from what it had, and transactions never end. What
//! it knows of itself stands in its database `_Server` (ovsdb-server(5)), which is watched as OVS's own clients do
//! (`ovsdb_cs_check_server_db()` in `lib/ovsdb-cs.c`): it must have the databases that are monitored, with a schema, and
//! of a clustered one be connected, and not behind what was seen of that cluster before. A follower is as good as the
//! leader: it passes transactions on.
//!
//! Unlike theirs, what was seen counts for that cluster alone: one that was made again begins anew.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::entry::{Ask, Fault};
use crate::replica::{Layout, Replica};
use crate::row::Row;
use crate::rpc::RpcError;
use crate::schema::DatabaseSchema;

const DATABASE: &str = "_Server";
const TABLE: &str = "Database";
const COLUMNS: [&str; 7] = ["name", "model", "connected", "leader", "schema", "cid", "index"];

/// The monitor's id: a caller's begin at 1.
pub(super) const MONITOR: u64 = 0;

/// Why a server is left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("it does not have the database {0}")]
    Absent(String),
    #[error("of {0} it has no schema yet: it has not joined the cluster")]
    NotJoined(String),
    #[error("of {0} it is disconnected from the cluster")]
    Disconnected(String),
    #[error("of {db} its data are stale: at {index}, and {seen} has been seen")]
    Stale { db: String, index: i64, seen: i64 },
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Idle,
    Schema,
    Initial,
    Live,
    /// It has no such database: one of before OVS 2.9, or no `ovsdb-server`.
    Silent,
}

#[derive(Debug, Default)]
pub(super) struct Standing {
    phase: Phase,
    replica: Replica,
    /// How far each cluster was seen to be, by its id.
    seen: BTreeMap<Uuid, i64>,
}

impl Standing {
    /// What to ask first; nothing if it was asked.
    pub fn begin(&mut self) -> Option<Ask> {
        let Phase::Idle = self.phase else { return None };
        self.phase = Phase::Schema;
        Some(Ask { method: "get_schema", params: json!([DATABASE]) })
    }

    /// Is there all that there will be to judge by?
    pub fn is_known(&self) -> bool {
        matches!(self.phase, Phase::Live | Phase::Silent)
    }

    /// The answer to what was asked, and what to ask next.
    pub fn answer(&mut self, answer: Result<Value, RpcError>) -> Result<Option<Ask>, Fault> {
        // Until the answer turns out to be good.
        match (std::mem::replace(&mut self.phase, Phase::Silent), answer) {
            (Phase::Schema, Ok(schema)) => {
                let schema: DatabaseSchema =
                    serde_json::from_value(schema).map_err(|_| Fault::Malformed("schema"))?;
                let wanted = COLUMNS.map(str::to_owned);
                let (layout, missing) = Layout::new(&schema, [(TABLE, wanted.as_slice())]);
                let columns: Vec<&str> = COLUMNS
                    .into_iter()
                    .filter(|column| !missing.contains(&format!("{TABLE}.{column}")))
                    .collect();
                if !layout.has(TABLE) {
                    return Ok(None);
                }
                self.replica = Replica::default();
                self.replica.set_layout(layout);
                self.phase = Phase::Initial;
                let tables = json!({TABLE: [{"columns": columns}]});
                Ok(Some(Ask { method: "monitor_cond", params: json!([DATABASE, MONITOR, tables]) }))
            }
            (Phase::Initial, Ok(rows)) => {
                self.replica.refresh(&rows)?;
                self.phase = Phase::Live;
                Ok(None)
            }
            (Phase::Schema | Phase::Initial, Err(error)) => {
                tracing::debug!(%error, "the server says nothing of itself");
                Ok(None)
            }
            _ => Err(Fault::Malformed("answer to no request")),
        }
    }

    /// An update of the monitor.
    pub fn update(&mut self, updates: &Value) -> Result<(), Fault> {
        let Phase::Live = self.phase else { return Err(Fault::Malformed("update before the initial rows")) };
        self.replica.update(updates)?;
        Ok(())
    }

    /// The connection is gone.
    pub fn disconnected(&mut self) {
        self.phase = Phase::Idle;
    }

    /// Is it a server for this database? With no other to go to (`alone`) one that lacks it is: it may get it.
    pub fn judge(&mut self, db: &str, alone: bool) -> Result<(), Unfit> {
        let Phase::Live = self.phase else { return Ok(()) };
        let rows = self.replica.tables().get(TABLE);
        let rows = rows.into_iter().flat_map(imbl::OrdMap::values);
        let mut named = rows.filter(|row| text(row, "name").as_deref() == Some(db));
        let Some(row) = named.next() else {
            return if alone { Ok(()) } else { Err(Unfit::Absent(db.to_owned())) };
        };
        if text(row, "schema").is_none() {
            return Err(Unfit::NotJoined(db.to_owned()));
        }
        if text(row, "model").as_deref() != Some("clustered") {
            return Ok(());
        }
        if row.field("connected") == Ok(false) {
            return Err(Unfit::Disconnected(db.to_owned()));
        }
        let cluster: Option<Uuid> = row.field("cid").ok().flatten();
        let index: Option<i64> = row.field("index").ok().flatten();
        if let (Some(cluster), Some(index)) = (cluster, index) {
            let seen = self.seen.entry(cluster).or_insert(index);
            if index < *seen {
                return Err(Unfit::Stale { db: db.to_owned(), index, seen: *seen });
            }
            *seen = index;
        }
        Ok(())
    }
}

/// Of a column with one text, or none.
fn text(row: &Row, column: &str) -> Option<String> {
    row.field::<Option<String>>(column).ok().flatten()
}

#[cfg(test)]
mod tests;
