//! Everything that a node can write and that concerns a pod's network, in turn.

use std::time::Duration;

use serde_json::{Value, json};
use tests::cluster::{Api, PATIENCE, control_plane, version};
use tests::until;

use crate::liar::{Fate, Liar};
use crate::scene::{BACKEND, BANK, Scene, Seen};

const NODE: &str = "/api/v1/nodes/host1";
const PODS: &str = "/api/v1/namespaces/bank/pods";
const DRAWBRIDGE: &str = "/apis/drawbridge.dev/v1alpha1";
const RESTRICTION: &str = "node \"host1\"";
const MIRRORS: &str = "drawbridge-mirror-pods";
const ADDRESSES: &str = "drawbridge-node-addresses";
const NODES: &str = "drawbridge-nodes";
const RBAC: &str = "User \"system:node:host1\" cannot";

/// How long the packets look once a lie has been heard: it opened the database within six seconds.
const LOOK: Duration = Duration::from_secs(8);
/// The same, where nothing of it is read: what is compared says it at once.
const GLANCE: Duration = Duration::from_secs(2);

/// What it says of itself, as kubelet would of a pod that runs.
fn running(ips: &[&str]) -> Value {
    let all: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    json!({"status": {"phase": "Running", "podIP": ips[0], "podIPs": all,
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}]}})
}

fn mirror(scene: &Scene, name: &str, labels: &Value, change: impl FnOnce(&mut Value)) -> Value {
    let node = scene.api.get(NODE).unwrap();
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": BANK, "labels": labels,
            "annotations": {"kubernetes.io/config.mirror": "x"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "host1",
                "uid": node["metadata"]["uid"], "controller": true}]},
        "spec": {"nodeName": "host1", "terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": "registry.local/box:1",
            "ports": [{"name": "sql", "containerPort": 8080}],
            "resources": {"limits": {"drawbridge.dev/vf": "1"}}}]}});
    change(&mut pod);
    pod
}

/// Nothing has changed for others, now that all have heard of it.
fn holds(scene: &Scene, before: &Seen, pods: u64) {
    // Version 0: no pod's.
    scene.heard(pods);
    std::thread::sleep(if pods == 0 { GLANCE } else { LOOK });
    before.is_the_same(&scene.state());
}

pub fn run(scene: &Scene, liar: &Liar, before: &Seen) {
    mirrors(scene, liar, before);
    static_pods(scene, liar, before);
    statuses(scene, liar, before);
    nodes(scene, liar, before);
    others(scene, liar);
    registers(scene, liar, before);
}

fn mirrors(scene: &Scene, liar: &Liar, before: &Seen) {
    let (x, z) = (scene.ip("x"), scene.ip("z"));
    let host = |pod: &mut Value| {
        pod["spec"]["hostNetwork"] = json!(true);
        pod["spec"]["containers"][0]["resources"] = json!({});
        pod["spec"]["containers"][0]["ports"] = json!([]);
    };
    // Name, labels, addresses. The first is the way in that there was.
    let service = json!({"svc": "db"});
    let all = [
        ("peer", mirror(scene, "peer", &json!({"app": "api"}), |_| {}), x.clone()),
        ("stranger", mirror(scene, "stranger", &json!({"app": "api"}), |_| {}), z.clone()),
        ("backend", mirror(scene, "backend", &service, |_| {}), x.clone()),
        ("elsewhere", mirror(scene, "elsewhere", &service, |_| {}), z.clone()),
        ("on-host", mirror(scene, "on-host", &service, host), "10.0.3.21".to_owned()),
    ];
    let (mut newest, mut made) = (0, Vec::new());
    for (name, pod, ip) in &all {
        let what = format!("a mirror pod {BANK}/{name} with {}", pod["metadata"]["labels"]);
        let tried = liar.api.try_create(PODS, pod);
        if liar.judge(&what, Fate::Guarded(MIRRORS), tried).is_none() {
            continue;
        }
        let what = format!("{name}, ready at {ip}");
        let told = liar.judge(&what, Fate::Taken, liar.puts(&format!("{PODS}/{name}"), &running(&[ip])));
        newest = newest.max(version(&told.unwrap()));
        made.push(*name);
    }
    // What a static pod needs stays possible.
    let plain = mirror(scene, "plain", &json!({}), |_| {});
    liar.judge("a mirror pod without labels", Fate::Taken, liar.api.try_create(PODS, &plain));
    let tried = liar.puts(&format!("{PODS}/plain"), &running(&[&z]));
    if let Some(told) = liar.judge("it, at the other node's address", Fate::Guarded(ADDRESSES), tried) {
        newest = newest.max(version(&told));
    }
    made.push("plain");
    if !liar.guarded {
        // The control plane believes it.
        until("the control plane lists the lies as endpoints", PATIENCE, || {
            let listed = scene.endpoints();
            if [&x, &z].iter().all(|it| listed.contains(it)) { Ok(()) } else { Err(format!("{listed:?}")) }
        });
    }
    holds(scene, before, newest);
    Scene::reported(&["node host1 made pods by itself (mirror pods)"]);
    for name in made {
        liar.api.try_delete(&format!("{PODS}/{name}")).unwrap_or_else(|e| panic!("its own {name}: {e:?}"));
    }
    println!("  its own mirror pods deleted by itself");
}

