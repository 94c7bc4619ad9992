use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{Dict, Flag, List, Part, Text, Whole};

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
struct Object {
    #[serde(deserialize_with = "crate::metadata")]
    metadata: ObjectMeta,
    name: Text,
    port: Whole,
    is_ready: Flag,
    labels: Dict<Text>,
    ports: List<Part<Inner>>,
    inner: Part<Inner>,
    maybe: Option<Part<Inner>>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Inner {
    port: Whole,
    names: List<Text>,
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e300..1e300f64).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let keys = prop::sample::select(vec![
        "metadata",
        "name",
        "port",
        "isReady",
        "labels",
        "ports",
        "inner",
        "maybe",
        "names",
        "annotations",
        "ownerReferences",
        "creationTimestamp",
        "other",
    ]);
    leaf.prop_recursive(4, 48, 5, move |inner| {
        let pair = (keys.clone(), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(Value::from),
            prop::collection::vec(pair, 0..6).prop_map(|pairs| {
                let pairs = pairs.into_iter().map(|(key, value)| (key.to_owned(), value));
                Value::from(pairs.collect::<Map<_, _>>())
            }),
        ]
    })
}

proptest! {
    /// In a list, as text and as a tree, before one that is well-formed: that one is read as it is alone.
    #[test]
    fn no_value_hides_what_comes_after_it(bad in any_json()) {
        let good = json!({"metadata": {"name": "n"}, "port": 80, "isReady": true, "ports": [{"port": 1}]});
        let alone: Object = serde_json::from_value(good.clone()).unwrap();
        let list = json!([bad, good]);
        let of_tree: List<Part<Object>> = serde_json::from_value(list.clone()).unwrap();
        let of_text: List<Part<Object>> = serde_json::from_str(&list.to_string()).unwrap();
        prop_assert_eq!(&of_tree[1].0, &alone);
        prop_assert_eq!(&of_text, &of_tree);
    }
}

#[test]
fn what_is_well_formed_is_kept_beside_what_is_not() {
    let read = |object: Value| serde_json::from_value::<Object>(object).unwrap();
    let seen = read(
        json!({"name": "n", "port": 70000, "isReady": "yes", "labels": {"a": "b", "c": 5}, "maybe": null,
        "ports": [{"port": 80, "names": ["x", 1]}, "http", {"port": -1}], "inner": [], "neverHeardOf": {"x": [{}]}}),
    );
    assert_eq!((&*seen.name, seen.port.0, seen.port.port(), seen.is_ready.0), ("n", Some(70000), None, None));
    assert_eq!(seen.labels.get("a").map(|it| &**it), Some("b"));
    let ports: Vec<Option<u16>> = seen.ports.iter().map(|it| it.port.port()).collect();
    assert_eq!(ports, [Some(80), None, None]);
    assert_eq!((&*seen.ports[0].names[0], &*seen.ports[0].names[1]), ("x", ""));
    assert_eq!((seen.inner, seen.maybe), (Part::default(), None));
    assert_eq!(Whole(Some(0)).port(), None);
    assert_eq!(Whole(Some(65535)).port(), Some(65535));
}

#[test]
fn dates_that_only_others_can_read_hide_nothing() {
    let metadata =
        |metadata: Value| serde_json::from_value::<Object>(json!({"metadata": metadata})).unwrap().metadata;
    let seen = metadata(json!({"name": "n", "namespace": "", "generation": "many",
        "creationTimestamp": "2026-11-21T12:00:00Z", "deletionTimestamp": "10000-01-01T00:00:00Z",
        "managedFields": [{"time": "10000-01-01T00:00:00Z"}], "ownerReferences": [{"kind": "Node"}, 5],
        "annotations": {"a": null}}));
    assert_eq!((seen.name.as_deref(), seen.namespace, seen.generation), (Some("n"), None, None));
    assert!(seen.creation_timestamp.is_some() && seen.deletion_timestamp.is_none());
    assert_eq!(seen.owner_references.unwrap()[0].kind, "Node");
    assert_eq!(seen.annotations.unwrap()["a"], "");
    assert_eq!(metadata(json!(7)), ObjectMeta::default());
}

/// `serde_json` gives up at a depth of 128: what is skipped is not read at all.
#[test]
fn depth_hurts_nobody() {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let text = format!(r#"{{"other": {deep}, "name": {deep}, "labels": {deep}, "port": 80}}"#);
    let seen: Object = serde_json::from_str(&text).unwrap();
    assert_eq!((seen.port.port(), &*seen.name), (Some(80), ""));
}
