use super::*;

#[test]
fn each_operation_as_the_rfc_writes_it() {
    let name = NamedUuid::new("p");
    let ops: Vec<Op> = vec![
        Op::insert("Port").named(&name).set("name", "a\"b").set("interfaces", NamedUuid::new("i")).into(),
        Op::select("Port").when(Condition::equal("name", "x")).columns(["_uuid"]).into(),
        Op::update("Port").when(Condition::not_equal("tag", 5i64)).set("tag", Datum::empty_set()).into(),
        Op::mutate("Bridge")
            .when(Condition::includes("ports", &name))
            .with(Mutation::insert("ports", &name))
            .with(Mutation::add("n", -1i64))
            .with_all(Mutation::set_keys("external_ids", [("a", "1"), ("b", "2")]))
            .into(),
        Op::delete("Port").when(Condition::Constant(false)).into(),
        Op::wait("Bridge")
            .when(Condition::equal("name", "br"))
            .columns(["fail_mode"])
            .row([("fail_mode", "secure")])
            .timeout(Duration::from_millis(1500))
            .into(),
        Op::comment("why"),
        Op::assert("l"),
        Op::abort(),
        Op::commit(true),
    ];
    let seen: Value = ops.iter().map(Op::to_json).collect();
    assert_eq!(
        seen,
        json!([
            {"op": "insert", "table": "Port", "uuid-name": "row_p",
             "row": {"name": "a\"b", "interfaces": ["named-uuid", "row_i"]}},
            {"op": "select", "table": "Port", "where": [["name", "==", "x"]], "columns": ["_uuid"]},
            {"op": "update", "table": "Port", "where": [["tag", "!=", 5]], "row": {"tag": ["set", []]}},
            {"op": "mutate", "table": "Bridge", "where": [["ports", "includes", ["named-uuid", "row_p"]]],
             "mutations": [
                ["ports", "insert", ["named-uuid", "row_p"]], ["n", "+=", -1],
                ["external_ids", "delete", ["set", ["a", "b"]]],
                ["external_ids", "insert", ["map", [["a", "1"], ["b", "2"]]]]]},
            {"op": "delete", "table": "Port", "where": [false]},
            {"op": "wait", "timeout": 1500, "table": "Bridge", "where": [["name", "==", "br"]],
             "columns": ["fail_mode"], "until": "==", "rows": [{"fail_mode": "secure"}]},
            {"op": "comment", "comment": "why"},
            {"op": "assert", "lock": "l"},
            {"op": "abort"},
            {"op": "commit", "durable": true},
        ])
    );
}

fn three() -> Vec<Op> {
    vec![Op::insert("A").into(), Op::delete("A").into(), Op::select("A").into()]
}

#[test]
fn success_is_read_by_the_operations_kind() {
    let uuid = "550e8400-e29b-41d4-a716-446655440000";
    let answer = json!([{"uuid": ["uuid", uuid]}, {"count": 3}, {"rows": [{"name": "x", "tag": 4}]}]);
    let results = parse_results(&three(), &answer).unwrap();
    assert_eq!(results[0].uuid(), Some(uuid.parse().unwrap()));
    assert_eq!(results[1].count(), Some(3));
    assert_eq!(results[2].rows()[0].get("tag"), Some(&Datum::from(4i64)));
}

#[test]
fn an_error_in_the_middle_names_its_operation() {
    let answer = json!([{"uuid": ["uuid", "x"]}, {"error": "constraint violation", "details": "d"}, null]);
    let error = parse_results(&three(), &answer).unwrap_err();
    assert_eq!(error.to_string(), "operation 1 (delete) failed: constraint violation: d");
}

#[test]
fn an_element_too_many_is_the_commits_error() {
    let answer = json!([{}, {}, {}, {"error": "referential integrity violation"}]);
    let error = parse_results(&three(), &answer).unwrap_err();
    assert!(matches!(error, ResultError::Commit(_)), "{error}");
}

#[test]
fn malformed_answers_are_no_success() {
    for answer in [
        json!(null),
        json!([]),
        json!([{"uuid": 5}, {"count": 1}, {"rows": []}]),
        json!([{"uuid": ["uuid", "550e8400-e29b-41d4-a716-446655440000"]}, {}, {"rows": []}]),
        json!([{"uuid": ["uuid", "550e8400-e29b-41d4-a716-446655440000"]}, {"count": 1}, {"rows": [5]}]),
        json!([{"uuid": ["uuid", "550e8400-e29b-41d4-a716-446655440000"]}, {"count": 1}, null]),
    ] {
        assert!(matches!(parse_results(&three(), &answer), Err(ResultError::Malformed(_))), "{answer}");
    }
}
