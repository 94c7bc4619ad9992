//! What our admission policies let a node write with its kubelet's credential, at a real API server with NodeRestriction:
//! `packaging/kubernetes` as it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Output, control_plane::ControlPlane, json::lay_over, until};

const PATIENCE: Duration = Duration::from_mins(1);

fn packaging(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/kubernetes").join(name);
    path.to_str().unwrap().to_owned()
}

struct Cluster {
    plane: ControlPlane,
    kubelet: PathBuf,
    controller: PathBuf,
}

impl Cluster {
    /// Two nodes, each with a pod in the tenants' namespace and one on the host's network, and server1's kubelet.
    fn start() -> Self {
        let plane = ControlPlane::api_only();
        for manifest in ["crds", "cluster-controller.yaml"] {
            plane.kubectl(&["apply", "-f", &packaging(manifest)]).ok();
        }
        plane.apply(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bank"}}).to_string(),
        );
        for (n, name) in [(1, "server1"), (2, "server2")] {
            let cidr = format!("10.244.{n}.0/24");
            plane.apply(
                &json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
                        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]}})
                .to_string(),
            );
            plane.apply(&pod(&format!("p{n}"), "bank", name, false).to_string());
            plane.apply(&pod(&format!("h{n}"), "bank", name, true).to_string());
        }
        let kubelet = plane.kubeconfig_for("system:node:server1", &["system:nodes"]);
        let controller = plane.kubeconfig_for(
            "system:serviceaccount:drawbridge-system:cluster-controller",
            &["system:serviceaccounts", "system:serviceaccounts:drawbridge-system", "system:authenticated"],
        );
        Self { plane, kubelet, controller }
    }

    fn with_policies(addresses: bool) -> Self {
        let cluster = Self::start();
        cluster.plane.kubectl(&["apply", "-k", &packaging("")]).ok();
        if addresses {
            cluster.plane.kubectl(&["apply", "-f", &packaging("admission-addresses.yaml")]).ok();
        }
        // Admission policies take effect some time after they are written.
        until("admission policies hold", PATIENCE, || {
            let denied = |tried: &Output| tried.stderr.contains("ValidatingAdmissionPolicy");
            let admin = cluster.plane.kubeconfig();
            let mirror = mirror("probe", "bank", "server1", &json!({})).to_string();
            let tried = [
                cluster.plane.kubectl_with(&admin, &["create", "--dry-run=server", "-f", "-"], &mirror),
                cluster.node("server1", &json!({"metadata": {"annotations": {"drawbridge.dev/x": "1"}}})),
                cluster.plane.kubectl(&[
                    "-n",
                    "drawbridge-system",
                    "create",
                    "configmap",
                    "drawbridge-node-ranges",
                    "--dry-run=server",
                ]),
            ];
            let addressed = !addresses || denied(&cluster.says("p1", "192.0.2.99"));
            if tried.iter().all(denied) && addressed { Ok(()) } else { Err(format!("{tried:?}")) }
        });
        cluster
    }

    fn tries(&self, arguments: &[&str], input: &str) -> Output {
        self.plane.kubectl_with(&self.kubelet, arguments, input)
    }

    fn creates(&self, object: &Value) -> Output {
        self.tries(&["create", "-f", "-"], &object.to_string())
    }

    /// As kubelet does: the whole object, by PUT. It may not read the subresource.
    fn puts(&self, kubeconfig: &Path, object: &str, change: &Value) -> Output {
        let there = self.plane.kubectl(&["get", "--raw", object]).ok();
        let mut there: Value = serde_json::from_str(&there).unwrap();
        lay_over(&mut there, change);
        let path = format!("{object}/status");
        self.plane.kubectl_with(kubeconfig, &["replace", "--raw", &path, "-f", "-"], &there.to_string())
    }

    fn patches(&self, pod: &str, change: &Value) -> Output {
        self.puts(&self.kubelet, &format!("/api/v1/namespaces/bank/pods/{pod}"), change)
    }

    fn says(&self, pod: &str, ip: &str) -> Output {
        self.patches(pod, &json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}}))
    }

    fn node(&self, name: &str, patch: &Value) -> Output {
        self.tries(&["patch", "node", name, "--dry-run=server", "--type=merge", "-p", &patch.to_string()], "")
    }

    /// As cluster-controller writes it, with its rights.
    fn confirm(&self, data: &Value) {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"name": "drawbridge-node-ranges", "namespace": "drawbridge-system"},
        });
        self.plane.kubectl_with(&self.controller, &["create", "-f", "-"], &object.to_string()).ok();
    }
}

