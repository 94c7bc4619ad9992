use serde_json::{Value, json};

use super::*;

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";
const HEADLESS: &str = "service.kubernetes.io/headless";

fn service(spec: impl Into<Value>) -> Service {
    let object = json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": spec.into()});
    serde_json::from_value(object).unwrap()
}

fn slice(kind: &str, endpoints: &Value) -> EndpointSlice {
    let object = json!({"metadata": {"namespace": "shop", "name": "web-x1", "labels": {SERVICE_NAME: "web"}},
                        "addressType": kind, "endpoints": endpoints,
                        "ports": [{"name": "", "port": 8080, "protocol": "TCP"}, {"name": "all"}]});
    serde_json::from_value(object).unwrap()
}

#[test]
fn a_service_with_addresses_of_its_own() {
    let ports = json!([{"port": 80}, {"name": "dns", "protocol": "UDP", "port": 53}]);
    let seen =
        service(json!({"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00::a"], "ports": ports,
                              "sessionAffinity": "None", "type": "ClusterIP"}));
    assert_eq!((seen.name, seen.cluster_ips.len()), (ObjectName::new("shop", "web"), 2));
    let told: Vec<_> = seen.ports.iter().map(|it| (&*it.name, it.protocol, it.number)).collect();
    assert_eq!(told, [("", Protocol::Tcp, 80), ("dns", Protocol::Udp, 53)]);
    assert_eq!((seen.affinity, seen.local, seen.ports_found, seen.fault), (None, false, 2, None));
    // Older than clusterIPs.
    assert_eq!(service(json!({"clusterIP": "10.96.0.10"})).cluster_ips.len(), 1);
    for none in [json!({"clusterIP": "None", "clusterIPs": ["None"]}), json!({"clusterIP": ""}), json!({})] {
        assert!(service(none).cluster_ips.is_empty());
    }
    let others = json!({"metadata": {"namespace": "a", "name": "b", "labels": {OTHER_PROXY: "x"}},
                       "spec": {"clusterIPs": ["10.96.0.10"], "ports": ports}});
    assert!(serde_json::from_value::<Service>(others).unwrap().cluster_ips.is_empty());
    let external = json!({"type": "ExternalName", "externalName": "x.org", "clusterIPs": ["10.96.0.10"]});
    assert!(service(external).cluster_ips.is_empty());
}

#[test]
fn affinity_and_locality() {
    let spec = |config: Value| {
        json!({"clusterIPs": ["10.96.0.10"], "ports": [], "sessionAffinity": "ClientIP",
               "sessionAffinityConfig": config, "internalTrafficPolicy": "Local"})
    };
    let seen = service(spec(json!({"clientIP": {"timeoutSeconds": 60}})));
    assert_eq!((seen.affinity, seen.local), (Some(60), true));
    assert_eq!(service(spec(Value::Null)).affinity, Some(10_800));
}

