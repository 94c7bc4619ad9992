//! Whatever happened before, what is compiled is what a fresh start would compile.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{change, labels, read};
use crate::policy::model::ObjectName;
use crate::policy::{Budget, Change, Compiler, ObjectKind, Settings, Snapshot};

/// Few addresses, which pods, endpoints, ClusterIPs and blocks have in common.
fn ip(of: u8) -> String {
    format!("10.0.0.{of}")
}

#[derive(Clone, Copy, Debug)]
struct PodOf {
    address: u8,
    app: u8,
    /// A label that no selector asks for.
    release: u8,
    port: u8,
    is_here: bool,
    is_finished: bool,
}

fn pod_of() -> impl Strategy<Value = PodOf> {
    let few = || 0..2u8;
    (0..9u8, few(), few(), few(), any::<bool>(), proptest::bool::weighted(0.1)).prop_map(
        |(address, app, release, port, is_here, is_finished)| PodOf {
            address,
            app,
            release,
            port,
            is_here,
            is_finished,
        },
    )
}

fn pod(namespace: &str, name: u8, of: PodOf) -> Value {
    let PodOf { address, app, release, port, is_here, is_finished } = of;
    // By two names; to some pods one of them is another number.
    let ports = json!([{"name": "http", "containerPort": 80 + port}, {"name": "web", "containerPort": 81}]);
    json!({"kind": "Pod", "metadata": {"namespace": namespace, "name": format!("p{name}"),
            "uid": format!("{namespace}-{name}"), "labels": {"app": format!("a{app}"), "release": format!("r{release}")}},
        "spec": {"nodeName": if is_here { "n" } else { "far" }, "containers": [{"ports": ports}]},
        "status": {"phase": if is_finished { "Failed" } else { "Running" },
            "podIPs": [{"ip": ip(address)}, {"ip": format!("fd00::{}", address / 2)}]}})
}

fn namespace(name: &str, team: u8) -> Value {
    json!({"kind": "Namespace", "metadata": {"name": name, "labels": {"team": format!("t{team}")}}})
}

fn service(namespace: &str, name: u8, (address, ports): (u8, u8)) -> Value {
    let ports: Vec<Value> = (0..ports).map(|it| json!({"name": format!("{it}"), "port": 80 + it})).collect();
    json!({"kind": "Service", "metadata": {"namespace": namespace, "name": format!("s{name}")},
        "spec": {"clusterIPs": [ip(address)], "ports": ports}})
}

fn slice(namespace: &str, name: u8, endpoints: &[u8]) -> Value {
    let endpoints: Vec<Value> = endpoints.iter().map(|it| json!({"addresses": [ip(*it)]})).collect();
    json!({"kind": "EndpointSlice", "metadata": {"namespace": namespace, "name": format!("s{name}-x"),
            "labels": {"kubernetes.io/service-name": format!("s{name}")}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "0", "port": 80}, {"name": "1", "port": 81}]})
}

fn policy(namespace: &str, name: u8, kind: u8) -> Value {
    let team = |it: u8| labels("team", &format!("t{it}"));
    let app = |it: u8| labels("app", &format!("a{it}"));
    let spec = match kind {
        0 => json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        1 => json!({"podSelector": app(0), "policyTypes": ["Egress"],
            "egress": [{"to": [{"namespaceSelector": team(1)}], "ports": [{"port": "http"}, {"port": "web"}]}]}),
        2 => json!({"podSelector": {}, "policyTypes": ["Egress"],
            "egress": [{"to": [{"namespaceSelector": {}, "podSelector": app(1)}]}]}),
        3 => json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"namespaceSelector": team(0)}, {"podSelector": app(1)}]}],
            "egress": [{"ports": [{"port": 80}]}]}),
        4 => json!({"podSelector": app(1), "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/29", "except": ["10.0.0.3/32"]}}]}]}),
        5 => json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": "web"}]}]}),
        _ => {
            json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": "http"}]}]})
        }
    };
    json!({"kind": "NetworkPolicy", "metadata": {"namespace": namespace, "name": format!("np{name}"),
        "uid": format!("{namespace}-np{name}")}, "spec": spec})
}

/// What the change leaves: kind, name, and the object if it is there.
type Step = (ObjectKind, ObjectName, Option<Value>);

