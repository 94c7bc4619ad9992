//! Rows, and how a typed one is made of an untyped one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::datum::{Atom, Datum};

/// One row's columns. Rows of one replica share the list of names.
#[derive(Clone, Debug)]
pub struct Row {
    /// Sorted.
    names: Arc<[Arc<str>]>,
    values: Vec<Datum>,
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.values == other.values && (Arc::ptr_eq(&self.names, &other.names) || self.names == other.names)
    }
}

impl Eq for Row {}

impl Row {
    /// `names` sorted, and as many values.
    pub(crate) fn new(names: Arc<[Arc<str>]>, values: Vec<Datum>) -> Self {
        debug_assert_eq!(names.len(), values.len());
        Self { names, values }
    }

    /// A row of its own names. Of two values for one name the last stays.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (Arc<str>, Datum)>) -> Self {
        let (names, values): (Vec<_>, Vec<_>) =
            pairs.into_iter().collect::<BTreeMap<Arc<str>, Datum>>().into_iter().unzip();
        Self { names: names.into(), values }
    }

    /// A column's value.
    pub fn get(&self, column: &str) -> Option<&Datum> {
        let index = self.names.binary_search_by(|name| (**name).cmp(column)).ok()?;
        self.values.get(index)
    }

    /// The columns in order of their names.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &Datum)> {
        self.names.iter().map(|name| &**name).zip(&self.values)
    }

    /// A column as a Rust type. Where the row lacks it (a server with an older schema) an optional, a set or a map is
    /// empty, and a scalar is an error.
    pub fn field<T: FromDatum>(&self, column: &str) -> Result<T, RowError> {
        match self.get(column) {
            Some(datum) => T::from_datum(datum).ok_or_else(|| RowError::Type {
                column: column.into(),
                wanted: T::SHAPE,
                found: datum.to_json().to_string(),
            }),
            None => T::absent().ok_or_else(|| RowError::Missing { column: column.into() }),
        }
    }

    pub(crate) fn values(&self) -> &[Datum] {
        &self.values
    }
}

/// Why a row is none of a type's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The column is not there and its type has no "nothing".
    #[error("column {column} is missing")]
    Missing {
        /// Which.
        column: String,
    },
    /// The column holds something else.
    #[error("column {column} holds {found}, which is no {wanted:?}")]
    Type {
        /// Which.
        column: String,
        /// What was wanted.
        wanted: Shape,
        /// What is there.
        found: String,
    },
}

/// A typed row.
pub trait Table: Sized {
    /// The table.
    const NAME: &'static str;
    /// The columns that [`Table::from_row`] reads.
    const COLUMNS: &'static [&'static str];
    /// Makes one.
    fn from_row(uuid: Uuid, row: &Row) -> Result<Self, RowError>;
}

/// A typed row that also says which types it takes its columns to have: a test holds that against a schema.
pub trait Typed: Table {
    /// Columns and shapes.
    const SHAPES: &'static [(&'static str, Shape)];
}

/// An atom's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AtomKind {
    /// `integer`.
    Integer,
    /// `real`.
    Real,
    /// `boolean`.
    Boolean,
    /// `string`.
    String,
    /// `uuid`.
    Uuid,
}

/// The part of a column's type that Rust's type fixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    /// Exactly one.
    Scalar(AtomKind),
    /// None or one.
    Optional(AtomKind),
    /// Any number.
    Set(AtomKind),
    /// Pairs.
    Map(AtomKind, AtomKind),
}

/// A Rust type for an atom.
pub trait FromAtom: Sized {
    /// Which atoms.
    const KIND: AtomKind;
    /// The value.
    fn from_atom(atom: &Atom) -> Option<Self>;
}

/// A Rust type for a column.
pub trait FromDatum: Sized {
    /// Which columns.
    const SHAPE: Shape;
    /// The value.
    fn from_datum(datum: &Datum) -> Option<Self>;
    /// What stands for a column that the row does not have.
    fn absent() -> Option<Self> {
        None
    }
}

macro_rules! atoms {
    ($($ty:ty: $kind:ident, $pattern:pat => $value:expr;)*) => {$(
        impl FromAtom for $ty {
            const KIND: AtomKind = AtomKind::$kind;
            fn from_atom(atom: &Atom) -> Option<Self> {
                if let $pattern = atom { $value } else { None }
            }
        }
        impl FromDatum for $ty {
            const SHAPE: Shape = Shape::Scalar(AtomKind::$kind);
            fn from_datum(datum: &Datum) -> Option<Self> {
                <$ty>::from_atom(datum.as_atom()?)
            }
        }
    )*};
}

atoms! {
    i64: Integer, Atom::Integer(value) => Some(*value);
    u32: Integer, Atom::Integer(value) => u32::try_from(*value).ok();
    u16: Integer, Atom::Integer(value) => u16::try_from(*value).ok();
    bool: Boolean, Atom::Boolean(value) => Some(*value);
    String: String, Atom::String(value) => Some(value.as_ref().to_owned());
    Arc<str>: String, Atom::String(value) => Some(Arc::clone(value));
    Uuid: Uuid, Atom::Uuid(value) => Some(*value);
}

