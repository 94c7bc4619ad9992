//! Plan, difference and transactions against a real `ovsdb-server` with OVN's own schema.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests, too

#[path = "../../nic-agent/ovsdb/tests/session/common/mod.rs"]
mod common;
#[path = "northbound/copp.rs"]
mod copp;
#[path = "northbound/loss.rs"]
mod loss;
mod northbound_common;

use std::collections::BTreeSet;

use cluster_controller::cluster::{Change, ObjectName};
use cluster_controller::core::{Applied, fenced};
use cluster_controller::northbound::batch::Blocked;
use cluster_controller::northbound::{GROUP_NAME, KEY, OWNER, OWNER_VALUE, Table};
use common::Server;
use k8s_openapi::jiff::Timestamp;
use northbound_common::{
    Cluster, Dice, Hand, Size, assert_same, dump, fresh, nic, node, pod_on, service, slice, wipe,
};
use ovsdb_session::rows::northbound::DATABASE;
use ovsdb_session::{Condition, Datum, Mutation, NamedUuid, Op, Session};

const SMALL: Size = Size { nodes: 4, pods: 12, services: 4 };

async fn transact(session: &Session, ops: impl IntoIterator<Item = Op>) {
    session.transact(DATABASE, ops.into_iter().collect()).await.unwrap();
}

async fn started(server: &Server, cluster: &Cluster) -> Hand {
    let mut hand = Hand::new(server.session().await, "hand").await;
    for change in cluster.all() {
        hand.core.change(change);
    }
    hand.settle().await;
    hand
}

/// What others have in a northbound: rows of every table that we write, some of them in ours.
async fn foreign_rows(session: &Session) {
    let named = NamedUuid::new;
    transact(
        session,
        [
            Op::insert("Logical_Switch_Port").named(&named("p")).set("name", "theirs").into(),
            Op::insert("Logical_Switch")
                .set("name", "node0.example")
                .set("ports", named("p"))
                .set("other_config", Datum::map([("subnet", "10.244.0.0/24")]))
                .into(),
            Op::insert("Logical_Router_Port")
                .named(&named("r"))
                .set("name", "their-router")
                .set("mac", "x")
                .into(),
            Op::insert("Logical_Router").set("name", "drawbridge").set("ports", named("r")).into(),
            Op::insert("Load_Balancer")
                .set("name", "shop/svc0/tcp")
                .set("vips", Datum::map([("1.2.3.4:5", "")]))
                .into(),
            Op::insert("Load_Balancer_Group").set("name", "theirs").into(),
            Op::insert("Copp").set("name", "theirs").set("meters", Datum::map([("reject", "theirs")])).into(),
            Op::insert("Meter_Band").named(&named("b")).set("action", "drop").set("rate", 25_u32).into(),
            Op::insert("Meter").set("name", "theirs").set("unit", "pktps").set("bands", named("b")).into(),
            Op::insert("DHCP_Options")
                .set("cidr", "10.244.0.0/24")
                .set("external_ids", Datum::map([(OWNER, "somebody else")]))
                .into(),
        ],
    )
    .await;
}

/// Somebody damages our rows.
async fn damage(session: &Session, dice: &mut Dice) {
    let ours = || Condition::includes("external_ids", Datum::map([(OWNER, OWNER_VALUE)]));
    let everything = Condition::Constant(true);
    let op: Op = match dice.below(14) {
        0 => Op::update("Logical_Switch_Port").when(ours()).set("addresses", "unknown").into(),
        1 => Op::mutate("Logical_Switch")
            .when(ours())
            .with(Mutation::delete("other_config", Datum::set(["subnet"])))
            .into(),
        2 => Op::update("Load_Balancer").when(ours()).set("vips", Datum::map::<&str, &str>([])).into(),
        3 => Op::delete("Load_Balancer").when(ours()).into(),
        4 => Op::update("Load_Balancer_Group")
            .when(Condition::equal("name", GROUP_NAME))
            .set("load_balancer", Datum::empty_set())
            .into(),
        5 => Op::delete("Logical_Router").when(ours()).into(),
        6 => Op::update("Logical_Switch").when(ours()).set("ports", Datum::empty_set()).into(),
        7 => Op::update("Meter_Band").when(ours()).set("rate", 1_u32).into(),
        8 => Op::update("Copp").when(ours()).set("meters", Datum::map::<&str, &str>([])).into(),
        9 => Op::delete("Meter").when(ours()).into(),
        10 => Op::delete("Copp").when(ours()).into(),
        11 => Op::update("Logical_Switch").when(ours()).set("copp", Datum::empty_set()).into(),
        12 => Op::update("Logical_Switch").when(ours()).set("load_balancer_group", Datum::empty_set()).into(),
        _ => Op::delete("NB_Global").when(everything).into(),
    };
    transact(session, [op]).await;
}

