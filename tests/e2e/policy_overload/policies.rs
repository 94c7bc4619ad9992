//! Who may reach whom before and after policy is tightened.
//!
//! | | `b1`, which floods | `b2` | `a1`, `a2`, `a3`, `c1` |
//! |---|---|---|---|
//! | loose: to `a2`, `a3`, `c1` | the served ports, the flooded ones, and those between | everything | everything |
//! | tight | the ports between | nothing | everything |
//! | tight: from `a2`, `a3`, `c1` | nothing | nothing | everything |
//!
//! What the flood is denied lies between what it is allowed: OVS can cover no two of its ports by one megaflow, so each
//! needs one of its own, before the change and after it.

use serde_json::{Value, json};
use tests::PolicyLab;

/// Served by every pod of the lab: of connections that are kept busy, and of new ones.
pub const UDP: u16 = 53;
pub const TCP: u16 = 80;
pub const KNOCK: u16 = 79;

/// Whom it is about: one on the flooding pod's NIC, two on the other.
pub const RECEIVERS: [&str; 3] = ["a2", "a3", "c1"];
/// Denied in the end. The first one floods.
pub const DENIED: [&str; 2] = ["b1", "b2"];

const FIRST: u16 = 20_000;

/// What the flood is sent to.
pub fn flooded(ports: u16) -> impl Iterator<Item = u16> {
    (0..ports).map(|it| FIRST + 2 * it + 1)
}

fn between(ports: u16) -> impl Iterator<Item = u16> {
    (0..ports).map(|it| FIRST + 2 * it)
}

fn pods(names: &[&str]) -> Value {
    json!([{"namespaceSelector": {},
        "podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": names}]}}])
}

fn both_protocols(ports: impl Iterator<Item = u16>) -> Vec<Value> {
    let ports: Vec<u16> = ports.collect();
    let of = |protocol| ports.iter().map(move |port| json!({"protocol": protocol, "port": port}));
    of("TCP").chain(of("UDP")).collect()
}

/// Loose, then tight.
pub fn sets(lab: &PolicyLab, ports: u16) -> [Vec<Value>; 2] {
    let friends = pods(&["a1", "a2", "a3", "c1"]);
    let served = both_protocols([UDP, KNOCK, TCP].into_iter());
    let (flooded, between) = (both_protocols(flooded(ports)), both_protocols(between(ports)));
    let to_flooder = |ports: &[&[Value]]| json!({"from": pods(&DENIED[..1]), "ports": ports.concat()});
    let loose = json!({
        "podSelector": {},
        "ingress": [{"from": friends}, {"from": pods(&DENIED[1..])}, to_flooder(&[&served, &flooded, &between])],
    });
    let tight = json!({
        "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": friends}, to_flooder(&[&between])],
        "egress": [{"to": friends}],
    });
    [loose, tight].map(|spec| {
        let of = |namespace: &str| {
            let mut spec = spec.clone();
            let names: Vec<&str> = RECEIVERS.into_iter().filter(|it| it.starts_with(namespace)).collect();
            spec["podSelector"] =
                json!({"matchExpressions": [{"key": "app", "operator": "In", "values": names}]});
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"namespace": namespace, "name": "web", "uid": format!("{namespace}-web")},
                "spec": spec})
        };
        lab.objects().into_iter().chain(["a", "c"].map(of)).collect()
    })
}