/// The same where an operator lets static pods of this server count: its NIC holds none of them.
fn static_pods(scene: &Scene, liar: &Liar, before: &Seen) {
    let nic = format!("{DRAWBRIDGE}/nicnodes/host1");
    scene.api.patch(&nic, &json!({"spec": {"staticPods": "Allowed"}}));
    let without_vf = |pod: &mut Value| pod["spec"]["containers"][0]["resources"] = json!({});
    let (mut newest, mut made) = (0, Vec::new());
    for (name, labels, ip) in [
        ("static-peer", json!({"app": "api"}), scene.ip("z")),
        ("static-own", json!({"app": "api"}), scene.ip("x")),
        ("static-backend", json!({"svc": "db"}), scene.ip("z")),
    ] {
        let pod = mirror(scene, name, &labels, without_vf);
        let what = format!("where static pods count, a mirror pod {BANK}/{name} with {labels}");
        if liar.judge(&what, Fate::Guarded(MIRRORS), liar.api.try_create(PODS, &pod)).is_none() {
            continue;
        }
        let told = liar.puts(&format!("{PODS}/{name}"), &running(&[&ip]));
        let told = liar.judge(&format!("{name}, ready at {ip}"), Fate::Taken, told);
        newest = newest.max(version(&told.unwrap()));
        made.push(name);
    }
    holds(scene, before, newest);
    if !liar.guarded {
        Scene::reported(&["node host1 says addresses of pods that its NIC does not"]);
    }
    for name in made {
        liar.api.try_delete(&format!("{PODS}/{name}")).unwrap_or_else(|e| panic!("its own {name}: {e:?}"));
    }
    scene.api.patch(&nic, &json!({"spec": {"staticPods": "Refused"}}));
}

/// That a pod of its own has ended: which costs that pod its network, and nobody else anything. It is not used after that.
pub fn ends(scene: &Scene, liar: &Liar, before: &Seen) {
    let over = json!({"status": {"phase": "Failed", "reason": "Evicted"}});
    let x = "/api/v1/namespaces/evil/pods/x";
    let told = liar.judge("own pod's phase, while it runs: Failed", Fate::Taken, liar.puts(x, &over));
    scene.heard(version(&told.unwrap()));
    until("its port is gone", PATIENCE, || {
        let now = scene.state();
        if now.names("evil_x") { Err("it is there".to_owned()) } else { Ok(()) }
    });
    std::thread::sleep(LOOK);
    before.without("evil_x").is_the_same(&scene.state());
}

