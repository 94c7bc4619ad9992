//! Objects that went wrong: parts of a good one are taken away, replaced, doubled or added, by values that make sense
//! elsewhere and by such that make sense nowhere.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

#[derive(Debug, Clone)]
pub struct Mutation {
    place: Index,
    edit: Edit,
}

#[derive(Debug, Clone)]
enum Edit {
    Remove,
    Replace(Value),
    Add(String, Value),
    /// Of a list: its members once more.
    Double,
}

/// What is known to mean something to somebody.
const WORDS: [&str; 26] = [
    "",
    " ",
    "Geneve",
    "VXLAN",
    "OVNKubernetes",
    "KubeOVN",
    "Plain",
    "SkipSW",
    "{namespace}_{name}",
    "{",
    "server1",
    "server2",
    "p0",
    "lo",
    "br-edge",
    "br-int",
    "tcp:192.0.2.7:6642",
    "ssl:[2001:db8::1]:6642",
    "unix:/x",
    "tcp:a:0",
    "192.0.2.1",
    "::",
    "10.0.0.0/8",
    "TCP",
    "In",
    "\u{0}é\n\"'\\",
];
const KEYS: [&str; 12] = [
    "kind",
    "template",
    "interface",
    "addresses",
    "first",
    "mtu",
    "podSelector",
    "matchExpressions",
    "ports",
    "podIPs",
    "labels",
    "neverHeardOf",
];

fn leaf() -> impl Strategy<Value = Value> {
    let numbers: Vec<Value> = vec![
        json!(-1),
        json!(0),
        json!(1),
        json!(1279),
        json!(1280),
        json!(9978),
        json!(65535),
        json!(65536),
        json!(u32::MAX),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(0.5),
        json!(1e300),
    ];
    prop_oneof![
        4 => select(&WORDS[..]).prop_map(Value::from),
        3 => select(numbers),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => ".{0,8}".prop_map(Value::from),
        1 => Just(Value::from("x".repeat(5000))),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(3, 12, 4, |inner| {
        let pair = (select(&KEYS[..]), inner.clone());
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::from),
            vec(pair, 0..4).prop_map(|pairs| {
                Value::Object(
                    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>(),
                )
            }),
        ]
    })
}

pub fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let edit = prop_oneof![
        2 => Just(Edit::Remove),
        5 => value().prop_map(Edit::Replace),
        2 => (select(&KEYS[..]), value()).prop_map(|(key, value)| Edit::Add(key.to_owned(), value)),
        1 => Just(Edit::Double),
    ];
    vec((any::<Index>(), edit).prop_map(|(place, edit)| Mutation { place, edit }), 0..4)
}

/// Every place below, by its pointer, the root's own left out.
fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    let mut below = |key: &str, value: &Value| {
        let key = key.replace('~', "~0").replace('/', "~1");
        let place = format!("{at}/{key}");
        all.push(place.clone());
        places(value, &place, all);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| below(key, value)),
        Value::Array(list) => list.iter().enumerate().for_each(|(at, value)| below(&at.to_string(), value)),
        _ => {}
    }
}

/// Changes what is below `root`.
pub fn mutate(object: &mut Value, root: &str, mutations: &[Mutation]) {
    for Mutation { place, edit } in mutations {
        let mut all = Vec::new();
        if let Some(part) = object.pointer(root) {
            places(part, root, &mut all);
        }
        if all.is_empty() {
            return;
        }
        let place = place.get(&all);
        match edit {
            Edit::Remove => {
                let (parent, key) = place.rsplit_once('/').unwrap();
                match object.pointer_mut(parent) {
                    Some(Value::Object(map)) => drop(map.remove(key)),
                    Some(Value::Array(list)) => drop(list.remove(key.parse().unwrap())),
                    _ => {}
                }
            }
            Edit::Replace(value) => *object.pointer_mut(place).unwrap() = value.clone(),
            Edit::Add(key, value) => {
                if let Some(map) = object.pointer_mut(place).and_then(Value::as_object_mut) {
                    map.insert(key.clone(), value.clone());
                }
            }
            Edit::Double => {
                if let Some(list) = object.pointer_mut(place).and_then(Value::as_array_mut) {
                    list.extend(list.clone());
                }
            }
        }
    }
}
