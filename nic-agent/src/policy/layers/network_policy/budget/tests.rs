//! What is too much hurts its own pods and nobody else's.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use kube_services::{Limits, Served};
use offload::policy::{Direction, Packet, PrefixSet, State, Transport, verdict};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::policy::{Budget, Change, Compiler, Excess, Overrun, Report, Settings, Snapshot};

fn read(items: &[Value]) -> Snapshot {
    Snapshot::parse(Path::new("test"), json!({"items": items}).to_string().as_bytes()).unwrap()
}

fn change(item: Value) -> Change {
    read(&[item]).into_changes().next().unwrap()
}

fn compiler(budget: Budget, items: &[Value]) -> Compiler {
    Compiler::new(
        Settings { node: "n".into(), zone: "".into(), node_addresses: PrefixSet::default(), budget },
        read(items),
    )
}

/// Namespaces a and b, a pod each.
fn cluster() -> Vec<Value> {
    let mut items = Vec::new();
    for (name, ip) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        items.push(json!({"kind": "Namespace", "metadata": {"name": name}}));
        items.push(json!({"kind": "Pod", "metadata": {"namespace": name, "name": "pod", "uid": name},
            "spec": {"nodeName": "n", "containers": []}, "status": {"podIPs": [{"ip": ip}]}}));
    }
    items
}

fn with(more: impl IntoIterator<Item = Value>) -> Vec<Value> {
    cluster().into_iter().chain(more).collect()
}

fn policy(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"kind": "NetworkPolicy", "metadata": {"namespace": namespace, "name": name, "uid": name}, "spec": spec})
}

fn passes(compiler: &Compiler, direction: Direction, pod: &str, peer: &str, port: u16) -> bool {
    let (own, peer): (IpAddr, IpAddr) =
        (if pod == "a" { "10.0.0.1" } else { "10.0.0.2" }.parse().unwrap(), peer.parse().unwrap());
    let (src, dst) = if direction == Direction::Egress { (own, peer) } else { (peer, own) };
    let packet = Packet { src, dst, transport: Transport::Tcp { src: 40_000, dst: port } };
    verdict(compiler.compiled(pod).unwrap(), direction, &packet, State::New).allowed
}

fn excess(compiler: &Compiler) -> Vec<(Overrun, Excess)> {
    let of = |report| match report {
        Report::OverBudget { of, excess } => Some((of, excess)),
        _ => None,
    };
    compiler.reports().into_iter().filter_map(of).collect()
}

#[test]
fn a_policy_that_is_too_much_closes_its_own_pods_in_that_direction() {
    let mut budget = Budget::default();
    budget.policy.rules = 2;
    let spec = |rules: u16| {
        let rules: Vec<Value> = (1..=rules).map(|it| json!({"ports": [{"port": it}]})).collect();
        json!({"podSelector": {}, "ingress": rules, "egress": [{"ports": [{"port": 1}]}]})
    };
    let mut compiler = compiler(budget, &with([policy("a", "p", &spec(3)), policy("b", "p", &spec(2))]));
    let reached = |compiler: &Compiler| {
        ["a", "b"].map(|pod| {
            [Direction::Ingress, Direction::Egress].map(|it| passes(compiler, it, pod, "192.0.2.1", 1))
        })
    };
    assert_eq!(reached(&compiler), [[false, true], [true, true]]);
    let [(Overrun::Policy { policy: name, direction: Some(Direction::Ingress) }, excess)] =
        &excess(&compiler)[..]
    else {
        panic!("{:?}", compiler.reports())
    };
    assert_eq!((name, excess.found, excess.most), (&ObjectName::new("a", "p"), 3, 2));
    compiler.apply(change(policy("a", "p", &spec(2))));
    assert_eq!(reached(&compiler), [[true, true], [true, true]]);
    assert!(compiler.reports().is_empty());
}

