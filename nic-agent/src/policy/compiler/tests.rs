//! Truth tables: Kubernetes' documentation and its e2e suite (`test/e2e/network/netpol`: namespaces x, y and z with pods
//! a, b and c each), and the example of Kuryr's specification.

mod costs;
mod incremental;

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use offload::policy::{Direction, Packet, State, Transport, verdict};
use serde_json::{Value, json};

use super::{Compiler, Settings};
use crate::policy::model::ObjectName;
use crate::policy::{Budget, Change, InForce, Report, Snapshot};

const PODS: [&str; 9] = ["x/a", "x/b", "x/c", "y/a", "y/b", "y/c", "z/a", "z/b", "z/c"];

fn ip(pod: &str) -> IpAddr {
    let at = PODS.iter().position(|it| *it == pod).unwrap();
    IpAddr::from([10, 0, u8::try_from(at / 3).unwrap(), u8::try_from(at % 3).unwrap() + 1])
}

fn read(items: &[Value]) -> Snapshot {
    Snapshot::parse(Path::new("test"), json!({"items": items}).to_string().as_bytes()).unwrap()
}

fn change(item: Value) -> Change {
    read(&[item]).into_changes().next().unwrap()
}

fn pod(name: &str) -> Value {
    let (namespace, short) = name.split_once('/').unwrap();
    // a and b call other numbers by the same name.
    let ports = json!([
        {"name": "serve-80", "containerPort": if short == "b" { 81 } else { 80 }},
        {"name": "serve-81-udp", "containerPort": 81, "protocol": "UDP"},
    ]);
    json!({"kind": "Pod", "metadata": {"namespace": namespace, "name": short, "uid": name, "labels": {"pod": short}},
        "spec": {"nodeName": "n", "containers": [{"ports": ports}]},
        "status": {"phase": "Running", "podIPs": [{"ip": ip(name).to_string()}]}})
}

fn cluster() -> Vec<Value> {
    let namespaces = ["x", "y", "z"]
        .map(|it| json!({"kind": "Namespace", "metadata": {"name": it, "labels": {"ns": it}}}));
    namespaces.into_iter().chain(PODS.map(pod)).collect()
}

#[allow(clippy::needless_pass_by_value)] // a json!(…) is what every caller has
fn policy(name: &str, spec: Value) -> Value {
    json!({"kind": "NetworkPolicy", "metadata": {"namespace": "x", "name": name, "uid": format!("uid-{name}")}, "spec": spec})
}

fn compiler(more: Vec<Value>) -> Compiler {
    let items: Vec<Value> = cluster().into_iter().chain(more).collect();
    let node_addresses = ["10.0.9.9".parse::<IpAddr>().unwrap()].into_iter().collect();
    Compiler::new(
        Settings { node: "n".into(), zone: "".into(), node_addresses, budget: Budget::default() },
        read(&items),
    )
}

fn tcp(dst: u16) -> Transport {
    Transport::Tcp { src: 1, dst }
}

fn udp(dst: u16) -> Transport {
    Transport::Udp { src: 1, dst }
}

fn passes(compiler: &Compiler, direction: Direction, pod: &str, peer: IpAddr, transport: Transport) -> bool {
    let (src, dst) = match direction {
        Direction::Egress => (ip(pod), peer),
        Direction::Ingress => (peer, ip(pod)),
    };
    let policy = compiler.compiled(pod).unwrap();
    verdict(policy, direction, &Packet { src, dst, transport }, State::New).allowed
}

/// Who of the others reaches this pod: both sides must allow it.
fn reach(compiler: &Compiler, to: &str, transport: Transport) -> Vec<&'static str> {
    let both = |from: &&&str| {
        passes(compiler, Direction::Egress, from, ip(to), transport)
            && passes(compiler, Direction::Ingress, to, ip(from), transport)
    };
    PODS.iter().filter(|it| **it != to).filter(both).copied().collect()
}

