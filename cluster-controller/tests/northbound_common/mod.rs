//! A cluster that changes at random, and the northbound as text.
#![allow(dead_code)] // each test binary takes what it needs

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster_controller::cluster::{
    Change, Endpoint, EndpointSlice, Hints, NicHealth, NicNode, Node, ObjectName, Pod, Port, Protocol,
    Service,
};
use cluster_controller::core::{Applied, Core, fenced};
use cluster_controller::northbound::observed::{key_of, monitored};
use cluster_controller::northbound::{OWNER, SINCE, Table, band};
use cluster_controller::ranges::Allocation;
use cluster_controller::settings::{RouterAddress, Settings};
use drawbridge_api::{NodeRange, NodeRangeSpec, NodeRangeStatus};
use k8s_openapi::jiff::Timestamp;
use ovsdb_session::rows::northbound::DATABASE;
use ovsdb_session::{Atom, Condition, Datum, Monitor, Op, Row, Session, Uuid};

pub fn settings() -> Settings {
    Settings {
        router_address: RouterAddress::First,
        mtu: "1400".parse().unwrap(),
        routes: ["10.244.0.0/16", "fd00:10:244::/56", "10.96.0.0/12"].map(|r| r.parse().unwrap()).to_vec(),
        allocation: Allocation::new(
            ["10.244.0.0/16", "fd00:10:244::/48"].map(|r| r.parse().unwrap()).to_vec(),
            vec!["10.96.0.0/12".parse().unwrap()],
        ),
        copp_rate: "500".parse().unwrap(),
        services: kube_services::Limits::default(),
    }
}

/// Numbers that look random, the same for the same seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// How large a cluster is.
#[derive(Clone, Copy)]
pub struct Size {
    pub nodes: u64,
    pub pods: u64,
    pub services: u64,
}

/// The cluster, as its API would have it.
#[derive(Clone, Default)]
pub struct Cluster {
    pub objects: BTreeMap<String, Change>,
    made: u64,
}

fn about(change: &Change) -> String {
    match change {
        Change::Node(name, _) => format!("node {name}"),
        Change::NodeRange(name, _) => format!("range {name}"),
        Change::NicNode(name, _) => format!("nic {name}"),
        Change::Pod(name, _) => format!("pod {name}"),
        Change::Service(name, _) => format!("service {name}"),
        Change::Slice(name, _) => format!("slice {name}"),
        Change::Attachment(name, _) => format!("attachment {name}"),
    }
}

impl Cluster {
    pub fn put(&mut self, change: Change) -> Change {
        if change.is_present() {
            self.objects.insert(about(&change), change.clone());
        } else {
            self.objects.remove(&about(&change));
        }
        change
    }

    /// With what is confirmed of the nodes.
    pub fn all(&self) -> impl Iterator<Item = Change> {
        self.objects.values().flat_map(with_range)
    }

    /// Everything there is, at its full size.
    pub fn fill(&mut self, size: Size) {
        let mut dice = Dice(1);
        for n in 0..size.nodes {
            self.put(node(n));
            self.put(nic(n, n % 2 == 0));
        }
        for n in 0..size.pods {
            let change = self.pod(n, n % size.nodes);
            self.put(change);
        }
        for n in 0..size.services {
            self.put(service(n, &mut dice));
            self.put(slice(n, size.nodes, &mut dice));
        }
    }

    fn pod(&mut self, n: u64, node: u64) -> Change {
        self.made += 1;
        let pod = pod_on(&format!("uid-{}", self.made), node);
        Change::Pod(ObjectName::new(format!("ns{}", n % 7), format!("pod-{n}")), Some(pod))
    }

    /// Something happens.
    pub fn step(&mut self, size: Size, dice: &mut Dice) -> Change {
        let change = match dice.below(20) {
            0 => {
                let n = dice.below(size.nodes);
                if dice.one_in(3) { Change::Node(node_name(n), None) } else { node(n) }
            }
            1 => nic(dice.below(size.nodes), dice.one_in(2)),
            2..=9 => {
                let n = dice.below(size.pods);
                let change = self.pod(n, dice.below(size.nodes));
                match change {
                    Change::Pod(name, _) if dice.one_in(3) => Change::Pod(name, None),
                    change => change,
                }
            }
            10..=12 => {
                let change = service(dice.below(size.services), dice);
                match change {
                    Change::Service(name, _) if dice.one_in(3) => Change::Service(name, None),
                    change => change,
                }
            }
            _ => slice(dice.below(size.services), size.nodes, dice),
        };
        self.put(change)
    }
}

pub fn node_name(n: u64) -> Arc<str> {
    format!("node{n}.example").into()
}

