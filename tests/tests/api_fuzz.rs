//! Every kind that nic-agent and cluster-controller read, in whatever form a real API server takes it: no object keeps either
//! of them from hearing of the others, neither in a list nor in a watch.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../../nic-agent/src/cluster/testing/mutation.rs"]
mod mutation;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cluster_controller::cluster::object::VfResources;
use cluster_controller::watch::{Input, Kind};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use kube::core::params::PostParams;
use nic_agent::cluster::{self, Cluster, Inputs};
use nic_agent::config::Config;
use nic_agent::enforcement::Policies;
use nic_agent::management::Access;
use nic_agent::metrics::Metrics;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tests::control_plane::ControlPlane;
use tests::{late, patience};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const PATIENCE: Duration = Duration::from_mins(2);
const EXAMPLE: &str = include_str!("../../packaging/nic-agent.example.toml");
/// Of each kind; as many again while both watch.
const ROUNDS: usize = 120;

/// Plural, where it is made, and an object that makes sense.
fn kinds() -> Vec<(&'static str, &'static str, Value)> {
    let drawbridge = "drawbridge.dev/v1alpha1";
    let condition = json!({"type": "Ready", "status": "True", "reason": "R", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    vec![
        (
            "nodes",
            "/api/v1/nodes",
            json!({"apiVersion": "v1", "kind": "Node",
            "spec": {"podCIDRs": ["10.244.77.0/24"], "podCIDR": "10.244.77.0/24"},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.77"}]}}),
        ),
        (
            "nicnodes",
            "/apis/drawbridge.dev/v1alpha1/nicnodes",
            json!({"apiVersion": drawbridge, "kind": "NicNode",
            "spec": {"nodeName": "server9", "managementPort": {"pf": 0, "vf": 3}, "profile": {"kind": "KubeOVN"},
                "ovn": {"remotes": ["tcp:192.0.2.10:6642"],
                    "encapsulation": {"types": ["Geneve"], "addresses": ["192.0.2.1"]}}},
            "status": {"chassis": "c", "managementPort": {"mac": "0a:00:00:00:00:01", "ips": ["10.244.9.2"]},
                "conditions": [condition.clone()]}}),
        ),
        (
            "noderanges",
            "/apis/drawbridge.dev/v1alpha1/noderanges",
            json!({"apiVersion": drawbridge, "kind": "NodeRange",
            "spec": {"ranges": ["10.244.9.0/24"], "addresses": ["192.0.2.9"]},
            "status": {"nodeUid": "u", "ranges": ["10.244.9.0/24"], "addresses": ["192.0.2.9"],
                "conditions": [condition]}}),
        ),
        (
            "namespaces",
            "/api/v1/namespaces",
            json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"labels": {"team": "a"}}}),
        ),
        (
            "pods",
            "/api/v1/namespaces/shop/pods",
            json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"labels": {"app": "db"}},
            "spec": {"nodeName": "server2", "automountServiceAccountToken": false, "containers": [
                {"name": "c", "image": "none", "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                    "resources": {"limits": {"drawbridge.dev/vf": "1"}, "requests": {"drawbridge.dev/vf": "1"}}}]},
            "status": {"phase": "Running", "podIP": "10.244.0.9", "podIPs": [{"ip": "10.244.0.9"}]}}),
        ),
        (
            "services",
            "/api/v1/namespaces/shop/services",
            json!({"apiVersion": "v1", "kind": "Service",
            "spec": {"selector": {"app": "db"}, "internalTrafficPolicy": "Cluster", "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
                "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}]}}),
        ),
        (
            "endpointslices",
            "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"labels": {"kubernetes.io/service-name": "web"}},
                "endpoints": [{"addresses": ["10.244.0.9"], "nodeName": "server2",
                    "conditions": {"ready": true, "serving": true, "terminating": false},
                    "hints": {"forZones": [{"name": "z1"}]},
                    "targetRef": {"kind": "Pod", "namespace": "shop", "name": "db", "uid": "u"}}],
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}),
        ),
        (
            "networkpolicies",
            "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies",
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "spec": {"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["x"]}]},
                    "policyTypes": ["Ingress", "Egress"],
                    "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
                        {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "db"}}}],
                        "ports": [{"protocol": "TCP", "port": 80, "endPort": 90}, {"port": "http"}]}]}}),
        ),
        (
            "podattachments",
            "/apis/drawbridge.dev/v1alpha1/namespaces/shop/podattachments",
            json!({"apiVersion": drawbridge, "kind": "PodAttachment",
                "spec": {"pod": {"name": "db", "uid": "u"}, "interface": "eth0", "nodeName": "server2", "vf": {"pf": 0, "vf": 1}},
                "status": {"logicalPort": "shop_db", "mac": "0a:00:00:00:00:07", "ips": ["10.244.0.9"],
                    "conntrackZone": 5}}),
        ),
    ]
}