fn labels(key: &str, value: &str) -> Value {
    json!({"matchLabels": {key: value}})
}

fn others(than: &str) -> Vec<&'static str> {
    PODS.into_iter().filter(|it| *it != than).collect()
}

#[test]
fn truth_tables() {
    let a = || labels("pod", "a");
    let ingress = |rules: Value| json!({"podSelector": a(), "ingress": rules});
    let from = |peers: Value| ingress(json!([{"from": peers}]));
    let of_x = |than: &str| others(than).into_iter().filter(|it| it.starts_with("x/")).collect::<Vec<_>>();
    for (says, spec, transport, wanted) in [
        ("default-deny-ingress", json!({"podSelector": {}, "policyTypes": ["Ingress"]}), tcp(80), vec![]),
        (
            "allow-all-ingress",
            json!({"podSelector": {}, "ingress": [{}], "policyTypes": ["Ingress"]}),
            tcp(80),
            others("x/a"),
        ),
        (
            "default-deny-egress leaves ingress alone",
            json!({"podSelector": a(), "policyTypes": ["Egress"]}),
            tcp(80),
            others("x/a"),
        ),
        ("pods of the own namespace", from(json!([{"podSelector": {}}])), tcp(80), of_x("x/a")),
        ("a pod, by label", from(json!([{"podSelector": labels("pod", "b")}])), tcp(80), vec!["x/b"]),
        ("every namespace", from(json!([{"namespaceSelector": {}}])), tcp(80), others("x/a")),
        (
            "a namespace, by label",
            from(json!([{"namespaceSelector": labels("ns", "y")}])),
            tcp(80),
            vec!["y/a", "y/b", "y/c"],
        ),
        (
            "namespace AND pod",
            from(json!([{"namespaceSelector": labels("ns", "y"), "podSelector": a()}])),
            tcp(80),
            vec!["y/a"],
        ),
        (
            "namespace OR pod",
            from(json!([{"namespaceSelector": labels("ns", "y")}, {"podSelector": labels("pod", "b")}])),
            tcp(80),
            vec!["x/b", "y/a", "y/b", "y/c"],
        ),
        (
            "NotIn",
            from(
                json!([{"namespaceSelector": {"matchExpressions": [{"key": "ns", "operator": "NotIn", "values": ["x"]}]}}]),
            ),
            tcp(80),
            vec!["y/a", "y/b", "y/c", "z/a", "z/b", "z/c"],
        ),
        (
            "NotIn of a key that nobody has",
            from(
                json!([{"podSelector": {"matchExpressions": [{"key": "no", "operator": "NotIn", "values": ["x"]}]}}]),
            ),
            tcp(80),
            of_x("x/a"),
        ),
        (
            "DoesNotExist",
            from(
                json!([{"podSelector": {"matchExpressions": [{"key": "pod", "operator": "DoesNotExist"}]}}]),
            ),
            tcp(80),
            vec![],
        ),
        ("the port", ingress(json!([{"ports": [{"port": 81}]}])), tcp(81), others("x/a")),
        ("another port", ingress(json!([{"ports": [{"port": 81}]}])), tcp(80), vec![]),
        ("TCP is the default", ingress(json!([{"ports": [{"port": 81}]}])), udp(81), vec![]),
        ("SCTP is not TCP", ingress(json!([{"ports": [{"port": 80, "protocol": "SCTP"}]}])), tcp(80), vec![]),
        (
            "SCTP",
            ingress(json!([{"ports": [{"port": 80, "protocol": "SCTP"}]}])),
            Transport::Sctp { src: 1, dst: 80 },
            others("x/a"),
        ),
        (
            "endPort, its end",
            ingress(json!([{"ports": [{"port": 80, "endPort": 90}]}])),
            tcp(90),
            others("x/a"),
        ),
        ("endPort, beyond", ingress(json!([{"ports": [{"port": 80, "endPort": 90}]}])), tcp(91), vec![]),
        ("named port", ingress(json!([{"ports": [{"port": "serve-80"}]}])), tcp(80), others("x/a")),
        ("named port, by number", ingress(json!([{"ports": [{"port": "serve-80"}]}])), tcp(81), vec![]),
        (
            "named port of another protocol",
            ingress(json!([{"ports": [{"port": "serve-81-udp"}]}])),
            udp(81),
            vec![],
        ),
        (
            "a name of nothing is not every port",
            ingress(json!([{"ports": [{"port": "nobody"}]}])),
            tcp(80),
            vec![],
        ),
        (
            "a rule without ports is for every protocol",
            from(json!([{"podSelector": labels("pod", "b")}])),
            Transport::Icmp { kind: 8, code: 0 },
            vec!["x/b"],
        ),
        (
            "a rule with ports is not",
            ingress(json!([{"ports": [{"port": 80}]}])),
            Transport::Icmp { kind: 8, code: 0 },
            vec![],
        ),
        ("ipBlock", from(json!([{"ipBlock": {"cidr": "10.0.1.0/24"}}])), tcp(80), vec!["y/a", "y/b", "y/c"]),
        (
            "ipBlock except",
            from(json!([{"ipBlock": {"cidr": "10.0.0.0/16", "except": ["10.0.1.0/24", "10.0.2.0/31"]}}])),
            tcp(80),
            vec!["x/b", "x/c", "z/b", "z/c"],
        ),
        (
            "an ingress rule that the types leave out",
            json!({"podSelector": a(), "policyTypes": ["Egress"], "ingress": []}),
            tcp(80),
            others("x/a"),
        ),
        ("a policy of others", json!({"podSelector": labels("pod", "c")}), tcp(80), others("x/a")),
    ] {
        let compiler = compiler(vec![policy("p", spec)]);
        assert_eq!(reach(&compiler, "x/a", transport), wanted, "{says}");
        assert!(
            passes(&compiler, Direction::Ingress, "x/a", "10.0.9.9".parse().unwrap(), tcp(1)),
            "{says}: node"
        );
    }
}