#[test]
fn a_pod_that_would_take_too_many_flows_is_closed_and_the_node_reaches_it() {
    let budget = Budget { pod_flows: 10, ..Budget::default() };
    let ports: Vec<Value> = (1..=6).map(|it| json!({"port": 2 * it})).collect();
    let spec = json!({"podSelector": {}, "ingress": [{"ports": ports}, {"ports": [{"port": 100}]}]});
    let other = json!({"podSelector": {}, "ingress": [{"ports": [{"port": 2}]}]});
    let mut compiler = compiler(budget, &with([policy("a", "p", &spec), policy("b", "p", &other)]));
    let node: PrefixSet = ["10.0.9.9".parse::<IpAddr>().unwrap()].into_iter().collect();
    compiler.apply(Change::NodeAddresses(node));
    // Two versions of IP for each of seven ports, and the node.
    let [(Overrun::Pod { pod, direction: Direction::Ingress }, excess)] = &excess(&compiler)[..] else {
        panic!()
    };
    assert_eq!((pod.to_string().as_str(), excess.found, excess.most), ("a/pod", 15, 10));
    assert!(!passes(&compiler, Direction::Ingress, "a", "192.0.2.1", 2));
    assert!(passes(&compiler, Direction::Ingress, "a", "10.0.9.9", 2));
    assert!(passes(&compiler, Direction::Egress, "a", "192.0.2.1", 2), "the other direction is not isolated");
    assert!(passes(&compiler, Direction::Ingress, "b", "192.0.2.1", 2));
}

#[test]
fn a_pod_with_labels_without_measure_is_closed_and_nobodys_peer() {
    let pod = |labels: &Value| {
        json!({"kind": "Pod", "metadata": {"namespace": "a", "name": "pod", "uid": "a", "labels": labels},
            "spec": {"nodeName": "n", "containers": []}, "status": {"podIPs": [{"ip": "10.0.0.1"}]}})
    };
    let many: serde_json::Map<String, Value> =
        (0..200).map(|it| (format!("key-{it}"), Value::from("v".repeat(40)))).collect();
    let few = json!({"app": "db"});
    let spec = json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]});
    let mut compiler = compiler(Budget::default(), &with([policy("b", "p", &spec)]));
    let node: PrefixSet = ["10.0.9.9".parse::<IpAddr>().unwrap()].into_iter().collect();
    compiler.apply(Change::NodeAddresses(node));
    let reaches = |compiler: &Compiler| {
        [
            passes(compiler, Direction::Ingress, "a", "192.0.2.1", 2),
            passes(compiler, Direction::Egress, "a", "192.0.2.1", 2),
            passes(compiler, Direction::Ingress, "b", "10.0.0.1", 2),
        ]
    };
    compiler.apply(change(pod(&few)));
    assert_eq!(reaches(&compiler), [true; 3]);
    assert!(compiler.reports().is_empty());

    compiler.apply(change(pod(&Value::Object(many))));
    assert_eq!(reaches(&compiler), [false; 3]);
    assert!(passes(&compiler, Direction::Ingress, "a", "10.0.9.9", 2), "the node reaches it");
    let found = excess(&compiler);
    let of = |it: &Overrun| matches!(it, Overrun::Pod { pod, .. } if pod.to_string() == "a/pod");
    assert!(found.len() == 2 && found.iter().all(|(it, _)| of(it)), "{found:?}");
    assert!(found.iter().all(|(_, it)| it.found > it.most && it.most == 8 << 10), "{found:?}");

    compiler.apply(change(pod(&few)));
    assert_eq!(reaches(&compiler), [true; 3]);
    assert!(compiler.reports().is_empty());
}

fn service(namespace: &str, name: &str, ip: &str, ports: impl Iterator<Item = u16>) -> Value {
    let ports: Vec<Value> = ports.map(|it| json!({"name": format!("p{it}"), "port": it})).collect();
    json!({"kind": "Service", "metadata": {"namespace": namespace, "name": name},
        "spec": {"clusterIPs": [ip], "ports": ports}})
}

fn slice(namespace: &str, service: &str, port: u16, target: u16, addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> = addresses.iter().map(|it| json!({"addresses": [it]})).collect();
    json!({"kind": "EndpointSlice", "metadata": {"namespace": namespace, "name": format!("{service}-1"),
            "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": format!("p{port}"), "port": target}]})
}