impl FromAtom for f64 {
    const KIND: AtomKind = AtomKind::Real;
    fn from_atom(atom: &Atom) -> Option<Self> {
        atom.as_real()
    }
}

impl FromDatum for f64 {
    const SHAPE: Shape = Shape::Scalar(AtomKind::Real);
    fn from_datum(datum: &Datum) -> Option<Self> {
        Self::from_atom(datum.as_atom()?)
    }
}

impl<A: FromAtom> FromDatum for Option<A> {
    const SHAPE: Shape = Shape::Optional(A::KIND);
    fn from_datum(datum: &Datum) -> Option<Self> {
        if datum.is_empty() && !datum.is_map() {
            return Some(None);
        }
        A::from_atom(datum.as_atom()?).map(Some)
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
}

impl<T: FromAtom + Ord> FromDatum for BTreeSet<T> {
    const SHAPE: Shape = Shape::Set(T::KIND);
    fn from_datum(datum: &Datum) -> Option<Self> {
        if datum.is_map() {
            return None;
        }
        datum.atoms().map(T::from_atom).collect()
    }
    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

impl<K: FromAtom + Ord, V: FromAtom> FromDatum for BTreeMap<K, V> {
    const SHAPE: Shape = Shape::Map(K::KIND, V::KIND);
    fn from_datum(datum: &Datum) -> Option<Self> {
        if !datum.is_map() {
            return None;
        }
        datum.pairs().map(|(key, value)| Some((K::from_atom(key)?, V::from_atom(value)?))).collect()
    }
    fn absent() -> Option<Self> {
        Some(Self::new())
    }
}

/// Declares a typed row: a struct with public fields and a `uuid`, and its [`Table`] and [`Typed`], of one list of
/// fields, columns and types, so that the three cannot disagree.
///
/// ```
/// ovsdb_session::table! {
///     /// One bridge.
///     pub struct Bridge: "Bridge" {
///         /// Unique.
///         name: String = "name",
///         ports: std::collections::BTreeSet<ovsdb_session::Uuid> = "ports",
///     }
/// }
/// assert_eq!(<Bridge as ovsdb_session::Table>::COLUMNS, ["name", "ports"]);
/// ```
#[macro_export]
macro_rules! table {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident: $table:literal {
            $($(#[$field_meta:meta])* $field:ident: $ty:ty = $column:literal),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            /// The row's identifier.
            pub uuid: $crate::Uuid,
            $($(#[$field_meta])* pub $field: $ty,)*
        }

        impl $crate::row::Table for $name {
            const NAME: &'static str = $table;
            const COLUMNS: &'static [&'static str] = &[$($column),*];
            fn from_row(uuid: $crate::Uuid, row: &$crate::row::Row) -> ::std::result::Result<Self, $crate::row::RowError> {
                Ok(Self { uuid, $($field: row.field($column)?,)* })
            }
        }

        impl $crate::row::Typed for $name {
            const SHAPES: &'static [(&'static str, $crate::row::Shape)] =
                &[$(($column, <$ty as $crate::row::FromDatum>::SHAPE)),*];
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pairs: &[(&str, Datum)]) -> Row {
        Row::from_pairs(pairs.iter().map(|(name, datum)| ((*name).into(), datum.clone())))
    }

    #[test]
    fn a_scalar_is_neither_nothing_nor_many() {
        let row = row(&[("none", Datum::empty_set()), ("two", Datum::set([1i64, 2])), ("one", 1i64.into())]);
        assert_eq!(row.field::<i64>("one"), Ok(1));
        assert!(row.field::<i64>("none").is_err());
        assert!(row.field::<i64>("two").is_err());
        assert!(row.field::<String>("one").is_err());
        assert!(matches!(row.field::<i64>("absent"), Err(RowError::Missing { .. })));
    }

    #[test]
    fn optionals_sets_and_maps_of_an_absent_column_are_empty() {
        let row = row(&[]);
        assert_eq!(row.field::<Option<i64>>("x"), Ok(None));
        assert_eq!(row.field::<BTreeSet<i64>>("x"), Ok(BTreeSet::new()));
        assert_eq!(row.field::<BTreeMap<String, String>>("x"), Ok(BTreeMap::new()));
    }

    #[test]
    fn maps_are_no_sets() {
        let row = row(&[("map", Datum::map([("a", "b")])), ("set", Datum::empty_set())]);
        assert!(row.field::<BTreeSet<String>>("map").is_err());
        assert!(row.field::<Option<String>>("map").is_err());
        assert!(row.field::<BTreeMap<String, String>>("set").is_err());
        assert_eq!(row.field::<BTreeMap<String, String>>("map"), Ok([("a".into(), "b".into())].into()));
    }

    #[test]
    fn whole_reals_and_numbers_out_of_range() {
        let row = row(&[("real", 3i64.into()), ("big", 70_000i64.into())]);
        assert_eq!(row.field::<f64>("real"), Ok(3.0));
        assert!(row.field::<u16>("big").is_err());
        assert_eq!(row.field::<u32>("big"), Ok(70_000));
    }
}