#[test]
fn egress_stacked_and_updated() {
    let named = json!({"podSelector": labels("pod", "a"), "policyTypes": ["Egress"],
        "egress": [{"to": [{"namespaceSelector": labels("ns", "y")}], "ports": [{"port": "serve-80"}]}]});
    let mut compiler = compiler(vec![policy("named", named)]);
    let to = |compiler: &Compiler, transport| {
        PODS.into_iter()
            .filter(|it| passes(compiler, Direction::Egress, "x/a", ip(it), transport))
            .collect::<Vec<_>>()
    };
    // The name is another number for b.
    assert_eq!(to(&compiler, tcp(80)), ["y/a", "y/c"]);
    assert_eq!(to(&compiler, tcp(81)), ["y/b"]);
    let stacked = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"podSelector": labels("pod", "c")}]}]});
    let affected = compiler.apply(change(policy("stacked", stacked)));
    assert_eq!(affected.pods.iter().map(|it| &**it).collect::<Vec<_>>(), ["x/a", "x/b", "x/c"]);
    assert_eq!(to(&compiler, tcp(80)), ["x/c", "y/a", "y/c"]);
    // A label goes, and what it gave with it; b and c have the same rules, and one list of them.
    let shared = |a: &str, b: &str| {
        std::sync::Arc::ptr_eq(compiler.compiled(a).unwrap(), compiler.compiled(b).unwrap())
    };
    assert!(shared("x/b", "x/c") && !shared("x/a", "x/b") && shared("y/a", "z/c"));
    let mut plain = pod("x/c");
    plain["metadata"]["labels"] = json!({});
    assert_eq!(compiler.apply(change(plain)).pods.len(), 3);
    assert_eq!(to(&compiler, tcp(80)), ["y/a", "y/c"]);
    let nothing =
        compiler.apply(change(policy("elsewhere", json!({"podSelector": labels("pod", "nobody")}))));
    assert!(nothing.pods.is_empty());
    compiler.apply(Change::PolicyGone(ObjectName::new("x", "named")));
    compiler.apply(Change::PolicyGone(ObjectName::new("x", "stacked")));
    assert!(compiler.compiled("x/a").unwrap().egress.is_open());
    for gone in [json!({"phase": "Succeeded"}), json!({"phase": "Failed"})] {
        let mut finished = pod("x/b");
        finished["status"] = gone;
        compiler.apply(change(finished));
        assert!(compiler.compiled("x/b").is_none());
    }
}