/// Someone copies our marks: a second row of one key.
async fn duplicate(session: &Session) {
    let marks = Datum::map([(OWNER, OWNER_VALUE), (KEY, "node/node1.example")]);
    let stray = Datum::map([(OWNER, OWNER_VALUE)]);
    transact(
        session,
        [
            Op::insert("Logical_Switch").set("external_ids", marks).into(),
            Op::insert("Load_Balancer").set("external_ids", stray).into(),
        ],
    )
    .await;
}

#[tokio::test]
async fn whatever_happens_the_rows_are_those_of_a_fresh_start() {
    let (server, other) = (Server::start("ovn-nb", &[]), Server::start("ovn-nb", &[]));
    for seed in 0..24 {
        let mut dice = Dice(seed);
        let session = server.session().await;
        wipe(&session).await;
        foreign_rows(&session).await;
        let before = dump(&session, false).await;
        let mut cluster = Cluster::default();
        let mut hand = started(&server, &cluster).await;
        for _ in 0..40 {
            for _ in 0..=dice.below(6) {
                let change = cluster.step(SMALL, &mut dice);
                hand.change(&change);
            }
            match dice.below(8) {
                0 => damage(&session, &mut dice).await,
                1 => duplicate(&session).await,
                // Killed, and started anew.
                2 => hand = started(&server, &cluster).await,
                _ => drop(hand.settle().await),
            }
        }
        hand.settle().await;
        // What the others did has reached us: nothing more comes of it.
        transact(&hand.session, [Op::comment("a round trip")]).await;
        hand.settle().await;
        assert_eq!(hand.settle().await, [] as [usize; 0], "seed {seed}: a second difference is empty");
        assert_eq!(hand.core.blocked().collect::<Vec<_>>(), [], "seed {seed}");
        assert_same(&dump(&session, true).await, &fresh(&other, &cluster).await, &format!("seed {seed}"));
        assert_same(&before, &dump(&session, false).await, &format!("seed {seed}: foreign rows"));
    }
}

#[tokio::test]
async fn a_change_costs_what_it_changes() {
    let server = Server::start("ovn-nb", &[]);
    let size = Size { nodes: 10, pods: 500, services: 50 };
    let mut cluster = Cluster::default();
    cluster.fill(size);
    let mut hand = started(&server, &cluster).await;
    assert_eq!(hand.settle().await, [] as [usize; 0]);
    // An endpoint comes: one operation, beside the fence.
    let Change::Slice(name, Some(mut one)) = slice(3, 1, &mut Dice(8)) else { panic!() };
    one.endpoints.push(cluster_controller::cluster::Endpoint {
        address: "10.244.9.9".parse().unwrap(),
        target: None,
        node: None,
        ready: true,
        serving: true,
        terminating: false,
        hints: None,
    });
    one.endpoints.iter_mut().for_each(|it| it.hints = None);
    one.ports.truncate(1);
    hand.core.change(Change::Slice(name, Some(one)));
    let operations = hand.settle().await;
    println!("operations for one endpoint: {operations:?}");
    assert!(operations.len() == 1 && operations[0] <= 2, "{operations:?}");
    // A pod comes: its port, and the switch's set of ports.
    let pod = pod_on("new", 1);
    hand.core.change(Change::Pod(ObjectName::new("shop", "new"), Some(pod)));
    assert_eq!(hand.settle().await, [2]);
    // And goes: the set alone.
    hand.core.change(Change::Pod(ObjectName::new("shop", "new"), None));
    assert_eq!(hand.settle().await, [1]);
    hand.core.change(Change::Service(ObjectName::new("shop", "svc7"), None));
    let operations = hand.settle().await;
    assert!(operations.len() == 1 && operations[0] <= 3, "{operations:?}");
    // What is as it was costs nothing.
    for change in cluster.all().filter(|change| matches!(change, Change::Node(..) | Change::Pod(..))) {
        hand.core.change(change);
    }
    assert_eq!(hand.settle().await, [] as [usize; 0]);
}

