//! Transactions, against a private `ovsdb-server` on a Unix socket.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::{Server, VSWITCH, add_bridge, make_root, options, soon};
use futures::future::{join_all, poll_immediate};
use ovsdb_session::op::{OpError, ResultError};
use ovsdb_session::rows::vswitch::Bridge;
use ovsdb_session::{Condition, Datum, Error, Mutation, NamedUuid, Op, Session, Table, Uuid};

async fn bridge(session: &Session, name: &str) -> Bridge {
    let select = Op::select("Bridge").when(Condition::equal("name", name));
    let results = session.transact(VSWITCH, vec![select.into()]).await.unwrap();
    let [row] = results[0].rows() else { panic!("{results:?}") };
    let uuid = row.field::<Uuid>("_uuid").unwrap();
    Bridge::from_row(uuid, row).unwrap()
}

#[tokio::test]
async fn insert_wait_mutate_update_select_delete() {
    let server = Server::start("vswitch", &[]);
    let session = server.session().await;
    assert!(session.list_dbs().await.unwrap().contains(&VSWITCH.to_owned()));
    let schema = session.schema(VSWITCH).await.unwrap();
    assert_eq!(schema.tables["Bridge"].indexes, [["name"]]);

    let root = make_root(&session).await;
    // Only as long as nobody else has made one.
    let mut ops = vec![Op::wait("Bridge").when(Condition::equal("name", "br0")).columns(["name"]).into()];
    ops.extend(add_bridge("br0"));
    ops.push(Op::comment("test"));
    let results = session.transact(VSWITCH, ops.clone()).await.unwrap();
    assert_eq!(results.len(), 6);
    let uuid = results[3].uuid().unwrap();
    assert_eq!(results[4].count(), Some(1));
    match session.transact(VSWITCH, ops).await {
        Err(Error::Transaction(ResultError::Op { index: 0, op: "wait", error })) => {
            assert_eq!(error.error, "timed out");
        }
        other => panic!("{other:?}"),
    }

    let ids = |pairs: &[(&'static str, &'static str)]| Datum::map(pairs.iter().copied());
    let this = Condition::uuid(uuid);
    let ops: Vec<Op> = vec![
        Op::update("Bridge")
            .when(this.clone())
            .set("fail_mode", "secure")
            .set("external_ids", ids(&[("mine", "1"), ("theirs", "1")]))
            .into(),
        Op::mutate("Bridge")
            .when(this.clone())
            .with_all(Mutation::set_keys("external_ids", [("mine", "2"), ("new", "3")]))
            .with(Mutation::insert("protocols", Datum::set(["OpenFlow13", "OpenFlow15"])))
            .with(Mutation::delete("protocols", "OpenFlow13"))
            .into(),
        Op::mutate("Open_vSwitch").when(Condition::uuid(root)).with(Mutation::add("next_cfg", 1i64)).into(),
        Op::select("Open_vSwitch").columns(["next_cfg", "bridges"]).into(),
    ];
    let results = session.transact(VSWITCH, ops).await.unwrap();
    assert_eq!(results[3].rows()[0].field::<i64>("next_cfg"), Ok(1));
    assert_eq!(results[3].rows()[0].field::<BTreeSet<Uuid>>("bridges"), Ok(BTreeSet::from([uuid])));
    let row = bridge(&session, "br0").await;
    assert_eq!(row.fail_mode.as_deref(), Some("secure"));
    assert_eq!(row.protocols, BTreeSet::from(["OpenFlow15".to_owned()]));
    let external_ids: Vec<_> = row.external_ids.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(external_ids, [("mine", "2"), ("new", "3"), ("theirs", "1")]);

    // An optional goes back to nothing.
    let clear = Op::update("Bridge").when(this.clone()).set("fail_mode", Datum::empty_set());
    session.transact(VSWITCH, vec![clear.into()]).await.unwrap();
    assert_eq!(bridge(&session, "br0").await.fail_mode, None);

    // Without the last reference the row goes by itself.
    let drop = Op::mutate("Open_vSwitch").with(Mutation::delete("bridges", uuid));
    session.transact(VSWITCH, vec![drop.into()]).await.unwrap();
    let results = session.transact(VSWITCH, vec![Op::select("Port").into()]).await.unwrap();
    assert_eq!(results[0].rows(), []);
}

