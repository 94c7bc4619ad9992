//! Policies that pile up, change, go; labels that change under them. Each case's steps are taken beside those of the others.

use serde_json::json;
use tests::policy_lab::Kind;

use crate::cases::{Case, from, namespace, pod, policy, step, to};
use crate::matrix::Change;

pub fn cases() -> Vec<Case> {
    vec![stacked(), updated(), namespace_labels(), pod_labels()]
}

/// "should enforce multiple, stacked policies with overlapping podSelectors", "should stop enforcing policies after they are
/// deleted".
fn stacked() -> Case {
    let own = |name: &str, ports| {
        let rules = json!([{"from": [{"podSelector": pod("b")}], "ports": ports}]);
        Change::Apply("x", policy(name, &json!({"podSelector": pod("a"), "ingress": rules})))
    };
    let steps = vec![
        step(
            vec![
                own("tcp", json!([{"port": 80}])),
                own("udp", json!([{"protocol": "UDP", "port": 81}])),
                Change::Apply("x", policy("rest", &json!({"podSelector": {}, "policyTypes": ["Ingress"]}))),
            ],
            |it| {
                it.to.ns != "x"
                    || (it.to.pod == "a"
                        && it.from.is("x/b")
                        && [Kind::Tcp(80), Kind::Udp(81)].contains(&it.kind))
            },
        ),
        step(vec![Change::Delete("x", "tcp"), Change::Delete("x", "rest")], |it| {
            !it.to.is("x/a") || (it.from.is("x/b") && it.kind == Kind::Udp(81))
        }),
        step(vec![Change::Delete("x", "udp")], |_| true),
    ];
    Case { name: "stacked policies", steps, more: Vec::new() }
}

/// "should enforce updated policy": its rules, whom it selects, its direction.
fn updated() -> Case {
    let rule = |ns| json!([{"from": [{"namespaceSelector": namespace(ns)}]}]);
    let of = |spec| Change::Apply("y", policy("to-a", &spec));
    let steps = vec![
        step(vec![to("y/a", &rule("z"))], |it| !it.to.is("y/a") || it.from.ns == "z"),
        step(vec![to("y/a", &rule("x"))], |it| !it.to.is("y/a") || it.from.ns == "x"),
        step(
            vec![of(json!({"podSelector": pod("b"), "policyTypes": ["Ingress"], "ingress": rule("x")}))],
            |it| !it.to.is("y/b") || it.from.ns == "x",
        ),
        step(vec![of(json!({"podSelector": pod("b"), "policyTypes": ["Egress"], "egress": []}))], |it| {
            !it.from.is("y/b")
        }),
    ];
    Case { name: "an update of a policy", steps, more: Vec::new() }
}

/// "should allow ingress access from updated namespace", and its loss.
fn namespace_labels() -> Case {
    let steps = vec![
        step(
            vec![to("y/c", &json!([{"from": [{"namespaceSelector": {"matchLabels": {"team": "blue"}}}]}]))],
            |it| !it.to.is("y/c"),
        ),
        step(vec![Change::LabelNamespace("z", json!({"team": "blue"}))], |it| {
            !it.to.is("y/c") || it.from.ns == "z"
        }),
        step(
            vec![
                Change::LabelNamespace("z", json!({"team": null})),
                Change::LabelNamespace("x", json!({"team": "blue"})),
            ],
            |it| !it.to.is("y/c") || it.from.ns == "x",
        ),
    ];
    Case { name: "an update of a namespace's labels", steps, more: Vec::new() }
}

/// "should allow ingress access from updated pod", "should deny ingress access to updated pod", of egress as well.
fn pod_labels() -> Case {
    let isolated = json!({"matchLabels": {"isolated": "yes"}});
    let friends = json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"friend": "yes"}}});
    let steps = vec![
        step(
            vec![
                Change::Apply(
                    "z",
                    policy("by-label", &json!({"podSelector": isolated, "ingress": [{"from": [friends]}]})),
                ),
                from("z/c", &json!([{"to": [{"podSelector": isolated}]}])),
            ],
            |it| !it.from.is("z/c"),
        ),
        step(vec![Change::LabelPod("z/b", json!({"isolated": "yes"}))], |it| {
            !it.from.is("z/c") && !it.to.is("z/b")
        }),
        step(
            vec![
                Change::LabelPod("y/a", json!({"friend": "yes"})),
                Change::LabelPod("z/c", json!({"friend": "yes"})),
            ],
            |it| {
                if it.from.is("z/c") { it.to.is("z/b") } else { !it.to.is("z/b") || it.from.is("y/a") }
            },
        ),
        step(
            vec![
                Change::LabelPod("y/a", json!({"friend": null})),
                Change::LabelPod("z/b", json!({"isolated": null})),
                Change::LabelPod("z/a", json!({"isolated": "yes"})),
            ],
            |it| if it.from.is("z/c") { it.to.is("z/a") } else { !it.to.is("z/a") },
        ),
    ];
    Case { name: "an update of pods' labels", steps, more: Vec::new() }
}
