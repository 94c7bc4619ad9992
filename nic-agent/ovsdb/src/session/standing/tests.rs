use super::*;

const ROW: &str = "00000000-0000-0000-0000-000000000001";
const CLUSTER: &str = "00000000-0000-0000-0000-0000000000c1";

fn schema() -> Value {
    let optional = |kind: &str| json!({"type": {"key": kind, "min": 0, "max": 1}});
    json!({"name": "_Server", "tables": {"Database": {"columns": {
        "name": {"type": "string"}, "model": {"type": "string"}, "connected": {"type": "boolean"},
        "leader": {"type": "boolean"}, "schema": optional("string"), "cid": optional("uuid"), "index": optional("integer")}}}})
}

fn member(index: i64) -> Value {
    json!({"name": "db", "model": "clustered", "connected": true, "leader": false, "schema": "{}",
        "cid": ["uuid", CLUSTER], "index": index})
}

/// One that has this row.
fn of(standing: &mut Standing, row: &Value) {
    standing.disconnected();
    assert_eq!(standing.begin().unwrap().method, "get_schema");
    assert!(standing.begin().is_none() && !standing.is_known());
    let ask = standing.answer(Ok(schema())).unwrap().unwrap();
    assert_eq!((ask.method, &ask.params[1]), ("monitor_cond", &json!(MONITOR)));
    assert!(standing.answer(Ok(json!({"Database": {ROW: {"initial": row}}}))).unwrap().is_none());
    assert!(standing.is_known());
}

#[test]
fn a_member_in_good_standing_is_stayed_with_and_no_other() {
    let with = |column: &str, value: Value| {
        let mut row = member(7);
        row[column] = value;
        row
    };
    let db = || "db".to_owned();
    for (row, verdict) in [
        (member(7), Ok(())),
        (with("leader", json!(true)), Ok(())),
        (with("connected", json!(false)), Err(Unfit::Disconnected(db()))),
        (with("schema", json!(["set", []])), Err(Unfit::NotJoined(db()))),
        (with("name", json!("other")), Err(Unfit::Absent(db()))),
        (with("index", json!(["set", []])), Ok(())),
        // A server by itself says nothing of a cluster.
        (json!({"name": "db", "model": "standalone", "connected": false, "schema": "{}"}), Ok(())),
        (
            json!({"name": "db", "model": "standalone", "connected": true, "schema": ["set", []]}),
            Err(Unfit::NotJoined(db())),
        ),
    ] {
        let mut standing = Standing::default();
        of(&mut standing, &row);
        assert_eq!(standing.judge("db", false), verdict, "{row}");
        let alone = if let Err(Unfit::Absent(_)) = verdict { Ok(()) } else { verdict };
        assert_eq!(standing.judge("db", true), alone, "{row}");
    }
}

#[test]
fn it_is_left_as_soon_as_it_says_so() {
    let mut standing = Standing::default();
    of(&mut standing, &member(7));
    assert_eq!(standing.judge("db", false), Ok(()));
    let modify = |columns: Value| json!({"Database": {ROW: {"modify": columns}}});
    standing.update(&modify(json!({"index": 9}))).unwrap();
    assert_eq!(standing.judge("db", false), Ok(()));
    standing.update(&modify(json!({"connected": false}))).unwrap();
    assert_eq!(standing.judge("db", false), Err(Unfit::Disconnected("db".to_owned())));
}

#[test]
fn who_is_behind_is_left_but_a_cluster_that_was_made_again_is_not() {
    let mut standing = Standing::default();
    of(&mut standing, &member(9));
    assert_eq!(standing.judge("db", false), Ok(()));
    of(&mut standing, &member(8));
    assert_eq!(standing.judge("db", false), Err(Unfit::Stale { db: "db".to_owned(), index: 8, seen: 9 }));
    of(&mut standing, &member(9));
    assert_eq!(standing.judge("db", false), Ok(()));
    let mut again = member(1);
    again["cid"] = json!(["uuid", "00000000-0000-0000-0000-0000000000c2"]);
    of(&mut standing, &again);
    assert_eq!(standing.judge("db", false), Ok(()));
}

#[test]
fn who_says_nothing_of_itself_is_stayed_with() {
    let mut standing = Standing::default();
    standing.begin().unwrap();
    let error = RpcError { error: "unknown database".to_owned(), details: None };
    assert!(standing.answer(Err(error)).unwrap().is_none());
    assert!(standing.is_known() && standing.judge("db", false).is_ok());
    standing.disconnected();
    standing.begin().unwrap();
    let other = json!({"name": "_Server", "tables": {"T": {"columns": {}}}});
    assert!(standing.answer(Ok(other)).unwrap().is_none());
    assert!(standing.is_known() && standing.judge("db", false).is_ok());
}