pub fn node(n: u64) -> Change {
    let pod_cidrs = vec![format!("10.244.{n}.0/24"), format!("fd00:10:244:{n:x}::/64")];
    // Of every third there is no zone.
    let zone = if n.is_multiple_of(3) { String::new() } else { format!("z{}", n % 3) };
    let node = Node { uid: format!("uid-of-{n}").into(), pod_cidrs, zone: zone.into(), nic_taint: false };
    Change::Node(node_name(n), Some(node))
}

/// The change, and after a node's what is then confirmed of it: as the API has it once the publisher has written.
pub fn with_range(change: &Change) -> Vec<Change> {
    let Change::Node(name, node) = change else { return vec![change.clone()] };
    let range = node.as_ref().map(|node| {
        let status = NodeRangeStatus {
            node_uid: Some(node.uid.to_string()),
            ranges: node.pod_cidrs.clone(),
            ..NodeRangeStatus::default()
        };
        let object = NodeRange::new(name, NodeRangeSpec::default());
        Box::new(NodeRange { status: Some(status), ..object })
    });
    vec![change.clone(), Change::NodeRange(name.clone(), range)]
}

pub fn nic(n: u64, management: bool) -> Change {
    let nic = NicNode {
        node: node_name(n),
        management,
        static_pods: false,
        chassis: None,
        managed: None,
        health: NicHealth::default(),
    };
    Change::NicNode(format!("nic{n}").into(), Some(nic))
}

pub fn pod_on(uid: &str, node: u64) -> Pod {
    Pod { uid: uid.into(), node: node_name(node), vf: true, host_network: false, mirror: false }
}

fn port(name: &str, protocol: Protocol, number: u16) -> Port {
    Port { name: name.into(), protocol, number }
}

pub fn service(n: u64, dice: &mut Dice) -> Change {
    let mut ports = vec![port("http", Protocol::Tcp, 80)];
    if dice.one_in(2) {
        ports.push(port("dns", Protocol::Udp, 53));
    }
    if dice.one_in(4) {
        ports.push(port("s", Protocol::Sctp, 9));
    }
    let name = ObjectName::new("shop", format!("svc{n}"));
    let service = Service {
        name: name.clone(),
        ports_found: ports.len(),
        fault: None,
        cluster_ips: vec![
            format!("10.96.0.{}", n + 1).parse().unwrap(),
            format!("fd00:96::{:x}", n + 1).parse().unwrap(),
        ],
        ports,
        affinity: dice.one_in(4).then_some(300),
        local: dice.one_in(6),
    };
    Change::Service(name, Some(service))
}

pub fn slice(n: u64, nodes: u64, dice: &mut Dice) -> Change {
    // Most say nothing of for whom they are.
    let (for_zones, for_nodes) = (dice.one_in(4), dice.one_in(6));
    let endpoints = (0..dice.below(6))
        .map(|_| {
            let (node, host) = (dice.below(nodes), dice.below(200) + 2);
            Endpoint {
                address: format!("10.244.{node}.{host}").parse().unwrap(),
                target: None,
                node: Some(node_name(node)),
                ready: !dice.one_in(4),
                serving: true,
                terminating: dice.one_in(4),
                hints: (for_zones || for_nodes).then(|| {
                    let zones = for_zones.then(|| format!("z{}", node % 3).into());
                    let nodes = for_nodes.then(|| node_name(node));
                    Box::new(Hints { zones: zones.into_iter().collect(), nodes: nodes.into_iter().collect() })
                }),
            }
        })
        .collect();
    let ports = vec![port("http", Protocol::Tcp, 8080), port("dns", Protocol::Udp, 5353)];
    let name = ObjectName::new("shop", format!("svc{n}-x"));
    let service = Some(format!("svc{n}").into());
    let slice = EndpointSlice { name: name.clone(), service, ports, endpoints, fault: None, is_cut: false };
    Change::Slice(name, Some(slice))
}

/// A controller without its loop: everything it does is waited for.
pub struct Hand {
    pub core: Core,
    pub session: Session,
    pub monitor: Monitor,
    pub token: String,
}

impl Hand {
    pub async fn new(session: Session, token: &str) -> Self {
        Self::with(settings(), session, token).await
    }

    pub async fn with(settings: Settings, session: Session, token: &str) -> Self {
        let monitor = session.monitor(DATABASE, monitored());
        let snapshot = monitor.synced_to(0).await.unwrap();
        let mut core = Core::new(settings);
        core.observe(snapshot);
        Self { core, session, monitor, token: token.to_owned() }
    }

    /// Takes a change, and what the publisher makes of it.
    pub fn change(&mut self, change: &Change) {
        for change in with_range(change) {
            self.core.change(change);
        }
    }

    pub async fn claim(&mut self) {
        self.session.transact(DATABASE, self.core.claim(&self.token)).await.unwrap();
        self.core.observe(self.monitor.snapshot());
    }