/// What people found that it takes, and what may be read as something else.
fn oddities(plural: &str) -> Vec<(&'static str, Value)> {
    let dates = json!([{"manager": "m", "operation": "Update", "apiVersion": "v1", "time": "9999-12-31T23:59:59-23:59",
        "fieldsType": "FieldsV1", "fieldsV1": {}}]);
    let mut all =
        vec![("/metadata/managedFields", dates), ("/metadata/annotations", json!({"a": "\u{0}\u{7f}"}))];
    match plural {
        "endpointslices" => all.extend([
            ("/ports/0/port", json!(70_000)),
            ("/ports/0/port", json!(i32::MIN)),
            ("/ports/0", json!({})),
            ("/endpoints", Value::Null),
            ("/endpoints/0/addresses/0", json!("010.244.0.9")),
            ("/endpoints/0/conditions", Value::Null),
            ("/endpoints/0/targetRef", json!({})),
            ("/addressType", json!("FQDN")),
        ]),
        "pods" => all.extend([
            ("/status/podIPs/0/ip", json!("010.244.0.9")),
            ("/status/phase", json!("Whatever")),
            ("/spec/containers/0/resources/limits", json!({"drawbridge.dev/vf": 1})),
        ]),
        "services" => all.extend([
            ("/spec/type", json!("ExternalName")),
            ("/spec/ports/0/targetPort", json!(0)),
            ("/spec/clusterIP", json!("None")),
        ]),
        "networkpolicies" => all.extend([
            ("/spec/ingress/0/from/0/ipBlock/cidr", json!("010.0.0.0/8")),
            ("/spec/ingress", json!([{}, {}, Value::Null])),
            ("/spec/podSelector", Value::Null),
        ]),
        "nodes" => all.push(("/status/addresses/0/address", json!("not one"))),
        "nicnodes" => all.push(("/status/conditions", Value::Null)),
        _ => {}
    }
    all
}