#[tokio::test]
async fn others_keep_what_they_have_put_into_our_rows() {
    let server = Server::start("ovn-nb", &[]);
    let mut hand = started(&server, &Cluster::default()).await;
    hand.change(&node(1));
    hand.core.change(service(1, &mut Dice(3)));
    hand.settle().await;
    let ours = || Condition::includes("external_ids", Datum::map([(KEY, "node/node1.example")]));
    let named = NamedUuid::new;
    transact(
        &hand.session,
        [
            Op::insert("Logical_Switch_Port").named(&named("p")).set("name", "localnet").into(),
            Op::insert("Load_Balancer").named(&named("l")).set("name", "their own").into(),
            Op::mutate("Logical_Switch")
                .when(ours())
                .with(Mutation::insert("ports", named("p")))
                .with(Mutation::insert("load_balancer", named("l")))
                .with(Mutation::insert("other_config", Datum::map([("mcast_snoop", "true")])))
                .with(Mutation::insert("external_ids", Datum::map([("theirs", "1")])))
                .into(),
            Op::mutate("Load_Balancer_Group").with(Mutation::insert("load_balancer", named("l"))).into(),
        ],
    )
    .await;
    hand.settle().await;
    hand.core.change(nic(1, true));
    hand.settle().await;
    let rows = dump(&hand.session, true).await;
    let switch = rows.iter().find(|row| row.starts_with("Logical_Switch ")).unwrap();
    for kept in [
        "foreign localnet",
        "foreign their own",
        "\"mcast_snoop\"=\"true\"",
        "\"theirs\"=\"1\"",
        "management/node1",
    ] {
        assert!(switch.contains(kept), "{kept}: {switch}");
    }
    let group = rows.iter().find(|row| row.starts_with("Load_Balancer_Group ")).unwrap();
    assert!(group.contains("foreign their own") && group.contains("service/shop/svc1"), "{group}");
    // Their port hangs from our switch, which is not wanted any more: it stays until they have taken it away.
    hand.change(&Change::Node("node1.example".into(), None));
    hand.settle().await;
    let blocked: Vec<&Blocked> = hand.core.blocked().map(|(_, why)| why).collect();
    assert_eq!(blocked, [&Blocked::ForeignChildren]);
    assert!(dump(&hand.session, false).await.iter().any(|row| row.contains("localnet")));
    transact(
        &hand.session,
        [Op::update("Logical_Switch").when(ours()).set("ports", Datum::empty_set()).into()],
    )
    .await;
    hand.settle().await;
    assert_eq!(hand.core.blocked().count(), 0);
    assert!(!dump(&hand.session, true).await.iter().any(|row| row.starts_with("Logical_Switch ")));
}

#[tokio::test]
async fn a_name_that_is_taken_holds_up_one_row_until_it_is_free() {
    let server = Server::start("ovn-nb", &[]);
    let mut hand = started(&server, &Cluster::default()).await;
    transact(
        &hand.session,
        [
            Op::insert("Logical_Switch_Port").named(&NamedUuid::new("p")).set("name", "shop_web").into(),
            Op::insert("Logical_Switch").set("name", "theirs").set("ports", NamedUuid::new("p")).into(),
        ],
    )
    .await;
    hand.change(&node(1));
    for name in ["web", "other"] {
        let pod = pod_on(name, 1);
        hand.core.change(Change::Pod(ObjectName::new("shop", name), Some(pod)));
    }
    hand.settle().await;
    let blocked: Vec<Blocked> = hand.core.blocked().map(|(_, why)| why.clone()).collect();
    assert_eq!(blocked, [Blocked::Name("shop_web".into())]);
    assert!(dump(&hand.session, true).await.iter().any(|row| row.contains("shop_other")));
    transact(&hand.session, [Op::delete("Logical_Switch").when(Condition::equal("name", "theirs")).into()])
        .await;
    hand.settle().await;
    assert_eq!(hand.core.blocked().count(), 0);
    assert!(dump(&hand.session, true).await.iter().any(|row| row.contains("shop_web")));
}