/// What is wrong is left out and said, and takes nothing else with it.
#[test]
fn what_cannot_be_read_is_said() {
    let seen = service(json!({"clusterIPs": ["10.96.0.010", "10.96.0.11"],
        "ports": [{"port": 80, "protocol": "tcp"}, {"port": 81}, {"port": 70_000}]}));
    assert_eq!((seen.cluster_ips.len(), seen.ports.len()), (1, 1));
    assert!(seen.fault.unwrap().starts_with("spec.clusterIPs[] is \"10.96.0.010\", which is no address"));
    let seen = service(json!({"clusterIPs": ["10.96.0.11"], "ports": [{"port": 80, "protocol": "tcp"}]}));
    assert_eq!(&*seen.fault.unwrap(), "spec.ports[].protocol is \"tcp\"; write TCP, UDP or SCTP");
    let seen = slice("IPv4", &json!([{"addresses": ["::ffff:10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]));
    assert_eq!(seen.endpoints.len(), 1);
    assert!(seen.fault.unwrap().starts_with("endpoints[].addresses[] is"));
    for nonsense in [json!(5), json!([]), json!({"metadata": 5, "spec": "x", "endpoints": 7})] {
        assert!(serde_json::from_value::<Service>(nonsense.clone()).unwrap().ports.is_empty());
        assert!(serde_json::from_value::<EndpointSlice>(nonsense).unwrap().service.is_none());
    }
}

#[test]
fn endpoints_say_what_they_say_or_what_kube_proxy_assumes() {
    let endpoints = json!([
        {"addresses": ["10.244.1.5", "10.244.1.6"], "conditions": {}, "nodeName": "node1"},
        {"addresses": ["10.244.1.7"], "conditions": {"ready": false, "serving": true, "terminating": true},
            "hints": {"forZones": [{"name": "z1"}, {"name": ""}], "forNodes": [{"name": "n1"}]}},
        {"addresses": ["fd00::7"]},
        {"addresses": []},
    ]);
    let seen = slice("IPv4", &endpoints);
    let told: Vec<(String, bool, bool, bool)> =
        seen.endpoints.iter().map(|e| (e.address.to_string(), e.ready, e.serving, e.terminating)).collect();
    assert_eq!(told, [("10.244.1.5".into(), true, true, false), ("10.244.1.7".into(), false, true, true)]);
    assert_eq!(seen.endpoints[0].node.as_deref(), Some("node1"));
    let hints = Hints { zones: vec!["z1".into()], nodes: vec!["n1".into()] };
    assert_eq!((&seen.endpoints[0].hints, seen.endpoints[1].hints.as_deref()), (&None, Some(&hints)));
    assert_eq!(seen.ports.len(), 1);
    assert_eq!(slice("IPv6", &endpoints).endpoints.len(), 1);
    assert_eq!(slice("FQDN", &endpoints).service, None);
    assert_eq!(slice("IPv4", &Value::Null).endpoints, []);
    for others in [HEADLESS, OTHER_PROXY] {
        let object = json!({"metadata": {"namespace": "a", "name": "b", "labels": {SERVICE_NAME: "web", others: ""}},
                            "addressType": "IPv4", "endpoints": []});
        assert_eq!(serde_json::from_value::<EndpointSlice>(object).unwrap().service, None);
    }
}

#[test]
fn an_endpoint_is_a_pod_s_of_its_own_namespace_or_nobody_s() {
    let target = |kind: &str, namespace: Value| {
        let target = json!({"kind": kind, "namespace": namespace, "name": "web-0", "uid": "u1"});
        let endpoints = json!([{"addresses": ["10.244.1.5"], "targetRef": target}]);
        let endpoints = slice("IPv4", &endpoints).endpoints;
        endpoints.into_iter().map(|it| it.target).collect::<Vec<_>>()
    };
    let named = Some(Target { pod: ObjectName::new("shop", "web-0"), uid: "u1".into() });
    assert_eq!(target("Pod", json!("shop")), std::slice::from_ref(&named));
    assert_eq!(target("Pod", Value::Null), std::slice::from_ref(&named));
    assert_eq!(target("VirtualMachine", json!("shop")), [None]);
    assert_eq!(target("Pod", json!("bank")), []);
}

/// Of a Service with port 80 of 8080, for a client on n1 in z1: the last bytes of addresses.
fn chosen(spec: &Value, endpoints: &Value) -> (String, String, Scope) {
    let mut spec = spec.clone();
    spec["ports"] = json!([{"port": 80}]);
    let (service, slice) = (service(spec), slice("IPv4", endpoints));
    let backing = Backing::new(&service, [&slice], |it| it.address.to_string() != "10.0.0.9");
    let port = service.ports.first().unwrap();
    let client = Client { node: "n1", zone: "z1" };
    let told = |all: Vec<(std::net::IpAddr, u16)>| {
        let last = all.iter().map(|(ip, port)| {
            assert_eq!(*port, 8080);
            ip.to_string().rsplit('.').next().unwrap().to_owned()
        });
        last.collect::<Vec<_>>().join(" ")
    };
    (
        told(backing.backends(port, true, client)),
        told(backing.backends_or_listed(port, true, client)),
        backing.scope(port, true),
    )
}

#[test]
fn as_kube_proxy_chooses() {
    let at = |n: u8, conditions: [bool; 3], node: &str, zones: &[&str], nodes: &[&str]| {
        let [ready, serving, terminating] = conditions;
        let names = |all: &[&str]| all.iter().map(|it| json!({"name": it})).collect::<Value>();
        json!({"addresses": [format!("10.0.0.{n}")], "nodeName": node,
            "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
            "hints": {"forZones": names(zones), "forNodes": names(nodes)}})
    };
    let (ready, leaving) = ([true, true, false], [false, true, true]);
    let (not_ready, gone) = ([false, false, false], [false, false, true]);
    let (any, local) = (json!({}), json!({"internalTrafficPolicy": "Local"}));
    for (spec, endpoints, expected, listed, scope) in [
        (
            &any,
            json!([at(1, ready, "n1", &[], &[]), at(2, leaving, "n1", &[], &[])]),
            "1",
            "1",
            Scope::Cluster,
        ),
        (
            &any,
            json!([at(1, not_ready, "n1", &[], &[]), at(2, leaving, "n2", &[], &[])]),
            "2",
            "2",
            Scope::Cluster,
        ),
        // Connections that it has had may go on.
        (
            &any,
            json!([at(1, not_ready, "n1", &[], &[]), at(2, gone, "n1", &[], &[])]),
            "",
            "1 2",
            Scope::Cluster,
        ),
        (
            &any,
            json!([at(9, ready, "n1", &[], &[]), at(2, leaving, "n1", &[], &[])]),
            "2",
            "2",
            Scope::Cluster,
        ),
        (
            &local,
            json!([at(1, ready, "n2", &[], &[]), at(2, leaving, "n1", &[], &[])]),
            "2",
            "2",
            Scope::Node,
        ),
        (&local, json!([at(1, ready, "n2", &[], &[]), at(2, gone, "n2", &[], &[])]), "", "", Scope::Node),
        (
            &any,
            json!([at(1, ready, "n1", &["z1"], &[]), at(2, ready, "n2", &["z2"], &[])]),
            "1",
            "1",
            Scope::Zone,
        ),
        // One says nothing: all are for all. One that is not believed says nothing of the others.
        (
            &any,
            json!([at(1, ready, "n1", &["z1"], &[]), at(2, ready, "n2", &[], &[])]),
            "1 2",
            "1 2",
            Scope::Cluster,
        ),
        (
            &any,
            json!([at(1, ready, "n1", &["z1"], &[]), at(9, ready, "n2", &[], &[])]),
            "1",
            "1",
            Scope::Zone,
        ),
        (
            &any,
            json!([at(1, ready, "n1", &["z1"], &[]), at(2, leaving, "n2", &[], &[])]),
            "1",
            "1",
            Scope::Zone,
        ),
        // None for this zone: all.
        (
            &any,
            json!([at(1, ready, "n1", &["z2"], &[]), at(2, ready, "n2", &["z3"], &[])]),
            "1 2",
            "1 2",
            Scope::Zone,
        ),
        (
            &any,
            json!([at(1, ready, "n1", &["z1"], &["n1"]), at(2, ready, "n2", &["z1"], &["n2"])]),
            "1",
            "1",
            Scope::Node,
        ),
        // None for this node: those for its zone.
        (
            &any,
            json!([at(1, ready, "n2", &["z1"], &["n2"]), at(2, ready, "n3", &["z3"], &["n3"])]),
            "1",
            "1",
            Scope::Node,
        ),
        (
            &local,
            json!([at(1, ready, "n1", &["z2"], &["n2"]), at(2, ready, "n2", &["z1"], &["n1"])]),
            "1",
            "1",
            Scope::Node,
        ),
        (&any, json!([]), "", "", Scope::Cluster),
    ] {
        let told = (expected.to_owned(), listed.to_owned(), scope);
        assert_eq!(chosen(spec, &endpoints), told, "{spec} {endpoints}");
    }
}

#[test]
fn how_many_could_be_chosen() {
    let service = service(json!({"ports": [{"port": 80}]}));
    let conditions = [json!({}), json!({"ready": false}), json!({"ready": false, "terminating": true})];
    let endpoints = conditions.map(|it| json!({"addresses": ["10.0.0.1"], "conditions": it}));
    let slice = slice("IPv4", &json!(endpoints));
    let backing = Backing::new(&service, [&slice, &slice], |_| true);
    let port = service.ports.first().unwrap();
    assert_eq!((backing.count(port, true), backing.count(port, false)), (4, 0));
}
