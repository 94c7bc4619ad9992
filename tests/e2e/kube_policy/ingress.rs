//! Who may reach a pod: other pods, namespaces, both, either, addresses.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::cases::{Case, case, namespace, pod, to};

pub fn alone(ip: IpAddr) -> String {
    format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 })
}

pub fn not_in(key: &str, value: &str) -> Value {
    json!({"matchExpressions": [{"key": key, "operator": "NotIn", "values": [value]}]})
}

/// Each pod has a policy of another kind.
pub fn cases(of: &dyn Fn(&str) -> [IpAddr; 2]) -> Vec<Case> {
    let ([one, _], [_, other]) = (of("x/c"), of("y/b"));
    let peers = |peers: Value| json!([{"from": peers}]);
    vec![
        // "should enforce policy based on PodSelector with MatchLabels": of the policy's own namespace.
        case("pods", vec![to("x/a", &peers(json!([{"podSelector": pod("b")}])))], |it| {
            !it.to.is("x/a") || it.from.is("x/b")
        }),
        // "should enforce policy based on PodSelector with MatchExpressions"
        case(
            "pods by expression",
            vec![to("x/b", &peers(json!([{"podSelector": not_in("pod", "c")}])))],
            |it| !it.to.is("x/b") || it.from.is("x/a"),
        ),
        // "should enforce policy to allow traffic from pods within server namespace based on … kubernetes.io/metadata.name"
        case(
            "namespace by its own name",
            vec![to(
                "x/c",
                &peers(
                    json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "conformance-y"}}}]),
                ),
            )],
            |it| !it.to.is("x/c") || it.from.ns == "y",
        ),
        // "should enforce policy based on NamespaceSelector with MatchExpressions"
        case(
            "namespaces by expression",
            vec![to(
                "y/a",
                &peers(json!([{"namespaceSelector":
                    {"matchExpressions": [{"key": "ns", "operator": "In", "values": ["x", "z"]}]}}])),
            )],
            |it| !it.to.is("y/a") || it.from.ns != "y",
        ),
        // "should enforce policy based on PodSelector and NamespaceSelector": one peer, both must hold.
        case(
            "pods and namespaces",
            vec![to("y/b", &peers(json!([{"namespaceSelector": namespace("z"), "podSelector": pod("a")}])))],
            |it| !it.to.is("y/b") || it.from.is("z/a"),
        ),
        // "should enforce policy based on PodSelector or NamespaceSelector": two peers, either suffices.
        case(
            "pods or namespaces",
            vec![to(
                "y/c",
                &peers(json!([{"namespaceSelector": namespace("z")}, {"podSelector": pod("a")}])),
            )],
            |it| !it.to.is("y/c") || it.from.ns == "z" || it.from.is("y/a"),
        ),
        // "should enforce policy to allow traffic from pods in all namespaces"
        case("all namespaces", vec![to("z/a", &peers(json!([{"namespaceSelector": {}}])))], |_| true),
        // "should allow ingress access from … CIDR block": the other family's address is not meant.
        case(
            "single addresses",
            vec![to(
                "z/b",
                &peers(json!([{"ipBlock": {"cidr": alone(one)}}, {"ipBlock": {"cidr": alone(other)}}])),
            )],
            |it| !it.to.is("z/b") || it.from.is(if it.v6 { "y/b" } else { "x/c" }),
        ),
        // A block of one family says nothing of the other.
        case("all of IPv4", vec![to("z/c", &peers(json!([{"ipBlock": {"cidr": "0.0.0.0/0"}}])))], |it| {
            !it.to.is("z/c") || !it.v6
        }),
    ]
}
