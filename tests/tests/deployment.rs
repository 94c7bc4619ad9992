//! `packaging/kubernetes/cluster-controller.yaml` at a real API server, with the real scheduler: no field is unknown, the two
//! copies are never on one node, one of them stays, and nothing but the host's network sets it apart from "restricted".
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{control_plane::ControlPlane, until};

const MANIFEST: &str = "../packaging/kubernetes/cluster-controller.yaml";
const NAMESPACE: &str = "drawbridge-system";
const PATIENCE: Duration = Duration::from_mins(2);

struct Bench(ControlPlane);

impl Bench {
    fn start() -> Self {
        let bench = Self(ControlPlane::start());
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join(MANIFEST);
        bench.0.kubectl(&["apply", "--validate=strict", "-f", manifest.to_str().unwrap()]).ok();
        bench
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let said = self.0.kubectl(&[arguments, &["-o", "json"]].concat()).ok();
        serde_json::from_str(&said).unwrap()
    }

    fn control_plane_node(&self, name: &str) {
        let role = "node-role.kubernetes.io/control-plane";
        let node = json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, role: ""}},
            "spec": {"taints": [{"key": role, "effect": "NoSchedule"}]}});
        self.0.apply(&node.to_string());
        let room = json!({"status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}}});
        self.0
            .kubectl(&[
                "patch",
                "node",
                name,
                "--subresource=status",
                "--type=merge",
                "-p",
                &room.to_string(),
            ])
            .ok();
    }

    fn pods(&self) -> Vec<Value> {
        self.json(&["get", "pods", "-n", NAMESPACE])["items"].as_array().unwrap().clone()
    }

    /// The Deployment without its ports, which no two on one node could have either, and for nodes that no kubelet keeps alive.
    fn for_the_scheduler(&self) {
        let name = ["deployment", "-n", NAMESPACE, "cluster-controller"];
        let mut deployment = self.json(&[&["get"], &name[..]].concat());
        self.0.kubectl(&[&["delete", "--cascade=foreground"], &name[..]].concat()).ok();
        let pod = &mut deployment["spec"]["template"]["spec"];
        pod["containers"][0]["ports"] = json!([]);
        pod["tolerations"] = json!([{"operator": "Exists"}]);
        let metadata = json!({"name": "cluster-controller", "namespace": NAMESPACE});
        self.0.apply(
            &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": deployment["spec"]})
                .to_string(),
        );
    }

    /// Of the pods that are not going: where each is, or why it is nowhere.
    fn becomes(&self, what: &str, wanted: &[&str]) {
        until(what, PATIENCE, || {
            let placed = |pod: &Value| {
                let why = &pod["status"]["conditions"][0]["message"];
                pod["spec"]["nodeName"].as_str().or(why.as_str()).unwrap_or_default().to_owned()
            };
            let mut places: Vec<_> = self
                .pods()
                .iter()
                .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
                .map(placed)
                .collect();
            places.sort();
            let is_so = |(place, wanted): (&String, &&str)| place.contains(wanted);
            let same = places.len() == wanted.len() && places.iter().zip(wanted).all(is_so);
            if same { Ok(()) } else { Err(format!("{places:?}")) }
        });
    }

    /// As a kubelet would.
    fn ready(&self, pod: &Value) {
        let status =
            json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        let name = pod["metadata"]["name"].as_str().unwrap();
        let options = ["-n", NAMESPACE, "--subresource=status", "--type=merge", "-p"];
        self.0.kubectl(&[&["patch", "pod", name], &options[..], &[&status.to_string()]].concat()).ok();
    }

    fn evict(&self, pod: &Value) -> tests::Output {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
            "metadata": {"name": name, "namespace": NAMESPACE}});
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/{name}/eviction");
        let arguments = ["create", "--raw", &path, "-f", "-"];
        self.0.kubectl_with(&self.0.kubeconfig(), &arguments, &eviction.to_string())
    }
}

#[test]
fn one_copy_on_each_control_plane_node_and_one_stays_when_nodes_are_drained() {
    let bench = Bench::start();
    bench.for_the_scheduler();
    bench.control_plane_node("control1");
    bench.becomes("one has no place", &["didn't match pod anti-affinity", "control1"]);
    bench.control_plane_node("control2");
    bench.becomes("both have one", &["control1", "control2"]);

    let pods = bench.pods();
    for pod in &pods {
        bench.ready(pod);
    }
    until("the budget counts both", PATIENCE, || {
        let status = &bench.json(&["get", "pdb", "-n", NAMESPACE, "cluster-controller"])["status"];
        if status["disruptionsAllowed"] == 1 { Ok(()) } else { Err(status.to_string()) }
    });
    bench.evict(&pods[0]).ok();
    let refused = bench.evict(&pods[1]);
    assert!(!refused.is_ok() && refused.stderr.contains("disruption budget"), "{refused:#?}");
}

#[test]
fn nothing_but_the_hosts_network_sets_it_apart_from_restricted() {
    let bench = Bench::start();
    let enforced = |namespace: &str| {
        bench.json(&["get", "namespace", namespace])["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
            .clone()
    };
    assert_eq!(enforced(NAMESPACE), "privileged");
    bench.0.apply(
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "strict",
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
        .to_string(),
    );
    let deployment = bench.json(&["get", "deployment", "-n", NAMESPACE, "cluster-controller"]);
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "strict"},
        "spec": deployment["spec"]["template"]["spec"]});
    pod["spec"]["serviceAccountName"] = json!("default");
    let create = ["create", "--dry-run=server", "-f", "-"];
    let asked = |pod: &Value| bench.0.kubectl_with(&bench.0.kubeconfig(), &create, &pod.to_string());
    until("pods may be made", PATIENCE, || {
        let tried = bench.0.kubectl(&["get", "serviceaccount", "-n", "strict", "default"]);
        if tried.is_ok() { Ok(()) } else { Err(tried.stderr) }
    });
    let refused = asked(&pod);
    assert!(!refused.is_ok() && refused.stderr.contains("host namespaces"), "{refused:#?}");
    pod["spec"]["hostNetwork"] = json!(false);
    pod["spec"]["containers"][0]["ports"] = json!([]);
    asked(&pod).ok();
}
