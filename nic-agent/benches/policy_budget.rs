//! What the worst objects cost that the API server takes: time and memory against size, within the budget and beyond it.
//!
//! A line's peer is the same at half the size: twice as much is linear. What is within a budget is compiled with one that
//! is large enough; "refused" is with the default one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_precision_loss)] // figures for people

use std::hint::black_box;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use kube_services::{Limits, Served};
use nic_agent::policy::{Budget, Change, Compiler, Cost, Settings, Snapshot};
use offload::policy::PrefixSet;
use serde_json::{Value, json};

fn large() -> Budget {
    let most = Cost { bytes: 1 << 40, rules: 1 << 40, prefixes: 1 << 40, ports: 1 << 40 };
    let served = Served { ports: 1 << 40, endpoints: 1 << 40 };
    Budget {
        policy: most,
        namespace: most,
        services: Limits { service: served, namespace: served },
        pod_flows: 1 << 40,
        pod_service_flows: 1 << 40,
    }
}

fn read(items: &[Value]) -> Vec<Change> {
    let text = json!({"items": items}).to_string();
    Snapshot::parse(std::path::Path::new("bench"), text.as_bytes()).unwrap().into_changes().collect()
}

/// A namespace with a pod of this node's.
fn compiler(budget: Budget) -> Compiler {
    let mut compiler = Compiler::new(
        Settings { node: "n".into(), zone: "".into(), node_addresses: PrefixSet::default(), budget },
        Snapshot::default(),
    );
    compiler.apply_all(read(&[
        json!({"kind": "Namespace", "metadata": {"name": "a"}}),
        json!({"kind": "Pod", "metadata": {"namespace": "a", "name": "pod", "uid": "u"},
            "spec": {"nodeName": "n", "containers": []}, "status": {"podIPs": [{"ip": "10.0.0.1"}]}}),
    ]));
    compiler
}

fn policy(name: usize, spec: &Value) -> Value {
    json!({"kind": "NetworkPolicy", "metadata": {"namespace": "a", "name": format!("p{name}"), "uid": format!("p{name}")}, "spec": spec})
}

/// Spread, so that none of them can be said together with another.
fn holes(count: u32) -> Vec<String> {
    (0..count)
        .map(|it| format!("{}/32", std::net::Ipv4Addr::from(it.wrapping_mul(0x9e37_79b1) | 1)))
        .collect()
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// The best of three.
fn timed<T>(mut work: impl FnMut() -> (T, Duration)) -> (T, f64) {
    let mut best = work();
    for _ in 0..2 {
        let again = work();
        if again.1 < best.1 {
            best = again;
        }
    }
    (best.0, best.1.as_secs_f64() * 1e3)
}

/// Milliseconds for the changes, flows of the pod, reports.
fn applied(budget: Budget, items: &[Value]) -> (usize, usize, f64) {
    let ((flows, reports), time) = timed(|| {
        let (mut compiler, changes) = (compiler(budget), read(items));
        let start = Instant::now();
        black_box(compiler.apply_all(changes));
        let time = start.elapsed();
        let policy = compiler.compiled("u").unwrap();
        ((policy.egress.size() + policy.ingress.size(), compiler.reports().len()), time)
    });
    (flows, reports, time)
}

/// One line for each size.
fn grow(name: &str, sizes: &[u32], mut cost: impl FnMut(u32) -> (String, f64)) {
    let mut half: Option<f64> = None;
    for size in sizes {
        let (what, ours) = cost(*size);
        let (peer, ratio) = half.map_or_else(
            || ("-".to_owned(), "-".to_owned()),
            |half| (format!("{half:.3} ms (half of it)"), format!("{:.3}", ours / half)),
        );
        println!("bench\tbudget, {size} {name}: {what}\t{ours:.3} ms\t{peer}\t{ratio}\t-");
        half = Some(ours);
    }
}

fn block(count: u32) -> Value {
    json!({"podSelector": {}, "policyTypes": ["Egress"],
        "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": holes(count)}}]}]})
}