/// Another writer takes a name between our look and our transaction: that row waits, all others of the transaction are
/// written.
#[tokio::test]
async fn a_row_that_the_server_refuses_holds_up_no_other() {
    let server = Server::start("ovn-nb", &[]);
    let mut cluster = Cluster::default();
    cluster.fill(SMALL);
    let mut hand = Hand::new(server.session().await, "hand").await;
    for change in cluster.all() {
        hand.core.change(change);
    }
    hand.claim().await;
    let batch = hand.core.next_batch(Timestamp::now()).unwrap();
    let session = server.session().await;
    transact(
        &session,
        [
            Op::insert("Logical_Switch_Port").named(&NamedUuid::new("p")).set("name", "ns0_pod-0").into(),
            Op::insert("Logical_Switch").set("name", "theirs").set("ports", NamedUuid::new("p")).into(),
        ],
    )
    .await;
    let sent = hand.session.transact(DATABASE, fenced("hand", batch.ops.clone())).await;
    let Applied::Refused(error) = hand.core.applied(&batch, sent) else { panic!() };
    assert!(error.contains("constraint violation"), "{error}");
    hand.settle().await;
    let blocked: Vec<String> = hand.core.blocked().map(|(key, _)| key.id.to_string()).collect();
    assert_eq!(blocked.len(), 1);
    assert!(blocked[0].starts_with("pod/ns0/pod-0/"), "{blocked:?}");
    transact(&session, [Op::delete("Logical_Switch").when(Condition::equal("name", "theirs")).into()]).await;
    transact(&hand.session, [Op::comment("a round trip")]).await;
    hand.core.retry_refused();
    hand.settle().await;
    let other = Server::start("ovn-nb", &[]);
    assert_same(&dump(&session, true).await, &fresh(&other, &cluster).await, "at the end");
}

#[tokio::test]
async fn who_has_been_succeeded_writes_no_more() {
    let server = Server::start("ovn-nb", &[]);
    let mut old = started(&server, &Cluster::default()).await;
    old.change(&node(1));
    let batch = old.core.next_batch(Timestamp::now()).unwrap();
    let mut new = Hand::new(server.session().await, "new").await;
    new.settle().await;
    new.claim().await;
    let sent = old.session.transact(DATABASE, fenced("hand", batch.ops.clone())).await;
    assert_eq!(old.core.applied(&batch, sent), Applied::Fenced);
    assert!(!dump(&new.session, true).await.iter().any(|row| row.starts_with("Logical_Switch ")));
    // Nothing of it is forgotten: should it lead again, it writes it.
    old.token = "old, again".to_owned();
    old.settle().await;
    assert!(dump(&new.session, true).await.iter().any(|row| row.starts_with("Logical_Switch ")));
}

/// northd's part is done by hand here: what it gives takes the place of "dynamic", for good.
#[tokio::test]
async fn what_ovn_gives_a_port_is_kept() {
    const GIVEN: &str = "0a:00:00:00:00:07 10.244.1.7 fd00:10:244:1::7";
    let server = Server::start("ovn-nb", &[]);
    let mut hand = started(&server, &Cluster::default()).await;
    hand.change(&node(1));
    let pod = pod_on("u", 1);
    hand.core.change(Change::Pod(ObjectName::new("shop", "web"), Some(pod)));
    hand.settle().await;
    let port = || Condition::equal("name", "shop_web");
    let addresses = async |session: &Session| -> String {
        let ops = vec![Op::select("Logical_Switch_Port").when(port()).into()];
        let results = session.transact(DATABASE, ops).await.unwrap();
        results[0].rows()[0].field("addresses").unwrap()
    };
    assert_eq!(addresses(&hand.session).await, "dynamic");
    let set = |column: &str, value: Datum| -> Op {
        Op::update("Logical_Switch_Port").when(port()).set(column, value).into()
    };
    transact(&hand.session, [set("dynamic_addresses", GIVEN.into())]).await;
    assert_eq!(hand.settle().await, [2], "the column and the mark");
    assert_eq!(addresses(&hand.session).await, GIVEN);
    // northd has nothing to give any more; somebody else spoils it; the controller starts anew.
    transact(&hand.session, [set("dynamic_addresses", Datum::empty_set())]).await;
    assert_eq!(hand.settle().await, [] as [usize; 0]);
    transact(&hand.session, [set("addresses", "unknown".into())]).await;
    hand.settle().await;
    assert_eq!(addresses(&hand.session).await, GIVEN);
    let mut again = Hand::new(server.session().await, "again").await;
    again.change(&node(1));
    let pod = pod_on("u", 1);
    again.core.change(Change::Pod(ObjectName::new("shop", "web"), Some(pod)));
    assert_eq!(again.settle().await, [] as [usize; 0]);
    assert_eq!(addresses(&hand.session).await, GIVEN);
    // A pod of that name made anew asks anew.
    let pod = pod_on("v", 1);
    again.core.change(Change::Pod(ObjectName::new("shop", "web"), Some(pod)));
    again.settle().await;
    assert_eq!(addresses(&hand.session).await, "dynamic");
}