fn pod(name: &str, namespace: &str, node: &str, host_network: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace},
        "spec": {"nodeName": node, "hostNetwork": host_network, "containers": [{"name": "c", "image": "none"}]},
    })
}

fn mirror(name: &str, namespace: &str, node: &str, meta: &Value) -> Value {
    let mut object = pod(name, namespace, node, false);
    object["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    for (key, value) in meta.as_object().unwrap() {
        for (name, value) in value.as_object().unwrap() {
            object["metadata"][key][name] = value.clone();
        }
    }
    object
}

#[track_caller]
fn refused(what: &str, tried: &Output, says: &str) {
    assert!(!tried.is_ok(), "{what}: {tried:?}");
    assert!(tried.stderr.contains(says), "{what} should be refused with {says:?}: {tried:?}");
}

/// A mirror as NodeRestriction takes it: with its Node for an owner.
fn owned(cluster: &Cluster, mut object: Value) -> Value {
    let uid = cluster.plane.kubectl(&["get", "node", "server1", "-o", "jsonpath={.metadata.uid}"]).ok();
    object["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": "server1", "uid": uid.trim(), "controller": true}]);
    object
}

#[test]
fn a_node_makes_no_pods_for_others_and_no_ranges_for_itself() {
    let cluster = Cluster::with_policies(false);
    let make = |name: &str, namespace: &str, meta: &Value| {
        cluster.creates(&owned(&cluster, mirror(name, namespace, "server1", meta)))
    };
    let labels = json!({"labels": {"app": "api"}});
    refused("a member of bank's", &make("x", "bank", &labels), "bears no labels");
    let annotation = json!({"annotations": {"k8s.ovn.org/pod-networks": "{}"}});
    refused("an address by annotation", &make("x", "bank", &annotation), "no annotations of the network's");
    let mut named = owned(&cluster, mirror("x", "bank", "server1", &json!({})));
    named["spec"]["hostname"] = json!("db");
    refused("a name in DNS", &cluster.creates(&named), "neither hostname nor subdomain");
    // What kubelets need: static pods, kubeadm's with their labels.
    make("plain", "bank", &json!({})).ok();
    make("etcd", "kube-system", &json!({"labels": {"component": "etcd"}})).ok();
    // Others' pods are no mirrors.
    let admin = cluster.plane.kubeconfig();
    let object = mirror("x", "bank", "server1", &json!({})).to_string();
    let tried = cluster.plane.kubectl_with(&admin, &["create", "-f", "-"], &object);
    refused("a mirror that no node made", &tried, "only a node makes mirrors");

    // Ranges: neither at registration nor later.
    let other = cluster.plane.kubeconfig_for("system:node:server3", &["system:nodes"]);
    let register = |spec: Value| {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "server3"}, "spec": spec});
        cluster.plane.kubectl_with(&other, &["create", "-f", "-"], &node.to_string())
    };
    let claims = json!({"podCIDR": "10.244.2.0/29", "podCIDRs": ["10.244.2.0/29"]});
    refused("a range at registration", &register(claims.clone()), "registers without podCIDRs");
    register(json!({})).ok();
    let patch = json!({"spec": claims}).to_string();
    let tried =
        cluster.plane.kubectl_with(&other, &["patch", "node", "server3", "--type=merge", "-p", &patch], "");
    refused("a range while it has none", &tried, "does not write its podCIDRs");
    // The rest of its Node is its own.
    cluster.node("server1", &json!({"metadata": {"labels": {"example.org/rack": "7"}}})).ok();
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}});
    cluster.puts(&cluster.kubelet, "/api/v1/nodes/server1", &status).ok();
    refused("a confirmation", &cluster.tries(&["get", "noderanges"], ""), "cannot list resource");
}

