//! OVSDB's values: atoms, and the sets and maps of them that a column holds (RFC 7047, section 5.1).
//!
//! A column's value is a set or a map. A scalar is a set of one, and a set of one may be written bare: `"a"` and
//! `["set",["a"]]` are one value, here as on the wire. So [`Datum`] has one form per value and its `==` is OVSDB's.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

/// A real number, ordered by `f64::total_cmp` so that it can stand in a set.
#[derive(Clone, Copy, Debug)]
pub struct Real(pub f64);

impl Ord for Real {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Real {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Real {}

impl Hash for Real {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// A row's name inside one transaction, before the server has given it its UUID.
///
/// RFC 7047 allows letters, digits and `_` only. Everything else is escaped, so that any text makes a name and
/// different texts make different names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedUuid(Arc<str>);

impl NamedUuid {
    /// The name for `text`.
    pub fn new(text: &str) -> Self {
        let mut name = String::from("row_");
        for byte in text.bytes() {
            if byte.is_ascii_alphanumeric() {
                name.push(char::from(byte));
            } else {
                // Two digits always, so that nothing that follows can be read as part of the escape.
                name.push('_');
                for nibble in [byte >> 4, byte & 15] {
                    name.extend(char::from_digit(nibble.into(), 16));
                }
            }
        }
        Self(name.into())
    }

    /// As it goes over the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One atom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Atom {
    /// A 64-bit signed integer.
    Integer(i64),
    /// A real number. A real column's whole numbers arrive as integers: see [`Atom::as_real`].
    Real(Real),
    /// A truth value.
    Boolean(bool),
    /// A string.
    String(Arc<str>),
    /// A row's identifier.
    Uuid(Uuid),
    /// A row of the same transaction.
    NamedUuid(NamedUuid),
}

/// Why a JSON value is no OVSDB value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatumError {
    /// No atom has this form.
    #[error("{0} is no atom")]
    Atom(String),
    /// The text after `"uuid"` is none.
    #[error("{0:?} is no UUID")]
    Uuid(String),
    /// An element of a map is no pair.
    #[error("{0} is no key with a value")]
    Pair(String),
    /// A map names a key twice.
    #[error("a map holds the key {0} twice")]
    DuplicateKey(String),
}

/// `["uuid", "…"]` and its like: a tag and what it tags.
fn tagged(value: &Value) -> Option<(&str, &Value)> {
    match value.as_array()?.as_slice() {
        [Value::String(tag), body] => Some((tag, body)),
        _ => None,
    }
}

/// The first characters of a JSON text: enough to find it, not enough to flood a log.
fn excerpt(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

impl Atom {
    /// Reads an atom.
    pub fn from_json(value: &Value) -> Result<Self, DatumError> {
        match value {
            Value::Bool(bit) => Ok(Self::Boolean(*bit)),
            Value::String(text) => Ok(Self::String(text.as_str().into())),
            Value::Number(number) => number
                .as_i64()
                .map(Self::Integer)
                .or_else(|| number.as_f64().map(|real| Self::Real(Real(real))))
                .ok_or_else(|| DatumError::Atom(excerpt(value))),
            value => match tagged(value) {
                Some(("uuid", Value::String(text))) => text
                    .parse()
                    .map(Self::Uuid)
                    .map_err(|_| DatumError::Uuid(text.chars().take(80).collect())),
                Some(("named-uuid", Value::String(text))) => {
                    Ok(Self::NamedUuid(NamedUuid(text.as_str().into())))
                }
                _ => Err(DatumError::Atom(excerpt(value))),
            },
        }
    }

    /// Writes an atom. A real that JSON cannot say (NaN, an infinity) becomes `null`, which the server refuses.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Integer(integer) => json!(integer),
            Self::Real(real) => json!(real.0),
            Self::Boolean(bit) => json!(bit),
            Self::String(text) => json!(&**text),
            Self::Uuid(uuid) => json!(["uuid", uuid.to_string()]),
            Self::NamedUuid(name) => json!(["named-uuid", name.as_str()]),
        }
    }

    /// The number, also when it arrived as a whole one.
    #[allow(clippy::cast_precision_loss)] // a real column's whole number was a real before JSON shortened it
    pub fn as_real(&self) -> Option<f64> {
        match self {
            Self::Real(real) => Some(real.0),
            Self::Integer(integer) => Some(*integer as f64),
            _ => None,
        }
    }

    /// The string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}

macro_rules! atom_from {
    ($($from:ty => |$value:ident| $atom:expr;)*) => {$(
        impl From<$from> for Atom {
            fn from($value: $from) -> Self {
                $atom
            }
        }
        impl From<$from> for Datum {
            fn from(value: $from) -> Self {
                Self::scalar(Atom::from(value))
            }
        }
    )*};
}

atom_from! {
    i64 => |value| Atom::Integer(value);
    u32 => |value| Atom::Integer(value.into());
    u16 => |value| Atom::Integer(value.into());
    f64 => |value| Atom::Real(Real(value));
    bool => |value| Atom::Boolean(value);
    &str => |value| Atom::String(value.into());
    &String => |value| Atom::String(value.as_str().into());
    String => |value| Atom::String(value.into());
    Arc<str> => |value| Atom::String(value);
    Uuid => |value| Atom::Uuid(value);
    NamedUuid => |value| Atom::NamedUuid(value);
    &NamedUuid => |value| Atom::NamedUuid(value.clone());
}

impl From<Atom> for Datum {
    fn from(atom: Atom) -> Self {
        Self::scalar(atom)
    }
}

/// A column's value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Datum(Form);

/// A set of one is always `One`: that makes `==` right, and spares the many scalars a tree of their own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Form {
    One(Atom),
    Set(BTreeSet<Atom>),
    Map(BTreeMap<Atom, Atom>),
}

impl Datum {
    /// A set of one.
    pub fn scalar(atom: Atom) -> Self {
        Self(Form::One(atom))
    }

