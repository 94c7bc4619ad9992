//! Monitors, against a private `ovsdb-server`.

use std::collections::BTreeSet;

use crate::common::wire::{Direction, Target, Wire};
use crate::common::{
    SOUTHBOUND, Server, VSWITCH, add_bridge, add_logical_port, connect, make_root, options, soon,
};
use ovsdb_session::rows::southbound::PortBinding;
use ovsdb_session::rows::vswitch::{Bridge, Interface, OpenVSwitch, Port};
use ovsdb_session::{Condition, Datum, Monitor, MonitorTable, Mutation, Op, Rows, Session, Snapshot};

fn names(snapshot: &Snapshot) -> Vec<String> {
    let mut names: Vec<String> = snapshot.rows::<Bridge>().map(|row| row.unwrap().name).collect();
    names.sort();
    names
}

fn ports(snapshot: &Snapshot) -> Vec<String> {
    let mut names: Vec<String> =
        snapshot.rows::<PortBinding>().map(|row| row.unwrap().logical_port).collect();
    names.sort();
    names
}

async fn until(monitor: &Monitor, what: &str, condition: impl FnMut(&Snapshot) -> bool) -> Snapshot {
    soon(what, monitor.watch().wait_for(condition)).await.unwrap().clone()
}

fn everything(session: &Session) -> Monitor {
    session.monitor(
        VSWITCH,
        vec![
            MonitorTable::of::<OpenVSwitch>(),
            MonitorTable::of::<Bridge>(),
            MonitorTable::of::<Port>(),
            MonitorTable::of::<Interface>(),
        ],
    )
}

/// What the replica holds against what a `select` says, for every monitored column.
async fn compare(session: &Session, snapshot: &Snapshot, tables: &[&str]) {
    for table in tables {
        let results = session.transact(VSWITCH, vec![Op::select(table).into()]).await.unwrap();
        assert_eq!(results[0].rows().len(), snapshot.len(table), "{table}");
        for row in results[0].rows() {
            let uuid = row.field("_uuid").unwrap();
            let replica = snapshot.get(table, uuid).unwrap_or_else(|| panic!("{table} {uuid}"));
            for (column, value) in replica.columns() {
                assert_eq!(Some(value), row.get(column), "{table} {uuid} {column}");
            }
        }
    }
}

#[tokio::test]
async fn a_replica_follows_inserts_differences_and_deletes() {
    let server = Server::start("vswitch", &[]);
    let session = server.session().await;
    make_root(&session).await;
    session.transact(VSWITCH, add_bridge("br0")).await.unwrap();
    let monitor = everything(&session);
    assert!(!monitor.snapshot().synced);
    let snapshot = soon("rows", monitor.synced_to(0)).await.unwrap();
    assert_eq!(names(&snapshot), ["br0"]);
    assert_eq!((snapshot.revision, snapshot.generation, snapshot.error.clone()), (1, 0, None));
    assert_eq!(*snapshot.missing, [] as [String; 0]);
    let tables = ["Open_vSwitch", "Bridge", "Port", "Interface"];
    compare(&session, &snapshot, &tables).await;

    // A second port: the update carries the added one only, the replica must hold both.
    let results = session
        .transact(
            VSWITCH,
            vec![
                Op::insert("Interface").named(&"i".into_name()).set("name", "p1").into(),
                Op::insert("Port")
                    .named(&"p".into_name())
                    .set("name", "p1")
                    .set("interfaces", "i".into_name())
                    .into(),
                Op::mutate("Bridge").with(Mutation::insert("ports", "p".into_name())).into(),
                Op::mutate("Bridge")
                    .with_all(Mutation::set_keys("external_ids", [("a", "{\"x\":\"\\\"\"}"), ("b", "2")]))
                    .into(),
                Op::update("Bridge").set("fail_mode", "secure").into(),
            ],
        )
        .await
        .unwrap();
    let port = results[1].uuid().unwrap();
    let snapshot = until(&monitor, "two ports", |s| s.get("Port", port).is_some()).await;
    let bridge = snapshot.rows::<Bridge>().next().unwrap().unwrap();
    assert_eq!(bridge.ports.len(), 2);
    assert_eq!(bridge.fail_mode.as_deref(), Some("secure"));
    compare(&session, &snapshot, &tables).await;

    let before = snapshot;
    session
        .transact(
            VSWITCH,
            vec![
                Op::mutate("Bridge").with(Mutation::delete("ports", port)).into(),
                Op::mutate("Bridge").with(Mutation::delete("external_ids", Datum::set(["a"]))).into(),
                Op::update("Bridge").set("fail_mode", Datum::empty_set()).into(),
            ],
        )
        .await
        .unwrap();
    let snapshot = until(&monitor, "one port", |s| s.get("Port", port).is_none()).await;
    compare(&session, &snapshot, &tables).await;
    let changed: BTreeSet<_> = snapshot
        .changes_since(&before)
        .iter()
        .map(|change| (change.table.to_string(), change.new.is_some()))
        .collect();
    let wanted = [("Bridge", true), ("Interface", false), ("Port", false)];
    assert_eq!(changed, wanted.iter().map(|(table, there)| ((*table).to_owned(), *there)).collect());
}

