//! What an event does not touch is not made again.

use std::collections::BTreeSet;
use std::net::IpAddr;

use offload::policy::{Action, Origin, PrefixSet, Rule, Traffic};
use serde_json::{Value, json};

use super::{PODS, change, compiler, ip, labels, pod, policy};
use crate::policy::index::{Moved, NetworkId, Services};
use crate::policy::{Affected, Budget, Change, Compiler};

fn relabelled(name: &str, release: &str) -> Value {
    let mut pod = pod(name);
    pod["metadata"]["labels"]["release"] = release.into();
    pod
}

/// All that is said of the pods of this node follows from one set that all pods are in.
fn all_from_all() -> Compiler {
    let to_all = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"namespaceSelector": {}}]}],
        "egress": [{"to": [{"namespaceSelector": {}}], "ports": [{"port": "serve-80"}]}]});
    let only_c = json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": labels("release", "2")}]}]});
    compiler(vec![policy("all", to_all), policy("release", only_c)])
}

fn composed(compiler: &mut Compiler, item: Value) -> usize {
    compiler.apply(change(item)).composed
}

#[test]
fn a_pod_with_other_labels_that_stays_in_a_set_leaves_it_alone() {
    let mut compiler = all_from_all();
    // A pod of this node is looked at itself; a foreign one, which is nobody's other peer by that, is not.
    assert_eq!(composed(&mut compiler, relabelled("x/b", "1")), 1);
    let mut foreign = relabelled("y/b", "1");
    foreign["spec"]["nodeName"] = "far".into();
    compiler.apply(change(foreign.clone()));
    foreign["metadata"]["labels"]["release"] = "3".into();
    let Affected { pods, composed: none } = compiler.apply(change(foreign.clone()));
    assert_eq!((pods, none), (BTreeSet::new(), 0));
    // It is another's peer now, by its port or its address.
    foreign["spec"]["containers"][0]["ports"][0]["containerPort"] = 8080.into();
    assert_eq!(composed(&mut compiler, foreign.clone()), 3);
    foreign["status"]["podIPs"] = json!([{"ip": "10.0.7.7"}]);
    assert_eq!(composed(&mut compiler, foreign), 3);
    // A label that a rule asks for: the one set, and not the others, is another.
    let all = |it: &Compiler| it.compiled("x/a").unwrap().egress.clone();
    let before = all(&compiler);
    assert_eq!(composed(&mut compiler, relabelled("x/c", "2")), 3);
    assert_eq!(all(&compiler), before);
}

/// A Service of two ports for each pod, and one for all of them.
fn services() -> Services {
    let (mut services, mut moved) =
        (Services::new(Budget::default().services, "n".into(), "".into()), Moved::default());
    let mut add = |name: &str, address: &str, pods: &[&str], ports: &[u16]| {
        let ports: Vec<Value> = ports.iter().map(|it| json!({"name": it.to_string(), "port": it})).collect();
        let endpoints: Vec<Value> =
            pods.iter().map(|it| json!({"addresses": [ip(it).to_string()]})).collect();
        let metadata =
            json!({"namespace": "x", "name": name, "labels": {"kubernetes.io/service-name": name}});
        for object in [
            json!({"kind": "Service", "metadata": metadata, "spec": {"clusterIPs": [address], "ports": ports}}),
            json!({"kind": "EndpointSlice", "metadata": metadata, "addressType": "IPv4", "endpoints": endpoints,
                "ports": ports}),
        ] {
            match change(object) {
                Change::Service(it) => services.put(it, &mut moved),
                Change::EndpointSlice(it) => services.put_slice(it, &mut moved),
                other => panic!("{other:?}"),
            }
        }
    };
    for (at, pod) in PODS.iter().enumerate() {
        add(pod, &format!("10.96.0.{at}"), &[pod], &[80, 81]);
    }
    add("all", "10.96.1.0", &PODS, &[80]);
    services
}

#[test]
fn a_rule_finds_its_peers_services_and_not_all_on_a_usual_port() {
    let services = services();
    let found = |peers: PrefixSet, port: u16| -> Vec<String> {
        let rule = Rule { action: Action::Allow, peers, traffic: Traffic::tcp(port), origin: Origin(0) };
        let fronts = services.concerned(NetworkId::Overlay, &[rule]);
        let fronts = fronts.into_iter().filter_map(|id| services.front(id));
        fronts.map(|it| format!("{}:{}", it.service.name, it.port)).collect()
    };
    assert_eq!(found([ip("x/a")].into_iter().collect(), 80), ["x/a:80", "x/a:81", "all:80"]);
    assert_eq!(
        found(["10.96.0.1".parse::<IpAddr>().unwrap()].into_iter().collect(), 80),
        ["x/b:80", "x/b:81"]
    );
    // Everybody on a rare port.
    assert_eq!(found(PrefixSet::any(), 81), PODS.map(|it| format!("{it}:81")));
    assert!(found(PrefixSet::any(), 443).is_empty());
}