    /// Writes until there is nothing to write; the numbers of operations of each transaction.
    pub async fn settle(&mut self) -> Vec<usize> {
        let mut operations = Vec::new();
        loop {
            self.core.observe(self.monitor.snapshot());
            if self.core.fence().as_deref() != Some(&self.token) {
                self.claim().await;
                continue;
            }
            let Some(batch) = self.core.next_batch(Timestamp::now()) else { return operations };
            let sent = self.session.transact(DATABASE, fenced(&self.token, batch.ops.clone())).await;
            match self.core.applied(&batch, sent) {
                Applied::Done => operations.push(batch.ops.len()),
                // Fenced: somebody has taken the token away, and it is claimed again.
                Applied::Refused(_) | Applied::Fenced => {}
                other @ Applied::Lost(_) => panic!("{other:?}: {:?}", batch.ops),
            }
            assert!(operations.len() < 10_000, "never done: {:?}", batch.ops);
        }
    }
}

/// The northbound, with names for uuids. Ours by their keys; the others whole, for what must not change.
pub async fn dump(session: &Session, ours: bool) -> Vec<String> {
    let tables = Table::ALL.into_iter().map(Table::name).chain([band::TABLE]);
    let selects = tables.map(|table| Op::select(table).into()).collect();
    let results = session.transact(DATABASE, selects).await.unwrap();
    let mut names: BTreeMap<Uuid, String> = BTreeMap::new();
    for row in results[Table::ALL.len()].rows() {
        let field = |column: &str| row.field::<i64>(column).unwrap();
        let owner = row.get("external_ids").and_then(|marks| marks.value_of(&Atom::from(OWNER)));
        let whose = owner.and_then(Atom::as_str).unwrap_or("foreign");
        let band = format!("{whose} band {} {}", field("rate"), field("burst_size"));
        names.insert(row.field("_uuid").unwrap(), band);
    }
    let mut rows: Vec<(Table, &Row)> = Vec::new();
    for (table, result) in Table::ALL.into_iter().zip(&results) {
        for row in result.rows() {
            let name = match key_of(table, row) {
                Some(key) => key.to_string(),
                None => format!("foreign {}", row.field::<String>("name").unwrap_or_default()),
            };
            names.insert(row.field("_uuid").unwrap(), name);
            rows.push((table, row));
        }
    }
    let atom = |atom: &Atom| match atom {
        Atom::Uuid(uuid) => names.get(uuid).cloned().unwrap_or_else(|| "?".to_owned()),
        atom => atom.to_json().to_string(),
    };
    let value = |datum: &Datum| {
        let mut texts: Vec<String> = if datum.is_map() {
            // Of a switch: since when it is there.
            let pairs = datum.pairs().filter(|(key, _)| key.as_str() != Some(SINCE));
            pairs.map(|(key, value)| format!("{}={}", atom(key), atom(value))).collect()
        } else {
            datum.atoms().map(atom).collect()
        };
        texts.sort();
        texts.join(" ")
    };
    let mut lines: Vec<String> = rows
        .into_iter()
        .filter(|(table, row)| key_of(*table, row).is_some() == ours)
        .map(|(table, row)| {
            let columns = table.columns().iter().filter(|column| **column != "_uuid");
            let columns: Vec<String> = columns
                .map(|column| format!("{column}: {}", row.get(column).map(value).unwrap_or_default()))
                .collect();
            format!("{} {}", table.name(), columns.join("; "))
        })
        .collect();
    lines.sort();
    lines
}

/// Everything, by hand.
pub async fn wipe(session: &Session) {
    let tables = [
        "Logical_Switch",
        "Logical_Router",
        "Load_Balancer",
        "Load_Balancer_Group",
        "Copp",
        "Meter",
        "DHCP_Options",
        "NB_Global",
    ];
    let deletes = tables.into_iter().map(|table| Op::delete(table).when(Condition::Constant(true)).into());
    session.transact(DATABASE, deletes.collect()).await.unwrap();
}

/// What a controller that starts with these objects writes into an empty northbound.
pub async fn fresh(server: &crate::common::Server, cluster: &Cluster) -> Vec<String> {
    let session = server.session().await;
    wipe(&session).await;
    let mut hand = Hand::new(session, "fresh").await;
    for change in cluster.all() {
        hand.core.change(change);
    }
    hand.settle().await;
    assert_eq!(hand.core.blocked().count(), 0);
    dump(&hand.session, true).await
}

/// Line by line, so that a failure is readable.
pub fn assert_same(left: &[String], right: &[String], what: &str) {
    let only = |a: &[String], b: &[String]| -> Vec<String> {
        a.iter().filter(|line| !b.contains(line)).take(5).cloned().collect()
    };
    assert!(left == right, "{what}: only left {:#?}, only right {:#?}", only(left, right), only(right, left));
}
