//! Which ports are meant: by number, by name, ranges, protocols.

use serde_json::json;
use tests::policy_lab::Kind;

use crate::cases::{Case, case, from, namespace, pod, policy, to, with};
use crate::matrix::{Cell, Change};

/// The kernel's own SCTP, on the same ports.
pub const SCTP: &[Kind] = &[Kind::Sctp(80), Kind::Sctp(81)];

fn is_tcp(kind: Kind, ports: std::ops::RangeInclusive<u16>) -> bool {
    matches!(kind, Kind::Tcp(port) if ports.contains(&port))
}

/// As the pods' named ports are: see `Who::ports`.
fn is_web(it: &Cell) -> bool {
    it.kind == Kind::Tcp(if it.to.pod == "a" { 80 } else { 81 })
}

fn is_dns(it: &Cell) -> bool {
    it.kind == Kind::Udp(if it.to.pod == "a" { 81 } else { 80 })
}

pub fn ingress() -> Vec<Case> {
    let from_y = json!([{"namespaceSelector": namespace("y")}]);
    vec![
        // "should enforce policy based on Ports", "… allowing any port traffic to a server on a specific protocol"
        case(
            "a port, and all of a protocol",
            vec![to(
                "x/a",
                &json!([
                    {"from": from_y, "ports": [{"port": 81}]},
                    {"from": [{"podSelector": {}}], "ports": [{"protocol": "UDP"}]}]),
            )],
            |it| {
                !it.to.is("x/a")
                    || (it.from.ns == "y" && it.kind == Kind::Tcp(81))
                    || (it.from.ns == "x" && matches!(it.kind, Kind::Udp(_)))
            },
        ),
        // "should enforce policy with EndPort"
        with(
            case(
                "endPort, ingress",
                vec![to("x/b", &json!([{"from": from_y, "ports": [{"port": 80, "endPort": 82}]}]))],
                |it| !it.to.is("x/b") || (it.from.ns == "y" && is_tcp(it.kind, 80..=82)),
            ),
            "x/b",
            &[Kind::Tcp(79), Kind::Tcp(82), Kind::Tcp(83), Kind::Udp(82)],
        ),
        // "should properly isolate pods that are selected by a policy allowing SCTP", "should not mistakenly treat
        // 'protocol: SCTP' as 'protocol: TCP'"
        with(
            case(
                "SCTP, ingress",
                vec![to("x/c", &json!([{"from": from_y, "ports": [{"protocol": "SCTP", "port": 80}]}]))],
                |it| !it.to.is("x/c") || (it.from.ns == "y" && it.kind == Kind::Sctp(80)),
            ),
            "x/c",
            SCTP,
        ),
        // "should allow ingress access on one named port": of every pod of the namespace, in each another number.
        case(
            "named ports, ingress",
            vec![Change::Apply(
                "y",
                policy(
                    "named",
                    &json!({"podSelector": {}, "ingress": [{"ports": [{"port": "web"}, {"protocol": "UDP", "port": "dns"}]}]}),
                ),
            )],
            |it| it.to.ns != "y" || is_web(it) || is_dns(it),
        ),
        // "should enforce multiple ingress policies with ingress allow-all policy taking precedence" has no peers; ports here.
        case(
            "ports from everywhere",
            vec![Change::Apply(
                "z",
                policy(
                    "ports",
                    &json!({"podSelector": {}, "ingress": [
                        {"ports": [{"protocol": "TCP", "port": 80}, {"protocol": "UDP", "port": 81}]}]}),
                ),
            )],
            |it| it.to.ns != "z" || [Kind::Tcp(80), Kind::Udp(81)].contains(&it.kind),
        ),
    ]
}

pub fn egress() -> Vec<Case> {
    vec![
        // "should allow egress access on one named port": the receiver's own number; a name that nobody has allows nothing.
        case(
            "named ports, egress",
            vec![from(
                "y/a",
                &json!([
                    {"to": [{"namespaceSelector": namespace("z")}], "ports": [{"port": "web"}]},
                    {"to": [{"podSelector": pod("b")}], "ports": [{"protocol": "UDP", "port": "dns"}, {"port": "none"}]}]),
            )],
            |it| !it.from.is("y/a") || (it.to.ns == "z" && is_web(it)) || (it.to.is("y/b") && is_dns(it)),
        ),
        case(
            "endPort, egress",
            vec![from("y/b", &json!([{"ports": [{"protocol": "UDP", "port": 81, "endPort": 65535}]}]))],
            |it| !it.from.is("y/b") || it.kind == Kind::Udp(81),
        ),
        with(
            case(
                "SCTP, egress",
                vec![from(
                    "y/c",
                    &json!([{"ports": [{"protocol": "TCP", "port": 80}, {"protocol": "SCTP", "port": 81}]}]),
                )],
                |it| !it.from.is("y/c") || [Kind::Tcp(80), Kind::Sctp(81)].contains(&it.kind),
            ),
            "y/c",
            SCTP,
        ),
    ]
}
