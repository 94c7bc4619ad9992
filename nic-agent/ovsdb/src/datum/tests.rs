use proptest::prelude::*;

use super::*;

pub(crate) fn atom() -> impl Strategy<Value = Atom> {
    prop_oneof![
        any::<i64>().prop_map(Atom::from),
        // A whole real comes back as the same real from our own JSON ("1.0"), so all finite ones round-trip.
        prop::num::f64::NORMAL.prop_map(Atom::from),
        any::<bool>().prop_map(Atom::from),
        "\\PC{0,8}|[\"\\\\\n\t]{0,4}".prop_map(Atom::from),
        any::<u128>().prop_map(|bits| Atom::from(Uuid::from_u128(bits))),
        "\\PC{0,8}".prop_map(|text| Atom::from(NamedUuid::new(&text))),
    ]
}

pub(crate) fn datum() -> impl Strategy<Value = Datum> {
    prop_oneof![
        atom().prop_map(Datum::scalar),
        prop::collection::vec(atom(), 0..5).prop_map(Datum::set),
        prop::collection::vec((atom(), atom()), 0..5).prop_map(Datum::map),
    ]
}

#[test]
fn a_bare_atom_is_a_set_of_one() {
    let bare = Datum::from_json(&json!("OpenFlow13")).unwrap();
    let set = Datum::from_json(&json!(["set", ["OpenFlow13"]])).unwrap();
    assert_eq!(bare, set);
    assert_eq!(set.to_json(), json!("OpenFlow13"));
    assert_eq!(Datum::set(["a", "a"]), Datum::from("a"));
}

#[test]
fn empty_set_and_empty_map_differ() {
    assert_ne!(Datum::empty_set(), Datum::map::<&str, &str>([]));
    assert_eq!(Datum::empty_set().to_json(), json!(["set", []]));
    assert_eq!(Datum::map::<&str, &str>([]).to_json(), json!(["map", []]));
}

#[test]
fn uuids_are_atoms_not_sets() {
    let text = "550e8400-e29b-41d4-a716-446655440000";
    let uuid: Uuid = text.parse().unwrap();
    assert_eq!(Datum::from_json(&json!(["uuid", text])).unwrap(), Datum::from(uuid));
    assert_eq!(Datum::from_json(&json!(["set", [["uuid", text]]])).unwrap(), Datum::from(uuid));
    assert_eq!(Datum::from(NamedUuid::new("a")).to_json(), json!(["named-uuid", "row_a"]));
}

#[test]
fn malformed_values_are_refused() {
    for bad in [
        json!(null),
        json!({}),
        json!([]),
        json!(["uuid"]),
        json!(["uuid", "x"]),
        json!(["uuid", 5]),
        json!(["set", 5]),
        json!(["set", [["set", []]]]),
        json!(["set", [null]]),
        json!(["map", [["a"]]]),
        json!(["map", [["a", "b", "c"]]]),
        json!(["map", ["a"]]),
        json!(["map", [["a", "b"], ["a", "c"]]]),
        json!(["bag", []]),
    ] {
        assert!(Datum::from_json(&bad).is_err(), "{bad} accepted");
    }
}

#[test]
fn differences_as_the_server_makes_them() {
    let set = |atoms: &[&str]| Datum::set(atoms.iter().copied());
    assert_eq!(set(&["a", "b"]).apply_difference(&set(&["b", "c"])), set(&["a", "c"]));
    assert_eq!(set(&["a"]).apply_difference(&set(&["a"])), Datum::empty_set());
    assert_eq!(Datum::empty_set().apply_difference(&set(&["a"])), set(&["a"]));
    let map = |pairs: &[(&'static str, &'static str)]| Datum::map(pairs.iter().copied());
    let old = map(&[("keep", "1"), ("change", "1"), ("drop", "1")]);
    let change = map(&[("change", "2"), ("drop", "1"), ("add", "1")]);
    assert_eq!(old.apply_difference(&change), map(&[("keep", "1"), ("change", "2"), ("add", "1")]));
}

#[test]
fn named_uuids_hold_only_what_the_rfc_allows() {
    let name = NamedUuid::new("pf0vf3/a-ü");
    assert!(name.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{}", name.as_str());
}

proptest! {
    #[test]
    fn json_round_trip(datum in datum()) {
        let text = datum.to_json().to_string();
        let back = Datum::from_json(&serde_json::from_str(&text).unwrap()).unwrap();
        prop_assert_eq!(back, datum);
    }

    #[test]
    fn sets_do_not_depend_on_order(mut atoms in prop::collection::vec(atom(), 0..6)) {
        let forward = Datum::set(atoms.clone());
        atoms.reverse();
        prop_assert_eq!(forward, Datum::set(atoms));
    }

    #[test]
    fn a_difference_of_sets_leads_from_old_to_new(
        old in prop::collection::btree_set(atom(), 0..6),
        new in prop::collection::btree_set(atom(), 0..6),
        shared in prop::collection::btree_set(atom(), 0..6),
    ) {
        let old: BTreeSet<Atom> = old.union(&shared).cloned().collect();
        let new: BTreeSet<Atom> = new.union(&shared).cloned().collect();
        let difference = Datum::set(old.symmetric_difference(&new).cloned());
        prop_assert_eq!(Datum::set(old).apply_difference(&difference), Datum::set(new));
    }

    #[test]
    fn different_texts_have_different_names(a in "[a_b:/0-9]{0,6}", b in "[a_b:/0-9]{0,6}") {
        prop_assert_eq!(a == b, NamedUuid::new(&a) == NamedUuid::new(&b));
    }
}