fn services(count: u32, ports: u16) -> Vec<Value> {
    let of = |it: u32| {
        let ports: Vec<Value> = (1..=ports).map(|it| json!({"name": format!("p{it}"), "port": it})).collect();
        let ip = std::net::Ipv4Addr::from(0x0a60_0000 + it * 5 + 1);
        json!({"kind": "Service", "metadata": {"namespace": "t", "name": format!("s{it}")},
            "spec": {"clusterIPs": [ip.to_string()], "ports": ports}})
    };
    (0..count).map(of).collect()
}

fn main() {
    let is_bench = std::env::args().any(|it| it == "--bench");
    let sizes = |all: &'static [u32]| if is_bench { all } else { &all[..1] };
    let within = |items: &[Value]| {
        let (flows, _, time) = applied(large(), items);
        (format!("{flows} flows"), time)
    };
    let refused = |items: &[Value]| {
        let (flows, reports, time) = applied(Budget::default(), items);
        (format!("default budget, {flows} flows, {reports} reports"), time)
    };

    let excepts = sizes(&[2_000, 4_000, 8_000, 16_000]);
    grow("excepts, set difference alone", excepts, |count| {
        let holes: PrefixSet = holes(count).iter().map(|it| it.parse::<IpNet>().unwrap()).collect();
        let whole = PrefixSet::from("0.0.0.0/0".parse::<IpNet>().unwrap());
        let (left, time) = timed(|| {
            let start = Instant::now();
            let left = black_box(whole.difference(&holes));
            (left.len(), start.elapsed())
        });
        (format!("{left} prefixes"), time)
    });
    grow("excepts", excepts, |count| within(&[policy(0, &block(count))]));
    grow("excepts", excepts, |count| refused(&[policy(0, &block(count))]));

    let rules = sizes(&[1_000, 2_000, 4_000, 8_000]);
    let with_rules = |count: u32| {
        let rules: Vec<Value> = (1..=count).map(|it| json!({"ports": [{"port": it}]})).collect();
        [policy(0, &json!({"podSelector": {}, "ingress": rules}))]
    };
    grow("rules", rules, |count| within(&with_rules(count)));
    grow("rules", rules, |count| refused(&with_rules(count)));

    let ports = sizes(&[500, 1_000, 2_000]);
    let broad = json!({"podSelector": {}, "policyTypes": ["Egress"],
        "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}]}]});
    let with_services = |ports: u32| -> Vec<Value> {
        services(50, u16::try_from(ports).unwrap()).into_iter().chain([policy(0, &broad)]).collect()
    };
    grow("ports of each of 50 foreign Services, broad egress", ports, |ports| within(&with_services(ports)));
    grow("ports of each of 50 foreign Services, broad egress", ports, |ports| refused(&with_services(ports)));

    // As the API server sends it: text. What is kept of it, and what reading it took at most.
    let mut compiler = compiler(Budget::default());
    let before = resident();
    let text = format!(
        r#"{{"kind": "NetworkPolicy", "metadata": {{"namespace": "a", "name": "p", "uid": "u"}}, "spec": {{"podSelector": {{}}, "ingress": [{}]}}}}"#,
        vec!["{}"; 500_000].join(",")
    );
    for number in 0..if is_bench { 32 } else { 1 } {
        let mut policy: nic_agent::policy::Policy = serde_json::from_str(&text).unwrap();
        policy.name.name = format!("p{number}").into();
        compiler.apply(Change::Policy(policy));
    }
    drop(text);
    let kept = resident().saturating_sub(before) as f64 / f64::from(1 << 20);
    println!(
        "bench\tbudget, 32 policies of 1.5 MB each, ingress: [{{}},{{}},…]: kept\t{kept:.1} MiB\t256 MiB (MemoryMax)\t{:.3}\t<= 0.1",
        kept / 256.0
    );
}