/// Kuryr's specification for Queens, "default/test-network-policy": the prefixes that its block becomes.
#[test]
fn kuryrs_example() {
    let spec = json!({"podSelector": labels("pod", "a"), "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"ipBlock": {"cidr": "172.17.0.0/16", "except": ["172.17.1.0/24"]}}], "ports": [{"protocol": "TCP", "port": 6379}]}],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/24"}}], "ports": [{"protocol": "TCP", "port": 5978}]}]});
    let compiler = compiler(vec![policy("test-network-policy", spec)]);
    let tier = &compiler.compiled("x/a").unwrap().ingress.tiers[0];
    let rule = tier.rules.last().unwrap();
    let wanted = ["0.0/24", "2.0/23", "4.0/22", "8.0/21", "16.0/20", "32.0/19", "64.0/18", "128.0/17"];
    let wanted: Vec<IpNet> = wanted.iter().map(|it| format!("172.17.{it}").parse().unwrap()).collect();
    assert_eq!(rule.peers.v4().map(IpNet::from).collect::<Vec<_>>(), wanted);
    assert_eq!(compiler.origins().text(rule.origin).unwrap(), "x/test-network-policy ingress rule 1");
    assert_eq!(compiler.origins().text(tier.origin).unwrap(), "x/test-network-policy ingress default deny");
}

/// The policy lets x/a to y/b alone: which endpoints are its backends decides.
#[test]
fn a_service_is_what_a_pod_of_this_node_gets_of_it() {
    let service = |traffic: &str| {
        change(json!({"kind": "Service", "metadata": {"namespace": "y", "name": "s"},
            "spec": {"clusterIPs": ["10.96.0.1"], "ports": [{"port": 80}], "internalTrafficPolicy": traffic}}))
    };
    let at = |pod: &str, node: &str, conditions: Value, zone: &str| {
        json!({"addresses": [ip(pod).to_string()], "nodeName": node, "conditions": conditions,
            "hints": {"forZones": [{"name": zone}]}})
    };
    let slice = |endpoints: Value| {
        change(
            json!({"kind": "EndpointSlice", "addressType": "IPv4", "ports": [{"port": 80}], "endpoints": endpoints,
            "metadata": {"namespace": "y", "name": "s-1", "labels": {"kubernetes.io/service-name": "s"}}}),
        )
    };
    let to_b = json!({"podSelector": labels("pod", "a"), "policyTypes": ["Egress"],
        "egress": [{"to": [{"namespaceSelector": labels("ns", "y"), "podSelector": labels("pod", "b")}]}]});
    let mut compiler = compiler(vec![policy("to-b", to_b)]);
    let passes = |compiler: &mut Compiler, changes: Vec<Change>| {
        compiler.apply_all(changes);
        self::passes(compiler, Direction::Egress, "x/a", "10.96.0.1".parse().unwrap(), tcp(80))
    };
    let ready = || json!({});
    let leaving = || json!({"ready": false, "serving": true, "terminating": true});
    let gone = || json!({"ready": false, "serving": false, "terminating": true});
    let (b, c) = (|it| at("y/b", "n", it, "z1"), |it| at("y/c", "far", it, "z2"));
    assert!(!passes(&mut compiler, vec![service("Cluster"), slice(json!([b(ready()), c(ready())]))]));
    // In the zone of y/b, in that of y/c, in none.
    assert!(passes(&mut compiler, vec![Change::NodeZone("z1".into())]));
    assert!(!passes(&mut compiler, vec![Change::NodeZone("z2".into())]));
    assert!(!passes(&mut compiler, vec![Change::NodeZone("".into())]));
    assert!(passes(&mut compiler, vec![service("Local")]));
    assert!(!passes(&mut compiler, vec![service("Cluster")]));
    // Who is not ready is none while another is; who serves to its end is, once nobody is ready.
    assert!(passes(&mut compiler, vec![slice(json!([b(ready()), c(leaving())]))]));
    assert!(passes(&mut compiler, vec![slice(json!([b(leaving()), c(gone())]))]));
    assert!(!passes(&mut compiler, vec![slice(json!([b(gone()), c(leaving())]))]));
    // The last one that was ready is not any more: what it has goes on.
    assert!(passes(&mut compiler, vec![slice(json!([b(gone())]))]));
    assert!(!passes(&mut compiler, vec![slice(json!([]))]));
}