/// Of a pod that is by right a backend of the database's Service, and on this server: its lies cost that pod its part, and lead
/// nobody anywhere else.
pub fn genuine(scene: &Scene, liar: &Liar) {
    let backend = scene.pod(BACKEND);
    let true_ip = backend.addresses[0].to_string();
    let status = format!("{PODS}/{BACKEND}");
    let truth = scene.api.get(&status).unwrap();
    let is_backend = |ip: &str| scene.backends().iter().any(|it| it.split(':').next() == Some(ip));
    until("it is one", PATIENCE, || {
        if is_backend(&true_ip) { Ok(()) } else { Err(format!("{:?}", scene.backends())) }
    });
    for (whose, ip) in
        [("its own server's other pod", scene.ip("x")), ("another server's pod", scene.ip("z"))]
    {
        let fate = if whose.starts_with("its") { Fate::Taken } else { Fate::Guarded(ADDRESSES) };
        let what = format!("a Service's own backend, ready at the address of {whose}: {ip}");
        let Some(told) = liar.judge(&what, fate, liar.puts(&status, &running(&[&ip]))) else { continue };
        until("the control plane lists it", PATIENCE, || {
            let listed = scene.endpoints();
            if listed.contains(&ip) { Ok(()) } else { Err(format!("{listed:?}")) }
        });
        scene.heard(version(&told));
        std::thread::sleep(LOOK);
        let now = scene.backends();
        assert!(!is_backend(&ip) && !is_backend(&true_ip) && is_backend(&scene.ip("db")), "{now:?}");
        scene.served();
        Scene::reported(&["node host1 says addresses of pods that its NIC does not"]);
    }
    scene.api.patch(&format!("{status}/status"), &json!({"status": truth["status"]}));
    until("it is one again", PATIENCE, || {
        if is_backend(&true_ip) { Ok(()) } else { Err(format!("{:?}", scene.backends())) }
    });
}

/// In the name of somebody else's agent, of somebody else's pod.
fn events(liar: &Liar) {
    let event = json!({"apiVersion": "v1", "kind": "Event",
        "metadata": {"generateName": "forged-", "namespace": BANK},
        "involvedObject": {"kind": "Pod", "namespace": BANK, "name": "db"},
        "reason": "ClaimRefused", "message": "nothing of this is true", "type": "Warning",
        "source": {"component": "nic-agent", "host": "host2"},
        "reportingComponent": "drawbridge.dev/nic-agent", "reportingInstance": "host2", "action": "Attach",
        "eventTime": "2026-01-01T00:00:00.000000Z"});
    let path = format!("/api/v1/namespaces/{BANK}/events");
    liar.judge("an Event in another NIC's name", Fate::Taken, liar.api.try_create(&path, &event));
}

/// Of a pod that is really its own.
fn statuses(scene: &Scene, liar: &Liar, before: &Seen) {
    let own = format!("{PODS}/own");
    let truth = scene.api.get(&own).unwrap();
    let (z, db) = (scene.ip("z"), scene.ip("db"));
    let octets: Vec<u8> = z.split('.').map(|it| it.parse().unwrap()).collect();
    let padded = format!("{:03}.{:03}.{:03}.{:03}", octets[0], octets[1], octets[2], octets[3]);
    let mapped = format!("::ffff:{z}");
    let told: [(&str, Vec<&str>, Fate, &str); 4] = [
        ("another node's pod's address", vec![&z], Fate::Guarded(ADDRESSES), "that its NIC does not"),
        ("the database's", vec![&db], Fate::Guarded(ADDRESSES), "that its NIC does not"),
        ("leading zeros", vec![&padded], Fate::Guarded(ADDRESSES), "leading zeros"),
        ("an IPv4 address as IPv6", vec![&mapped], Fate::Guarded(ADDRESSES), "IPv4 written as IPv6"),
    ];
    for (what, ips, fate, report) in told {
        let what = format!("own pod with {what}: {ips:?}");
        if let Some(told) = liar.judge(&what, fate, liar.puts(&own, &running(&ips))) {
            holds(scene, before, version(&told));
            Scene::reported(&[report]);
        }
    }
    let x = scene.ip("x");
    let swapped =
        liar.judge("own pod with another own pod's address", Fate::Taken, liar.puts(&own, &running(&[&x])));
    holds(scene, before, version(&swapped.unwrap()));
    Scene::reported(&["node host1 says addresses of pods that its NIC does not"]);

    let said = json!({"default": {"ip_addresses": [format!("{z}/24")], "mac_address": "0a:58:0a:f4:02:63"}});
    for key in ["k8s.ovn.org/pod-networks", "ovn.kubernetes.io/ip_address", "drawbridge.dev/ips"] {
        let change = json!({"metadata": {"annotations": {key: said.to_string()}}});
        liar.judge(
            &format!("own pod's annotation {key}"),
            Fate::Guarded(ADDRESSES),
            liar.puts(&own, &change),
        );
    }
    let change = json!({"metadata": {"finalizers": ["example.org/stay"]}});
    liar.judge("own pod's finalizer", Fate::Guarded(ADDRESSES), liar.puts(&own, &change));
    let change = json!({"metadata": {"labels": {"app": "db", "svc": "db"}}});
    liar.judge("own pod's labels", Fate::Refused(RESTRICTION), liar.puts(&own, &change));

    // As it was.
    let now = scene.api.get(&own).unwrap();
    let annotations = now["metadata"]["annotations"].as_object().into_iter().flatten();
    let gone = annotations.map(|(key, _)| (key.clone(), truth["metadata"]["annotations"][key].clone()));
    let gone: serde_json::Map<_, _> = gone.collect();
    scene.api.patch(&own, &json!({"metadata": {"annotations": gone, "finalizers": null}}));
    let back = scene.api.patch(&format!("{own}/status"), &json!({"status": truth["status"]}));
    holds(scene, before, version(&back));
}

