use serde_json::json;

use super::*;
use crate::op::Condition;

const TRANSACTION: &str = "11111111-1111-1111-1111-111111111111";
const NONE: &str = "00000000-0000-0000-0000-000000000000";
const ROW: &str = "22222222-2222-2222-2222-222222222222";

fn schema() -> Value {
    json!({"name": "db", "tables": {"T": {"columns": {"name": {"type": "string"}}}}})
}

fn entry() -> (Entry, watch::Receiver<Snapshot>) {
    let (sender, receiver) = watch::channel(Snapshot::default());
    let table = MonitorTable { name: "T".into(), columns: vec!["name".into()], conditions: Rows::All };
    (Entry::new(7, "db".into(), vec![table], sender), receiver)
}

fn named(name: &str) -> Rows {
    vec![Condition::equal("name", name)].into()
}

fn asked(ask: Option<Ask>) -> (&'static str, Value) {
    let ask = ask.expect("a request");
    (ask.method, ask.params)
}

/// Brings it up, and returns the transaction that it offered.
fn live(entry: &mut Entry, found: bool, last: &str, updates: &Value) -> String {
    assert_eq!(entry.begin(), Ask { method: "get_schema", params: json!(["db"]) });
    let (method, params) = asked(entry.answer(Ok(schema())).unwrap());
    assert_eq!(method, "monitor_cond_since");
    assert_eq!(entry.answer(Ok(json!([found, last, updates]))).unwrap(), None);
    params[3].as_str().unwrap().to_owned()
}

fn unknown() -> RpcError {
    RpcError { error: "unknown method".into(), details: None }
}

#[test]
fn the_way_up() {
    let (mut entry, snapshot) = entry();
    assert!(!entry.is_at_server());
    entry.begin();
    let (method, params) = asked(entry.answer(Ok(schema())).unwrap());
    assert_eq!(method, "monitor_cond_since");
    assert_eq!(params, json!(["db", 7, {"T": [{"columns": ["name"], "where": [true]}]}, NONE]));
    assert!(!snapshot.borrow().synced);
    entry.answer(Ok(json!([false, NONE, {"T": {ROW: {"initial": {"name": "a"}}}}]))).unwrap();
    let now = snapshot.borrow().clone();
    assert!(now.synced && now.connected && now.covers(0) && !now.covers(1));
    assert_eq!((now.revision, now.len("T")), (1, 1));
    entry.disconnected();
    let now = snapshot.borrow().clone();
    assert!(now.synced && !now.connected);
    assert_eq!((now.revision, now.len("T")), (1, 1));
}

#[test]
fn the_last_transaction_is_offered_when_the_same_rows_are_wanted() {
    let (mut entry, snapshot) = entry();
    assert_eq!(live(&mut entry, false, TRANSACTION, &json!({})), NONE);
    entry.disconnected();
    assert_eq!(live(&mut entry, true, TRANSACTION, &json!({"T": {ROW: {"insert": {}}}})), TRANSACTION);
    assert_eq!(snapshot.borrow().len("T"), 1, "the update was added, nothing was replaced");
    let last = "33333333-3333-3333-3333-333333333333";
    entry.update(Some(&json!(last)), &json!({"T": {ROW: {"modify": {"name": "b"}}}})).unwrap();
    entry.disconnected();
    assert_eq!(live(&mut entry, false, TRANSACTION, &json!({})), last);
    assert_eq!(snapshot.borrow().len("T"), 0, "everything was replaced");
    entry.disconnected();
    assert_eq!(entry.set_conditions("T".into(), named("x"), 1), None);
    assert_eq!(live(&mut entry, false, TRANSACTION, &json!({})), NONE);
    assert_eq!(snapshot.borrow().generation, 1);
}

#[test]
fn a_change_that_was_never_acknowledged_forbids_resuming_even_when_taken_back() {
    let (mut entry, _snapshot) = entry();
    live(&mut entry, false, TRANSACTION, &json!({}));
    assert!(entry.set_conditions("T".into(), named("x"), 1).is_some());
    entry.disconnected();
    entry.set_conditions("T".into(), Rows::All, 2);
    assert_eq!(live(&mut entry, false, TRANSACTION, &json!({})), NONE);
}

#[test]
fn another_schema_forbids_resuming() {
    let (mut entry, _snapshot) = entry();
    live(&mut entry, false, TRANSACTION, &json!({}));
    entry.disconnected();
    entry.begin();
    let other =
        json!({"name": "db", "tables": {"T": {"columns": {"name": {"type": {"key": "string", "min": 0}}}}}});
    let (_, params) = asked(entry.answer(Ok(other)).unwrap());
    assert_eq!(params[3], NONE);
}

