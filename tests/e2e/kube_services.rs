//! Services with real packets: objects at a real API server, EndpointSlices by the real controller manager, OVN's load
//! balancers by cluster-controller. Every answer names the pod that gave it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "kube_services/bounds.rs"]
mod bounds;
#[path = "kube_services/choice.rs"]
mod choice;
#[path = "kube_services/herald.rs"]
mod herald;
#[path = "kube_services/removal.rs"]
mod removal;
#[path = "kube_services/table.rs"]
mod table;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use serde_json::{Value, json};
use tests::cluster::{Api, KubePod, Namespaces, Wanted};

use herald::Herald;

const NAMESPACE: &str = "services";
/// Of every Service.
const PORT: u16 = 80;
/// Seconds that a pod serves on after it was told to end.
const GRACE: u32 = 30;
/// And the one that a whole test is made with meanwhile.
const LONG_GRACE: u32 = 3600;

/// Name, server, and the port at which it serves: the Services' port has a name, and is another in each pod.
const PODS: [(&str, &str, u16); 6] = [
    ("near", "host1", 8080),
    ("second", "host1", 8081),
    ("far", "host2", 8082),
    ("client-near", "host1", 8083),
    ("client-far", "host2", 8084),
    (choice::LEAVES, "host2", 8085),
];

/// Name, the pods behind it, and whether a client stays with one.
const SERVICES: [(&str, &[&str], bool); 6] = [
    ("one", &["near"], false),
    ("other", &["far"], false),
    ("mixed", &["near", "far"], false),
    ("sticky", &["near", "far"], true),
    ("nobody", &[], false),
    ("shrinking", &["near", "second", "far"], false),
];

fn pod(&(name, node, port): &(&str, &'static str, u16)) -> Wanted {
    let labels = SERVICES.iter().filter(|it| it.1.contains(&name)).map(|it| (it.0.to_owned(), json!("yes")));
    let own = [("pod".to_owned(), json!(name))].into_iter();
    let leaves = (name == choice::LEAVES).then(|| ("leaving".to_owned(), json!("yes")));
    let labels = labels.chain(own).chain(leaves);
    Wanted {
        namespace: NAMESPACE.to_owned(),
        name: name.to_owned(),
        node,
        labels: labels.collect::<serde_json::Map<_, _>>().into(),
        ports: json!([{"name": "tcp", "protocol": "TCP", "containerPort": port},
            {"name": "udp", "protocol": "UDP", "containerPort": port}]),
        grace: match name {
            "second" => GRACE,
            choice::LEAVES => LONG_GRACE,
            _ => 0,
        },
    }
}

/// Its ClusterIPs.
fn service(api: &Api, name: &str, is_sticky: bool) -> [IpAddr; 2] {
    let affinity = if is_sticky { "ClientIP" } else { "None" };
    service_with(api, name, name, &json!({"sessionAffinity": affinity}))
}

/// Of the pods with this label, and with these fields of its `spec`.
fn service_with(api: &Api, name: &str, label: &str, fields: &Value) -> [IpAddr; 2] {
    let mut object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {
        "selector": {label: "yes"}, "ipFamilyPolicy": "RequireDualStack",
        "ports": [{"name": "tcp", "protocol": "TCP", "port": PORT, "targetPort": "tcp"},
            {"name": "udp", "protocol": "UDP", "port": PORT, "targetPort": "udp"}]}});
    for (field, value) in fields.as_object().expect("fields") {
        object["spec"][field] = value.clone();
    }
    let made = api.create(&format!("/api/v1/namespaces/{NAMESPACE}/services"), &object);
    let ip = |value: &Value| value.as_str().and_then(|it| it.parse().ok());
    let mut ips: Vec<IpAddr> =
        made["spec"]["clusterIPs"].as_array().expect("addresses").iter().filter_map(ip).collect();
    ips.sort_by_key(IpAddr::is_ipv6);
    ips.try_into().unwrap_or_else(|_| panic!("two addresses: {made}"))
}

/// Pods by name, and the Services' addresses.
struct Scene {
    pods: BTreeMap<&'static str, KubePod>,
    services: BTreeMap<&'static str, [IpAddr; 2]>,
}

#[test]
fn whoever_is_behind_a_service_answers() {
    let api = Api::admin();
    let _zones = choice::Zones::set(&api);
    let began = Instant::now();
    let namespaces = Namespaces::create(&api, &[(NAMESPACE, json!({}))]);
    // Before the pods: a client's first packet may find the load balancer, and what is behind it comes later.
    let services = SERVICES.iter().map(|(name, _, sticky)| (*name, service(&api, name, *sticky))).collect();
    let pods = namespaces.run(&PODS.iter().map(pod).collect::<Vec<_>>());
    println!("the pods run after {:.0} s", began.elapsed().as_secs_f64());
    let scene = Scene { pods: PODS.iter().map(|it| it.0).zip(pods).collect(), services };
    let heralds: Vec<Herald> =
        PODS.iter().map(|(name, _, port)| Herald::start(&scene.pods[name], name, *port)).collect();

    bounds::run();
    table::run(&scene);
    println!("the table is through after {:.0} s", began.elapsed().as_secs_f64());
    removal::run(&api, &scene);
    println!("the removal is through after {:.0} s", began.elapsed().as_secs_f64());
    choice::run(&api, &scene);
    println!("the choice is through after {:.0} s", began.elapsed().as_secs_f64());
    drop(heralds);
}
