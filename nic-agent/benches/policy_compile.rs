//! What compiling NetworkPolicy costs: one event, all of it, and memory; and how that grows with the cluster.
//!
//! A plain program: an event is a change of state, so the same one cannot be measured twice, which is what criterion
//! does. The cluster is made as clusters are: applications of ten pods, ten of them in a namespace, each with a Service;
//! ten policies in a namespace; pods spread over nodes that have a /24 each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_precision_loss)] // figures for people

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nic_agent::policy::{Change, Compiler, Namespace, ObjectName, Pod, Settings, Snapshot};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Debug)]
struct Size {
    pods: u32,
    nodes: u32,
}

fn mix(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    x ^ (x >> 16)
}

fn place(size: &Size, pod: u32) -> (u32, IpAddr) {
    // A shuffle that gives each node the same number of pods.
    let mut order = pod;
    for round in 0..3 {
        order = (order.wrapping_mul(7919) + mix(round)) % size.pods;
    }
    let (node, host) = (order % size.nodes, order / size.nodes);
    let base = 0x0a80_0000 + (node << 8);
    // Nodes with more pods than a /24 has take the next range.
    (node, Ipv4Addr::from(base + (host % 250) + 2 + ((host / 250) << 21)).into())
}

fn pod(size: &Size, index: u32) -> Pod {
    let (namespace, app) = (index / 100, index / 10 % 10);
    let (node, ip) = place(size, index);
    let raw = json!({
        "metadata": {
            "namespace": format!("ns-{namespace}"), "name": format!("app-{app}-7d9c5b8f6d-{index:05x}"),
            "uid": format!("00000000-0000-4000-8000-{index:012x}"),
            "labels": {
                "app": format!("app-{app}"), "app.kubernetes.io/part-of": format!("ns-{namespace}"),
                "role": if app == 0 { "frontend" } else { "backend" },
                "pod-template-hash": format!("{:08x}", mix(namespace * 10 + app)),
            },
        },
        "spec": {
            "nodeName": format!("node-{node}"),
            "containers": [{"ports": [
                {"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9090},
            ]}],
        },
        "status": {"phase": "Running", "podIPs": [{"ip": ip.to_string()}]},
    });
    serde_json::from_value(raw).unwrap()
}

fn spec(namespace: u32, kind: u32) -> Value {
    let app = |it: u32| json!({"podSelector": {"matchLabels": {"app": format!("app-{}", it % 10)}}});
    let team = json!({"matchLabels": {"team": format!("team-{}", namespace % 10)}});
    match kind {
        0 => json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        1 => json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{
            "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ns-0"}},
                    "podSelector": {"matchLabels": {"app": "app-9"}}}],
            "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53}, {"port": 8080}]}]}),
        2 => json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}),
        3 => json!({"podSelector": {}, "ingress": [{
            "from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "app-8"}}}],
            "ports": [{"port": "metrics"}]}]}),
        4 => json!({"podSelector": {"matchLabels": {"role": "frontend"}}, "ingress": [{
            "from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "192.168.0.0/16"]}}],
            "ports": [{"port": "http"}]}]}),
        5 => json!({"podSelector": {"matchLabels": {"app": "app-7"}}, "policyTypes": ["Egress"], "egress": [{
            "to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]}]}),
        6 => json!({"podSelector": {"matchLabels": {"app": "app-6"}}, "ingress": [{
            "from": [{"namespaceSelector": team}], "ports": [{"port": 8000, "endPort": 8999}]}]}),
        7 => json!({"podSelector": {"matchLabels": {"app": "app-6"}}, "policyTypes": ["Egress"], "egress": [{
            "to": [{"namespaceSelector": team}], "ports": [{"port": "http"}]}]}),
        _ => json!({"podSelector": {"matchLabels": {"app": format!("app-{kind}")}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [app(kind + 1), app(kind + 2)], "ports": [{"port": 8080}]}],
            "egress": [{"to": [app(kind + 3), app(kind + 4)], "ports": [{"port": 8080}]}]}),
    }
}

fn slice(namespace: u32, app: u32, size: &Size, skip: u32) -> Value {
    let first = namespace * 100 + app * 10;
    let endpoints: Vec<Value> =
        (first + skip..first + 10).map(|it| json!({"addresses": [place(size, it).1.to_string()]})).collect();
    json!({"metadata": {"namespace": format!("ns-{namespace}"), "name": format!("app-{app}-x"),
            "labels": {"kubernetes.io/service-name": format!("app-{app}")}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080}]})
}

