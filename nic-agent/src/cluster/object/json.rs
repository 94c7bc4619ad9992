//! An object's text, taken from what it is part of as it is, for a fraction of what reading it takes.

use std::fmt;

use kube::core::ObjectMeta;
use lenient_json::{Part, Text};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::Bounded;

#[derive(Clone, Debug)]
pub struct Json {
    pub text: Box<str>,
    /// What came when there was no room left is not in it.
    pub is_cut: bool,
}

/// By which `serde_json` knows that a value's text is asked for, which it hands out as a map. A watch event is an enum: where
/// its `type` comes after its `object`, serde has read that by then, and hands out a value instead. API servers write
/// `type` first, who stands between may not. Should the name be another in a version to come, all are values.
const RAW_VALUE: &str = "$serde_json::private::RawValue";

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_newtype_struct(RAW_VALUE, Either)
    }
}

struct Either;

impl<'de> Visitor<'de> for Either {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, from: A) -> Result<Json, A::Error> {
        let raw = Box::<RawValue>::deserialize(MapAccessDeserializer::new(from))?;
        Ok(Json { text: raw.into(), is_cut: false })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Json, D::Error> {
        let Bounded { value, is_cut } = Bounded::deserialize(from)?;
        let text = serde_json::to_string(&value).map_err(D::Error::custom)?;
        Ok(Json { text: text.into(), is_cut })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    metadata: Part<Metadata>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: Text,
    namespace: Text,
    uid: Text,
    resource_version: Text,
}

impl Json {
    /// Who it is. Of what is no object nobody knows.
    pub fn metadata(&self) -> ObjectMeta {
        let Part(Head { metadata: Part(of) }) = serde_json::from_str(&self.text).unwrap_or_default();
        ObjectMeta {
            name: of.name.some(),
            namespace: of.namespace.some(),
            uid: of.uid.some(),
            resource_version: of.resource_version.some(),
            ..ObjectMeta::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[derive(Deserialize)]
    #[serde(tag = "type", content = "object")]
    enum Event {
        Added(Json),
    }

    const OBJECT: &str = r#"{"metadata": {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "7",
        "labels": {"x": 5}}, "spec": [1, 1.5, null, "é"]}"#;

    #[test]
    fn its_text_is_kept_as_it_came() {
        let json: Json = serde_json::from_str(OBJECT).unwrap();
        assert_eq!((&*json.text, json.is_cut), (OBJECT, false));
        let of = json.metadata();
        assert_eq!((of.name.as_deref(), of.namespace.as_deref()), (Some("a"), Some("n")));
        assert_eq!((of.uid.as_deref(), of.resource_version.as_deref()), (Some("u"), Some("7")));
    }

    #[test]
    fn in_an_event_the_object_may_come_first() {
        let value: Value = serde_json::from_str(OBJECT).unwrap();
        for (event, is_as_it_came) in [
            (format!(r#"{{"type": "Added", "object": {OBJECT}}}"#), true),
            (format!(r#"{{"object": {OBJECT}, "type": "Added"}}"#), false),
        ] {
            let Event::Added(json) = serde_json::from_str(&event).unwrap();
            assert_eq!(*json.text == *OBJECT, is_as_it_came, "{event}");
            assert_eq!(serde_json::from_str::<Value>(&json.text).unwrap(), value);
            assert_eq!(json.metadata().name.as_deref(), Some("a"));
        }
    }

    #[test]
    fn what_is_no_object_has_no_name() {
        let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
        for text in ["5", "null", r#"{"metadata": 5}"#, r#"{"metadata": {"name": ["a"]}}"#, &deep] {
            let json: Json = serde_json::from_str(text).unwrap();
            assert_eq!(json.metadata().name, None, "{text}");
        }
    }
}
