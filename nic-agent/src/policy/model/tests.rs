use std::path::Path;

use serde_json::{Value, json};

use crate::policy::model::{Directions, Peers, Policy, Ports, Protocol};
use crate::policy::{EndpointSlice, FileError, Pod, Snapshot};

fn policy(spec: &Value) -> Policy {
    serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "p", "uid": "u"}, "spec": spec}))
        .unwrap()
}

#[test]
fn missing_types_are_filled_in() {
    let types = |spec| policy(&spec).isolates;
    let both = Directions { ingress: true, egress: true };
    let (only_in, only_out) = (Directions { egress: false, ..both }, Directions { ingress: false, ..both });
    assert_eq!(types(json!({"podSelector": {}})), only_in);
    assert_eq!(types(json!({"podSelector": {}, "egress": []})), only_in);
    assert_eq!(types(json!({"podSelector": {}, "egress": [{}]})), both);
    assert_eq!(types(json!({"podSelector": {}, "policyTypes": ["Egress"], "ingress": [{}]})), only_out);
    assert_eq!(types(json!({"podSelector": {}, "policyTypes": ["Egress", "Ingress"]})), both);
}

#[test]
fn a_field_that_makes_no_sense_is_named_and_its_rule_allows_nothing() {
    let from = |peer: Value| json!({"podSelector": {}, "ingress": [{"from": [peer]}]});
    let ports = |port: Value| json!({"podSelector": {}, "ingress": [{"ports": [port]}]});
    let block = |cidr: &str, except: &[&str]| from(json!({"ipBlock": {"cidr": cidr, "except": except}}));
    let expression = |it: Value| from(json!({"podSelector": {"matchExpressions": [it]}}));
    for (spec, field, says) in [
        (block("10.0.0.0/33", &[]), "from[0].ipBlock.cidr", "10.0.0.0/33"),
        (block("10.0.0.0", &[]), "from[0].ipBlock.cidr", "prefix"),
        (block("::ffff:10.0.0.0/104", &[]), "from[0].ipBlock.cidr", "as IPv4"),
        (
            block("10.0.0.0/8", &["10.1.0.0/16", "11.0.0.0/16"]),
            "from[0].ipBlock.except[1]",
            "not within 10.0.0.0/8",
        ),
        (block("10.0.0.0/8", &["fd00::/64"]), "from[0].ipBlock.except[0]", "not within"),
        (from(json!({})), "from[0]", "is empty"),
        (from(json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}})), "from[0]", "two peers"),
        (
            expression(json!({"key": "a", "operator": "Gt", "values": ["1"]})),
            "matchExpressions[0].operator",
            "NotIn",
        ),
        (expression(json!({"key": "a", "operator": "In"})), "matchExpressions[0].values", "at least one"),
        (
            expression(json!({"key": "a", "operator": "Exists", "values": ["x"]})),
            "matchExpressions[0].values",
            "remove",
        ),
        (ports(json!({"port": 0})), "ports[0].port", "1 to 65535"),
        (ports(json!({"port": 65536})), "ports[0].port", "65536"),
        (ports(json!({"port": 80, "endPort": 70_000})), "ports[0].port", "70000"),
        (ports(json!({"port": 80, "endPort": 79})), "ports[0].endPort", "below"),
        (ports(json!({"endPort": 79})), "ports[0].endPort", "first port"),
        (ports(json!({"port": "http", "endPort": 79})), "ports[0].endPort", "first port"),
        (ports(json!({"port": ""})), "ports[0].port", "empty name"),
        (ports(json!({"port": 80, "protocol": "tcp"})), "ports[0].protocol", "TCP, UDP or SCTP"),
    ] {
        let policy = policy(&spec);
        let [fault] = policy.faults.as_slice() else { panic!("{spec}: {:?}", policy.faults) };
        let full = format!("spec.ingress[0].{field}");
        assert!(
            fault.field == full || fault.field == full.replace("matchE", "from[0].podSelector.matchE"),
            "{fault}"
        );
        assert!(fault.what.contains(says), "{fault}");
        assert_eq!(policy.ingress[0].peers, Peers::Of(vec![]), "{spec}");
        assert_eq!(policy.ingress[0].ports, Ports::Of(vec![]), "{spec}");
    }
    // Whom it isolates cannot be known: everybody.
    let wrong = policy(
        &json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "?"}]}, "policyTypes": ["In"]}),
    );
    assert_eq!(wrong.faults.len(), 2);
    assert_eq!(wrong.selector.requirements().count(), 0);
    assert_eq!(wrong.isolates, Directions { ingress: true, egress: true });
}