/// Of its Node.
fn nodes(scene: &Scene, liar: &Liar, before: &Seen) {
    let truth = scene.api.get(NODE).unwrap();
    let node = |what: &str, fate, change: &Value| {
        liar.judge(&format!("its Node's {what}"), fate, liar.api.try_patch(NODE, change));
    };
    for claim in ["10.244.2.0/24", "10.244.2.0/29"] {
        let change = json!({"spec": {"podCIDR": claim, "podCIDRs": [claim, "fd00:10:244:2::/64"]}});
        node(&format!("podCIDRs {claim}"), Fate::Refused("podCIDR"), &change);
    }
    let note = |key: &str, value: &str| json!({"metadata": {"annotations": {key: value}}});
    node(
        "annotation drawbridge.dev/ranges",
        Fate::Guarded(NODES),
        &note("drawbridge.dev/ranges", "10.244.2.0/24"),
    );
    let subnets = json!({"default": ["10.244.2.0/24"]}).to_string();
    node("annotation k8s.ovn.org/node-subnets", Fate::Taken, &note("k8s.ovn.org/node-subnets", &subnets));
    let zone = note("k8s.ovn.org/node-chassis-id", "nic2");
    node("annotation k8s.ovn.org/node-chassis-id", Fate::Taken, &zone);
    node("finalizer", Fate::Taken, &json!({"metadata": {"finalizers": ["example.org/stay"]}}));
    node(
        "taints",
        Fate::Refused(RESTRICTION),
        &json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}}),
    );
    let role = "node-restriction.kubernetes.io/trusted";
    node(
        "restricted label",
        Fate::Refused("is not allowed to modify labels"),
        &json!({"metadata": {"labels": {role: "yes"}}}),
    );
    node(
        "label example.org/zone",
        Fate::Taken,
        &json!({"metadata": {"labels": {"example.org/zone": "bank"}}}),
    );
    node("zone", Fate::Taken, &json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "bank"}}}));
    let mut addresses: Vec<Value> = truth["status"]["addresses"].as_array().unwrap().clone();
    for ip in [scene.ip("api"), scene.ip("db"), "10.0.3.22".to_owned()] {
        addresses.push(json!({"type": "InternalIP", "address": ip}));
    }
    let change = json!({"status": {"addresses": addresses}});
    liar.judge("its Node's addresses", Fate::Taken, liar.puts(NODE, &change));
    events(liar);
    holds(scene, before, 0);

    let keys = ["drawbridge.dev/ranges", "k8s.ovn.org/node-subnets", "k8s.ovn.org/node-chassis-id"];
    let notes: serde_json::Map<_, _> = keys.map(|it| (it.to_owned(), Value::Null)).into_iter().collect();
    let labels = json!({"example.org/zone": null, "topology.kubernetes.io/zone": null});
    let back = json!({"metadata": {"annotations": notes, "labels": labels, "finalizers": null}});
    scene.api.patch(NODE, &back);
    scene
        .api
        .patch(&format!("{NODE}/status"), &json!({"status": {"addresses": truth["status"]["addresses"]}}));
}

