use serde_json::{Value, json};

use super::*;
use crate::cluster::{EndpointSlice, Service};

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Objects that went wrong, as nic-agent's tests make them.
#[path = "../../../../nic-agent/src/cluster/testing/mutation.rs"]
mod mutation;

fn read<K: Watched + serde::de::DeserializeOwned>(object: Value) -> Option<Change> {
    let resources = VfResources(vec!["drawbridge.dev/vf".to_owned()]);
    serde_json::from_value::<K>(object).unwrap().present(&resources)
}

/// A pod as the API has it, with some fields put over it.
fn pod(change: impl FnOnce(&mut Value)) -> Option<Pod> {
    let mut object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop", "name": "web-0", "uid": "u1", "labels": {"a": "b"}},
        "spec": {
            "nodeName": "node1",
            "containers": [
                {"name": "x", "image": "i"},
                {"name": "y", "resources": {"limits": {"cpu": "1", "drawbridge.dev/vf": "1"},
                                            "requests": {"cpu": "1", "drawbridge.dev/vf": "1"}}},
            ],
        },
        "status": {"phase": "Pending", "conditions": []},
    });
    change(&mut object);
    match read::<PodObject>(object) {
        Some(Change::Pod(name, pod)) => {
            assert_eq!(name, ObjectName::new("shop", "web-0"));
            pod
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pod_counts_from_when_it_has_a_node_until_it_is_finished() {
    let plain = Pod { uid: "u1".into(), node: "node1".into(), vf: true, host_network: false, mirror: false };
    assert_eq!(pod(|_| {}), Some(plain));
    assert!(pod(|object| object["status"]["phase"] = json!("Running")).is_some());
    // On its way out, it still has its VF.
    assert!(pod(|object| object["metadata"]["deletionTimestamp"] = json!("2026-11-21T12:00:00Z")).is_some());
    assert_eq!(pod(|object| drop(object["spec"].as_object_mut().unwrap().remove("nodeName"))), None);
    for phase in ["Succeeded", "Failed"] {
        assert_eq!(pod(|object| object["status"]["phase"] = json!(phase)), None);
    }
}

#[test]
fn a_pod_counts_by_its_resources() {
    let container = |resources: Value| json!([{"name": "x", "resources": resources}]);
    for (resources, counts) in [
        (json!({}), false),
        (json!({"limits": {"cpu": "1"}}), false),
        (json!({"limits": {"drawbridge.dev/vf": "0"}}), false),
        (json!({"limits": {"drawbridge.dev/vf": 2}}), true),
        (json!({"requests": {"drawbridge.dev/vf_100g": "1"}}), true),
        (json!({"limits": {"other.dev/vf": "1"}}), false),
    ] {
        let seen = pod(|object| object["spec"]["containers"] = container(resources.clone()));
        assert_eq!(seen.unwrap().vf, counts, "{resources}");
    }
    let seen = pod(|object| {
        object["spec"]["initContainers"] = container(json!({"limits": {"drawbridge.dev/vf": "1"}}));
        object["spec"]["containers"] = container(json!({}));
    });
    assert!(seen.unwrap().vf);
    assert!(pod(|object| object["spec"]["hostNetwork"] = json!(true)).unwrap().host_network);
}

#[test]
fn a_mirror_of_a_static_pod_is_known_by_its_annotation_or_its_owner() {
    let owned = |kind: &str| json!([{"apiVersion": "v1", "kind": kind, "name": "n", "uid": "u"}]);
    for (meta, value, mirror) in [
        ("annotations", json!({"kubernetes.io/config.mirror": ""}), true),
        ("annotations", json!({"kubernetes.io/config.source": "api"}), false),
        ("ownerReferences", owned("Node"), true),
        ("ownerReferences", owned("ReplicaSet"), false),
    ] {
        let seen = pod(|object| object["metadata"][meta] = value.clone());
        assert_eq!(seen.unwrap().mirror, mirror, "{value}");
    }
}

#[test]
fn an_attachment_of_which_a_part_cannot_be_read_says_nothing() {
    let attached = |ips: Value| {
        let object = json!({
            "metadata": {"namespace": "shop", "name": "web-eth0", "creationTimestamp": "2026-11-21T12:00:00Z"},
            "spec": {"pod": {"name": "web", "uid": "u"}, "interface": "eth0", "nodeName": "n1"},
            "status": {"logicalPort": "shop_web", "mac": "0a:00:00:00:00:07", "ips": ips},
        });
        match read::<AttachmentObject>(object) {
            Some(Change::Attachment(_, attached)) => attached,
            other => panic!("{other:?}"),
        }
    };
    let seen = attached(json!(["10.244.1.7"])).unwrap();
    assert_eq!((&*seen.node, seen.ips.len(), seen.created.is_some()), ("n1", 1, true));
    for bad in [json!(["10.244.1.7", "10.244.01.8"]), json!(["10.244.1.7/24"]), json!([])] {
        assert_eq!(attached(bad.clone()), None, "{bad}");
    }
}

fn service(spec: &Value) -> Option<Service> {
    let object = json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": spec});
    match read::<ServiceObject>(object) {
        Some(Change::Service(name, service)) => {
            assert_eq!(name, ObjectName::new("shop", "web"));
            service
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn services_with_addresses_of_their_own() {
    let ports = json!([{"port": 80}]);
    for kind in ["ClusterIP", "NodePort", "LoadBalancer"] {
        let spec = json!({"clusterIPs": ["10.96.0.10"], "ports": ports, "type": kind});
        assert!(service(&spec).is_some());
    }
    // Headless, of another's name, not yet given an address.
    for spec in
        [json!({"clusterIP": "None", "clusterIPs": ["None"]}), json!({"type": "ExternalName"}), json!({})]
    {
        assert_eq!(service(&spec), None);
    }
}

#[test]
fn slices_that_back_a_cluster_ip() {
    let slice = |labels: Value, kind: &str| -> Option<EndpointSlice> {
        let object = json!({"metadata": {"namespace": "shop", "name": "web-x1", "labels": labels},
            "addressType": kind, "endpoints": [{"addresses": ["10.244.1.5"]}], "ports": [{"port": 8080}]});
        match read::<SliceObject>(object) {
            Some(Change::Slice(name, slice)) => {
                assert_eq!(name, ObjectName::new("shop", "web-x1"));
                slice
            }
            other => panic!("{other:?}"),
        }
    };
    let seen = slice(json!({SERVICE_NAME: "web"}), "IPv4").unwrap();
    assert_eq!((seen.service.as_deref(), seen.endpoints.len()), (Some("web"), 1));
    assert_eq!(slice(json!({SERVICE_NAME: "web"}), "FQDN"), None);
    assert_eq!(slice(json!({SERVICE_NAME: "web", "service.kubernetes.io/headless": ""}), "IPv4"), None);
    assert_eq!(slice(json!({}), "IPv4"), None);
}

#[test]
fn nodes_and_their_nics() {
    let node = json!({"metadata": {"name": "n", "uid": "u", "labels": {"topology.kubernetes.io/zone": "z"}},
                      "spec": {"podCIDR": "x", "podCIDRs": ["10.244.1.0/24", "nonsense"]}});
    let claims = vec!["10.244.1.0/24".to_owned(), "nonsense".to_owned()];
    let seen = Node { uid: "u".into(), pod_cidrs: claims, zone: "z".into(), nic_taint: false };
    assert_eq!(read::<NodeObject>(node), Some(Change::Node("n".into(), Some(seen))));
    let nic =
        |spec: Value, status: Value| json!({"metadata": {"name": "nic1"}, "spec": spec, "status": status});
    let plain = NicNode {
        node: "n".into(),
        management: false,
        static_pods: false,
        chassis: None,
        managed: None,
        health: NicHealth::default(),
    };
    let managed = Managed { mac: "0a:00:00:00:00:07".into(), ips: vec!["10.244.1.7".parse().unwrap()] };
    let full = NicNode {
        management: true,
        static_pods: true,
        chassis: Some("c".into()),
        managed: Some(managed),
        ..plain.clone()
    };
    let vf =
        json!({"nodeName": "n", "managementPort": {"pf": 0, "vf": 3}, "ovn": {}, "staticPods": "Allowed"});
    let seen = |nic_node| Some(Change::NicNode("nic1".into(), Some(nic_node)));
    let status =
        json!({"chassis": "c", "managementPort": {"mac": "0a:00:00:00:00:07", "ips": ["10.244.1.7"]}});
    assert_eq!(read::<NicNodeObject>(nic(vf, status)), seen(full));
    let refused = json!({"nodeName": "n", "staticPods": "Refused"});
    assert_eq!(read::<NicNodeObject>(nic(refused, json!({"chassis": ""}))), seen(plain));
}

#[test]
fn a_nodes_taint_and_a_nics_health() {
    let tainted = |taints: Value| {
        let node = json!({"metadata": {"name": "n", "uid": "u"}, "spec": {"taints": taints}});
        match read::<NodeObject>(node) {
            Some(Change::Node(_, Some(node))) => node.nic_taint,
            other => panic!("{other:?}"),
        }
    };
    let taint = |key: &str, effect: &str| json!({"key": key, "effect": effect});
    let ours = taint("drawbridge.dev/nic-not-ready", "NoSchedule");
    assert!(tainted(json!([taint("a", "NoExecute"), ours])));
    assert!(tainted(json!([5, {"key": 7}, ours])), "what cannot be read hides nothing");
    for others in [
        json!([taint("drawbridge.dev/nic-not-ready", "NoExecute")]),
        json!([taint("a", "NoSchedule")]),
        json!([]),
        Value::Null,
    ] {
        assert!(!tainted(others.clone()), "{others}");
    }
    let health = |status: Value| {
        let nic = json!({"metadata": {"name": "nic1"}, "spec": {"nodeName": "n"}, "status": status});
        match read::<NicNodeObject>(nic) {
            Some(Change::NicNode(_, Some(nic))) => nic.health,
            other => panic!("{other:?}"),
        }
    };
    let of = |status: &str| {
        json!([{"type": "Configured", "status": "True"}, 3,
                                   {"type": "Ready", "status": status, "message": "why"}])
    };
    let seen = health(json!({"lastHeartbeatTime": "2026-11-30T03:00:00Z", "conditions": of("True")}));
    assert_eq!((seen.ready, seen.heartbeat.as_deref()), (true, Some("2026-11-30T03:00:00Z")));
    for status in ["False", "Unknown", "true", ""] {
        let seen = health(json!({"lastHeartbeatTime": "", "conditions": of(status)}));
        assert_eq!((seen.ready, &*seen.message, seen.heartbeat), (false, "why", None), "{status}");
    }
    assert_eq!(health(json!({"conditions": "none", "lastHeartbeatTime": 5})), NicHealth::default());
    let long = "ä".repeat(600);
    let seen = health(json!({"conditions": [{"type": "Ready", "status": "False", "message": long}]}));
    assert_eq!(seen.message.len(), NicHealth::LONGEST);
}

#[test]
fn what_the_watch_says_is_gone_is_gone() {
    assert_eq!(PodObject::absent(Some("a"), "b"), Some(Change::Pod(ObjectName::new("a", "b"), None)));
    assert_eq!(NodeObject::absent(None, "b"), Some(Change::Node("b".into(), None)));
}

/// A watch reads a list as one: a member that cannot be read would hide all others, and at each try again.
fn listed<K: Watched + serde::de::DeserializeOwned + Clone>(items: &[Value]) -> Vec<Option<Change>> {
    let list =
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}, "items": items});
    let list: kube::core::ObjectList<K> = serde_json::from_str(&list.to_string()).unwrap();
    let resources = VfResources(vec!["drawbridge.dev/vf".to_owned()]);
    list.items.into_iter().map(|it| it.present(&resources)).collect()
}

#[test]
fn a_port_that_no_packet_has_hides_neither_the_slice_nor_the_others() {
    let slice = |name: &str, port: Value| {
        json!({"metadata": {"namespace": "shop", "name": name, "labels": {SERVICE_NAME: "web"}}, "addressType": "IPv4",
               "endpoints": [{"addresses": ["10.244.1.5"]}],
               "ports": [{"name": "odd", "port": port}, {"name": "http", "port": 8080, "protocol": "TCP"}]})
    };
    // All of these the API server takes.
    for odd in [json!(70000), json!(-1), json!(0), json!(i32::MAX), Value::Null] {
        let seen = listed::<SliceObject>(&[slice("a", odd.clone()), slice("b", json!(1))]);
        let ports: Vec<Vec<u16>> = seen
            .into_iter()
            .map(|it| match it {
                Some(Change::Slice(_, Some(slice))) => slice.ports.iter().map(|it| it.number).collect(),
                other => panic!("{odd}: {other:?}"),
            })
            .collect();
        assert_eq!(ports, [vec![8080], vec![1, 8080]], "{odd}");
    }
}

#[test]
fn a_date_that_the_api_server_takes_hides_nothing() {
    let fields = json!([{"manager": "m", "operation": "Update", "time": "10000-01-01T00:00:00Z"}]);
    let service = |name: &str, fields: &Value| {
        json!({"metadata": {"namespace": "shop", "name": name, "managedFields": fields},
               "spec": {"clusterIPs": ["10.96.0.10"], "ports": [{"port": 80}]}})
    };
    let seen = listed::<ServiceObject>(&[service("a", &fields), service("b", &Value::Null)]);
    assert!(seen.iter().all(|it| matches!(it, Some(Change::Service(_, Some(_))))), "{seen:?}");
}

/// What stands in a `NodeRange` is written again only if it is another: it is read as it was written.
#[test]
fn a_node_range_is_read_as_it_was_written() {
    let condition = Condition::new("Confirmed", ConditionStatus::False, "Held", "by n2").of(Some(3));
    let status = NodeRangeStatus {
        observed_generation: Some(3),
        node_uid: Some("u".to_owned()),
        ranges: vec!["10.244.1.0/24".to_owned()],
        addresses: vec!["192.0.2.1".to_owned()],
        conditions: vec![condition.after(&[], "2026-11-21T12:00:00Z")],
    };
    let spec = NodeRangeSpec { ranges: vec!["10.244.1.0/24".to_owned()], addresses: Vec::new() };
    for status in [Some(status), Some(NodeRangeStatus::default()), None] {
        let written = NodeRange { status, ..NodeRange::new("n1", spec.clone()) };
        let seen = read::<RangeObject>(serde_json::to_value(&written).unwrap());
        assert_eq!(seen, Some(Change::NodeRange("n1".into(), Some(Box::new(written)))));
    }
    // What is wrong in one is not said at all.
    let odd = json!({"metadata": {"name": "n1"}, "spec": 5, "status": {"nodeUid": "u", "ranges": "10.244.1.0/24",
        "conditions": [{"type": "Confirmed", "status": "Perhaps"}]}});
    let status = NodeRangeStatus { node_uid: Some("u".to_owned()), ..NodeRangeStatus::default() };
    let expected = NodeRange { status: Some(status), ..NodeRange::new("n1", NodeRangeSpec::default()) };
    assert_eq!(read::<RangeObject>(odd), Some(Change::NodeRange("n1".into(), Some(Box::new(expected)))));
}

mod mutations {
    use proptest::prelude::*;

    use super::*;

    const PARTS: [&str; 6] = ["/metadata", "/spec", "/status", "/addressType", "/endpoints", "/ports"];

    fn hides_nothing<K>(good: &Value, bad: &Value)
    where
        K: Watched + serde::de::DeserializeOwned + Clone,
    {
        let seen = listed::<K>(&[bad.clone(), good.clone()]);
        assert_eq!(seen[1], listed::<K>(std::slice::from_ref(good))[0], "{bad}");
    }

    proptest! {
        #[test]
        fn no_object_of_any_kind_hides_another(edits in mutation::mutations()) {
            let meta = json!({"namespace": "shop", "name": "web", "uid": "u", "resourceVersion": "7",
                "creationTimestamp": "2026-11-21T12:00:00Z", "labels": {SERVICE_NAME: "web"},
                "annotations": {"a": "b"}, "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}],
                "managedFields": [{"manager": "m", "time": "2026-11-21T12:00:00Z"}]});
            let object = |rest: Value| {
                let mut object = rest;
                object["metadata"] = meta.clone();
                object
            };
            let objects = [
                object(json!({"spec": {"podCIDRs": ["10.244.1.0/24"]}})),
                object(json!({"spec": {"nodeName": "n", "managementPort": {"pf": 0, "vf": 3}, "staticPods": "Allowed"},
                    "status": {"chassis": "c"}})),
                object(json!({"spec": {"ranges": ["10.244.1.0/24"], "addresses": ["192.0.2.1"]}, "status": {
                    "observedGeneration": 3, "nodeUid": "u", "ranges": ["10.244.1.0/24"], "conditions": [{"type": "Confirmed",
                    "status": "True", "reason": "Plan", "message": "", "lastTransitionTime": "2026-11-21T12:00:00Z"}]}})),
                object(json!({"spec": {"nodeName": "n", "hostNetwork": false, "containers": [{"resources": {
                    "limits": {"drawbridge.dev/vf": "1"}, "requests": {"drawbridge.dev/vf": 1}}}]},
                    "status": {"phase": "Running"}})),
                object(json!({"spec": {"type": "ClusterIP", "clusterIPs": ["10.96.0.10"], "sessionAffinity": "ClientIP",
                    "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}, "internalTrafficPolicy": "Local",
                    "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}})),
                object(json!({"spec": {"pod": {"name": "web", "uid": "u"}, "nodeName": "n"}, "status": {
                    "logicalPort": "shop_web", "mac": "0a:00:00:00:00:07", "ips": ["10.244.1.7"]}})),
                object(json!({"addressType": "IPv4", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
                    "endpoints": [{"addresses": ["10.244.1.5"], "nodeName": "n", "conditions": {"ready": true,
                    "serving": true, "terminating": false}, "targetRef": {"kind": "Pod", "name": "web", "uid": "u"}}]})),
            ];
            let [node, nic, range, pod, service, attachment, slice] = &objects;
            let bad = |good: &Value| {
                let mut bad = good.clone();
                for part in PARTS {
                    mutation::mutate(&mut bad, part, &edits);
                }
                bad
            };
            hides_nothing::<NodeObject>(node, &bad(node));
            hides_nothing::<NicNodeObject>(nic, &bad(nic));
            hides_nothing::<RangeObject>(range, &bad(range));
            hides_nothing::<PodObject>(pod, &bad(pod));
            hides_nothing::<ServiceObject>(service, &bad(service));
            hides_nothing::<AttachmentObject>(attachment, &bad(attachment));
            hides_nothing::<SliceObject>(slice, &bad(slice));
        }
    }
}