trait IntoName {
    fn into_name(self) -> ovsdb_session::NamedUuid;
}

impl IntoName for &str {
    fn into_name(self) -> ovsdb_session::NamedUuid {
        ovsdb_session::NamedUuid::new(self)
    }
}

#[tokio::test]
async fn conditions_select_rows_and_their_change_is_acknowledged_with_its_rows() {
    let server = Server::start("ovn-sb", &[]);
    let session = server.session().await;
    let mut ops = Vec::new();
    for (name, key) in [("a", 1), ("b", 2), ("c", 3)] {
        ops.extend(add_logical_port(name, key));
    }
    session.transact(SOUTHBOUND, ops).await.unwrap();

    let port = |name: &str| Condition::equal("logical_port", name);
    let wanted = MonitorTable::of::<PortBinding>().when(vec![port("a")]);
    let monitor = session
        .monitor(SOUTHBOUND, vec![wanted, MonitorTable::of::<ovsdb_session::rows::southbound::Chassis>()]);
    let snapshot = soon("rows", monitor.synced_to(0)).await.unwrap();
    assert_eq!(ports(&snapshot), ["a"]);
    assert!(!snapshot.covers(1), "not asked yet");

    let generation = monitor.set_conditions("Port_Binding", vec![port("a"), port("b"), port("not-there")]);
    assert_eq!(generation, 1);
    // The first snapshot that covers it has the rows: nothing is missing "for now".
    let snapshot = until(&monitor, "generation 1", |s| s.covers(generation)).await;
    assert_eq!(ports(&snapshot), ["a", "b"]);

    session.transact(SOUTHBOUND, add_logical_port("not-there", 4)).await.unwrap();
    until(&monitor, "a new row that matches", |s| ports(s) == ["a", "b", "not-there"]).await;
    // A row that starts to match, and one that ceases to, though it is still there.
    let rename =
        |from: &str, to: &str| Op::update("Port_Binding").when(port(from)).set("logical_port", to).into();
    session.transact(SOUTHBOUND, vec![rename("a", "x"), rename("c", "a")]).await.unwrap();
    until(&monitor, "renamed rows", |s| {
        ports(s) == ["a", "b", "not-there"]
            && s.rows::<PortBinding>()
                .any(|row| row.is_ok_and(|row| row.logical_port == "a" && row.tunnel_key == 1))
    })
    .await;

    let generation = monitor.set_conditions("Port_Binding", Vec::new());
    let snapshot = soon("no rows", monitor.synced_to(generation)).await.unwrap();
    assert_eq!(ports(&snapshot), [] as [&str; 0], "any of none is none, not all");

    let generation = monitor.set_conditions("Port_Binding", Rows::All);
    let snapshot = soon("all rows", monitor.synced_to(generation)).await.unwrap();
    assert_eq!(ports(&snapshot), ["a", "b", "not-there", "x"]);

    // The same again needs no server, and is acknowledged all the same.
    let generation = monitor.set_conditions("Port_Binding", Rows::All);
    soon("same again", monitor.synced_to(generation)).await.unwrap();

    // A hundred changes one after the other: the last one counts, and what it selects is here when it is acknowledged.
    let mut last = 0;
    for n in 0..100 {
        last = monitor.set_conditions("Port_Binding", vec![port(if n % 2 == 0 { "x" } else { "b" })]);
    }
    let snapshot = soon("last of many", monitor.synced_to(last)).await.unwrap();
    assert_eq!(ports(&snapshot), ["b"]);
    assert_eq!(monitor.set_conditions("No_Such_Table", Rows::All), last);
}