/// What is not its own at all.
fn others(scene: &Scene, liar: &Liar) {
    let x = scene.ip("x");
    let api: &Api = &liar.api;
    let judge = |what: &str, by, tried| liar.judge(what, Fate::Refused(by), tried);
    judge("another node's pod's status", RESTRICTION, liar.puts(&format!("{PODS}/api"), &running(&[&x])));
    let gone = |path: &str| api.try_delete(path).map(|()| Value::Null);
    judge("another node's pod deleted", RESTRICTION, gone(&format!("{PODS}/db")));
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "db", "namespace": BANK}});
    judge(
        "another node's pod evicted",
        "can only evict pods",
        api.try_create(&format!("{PODS}/db/eviction"), &eviction),
    );
    let plain = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "made", "labels": {"app": "api"}},
        "spec": {"nodeName": "host1", "containers": [{"name": "main", "image": "none"}]}});
    judge("a pod that is no mirror", "mirror", api.try_create(PODS, &plain));
    let relabel = json!({"metadata": {"labels": {"app": "api"}}});
    judge("labels of an own pod", RBAC, api.try_patch("/api/v1/namespaces/evil/pods/x", &relabel));
    judge(
        "another Node",
        RESTRICTION,
        api.try_patch("/api/v1/nodes/host2", &json!({"metadata": {"labels": {"a": "b"}}})),
    );
    let range = json!({"spec": {"ranges": ["10.244.2.0/24"]}});
    judge("its NodeRange", RBAC, api.try_patch(&format!("{DRAWBRIDGE}/noderanges/host1"), &range));
    let nic = json!({"spec": {"staticPods": true}});
    judge("its NicNode", RBAC, api.try_patch(&format!("{DRAWBRIDGE}/nicnodes/host1"), &nic));
    let attachment = json!({"apiVersion": "drawbridge.dev/v1alpha1", "kind": "PodAttachment",
        "metadata": {"name": "x-eth0"}, "spec": {}});
    let path = format!("{DRAWBRIDGE}/namespaces/{BANK}/podattachments");
    judge("a PodAttachment", RBAC, api.try_create(&path, &attachment));
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "mine", "labels": {"kubernetes.io/service-name": "db"}},
        "endpoints": [{"addresses": [x]}], "ports": [{"port": 8080, "protocol": "TCP"}]});
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{BANK}/endpointslices");
    judge("an EndpointSlice", RBAC, api.try_create(&path, &slice));
    let policies = format!("/apis/networking.k8s.io/v1/namespaces/{BANK}/networkpolicies");
    judge("a NetworkPolicy deleted", RBAC, gone(&format!("{policies}/db")));
    let map = "/api/v1/namespaces/drawbridge-system/configmaps/drawbridge-node-ranges";
    judge(
        "what admission is told",
        "cannot patch",
        api.try_patch(map, &json!({"data": {"host1": "0.0.0.0/0;"}})),
    );
    let lease = "/apis/coordination.k8s.io/v1/namespaces/drawbridge-system/leases/cluster-controller";
    judge(
        "the controller's lease",
        "cannot patch",
        api.try_patch(lease, &json!({"spec": {"holderIdentity": "me"}})),
    );
}

/// Another server, whose Node is not there yet, takes this one's place in the cluster's ranges.
fn registers(scene: &Scene, liar: &Liar, before: &Seen) {
    let claims = json!(["10.244.2.0/24", "fd00:10:244:2::/64"]);
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "control"},
        "spec": {"podCIDR": claims[0], "podCIDRs": claims}});
    let tried = Api::kubelet("control").try_create("/api/v1/nodes", &node);
    let what = "a Node that registers with the other node's podCIDRs";
    if liar.judge(what, Fate::Guarded(NODES), tried).is_some() {
        until("its NodeRange says why not", PATIENCE, || {
            let range = scene.api.get(&format!("{DRAWBRIDGE}/noderanges/control")).map_err(|e| e.message)?;
            let conditions = range["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let condition =
                conditions.iter().find(|it| it["type"] == "Confirmed").cloned().unwrap_or_default();
            if condition["reason"] == "HeldByAnother"
                && range["status"]["ranges"].as_array().is_none_or(Vec::is_empty)
            {
                println!("  NodeRange control: {condition}");
                Ok(())
            } else {
                Err(range.to_string())
            }
        });
    }
    holds(scene, before, 0);
    if !liar.guarded {
        scene.api.delete("/api/v1/nodes/control");
        // Its allocator takes the range for free now, until it reads the Nodes anew.
        control_plane("stop", "kube-controller-manager");
        control_plane("start", "kube-controller-manager");
    }
}