#[tokio::test]
async fn an_error_in_the_middle_and_nothing_is_done() {
    let server = Server::start("vswitch", &[]);
    let session = server.session().await;
    make_root(&session).await;
    let mut ops = add_bridge("br0");
    ops.insert(1, Op::update("Open_vSwitch").set("no_such_column", "x").into());
    match session.transact(VSWITCH, ops).await {
        Err(Error::Transaction(ResultError::Op { index: 1, op: "update", error: OpError { error, .. } })) => {
            assert_eq!(error, "unknown column");
        }
        other => panic!("{other:?}"),
    }
    let mut ops = add_bridge("br0");
    ops.push(Op::abort());
    match session.transact(VSWITCH, ops).await {
        Err(Error::Transaction(ResultError::Op { index: 4, op: "abort", error })) => {
            assert_eq!(error.error, "aborted");
        }
        other => panic!("{other:?}"),
    }
    let results = session.transact(VSWITCH, vec![Op::select("Bridge").into()]).await.unwrap();
    assert_eq!(results[0].rows(), []);
}

#[tokio::test]
async fn a_commit_that_fails_after_operations_that_did_not() {
    let server = Server::start("vswitch", &[]);
    let session = server.session().await;
    make_root(&session).await;
    let mut ops = add_bridge("br0");
    ops.push(Op::mutate("Bridge").with(Mutation::insert("ports", Uuid::from_u128(5))).into());
    match session.transact(VSWITCH, ops).await {
        Err(Error::Transaction(ResultError::Commit(error))) => {
            assert_eq!(error.error, "referential integrity violation");
        }
        other => panic!("{other:?}"),
    }
    // And the index: two bridges of one name.
    session.transact(VSWITCH, add_bridge("br1")).await.unwrap();
    match session.transact(VSWITCH, add_bridge("br1")).await {
        Err(Error::Transaction(ResultError::Commit(error))) => {
            assert_eq!(error.error, "constraint violation");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_unknown_database_is_refused_and_the_connection_goes_on() {
    let server = Server::start("vswitch", &[]);
    let session = server.session().await;
    match session.transact("nope", vec![Op::select("T").into()]).await {
        Err(Error::Refused { method: "transact", error }) => assert_eq!(error.error, "unknown database"),
        other => panic!("{other:?}"),
    }
    match session.schema("nope").await {
        Err(Error::Refused { method: "get_schema", error }) => assert_eq!(error.error, "unknown database"),
        other => panic!("{other:?}"),
    }
    session.list_dbs().await.unwrap();
    assert_eq!(session.connected().await, Ok(1));
}

#[tokio::test]
async fn values_with_everything_that_json_escapes() {
    let server = Server::start("vswitch", &[]);
    let session = server.session().await;
    make_root(&session).await;
    let nasty = "{\"a\":[\"\\\\\\\"}]\"]}\n\t\u{1}\u{7f} ü 漢 \u{1f980} '\\";
    for (index, value) in [nasty, "\"", "\\", "\\\"", "{", "}", "]]", ""].into_iter().enumerate() {
        let key = format!("k{index}{value}");
        let set =
            Op::mutate("Open_vSwitch").with_all(Mutation::set_keys("external_ids", [(key.as_str(), value)]));
        let ops = vec![set.into(), Op::select("Open_vSwitch").columns(["external_ids"]).into()];
        let results = session.transact(VSWITCH, ops).await.unwrap();
        let seen = results[1].rows()[0].get("external_ids").unwrap().value_of(&key.as_str().into()).cloned();
        assert_eq!(seen, Some(value.into()));
    }
}

#[tokio::test]
async fn two_thousand_calls_at_once() {
    let server = Server::start("vswitch", &[]);
    let session = server.session().await;
    make_root(&session).await;
    let calls = (0..2000).map(|n| {
        let session = session.clone();
        async move {
            let ops = vec![
                Op::mutate("Open_vSwitch").with(Mutation::add("next_cfg", 1i64)).into(),
                Op::comment(&format!("{n}")),
                Op::select("Open_vSwitch").columns(["next_cfg"]).into(),
            ];
            let results = session.transact(VSWITCH, ops).await.unwrap();
            results[2].rows()[0].field::<i64>("next_cfg").unwrap()
        }
    });
    // Each answer went to its own caller: requests are done in the order in which they were sent.
    let seen = soon("2000 answers", join_all(calls)).await;
    assert_eq!(seen, (1..=2000).collect::<Vec<i64>>());
}

#[tokio::test]
async fn a_call_that_is_given_up_harms_no_other() {
    let server = Server::start("vswitch", &[]);
    let session = server.session().await;
    make_root(&session).await;
    let forever =
        Op::wait("Bridge").row([("name", "never")]).columns(["name"]).timeout(Duration::from_hours(1));
    let given_up = session.transact(VSWITCH, vec![forever.into()]);
    assert!(poll_immediate(given_up).await.is_none());
    let cut_off = async {
        let forever =
            Op::wait("Bridge").row([("name", "no")]).columns(["name"]).timeout(Duration::from_hours(1));
        session.transact(VSWITCH, vec![forever.into()]).await
    };
    assert!(tokio::time::timeout(Duration::from_millis(50), cut_off).await.is_err());
    session.transact(VSWITCH, add_bridge("br0")).await.unwrap();
    assert_eq!(bridge(&session, "br0").await.name, "br0");
}

#[tokio::test]
async fn calls_fail_at_once_without_a_server_and_are_lost_with_it() {
    let mut server = Server::start("vswitch", &[]);
    let session = server.session().await;
    make_root(&session).await;
    let waiting = tokio::spawn({
        let session = session.clone();
        async move {
            let op =
                Op::wait("Bridge").row([("name", "x")]).columns(["name"]).timeout(Duration::from_hours(1));
            session.transact(VSWITCH, vec![op.into()]).await
        }
    });
    // Requests are sent in order, so the server has the first when it answers the second.
    tokio::task::yield_now().await;
    session.list_dbs().await.unwrap();
    server.kill();
    assert!(matches!(soon("loss", waiting).await.unwrap(), Err(Error::Lost(_))));
    // The loss is known before the calls fail, so this one is not sent into the void.
    let named = NamedUuid::new("x");
    let insert = Op::insert("Open_vSwitch").named(&named);
    match session.transact(VSWITCH, vec![insert.into()]).await {
        Err(Error::NotConnected(reason)) => assert!(reason.contains("unix:"), "{reason}"),
        other => panic!("{other:?}"),
    }
    server.spawn();
    // `options` has short pauses, so this does not take long.
    assert_eq!(soon("reconnection", session.connected()).await, Ok(2));
    session.list_dbs().await.unwrap();
}

#[tokio::test]
async fn without_a_remote_every_call_says_so() {
    let mut nothing = options(ovsdb_session::Remote::Unix("/".into()));
    nothing.remotes.clear();
    let session = Session::start(nothing);
    let mut state = session.state();
    soon("error", state.changed()).await.unwrap();
    match session.list_dbs().await {
        Err(Error::NotConnected(reason)) => assert_eq!(reason, "no remote is given"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_task_ends_with_the_last_handle() {
    let server = Server::start("vswitch", &[]);
    let session = server.session().await;
    let clone = session.clone();
    let mut state = session.state();
    drop(session);
    clone.list_dbs().await.unwrap();
    drop(clone);
    soon("end", async { while state.changed().await.is_ok() {} }).await;
}