fn snapshot(size: &Size) -> Snapshot {
    let pods = (0..size.pods).map(|it| pod(size, it)).collect();
    let mut snapshot = Snapshot { pods, ..Snapshot::default() };
    for namespace in 0..size.pods / 100 {
        let name = format!("ns-{namespace}");
        snapshot.namespaces.push(namespace_with(namespace, namespace % 10));
        for app in 0..10 {
            let ip = Ipv4Addr::from(0x0a60_0000 + namespace * 10 + app + 1);
            let service = json!({"metadata": {"namespace": name, "name": format!("app-{app}")},
                "spec": {"clusterIPs": [ip.to_string()], "ports": [{"name": "http", "port": 80}]}});
            snapshot.services.push(serde_json::from_value(service).unwrap());
            snapshot.slices.push(serde_json::from_value(slice(namespace, app, size, 0)).unwrap());
            let metadata = json!({"namespace": name, "name": format!("policy-{app}"), "uid": format!("p-{namespace}-{app}")});
            let policy = json!({"metadata": metadata, "spec": spec(namespace, app)});
            snapshot.policies.push(serde_json::from_value(policy).unwrap());
        }
    }
    snapshot
}

fn namespace_with(namespace: u32, team: u32) -> Namespace {
    let name: Arc<str> = format!("ns-{namespace}").into();
    let labels = [
        ("kubernetes.io/metadata.name".to_owned(), name.to_string()),
        ("team".to_owned(), format!("team-{team}")),
    ];
    Namespace { labels: labels.into_iter().collect(), name }
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// What one process measured of one size.
#[derive(Serialize, Deserialize)]
struct Figure {
    name: String,
    /// Milliseconds, or bytes.
    value: f64,
    unit: Unit,
    /// In the same unit, at the size that the goal is for.
    limit: Option<f64>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Unit {
    Time,
    Memory,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Time => format!("{value:.3} ms"),
            Self::Memory if value < 10_000.0 => format!("{value:.0} B"),
            Self::Memory => format!("{:.1} MiB", value / 1024.0 / 1024.0),
        }
    }
}

fn time(name: impl Into<String>, it: Duration, limit: Option<f64>) -> Figure {
    Figure { name: name.into(), value: it.as_secs_f64() * 1e3, unit: Unit::Time, limit }
}

fn memory(name: &str, bytes: usize) -> Figure {
    Figure { name: name.to_owned(), value: bytes as f64, unit: Unit::Memory, limit: None }
}

/// Median and worst of events of one kind.
fn events(
    name: &str,
    compiler: &mut Compiler,
    limit: Option<f64>,
    changes: impl IntoIterator<Item = Change>,
) -> [Figure; 2] {
    let mut times: Vec<Duration> = changes
        .into_iter()
        .map(|change| {
            let start = Instant::now();
            std::hint::black_box(compiler.apply(change));
            start.elapsed()
        })
        .collect();
    times.sort();
    [
        time(format!("{name}, median"), times[times.len() / 2], limit),
        time(format!("{name}, worst of {}", times.len()), times[times.len() - 1], limit),
    ]
}

