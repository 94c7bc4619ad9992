//! The named cases: what the policies are, what must come of them, and which rule must be in the tables for it.

use serde_json::{Value, json};
use tests::policy_lab::Kind::{self, Echo, Tcp, Udp};

/// Who to whom, how, and whether it gets there, written down by hand, so that an oracle that errs is noticed, too.
pub type Cell = (&'static str, &'static str, Kind, bool);

pub struct Case {
    pub name: &'static str,
    pub policies: Vec<Value>,
    /// What is tried from each pod to each.
    pub all: Kind,
    pub cells: Vec<Cell>,
    /// By the text that leads back to it.
    pub rules: &'static [&'static str],
}

pub fn policy(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": name, "uid": format!("{namespace}-{name}")},
        "spec": spec,
    })
}

pub fn app(name: &str) -> Value {
    json!({"matchLabels": {"app": name}})
}

/// `a1` is a client and `a2` and `a3` are web servers, all in one namespace; `b1` and `b2` are in another, `b1` a client
/// as well; `c1` is the name server. `a1`, `a2` and `b1` share a server, and so do the others.
pub fn cases() -> Vec<Case> {
    let mut cases = default_denies();
    cases.extend(peers());
    cases.extend(ports());
    cases
}

fn default_denies() -> Vec<Case> {
    let web = app("web");
    vec![
        Case {
            name: "default deny, ingress",
            policies: vec![policy("a", "deny-in", &json!({"podSelector": web, "policyTypes": ["Ingress"]}))],
            all: Tcp(80),
            cells: vec![
                ("a1", "a2", Tcp(80), false),
                ("a1", "a3", Echo, false),
                ("a3", "a2", Udp(53), false),
                ("a2", "a1", Tcp(80), true),
                ("a2", "b2", Udp(53), true),
            ],
            rules: &["a/deny-in ingress default deny"],
        },
        Case {
            name: "default deny, egress",
            policies: vec![policy("a", "deny-out", &json!({"podSelector": web, "policyTypes": ["Egress"]}))],
            all: Tcp(80),
            cells: vec![
                ("a2", "a1", Tcp(80), false),
                ("a3", "b1", Echo, false),
                ("a1", "a3", Tcp(80), true),
                ("b1", "a2", Udp(53), true),
            ],
            rules: &["a/deny-out egress default deny"],
        },
        Case {
            name: "default deny, both, for a whole namespace",
            policies: vec![policy(
                "a",
                "deny-all",
                &json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
            )],
            all: Tcp(80),
            cells: vec![
                ("a1", "a2", Tcp(80), false),
                ("b1", "a2", Echo, false),
                ("a3", "b1", Udp(53), false),
                ("b1", "b2", Tcp(80), true),
            ],
            rules: &["a/deny-all ingress default deny", "a/deny-all egress default deny"],
        },
    ]
}