/// The API server takes any number for an EndpointSlice's port.
#[test]
fn a_port_that_no_packet_has_leaves_the_others() {
    for odd in [json!(70000), json!(-1), json!(0), json!(i32::MAX), json!(null), json!("http")] {
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"name": "s-1", "namespace": "a", "labels": {"kubernetes.io/service-name": "s"}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}],
            "ports": [{"name": "odd", "port": odd.clone()}, {"name": "http", "port": 80}, {"name": "all"}]}))
        .unwrap();
        let ports: Vec<(&str, u16)> = slice.ports.iter().map(|it| (&*it.name, it.number)).collect();
        assert_eq!((ports.as_slice(), slice.endpoints.len()), ([("http", 80)].as_slice(), 1), "{odd}");
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "a"},
            "spec": {"containers": [{"ports": [{"name": "odd", "containerPort": odd.clone()}, {"name": "x", "containerPort": 1}]}]}}))
        .unwrap();
        assert_eq!((pod.port("odd", Protocol::Tcp), pod.port("x", Protocol::Tcp)), (None, Some(1)), "{odd}");
    }
}

#[test]
fn a_list_as_kubectl_writes_it() {
    let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "a", "uid": "u1", "labels": null},
         "spec": {"nodeName": "n1", "hostNetwork": null, "tolerations": [],
            "initContainers": [
                {"name": "once", "ports": [{"name": "once", "containerPort": 1}]},
                {"name": "side", "restartPolicy": "Always", "ports": [{"name": "http", "containerPort": 2}, {"name": "side", "containerPort": 3}]}],
            "containers": [{"ports": [{"containerPort": 9}, {"name": "http", "containerPort": 8080, "protocol": "TCP"}]}]},
         "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}},
        {"kind": "Pod", "metadata": {"name": "new", "namespace": "a"}, "spec": {}, "status": {"phase": "Pending"}},
        {"kind": "ConfigMap", "metadata": {"name": "other"}},
        {"kind": "Service", "metadata": {"name": "s", "namespace": "a"}, "spec": {"type": "ExternalName", "externalName": "x", "clusterIP": "10.96.0.9"}},
        {"kind": "Service", "metadata": {"name": "h", "namespace": "a"}, "spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]}},
        {"kind": "Service", "metadata": {"name": "o", "namespace": "a"}, "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}},
    ]});
    let read = Snapshot::parse(Path::new("f"), list.to_string().as_bytes()).unwrap();
    let [web, new] = read.pods.as_slice() else { panic!() };
    assert_eq!(web.ips.len(), 2);
    assert_eq!(web.port("http", Protocol::Tcp), Some(8080));
    assert_eq!(web.port("side", Protocol::Tcp), Some(3));
    assert_eq!(web.port("http", Protocol::Udp), None);
    assert_eq!(web.port("once", Protocol::Tcp), None);
    assert!(new.ips.is_empty() && new.node.is_empty() && new.is_networked());
    let vips: Vec<usize> = read.services.iter().map(|it| it.cluster_ips.len()).collect();
    assert_eq!(vips, [0, 0, 1]);
    // Alone, and wrong.
    let alone = Snapshot::parse(Path::new("f"), list["items"][0].to_string().as_bytes()).unwrap();
    assert_eq!(alone.pods, read.pods[..1]);
    let mut bad = list.clone();
    bad["items"][0]["status"]["podIPs"][0]["ip"] = "10.0.0".into();
    let error = Snapshot::parse(Path::new("/f.json"), bad.to_string().as_bytes()).unwrap_err();
    assert!(matches!(error, FileError::Item { index: 0, .. }));
    let error = error.to_string();
    assert!(
        ["/f.json", "item 0", "Pod", "web", "podIPs", "10.0.0"].iter().all(|it| error.contains(it)),
        "{error}"
    );
    assert!(matches!(Snapshot::parse(Path::new("f"), b"{}").unwrap_err(), FileError::Parse { .. }));
    assert!(matches!(Snapshot::from_file(Path::new("/does/not/exist")).unwrap_err(), FileError::Read { .. }));
}
