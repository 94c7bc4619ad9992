use std::fmt;

use serde_json::Value;
use uuid::Uuid;

use super::{Kind, Op};
use crate::datum::{Atom, Datum};
use crate::row::Row;

/// What one operation answered.
#[derive(Clone, Debug, PartialEq)]
pub enum OpResult {
    /// `insert`: the new row.
    Inserted(Uuid),
    /// `select`: the rows.
    Rows(Vec<Row>),
    /// `update`, `mutate`, `delete`: how many rows matched.
    Count(u64),
    /// All others.
    Empty,
}

impl OpResult {
    /// The new row's identifier.
    pub fn uuid(&self) -> Option<Uuid> {
        match self {
            Self::Inserted(uuid) => Some(*uuid),
            _ => None,
        }
    }

    /// How many rows matched.
    pub fn count(&self) -> Option<u64> {
        match self {
            Self::Count(count) => Some(*count),
            _ => None,
        }
    }

    /// The rows read.
    pub fn rows(&self) -> &[Row] {
        match self {
            Self::Rows(rows) => rows,
            _ => &[],
        }
    }
}

/// An operation's error, as the server words it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpError {
    /// RFC 7047's short text: `"constraint violation"`, `"timed out"`, `"aborted"`, `"referential integrity violation"`…
    pub error: String,
    /// More of it, for people.
    pub details: Option<String>,
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.details {
            Some(details) => write!(f, "{}: {details}", self.error),
            None => f.write_str(&self.error),
        }
    }
}

/// Why a transaction's answer is no success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResultError {
    /// An operation failed; nothing of the transaction was done.
    #[error("operation {index} ({op}) failed: {error}")]
    Op {
        /// Which, from 0.
        index: usize,
        /// What it was.
        op: &'static str,
        /// The server's words.
        error: OpError,
    },
    /// All operations went well, the commit did not; nothing of the transaction was done.
    #[error("the commit failed: {0}")]
    Commit(OpError),
    /// The answer is not what RFC 7047 says.
    #[error("malformed answer to a transaction: {0}")]
    Malformed(&'static str),
}

fn op_error(value: &Value) -> Option<OpError> {
    let error = value.get("error")?;
    Some(OpError {
        error: error.as_str().map_or_else(|| error.to_string(), Into::into),
        details: value.get("details").and_then(Value::as_str).map(Into::into),
    })
}

/// Reads a transaction's answer. Each element is scanned: a failed transaction's answer is, on the RPC's level, a
/// success, and where the commit itself failed it has one element more than there were operations.
pub fn parse_results(ops: &[Op], answer: &Value) -> Result<Vec<OpResult>, ResultError> {
    let elements = answer.as_array().ok_or(ResultError::Malformed("no array"))?;
    for (index, element) in elements.iter().enumerate() {
        if let Some(error) = op_error(element) {
            return Err(match ops.get(index) {
                Some(op) => ResultError::Op { index, op: op.name, error },
                None => ResultError::Commit(error),
            });
        }
    }
    if elements.len() != ops.len() {
        return Err(ResultError::Malformed("not one element for each operation"));
    }
    ops.iter().zip(elements).map(|(op, element)| parse_result(op.kind, element)).collect()
}

fn parse_result(kind: Kind, element: &Value) -> Result<OpResult, ResultError> {
    match kind {
        Kind::Insert => match element.get("uuid").map(Atom::from_json) {
            Some(Ok(Atom::Uuid(uuid))) => Ok(OpResult::Inserted(uuid)),
            _ => Err(ResultError::Malformed("an insert without its uuid")),
        },
        Kind::Count => element
            .get("count")
            .and_then(Value::as_u64)
            .map(OpResult::Count)
            .ok_or(ResultError::Malformed("a change without its count")),
        Kind::Select => {
            let rows = element
                .get("rows")
                .and_then(Value::as_array)
                .ok_or(ResultError::Malformed("a select without rows"))?;
            rows.iter().map(parse_row).collect::<Result<_, _>>().map(OpResult::Rows)
        }
        Kind::Empty => Ok(OpResult::Empty),
    }
}

fn parse_row(row: &Value) -> Result<Row, ResultError> {
    let columns = row.as_object().ok_or(ResultError::Malformed("a row that is no object"))?;
    columns
        .iter()
        .map(|(column, value)| Datum::from_json(value).map(|datum| (column.as_str().into(), datum)))
        .collect::<Result<Vec<_>, _>>()
        .map(Row::from_pairs)
        .map_err(|_| ResultError::Malformed("a row with a value that is none"))
}
