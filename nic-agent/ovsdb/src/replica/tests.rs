use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::datum::Atom;
use crate::snapshot::Snapshot;

fn schema() -> DatabaseSchema {
    serde_json::from_value(json!({"name": "db", "tables": {
        "T": {"columns": {
            "name": {"type": "string"},
            "n": {"type": {"key": "integer", "min": 0, "max": 1}},
            "set": {"type": {"key": "string", "min": 0, "max": "unlimited"}},
            "map": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
            "real": {"type": "real"},
            "unused": {"type": "string"}}},
        "U": {"columns": {"name": {"type": "string"}}}}}))
    .unwrap()
}

const COLUMNS: [&str; 5] = ["map", "n", "name", "real", "set"];

fn layout() -> Layout {
    let t: Vec<String> = COLUMNS.iter().map(ToString::to_string).collect();
    let u = ["name".to_owned()];
    let (layout, missing) = Layout::new(&schema(), [("T", &t[..]), ("U", &u[..])]);
    assert_eq!(missing, Vec::<String>::new());
    layout
}

fn replica() -> Replica {
    let mut replica = Replica::default();
    replica.set_layout(layout());
    replica
}

fn snapshot(replica: &Replica) -> Snapshot {
    Snapshot { tables: replica.tables().clone(), ..Snapshot::default() }
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn key(n: u128) -> String {
    id(n).to_string()
}

#[test]
fn what_the_schema_lacks_is_named_and_left_out() {
    let t = ["name".to_owned(), "new".to_owned()];
    let v = ["name".to_owned()];
    let (layout, missing) = Layout::new(&schema(), [("T", &t[..]), ("V", &v[..])]);
    assert_eq!(missing, ["T.new", "V"]);
    assert!(layout.has("T") && !layout.has("V"));
    assert_eq!(layout.tables().map(|(name, columns)| (name, columns.len())).collect::<Vec<_>>(), [("T", 1)]);
}

#[test]
fn columns_left_out_of_a_new_row_have_their_defaults() {
    let mut replica = replica();
    assert_eq!(replica.update(&json!({"T": {key(1): {"insert": {"name": "a", "real": 1}}}})), Ok(true));
    let snapshot = snapshot(&replica);
    let row = snapshot.get("T", id(1)).unwrap();
    assert_eq!(row.get("set"), Some(&Datum::empty_set()));
    assert_eq!(row.get("map"), Some(&Datum::map::<&str, &str>([])));
    assert_eq!(row.get("n"), Some(&Datum::empty_set()));
    assert_eq!(row.get("real"), Some(&Datum::from(1.0)));
    assert_eq!(row.get("unused"), None);
}

#[test]
fn an_optional_is_replaced_and_a_set_is_changed() {
    let mut replica = replica();
    let new = json!({"n": 1, "set": ["set", ["a", "b"]], "map": ["map", [["k", "v"], ["l", "w"]]]});
    replica.update(&json!({"T": {key(1): {"initial": new}}})).unwrap();
    let change = json!({"n": 2, "set": ["set", ["b", "c"]], "map": ["map", [["k", "v"], ["l", "x"]]]});
    replica.update(&json!({"T": {key(1): {"modify": change}}})).unwrap();
    let row = snapshot(&replica).get("T", id(1)).unwrap().clone();
    assert_eq!(row.get("n"), Some(&Datum::from(2i64)));
    assert_eq!(row.get("set"), Some(&Datum::set(["a", "c"])));
    assert_eq!(row.get("map"), Some(&Datum::map([("l", "x")])));
    replica.update(&json!({"T": {key(1): {"modify": {"n": ["set", []], "set": "a"}}}})).unwrap();
    let row = snapshot(&replica).get("T", id(1)).unwrap().clone();
    assert_eq!(row.get("n"), Some(&Datum::empty_set()));
    assert_eq!(row.get("set"), Some(&Datum::from("c")));
}

#[test]
fn an_update_that_does_not_fit_changes_nothing() {
    let mut replica = replica();
    replica.update(&json!({"T": {key(1): {"insert": {"name": "a"}}}})).unwrap();
    let before = replica.tables().clone();
    for bad in [
        json!(5),
        json!({"T": 5}),
        json!({"X": {}}),
        json!({"T": {"x": {"delete": null}}}),
        json!({"T": {key(1): {}}}),
        json!({"T": {key(1): {"insert": {}, "delete": null}}}),
        json!({"T": {key(1): {"upsert": {}}}}),
        json!({"T": {key(1): {"modify": 5}}}),
        json!({"T": {key(1): {"modify": {"unused": "x"}}}}),
        json!({"T": {key(1): {"modify": {"name": 5}}}}),
        json!({"T": {key(1): {"modify": {"set": ["map", []]}}}}),
        json!({"T": {key(1): {"modify": {"name": ["bag", []]}}}}),
        json!({"T": {key(9): {"modify": {"name": "x"}}}}),
        // The first row fits, the second does not.
        json!({"T": {key(1): {"modify": {"name": "b"}}, key(9): {"modify": {"name": "x"}}}}),
    ] {
        assert!(replica.update(&bad).is_err(), "{bad} accepted");
        assert_eq!(replica.tables(), &before, "{bad}");
    }
    assert!(replica.refresh(&json!({"T": {key(1): {"modify": {"name": "b"}}}})).is_err());
    assert_eq!(replica.tables(), &before);
}

#[test]
fn a_refresh_with_the_same_rows_changes_nothing_and_keeps_the_allocations() {
    let mut replica = replica();
    let rows = json!({"T": {key(1): {"initial": {"name": "a"}}, key(2): {"initial": {"name": "b"}}}});
    assert_eq!(replica.refresh(&rows), Ok(true));
    let before = replica.tables().clone();
    assert_eq!(replica.refresh(&rows), Ok(false));
    assert!(Arc::ptr_eq(&before["T"][&id(1)], &replica.tables()["T"][&id(1)]));
    let old = snapshot(&replica);
    let other = json!({"T": {key(1): {"initial": {"name": "a"}}, key(3): {"initial": {}}}, "U": {key(4): {"initial": {}}}});
    assert_eq!(replica.refresh(&other), Ok(true));
    let changes: Vec<_> = snapshot(&replica)
        .changes_since(&old)
        .into_iter()
        .map(|change| (change.table.to_string(), change.uuid, change.old.is_some(), change.new.is_some()))
        .collect();
    let t = || "T".to_owned();
    assert_eq!(
        changes,
        [(t(), id(2), true, false), (t(), id(3), false, true), ("U".into(), id(4), false, true)]
    );
}

#[test]
fn a_table_that_is_gone_from_the_schema_loses_its_rows_at_the_refresh() {
    let mut replica = replica();
    replica.refresh(&json!({"U": {key(1): {"initial": {"name": "a"}}}})).unwrap();
    let old = snapshot(&replica);
    let t = ["name".to_owned()];
    replica.set_layout(Layout::new(&schema(), [("T", &t[..])]).0);
    assert_eq!(replica.tables(), &old.tables, "kept until the server has answered");
    assert_eq!(replica.refresh(&json!({})), Ok(true));
    let changes = snapshot(&replica).changes_since(&old);
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].table.as_ref(), changes[0].new.is_none()), ("U", true));
}

