//! What a monitor asks for: tables, and which rows of them.

use serde_json::{Value, json};

use crate::op::Condition;
use crate::row::Table;

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
