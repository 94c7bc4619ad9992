//! A northbound that was lost and made again: whatever runs keeps its MAC and its addresses.

use cluster_controller::cluster::{Attached, Managed, NicHealth, NicNode};
use cluster_controller::core::CHUNK;
use k8s_openapi::jiff::SignedDuration;

use super::*;
use crate::northbound_common::node_name;

/// Of a pod that runs, by its NIC's word, a minute ago.
fn attached(name: &str, node: u64, host: u64) -> Change {
    let attached = Attached {
        pod: name.into(),
        uid: name.into(),
        node: node_name(node),
        logical_port: format!("shop_{name}").into(),
        mac: format!("0a:00:00:00:{node:02x}:{host:02x}").into(),
        ips: vec![
            format!("10.244.{node}.{host}").parse().unwrap(),
            format!("fd00:10:244:{node:x}::{host:x}").parse().unwrap(),
        ],
        created: Some(Timestamp::now() - SignedDuration::from_secs(60)),
    };
    Change::Attachment(ObjectName::new("shop", &format!("{name}-eth0")), Some(attached))
}

fn pod(name: &str, node: u64) -> Change {
    Change::Pod(ObjectName::new("shop", name), Some(pod_on(name, node)))
}

/// Name and addresses of each port.
async fn ports(session: &Session) -> Vec<(String, String)> {
    let ops = vec![Op::select("Logical_Switch_Port").into()];
    let results = session.transact(DATABASE, ops).await.unwrap();
    let field = |row: &ovsdb_session::Row, column| row.field::<Option<String>>(column).unwrap();
    let of = |row| Some((field(row, "name")?, field(row, "addresses")?));
    results[0].rows().iter().filter_map(of).collect()
}

/// northd gives what it does not see to be another's: while one port asks, all others must be there.
#[tokio::test]
async fn what_running_pods_have_is_written_before_any_port_that_asks() {
    let server = Server::start("ovn-nb", &[]);
    let mut hand = Hand::new(server.session().await, "hand").await;
    for n in 1..=4 {
        hand.change(&node(n));
    }
    // By their names the first would be the first.
    for n in 1..=4 {
        hand.core.change(pod(&format!("a-new-{n}"), n));
    }
    let running = u64::try_from(CHUNK).unwrap() + 100;
    for n in 0..running {
        let (node, host) = (n % 4 + 1, n / 4 + 2);
        hand.core.change(pod(&format!("z-old-{n}"), node));
        hand.core.change(attached(&format!("z-old-{n}"), node, host));
    }
    hand.claim().await;
    let mut transactions = 0;
    while let Some(batch) = hand.core.next_batch(Timestamp::now()) {
        let sent = hand.session.transact(DATABASE, fenced("hand", batch.ops.clone())).await;
        assert_eq!(hand.core.applied(&batch, sent), Applied::Done);
        transactions += 1;
        let ports = ports(&hand.session).await;
        let asking = ports.iter().filter(|(_, addresses)| addresses == "dynamic").count();
        let old = ports.iter().filter(|(name, _)| name.starts_with("shop_z-old-")).count();
        assert!(asking == 0 || u64::try_from(old).unwrap() == running, "{asking} ask, and {old} are there");
        hand.core.observe(hand.monitor.snapshot());
    }
    assert!(transactions > 1);
    let ports = ports(&hand.session).await;
    assert_eq!(ports.iter().filter(|(_, addresses)| addresses == "dynamic").count(), 4);
    let last = ports.iter().find(|(name, _)| *name == format!("shop_z-old-{}", running - 1)).unwrap();
    assert!(last.1.contains(" 10.244."), "{last:?}");
}

/// Pods, the server's own port, the router, load balancers: as before, though OVN would make other MACs now.
#[tokio::test]
async fn whatever_runs_keeps_its_mac_and_its_addresses() {
    const GIVEN: &str = "0a:00:00:00:00:07 10.244.1.7 fd00:10:244:1::7";
    let server = Server::start("ovn-nb", &[]);
    let mut hand = started(&server, &Cluster::default()).await;
    let nic = |managed: Option<Managed>| {
        let nic = NicNode {
            node: node_name(1),
            management: true,
            static_pods: false,
            chassis: Some("nic1".into()),
            managed,
            health: NicHealth::default(),
        };
        Change::NicNode("nic1".into(), Some(nic))
    };
    hand.change(&node(1));
    hand.core.change(nic(None));
    hand.core.change(service(3, &mut Dice(5)));
    hand.core.change(slice(3, 2, &mut Dice(5)));
    hand.core.change(pod("web", 1));
    hand.core.change(attached("web", 1, 9));
    hand.settle().await;
    // northd's part, by hand.
    let port = || Condition::equal("name", "k8s-node1.example");
    let set = |column: &str, value: Datum| -> Op {
        Op::update("Logical_Switch_Port").when(port()).set(column, value).into()
    };
    let session = server.session().await;
    transact(&session, [set("dynamic_addresses", GIVEN.into())]).await;
    transact(&hand.session, [Op::comment("a round trip")]).await;
    hand.settle().await;
    transact(&session, [set("dynamic_addresses", Datum::empty_set())]).await;
    // The NIC says what it sees.
    let managed = Managed {
        mac: "0a:00:00:00:00:07".into(),
        ips: ["10.244.1.7", "fd00:10:244:1::7"].map(|ip| ip.parse().unwrap()).to_vec(),
    };
    hand.core.change(nic(Some(managed)));
    hand.settle().await;
    let before = dump(&session, true).await;
    assert!(before.iter().any(|row| row.contains("k8s-node1") && row.contains(GIVEN)), "{before:#?}");
    assert!(before.iter().any(|row| row.contains("shop_web") && row.contains("10.244.1.9")), "{before:#?}");
    wipe(&session).await;
    let prefix = Datum::map([("mac_prefix", "0e:22:33")]);
    transact(&session, [Op::insert("NB_Global").set("options", prefix).into()]).await;
    transact(&hand.session, [Op::comment("a round trip")]).await;
    hand.settle().await;
    assert_same(&before, &dump(&session, true).await, "after the loss");
}
