//! The cluster that is measured, made as clusters are.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use nic_agent::policy::{Namespace, Pod, Snapshot};
use serde_json::{Value, json};

#[derive(Debug)]
pub struct Size {
    pub pods: u32,
    pub nodes: u32,
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

pub fn pod(size: &Size, index: u32) -> Pod {
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

pub fn slice(namespace: u32, app: u32, size: &Size, skip: u32) -> Value {
    let first = namespace * 100 + app * 10;
    let endpoints: Vec<Value> =
        (first + skip..first + 10).map(|it| json!({"addresses": [place(size, it).1.to_string()]})).collect();
    json!({"metadata": {"namespace": format!("ns-{namespace}"), "name": format!("app-{app}-x"),
            "labels": {"kubernetes.io/service-name": format!("app-{app}")}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080}]})
}

pub fn snapshot(size: &Size) -> Snapshot {
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

pub fn namespace_with(namespace: u32, team: u32) -> Namespace {
    let name: Arc<str> = format!("ns-{namespace}").into();
    let labels = [
        ("kubernetes.io/metadata.name".to_owned(), name.to_string()),
        ("team".to_owned(), format!("team-{team}")),
    ];
    Namespace { labels: labels.into_iter().collect(), name }
}