fn measure(size: &Size) -> Vec<Figure> {
    let settings = Settings {
        node: "node-1".into(),
        node_addresses: ["10.128.1.1".parse::<IpAddr>().unwrap()].into_iter().collect(),
        budget: nic_agent::policy::Budget::default(),
    };
    let elsewhere = Settings { node: "nowhere".into(), ..settings.clone() };
    // One by one, and before anything else: what is freed again would hide what is kept.
    let mut only_foreign = Compiler::new(elsewhere, Snapshot::default());
    let before = resident();
    for index in 0..size.pods {
        only_foreign.apply(Change::Pod(pod(size, index)));
    }
    let per_pod = resident().saturating_sub(before) / usize::try_from(size.pods).unwrap();
    drop(only_foreign);

    let mut full = Vec::new();
    let mut compiler: Option<Compiler> = None;
    for _ in 0..3 {
        let snapshot = snapshot(size);
        // Its memory is not freed while the clock runs.
        drop(compiler.take());
        let start = Instant::now();
        let settings = settings.clone();
        compiler = Some(Compiler::new(settings, snapshot));
        full.push(start.elapsed());
    }
    let mut compiler = compiler.unwrap();
    let resident_with_all = resident();
    println!(
        "# {} pods, {} policies, {} Services, {} local pods, {} sets of peers, {} origins, {} reports",
        size.pods,
        size.pods / 10,
        size.pods / 10,
        compiler.all_compiled().count(),
        compiler.sets(),
        compiler.origins().iter().count(),
        compiler.reports().len(),
    );
    full.sort();
    let mut figures = vec![
        time("full compile, median of 3", full[1], Some(200.0)),
        memory("memory for a foreign pod", per_pod),
        memory("memory in all, resident", resident_with_all),
    ];

    // Odd, so that pods of every application have their turn.
    let step = (size.pods / 200).max(1) | 1;
    let chosen: Vec<Pod> =
        (0..size.pods).step_by(usize::try_from(step).unwrap()).map(|it| pod(size, it)).collect();
    let compiler = &mut compiler;
    let gone =
        |pods: &[Pod]| -> Vec<Change> { pods.iter().map(|it| Change::PodGone(it.name.clone())).collect() };
    figures.extend(events("pod gone", compiler, Some(5.0), gone(&chosen)));
    figures.extend(events(
        "pod with an address",
        compiler,
        Some(5.0),
        chosen.iter().cloned().map(Change::Pod),
    ));
    let relabelled = chosen.iter().map(|it| {
        let labels =
            it.labels.iter().filter(|(key, _)| *key != "role").map(|(k, v)| (k.to_owned(), v.to_owned()));
        Change::Pod(Pod { labels: labels.collect(), ..it.clone() })
    });
    figures.extend(events("pod with other labels", compiler, Some(5.0), relabelled));
    let of_node: Vec<Pod> =
        (0..size.pods).map(|it| pod(size, it)).filter(|it| *it.node == *"node-1").take(100).collect();
    figures.extend(events("pod of this node gone", compiler, Some(5.0), gone(&of_node)));
    figures.extend(events("pod of this node", compiler, Some(5.0), of_node.into_iter().map(Change::Pod)));
    let namespaces = 0..(size.pods / 100).min(100);
    let slices = namespaces
        .clone()
        .map(|it| Change::EndpointSlice(serde_json::from_value(slice(it, 3, size, 1)).unwrap()));
    figures.extend(events("endpoint not ready", compiler, None, slices));
    let gone =
        namespaces.clone().map(|it| Change::PolicyGone(ObjectName::new(format!("ns-{it}"), "policy-2")));
    figures.extend(events("policy of a namespace gone", compiler, None, gone));
    let teams = namespaces.map(|it| Change::Namespace(namespace_with(it, it % 10 + 1)));
    figures.extend(events("namespace with other labels", compiler, None, teams));
    figures
}

/// In a process of its own, so that the memory is this size's.
fn measured_apart(size: &Size) -> Vec<Figure> {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--size", &size.pods.to_string(), &size.nodes.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{size:?}: {}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let (remarks, figures): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('#'));
    for it in remarks {
        println!("{it}");
    }
    figures.iter().map(|it| serde_json::from_str(it).unwrap()).collect()
}

/// One line of the table that `make bench` ends with: name, ours, peer or limit, ratio, goal.
fn line(name: &str, unit: Unit, ours: f64, peer: Option<(f64, &str)>, goal: &str) {
    let (peer, ratio) = peer.map_or_else(
        || ("-".to_owned(), "-".to_owned()),
        |(value, what)| (format!("{}{what}", unit.show(value)), format!("{:.3}", ours / value)),
    );
    println!("bench\t{name}\t{}\t{peer}\t{ratio}\t{goal}", unit.show(ours));
}

const GOAL_SIZE: Size = Size { pods: 10_000, nodes: 100 };
/// A tenth; ten times as a cluster grows, with its nodes; ten times with as many pods on the node as it cannot hold.
const OTHERS: [Size; 3] =
    [Size { pods: 1000, nodes: 10 }, Size { pods: 100_000, nodes: 1000 }, Size { pods: 100_000, nodes: 100 }];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, pods, nodes] = arguments.as_slice()
        && flag == "--size"
    {
        for figure in measure(&Size { pods: pods.parse().unwrap(), nodes: nodes.parse().unwrap() }) {
            println!("{}", serde_json::to_string(&figure).unwrap());
        }
        return;
    }
    // `cargo test --benches` runs this too: a look at a small one is enough there.
    if !arguments.iter().any(|it| it == "--bench") {
        for it in measure(&OTHERS[0]) {
            line(&it.name, it.unit, it.value, None, "-");
        }
        return;
    }
    let base = measured_apart(&GOAL_SIZE);
    for it in &base {
        let goal = it.limit.map_or_else(
            || "-".to_owned(),
            |limit| format!("<= 1: {}", if it.value <= limit { "met" } else { "MISSED" }),
        );
        let limit = it.limit.map(|limit| (limit, " (limit)"));
        line(&format!("policy, 10000 pods: {}", it.name), it.unit, it.value, limit, &goal);
    }
    for size in &OTHERS {
        // How it grows: against the same figure at the size of the goal.
        for (it, base) in measured_apart(size).iter().zip(&base) {
            let name = format!("policy, {} pods on {} nodes: {}", size.pods, size.nodes, it.name);
            line(&name, it.unit, it.value, Some((base.value, " (10000 pods)")), "-");
        }
    }
}
