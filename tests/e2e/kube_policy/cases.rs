//! The cases. What is right stands beside each, and the e2e suite's own test (`test/e2e/network/netpol`) where there is one.
//!
//! A table costs seconds, so cases share one: each has pods, or a namespace, of its own, and what it restricts is only what
//! reaches these, or what they send. A cell is then judged by the one case whose it is.

use std::net::IpAddr;

use serde_json::{Value, json};
use tests::policy_lab::Kind;

use crate::matrix::{Cell, Change, Who};
use crate::{changes, egress, ingress, ports};

/// Some changes, and who reaches whom then, as far as this case has a say.
pub struct Step {
    pub changes: Vec<Change>,
    pub allowed: Box<dyn Fn(&Cell) -> bool>,
}

pub struct Case {
    pub name: &'static str,
    pub steps: Vec<Step>,
    /// Kinds beyond those of the table, to and from these pods.
    pub more: Vec<(Who, Kind)>,
}

/// Cases that share tables: the first steps of all, the second ones, and so on.
pub struct Group {
    pub name: &'static str,
    pub cases: Vec<Case>,
}

pub fn policy(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec})
}

/// The pods of this name.
pub fn pod(name: &str) -> Value {
    json!({"matchLabels": {"pod": name}})
}

pub fn namespace(name: &str) -> Value {
    json!({"matchLabels": {"ns": name}})
}

/// Ingress to this pod, in a policy of its name.
pub fn to(who: &str, rules: &Value) -> Change {
    let who = Who::named(who);
    let spec = json!({"podSelector": pod(who.pod), "policyTypes": ["Ingress"], "ingress": rules});
    Change::Apply(who.ns, policy(&format!("to-{}", who.pod), &spec))
}

/// Egress of this pod.
pub fn from(who: &str, rules: &Value) -> Change {
    let who = Who::named(who);
    let spec = json!({"podSelector": pod(who.pod), "policyTypes": ["Egress"], "egress": rules});
    Change::Apply(who.ns, policy(&format!("from-{}", who.pod), &spec))
}

pub fn step(changes: Vec<Change>, allowed: impl Fn(&Cell) -> bool + 'static) -> Step {
    Step { changes, allowed: Box::new(allowed) }
}

/// Of one step.
pub fn case(name: &'static str, changes: Vec<Change>, allowed: impl Fn(&Cell) -> bool + 'static) -> Case {
    Case { name, steps: vec![step(changes, allowed)], more: Vec::new() }
}

/// With further kinds.
pub fn with(mut case: Case, who: &str, kinds: &[Kind]) -> Case {
    case.more.extend(kinds.iter().map(|kind| (Who::named(who), *kind)));
    case
}

/// `addresses`: of each pod, in the order of `Who::ALL`.
pub fn groups(addresses: &[[IpAddr; 2]]) -> Vec<Group> {
    let of = |who: &str| addresses[Who::ALL.iter().position(|it| it.is(who)).expect("a pod")];
    let open = case("no policy", Vec::new(), |_| true);
    vec![
        Group { name: "ingress, peers", cases: ingress::cases(&of) },
        Group { name: "ingress, ports", cases: ports::ingress() },
        Group { name: "egress", cases: egress::cases(&of).into_iter().chain(ports::egress()).collect() },
        Group { name: "whole namespaces", cases: whole_namespaces() },
        Group { name: "both directions", cases: both_directions() },
        Group { name: "changes", cases: changes::cases() },
        Group { name: "all deleted", cases: vec![open] },
    ]
}

fn all(types: &Value) -> Value {
    policy("deny", &json!({"podSelector": {}, "policyTypes": types}))
}

fn whole_namespaces() -> Vec<Case> {
    vec![
        // "should support a 'default-deny-ingress' policy"
        case("default deny, ingress", vec![Change::Apply("x", all(&json!(["Ingress"])))], |it| {
            it.to.ns != "x"
        }),
        // "should deny egress from all pods in a namespace"
        case("default deny, egress", vec![Change::Apply("y", all(&json!(["Egress"])))], |it| {
            it.from.ns != "y"
        }),
        // "should support allow-all policy", over a denial: what is allowed adds up.
        case(
            "allow all ingress over default deny of both",
            vec![
                Change::Apply("z", all(&json!(["Ingress", "Egress"]))),
                Change::Apply(
                    "z",
                    policy("allow", &json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]})),
                ),
            ],
            |it| it.from.ns != "z",
        ),
    ]
}

fn both_directions() -> Vec<Case> {
    vec![
        // "should support a 'default-deny-all' policy"
        case("default deny, both", vec![Change::Apply("x", all(&json!(["Ingress", "Egress"])))], |it| {
            it.from.ns != "x" && it.to.ns != "x"
        }),
        // "should work with Ingress, Egress specified together", in one policy.
        case(
            "both directions in one policy",
            vec![Change::Apply(
                "y",
                policy(
                    "both",
                    &json!({"podSelector": pod("a"), "policyTypes": ["Ingress", "Egress"],
                        "ingress": [{"from": [{"namespaceSelector": namespace("z")}], "ports": [{"port": 80}]}],
                        "egress": [{"to": [{"podSelector": {}}]}]}),
                ),
            )],
            |it| {
                (!it.to.is("y/a") || (it.from.ns == "z" && it.kind == Kind::Tcp(80)))
                    && (!it.from.is("y/a") || it.to.ns == "y")
            },
        ),
        // "should enforce egress policy …" where both ends must allow it: each end another namespace's policy.
        case(
            "a policy at either end",
            vec![
                from("z/a", &json!([{"to": [{"namespaceSelector": namespace("y")}]}])),
                to(
                    "y/b",
                    &json!([{"from": [{"namespaceSelector": namespace("z"), "podSelector": pod("b")}]}]),
                ),
                to(
                    "y/c",
                    &json!([{"from": [{"namespaceSelector": namespace("z"), "podSelector": pod("a")}]}]),
                ),
            ],
            |it| {
                let may_send = !it.from.is("z/a") || it.to.ns == "y";
                let may_receive = match it.to.to_string().as_str() {
                    "y/b" => it.from.is("z/b"),
                    "y/c" => it.from.is("z/a"),
                    _ => true,
                };
                may_send && may_receive
            },
        ),
    ]
}