    /// A set.
    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Self {
        let mut set: BTreeSet<Atom> = atoms.into_iter().map(Into::into).collect();
        match set.pop_first() {
            Some(only) if set.is_empty() => Self::scalar(only),
            Some(first) => {
                set.insert(first);
                Self(Form::Set(set))
            }
            None => Self::empty_set(),
        }
    }

    /// The empty set: also an optional column's "nothing".
    pub fn empty_set() -> Self {
        Self(Form::Set(BTreeSet::new()))
    }

    /// A map. Of two values for one key the last stays.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(Form::Map(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect()))
    }

    /// Is it a map?
    pub fn is_map(&self) -> bool {
        matches!(self.0, Form::Map(_))
    }

    /// How many elements, or pairs.
    pub fn len(&self) -> usize {
        match &self.0 {
            Form::One(_) => 1,
            Form::Set(set) => set.len(),
            Form::Map(map) => map.len(),
        }
    }

    /// Nothing in it?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The only element of a set of one.
    pub fn as_atom(&self) -> Option<&Atom> {
        match &self.0 {
            Form::One(atom) => Some(atom),
            _ => None,
        }
    }

    /// The only element, when it is a string.
    pub fn as_str(&self) -> Option<&str> {
        self.as_atom().and_then(Atom::as_str)
    }

    /// A set's elements in order; of a map, the keys.
    pub fn atoms(&self) -> Box<dyn Iterator<Item = &Atom> + '_> {
        match &self.0 {
            Form::One(atom) => Box::new(std::iter::once(atom)),
            Form::Set(set) => Box::new(set.iter()),
            Form::Map(map) => Box::new(map.keys()),
        }
    }

    /// A map's pairs in order; nothing of a set.
    pub fn pairs(&self) -> impl Iterator<Item = (&Atom, &Atom)> {
        match &self.0 {
            Form::Map(map) => Some(map.iter()),
            _ => None,
        }
        .into_iter()
        .flatten()
    }

    /// A map's value for a key.
    pub fn value_of(&self, key: &Atom) -> Option<&Atom> {
        match &self.0 {
            Form::Map(map) => map.get(key),
            _ => None,
        }
    }

    /// Reads a value.
    pub fn from_json(value: &Value) -> Result<Self, DatumError> {
        match tagged(value) {
            Some(("set", Value::Array(elements))) => {
                Ok(Self::set(elements.iter().map(Atom::from_json).collect::<Result<Vec<_>, _>>()?))
            }
            Some(("map", Value::Array(pairs))) => {
                let mut map = BTreeMap::new();
                for pair in pairs {
                    let Some([key, value]) = pair.as_array().map(Vec::as_slice) else {
                        return Err(DatumError::Pair(excerpt(pair)));
                    };
                    if map.insert(Atom::from_json(key)?, Atom::from_json(value)?).is_some() {
                        return Err(DatumError::DuplicateKey(excerpt(key)));
                    }
                }
                Ok(Self(Form::Map(map)))
            }
            _ => Atom::from_json(value).map(Self::scalar),
        }
    }

    /// Writes a value; a set of one goes bare.
    pub fn to_json(&self) -> Value {
        match &self.0 {
            Form::One(atom) => atom.to_json(),
            Form::Set(set) => json!(["set", set.iter().map(Atom::to_json).collect::<Vec<_>>()]),
            Form::Map(map) => {
                let pairs: Vec<Value> =
                    map.iter().map(|(key, value)| json!([key.to_json(), value.to_json()])).collect();
                json!(["map", pairs])
            }
        }
    }

    /// Applies a `modify` difference of a column that may hold more than one element, as `ovsdb_datum_diff` makes it:
    /// of a set, the elements that are in just one of old and new; of a map, the pairs whose key is in just one of
    /// them, and for a key that is in both the new value (an equal pair therefore means "removed").
    #[must_use]
    pub fn apply_difference(&self, difference: &Self) -> Self {
        if let (Form::Map(old), Form::Map(change)) = (&self.0, &difference.0) {
            let mut new = old.clone();
            for (key, value) in change {
                if old.get(key) == Some(value) {
                    new.remove(key);
                } else {
                    new.insert(key.clone(), value.clone());
                }
            }
            return Self(Form::Map(new));
        }
        let old: BTreeSet<&Atom> = self.atoms().collect();
        let change: BTreeSet<&Atom> = difference.atoms().collect();
        Self::set(old.symmetric_difference(&change).map(|atom| (*atom).clone()))
    }

    /// The same value with each atom passed through `f`.
    pub(crate) fn map_atoms(self, key: impl Fn(Atom) -> Atom, value: impl Fn(Atom) -> Atom) -> Self {
        match self.0 {
            Form::One(atom) => Self::scalar(key(atom)),
            Form::Set(set) => Self::set(set.into_iter().map(key)),
            Form::Map(map) => Self::map(map.into_iter().map(|(k, v)| (key(k), value(v)))),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
