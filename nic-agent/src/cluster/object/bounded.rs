//! JSON as a tree that is no larger than it may be: an object that the API server takes as 1.5 MB of text may be a hundred
//! times as large here, and what is kept of it is little.

use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Bytes, roughly. An EndpointSlice of a thousand endpoints is a fifth of that.
pub const MOST: usize = 16 << 20;
/// So deep every field is there, whatever else is left out: `spec.policyTypes` comes after the rules.
const ALWAYS: usize = 2;
/// Of a list there, which may be of one or two words, the first.
const FEW: usize = 8;
/// What a map with one entry takes (a node of a B-tree), and what anything takes.
const MAP: usize = 640;
const ITEM: usize = 32;

#[derive(Debug)]
pub struct Bounded {
    pub value: Value,
    /// What came when there was no room left is not in it.
    pub is_cut: bool,
}

impl<'de> Deserialize<'de> for Bounded {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut room = Room { left: MOST, is_cut: false };
        let value = Tree { room: &mut room, depth: 0 }.deserialize(from)?;
        Ok(Self { value, is_cut: room.is_cut })
    }
}

struct Room {
    left: usize,
    is_cut: bool,
}

impl Room {
    fn take(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }

    fn is_full(&self) -> bool {
        self.left == 0
    }
}

struct Tree<'a> {
    room: &'a mut Room,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_bool<E>(self, it: bool) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_i64<E>(self, it: i64) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_u64<E>(self, it: u64) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_f64<E>(self, it: f64) -> Result<Value, E> {
        Ok(it.into())
    }

    fn visit_str<E: Error>(self, it: &str) -> Result<Value, E> {
        self.room.take(it.len());
        Ok(it.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while !self.room.is_full() || (self.depth <= ALWAYS && list.len() < FEW) {
            self.room.take(ITEM);
            let item = Tree { room: self.room, depth: self.depth + 1 };
            match from.next_element_seed(item)? {
                Some(item) => list.push(item),
                None => return Ok(list.into()),
            }
        }
        while from.next_element::<IgnoredAny>()?.is_some() {
            self.room.is_cut = true;
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = from.next_key::<String>()? {
            // Nobody reads who wrote what; it may be as large as the object.
            if key == "managedFields" {
                from.next_value::<IgnoredAny>()?;
                continue;
            }
            if self.room.is_full() && self.depth > ALWAYS {
                from.next_value::<IgnoredAny>()?;
                self.room.is_cut = true;
                continue;
            }
            self.room.take(key.len() + if map.is_empty() { MAP } else { 2 * ITEM });
            let value = from.next_value_seed(Tree { room: self.room, depth: self.depth + 1 })?;
            map.insert(key, value);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e9..1e9f64).prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map("[a-z]{0,4}", inner, 0..5)
                    .prop_map(|it| it.into_iter().collect::<Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_small_enough_is_what_serde_json_reads(value in any_json()) {
            let text = value.to_string();
            let bounded: Bounded = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(&bounded.value, &serde_json::from_str::<Value>(&text).unwrap());
            prop_assert!(!bounded.is_cut);
            // From a tree, too.
            prop_assert_eq!(Bounded::deserialize(value.clone()).unwrap().value, value);
        }
    }

    #[test]
    fn what_is_too_large_is_cut_and_says_so() {
        let rules = |item: &str, count: usize| {
            let rules = vec![item; count].join(",");
            format!(
                r#"{{"metadata": {{"managedFields": [{rules}], "name": "p"}}, "spec": {{"ingress": [{rules}], "policyTypes": ["Ingress"]}}}}"#
            )
        };
        let wide: Bounded = serde_json::from_str(&rules(r#"{"ports":[{"port":1}]}"#, 68_000)).unwrap();
        assert!(wide.is_cut);
        let kept = wide.value["spec"]["ingress"].as_array().unwrap().len();
        assert!((5_000..20_000).contains(&kept), "{kept}");
        assert_eq!(wide.value["metadata"], json!({"name": "p"}));
        assert_eq!(wide.value["spec"]["policyTypes"], json!(["Ingress"]));
        let narrow: Bounded = serde_json::from_str(&rules("{}", 1000)).unwrap();
        assert!(!narrow.is_cut);
        assert_eq!(narrow.value["spec"]["policyTypes"], json!(["Ingress"]));
    }
}