#[tokio::test]
async fn refused_conditions_are_reported_and_others_taken_after_them() {
    let server = Server::start("ovn-sb", &[]);
    let session = server.session().await;
    session.transact(SOUTHBOUND, add_logical_port("a", 1)).await.unwrap();
    let monitor = session.monitor(SOUTHBOUND, vec![MonitorTable::of::<PortBinding>()]);
    soon("rows", monitor.synced_to(0)).await.unwrap();
    let bad = monitor.set_conditions("Port_Binding", vec![Condition::equal("no_such_column", "x")]);
    let snapshot = until(&monitor, "error", |s| s.error.is_some()).await;
    assert!(snapshot.error.as_deref().unwrap().contains("no_such_column"), "{:?}", snapshot.error);
    assert!(!snapshot.covers(bad) && snapshot.connected);
    assert_eq!(ports(&snapshot), ["a"]);
    let good = monitor.set_conditions("Port_Binding", vec![Condition::equal("logical_port", "z")]);
    let snapshot = soon("good again", monitor.synced_to(good)).await.unwrap();
    assert_eq!((ports(&snapshot), snapshot.error), (vec![], None));
    assert_eq!(session.connected().await, Ok(1));
}

#[tokio::test]
async fn after_kill_and_restart_only_true_changes_are_seen() {
    let mut server = Server::start("vswitch", &[]);
    let session = server.session().await;
    make_root(&session).await;
    for name in ["br0", "br1", "br2"] {
        session.transact(VSWITCH, add_bridge(name)).await.unwrap();
    }
    let monitor = everything(&session);
    let before = soon("rows", monitor.synced_to(0)).await.unwrap();
    server.kill();
    let lost = until(&monitor, "loss", |s| !s.connected).await;
    assert!(lost.synced);
    assert_eq!(names(&lost), ["br0", "br1", "br2"], "rows are kept");
    assert_eq!(lost.revision, before.revision);
    server.spawn();
    let back = until(&monitor, "reconnection", |s| s.connected).await;
    assert_eq!(back.changes_since(&before), []);
    assert_eq!(back.revision, before.revision);

    // While nobody looks, one bridge goes, one comes, one changes. (The server is stopped, changed, started.)
    let doomed =
        back.rows::<Bridge>().find(|row| row.as_ref().is_ok_and(|row| row.name == "br1")).unwrap().unwrap();
    drop(session);
    let wire = Wire::to(Target::Unix(server.path("sock"))).await;
    let far = connect(options(wire.remote())).await;
    let far_monitor = everything(&far);
    let before = soon("rows", far_monitor.synced_to(0)).await.unwrap();
    wire.cut();
    until(&far_monitor, "loss", |s| !s.connected).await;
    let near = server.session().await;
    let mut ops = add_bridge("br3");
    ops.push(Op::mutate("Open_vSwitch").with(Mutation::delete("bridges", doomed.uuid)).into());
    ops.push(Op::update("Bridge").when(Condition::equal("name", "br2")).set("fail_mode", "secure").into());
    near.transact(VSWITCH, ops).await.unwrap();
    wire.mend();
    let back = until(&far_monitor, "reconnection", |s| s.connected).await;
    assert_eq!(names(&back), ["br0", "br2", "br3"]);
    compare(&near, &back, &["Open_vSwitch", "Bridge", "Port", "Interface"]).await;
    let mut seen: Vec<String> = back
        .changes_since(&before)
        .iter()
        .map(|change| {
            let row = change.new.as_ref().or(change.old.as_ref()).unwrap();
            let name = row.field::<String>("name").unwrap_or_default();
            format!(
                "{} {name} {}{}",
                change.table,
                u8::from(change.old.is_some()),
                u8::from(change.new.is_some())
            )
        })
        .collect();
    seen.sort();
    let wanted = [
        "Bridge br1 10",
        "Bridge br2 11",
        "Bridge br3 01",
        "Interface br1 10",
        "Interface br3 01",
        "Open_vSwitch  11",
        "Port br1 10",
        "Port br3 01",
    ];
    assert_eq!(seen, wanted);
    assert_eq!(back.revision, before.revision + 1, "one step, not several");
}