fn peers() -> Vec<Case> {
    let web = app("web");
    let team_b = json!({"matchLabels": {"team": "b"}});
    let client = json!({"matchLabels": {"role": "client"}});
    let nested = json!({"podSelector": web, "policyTypes": ["Ingress"], "ingress": [{"from": [
        // host2's pods are taken out, two of them let in again, and one of these taken out.
        {"ipBlock": {"cidr": "10.244.0.0/16", "except": ["10.244.2.0/24"]}},
        {"ipBlock": {"cidr": "10.244.2.30/31", "except": ["10.244.2.31/32"]}},
        {"ipBlock": {"cidr": "fd00:10:244::/64", "except": ["fd00:10:244::2:0/112"]}},
        {"ipBlock": {"cidr": "fd00:10:244::2:30/127", "except": ["fd00:10:244::2:31/128"]}},
    ]}]});
    vec![
        Case {
            name: "allow from a namespace",
            policies: vec![policy(
                "a",
                "from-b",
                &json!({"podSelector": web, "ingress": [{"from": [{"namespaceSelector": team_b}]}]}),
            )],
            all: Tcp(80),
            cells: vec![
                ("b1", "a2", Tcp(80), true),
                ("b2", "a2", Echo, true),
                ("a1", "a2", Tcp(80), false),
                ("c1", "a3", Udp(53), false),
            ],
            rules: &["a/from-b ingress rule 1", "a/from-b ingress default deny"],
        },
        Case {
            name: "pod and namespace selector in one peer",
            policies: vec![policy(
                "a",
                "both",
                &json!({"podSelector": web, "ingress": [{"from": [
                    {"namespaceSelector": team_b, "podSelector": client}]}]}),
            )],
            all: Tcp(80),
            cells: vec![
                ("b1", "a2", Tcp(80), true),
                ("b1", "a3", Tcp(80), true),
                ("b2", "a2", Tcp(80), false),
                ("a1", "a2", Tcp(80), false),
            ],
            rules: &["a/both ingress rule 1"],
        },
        Case {
            name: "ipBlock except, nested",
            policies: vec![policy("a", "blocks", &nested)],
            all: Tcp(80),
            cells: vec![
                ("a1", "a2", Tcp(80), true),
                ("b1", "a3", Udp(53), true),
                ("a3", "a2", Tcp(80), true),
                ("b2", "a2", Tcp(80), false),
                ("c1", "a3", Udp(53), false),
            ],
            rules: &["a/blocks ingress rule 1"],
        },
    ]
}

fn ports() -> Vec<Case> {
    let web = app("web");
    let dns = json!([{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]);
    let name_server = json!({"namespaceSelector": {}, "podSelector": app("dns")});
    let range = json!([{"protocol": "TCP", "port": 80, "endPort": 82}]);
    let client = json!({"matchLabels": {"role": "client"}});
    let named = json!([{"port": "web"}]);
    vec![
        Case {
            name: "deny all egress except DNS",
            policies: vec![policy(
                "a",
                "only-dns",
                &json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [name_server], "ports": dns}]}),
            )],
            all: Tcp(53),
            cells: vec![
                ("a1", "c1", Udp(53), true),
                ("a3", "c1", Tcp(53), true),
                ("a1", "c1", Tcp(80), false),
                ("a1", "c1", Echo, false),
                ("a1", "a2", Udp(53), false),
                ("b1", "a2", Tcp(80), true),
            ],
            rules: &["a/only-dns egress rule 1", "a/only-dns egress default deny"],
        },
        Case {
            name: "endPort",
            policies: vec![policy("a", "range", &json!({"podSelector": web, "ingress": [{"ports": range}]}))],
            all: Tcp(81),
            cells: vec![
                ("a1", "a2", Tcp(79), false),
                ("a1", "a2", Tcp(80), true),
                ("b2", "a2", Tcp(81), true),
                ("a1", "a3", Tcp(82), true),
                ("b2", "a3", Tcp(83), false),
                ("b1", "a3", Udp(81), false),
            ],
            rules: &["a/range ingress rule 1"],
        },
        Case {
            name: "a named port that differs per pod",
            policies: vec![
                policy("a", "named-in", &json!({"podSelector": web, "ingress": [{"ports": named}]})),
                policy(
                    "a",
                    "named-out",
                    &json!({"podSelector": client, "policyTypes": ["Egress"],
                            "egress": [{"to": [{"podSelector": web}], "ports": named}]}),
                ),
            ],
            all: Tcp(80),
            cells: vec![
                ("a1", "a2", Tcp(80), true),
                ("a1", "a2", Tcp(81), false),
                ("a1", "a3", Tcp(80), false),
                ("a1", "a3", Tcp(81), true),
                ("b2", "a2", Tcp(80), true),
                ("b2", "a2", Udp(80), false),
                ("a1", "b1", Tcp(80), false),
            ],
            rules: &["a/named-in ingress rule 1", "a/named-out egress rule 1"],
        },
    ]
}