#[test]
fn changes_wait_for_each_other_and_go_out_as_one() {
    let (mut entry, snapshot) = entry();
    live(&mut entry, false, NONE, &json!({}));
    let (method, params) = asked(entry.set_conditions("T".into(), named("a"), 1));
    assert_eq!(method, "monitor_cond_change");
    assert_eq!(params, json!([7, 7, {"T": [{"where": [["name", "==", "a"]]}]}]));
    assert_eq!(entry.set_conditions("T".into(), named("b"), 2), None);
    assert_eq!(entry.set_conditions("T".into(), Vec::new().into(), 3), None);
    // The rows come before the answer, and do not count as acknowledged until then.
    entry.update(None, &json!({"T": {ROW: {"insert": {"name": "a"}}}})).unwrap();
    assert_eq!((snapshot.borrow().generation, snapshot.borrow().len("T")), (0, 1));
    let (_, params) = asked(entry.answer(Ok(json!({}))).unwrap());
    assert_eq!(snapshot.borrow().generation, 1);
    assert_eq!(params[2], json!({"T": [{"where": [false]}]}), "any of none is none");
    assert_eq!(entry.answer(Ok(json!({}))).unwrap(), None);
    assert_eq!(snapshot.borrow().generation, 3);
    // The same again: acknowledged without a request.
    assert_eq!(entry.set_conditions("T".into(), Vec::new().into(), 4), None);
    assert_eq!(snapshot.borrow().generation, 4);
}

#[test]
fn conditions_that_change_during_the_way_up_are_caught_up_with() {
    let (mut entry, snapshot) = entry();
    entry.begin();
    assert_eq!(entry.set_conditions("T".into(), named("a"), 1), None);
    let (_, params) = asked(entry.answer(Ok(schema())).unwrap());
    assert_eq!(params[2]["T"][0]["where"], json!([["name", "==", "a"]]));
    assert_eq!(entry.set_conditions("T".into(), named("b"), 2), None);
    let (method, _) = asked(entry.answer(Ok(json!([false, NONE, {}]))).unwrap());
    assert_eq!(method, "monitor_cond_change");
    assert_eq!(snapshot.borrow().generation, 1);
}

#[test]
fn without_monitor_cond_since() {
    let (mut entry, snapshot) = entry();
    entry.begin();
    entry.answer(Ok(schema())).unwrap();
    let (method, params) = asked(entry.answer(Err(unknown())).unwrap());
    assert_eq!((method, params.as_array().unwrap().len()), ("monitor_cond", 3));
    entry.answer(Ok(json!({"T": {ROW: {"initial": {}}}}))).unwrap();
    assert!(snapshot.borrow().connected);
    // Nor monitor_cond: that is a refusal, not a loop.
    entry.disconnected();
    entry.begin();
    entry.answer(Ok(schema())).unwrap();
    entry.answer(Err(unknown())).unwrap();
    assert_eq!(entry.answer(Err(unknown())).unwrap(), None);
    assert!(entry.has_failed());
    assert_eq!(snapshot.borrow().error.as_deref(), Some("monitor: unknown method"));
}

#[test]
fn refusals_are_told_and_asked_again() {
    let (mut entry, snapshot) = entry();
    entry.begin();
    let error = RpcError { error: "unknown database".into(), details: None };
    assert_eq!(entry.answer(Err(error.clone())).unwrap(), None);
    assert!(entry.has_failed() && snapshot.borrow().error.is_some());
    // New conditions are a reason to try at once.
    assert_eq!(asked(entry.set_conditions("T".into(), named("a"), 1)).0, "get_schema");
    entry.answer(Ok(schema())).unwrap();
    entry.answer(Ok(json!([false, NONE, {}]))).unwrap();
    assert_eq!((snapshot.borrow().error.clone(), snapshot.borrow().generation), (None, 1));
    // A refused change leaves the rest alone, and is not repeated by itself.
    entry.set_conditions("T".into(), named("b"), 2).unwrap();
    assert_eq!(entry.answer(Err(error.clone())).unwrap(), None);
    assert!(!entry.has_failed() && snapshot.borrow().connected && snapshot.borrow().error.is_some());
    assert!(!snapshot.borrow().covers(2));
    // One that came meanwhile is sent.
    entry.set_conditions("T".into(), named("c"), 3).unwrap();
    entry.set_conditions("T".into(), named("d"), 4);
    assert!(entry.answer(Err(error)).unwrap().is_some());
    entry.answer(Ok(json!({}))).unwrap();
    assert_eq!((snapshot.borrow().error.clone(), snapshot.borrow().generation), (None, 4));
}

#[test]
fn what_contradicts_costs_the_connection_and_the_resumption() {
    let (mut entry, snapshot) = entry();
    assert!(entry.update(None, &json!({})).is_err(), "an update before anything");
    live(&mut entry, false, TRANSACTION, &json!({}));
    assert!(entry.answer(Ok(json!({}))).is_err(), "an answer to nothing");
    assert!(entry.update(Some(&json!(TRANSACTION)), &json!({"T": {ROW: {"modify": {}}}})).is_err());
    entry.disconnected();
    assert_eq!(live(&mut entry, false, TRANSACTION, &json!({})), NONE);
    for bad in
        [json!(null), json!([]), json!([1, NONE, {}]), json!([false, "x", {}]), json!([false, NONE, 5])]
    {
        entry.disconnected();
        entry.begin();
        entry.answer(Ok(schema())).unwrap();
        assert!(entry.answer(Ok(bad.clone())).is_err(), "{bad}");
        assert!(!snapshot.borrow().connected);
    }
    entry.disconnected();
    entry.begin();
    assert!(entry.answer(Ok(json!({"tables": 5}))).is_err());
}