#[tokio::test]
async fn a_clustered_server_resumes_where_it_was() {
    let server = Server::start_clustered("ovn-sb");
    let near = server.session().await;
    near.transact(SOUTHBOUND, add_logical_port("a", 1)).await.unwrap();
    near.transact(SOUTHBOUND, add_logical_port("b", 2)).await.unwrap();
    // A server remembers no more of its past than there is present (`ovsdb_txn_history_run`): let there be some.
    let ballast = (0..100).flat_map(|n| add_logical_port(&format!("other-{n}"), 100 + n)).collect();
    near.transact(SOUTHBOUND, ballast).await.unwrap();

    let wire = Wire::to(Target::Unix(server.path("sock"))).await;
    let far = connect(options(wire.remote())).await;
    let port = |name: &str| Condition::equal("logical_port", name);
    let monitor = far.monitor(
        SOUTHBOUND,
        vec![MonitorTable::of::<PortBinding>().when(vec![port("a"), port("c"), port("d")])],
    );
    let before = soon("rows", monitor.synced_to(0)).await.unwrap();
    assert_eq!(ports(&before), ["a"]);
    near.transact(SOUTHBOUND, add_logical_port("c", 3)).await.unwrap();
    until(&monitor, "c", |s| ports(s) == ["a", "c"]).await;
    assert_eq!(wire.seen(Direction::ToClient).matches("[false,").count(), 1, "nothing to resume at first");

    wire.cut();
    until(&monitor, "loss", |s| !s.connected).await;
    let mut ops = add_logical_port("d", 4);
    ops.push(Op::delete("Port_Binding").when(port("a")).into());
    ops.push(Op::update("Port_Binding").when(port("c")).set("mac", Datum::set(["x", "y"])).into());
    near.transact(SOUTHBOUND, ops).await.unwrap();
    wire.mend();
    let back = until(&monitor, "reconnection", |s| s.connected).await;
    assert_eq!(ports(&back), ["c", "d"]);
    let c = back.rows::<PortBinding>().map(Result::unwrap).find(|row| row.logical_port == "c").unwrap();
    assert_eq!(c.mac, BTreeSet::from(["x".to_owned(), "y".to_owned()]));
    assert_eq!(wire.seen(Direction::ToClient).matches("[true,").count(), 1, "resumed");

    // Conditions changed while it was away: what matched all along was never sent, so it may not resume.
    wire.cut();
    until(&monitor, "loss", |s| !s.connected).await;
    let generation = monitor.set_conditions("Port_Binding", vec![port("b"), port("c")]);
    wire.mend();
    let back = soon("other rows", monitor.synced_to(generation)).await.unwrap();
    assert_eq!(ports(&back), ["b", "c"]);
    assert_eq!(wire.seen(Direction::ToClient).matches("[true,").count(), 1, "not resumed");
}

#[tokio::test]
async fn what_an_older_schema_lacks_is_named_and_the_rest_is_kept() {
    let server = Server::start("vswitch", &[]);
    let session = server.session().await;
    make_root(&session).await;
    let mut table = MonitorTable::of::<OpenVSwitch>();
    table.columns.push("of_tomorrow".into());
    let unknown = MonitorTable { name: "Tomorrow".into(), columns: vec!["x".into()], conditions: Rows::All };
    let monitor = session.monitor(VSWITCH, vec![table, unknown]);
    let snapshot = soon("rows", monitor.synced_to(0)).await.unwrap();
    assert_eq!(*snapshot.missing, ["Open_vSwitch.of_tomorrow".to_owned(), "Tomorrow".to_owned()]);
    assert_eq!(snapshot.rows::<OpenVSwitch>().flatten().count(), 1);
    let generation = monitor.set_conditions("Tomorrow", vec![Condition::equal("x", "y")]);
    soon("acknowledged", monitor.synced_to(generation)).await.unwrap();
}

