//! `cluster-controller` as it is packaged: the Deployment of `packaging/kubernetes`, run by a real kubelet on a control plane
//! node, with its service account's token, the northbound by TLS. It waits for the Lease while another leads, takes over,
//! and gives it back. On a lab with Kubernetes and cluster-controller.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use tests::cluster::{Api, Namespaces, PATIENCE, Wanted, process};
use tests::command::daemon;
use tests::{place, until, vm};

const SYSTEM: &str = "/api/v1/namespaces/drawbridge-system";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/drawbridge-system/deployments";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/drawbridge-system/leases/cluster-controller";
const NODE: &str = "control";
const NAMESPACE: &str = "packaged";
const IMAGE: &str = concat!("drawbridge.dev/cluster-controller:", env!("CARGO_PKG_VERSION"));
/// Of the image.
const NOBODY: &str = "65532";

fn nbctl(arguments: &[&str]) -> String {
    place("central", &[&["ovn-nbctl", "--timeout=60", "--no-leader-only"], arguments].concat()).ok()
}

/// Switches, routers and their ports. In no order.
fn northbound() -> BTreeSet<String> {
    nbctl(&["show"]).lines().map(|line| line.trim().to_owned()).collect()
}

fn holder(api: &Api) -> String {
    let lease = api.get(LEASE).unwrap_or_else(|e| panic!("{e:?}"));
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

/// An argument of the controller that runs in the VM by itself.
fn argument(name: &str) -> String {
    let command = fs::read(format!("/proc/{}/cmdline", daemon("vm", "cluster-controller", "pid"))).unwrap();
    let command = String::from_utf8(command).unwrap();
    let mut words = command.split('\0').skip_while(|word| *word != name);
    let value = words.nth(1).unwrap_or_else(|| panic!("no {name}: {command}"));
    format!("{name}={value}")
}

/// What the file says an administrator is to set: this cluster's ranges, the northbound, and where the API is.
fn deployment() -> Value {
    let text = fs::read_to_string("/share/kubernetes/deployment.json").unwrap();
    let mut deployment: Value = serde_json::from_str(&text).unwrap();
    let spec = &mut deployment["spec"];
    // On the host's network two of one port do not fit on one node.
    spec["replicas"] = json!(1);
    let container = &mut spec["template"]["spec"]["containers"][0];
    let ours = ["--northbound=ssl:10.0.0.1:16641".to_owned()]
        .into_iter()
        .chain(["--cluster-cidr", "--service-cidr", "--mtu"].map(argument));
    for argument in ours {
        let (name, _) = argument.split_once('=').unwrap();
        let arguments = container["args"].as_array_mut().unwrap();
        arguments.retain(|it| it.as_str().unwrap().split('=').next() != Some(name));
        arguments.push(json!(argument));
    }
    let url = fs::read_to_string("/share/kubernetes/url").unwrap();
    let (host, port) = url.trim().strip_prefix("https://").and_then(|it| it.split_once(':')).unwrap();
    let environment = container["env"].as_array_mut().unwrap();
    environment.push(json!({"name": "KUBERNETES_SERVICE_HOST", "value": host}));
    environment.push(json!({"name": "KUBERNETES_SERVICE_PORT", "value": port}));
    deployment
}

/// A control plane node with the Deployment. When dropped, all is as it was.
struct Packaged<'a> {
    api: &'a Api,
}

impl<'a> Packaged<'a> {
    fn start(api: &'a Api) -> Self {
        let role = "node-role.kubernetes.io/control-plane";
        api.create(
            "/api/v1/nodes",
            &json!({"apiVersion": "v1", "kind": "Node",
                "metadata": {"name": NODE, "labels": {"kubernetes.io/hostname": NODE, role: ""}},
                "spec": {"taints": [{"key": role, "effect": "NoSchedule"}]}}),
        );
        let made = Self { api };
        vm(&["/lab/control-node", "up"]).ok();
        let file = |name: &str| fs::read_to_string(format!("/share/pki/{name}")).unwrap();
        api.create(
            &format!("{SYSTEM}/secrets"),
            &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "ovn-northbound"}, "stringData": {
                "tls.key": file("central.key"), "tls.crt": file("central.crt"), "ca.crt": file("ca.crt")}}),
        );
        api.create(DEPLOYMENTS, &deployment());
        made
    }

    /// Once kubelet's probes say that it is well.
    fn pod(&self) -> Value {
        until("the controller's pod is ready", PATIENCE, || {
            let pods = self.api.list(&format!("{SYSTEM}/pods"));
            let is_ready = |pod: &&Value| pod["status"]["containerStatuses"][0]["ready"] == true;
            pods.iter().find(is_ready).cloned().ok_or_else(|| {
                let statuses: Vec<_> = pods.iter().map(|it| &it["status"]).collect();
                format!("{statuses:?}, events {:?}", self.events())
            })
        })
    }

    fn events(&self) -> Vec<String> {
        self.api.list(&format!("{SYSTEM}/events")).iter().map(|it| it["message"].to_string()).collect()
    }
}

