//! What a NIC's credential may do in a cluster, and what not: `packaging/kubernetes` as it is, at a real API server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Output, control_plane::ControlPlane, until};

const PATIENCE: Duration = Duration::from_mins(1);

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/kubernetes")
}

struct Cluster {
    plane: ControlPlane,
    nic1: PathBuf,
}

impl Cluster {
    /// Two nodes with a NicNode each, a pod on each, and the credential of the first one's NIC.
    fn start() -> Self {
        let plane = ControlPlane::api_only();
        plane.kubectl(&["apply", "-k", packaging().to_str().unwrap()]).ok();
        plane.kubectl(&["wait", "--for=condition=Established", "crd", "--all"]).ok();
        let nic1 = plane.kubeconfig_for("drawbridge:nic:server1", &["drawbridge:nics"]);
        for node in ["server1", "server2"] {
            let pod = json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": { "name": node, "namespace": "default" },
                "spec": { "nodeName": node, "containers": [{ "name": "c", "image": "none" }] },
            });
            plane.apply(
                &json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": node } }).to_string(),
            );
            plane.apply(&nic_node(node).to_string());
            plane.apply(&pod.to_string());
            let nic = plane.kubeconfig_for(&format!("drawbridge:nic:{node}"), &["drawbridge:nics"]);
            plane.kubectl_with(&nic, &["create", "-f", "-"], &attachment(node, node).to_string()).ok();
        }
        plane.apply(
            &json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "s", "namespace": "default" } })
                .to_string(),
        );
        let cluster = Self { plane, nic1 };
        // Admission policies take effect some time after they are written.
        until("admission policies hold", PATIENCE, || {
            let tried = cluster.status("nicnodes", "server2");
            if tried.is_ok() { Err("NIC 1 wrote NIC 2's status".to_owned()) } else { Ok(()) }
        });
        cluster
    }

    /// NIC 1 tries.
    fn tries(&self, arguments: &[&str], input: &str) -> Output {
        self.plane.kubectl_with(&self.nic1, arguments, input)
    }

    fn creates(&self, object: &Value) -> Output {
        self.tries(&["create", "-f", "-"], &object.to_string())
    }

    fn status(&self, resource: &str, name: &str) -> Output {
        self.tries(
            &[
                "patch",
                resource,
                name,
                "--subresource=status",
                "--type=merge",
                "-p",
                r#"{"status": {"conditions": []}}"#,
            ],
            "",
        )
    }
}

#[track_caller]
fn refused(what: &str, tried: &Output, says: &str) {
    assert!(!tried.is_ok(), "{what}: {tried:?}");
    assert!(tried.stderr.contains(says), "{what} should be refused with {says:?}: {tried:?}");
}

fn nic_node(node: &str) -> Value {
    json!({
        "apiVersion": "drawbridge.dev/v1alpha1", "kind": "NicNode", "metadata": { "name": node },
        "spec": {
            "nodeName": node, "profile": { "kind": "OVNKubernetes" },
            "ovn": {
                "remotes": ["ssl:192.0.2.10:6642"],
                "encapsulation": { "types": ["Geneve"], "addresses": ["192.0.2.1"] },
            },
        },
    })
}

fn attachment(pod: &str, node: &str) -> Value {
    json!({
        "apiVersion": "drawbridge.dev/v1alpha1", "kind": "PodAttachment",
        "metadata": { "name": format!("{pod}-eth0"), "namespace": "default" },
        "spec": {
            "pod": { "name": pod, "uid": "1" }, "interface": "eth0", "nodeName": node, "vf": { "pf": 0, "vf": 1 },
        },
    })
}

fn event(name: &str, instance: &str) -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": { "name": name, "namespace": "default" },
        "reportingController": "drawbridge.dev/nic-agent", "reportingInstance": instance,
        "eventTime": "2026-11-21T12:00:00.000000Z", "action": "Attach", "reason": "ClaimRefused", "type": "Warning",
        "note": "no", "regarding": { "apiVersion": "v1", "kind": "Pod", "name": "server1", "namespace": "default" },
    })
}