fn step() -> impl Strategy<Value = Step> {
    let namespaces = || prop_oneof![Just("x"), Just("y")];
    let some = || proptest::bool::weighted(0.75);
    let pods = (namespaces(), 0..5u8, pod_of(), some());
    let services = (namespaces(), 0..2u8, (4..10u8, 1..3u8), some());
    let slices = (namespaces(), 0..2u8, proptest::collection::vec(0..9u8, 0..4), some());
    let policies = (namespaces(), 0..3u8, 0..7u8, some());
    prop_oneof![
        6 => pods.prop_map(|(ns, name, of, some)| {
            (ObjectKind::Pod, ObjectName::new(ns, format!("p{name}")), some.then(|| pod(ns, name, of)))
        }),
        1 => (namespaces(), 0..2u8, some()).prop_map(|(ns, team, some)| {
            (ObjectKind::Namespace, ObjectName::new("", ns), some.then(|| namespace(ns, team)))
        }),
        2 => services.prop_map(|(ns, name, of, some)| {
            (ObjectKind::Service, ObjectName::new(ns, format!("s{name}")), some.then(|| service(ns, name, of)))
        }),
        3 => slices.prop_map(|(ns, name, endpoints, some)| {
            let object = some.then(|| slice(ns, name, &endpoints));
            (ObjectKind::EndpointSlice, ObjectName::new(ns, format!("s{name}-x")), object)
        }),
        3 => policies.prop_map(|(ns, name, kind, some)| {
            (ObjectKind::Policy, ObjectName::new(ns, format!("np{name}")), some.then(|| policy(ns, name, kind)))
        }),
    ]
}

fn gone(kind: ObjectKind, name: ObjectName) -> Change {
    match kind {
        ObjectKind::Pod => Change::PodGone(name),
        ObjectKind::Namespace => Change::NamespaceGone(name.name),
        ObjectKind::Policy => Change::PolicyGone(name),
        ObjectKind::Service => Change::ServiceGone(name),
        ObjectKind::EndpointSlice => Change::EndpointSliceGone(name),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_compiled_does_not_depend_on_what_was_before(
        rounds in proptest::collection::vec(proptest::collection::vec(step(), 1..4), 1..40),
        most in prop_oneof![Just(1), Just(2), Just(1000)],
    ) {
        let node_addresses = ["10.0.9.9".parse::<IpAddr>().unwrap()].into_iter().collect();
        let budget = Budget { pod_service_flows: most, ..Budget::default() };
        let settings = Settings { node: "n".into(), zone: "".into(), node_addresses, budget };
        let mut compiler = Compiler::new(settings.clone(), Snapshot::default());
        let mut objects: BTreeMap<String, Value> = BTreeMap::new();
        let mut known: BTreeMap<String, _> = BTreeMap::new();
        for steps in rounds {
            let mut changes = Vec::new();
            for (kind, name, object) in steps {
                let key = format!("{kind:?} {name}");
                changes.push(if let Some(object) = object {
                    objects.insert(key, object.clone());
                    change(object)
                } else {
                    objects.remove(&key);
                    gone(kind, name)
                });
            }
            let affected = compiler.apply_all(changes).pods;
            let items: Vec<Value> = objects.values().cloned().collect();
            let fresh = Compiler::new(settings.clone(), read(&items));
            let compiled = |of: &Compiler| -> BTreeMap<String, _> {
                of.all_compiled().map(|(uid, _, policy)| (uid.to_string(), policy.clone())).collect()
            };
            let now = compiled(&compiler);
            prop_assert_eq!(&now, &compiled(&fresh), "{:#?}", &items);
            prop_assert_eq!(compiler.reports(), fresh.reports());
            prop_assert_eq!(compiler.sets(), fresh.sets());
            for uid in now.keys().chain(known.keys()).filter(|uid| now.get(*uid) != known.get(*uid)) {
                prop_assert!(affected.contains(uid.as_str()), "{} is another and nobody is told", uid);
            }
            known = now;
        }
        let nothing = HashSet::new();
        for kind in ObjectKind::ALL {
            let gone = compiler.missing(kind, &nothing);
            compiler.apply_all(gone);
        }
        prop_assert_eq!((compiler.all_compiled().count(), compiler.sets(), compiler.reports().len()), (0, 0, 0));
    }
}
