//! What a monitor's replica looked like at one moment. A clone costs O(1).

use std::sync::Arc;

use imbl::ordmap::DiffItem;
use uuid::Uuid;

use crate::replica::{TableRows, Tables};
use crate::row::{Row, RowError, Table};

/// A moment of a replica.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Have all rows been here once? Stays true: rows are kept while the connection is lost.
    pub synced: bool,
    /// Are the rows being kept up to date? False from the loss of the connection until all rows are here again.
    pub connected: bool,
    /// The last [`set_conditions`](crate::Monitor::set_conditions) that the server has answered and whose rows are
    /// here; 0 for the conditions that the monitor began with. See [`Snapshot::covers`].
    pub generation: u64,
    /// Counts the changes of rows: two snapshots of one monitor with one revision hold the same rows.
    pub revision: u64,
    /// Why the server refuses the monitor or its last conditions, while it does.
    pub error: Option<Arc<str>>,
    /// Tables (`T`) and columns (`T.c`) that were asked for and that the server's schema does not have.
    pub missing: Arc<[String]>,
    pub(crate) tables: Tables,
}

/// A row that is not the same in two snapshots.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its table.
    pub table: Arc<str>,
    /// Which.
    pub uuid: Uuid,
    /// What it was; `None` for a new one.
    pub old: Option<Arc<Row>>,
    /// What it is; `None` for one that is gone.
    pub new: Option<Arc<Row>>,
}

impl Snapshot {
    /// Is it known which rows the conditions of this generation select? Until then a row's absence says nothing.
    pub fn covers(&self, generation: u64) -> bool {
        self.synced && self.generation >= generation
    }

    fn rows_of(&self, table: &str) -> Option<&TableRows> {
        self.tables.get(table)
    }

    /// A table's rows, in the order of their identifiers. Empty for a table that is not monitored.
    pub fn table(&self, table: &str) -> impl Iterator<Item = (Uuid, &Row)> {
        self.rows_of(table).into_iter().flat_map(|rows| rows.iter().map(|(uuid, row)| (*uuid, &**row)))
    }

    /// How many rows a table has.
    pub fn len(&self, table: &str) -> usize {
        self.rows_of(table).map_or(0, imbl::OrdMap::len)
    }

    /// Has no table any row?
    pub fn is_empty(&self) -> bool {
        self.tables.values().all(imbl::OrdMap::is_empty)
    }

    /// One row.
    pub fn get(&self, table: &str, uuid: Uuid) -> Option<&Row> {
        self.rows_of(table)?.get(&uuid).map(|row| &**row)
    }

    /// One typed row.
    pub fn row<T: Table>(&self, uuid: Uuid) -> Option<Result<T, RowError>> {
        self.get(T::NAME, uuid).map(|row| T::from_row(uuid, row))
    }

    /// A table's typed rows.
    pub fn rows<T: Table>(&self) -> impl Iterator<Item = Result<T, RowError>> {
        self.table(T::NAME).map(|(uuid, row)| T::from_row(uuid, row))
    }

    /// The rows that are not the same in an earlier snapshot of the same monitor. Costs what has changed.
    pub fn changes_since(&self, earlier: &Self) -> Vec<Change> {
        let empty = TableRows::default();
        let mut changes = Vec::new();
        for (name, new) in &self.tables {
            let old = earlier.rows_of(name).unwrap_or(&empty);
            changes.extend(old.diff(new).map(|item| change(name, &item)));
        }
        for (name, old) in &earlier.tables {
            if !self.tables.contains_key(name) {
                changes.extend(old.diff(&empty).map(|item| change(name, &item)));
            }
        }
        changes
    }
}

fn change(table: &Arc<str>, item: &DiffItem<'_, '_, Uuid, Arc<Row>>) -> Change {
    let (uuid, old, new) = match item {
        DiffItem::Add(uuid, new) => (**uuid, None, Some(Arc::clone(new))),
        DiffItem::Remove(uuid, old) => (**uuid, Some(Arc::clone(old)), None),
        DiffItem::Update { old: (uuid, old), new: (_, new) } => {
            (**uuid, Some(Arc::clone(old)), Some(Arc::clone(new)))
        }
    };
    Change { table: Arc::clone(table), uuid, old, new }
}