#[test]
fn a_nic_reads_what_it_needs_and_writes_of_itself_only() {
    let cluster = Cluster::start();
    let all = |arguments: &[&str]| cluster.tries(arguments, "");

    // What it needs.
    for resource in [
        "pods",
        "namespaces",
        "services",
        "nodes",
        "endpointslices",
        "networkpolicies",
        "nicnodes",
        "podattachments",
    ] {
        all(&["get", resource, "-A"]).ok();
    }
    cluster.status("nicnodes", "server1").ok();
    cluster.status("podattachments", "server1-eth0").ok();
    cluster.creates(&attachment("another", "server1")).ok();
    all(&["delete", "podattachment", "another-eth0"]).ok();
    cluster.creates(&event("mine", "server1")).ok();
    let write = |event: &Value| {
        cluster.tries(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &event.to_string())
    };
    let mut again = event("mine", "server1");
    again["series"] = json!({ "count": 2, "lastObservedTime": "2026-11-21T12:00:09.000000Z" });
    write(&again).ok();

    // Another NIC's, and what an operator says of its own.
    let theirs = "node server2, and the NIC of server1 asks";
    refused("NIC 2's status", &cluster.status("nicnodes", "server2"), theirs);
    refused("node 2's attachment", &cluster.status("podattachments", "server2-eth0"), theirs);
    refused("node 2's attachment", &cluster.creates(&attachment("another", "server2")), theirs);
    refused("node 2's attachment", &all(&["delete", "podattachment", "server2-eth0"]), theirs);
    let spec = all(&["patch", "nicnode", "server1", "--type=merge", "-p", r#"{"spec": {"mtu": 9000}}"#]);
    refused("its own spec", &spec, "cannot patch resource \"nicnodes\"");
    refused("a new NicNode", &cluster.creates(&nic_node("server3")), "cannot create resource \"nicnodes\"");
    refused("an end", &all(&["delete", "nicnode", "server1"]), "cannot delete resource \"nicnodes\"");

    // Administrators do not write what NICs say, nor what is confirmed.
    let admin = cluster.plane.kubeconfig();
    let alone = "written by its node's NIC alone";
    let as_admin = |arguments: &[&str], input: &str| cluster.plane.kubectl_with(&admin, arguments, input);
    refused("a copy", &as_admin(&["create", "-f", "-"], &attachment("a", "server1").to_string()), alone);
    refused("an end", &as_admin(&["delete", "podattachment", "server1-eth0"], ""), alone);
    let status = r#"{"status": {"ips": ["10.244.2.7"]}}"#;
    let patch = |resource: &str, name: &str, what: &str| {
        as_admin(&["patch", resource, name, "--subresource=status", "--type=merge", "-p", what], "")
    };
    refused("a word of its", &patch("podattachment", "server1-eth0", status), alone);
    let range = json!({
        "apiVersion": "drawbridge.dev/v1alpha1", "kind": "NodeRange", "metadata": { "name": "server1" },
        "spec": { "ranges": ["10.244.1.0/24"] },
    });
    as_admin(&["create", "-f", "-"], &range.to_string()).ok();
    let confirmed = r#"{"status": {"ranges": ["10.244.2.0/24"]}}"#;
    refused(
        "a confirmation",
        &patch("noderange", "server1", confirmed),
        "written by cluster-controller alone",
    );
    all(&["get", "noderanges"]).ok();
    let spec = all(&["patch", "noderange", "server1", "--type=merge", "-p", r#"{"spec": {"ranges": []}}"#]);
    refused("a range by a NIC", &spec, "cannot patch resource \"noderanges\"");
    // What goes with its pod, the garbage collector takes away.
    let collector = cluster.plane.kubeconfig_for(
        "system:serviceaccount:kube-system:generic-garbage-collector",
        &["system:masters", "system:serviceaccounts"],
    );
    cluster.plane.kubectl_as(&collector, &["delete", "podattachment", "server2-eth0"]).ok();

    // Events as somebody else.
    refused("NIC 2's Event", &cluster.creates(&event("theirs", "server2")), "of its own node");
    let mut kubelet = event("kubelet", "server1");
    kubelet["reportingController"] = json!("kubelet");
    refused("kubelet's Event", &cluster.creates(&kubelet), "of its own node");
    cluster.plane.apply(&event("foreign", "server2").to_string());
    refused("an Event of NIC 2", &write(&event("foreign", "server2")), "of its own node");

    // All that is none of its business.
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "namespace": "default" },
        "spec": { "containers": [{ "name": "c", "image": "none" }] },
    });
    refused("a pod", &cluster.creates(&pod), "cannot create resource \"pods\"");
    for (what, arguments) in [
        ("a pod's labels", &["label", "pod", "server1", "a=b"][..]),
        ("a pod's end", &["delete", "pod", "server1"]),
        ("a pod's status", &["patch", "pod", "server1", "--subresource=status", "--type=merge", "-p", "{}"]),
        ("a node", &["label", "node", "server1", "a=b"]),
        ("secrets", &["get", "secrets", "-n", "default"]),
        ("a secret", &["get", "secret", "s", "-n", "default"]),
        ("config maps", &["get", "configmaps", "-A"]),
        ("service accounts", &["get", "serviceaccounts", "-A"]),
        ("a token", &["create", "token", "default"]),
        ("a program in a pod", &["exec", "server1", "--", "true"]),
    ] {
        refused(what, &all(arguments), "orbidden");
    }
}

#[test]
fn a_member_whose_name_says_no_node_writes_nothing() {
    let mut cluster = Cluster::start();
    cluster.nic1 = cluster.plane.kubeconfig_for("somebody", &["drawbridge:nics"]);
    refused("a status", &cluster.status("nicnodes", "server1"), "does not say which node");
    refused("an attachment", &cluster.creates(&attachment("a", "server1")), "does not say which node");
    refused("an Event", &cluster.creates(&event("e", "server1")), "of its own node");
    cluster.nic1 = cluster.plane.kubeconfig_for("drawbridge:nic:server1", &[]);
    refused("without the group", &cluster.status("nicnodes", "server1"), "orbidden");
}

/// Kubernetes' own role `view` takes ours in, for people.
#[test]
fn who_may_view_sees_our_objects_and_writes_none() {
    let plane = ControlPlane::start();
    plane.kubectl(&["apply", "-k", packaging().to_str().unwrap()]).ok();
    plane
        .kubectl(&["create", "rolebinding", "one", "-n", "default", "--clusterrole=view", "--user=one"])
        .ok();
    plane.kubectl(&["create", "clusterrolebinding", "all", "--clusterrole=view", "--user=all"]).ok();
    let sees = |user: &str, resource: &str| {
        let tried = plane.kubectl(&["get", resource, "-n", "default", "--as", user]);
        assert!(tried.is_ok() || tried.stderr.contains("orbidden"), "{tried:?}");
        tried.is_ok()
    };
    until("view has taken ours in", PATIENCE, || {
        if sees("one", "podattachments") { Ok(()) } else { Err("not yet".to_owned()) }
    });
    for resource in ["nicnodes", "noderanges", "podattachments"] {
        assert!(sees("all", resource), "{resource}");
        assert_eq!(sees("one", resource), resource == "podattachments", "{resource}");
        for verb in ["create", "update", "patch", "delete"] {
            let resource = format!("{resource}.drawbridge.dev");
            let asked = plane.kubectl(&["auth", "can-i", verb, &resource, "-A", "--as", "all"]);
            assert_eq!(asked.stdout.trim(), "no", "{verb} {resource}: {asked:?}");
        }
    }
}

/// What the CRDs refuse, as the API server reads them; the rules are tested one by one in `drawbridge-api`.
#[test]
fn the_crds_hold() {
    let plane = ControlPlane::api_only();
    plane.kubectl(&["apply", "-k", packaging().to_str().unwrap()]).ok();
    plane.kubectl(&["wait", "--for=condition=Established", "crd", "--all"]).ok();
    plane.apply(&nic_node("server1").to_string());
    let apply =
        |object: &Value| plane.kubectl_with(&plane.kubeconfig(), &["apply", "-f", "-"], &object.to_string());
    for (at, value, says) in [
        ("/nodeName", json!("server2"), "spec.nodeName cannot be changed"),
        ("/profile/kind", json!("Plain"), "template belongs to kind Plain"),
        ("/ovn/remotes/0", json!("unix:/run/x"), "each of spec.ovn.remotes"),
        ("/ovn/encapsulation/addresses/0", json!("192.0.2"), "IPv4 or IPv6 address"),
        ("/ovn/encapsulation/interface", json!("p0"), "either addresses or interface"),
        ("/podZones", json!({ "first": 1, "last": 256 }), "255 zones at most"),
        ("/mtu", json!(100), "greater than or equal to 1280"),
    ] {
        let mut node = nic_node("server1");
        let (parent, key) = at.rsplit_once('/').unwrap();
        let of = node["spec"].pointer_mut(parent).unwrap();
        match of.as_array_mut() {
            Some(list) => list[key.parse::<usize>().unwrap()] = value,
            None => of[key] = value,
        }
        let tried = apply(&node);
        assert!(
            !tried.is_ok() && tried.stderr.contains(says),
            "{at} should be refused with {says:?}: {tried:?}"
        );
    }
    let mut second = nic_node("server1");
    second["metadata"]["name"] = json!("nic7");
    let tried = apply(&second);
    assert!(!tried.is_ok() && tried.stderr.contains("has the name of its node"), "a second one: {tried:?}");
    let nic = plane.kubeconfig_for("drawbridge:nic:server1", &["drawbridge:nics"]);
    plane.kubectl_with(&nic, &["create", "-f", "-"], &attachment("a", "server1").to_string()).ok();
    let moved = r#"{"spec": {"vf": {"pf": 0, "vf": 2}}}"#;
    let collector = plane.kubeconfig_for("system:kube-controller-manager", &["system:masters"]);
    let moved =
        plane.kubectl_as(&collector, &["patch", "podattachment", "a-eth0", "--type=merge", "-p", moved]);
    assert!(!moved.is_ok() && moved.stderr.contains("cannot be changed"), "{moved:?}");
    let of = |node: &str| {
        let selector = format!("--field-selector=spec.nodeName={node}");
        plane.kubectl(&["get", "podattachments", "-o", "name", &selector]).ok()
    };
    assert_eq!(of("server1").trim(), "podattachment.drawbridge.dev/a-eth0");
    assert_eq!(of("server2").trim(), "");
    let shown = plane.kubectl(&["get", "nic,pa", "-o", "wide"]).ok();
    assert!(shown.contains("CONFIGURED") && shown.contains("REPRESENTOR"), "{shown}");
}
