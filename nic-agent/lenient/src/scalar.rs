//! A text, a number, a yes or no.

use std::fmt;
use std::ops::Deref;

use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// What a JSON value is, as far as it is no list and no object; those are skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scalar {
    Text(String),
    Number(i64),
    Flag(bool),
    /// Nothing, a list, an object, a fraction, a number beyond 64 bits.
    #[default]
    Other,
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Scalars)
    }
}

struct Scalars;

impl<'de> Visitor<'de> for Scalars {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: Error>(self, it: bool) -> Result<Scalar, E> {
        Ok(Scalar::Flag(it))
    }

    fn visit_i64<E: Error>(self, it: i64) -> Result<Scalar, E> {
        Ok(Scalar::Number(it))
    }

    fn visit_u64<E: Error>(self, it: u64) -> Result<Scalar, E> {
        Ok(i64::try_from(it).map_or(Scalar::Other, Scalar::Number))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_str<E: Error>(self, it: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(it.to_owned()))
    }

    fn visit_string<E: Error>(self, it: String) -> Result<Scalar, E> {
        Ok(Scalar::Text(it))
    }

    fn visit_unit<E: Error>(self) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_none<E: Error>(self) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Scalar, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Scalar, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other)
    }
}

/// A text; anything else is the empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(pub String);

impl Text {
    /// `None` for the empty one, which says nothing to Kubernetes.
    pub fn some(self) -> Option<String> {
        Some(self.0).filter(|it| !it.is_empty())
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match Scalar::deserialize(from)? {
            Scalar::Text(it) => Self(it),
            _ => Self::default(),
        })
    }
}

/// A whole number; `None` for anything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whole(pub Option<i64>);

impl Whole {
    /// Of a packet: from 1 to 65535.
    pub fn port(self) -> Option<u16> {
        self.within().filter(|port| *port != 0)
    }

    /// If it fits.
    pub fn within<T: TryFrom<i64>>(self) -> Option<T> {
        self.0.and_then(|it| T::try_from(it).ok())
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match Scalar::deserialize(from)? {
            Scalar::Number(it) => Self(Some(it)),
            _ => Self(None),
        })
    }
}

/// Yes or no; `None` for anything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flag(pub Option<bool>);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match Scalar::deserialize(from)? {
            Scalar::Flag(it) => Self(Some(it)),
            _ => Self(None),
        })
    }
}
