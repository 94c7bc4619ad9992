//! The rows of monitored tables, kept up to date by `table-updates2` (ovsdb-server(7), "Update2 Notification"). No I/O.
//!
//! An update either fits what is here, or it is refused whole and nothing is changed. Unchanged rows stay the same
//! allocation, even through a full refresh, so that a difference of two snapshots costs what has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::datum::{Datum, DatumError};
use crate::row::Row;
use crate::schema::{ColumnType, DatabaseSchema};

/// One table's rows.
pub type TableRows = OrdMap<Uuid, Arc<Row>>;

/// All tables.
pub type Tables = OrdMap<Arc<str>, TableRows>;

/// Which tables and columns there are, and of which types: what the server's schema makes of what was asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    tables: BTreeMap<Arc<str>, TableLayout>,
}

#[derive(Clone, Debug, PartialEq)]
struct TableLayout {
    /// Sorted.
    names: Arc<[Arc<str>]>,
    types: Vec<ColumnType>,
}

impl Layout {
    /// The part of the wanted tables and columns that the schema has, and the names (`Table`, `Table.column`) of the
    /// rest.
    pub fn new<'a>(
        schema: &DatabaseSchema,
        wanted: impl IntoIterator<Item = (&'a str, &'a [String])>,
    ) -> (Self, Vec<String>) {
        let mut layout = Self::default();
        let mut missing = Vec::new();
        for (table, columns) in wanted {
            let Some(table_schema) = schema.tables.get(table) else {
                missing.push(table.to_owned());
                continue;
            };
            let mut found: BTreeMap<Arc<str>, ColumnType> = BTreeMap::new();
            for column in columns {
                match table_schema.columns.get(column) {
                    Some(schema) => drop(found.insert(column.as_str().into(), schema.ty.clone())),
                    None => missing.push(format!("{table}.{column}")),
                }
            }
            let (names, types): (Vec<_>, Vec<_>) = found.into_iter().unzip();
            layout.tables.insert(table.into(), TableLayout { names: names.into(), types });
        }
        (layout, missing)
    }

    /// The tables with their columns.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &[Arc<str>])> {
        self.tables.iter().map(|(name, table)| (&**name, &*table.names))
    }

    /// Is the table there?
    pub fn has(&self, table: &str) -> bool {
        self.tables.contains_key(table)
    }
}

