use serde_json::{Value, json};
use uuid::Uuid;

use crate::datum::Datum;

/// How a column is compared (RFC 7047, section 5.1, `<function>`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// `<`, numbers only.
    Less,
    /// `<=`, numbers only.
    AtMost,
    /// `==`.
    Equal,
    /// `!=`.
    NotEqual,
    /// `>=`, numbers only.
    AtLeast,
    /// `>`, numbers only.
    Greater,
    /// The column holds at least the given elements.
    Includes,
    /// The column holds none of the given elements.
    Excludes,
}

impl Function {
    fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::AtLeast => ">=",
            Self::Greater => ">",
            Self::Includes => "includes",
            Self::Excludes => "excludes",
        }
    }
}

/// Which rows. An operation takes the rows for which *all* of its conditions hold; a monitor those for which *any* does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// A column against a value.
    Clause {
        /// The column; `_uuid` too.
        column: String,
        /// How.
        function: Function,
        /// With what.
        value: Datum,
    },
    /// A constant: every row, or none. An extension of OVS.
    Constant(bool),
}

impl Condition {
    /// `column function value`.
    pub fn new(column: &str, function: Function, value: impl Into<Datum>) -> Self {
        Self::Clause { column: column.into(), function, value: value.into() }
    }

    /// `column == value`.
    pub fn equal(column: &str, value: impl Into<Datum>) -> Self {
        Self::new(column, Function::Equal, value)
    }

    /// `column != value`.
    pub fn not_equal(column: &str, value: impl Into<Datum>) -> Self {
        Self::new(column, Function::NotEqual, value)
    }

    /// The column holds at least these elements.
    pub fn includes(column: &str, value: impl Into<Datum>) -> Self {
        Self::new(column, Function::Includes, value)
    }

    /// The column holds none of these elements.
    pub fn excludes(column: &str, value: impl Into<Datum>) -> Self {
        Self::new(column, Function::Excludes, value)
    }

    /// The row of this identifier.
    pub fn uuid(uuid: Uuid) -> Self {
        Self::equal("_uuid", uuid)
    }

    /// As it goes over the wire.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Clause { column, function, value } => json!([column, function.as_str(), value.to_json()]),
            Self::Constant(constant) => Value::Bool(*constant),
        }
    }
}
