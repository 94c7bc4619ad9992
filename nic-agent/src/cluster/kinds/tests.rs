//! What is kept of an object, kind by kind.

use serde_json::json;

use super::*;
use crate::cluster::object::Seen;

fn seen<K: Watched>(object: Value) -> Seen<K> {
    serde_json::from_value(object).unwrap()
}

#[test]
fn a_pod_is_trimmed_to_what_is_needed() {
    let pod = seen::<Pods>(json!({
        "metadata": {"namespace": "shop", "name": "web-0", "uid": "u1", "resourceVersion": "42",
            "labels": {"app": "web"}, "managedFields": [{"manager": "kubectl"}],
            "annotations": {"other": "long"}},
        "spec": {"nodeName": "server1", "hostNetwork": null,
            "containers": [{"name": "c", "image": "i", "env": [], "ports": [{"name": "http", "containerPort": 80}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}}));
    assert_eq!((pod.name().to_string(), pod.version()), ("shop/web-0".to_owned(), 42));
    let (pod, record) = pod.read().unwrap();
    assert_eq!((pod.ips.len(), pod.ports.len(), pod.labels.get("app")), (2, 1, Some("web")));
    assert_eq!(
        (record.uid.as_str(), record.node.as_str(), record.phase.as_str()),
        ("u1", "server1", "Running")
    );
}

#[test]
fn what_cannot_be_read_says_so_and_has_a_name() {
    let pod = seen::<Pods>(json!({"metadata": {"namespace": "a", "name": "b", "resourceVersion": "7"},
        "spec": {"containers": "ten"}}));
    assert_eq!((pod.name().to_string(), pod.version()), ("a/b".to_owned(), 7));
    assert!(pod.read().unwrap_err().contains("ten"));
    assert!(seen::<Namespaces>(json!({"metadata": 5})).read().is_err());
}

#[test]
fn what_is_too_large_to_be_read_denies() {
    let rules = vec![json!({"ports": [{"port": 1}]}); 68_000];
    let policy = seen::<NetworkPolicies>(json!({
        "metadata": {"namespace": "a", "name": "p", "uid": "u", "resourceVersion": "7"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": rules, "policyTypes": ["Ingress"]}}));
    let policy = policy.read().unwrap();
    assert!(policy.isolates.ingress && policy.ingress.is_empty() && policy.unkept.ingress.is_some());
    let many = |item: Value| vec![item; 68_000];
    let expression = json!({"key": "app", "operator": "In", "values": ["web"]});
    let policy = seen::<NetworkPolicies>(json!({"metadata": {"namespace": "a", "name": "p"},
        "spec": {"egress": many(json!({"ports": [{"port": 1}]})), "podSelector": {"matchExpressions": [expression]},
            "policyTypes": ["Egress"]}}));
    let policy = policy.read().unwrap();
    assert!(policy.isolates.egress && policy.egress.is_empty());
    assert_eq!(policy.selector, crate::policy::Selector::everything());
    let port = json!({"name": "p", "protocol": "TCP", "port": 1});
    let service = seen::<Services>(json!({"metadata": {"namespace": "a", "name": "s"},
        "spec": {"clusterIPs": ["10.0.0.1"], "ports": many(port.clone())}}));
    let service = service.read().unwrap();
    assert_eq!((service.cluster_ips.len(), service.ports.len()), (1, 0));
    assert!(service.ports_found > 10_000);
    let slice = seen::<EndpointSlices>(json!({"metadata": {"namespace": "a", "name": "s-1",
        "labels": {"kubernetes.io/service-name": "s"}}, "addressType": "IPv4", "ports": [port],
        "endpoints": many(json!({"addresses": ["10.0.0.1"], "conditions": {"ready": true}}))}));
    let slice = slice.read().unwrap();
    assert!(slice.is_cut && slice.service.as_deref() == Some("s"));
    let pod = json!({"metadata": {"namespace": "a", "name": "p"},
        "spec": {"containers": many(json!({"ports": []}))}});
    assert!(seen::<Pods>(pod).read().is_err());
}

#[test]
fn a_node_has_the_addresses_that_can_be_one() {
    let address = |kind: &str, address: &str| json!({"type": kind, "address": address});
    let node = seen::<OwnNode>(json!({"metadata": {"name": "n"}, "status": {"addresses": [
        address("Hostname", "10.0.0.9"), address("InternalIP", "10.0.0.1"), address("InternalIP", "fd00::1"),
        address("ExternalIP", "10.0.0.1"), address("InternalIP", "0.0.0.0"), address("InternalIP", "x")]}}));
    let ips = node.read().unwrap();
    assert_eq!(ips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1", "fd00::1"]);
}