async fn send(
    client: &Client,
    request: Result<tonic::codegen::http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Value, kube::Error> {
    client.request::<Value>(request.expect("a request")).await
}

/// What the API server has taken.
struct Made {
    client: Client,
    count: BTreeMap<&'static str, usize>,
    tried: usize,
}

impl Made {
    /// Also its status, which is written by itself.
    async fn make(&mut self, plural: &'static str, at: &str, name: &str, object: &Value) -> bool {
        let mut object = object.clone();
        object["metadata"]["name"] = name.into();
        // A NicNode of another name than its node's is refused, and shows nothing.
        if let Some(node) =
            object.pointer_mut("/spec/nodeName").filter(|it| plural == "nicnodes" && it.is_string())
        {
            *node = name.into();
        }
        self.tried += 1;
        let created = Request::new(at).create(&PostParams::default(), object.to_string().into_bytes());
        let Ok(there) = send(&self.client, created).await else { return false };
        *self.count.entry(plural).or_default() += 1;
        if let (Some(status), Some(_)) = (object.get("status"), object["metadata"]["name"].as_str()) {
            let mut with_status = there;
            with_status["status"] = status.clone();
            let text = with_status.to_string().into_bytes();
            let put = Request::new(at).replace_subresource("status", name, &PostParams::default(), text);
            // Refused, it stays as it was made.
            let _ = send(&self.client, put).await;
        }
        true
    }

    async fn wrong_ones(&mut self, runner: &mut TestRunner, round: &str) {
        for (plural, at, good) in kinds() {
            let mut objects = Vec::new();
            if round == "first" {
                for (place, value) in oddities(plural) {
                    let mut object = good.clone();
                    put(&mut object, place, value);
                    objects.push(object);
                }
            }
            for _ in 0..ROUNDS {
                let mut object = good.clone();
                let edits = mutation::mutations().new_tree(runner).unwrap().current();
                for part in ["/spec", "/status", "/endpoints", "/ports", "/metadata"] {
                    mutation::mutate(&mut object, part, &edits);
                }
                objects.push(object);
            }
            for (number, object) in objects.iter().enumerate() {
                if object.is_object() && object.get("metadata").is_none_or(Value::is_object) {
                    self.make(plural, at, &format!("{round}-{number}"), object).await;
                }
            }
        }
    }

    /// One that makes sense, of each kind: its name.
    async fn good_ones(&mut self, name: &'static str) -> &'static str {
        for (plural, at, good) in kinds() {
            assert!(self.make(plural, at, name, &good).await, "{plural}");
        }
        name
    }

    /// The newest version of each kind.
    async fn newest(&self) -> BTreeMap<&'static str, String> {
        let mut newest = BTreeMap::new();
        for (plural, at, _) in kinds() {
            let all = Request::new(at).list(&kube::core::params::ListParams::default());
            let list = send(&self.client, all).await.unwrap();
            let version =
                |it: &Value| it["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
            let last = list["items"].as_array().unwrap().iter().map(version).max().unwrap();
            newest.insert(plural, last.to_string());
        }
        newest
    }
}

fn put(object: &mut Value, place: &str, value: Value) {
    let (parent, key) = place.rsplit_once('/').unwrap();
    match object.pointer_mut(parent) {
        Some(Value::Array(list)) => list[key.parse::<usize>().unwrap()] = value,
        Some(Value::Object(map)) => drop(map.insert(key.to_owned(), value)),
        _ => object[parent.trim_start_matches('/')] = json!({key: value}),
    }
}

/// The agent's reading part.
struct Agent {
    cluster: Cluster,
    metrics: Metrics,
    cancel: CancellationToken,
    _tasks: TaskTracker,
    _directory: tempfile::TempDir,
}

impl Agent {
    async fn start(plane: &ControlPlane) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = plane.kubeconfig();
        let text = EXAMPLE
            .replace("#kubeconfig = \"\"", &format!("kubeconfig = {:?}", kubeconfig.to_str().unwrap()))
            .replace("#node-addresses = \"\"", "node-addresses = \"192.0.2.1\"")
            .replace(
                "#dir = \"/var/lib/nic-agent\"",
                &format!("dir = {:?}", directory.path().to_str().unwrap()),
            );
        let config: Config = text.parse().unwrap();
        let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (accesses, follow) = cluster::client::start(kubeconfig, cancel.clone()).await;
        tasks.spawn(follow);
        let (_, access) = watch::channel(Access::NodeAddresses);
        let (_, held) = watch::channel(Arc::default());
        let heartbeat = nic_agent::service_manager::Heartbeat::new(Duration::from_mins(1));
        let inputs = Inputs { access, held, heartbeat };
        let metrics = Metrics::new();
        let cluster = cluster::start(&config, &accesses, inputs, metrics.clone(), &tasks, &cancel);
        Self { cluster, metrics, cancel, _tasks: tasks, _directory: directory }
    }

    /// It has heard of everything, and is well.
    async fn heard(&self, newest: &BTreeMap<&'static str, String>) {
        let end = tokio::time::Instant::now() + patience(PATIENCE);
        loop {
            let missing: Vec<String> = match &*self.cluster.policies.borrow() {
                Policies::Known(known) => {
                    let said: BTreeMap<&str, u64> =
                        (known.source.split(' ').filter_map(|it| it.split_once('=')))
                            .map(|(kind, version)| (kind, version.parse().unwrap()))
                            .collect();
                    let is_missing = |(kind, version): &(&&str, &String)| {
                        said.get(**kind).is_none_or(|it| *it < version.parse::<u64>().unwrap())
                    };
                    newest.iter().filter(is_missing).map(|it| format!("{it:?}")).collect()
                }
                other => vec![format!("{other:?}")],
            };
            if missing.is_empty() && self.cluster.health.borrow().is_ok() {
                return;
            }
            let found = || format!("{missing:?}, {:?}", self.cluster.health.borrow());
            assert!(
                tokio::time::Instant::now() < end,
                "{}",
                late("all is heard", patience(PATIENCE), found())
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The controller's.
struct Controller {
    inputs: mpsc::Receiver<Input>,
    metrics: cluster_controller::metrics::Metrics,
    _watches: JoinSet<()>,
    listed: BTreeSet<Kind>,
    /// Kinds and names of what was said to be there.
    there: BTreeSet<String>,
}

impl Controller {
    fn start(client: &Client) -> Self {
        let (out, inputs) = mpsc::channel(64);
        let resources = VfResources(vec!["drawbridge.dev/vf".to_owned()]);
        let metrics = cluster_controller::metrics::Metrics::default();
        let watches = cluster_controller::watch::start(client, &resources, &out, &metrics);
        Self { inputs, metrics, _watches: watches, listed: BTreeSet::new(), there: BTreeSet::new() }
    }

    /// Every kind is listed, and one of this name was named of each.
    async fn heard(&mut self, name: &str) {
        use cluster_controller::cluster::Change;
        let wanted: BTreeSet<String> =
            ["Node", "NodeRange", "NicNode", "Pod", "Service", "Slice", "Attachment"]
                .map(|it| format!("{it} {name}"))
                .into();
        let heard = async {
            while self.listed.len() < Kind::ALL.len() || !wanted.is_subset(&self.there) {
                match self.inputs.recv().await.expect("the watches go on") {
                    Input::Listed(kind) => drop(self.listed.insert(kind)),
                    Input::Change(change) => {
                        let kind = match &change {
                            Change::Node(name, _) => format!("Node {name}"),
                            Change::NodeRange(name, _) => format!("NodeRange {name}"),
                            Change::NicNode(name, _) => format!("NicNode {name}"),
                            Change::Pod(name, _) => format!("Pod {}", name.name),
                            Change::Service(name, _) => format!("Service {}", name.name),
                            Change::Slice(name, _) => format!("Slice {}", name.name),
                            Change::Attachment(name, _) => format!("Attachment {}", name.name),
                        };
                        if change.is_present() {
                            self.there.insert(kind);
                        }
                    }
                }
            }
        };
        let waited = tokio::time::timeout(patience(PATIENCE), heard).await.is_ok();
        let missing: Vec<&String> = wanted.difference(&self.there).collect();
        let found = format!("{missing:?} of {:?}", self.listed);
        assert!(waited, "{}", late("every kind is heard", patience(PATIENCE), found));
    }
}

fn failed_nowhere(metrics: &str) {
    let failed: Vec<&str> =
        metrics.lines().filter(|it| it.contains("watch_failures_total{") && !it.ends_with(" 0")).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_object_that_the_api_server_takes_hides_another() {
    let plane = ControlPlane::api_only();
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/kubernetes/crds");
    plane.kubectl(&["apply", "-f", crds.to_str().unwrap()]).ok();
    plane.kubectl(&["wait", "--for=condition=Established", "crd", "--all"]).ok();
    plane.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}).to_string());
    let kubeconfig = Kubeconfig::read_from(plane.kubeconfig()).unwrap();
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let mut made = Made { client: client.clone(), count: BTreeMap::new(), tried: 0 };
    let mut runner = TestRunner::deterministic();

    made.wrong_ones(&mut runner, "first").await;
    // Behind them.
    let name = made.good_ones("good-one").await;
    let (agent, mut controller) = (Agent::start(&plane).await, Controller::start(&client));
    agent.heard(&made.newest().await).await;
    controller.heard(name).await;

    // While both watch.
    made.wrong_ones(&mut runner, "second").await;
    let name = made.good_ones("good-two").await;
    agent.heard(&made.newest().await).await;
    controller.heard(name).await;
    agent.cancel.cancel();
    // Nor did one of them end a list or a watch, which would go on some time later.
    failed_nowhere(&agent.metrics.encode(nic_agent::metrics::Format::Text).unwrap());
    failed_nowhere(&controller.metrics.encode(cluster_controller::metrics::Format::Text).unwrap());

    println!("taken, of {} that were tried: {:?}", made.tried, made.count);
    for (plural, _, _) in kinds() {
        assert!(made.count[plural] > ROUNDS / 4, "hardly any {plural}: {:?}", made.count);
    }
}