/// A tenant without a pod here makes Services; a pod whose egress is broad has none of it.
#[test]
fn services_cost_a_pod_what_it_uses() {
    let broad = json!({"podSelector": {}, "policyTypes": ["Egress"],
        "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}]}]});
    let own =
        [service("a", "used", "10.96.9.9", [80].into_iter()), slice("a", "used", 80, 8080, &["10.0.0.7"])];
    let alone = compiler(Budget::default(), &with(own.clone().into_iter().chain([policy("a", "p", &broad)])));
    let of = |compiler: &Compiler| compiler.compiled("a").unwrap().egress.size();
    let foreign = |ports: u16| {
        (0..50).map(move |it| service("t", &format!("s{it}"), &format!("10.96.0.{}", it * 5), 1..=ports))
    };
    let items = |ports| with(own.clone().into_iter().chain([policy("a", "p", &broad)]).chain(foreign(ports)));
    // Each by itself too much: an address each.
    let attacked = compiler(Budget::default(), &items(2000));
    assert!(of(&attacked) <= of(&alone) + 50, "{} and {}", of(&attacked), of(&alone));
    // Too much together.
    let attacked = compiler(Budget::default(), &items(400));
    assert!(of(&attacked) <= of(&alone) + 5_050, "{} and {}", of(&attacked), of(&alone));
    let tight = Budget { pod_service_flows: 100, ..Budget::default() };
    let attacked_tight = compiler(tight, &items(20));
    assert!(of(&attacked_tight) <= of(&alone) + 50, "{}", of(&attacked_tight));
    for compiler in [&attacked, &attacked_tight] {
        assert!(passes(compiler, Direction::Egress, "a", "10.96.9.9", 80), "its own is allowed");
        assert!(passes(compiler, Direction::Egress, "a", "192.0.2.1", 80));
        // Nothing is behind it, so nothing reaches it, within the budget and beyond.
        assert!(!passes(compiler, Direction::Egress, "a", "10.96.0.5", 1));
        assert!(compiler.reports().len() < 200, "{}", compiler.reports().len());
    }
    let together = |it: &(Overrun, Excess)| matches!(it, (Overrun::Services { namespaces, .. }, _) if *namespaces == ["t".into()]);
    assert!(excess(&attacked_tight).iter().any(together), "{:?}", excess(&attacked_tight));
    let key = "namespace-service-ports";
    assert!(
        excess(&attacked)
            .iter()
            .all(|(of, it)| matches!(of, Overrun::Service(_)) && it.key == key && it.found == 20_000)
    );
    // One that the rules name as it is, and that is allowed, takes no rule at all.
    let covered = (0..50).flat_map(|it| {
        let (name, ip) = (format!("s{it}"), format!("10.96.0.{}", it * 5));
        [service("t", &name, &ip, [80].into_iter()), slice("t", &name, 80, 8080, &["10.0.0.9"])]
    });
    let covered =
        compiler(Budget::default(), &with(own.into_iter().chain([policy("a", "p", &broad)]).chain(covered)));
    assert_eq!(of(&covered), of(&alone));
    assert!(passes(&covered, Direction::Egress, "a", "10.96.0.5", 80));
}

#[test]
fn a_slice_that_was_too_much_to_be_read_refuses_its_service() {
    let to = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.7/32"}}]}]});
    let items = [
        service("t", "s", "10.96.0.1", [80].into_iter()),
        slice("t", "s", 80, 8080, &["10.0.0.7"]),
        policy("a", "p", &to),
    ];
    let mut compiler = compiler(Budget::default(), &with(items));
    assert!(passes(&compiler, Direction::Egress, "a", "10.96.0.1", 80));
    let Change::EndpointSlice(mut more) = change(slice("t", "s", 80, 8080, &["10.0.0.8"])) else { panic!() };
    (more.name, more.is_cut) = (ObjectName::new("t", "s-2"), true);
    more.endpoints.clear();
    compiler.apply(Change::EndpointSlice(more));
    assert!(!passes(&compiler, Direction::Egress, "a", "10.96.0.1", 80));
    assert!(matches!(
        excess(&compiler)[..],
        [(Overrun::Service(_), Excess { key: "service-endpoints", .. })]
    ));
    compiler.apply(Change::EndpointSliceGone(ObjectName::new("t", "s-2")));
    assert!(passes(&compiler, Direction::Egress, "a", "10.96.0.1", 80));
}

/// How many rules each of the policies has.
type Sizes = BTreeMap<u8, usize>;

fn sized(name: u8, rules: usize) -> Value {
    let rules: Vec<Value> =
        (0..rules).map(|it| json!({"ports": [{"port": 100 * usize::from(name) + it + 1}]})).collect();
    policy("a", &format!("p{name}"), &json!({"podSelector": {}, "ingress": rules}))
}

/// The small ones first, as far as they go; of two of one size the first by name.
fn in_force(sizes: &Sizes, most: usize) -> Vec<u8> {
    let mut left: Vec<(usize, u8)> = sizes.iter().map(|(name, rules)| (*rules, *name)).collect();
    left.sort_unstable();
    let mut sum = 0;
    let fits = |(rules, name): (usize, u8)| {
        sum += rules;
        (sum <= most).then_some(name)
    };
    let mut names: Vec<u8> = left.into_iter().map_while(fits).collect();
    names.sort_unstable();
    names
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_namespace_has_what_fits_whatever_came_first(
        steps in proptest::collection::vec((0..5u8, proptest::option::weighted(0.7, 0..5usize)), 1..24),
    ) {
        let mut budget = Budget::default();
        budget.namespace.rules = 7;
        let mut compiler = compiler(budget, &cluster());
        let mut sizes = Sizes::new();
        for (name, rules) in steps {
            if let Some(rules) = rules {
                sizes.insert(name, rules);
                compiler.apply(change(sized(name, rules)));
            } else {
                sizes.remove(&name);
                compiler.apply(Change::PolicyGone(ObjectName::new("a", format!("p{name}"))));
            }
            let wanted = in_force(&sizes, 7);
            for (name, rules) in &sizes {
                for rule in 0..*rules {
                    let port = u16::try_from(100 * usize::from(*name) + rule + 1).unwrap();
                    prop_assert_eq!(
                        passes(&compiler, Direction::Ingress, "a", "192.0.2.1", port),
                        wanted.contains(name),
                        "{} of {:?}", name, &sizes
                    );
                }
            }
            prop_assert_eq!(passes(&compiler, Direction::Ingress, "a", "192.0.2.1", 9), sizes.is_empty());
            prop_assert!(passes(&compiler, Direction::Ingress, "b", "192.0.2.1", 9));
            prop_assert_eq!(excess(&compiler).len(), sizes.len() - wanted.len());
            let items: Vec<Value> = with(sizes.iter().map(|(name, rules)| sized(*name, *rules)));
            let over = self::compiler(budget, &items);
            prop_assert_eq!(over.reports(), compiler.reports());
            prop_assert_eq!(over.compiled("a"), compiler.compiled("a"));
        }
    }

    #[test]
    fn services_of_a_namespace_have_what_fits_whatever_came_first(
        steps in proptest::collection::vec((0..5u8, proptest::option::weighted(0.7, 1..6u16)), 1..24),
    ) {
        let budget = Budget {
            services: Limits {
                service: Served { ports: 4, ..Limits::default().service },
                namespace: Served { ports: 7, ..Limits::default().namespace },
            },
            ..Budget::default()
        };
        let broad = policy("a", "p", &json!({"podSelector": {}, "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}));
        let mut compiler = compiler(budget, &with([broad.clone()]));
        let make = |name: u8, ports: u16| service("t", &format!("s{name}"), &format!("10.96.0.{name}"), 1..=ports);
        let mut sizes = Sizes::new();
        for (name, ports) in steps {
            if let Some(ports) = ports {
                sizes.insert(name, ports.into());
                compiler.apply(change(make(name, ports)));
            } else {
                sizes.remove(&name);
                compiler.apply(Change::ServiceGone(ObjectName::new("t", format!("s{name}"))));
            }
            let alone: Sizes = sizes.iter().filter(|(_, ports)| **ports <= 4).map(|(k, v)| (*k, *v)).collect();
            let wanted = in_force(&alone, 7);
            for name in sizes.keys() {
                // A port that it does not have is refused with the rest of the address, or an address like any other.
                let passes = passes(&compiler, Direction::Egress, "a", &format!("10.96.0.{name}"), 77);
                prop_assert_eq!(passes, wanted.contains(name), "{} of {:?}", name, &sizes);
            }
            let items: Vec<Value> = with(
                sizes.iter().map(|(name, ports)| make(*name, u16::try_from(*ports).unwrap())).chain([broad.clone()]),
            );
            let over = self::compiler(budget, &items);
            prop_assert_eq!(over.reports(), compiler.reports());
            prop_assert_eq!(over.compiled("a"), compiler.compiled("a"));
        }
    }
}