/// Why an update does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplicaFault {
    /// Not of the documented form.
    #[error("malformed update: {0}")]
    Form(&'static str),
    /// No such table was asked for.
    #[error("update of table {0:?}, which is not monitored")]
    Table(String),
    /// No such column was asked for.
    #[error("update of column {table}.{column}, which is not monitored")]
    Column {
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// A value that is none, or of another type than the schema's.
    #[error("column {table}.{column}: {reason}")]
    Value {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// What is wrong.
        reason: String,
    },
    /// A difference to a row that is not here.
    #[error("a difference to row {0}, which is not here")]
    UnknownRow(Uuid),
}

/// The rows.
#[derive(Debug, Default)]
pub struct Replica {
    layout: Layout,
    tables: Tables,
}

enum RowUpdate<'a> {
    Whole(&'a Map<String, Value>),
    Difference(&'a Map<String, Value>),
    Gone,
}

impl Replica {
    /// The rows.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The layout that updates are read by.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Takes on another layout. The rows stay as they are until the next [`Replica::refresh`].
    pub fn set_layout(&mut self, layout: Layout) {
        self.layout = layout;
    }

    /// Takes an update; true when any row has changed.
    pub fn update(&mut self, updates: &Value) -> Result<bool, ReplicaFault> {
        let mut tables = self.tables.clone();
        for (name, layout, rows) in self.parse(updates)? {
            let mut table = tables.get(name).cloned().unwrap_or_default();
            for (uuid, update) in rows {
                layout.apply(name, &mut table, uuid, &update)?;
            }
            tables.insert(Arc::clone(name), table);
        }
        Ok(self.commit(tables))
    }

    /// Takes a full set of rows in place of what is here; true when any row has changed.
    pub fn refresh(&mut self, initial: &Value) -> Result<bool, ReplicaFault> {
        // From the old rows, so that what did not change stays the same allocation.
        let mut tables: Tables = self
            .layout
            .tables
            .keys()
            .map(|name| (Arc::clone(name), self.tables.get(name).cloned().unwrap_or_default()))
            .collect();
        let mut seen: BTreeMap<&Arc<str>, BTreeSet<Uuid>> = BTreeMap::new();
        for (name, layout, rows) in self.parse(initial)? {
            let mut table = tables.get(name).cloned().unwrap_or_default();
            let seen = seen.entry(name).or_default();
            for (uuid, update) in rows {
                let RowUpdate::Whole(_) = update else {
                    return Err(ReplicaFault::Form("a difference among the initial rows"));
                };
                layout.apply(name, &mut table, uuid, &update)?;
                seen.insert(uuid);
            }
            tables.insert(Arc::clone(name), table);
        }
        for name in self.layout.tables.keys() {
            let Some(table) = tables.get_mut(name) else { continue };
            let seen = seen.get(name);
            let stale: Vec<Uuid> =
                table.keys().filter(|uuid| !seen.is_some_and(|seen| seen.contains(*uuid))).copied().collect();
            for uuid in stale {
                table.remove(&uuid);
            }
        }
        Ok(self.commit(tables))
    }

    fn commit(&mut self, tables: Tables) -> bool {
        let changed = differ(&self.tables, &tables);
        self.tables = tables;
        changed
    }

    #[allow(clippy::type_complexity)]
    fn parse<'a>(
        &'a self,
        updates: &'a Value,
    ) -> Result<Vec<(&'a Arc<str>, &'a TableLayout, Vec<(Uuid, RowUpdate<'a>)>)>, ReplicaFault> {
        let tables = updates.as_object().ok_or(ReplicaFault::Form("no object of tables"))?;
        tables
            .iter()
            .map(|(table, rows)| {
                let (name, layout) = self
                    .layout
                    .tables
                    .get_key_value(table.as_str())
                    .ok_or_else(|| ReplicaFault::Table(table.clone()))?;
                let rows = rows.as_object().ok_or(ReplicaFault::Form("no object of rows"))?;
                let rows = rows
                    .iter()
                    .map(|(uuid, update)| {
                        let uuid =
                            uuid.parse().map_err(|_| ReplicaFault::Form("a row's key that is no UUID"))?;
                        Ok((uuid, parse_row_update(update)?))
                    })
                    .collect::<Result<_, ReplicaFault>>()?;
                Ok((name, layout, rows))
            })
            .collect()
    }
}

/// Do any rows differ? A table without rows is as good as none. Subtrees that are the same allocation are passed over.
pub(crate) fn differ(old: &Tables, new: &Tables) -> bool {
    let empty = TableRows::default();
    new.iter().any(|(name, rows)| {
        let before = old.get(name).unwrap_or(&empty);
        !before.ptr_eq(rows) && before.diff(rows).next().is_some()
    }) || old.iter().any(|(name, rows)| !new.contains_key(name) && !rows.is_empty())
}

fn parse_row_update(update: &Value) -> Result<RowUpdate<'_>, ReplicaFault> {
    let update = update.as_object().ok_or(ReplicaFault::Form("a row's update that is no object"))?;
    let mut members = update.iter();
    let (Some((kind, body)), None) = (members.next(), members.next()) else {
        return Err(ReplicaFault::Form("a row's update of other than one kind"));
    };
    let columns = || body.as_object().ok_or(ReplicaFault::Form("a row that is no object"));
    match kind.as_str() {
        "initial" | "insert" => Ok(RowUpdate::Whole(columns()?)),
        "modify" => Ok(RowUpdate::Difference(columns()?)),
        "delete" => Ok(RowUpdate::Gone),
        _ => Err(ReplicaFault::Form("a row's update of unknown kind")),
    }
}

impl TableLayout {
    fn apply(
        &self,
        table: &str,
        rows: &mut TableRows,
        uuid: Uuid,
        update: &RowUpdate<'_>,
    ) -> Result<(), ReplicaFault> {
        let row = match update {
            // The server may say that a row is gone which a condition never let through.
            RowUpdate::Gone => {
                rows.remove(&uuid);
                return Ok(());
            }
            RowUpdate::Whole(columns) => {
                let defaults = self.types.iter().map(ColumnType::default_value).collect();
                self.overlay(table, defaults, columns, |_, _, new| new)?
            }
            RowUpdate::Difference(columns) => {
                let old = rows.get(&uuid).ok_or(ReplicaFault::UnknownRow(uuid))?;
                self.overlay(table, old.values().to_vec(), columns, |ty, old, new| {
                    if ty.is_composite() { old.apply_difference(&new) } else { new }
                })?
            }
        };
        if rows.get(&uuid).is_none_or(|old| **old != row) {
            rows.insert(uuid, Arc::new(row));
        }
        Ok(())
    }

    fn overlay(
        &self,
        table: &str,
        mut values: Vec<Datum>,
        columns: &Map<String, Value>,
        merge: impl Fn(&ColumnType, &Datum, Datum) -> Datum,
    ) -> Result<Row, ReplicaFault> {
        for (column, value) in columns {
            let index = self.names.binary_search_by(|name| (**name).cmp(column.as_str())).ok();
            let place = index.and_then(|index| Some((self.types.get(index)?, values.get_mut(index)?)));
            let Some((ty, slot)) = place else {
                return Err(ReplicaFault::Column { table: table.into(), column: column.clone() });
            };
            let fault =
                |reason: String| ReplicaFault::Value { table: table.into(), column: column.clone(), reason };
            let new = Datum::from_json(value).map_err(|error: DatumError| fault(error.to_string()))?;
            let new = ty.coerce(new).ok_or_else(|| fault("not of the schema's type".into()))?;
            *slot = merge(ty, slot, new);
        }
        Ok(Row::new(Arc::clone(&self.names), values))
    }
}

#[cfg(test)]
mod tests;
