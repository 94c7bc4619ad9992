//! What compiling NetworkPolicy costs: one event, all of it, and memory. One line each: name, ours, limit, ratio, goal.
//!
//! A plain program: an event is a change of state, so the same one cannot be measured twice, which is what criterion
//! does. The cluster is made as clusters are: applications of ten pods, ten of them in a namespace, each with a Service;
//! ten policies in a namespace; pods spread over nodes that have a /24 each.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nic_agent::policy::{Change, Compiler, Namespace, ObjectName, Pod, Settings, Snapshot};
use serde_json::{Value, json};

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
    let mut snapshot = Snapshot::default();
    snapshot.pods = (0..size.pods).map(|it| pod(size, it)).collect();
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

fn line(name: &str, ours: Duration, limit: Option<Duration>) {
    let ms = |it: Duration| format!("{:.3} ms", it.as_secs_f64() * 1e3);
    let (limit_text, ratio, goal) = limit.map_or((String::from("-"), String::from("-"), "-"), |limit| {
        let ratio = ours.as_secs_f64() / limit.as_secs_f64();
        (ms(limit), format!("{ratio:.3}"), if ratio <= 1.0 { "met" } else { "MISSED" })
    });
    println!("{name:<52} {:>12} {limit_text:>12} {ratio:>7} {goal}", ms(ours));
}

/// Median and worst.
fn events(
    name: &str,
    compiler: &mut Compiler,
    limit: Option<Duration>,
    changes: impl IntoIterator<Item = Change>,
) {
    let mut affected = 0;
    let mut times: Vec<Duration> = changes
        .into_iter()
        .map(|change| {
            let start = Instant::now();
            affected += compiler.apply(change).pods.len();
            start.elapsed()
        })
        .collect();
    times.sort();
    let mean_affected = affected / times.len().max(1);
    line(&format!("{name}, median ({mean_affected} pods affected)"), times[times.len() / 2], limit);
    line(&format!("{name}, worst of {}", times.len()), times[times.len() - 1], limit);
}

fn measure(size: &Size, is_goal: bool) {
    let goal = |ms| is_goal.then(|| Duration::from_millis(ms));
    let settings = Settings {
        node: "node-1".into(),
        node_addresses: ["10.128.1.1".parse::<IpAddr>().unwrap()].into_iter().collect(),
    };
    let elsewhere = Settings { node: "nowhere".into(), ..settings.clone() };
    let empty = Snapshot {
        policies: Vec::new(),
        services: Vec::new(),
        slices: Vec::new(),
        namespaces: Vec::new(),
        pods: snapshot(size).pods,
    };
    let before = resident();
    let only_foreign = Compiler::new(elsewhere, empty);
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
    let locals = compiler.all_compiled().count();
    println!(
        "\n{} pods, {} policies, {} Services, {locals} local pods, {} sets of peers, {} origins, {} reports",
        size.pods,
        size.pods / 10,
        size.pods / 10,
        compiler.sets(),
        compiler.origins().iter().count(),
        compiler.reports().len(),
    );
    full.sort();
    line("full compile, median of 3", full[1], goal(200));
    println!("{:<52} {per_pod:>9} B", "memory for a foreign pod (grown resident size)");
    println!("{:<52} {:>9} KiB", "memory in all (resident size)", resident() / 1024);

    let step = (size.pods / 200).max(1);
    let chosen: Vec<Pod> =
        (0..size.pods).step_by(usize::try_from(step).unwrap()).map(|it| pod(size, it)).collect();
    events("pod gone", &mut compiler, goal(5), chosen.iter().map(|it| Change::PodGone(it.name.clone())));
    events("pod with an address", &mut compiler, goal(5), chosen.iter().cloned().map(Change::Pod));
    let relabelled = chosen.iter().map(|it| {
        let labels =
            it.labels.iter().filter(|(key, _)| *key != "role").map(|(k, v)| (k.to_owned(), v.to_owned()));
        Change::Pod(Pod { labels: labels.collect(), ..it.clone() })
    });
    events("pod with other labels", &mut compiler, goal(5), relabelled);
    let of_node: Vec<Pod> =
        (0..size.pods).map(|it| pod(size, it)).filter(|it| *it.node == *"node-1").take(100).collect();
    events(
        "pod of this node gone",
        &mut compiler,
        goal(5),
        of_node.iter().map(|it| Change::PodGone(it.name.clone())),
    );
    events("pod of this node", &mut compiler, goal(5), of_node.into_iter().map(Change::Pod));
    let namespaces = 0..(size.pods / 100).min(100);
    let slices = namespaces
        .clone()
        .map(|it| Change::EndpointSlice(serde_json::from_value(slice(it, 3, size, 1)).unwrap()));
    events("endpoint not ready", &mut compiler, None, slices);
    let gone =
        namespaces.clone().map(|it| Change::PolicyGone(ObjectName::new(format!("ns-{it}"), "policy-2")));
    events("policy of a namespace gone", &mut compiler, None, gone);
    let teams = namespaces.map(|it| Change::Namespace(namespace_with(it, it % 10 + 1)));
    events("namespace with other labels", &mut compiler, None, teams);
}

fn main() {
    // `cargo test --benches` runs this too: a look at a small one is enough there.
    if !std::env::args().any(|it| it == "--bench") {
        measure(&Size { pods: 1000, nodes: 10 }, false);
        return;
    }
    println!("{:<52} {:>12} {:>12} {:>7} goal", "name", "ours", "limit", "ratio");
    for (pods, nodes, is_goal) in
        [(1000, 10, false), (10_000, 100, true), (100_000, 1000, false), (100_000, 100, false)]
    {
        measure(&Size { pods, nodes }, is_goal);
    }
}
