//! A transaction's operations (RFC 7047, section 5.2), each with a builder of its own that becomes an [`Op`].
//!
//! Nothing is checked against a schema here; the server does that and says so in its answer ([`result`]).

mod condition;
mod result;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

pub use condition::{Condition, Function};
pub use result::{OpError, OpResult, ResultError, parse_results};

use crate::datum::{Datum, NamedUuid};

/// What an operation's answer looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Insert,
    Select,
    Count,
    Empty,
}

/// One operation, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    pub(crate) kind: Kind,
    pub(crate) name: &'static str,
    body: Map<String, Value>,
}

impl Op {
    fn new(kind: Kind, name: &'static str) -> Self {
        let mut body = Map::new();
        body.insert("op".into(), name.into());
        Self { kind, name, body }
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.body.insert(key.into(), value.into());
        self
    }

    /// Adds a row. Columns not given get their defaults.
    pub fn insert(table: &str) -> Insert {
        Insert { table: table.into(), row: BTreeMap::new(), name: None }
    }

    /// Reads rows: all of them, until a condition is given.
    pub fn select(table: &str) -> Select {
        Select { table: table.into(), conditions: Vec::new(), columns: None }
    }

    /// Overwrites columns of the rows that match.
    pub fn update(table: &str) -> Update {
        Update { table: table.into(), conditions: Vec::new(), row: BTreeMap::new() }
    }

    /// Changes columns of the rows that match, from what they are.
    pub fn mutate(table: &str) -> Mutate {
        Mutate { table: table.into(), conditions: Vec::new(), mutations: Vec::new() }
    }

    /// Removes the rows that match: all of them, until a condition is given.
    pub fn delete(table: &str) -> Delete {
        Delete { table: table.into(), conditions: Vec::new() }
    }

    /// Fails the transaction unless the rows that match are (or are not) the given ones.
    pub fn wait(table: &str) -> Wait {
        Wait {
            table: table.into(),
            conditions: Vec::new(),
            columns: Vec::new(),
            rows: Vec::new(),
            timeout: Duration::ZERO,
        }
    }

    /// Goes into the database's log beside the transaction.
    pub fn comment(text: &str) -> Self {
        Self::new(Kind::Empty, "comment").with("comment", text)
    }

    /// Fails the transaction unless this client holds the lock.
    pub fn assert(lock: &str) -> Self {
        Self::new(Kind::Empty, "assert").with("lock", lock)
    }

    /// Fails the transaction: a dry run of what stands before it.
    pub fn abort() -> Self {
        Self::new(Kind::Empty, "abort")
    }

    /// With `durable`, the answer comes only when the transaction is on disk.
    pub fn commit(durable: bool) -> Self {
        Self::new(Kind::Empty, "commit").with("durable", durable)
    }

    /// As it goes over the wire.
    pub fn to_json(&self) -> Value {
        Value::Object(self.body.clone())
    }
}

fn row_json(row: &BTreeMap<String, Datum>) -> Value {
    Value::Object(row.iter().map(|(column, value)| (column.clone(), value.to_json())).collect())
}

fn where_json(conditions: &[Condition]) -> Value {
    conditions.iter().map(Condition::to_json).collect()
}

/// `insert`.
#[derive(Clone, Debug)]
pub struct Insert {
    table: String,
    row: BTreeMap<String, Datum>,
    name: Option<NamedUuid>,
}

impl Insert {
    /// Sets a column.
    #[must_use]
    pub fn set(mut self, column: &str, value: impl Into<Datum>) -> Self {
        self.row.insert(column.into(), value.into());
        self
    }

    /// Names the row, for other operations of the transaction to refer to.
    #[must_use]
    pub fn named(mut self, name: &NamedUuid) -> Self {
        self.name = Some(name.clone());
        self
    }
}

impl From<Insert> for Op {
    fn from(insert: Insert) -> Self {
        let op =
            Self::new(Kind::Insert, "insert").with("table", insert.table).with("row", row_json(&insert.row));
        match insert.name {
            Some(name) => op.with("uuid-name", name.as_str()),
            None => op,
        }
    }
}

macro_rules! conditional {
    ($($builder:ident)*) => {$(
        impl $builder {
            /// Narrows the rows: of several conditions, all must hold.
            #[must_use]
            pub fn when(mut self, condition: Condition) -> Self {
                self.conditions.push(condition);
                self
            }
        }
    )*};
}

conditional! { Select Update Mutate Delete Wait }

/// `select`.
#[derive(Clone, Debug)]
pub struct Select {
    table: String,
    conditions: Vec<Condition>,
    columns: Option<Vec<String>>,
}

impl Select {
    /// Only these columns (`_uuid` and `_version` among them only if named); without this, all.
    #[must_use]
    pub fn columns<'a>(mut self, columns: impl IntoIterator<Item = &'a str>) -> Self {
        self.columns = Some(columns.into_iter().map(Into::into).collect());
        self
    }
}

