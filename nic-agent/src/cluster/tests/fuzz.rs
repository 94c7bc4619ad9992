//! Objects that went wrong, from an API server that knows no schema: whatever it sends, the watches go on, and what can be
//! read is in force.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;
use crate::cluster::own_node::{self, Own};
use crate::cluster::testing::mutation::{mutate, mutations};

const ROUNDS: usize = 150;

/// One of each kind that is watched.
fn objects() -> Vec<(&'static str, Value)> {
    vec![
        ("pods", pod("web", "u-web", "server1", "10.0.0.1")),
        ("pods", pod("db", "u-db", "server2", "10.0.0.2")),
        ("namespaces", json!({"kind": "Namespace", "metadata": {"name": "shop", "labels": {"a": "b"}}})),
        (
            "networkpolicies",
            json!({"kind": "NetworkPolicy", "metadata": {"namespace": "shop", "name": "q", "uid": "q"},
                "spec": {"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]},
                    "policyTypes": ["Ingress", "Egress"],
                    "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
                        "ports": [{"protocol": "TCP", "port": 80, "endPort": 90}]}]}}),
        ),
        (
            "services",
            json!({"kind": "Service", "metadata": {"namespace": "shop", "name": "web"},
                "spec": {"clusterIPs": ["10.96.0.1"], "selector": {"app": "web"},
                    "ports": [{"port": 80, "protocol": "TCP", "targetPort": "http"}]}}),
        ),
        (
            "endpointslices",
            json!({"kind": "EndpointSlice", "addressType": "IPv4", "metadata": {"namespace": "shop", "name": "web-1",
                "labels": {"kubernetes.io/service-name": "web"}},
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}],
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}),
        ),
        (
            "nodes",
            json!({"kind": "Node", "metadata": {"name": "server1", "uid": "u-server1"},
                "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}),
        ),
        (
            "nicnodes",
            json!({"kind": "NicNode", "metadata": {"name": "server3"}, "spec": {"nodeName": "server3"}}),
        ),
        ("noderanges", ranges("server2", "10.0.0.0/24")),
        (
            "podattachments",
            json!({"kind": "PodAttachment", "metadata": {"namespace": "shop", "name": "far-eth0"},
                "spec": {"pod": {"name": "far", "uid": "u-far"}, "nodeName": "server3"},
                "status": {"ips": ["10.0.0.9"]}}),
        ),
    ]
}

/// All that the API server has said was heard, and then what is known is right.
async fn heard_and(bench: &Bench, is: impl Fn(&Known) -> bool) {
    let newest = |plural: &str| format!("{plural}={}", bench.api.newest(plural));
    let kinds =
        ["pods", "namespaces", "networkpolicies", "services", "endpointslices", "nodes", "noderanges"];
    let right = async {
        loop {
            // Versions alone wake nobody.
            if let Policies::Known(known) = &*bench.cluster.policies.borrow()
                && kinds.iter().all(|it| known.source.split(' ').any(|word| word == newest(it)))
                && is(known)
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, right).await;
    assert!(waited.is_ok(), "{:?}", bench.cluster.policies.borrow());
}

#[tokio::test]
async fn the_reading_part_outlives_every_object() {
    let bench = filled().await;
    let mut runner = TestRunner::deterministic();
    for round in 0..ROUNDS {
        for (plural, mut object) in objects() {
            let edits = mutations().new_tree(&mut runner).unwrap().current();
            for part in ["/spec", "/status", "/endpoints", "/ports", "/metadata/labels"] {
                mutate(&mut object, part, &edits);
            }
            bench.api.put(plural, object);
        }
        if round % 10 == 9 {
            // Good ones again: nothing of what went wrong stays.
            bench.api.delete("networkpolicies", "shop/q");
            bench.api.delete("nicnodes", "/server3");
            fill(&bench.api);
            heard_and(&bench, as_filled).await;
            assert_eq!(bench.claim("web", "u-web").await, "believed");
        }
    }
    // An edit that cannot be read leaves what was there before.
    let mut odd = policy("p", "cache");
    odd["spec"]["ingress"] = json!("all");
    bench.api.put("networkpolicies", odd);
    // In the same watch, behind it.
    bench.api.put(
        "networkpolicies",
        json!({"kind": "NetworkPolicy",
        "metadata": {"namespace": "shop", "name": "r", "uid": "r"},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"]}}),
    );
    heard_and(&bench, |it| as_filled(it) && web(it).is_some_and(|it| !it.egress.is_open())).await;
}

#[tokio::test]
async fn our_nic_node_is_followed_through_every_edit() {
    let api = FakeApi::start().await;
    let dir = tempfile::tempdir().unwrap();
    let access = client::Access::load(&api.kubeconfig(dir.path(), "secret")).await.unwrap();
    let (publish, mut own) = channel::channel(Own::default());
    let following = access.client().unwrap();
    tokio::spawn(async move { own_node::follow(following, "server1", &publish).await });
    let node = |generation: usize| {
        json!({"apiVersion": "drawbridge.dev/v1alpha1", "kind": "NicNode",
            "metadata": {"name": "server1", "generation": generation},
            "spec": {"nodeName": "server1", "mtu": 1400, "profile": {"kind": "KubeOVN"}, "ovn": {
                "remotes": ["tcp:192.0.2.10:6642"],
                "encapsulation": {"types": ["Geneve"], "addresses": ["192.0.2.1"]}}},
            "status": {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True", "reason": "R",
                "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
    };
    let mut runner = TestRunner::deterministic();
    let mut unreadable = 0;
    for round in 1..=ROUNDS {
        let mut object = node(round);
        let edits = mutations().new_tree(&mut runner).unwrap().current();
        for part in ["/spec", "/status"] {
            mutate(&mut object, part, &edits);
        }
        api.put("nicnodes", object);
        let is_it =
            |own: &Own| matches!(own, Own::Known(it) if it.metadata.generation == i64::try_from(round).ok());
        let wait = own.wait_for(is_it);
        let seen = tokio::time::timeout(PATIENCE, wait).await.expect("followed").unwrap().clone();
        let Own::Known(seen) = seen else { panic!("{seen:?}") };
        unreadable += usize::from(seen.spec.is_err());
        assert!(!edits.is_empty() || seen.spec.is_ok());
    }
    assert!((ROUNDS / 10..ROUNDS).contains(&unreadable), "{unreadable} unreadable of {ROUNDS}");
}