#[test]
fn a_service_is_allowed_as_a_whole_or_refused() {
    let service = json!({"kind": "Service", "metadata": {"namespace": "y", "name": "s"},
        "spec": {"clusterIPs": ["10.96.0.1"], "ports": [{"port": 8000}]}});
    let slice = |pods: &[&str]| {
        let endpoints: Vec<Value> =
            pods.iter().map(|it| json!({"addresses": [ip(it).to_string()]})).collect();
        json!({"kind": "EndpointSlice", "metadata": {"namespace": "y", "name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": "IPv4", "ports": [{"port": 80}], "endpoints": endpoints})
    };
    let to = |pod: &str| {
        policy(
            &format!("to-{pod}"),
            json!({"podSelector": labels("pod", "a"), "policyTypes": ["Egress"],
        "egress": [{"to": [{"namespaceSelector": labels("ns", "y"), "podSelector": labels("pod", pod)}], "ports": [{"port": 80}]}]}),
        )
    };
    let vip = "10.96.0.1".parse().unwrap();
    let mut compiler = compiler(vec![service, slice(&["y/b", "y/c"]), to("b")]);
    let passes = |compiler: &Compiler, pod| passes(compiler, Direction::Egress, pod, vip, tcp(8000));
    assert!(!passes(&compiler, "x/a"));
    let [Report::PartlyCovered { pods, covered: 1, uncovered, .. }] = &compiler.reports()[..] else {
        panic!()
    };
    assert_eq!((pods, uncovered), (&vec![ObjectName::new("x", "a")], &vec![(ip("y/c"), 80)]));
    // Another policy has the rest.
    assert_eq!(compiler.apply(change(to("c"))).pods.len(), 1);
    assert!(passes(&compiler, "x/a") && compiler.reports().is_empty());
    compiler.apply(change(slice(&["y/b", "y/c", "z/a"])));
    assert!(!passes(&compiler, "x/a"));
    // Who allows the address itself has not allowed the pods behind it.
    let named = json!({"podSelector": labels("pod", "a"), "egress": [{"to": [{"ipBlock": {"cidr": "10.96.0.1/32"}}]}]});
    compiler.apply(change(policy("named", named)));
    assert!(!passes(&compiler, "x/a"));
    compiler.apply(change(slice(&[])));
    assert!(!passes(&compiler, "x/a"));
    // A pod is behind it itself: there and back.
    let itself = json!({"podSelector": labels("pod", "b"), "policyTypes": ["Ingress", "Egress"]});
    compiler.apply_all([change(slice(&["x/b"])), change(policy("itself", itself))]);
    assert!(passes(&compiler, "x/b"));
    assert!(self::passes(&compiler, Direction::Ingress, "x/b", vip, tcp(80)));
    assert!(!self::passes(&compiler, Direction::Ingress, "x/b", vip, tcp(8000)));
    compiler.apply(change(slice(&["x/b", "x/c"])));
    assert!(!passes(&compiler, "x/b"));
}

#[test]
fn a_wrong_policy_keeps_what_it_said_and_closes_if_it_never_said_anything() {
    let spec = |cidr: &str| json!({"podSelector": labels("pod", "a"), "ingress": [{"from": [{"ipBlock": {"cidr": cidr}}]}, {"ports": [{"port": 81}]}]});
    let mut compiler = compiler(vec![policy("p", spec("10.0.1.0/24"))]);
    let y = ["y/a", "y/b", "y/c"];
    assert_eq!(reach(&compiler, "x/a", tcp(80)), y);
    for _ in 0..2 {
        assert!(compiler.apply(change(policy("p", spec("10.0.1.0/99")))).pods.is_empty());
        assert_eq!(reach(&compiler, "x/a", tcp(80)), y);
        let [Report::Faulty { in_force: InForce::LastGood, faults, .. }] = &compiler.reports()[..] else {
            panic!()
        };
        assert_eq!(faults[0].field, "spec.ingress[0].from[0].ipBlock.cidr");
    }
    // Made again: what the old one said does not count.
    compiler.apply(Change::PolicyGone(ObjectName::new("x", "p")));
    for _ in 0..2 {
        compiler.apply(change(policy("p", spec("10.0.1.0/99"))));
        assert!(reach(&compiler, "x/a", tcp(80)).is_empty());
        assert_eq!(reach(&compiler, "x/a", tcp(81)), others("x/a"));
        assert!(matches!(&compiler.reports()[..], [Report::Faulty { in_force: InForce::Closed, .. }]));
    }
    compiler.apply(change(policy("p", spec("10.0.2.0/24"))));
    assert_eq!(reach(&compiler, "x/a", tcp(80)), ["z/a", "z/b", "z/c"]);
    assert!(compiler.reports().is_empty());
}

#[test]
fn pods_on_the_hosts_network_are_neither_selected_nor_peers() {
    let mut host = pod("x/b");
    host["spec"]["hostNetwork"] = true.into();
    let mut compiler =
        compiler(vec![policy("p", json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}))]);
    compiler.apply(change(host));
    assert!(compiler.compiled("x/b").is_none());
    assert!(!passes(&compiler, Direction::Ingress, "x/a", ip("x/b"), tcp(80)));
    assert!(passes(&compiler, Direction::Ingress, "x/a", ip("x/c"), tcp(80)));
}

