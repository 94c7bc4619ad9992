//! What compiling NetworkPolicy costs: one event, all of it, and memory; and how that grows with the cluster.
//!
//! A plain program: an event is a change of state, so the same one cannot be measured twice, which is what criterion
//! does. The cluster is made as clusters are: applications of ten pods, ten of them in a namespace, each with a Service;
//! ten policies in a namespace; pods spread over nodes that have a /24 each.
//!
//! An event costs what it concerns, not what the cluster is. What each concerns here is the same in a cluster ten times as
//! large with ten times the nodes: a node has as many pods, in as many namespaces. Two selectors mean a tenth of all pods,
//! at any size (an application in all namespaces, a team's namespaces); one pod more or less in them is measured with the
//! rest. What brings such a selector into force for the first time on a node concerns all that it means: that is said
//! apart, with no goal for how it grows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_precision_loss)] // figures for people

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nic_agent::policy::{Change, Compiler, Namespace, ObjectName, Pod, Settings, Snapshot};
use nix::time::{ClockId, clock_gettime};
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
    // A shuffle: a node has pods of every application, and as many as any other.
    let mut order = u64::from(pod);
    for round in 0..3 {
        order = (order * 7919 + u64::from(mix(round))) % u64::from(size.pods);
    }
    let order = u32::try_from(order).unwrap();
    let of_node = size.pods / size.nodes;
    let (node, host) = (order / of_node, order % of_node);
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
    /// So many times as much at most, in a cluster ten times as large.
    growth: Option<f64>,
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
    Figure { name: name.into(), value: it.as_secs_f64() * 1e3, unit: Unit::Time, limit, growth: None }
}

fn memory(name: &str, bytes: usize) -> Figure {
    Figure { name: name.to_owned(), value: bytes as f64, unit: Unit::Memory, limit: None, growth: None }
}

/// What this thread has had of a processor: an event is short, and who else runs meanwhile would be the worst of many.
fn of_processor() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn event(compiler: &mut Compiler, change: Change) -> Duration {
    let start = of_processor();
    std::hint::black_box(compiler.apply(change));
    of_processor().saturating_sub(start)
}

/// Median and worst of events of one kind.
fn summary(name: &str, limit: Option<f64>, growth: Option<f64>, mut times: Vec<Duration>) -> [Figure; 2] {
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    [
        Figure { growth, ..time(format!("{name}, median"), median, limit) },
        Figure { growth, ..time(format!("{name}, worst"), worst, limit) },
    ]
}

fn events(
    name: &str,
    compiler: &mut Compiler,
    limit: Option<f64>,
    changes: impl IntoIterator<Item = Change>,
) -> [Figure; 2] {
    let times = changes.into_iter().map(|it| event(compiler, it)).collect();
    summary(name, limit, GROWTH, times)
}

/// Pods of this node go, and come again, each while the others are there.
fn come_and_go(
    name: &str,
    compiler: &mut Compiler,
    limit: Option<f64>,
    growth: Option<f64>,
    pods: impl IntoIterator<Item = Pod>,
) -> [Figure; 4] {
    let (mut gone, mut come) = (Vec::new(), Vec::new());
    for pod in pods {
        gone.push(event(compiler, Change::PodGone(pod.name.clone())));
        come.push(event(compiler, Change::Pod(pod)));
    }
    let [gone_median, gone_worst] = summary(&format!("{name} gone"), limit, growth, gone);
    let [median, worst] = summary(name, limit, growth, come);
    [gone_median, gone_worst, median, worst]
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
    // Also the largest cluster has been a small one: nothing may be made anew on the way that is as large as all.
    let mut growing = Vec::new();
    for index in 0..size.pods {
        growing.push(event(&mut only_foreign, Change::Pod(pod(size, index))));
    }
    let growing_is = growing.capacity() * size_of::<Duration>();
    let per_pod = resident().saturating_sub(before + growing_is) / usize::try_from(size.pods).unwrap();
    drop(only_foreign);

    let mut full = Vec::new();
    let mut compiler: Option<Compiler> = None;
    for _ in 0..3 {
        let snapshot = snapshot(size);
        // Its memory is not freed while the clock runs.
        drop(compiler.take());
        let start = of_processor();
        let settings = settings.clone();
        compiler = Some(Compiler::new(settings, snapshot));
        full.push(of_processor().saturating_sub(start));
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
    figures.extend(summary("first word of a pod that is nobody's peer here", None, GROWTH, growing));

    let (of_node, of_others): (Vec<Pod>, Vec<Pod>) =
        (0..size.pods).map(|it| pod(size, it)).partition(|it| *it.node == *"node-1");
    // Those that have pods here: what happens elsewhere concerns these less, and in a large cluster more happens elsewhere.
    let namespaces: BTreeSet<Arc<str>> = of_node.iter().map(|it| it.name.namespace.clone()).collect();
    let beside: Vec<Pod> =
        of_others.into_iter().filter(|it| namespaces.contains(&it.name.namespace)).collect();
    // Odd, so that pods of every application have their turn.
    let chosen: Vec<Pod> = beside.iter().step_by((beside.len() / 200) | 1).cloned().collect();
    // The allocator puts the pieces of all that was freed till now together when it is next asked for more: not an event's.
    drop(std::hint::black_box(vec![0_u8; 1 << 20]));
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
    // Its egress is to a tenth of all pods, and to their Services.
    let is_broad = |it: &Pod| it.labels.get("app") == Some("app-6");
    let (broad, narrow): (Vec<Pod>, Vec<Pod>) = of_node.into_iter().take(100).partition(is_broad);
    figures.extend(come_and_go("pod of this node", compiler, Some(5.0), GROWTH, narrow));
    let name = "pod of this node whose policy means a tenth of the cluster";
    figures.extend(come_and_go(name, compiler, Some(5.0), None, broad));
    let numbers: Vec<u32> = namespaces.iter().take(50).map(|it| it[3..].parse().unwrap()).collect();
    let namespaces = || numbers.iter().copied();
    let slices =
        namespaces().map(|it| Change::EndpointSlice(serde_json::from_value(slice(it, 3, size, 1)).unwrap()));
    figures.extend(events("endpoint not ready", compiler, None, slices));
    let gone = namespaces().map(|it| Change::PolicyGone(ObjectName::new(format!("ns-{it}"), "policy-2")));
    figures.extend(events("policy of a namespace gone", compiler, None, gone));
    let teams = namespaces().map(|it| Change::Namespace(namespace_with(it, it % 10 + 1)));
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

/// Of what an event costs, in a cluster ten times as large.
const GROWTH: Option<f64> = Some(2.0);
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
        // How it grows: against the same figure at the size of the goal. With more nodes, too, what a node has to do with
        // stays the same.
        let is_tenfold = (size.pods, size.nodes) == (10 * GOAL_SIZE.pods, 10 * GOAL_SIZE.nodes);
        for (it, base) in measured_apart(size).iter().zip(&base) {
            let name = format!("policy, {} pods on {} nodes: {}", size.pods, size.nodes, it.name);
            let goal = it.growth.filter(|_| is_tenfold).map_or_else(
                || "-".to_owned(),
                |most| format!("<= {most}: {}", if it.value <= most * base.value { "met" } else { "MISSED" }),
            );
            line(&name, it.unit, it.value, Some((base.value, " (10000 pods)")), &goal);
        }
    }
}