#[tokio::test]
async fn a_database_that_comes_later_is_found() {
    let server = Server::start("vswitch", &[]);
    let session = server.session().await;
    let monitor = session.monitor(SOUTHBOUND, vec![MonitorTable::of::<PortBinding>()]);
    let snapshot = until(&monitor, "error", |s| s.error.is_some()).await;
    assert!(snapshot.error.as_deref().unwrap().contains("unknown database"), "{:?}", snapshot.error);
    assert!(!snapshot.synced);
    crate::common::run(
        crate::common::tool("ovsdb-tool")
            .arg("create")
            .arg(server.path("sb"))
            .arg(crate::common::schema_file("ovn-sb")),
    );
    let ctl = server.path("ctl");
    crate::common::run(
        crate::common::tool("ovs-appctl")
            .arg("-t")
            .arg(ctl)
            .arg("ovsdb-server/add-db")
            .arg(server.path("sb")),
    );
    let snapshot = soon("rows", monitor.synced_to(0)).await.unwrap();
    assert_eq!(snapshot.error, None);
}

#[tokio::test]
async fn two_monitors_and_one_that_is_dropped() {
    let server = Server::start("vswitch", &[]);
    let wire = Wire::to(Target::Unix(server.path("sock"))).await;
    let session = connect(options(wire.remote())).await;
    make_root(&session).await;
    let first = everything(&session);
    let second = session.monitor(VSWITCH, vec![MonitorTable::of::<Bridge>()]);
    soon("rows", first.synced_to(0)).await.unwrap();
    soon("rows", second.synced_to(0)).await.unwrap();
    let clone = second.clone();
    drop(second);
    session.transact(VSWITCH, add_bridge("br0")).await.unwrap();
    until(&clone, "br0", |s| names(s) == ["br0"]).await;
    drop(clone);
    wire.see(Direction::ToServer, "\"monitor_cancel\"", 1).await;
    session.transact(VSWITCH, add_bridge("br1")).await.unwrap();
    until(&first, "br1", |s| names(s) == ["br0", "br1"]).await;
    assert_eq!(session.connected().await, Ok(1));
    // A monitor keeps its session.
    drop(session);
    let near = server.session().await;
    near.transact(VSWITCH, add_bridge("br2")).await.unwrap();
    until(&first, "br2", |s| names(s).len() == 3).await;
}

#[tokio::test]
async fn ten_thousand_rows() {
    let server = Server::start("ovn-sb", &[]);
    let session = server.session().await;
    for batch in 0..10u32 {
        let ops = (0..1000)
            .flat_map(|n| add_logical_port(&format!("port-{batch}-{n}"), batch * 1000 + n + 1))
            .collect();
        soon("batch", session.transact(SOUTHBOUND, ops)).await.unwrap();
    }
    let monitor = session.monitor(SOUTHBOUND, vec![MonitorTable::of::<PortBinding>()]);
    let before = soon("rows", monitor.synced_to(0)).await.unwrap();
    assert_eq!(before.len("Port_Binding"), 10_000);
    let one = Condition::equal("logical_port", "port-5-500");
    session
        .transact(SOUTHBOUND, vec![Op::update("Port_Binding").when(one).set("up", true).into()])
        .await
        .unwrap();
    let after = until(&monitor, "change", |s| s.revision == before.revision + 1).await;
    let changes = after.changes_since(&before);
    let [change] = changes.as_slice() else { panic!("{} changes", changes.len()) };
    assert_eq!(change.new.as_ref().unwrap().field::<Option<bool>>("up"), Ok(Some(true)));
    let unchanged = before
        .table("Port_Binding")
        .zip(after.table("Port_Binding"))
        .filter(|((_, old), (_, new))| std::ptr::eq(*old, *new))
        .count();
    assert_eq!(unchanged, 9_999, "all other rows are the same allocation");
}
