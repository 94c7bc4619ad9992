//! A database's schema (RFC 7047, section 3.2), as far as a client needs it: which columns there are, and whether an
//! update carries their new value or a difference.
//!
//! Unknown keys are passed over: a newer server may say more.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::datum::{Atom, Datum, Real};
use crate::row::{AtomKind, Shape};

/// A database.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct DatabaseSchema {
    /// Its name.
    pub name: String,
    /// The schema's version.
    #[serde(default)]
    pub version: String,
    /// Its tables.
    pub tables: BTreeMap<String, TableSchema>,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableSchema {
    /// Its columns, without `_uuid` and `_version`.
    pub columns: BTreeMap<String, ColumnSchema>,
    /// Do its rows live without being referred to?
    #[serde(default)]
    pub is_root: bool,
    /// Columns that are unique together.
    #[serde(default)]
    pub indexes: Vec<Vec<String>>,
    /// How many rows there may be.
    #[serde(default)]
    pub max_rows: Option<u64>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ColumnSchema {
    /// Its type.
    #[serde(rename = "type")]
    pub ty: ColumnType,
    /// Is it gone after the server's restart?
    #[serde(default)]
    pub ephemeral: bool,
    /// May it be changed once the row is there?
    #[serde(default = "yes")]
    pub mutable: bool,
}

fn yes() -> bool {
    true
}

/// A column's type.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "RawType")]
pub struct ColumnType {
    /// Its elements, or keys.
    pub key: BaseType,
    /// A map's values.
    pub value: Option<BaseType>,
    /// At least so many.
    pub min: u64,
    /// At most so many; `None` for no limit.
    pub max: Option<u64>,
}

/// An element's type.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "RawBase")]
pub struct BaseType {
    /// The kind of atom.
    pub kind: AtomKind,
    /// The only values there may be (`enum`), as the schema has them.
    pub choices: Option<Value>,
    /// Whose row a uuid names.
    pub ref_table: Option<String>,
    /// Does the reference keep its row alive?
    pub ref_weak: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawBase {
    Short(AtomKind),
    Long {
        #[serde(rename = "type")]
        kind: AtomKind,
        #[serde(rename = "enum")]
        choices: Option<Value>,
        #[serde(rename = "refTable")]
        ref_table: Option<String>,
        #[serde(rename = "refType")]
        ref_type: Option<String>,
    },
}

impl From<RawBase> for BaseType {
    fn from(raw: RawBase) -> Self {
        match raw {
            RawBase::Short(kind) => Self { kind, choices: None, ref_table: None, ref_weak: false },
            RawBase::Long { kind, choices, ref_table, ref_type } => {
                Self { kind, choices, ref_table, ref_weak: ref_type.as_deref() == Some("weak") }
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawType {
    Short(AtomKind),
    Long {
        key: BaseType,
        value: Option<BaseType>,
        #[serde(default = "one")]
        min: u64,
        #[serde(default)]
        max: RawMax,
    },
}

fn one() -> u64 {
    1
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawMax {
    Number(u64),
    Word(Unlimited),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unlimited {
    Unlimited,
}

impl Default for RawMax {
    fn default() -> Self {
        Self::Number(1)
    }
}

impl From<RawType> for ColumnType {
    fn from(raw: RawType) -> Self {
        match raw {
            RawType::Short(kind) => {
                Self { key: RawBase::Short(kind).into(), value: None, min: 1, max: Some(1) }
            }
            RawType::Long { key, value, min, max } => {
                let max = match max {
                    RawMax::Number(max) => Some(max),
                    RawMax::Word(Unlimited::Unlimited) => None,
                };
                Self { key, value, min, max }
            }
        }
    }
}

impl ColumnType {
    /// Does an update carry a difference (`ovsdb_type_is_composite`)? Else it carries the new value, be it an
    /// optional's "nothing".
    pub fn is_composite(&self) -> bool {
        self.max.is_none_or(|max| max > 1)
    }

    /// What Rust type fits.
    pub fn shape(&self) -> Shape {
        match (&self.value, self.min, self.max) {
            (Some(value), ..) => Shape::Map(self.key.kind, value.kind),
            (None, 1, Some(1)) => Shape::Scalar(self.key.kind),
            (None, 0, Some(1)) => Shape::Optional(self.key.kind),
            _ => Shape::Set(self.key.kind),
        }
    }

    /// The value that a column has when nobody gave it one: updates leave such columns out of new rows.
    pub fn default_value(&self) -> Datum {
        match (&self.value, self.min) {
            (Some(_), 0) => Datum::map::<Atom, Atom>([]),
            (Some(value), _) => Datum::map([(default_atom(self.key.kind), default_atom(value.kind))]),
            (None, 0) => Datum::empty_set(),
            (None, _) => Datum::scalar(default_atom(self.key.kind)),
        }
    }

    /// Gives a value read from JSON this type: a real's whole numbers become reals again, so that equal values are
    /// equal. `None` when it cannot have this type.
    pub fn coerce(&self, datum: Datum) -> Option<Datum> {
        let kind = self.key.kind;
        match &self.value {
            None if datum.is_map() => return None,
            Some(_) if !datum.is_map() => return None,
            _ => {}
        }
        let value_kind = self.value.as_ref().map_or(kind, |value| value.kind);
        let fits = datum.atoms().all(|atom| atom_fits(kind, atom))
            && datum.pairs().all(|(_, value)| atom_fits(value_kind, value));
        if !fits {
            return None;
        }
        if kind == AtomKind::Real || value_kind == AtomKind::Real {
            return Some(datum.map_atoms(|atom| to_kind(kind, atom), |atom| to_kind(value_kind, atom)));
        }
        Some(datum)
    }
}

fn default_atom(kind: AtomKind) -> Atom {
    match kind {
        AtomKind::Integer => Atom::Integer(0),
        AtomKind::Real => Atom::Real(Real(0.0)),
        AtomKind::Boolean => Atom::Boolean(false),
        AtomKind::String => Atom::from(""),
        AtomKind::Uuid => Atom::Uuid(Uuid::nil()),
    }
}

fn atom_fits(kind: AtomKind, atom: &Atom) -> bool {
    matches!(
        (kind, atom),
        (AtomKind::Integer, Atom::Integer(_))
            | (AtomKind::Real, Atom::Real(_) | Atom::Integer(_))
            | (AtomKind::Boolean, Atom::Boolean(_))
            | (AtomKind::String, Atom::String(_))
            | (AtomKind::Uuid, Atom::Uuid(_))
    )
}

fn to_kind(kind: AtomKind, atom: Atom) -> Atom {
    match (kind, atom.as_real()) {
        (AtomKind::Real, Some(real)) => Atom::Real(Real(real)),
        _ => atom,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ty(value: Value) -> ColumnType {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_way_to_write_a_type() {
        let cases = [
            (json!("string"), Shape::Scalar(AtomKind::String), false),
            (json!({"key": "integer"}), Shape::Scalar(AtomKind::Integer), false),
            (json!({"key": {"type": "boolean"}, "min": 0}), Shape::Optional(AtomKind::Boolean), false),
            (json!({"key": "uuid", "min": 0, "max": "unlimited"}), Shape::Set(AtomKind::Uuid), true),
            (json!({"key": "uuid", "max": "unlimited"}), Shape::Set(AtomKind::Uuid), true),
            (json!({"key": "integer", "min": 0, "max": 4096}), Shape::Set(AtomKind::Integer), true),
            (
                json!({"key": "string", "value": {"type": "real"}, "min": 0, "max": "unlimited"}),
                Shape::Map(AtomKind::String, AtomKind::Real),
                true,
            ),
            (
                json!({"key": "string", "value": "string", "min": 0}),
                Shape::Map(AtomKind::String, AtomKind::String),
                false,
            ),
        ];
        for (text, shape, composite) in cases {
            let ty = ty(text.clone());
            assert_eq!((ty.shape(), ty.is_composite()), (shape, composite), "{text}");
        }
        for bad in
            [json!("strin"), json!({"key": "string", "max": "many"}), json!({"value": "string"}), json!(5)]
        {
            assert!(serde_json::from_value::<ColumnType>(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn columns_are_mutable_and_last_unless_told_otherwise() {
        let column: ColumnSchema = serde_json::from_value(json!({"type": "string"})).unwrap();
        assert!(column.mutable && !column.ephemeral);
        let column: ColumnSchema =
            serde_json::from_value(json!({"type": "string", "mutable": false, "ephemeral": true})).unwrap();
        assert!(!column.mutable && column.ephemeral);
    }

    #[test]
    fn defaults() {
        assert_eq!(ty(json!("string")).default_value(), Datum::from(""));
        assert_eq!(ty(json!("uuid")).default_value(), Datum::from(Uuid::nil()));
        assert_eq!(ty(json!({"key": "string", "min": 0})).default_value(), Datum::empty_set());
        assert_eq!(
            ty(json!({"key": "string", "value": "string", "min": 0, "max": "unlimited"})).default_value(),
            Datum::map::<&str, &str>([])
        );
    }

    #[test]
    fn whole_reals_become_reals_and_other_types_are_refused() {
        let real = ty(json!("real"));
        assert_eq!(real.coerce(Datum::from(1i64)), Some(Datum::from(1.0)));
        assert_eq!(ty(json!("integer")).coerce(Datum::from(1.0)), None);
        assert_eq!(ty(json!("string")).coerce(Datum::map([("a", "b")])), None);
        let map = ty(json!({"key": "string", "value": "real", "min": 0, "max": "unlimited"}));
        assert_eq!(map.coerce(Datum::map([("a", 2i64)])), Some(Datum::map([("a", 2.0)])));
        assert_eq!(map.coerce(Datum::from("a")), None);
    }
}