#[test]
fn a_nodes_pods_have_addresses_of_its_own_ranges() {
    let cluster = Cluster::with_policies(true);
    // Before anything is confirmed: nothing, but where what confirms must come up.
    refused("without parameters", &cluster.says("p1", "10.244.1.7"), "ValidatingAdmissionPolicy");
    for namespace in ["kube-system", "drawbridge-system"] {
        cluster.plane.apply(&pod("own", namespace, "server1", false).to_string());
        let ip = json!({"status": {"podIP": "10.244.1.3", "podIPs": [{"ip": "10.244.1.3"}]}});
        cluster.puts(&cluster.kubelet, &format!("/api/v1/namespaces/{namespace}/pods/own"), &ip).ok();
    }
    cluster.confirm(&json!({
        "_cluster": "10.244.0.0/16,fd00:10:244::/48",
        "server1": "10.244.1.0/24,fd00:10:244:1::/64;", "server2": "10.244.2.0/24;192.0.2.2",
    }));
    until("it is known", PATIENCE, || {
        let tried = cluster.says("p1", "10.244.1.7");
        if tried.is_ok() { Ok(()) } else { Err(tried.stderr) }
    });
    let two = json!({"status": {"podIPs": [{"ip": "10.244.1.7"}, {"ip": "fd00:10:244:1::7"}]}});
    cluster.patches("p1", &two).ok();
    let bad = "may not give its pod";
    for ip in ["10.244.2.7", "10.96.0.10", "192.0.2.1", "fd00:10:244:2::7"] {
        refused(ip, &cluster.says("p1", ip), bad);
    }
    // What some read as its own, and others do not.
    for ip in ["010.244.1.8", "::ffff:10.244.1.8"] {
        let tried = cluster.says("p1", ip);
        assert!(!tried.is_ok(), "{ip}: {tried:?}");
    }
    let second = json!({"status": {"podIPs": [{"ip": "10.244.1.7"}, {"ip": "fd00:10:244:2::7"}]}});
    refused("a second address", &cluster.patches("p1", &second), bad);
    // Phase and readiness are its own, with the address that it has, and whatever is confirmed meanwhile.
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    cluster.patches("p1", &ready).ok();
    // On the host's network: no pod's address.
    cluster.says("h1", "192.0.2.1").ok();
    refused("a pod's address on the host", &cluster.says("h1", "10.244.2.9"), bad);
    let theirs = cluster.plane.kubeconfig_for("system:node:server2", &["system:nodes"]);
    let host = |ip: &str| {
        let change = json!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}});
        cluster.puts(&theirs, "/api/v1/namespaces/bank/pods/h2", &change)
    };
    refused("another than the confirmed", &host("192.0.2.1"), bad);
    host("192.0.2.2").ok();
    // What else in a status decides about a network.
    let annotations = json!({"metadata": {"annotations": {"k8s.ovn.org/pod-networks": "{}"}}});
    refused("an address by annotation", &cluster.patches("p1", &annotations), "the network's annotations");
    let finalizers = json!({"metadata": {"finalizers": ["example.org/x"]}});
    refused("a finalizer", &cluster.patches("p1", &finalizers), "finalizers");
    let own = json!({"metadata": {"annotations": {"example.org/x": "1"}}});
    cluster.patches("p1", &own).ok();
    // A node of which nothing is known.
    let third = cluster.plane.kubeconfig_for("system:node:server3", &["system:nodes"]);
    cluster
        .plane
        .apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "server3"}}).to_string());
    cluster.plane.apply(&pod("p3", "bank", "server3", false).to_string());
    let change = json!({"status": {"podIPs": [{"ip": "10.244.1.9"}]}});
    let tried = cluster.puts(&third, "/api/v1/namespaces/bank/pods/p3", &change);
    refused("no range", &tried, "no ranges");
}