impl From<Select> for Op {
    fn from(select: Select) -> Self {
        let op = Self::new(Kind::Select, "select")
            .with("table", select.table)
            .with("where", where_json(&select.conditions));
        match select.columns {
            Some(columns) => op.with("columns", columns),
            None => op,
        }
    }
}

/// `update`.
#[derive(Clone, Debug)]
pub struct Update {
    table: String,
    conditions: Vec<Condition>,
    row: BTreeMap<String, Datum>,
}

impl Update {
    /// Sets a column.
    #[must_use]
    pub fn set(mut self, column: &str, value: impl Into<Datum>) -> Self {
        self.row.insert(column.into(), value.into());
        self
    }
}

impl From<Update> for Op {
    fn from(update: Update) -> Self {
        Self::new(Kind::Count, "update")
            .with("table", update.table)
            .with("where", where_json(&update.conditions))
            .with("row", row_json(&update.row))
    }
}

/// One change of a `mutate`.
#[derive(Clone, Debug, PartialEq)]
pub struct Mutation {
    column: String,
    mutator: &'static str,
    value: Datum,
}

impl Mutation {
    /// Adds elements to a set, or pairs to a map. A key that the map already has keeps its old value: use
    /// [`Mutation::set_keys`] to replace.
    pub fn insert(column: &str, value: impl Into<Datum>) -> Self {
        Self { column: column.into(), mutator: "insert", value: value.into() }
    }

    /// Takes elements out of a set; of a map, the given keys (a set), or the given pairs (a map).
    pub fn delete(column: &str, value: impl Into<Datum>) -> Self {
        Self { column: column.into(), mutator: "delete", value: value.into() }
    }

    /// Adds a number; a negative one subtracts.
    pub fn add(column: &str, value: impl Into<Datum>) -> Self {
        Self { column: column.into(), mutator: "+=", value: value.into() }
    }

    /// Puts these pairs into a map whatever it held under their keys, and leaves its other keys alone.
    pub fn set_keys<'a>(column: &str, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> [Self; 2] {
        let pairs = Datum::map(pairs);
        [Self::delete(column, Datum::set(pairs.atoms().cloned())), Self::insert(column, pairs)]
    }

    fn to_json(&self) -> Value {
        json!([self.column, self.mutator, self.value.to_json()])
    }
}

/// `mutate`.
#[derive(Clone, Debug)]
pub struct Mutate {
    table: String,
    conditions: Vec<Condition>,
    mutations: Vec<Mutation>,
}

impl Mutate {
    /// Adds a change; they are done in order.
    #[must_use]
    pub fn with(mut self, mutation: Mutation) -> Self {
        self.mutations.push(mutation);
        self
    }

    /// Adds changes; they are done in order.
    #[must_use]
    pub fn with_all(mut self, mutations: impl IntoIterator<Item = Mutation>) -> Self {
        self.mutations.extend(mutations);
        self
    }
}

impl From<Mutate> for Op {
    fn from(mutate: Mutate) -> Self {
        Self::new(Kind::Count, "mutate")
            .with("table", mutate.table)
            .with("where", where_json(&mutate.conditions))
            .with("mutations", mutate.mutations.iter().map(Mutation::to_json).collect::<Value>())
    }
}

/// `delete`.
#[derive(Clone, Debug)]
pub struct Delete {
    table: String,
    conditions: Vec<Condition>,
}

impl From<Delete> for Op {
    fn from(delete: Delete) -> Self {
        Self::new(Kind::Count, "delete")
            .with("table", delete.table)
            .with("where", where_json(&delete.conditions))
    }
}

/// `wait`.
#[derive(Clone, Debug)]
pub struct Wait {
    table: String,
    conditions: Vec<Condition>,
    columns: Vec<String>,
    rows: Vec<Value>,
    timeout: Duration,
}

impl Wait {
    /// The columns that are compared. With none, the rows themselves are counted: `n` empty rows match `n` rows.
    #[must_use]
    pub fn columns<'a>(mut self, columns: impl IntoIterator<Item = &'a str>) -> Self {
        self.columns = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a row to compare with.
    #[must_use]
    pub fn row<'a, D: Into<Datum>>(mut self, row: impl IntoIterator<Item = (&'a str, D)>) -> Self {
        let row =
            row.into_iter().map(|(column, value)| (column.to_owned(), value.into().to_json())).collect();
        self.rows.push(Value::Object(row));
        self
    }

    /// How long the server may wait; zero, the default, compares once.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl From<Wait> for Op {
    fn from(wait: Wait) -> Self {
        Self::new(Kind::Empty, "wait")
            .with("timeout", u64::try_from(wait.timeout.as_millis()).unwrap_or(u64::MAX))
            .with("table", wait.table)
            .with("where", where_json(&wait.conditions))
            .with("columns", wait.columns)
            .with("until", "==")
            .with("rows", wait.rows)
    }
}

#[cfg(test)]
mod tests;
