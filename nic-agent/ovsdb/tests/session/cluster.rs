//! Several servers of one cluster.

use crate::common::fake::{Act, Fake, answer};
use crate::common::{SOUTHBOUND, Server, add_logical_port, connect, options, run, soon, tool};
use ovsdb_session::rows::southbound::PortBinding;
use ovsdb_session::{MonitorTable, Op, Options, Remote, Session, State};
use serde_json::json;

/// Until the session is with another server than this one.
async fn leaves(session: &Session, remote: &Remote) -> Remote {
    let mut state = session.state();
    let other = |state: &State| matches!(state, State::Connected { remote: now, .. } if now != remote);
    match soon("another server", state.wait_for(other)).await.unwrap().clone() {
        State::Connected { remote, .. } => remote,
        State::Connecting { .. } => unreachable!(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_cut_off_from_the_others_is_left_though_it_answers() {
    let first = Server::start_clustered("ovn-sb");
    let others = [Server::join_cluster(SOUTHBOUND, &first), Server::join_cluster(SOUTHBOUND, &first)];
    for server in &others {
        // Not before it has joined.
        let session = Session::start(options(server.unix()));
        let monitor = session.monitor(SOUTHBOUND, vec![MonitorTable::of::<PortBinding>()]);
        soon("it joins", monitor.synced_to(0)).await.unwrap();
    }
    let mut remotes = vec![first.unix()];
    remotes.extend(others.iter().map(Server::unix));
    let session = Session::start(Options { remotes, ..options(first.unix()) });
    let monitor = session.monitor(SOUTHBOUND, vec![MonitorTable::of::<PortBinding>()]);
    soon("rows", monitor.synced_to(0)).await.unwrap();
    let State::Connected { remote, .. } = session.state().borrow().clone() else { panic!("not connected") };
    let mut servers = std::iter::once(&first).chain(&others);
    let cut_off = servers.find(|server| server.unix() == remote).unwrap();
    let appctl = |arguments: &[&str]| {
        run(tool("ovs-appctl").arg("-t").arg(cut_off.path("ctl")).args(arguments));
    };
    appctl(&["cluster/failure-test", "stop-raft-rpc"]);
    leaves(&session, &remote).await;
    soon("rows again", monitor.synced_to(0)).await.unwrap();
    soon("a transaction", session.transact(SOUTHBOUND, add_logical_port("a", 1))).await.unwrap();
    soon("the row", monitor.watch().wait_for(|it| it.len("Port_Binding") == 1)).await.unwrap();
    // It answers all the while, to who asks no more of it.
    let plain = connect(options(remote.clone())).await;
    assert!(plain.list_dbs().await.unwrap().contains(&SOUTHBOUND.to_owned()));
}

#[tokio::test]
async fn one_who_has_never_been_in_good_standing_is_no_server() {
    let schema = json!({"name": "_Server", "tables": {"Database": {"columns": {
        "name": {"type": "string"}, "model": {"type": "string"}, "connected": {"type": "boolean"},
        "schema": {"type": {"key": "string", "min": 0, "max": 1}}}}}});
    let row = json!({"name": SOUTHBOUND, "model": "clustered", "connected": false, "schema": "{}"});
    let fake = Fake::start(move |_, request| match request["method"].as_str() {
        Some("get_schema") => Act::Send(answer(request, &schema)),
        Some("monitor_cond") => Act::Send(answer(
            request,
            &json!({"Database": {"00000000-0000-0000-0000-000000000001": {"initial": row}}}),
        )),
        _ => Act::Send(answer(request, &json!([]))),
    });
    let good = Server::start("ovn-sb", &[]);
    let session =
        Session::start(Options { remotes: vec![fake.remote(), good.unix()], ..options(fake.remote()) });
    let monitor = session.monitor(SOUTHBOUND, vec![MonitorTable::of::<PortBinding>()]);
    soon("rows", monitor.synced_to(0)).await.unwrap();
    assert_eq!(*session.state().borrow(), State::Connected { epoch: 1, remote: good.unix() });
    assert_eq!(fake.count("monitor_cond_since"), 0, "its rows were never asked for");
    // One without the database is passed over as well; alone it is waited for (see `a_database_that_comes_later`).
    let without = Server::start("vswitch", &[]);
    let remotes = vec![without.unix(), good.unix()];
    let session = Session::start(Options { remotes, ..options(good.unix()) });
    let monitor = session.monitor(SOUTHBOUND, vec![MonitorTable::of::<PortBinding>()]);
    soon("rows", monitor.synced_to(0)).await.unwrap();
    session.transact(SOUTHBOUND, vec![Op::comment("there")]).await.unwrap();
}