// A server in small: rows by identifier, and the updates that it would send, made independently of the code under test.

type ModelRow = BTreeMap<&'static str, Datum>;
type Model = BTreeMap<u128, ModelRow>;

fn text() -> impl Strategy<Value = String> {
    "[abc]{0,2}"
}

fn model_row() -> impl Strategy<Value = ModelRow> {
    (
        text(),
        prop::option::of(0i64..3),
        prop::collection::btree_set(text(), 0..4),
        prop::collection::btree_map(text(), text(), 0..4),
        -2i32..3,
    )
        .prop_map(|(name, n, set, map, real)| {
            BTreeMap::from([
                ("name", Datum::from(name)),
                ("n", n.map_or_else(Datum::empty_set, Datum::from)),
                ("set", Datum::set(set)),
                ("map", Datum::map(map)),
                ("real", Datum::from(f64::from(real) / 2.0)),
            ])
        })
}

fn model() -> impl Strategy<Value = Model> {
    prop::collection::btree_map(0u128..8, model_row(), 0..8)
}

/// Sends whole reals as integers, as ovsdb-server does.
fn to_wire(datum: &Datum) -> Value {
    match datum.as_atom() {
        #[allow(clippy::cast_possible_truncation)]
        Some(Atom::Real(real)) if real.0.fract() == 0.0 => json!(real.0 as i64),
        _ => datum.to_json(),
    }
}

fn whole(row: &ModelRow) -> Value {
    let default = |column: &str| match column {
        "name" => Datum::from(""),
        "real" => Datum::from(0.0),
        "map" => Datum::map::<&str, &str>([]),
        _ => Datum::empty_set(),
    };
    let columns = row.iter().filter(|(column, datum)| **datum != default(column));
    Value::Object(columns.map(|(column, datum)| ((*column).to_owned(), to_wire(datum))).collect())
}