/// Every row that is planned is of the columns' types: else the server would have refused it above. That every table's
/// columns are in OVN's schema is seen here, too: the monitor leaves out, and names, what the server does not have.
#[tokio::test]
async fn the_schema_has_all_that_we_read() {
    let server = Server::start("ovn-nb", &[]);
    let hand = started(&server, &Cluster::default()).await;
    assert_eq!(*hand.monitor.snapshot().missing, [] as [String; 0]);
    let tables: BTreeSet<&str> = Table::ALL.into_iter().map(Table::name).collect();
    assert_eq!(tables.len(), Table::ALL.len());
}

/// After a loss: what a running pod's NIC says of it counts if it said so before, and if nobody else has it.
#[tokio::test]
async fn what_a_nic_says_counts_after_a_loss_and_not_before_a_first_port() {
    let server = Server::start("ovn-nb", &[]);
    let mut hand = started(&server, &Cluster::default()).await;
    hand.change(&node(1));
    hand.settle().await;
    let started = Timestamp::now();
    let says = |name: &str, ip: &str, at: Timestamp| {
        let attached = cluster_controller::cluster::Attached {
            pod: name.into(),
            uid: name.into(),
            node: "node1.example".into(),
            logical_port: format!("shop_{name}").into(),
            mac: format!("0a:00:00:00:00:{}", &ip[ip.len() - 2..]).into(),
            ips: vec![
                ip.parse().unwrap(),
                format!("fd00:10:244:1::{}", &ip[ip.len() - 2..]).parse().unwrap(),
            ],
            created: Some(at),
        };
        Change::Attachment(ObjectName::new("shop", format!("{name}-eth0")), Some(attached))
    };
    let put = |name: &str| Change::Pod(ObjectName::new("shop", name), Some(pod_on(name, 1)));
    let addresses = async |session: &Session, name: &str| -> String {
        let port = Condition::equal("name", format!("shop_{name}"));
        let ops = vec![Op::select("Logical_Switch_Port").when(port).into()];
        let results = session.transact(DATABASE, ops).await.unwrap();
        results[0].rows()[0].field("addresses").unwrap()
    };
    // Said before the pod has a port: it is OVN that gives addresses.
    let later = started + k8s_openapi::jiff::SignedDuration::from_secs(1);
    hand.core.change(says("early", "10.244.1.20", later));
    hand.core.change(put("early"));
    hand.settle().await;
    assert_eq!(addresses(&hand.session, "early").await, "dynamic");
    // The northbound is lost: what was said before that counts, but for what another port has by then.
    let before = started - k8s_openapi::jiff::SignedDuration::from_secs(60);
    hand.core.change(says("kept", "10.244.1.21", before));
    hand.core.change(says("late", "10.244.1.23", started + k8s_openapi::jiff::SignedDuration::from_hours(1)));
    wipe(&hand.session).await;
    transact(&hand.session, [Op::comment("a round trip")]).await;
    hand.settle().await;
    hand.core.change(put("kept"));
    hand.core.change(put("late"));
    hand.settle().await;
    assert!(addresses(&hand.session, "kept").await.contains("10.244.1.21"));
    assert_eq!(addresses(&hand.session, "late").await, "dynamic");
    let taken = Datum::from("0a:00:00:00:00:99 10.244.1.24");
    transact(
        &hand.session,
        [
            Op::insert("Logical_Switch_Port")
                .named(&NamedUuid::new("p"))
                .set("name", "theirs")
                .set("addresses", taken)
                .into(),
            Op::insert("Logical_Switch").set("name", "theirs").set("ports", NamedUuid::new("p")).into(),
        ],
    )
    .await;
    hand.core.change(says("second", "10.244.1.24", before));
    hand.settle().await;
    hand.core.change(put("second"));
    hand.settle().await;
    assert_eq!(addresses(&hand.session, "second").await, "dynamic");
}