impl Drop for Packaged<'_> {
    fn drop(&mut self) {
        daemon("vm", "cluster-controller", "start");
        self.api.delete(&format!("{DEPLOYMENTS}/cluster-controller"));
        self.api.delete(&format!("{SYSTEM}/secrets/ovn-northbound"));
        if !std::thread::panicking() {
            until("the controller's pod is gone", PATIENCE, || {
                match self.api.list(&format!("{SYSTEM}/pods")).len() {
                    0 => Ok(()),
                    left => Err(left.to_string()),
                }
            });
        }
        vm(&["/lab/control-node", "down"]);
        self.api.delete(&format!("/api/v1/nodes/{NODE}"));
    }
}

/// As the manifest wants it: nobody, with nothing that it could gain, in a filter.
fn is_confined(pod: &Value) {
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    let process = process(NODE, id.strip_prefix("containerd://").unwrap()).expect("it runs");
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t"));
        line.unwrap_or_else(|| panic!("{status}")).split('\t').next().unwrap().to_owned()
    };
    assert_eq!(["Uid", "Gid", "NoNewPrivs", "Seccomp"].map(value), [NOBODY, NOBODY, "1", "2"], "{status}");
    assert_eq!(["CapEff", "CapBnd"].map(value), ["0000000000000000"; 2], "{status}");
}

/// From another machine, as Prometheus would, by what the manifest declares.
fn is_counted(pod: &Value) {
    let port = &pod["spec"]["containers"][0]["ports"][0];
    assert_eq!(port["name"], "metrics");
    let address = pod["status"]["hostIP"].as_str().unwrap();
    let said = place(
        "host1",
        &["curl", "-sS", "--max-time", "20", &format!("http://{address}:{}/metrics", port["containerPort"])],
    );
    assert!(said.clone().ok().contains("cluster_controller_leading 0"), "{said:?}");
}

#[test]
fn the_packaged_controller_leads_when_the_other_has_ended() {
    let api = Api::admin();
    let namespaces = Namespaces::create(&api, &[(NAMESPACE, json!({}))]);
    let before = northbound();
    let packaged = Packaged::start(&api);
    let pod = packaged.pod();
    assert_eq!(pod["status"]["containerStatuses"][0]["image"], IMAGE);
    is_confined(&pod);
    is_counted(&pod);
    let name = pod["metadata"]["name"].as_str().unwrap();
    assert!(!holder(&api).starts_with(name), "another leads: {}", holder(&api));

    daemon("vm", "cluster-controller", "stop");
    until("the pod leads", PATIENCE, || {
        let holder = holder(&api);
        if holder.starts_with(name) { Ok(()) } else { Err(holder) }
    });
    let labels = json!({"app": "web"});
    let pods = namespaces.run(&[Wanted {
        namespace: NAMESPACE.to_owned(),
        name: "web".to_owned(),
        node: "host1",
        labels: labels.clone(),
        ports: json!([]),
        grace: 0,
    }]);
    let said = nbctl(&["get", "Logical_Switch_Port", &format!("{NAMESPACE}_web"), "addresses"]);
    for address in pods[0].addresses {
        assert!(said.contains(&address.to_string()), "{address}: {said}");
    }
    let service = api.create(
        &format!("/api/v1/namespaces/{NAMESPACE}/services"),
        &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8080}]}}),
    );
    let ip = service["spec"]["clusterIP"].as_str().unwrap();
    until("the Service has its load balancer", PATIENCE, || {
        let said = nbctl(&["lb-list"]);
        if said.contains(&format!("{ip}:80")) { Ok(()) } else { Err(said) }
    });
    let pod = packaged.pod();
    let container = &pod["status"]["containerStatuses"][0];
    assert_eq!(container["restartCount"], 0, "{} (events: {:?})", container["lastState"], packaged.events());

    drop(packaged);
    until("the other leads again", PATIENCE, || {
        let holder = holder(&api);
        if holder.starts_with(name) || holder.is_empty() { Err(holder) } else { Ok(()) }
    });
    drop(namespaces);
    until("the northbound is as before", PATIENCE, || {
        let now = northbound();
        if now == before { Ok(()) } else { Err(format!("{:#?}", now.symmetric_difference(&before))) }
    });
}