#[test]
fn numbers_of_rules_that_collide_move_in_every_rule() {
    let allow = |name: &str| {
        policy(
            name,
            json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": labels("pod", name)}]}], "egress": [{}]}),
        )
    };
    let settings = Settings {
        node: "n".into(),
        zone: "".into(),
        node_addresses: ["10.0.9.9".parse::<IpAddr>().unwrap()].into_iter().collect(),
        budget: Budget::default(),
    };
    let build = |items: &[Value]| {
        let items: Vec<Value> = cluster().iter().chain(items).cloned().collect();
        Compiler::with_origins(settings.clone(), read(&items), super::Origins::with_hash(|_| 7))
    };
    let policies = [allow("a"), allow("b"), allow("c")];
    let mut grown = build(&[]);
    for at in [2, 0, 1] {
        grown.apply(change(policies[at].clone()));
    }
    let same = |x: &Compiler, y: &Compiler| {
        assert_eq!(x.all_compiled().collect::<Vec<_>>(), y.all_compiled().collect::<Vec<_>>());
    };
    same(&grown, &build(&policies));
    grown.apply(Change::PolicyGone(ObjectName::new("x", "a")));
    same(&grown, &build(&policies[1..]));
    for rule in &grown.compiled("x/a").unwrap().ingress.tiers[0].rules {
        assert!(grown.origins().key(rule.origin).is_some());
    }
}