fn difference(old: &ModelRow, new: &ModelRow) -> Value {
    let mut columns = Map::new();
    for (column, datum) in new {
        let before = &old[column];
        if before == datum {
            continue;
        }
        let value = match *column {
            "set" => {
                let once = before.atoms().chain(datum.atoms()).filter(|atom| {
                    before.atoms().any(|other| other == *atom) != datum.atoms().any(|other| other == *atom)
                });
                Datum::set(once.cloned()).to_json()
            }
            "map" => {
                let removed = before.pairs().filter(|(key, _)| datum.value_of(key).is_none());
                let put = datum.pairs().filter(|(key, value)| before.value_of(key) != Some(value));
                Datum::map(removed.chain(put).map(|(k, v)| (k.clone(), v.clone()))).to_json()
            }
            _ => to_wire(datum),
        };
        columns.insert((*column).to_owned(), value);
    }
    Value::Object(columns)
}

fn update(old: &Model, new: &Model) -> Value {
    let mut rows = Map::new();
    for (n, row) in new {
        match old.get(n) {
            None => drop(rows.insert(key(*n), json!({"insert": whole(row)}))),
            Some(before) if before != row => {
                rows.insert(key(*n), json!({"modify": difference(before, row)}));
            }
            Some(_) => {}
        }
    }
    for n in old.keys().filter(|n| !new.contains_key(n)) {
        rows.insert(key(*n), json!({"delete": null}));
    }
    if rows.is_empty() { json!({}) } else { json!({"T": rows}) }
}

fn initial(model: &Model) -> Value {
    let rows: Map<String, Value> =
        model.iter().map(|(n, row)| (key(*n), json!({"initial": whole(row)}))).collect();
    json!({"T": rows})
}

fn as_model(snapshot: &Snapshot) -> Model {
    snapshot
        .table("T")
        .map(|(uuid, row)| {
            (
                uuid.as_u128(),
                COLUMNS.iter().map(|column| (*column, row.get(column).unwrap().clone())).collect(),
            )
        })
        .collect()
}

proptest! {
    #[test]
    fn the_replica_follows_a_model(steps in prop::collection::vec((model(), any::<bool>()), 1..12)) {
        let mut replica = replica();
        let mut model = Model::new();
        for (next, reconnected) in steps {
            let before = snapshot(&replica);
            let changed = if reconnected {
                replica.refresh(&initial(&next))
            } else {
                replica.update(&update(&model, &next))
            };
            prop_assert_eq!(changed, Ok(next != model));
            let after = snapshot(&replica);
            prop_assert_eq!(&as_model(&after), &next);
            // The changes are exactly the rows that differ, whichever way they came.
            let seen: BTreeSet<u128> =
                after.changes_since(&before).iter().map(|change| change.uuid.as_u128()).collect();
            let wanted: BTreeSet<u128> = model.keys().chain(next.keys())
                .filter(|n| model.get(n) != next.get(n)).copied().collect();
            prop_assert_eq!(seen, wanted);
            for change in after.changes_since(&before) {
                prop_assert_eq!(change.old.as_deref(), before.get("T", change.uuid));
                prop_assert_eq!(change.new.as_deref(), after.get("T", change.uuid));
            }
            model = next;
        }
    }

    #[test]
    fn many_rows_are_compared_exactly(
        old in prop::collection::btree_map(0u128..600, text(), 0..400),
        new in prop::collection::btree_map(0u128..600, text(), 0..400),
    ) {
        // More rows than one node of the tree holds, so that shared and unshared subtrees both occur.
        let rows = |model: &BTreeMap<u128, String>, kind: &str| -> Value {
            let rows: Map<String, Value> =
                model.iter().map(|(n, name)| (key(*n), json!({kind: {"name": name}}))).collect();
            json!({"T": rows})
        };
        let mut replica = replica();
        replica.refresh(&rows(&old, "initial")).unwrap();
        let before = snapshot(&replica);
        replica.refresh(&rows(&new, "initial")).unwrap();
        let seen: BTreeSet<u128> =
            snapshot(&replica).changes_since(&before).iter().map(|change| change.uuid.as_u128()).collect();
        let wanted: BTreeSet<u128> =
            old.keys().chain(new.keys()).filter(|n| old.get(n) != new.get(n)).copied().collect();
        prop_assert_eq!(seen, wanted);
    }

    #[test]
    fn no_update_makes_it_panic(
        kind in "initial|insert|modify|delete|x",
        column in "name|n|set|map|real|unused",
        datum in crate::datum::tests::datum(),
    ) {
        let mut replica = replica();
        replica.update(&json!({"T": {key(1): {"insert": {}}}})).unwrap();
        let before = replica.tables().clone();
        let update = json!({"T": {key(1): {kind: {column: datum.to_json()}}}});
        if replica.update(&update).is_err() {
            prop_assert_eq!(replica.tables(), &before);
        }
    }
}
