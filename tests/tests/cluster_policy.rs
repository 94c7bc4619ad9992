//! The agent's reading part against a real API server: what kubectl makes there is compiled as the file source compiles
//! what kubectl prints of it. Pods have no kubelet: their status is written here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nic_agent::cluster::{self, Cluster, Inputs};
use nic_agent::config::Config;
use nic_agent::directory::Directory;
use nic_agent::enforcement::Policies;
use nic_agent::management::Access;
use nic_agent::metrics::Metrics;
use nic_agent::policy::{Compiler, Settings, Snapshot};
use offload::policy::PodPolicy;
use serde_json::{Value, json};
use tests::control_plane::{ControlPlane, Program};
use tests::{late, patience};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const PATIENCE: Duration = Duration::from_mins(2);
const EXAMPLE: &str = include_str!("../../packaging/nic-agent.example.toml");
const KINDS: &str =
    "networkpolicies.networking.k8s.io,namespaces,pods,services,endpointslices.discovery.k8s.io";

fn pod(name: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": name}},
        "spec": {"nodeName": node, "automountServiceAccountToken": false, "containers": [
            {"name": "c", "image": "none", "ports": [{"name": "http", "containerPort": 8080}]}]}})
}

fn policy(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

fn apply(plane: &ControlPlane, items: &[Value]) {
    plane.apply(&json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string());
}

fn running(plane: &ControlPlane, name: &str, ip: &str) {
    let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}}).to_string();
    let patch = ["-n", "shop", "patch", "pod", name, "--subresource=status", "--type=merge", "-p", &status];
    plane.kubectl(&patch).ok();
}

/// As the NIC of the pod's node writes it.
fn attached(plane: &ControlPlane, name: &str, node: &str, ip: &str) {
    let uid = plane.kubectl(&["-n", "shop", "get", "pod", name, "-o", "jsonpath={.metadata.uid}"]).ok();
    let attachment = json!({"apiVersion": "drawbridge.dev/v1alpha1", "kind": "PodAttachment",
        "metadata": {"name": format!("{name}-eth0"), "namespace": "shop"},
        "spec": {"pod": {"name": name, "uid": uid.trim()}, "interface": "eth0", "nodeName": node,
            "vf": {"pf": 0, "vf": 1}}});
    apply(plane, &[attachment]);
    let status = json!({"status": {"ips": [ip]}}).to_string();
    let name = format!("{name}-eth0");
    let patch = ["-n", "shop", "patch", "podattachment", &name, "--subresource=status", "--type=merge", "-p"];
    plane.kubectl(&[&patch[..], &[status.as_str()]].concat()).ok();
}

fn kubectl(plane: &ControlPlane, arguments: &str) {
    plane.kubectl(&arguments.split(' ').collect::<Vec<_>>()).ok();
}

/// What the file source would say.
fn from_file(plane: &ControlPlane) -> BTreeMap<Arc<str>, Arc<PodPolicy>> {
    let text = plane.kubectl(&["get", "-A", "-o", "json", KINDS]).ok();
    let snapshot = Snapshot::parse(Path::new("kubectl"), text.as_bytes()).unwrap();
    let settings = Settings {
        node: "server1".into(),
        zone: "".into(),
        node_addresses: ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()].into_iter().collect(),
        budget: nic_agent::policy::Budget::default(),
    };
    let compiler = Compiler::new(settings, snapshot);
    compiler.all_compiled().map(|(uid, _, policy)| (uid.clone(), policy.clone())).collect()
}

/// Waits until the agent says the same.
async fn same(plane: &ControlPlane, cluster: &mut Cluster) -> BTreeMap<Arc<str>, Arc<PodPolicy>> {
    let expected = from_file(plane);
    let is_same = |it: &Policies| match it {
        Policies::Known(known) => {
            known.pods.len() == expected.len()
                && known.pods.iter().all(|(uid, policy)| expected.get(uid) == Some(policy))
        }
        _ => false,
    };
    let waited = tokio::time::timeout(patience(PATIENCE), cluster.policies.wait_for(is_same)).await.is_ok();
    let found = || format!("{:#?}", cluster.policies.borrow());
    assert!(waited, "{}", late(format_args!("{expected:#?}"), patience(PATIENCE), found()));
    expected
}

async fn until_health(cluster: &mut Cluster, is: impl Fn(&Result<(), String>) -> bool) -> Result<(), String> {
    let wait = cluster.health.wait_for(is);
    let waited = tokio::time::timeout(patience(PATIENCE), wait).await.map(|it| it.unwrap().clone());
    waited.unwrap_or_else(|_| {
        panic!("{}", late("health as expected", patience(PATIENCE), format!("{:?}", cluster.health.borrow())))
    })
}

fn isolated(policies: &BTreeMap<Arc<str>, Arc<PodPolicy>>) -> usize {
    policies.values().filter(|it| !it.ingress.is_open() || !it.egress.is_open()).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_api_server_says_what_a_file_would() {
    let plane = ControlPlane::api_only();
    // Who knows nothing of ranges: that kind is not there.
    for crd in ["nicnodes", "podattachments"] {
        let path = format!("{}/../packaging/kubernetes/crds/{crd}.yaml", env!("CARGO_MANIFEST_DIR"));
        plane.kubectl(&["apply", "-f", &path]).ok();
        plane.kubectl(&["wait", "--for=condition=Established", &format!("crd/{crd}.drawbridge.dev")]).ok();
    }
    apply(
        &plane,
        &[
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop", "labels": {"team": "a"}}}),
        ],
    );
    apply(
        &plane,
        &[pod("web", "server1"), pod("cart", "server1"), pod("db", "server2"), pod("cache", "server2")],
    );
    for (at, name) in ["web", "cart", "db", "cache"].into_iter().enumerate() {
        let ip = format!("10.244.0.{}", at + 1);
        running(&plane, name, &ip);
        if at > 1 {
            attached(&plane, name, "server2", &ip);
        }
    }
    let from_db = json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [
        {"from": [{"podSelector": {"matchLabels": {"app": "db"}}}], "ports": [{"port": "http"}]}]});
    let to_service = json!({"podSelector": {"matchLabels": {"app": "cart"}}, "policyTypes": ["Egress"], "egress": [
        {"to": [{"namespaceSelector": {"matchLabels": {"team": "a"}}, "podSelector": {"matchLabels": {"app": "cache"}}}]}]});
    apply(&plane, &[policy("web", &from_db), policy("cart", &to_service)]);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "cache", "namespace": "shop"},
        "spec": {"selector": {"app": "cache"}, "ports": [{"name": "redis", "port": 6379}]}});
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "cache-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "cache"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.244.0.4"]}], "ports": [{"name": "redis", "port": 6379}]});
    apply(&plane, &[service, slice]);

    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = plane.kubeconfig();
    let text = EXAMPLE
        .replace("#kubeconfig = \"\"", &format!("kubeconfig = {:?}", kubeconfig.to_str().unwrap()))
        .replace("#node-addresses = \"\"", "node-addresses = \"192.0.2.1\"")
        .replace("#dir = \"/var/lib/nic-agent\"", &format!("dir = {:?}", dir.path().to_str().unwrap()));
    let config: Config = text.parse().unwrap();
    let (cancel, tasks, metrics) = (CancellationToken::new(), TaskTracker::new(), Metrics::new());
    let (accesses, follow) = cluster::client::start(kubeconfig, cancel.clone()).await;
    tasks.spawn(follow);
    let (_, access) = watch::channel(Access::NodeAddresses);
    // What this node's pods have is nobody's word but its NIC's.
    let held = ["web", "cart"].map(|name| {
        let uid = plane.kubectl(&["-n", "shop", "get", "pod", name, "-o", "jsonpath={.metadata.uid}"]).ok();
        let ip = if name == "web" { "10.244.0.1" } else { "10.244.0.2" };
        (Arc::from(uid.trim()), vec![ip.parse().unwrap()])
    });
    let (_, held) = watch::channel(Arc::new(held.into()));
    let heartbeat = nic_agent::service_manager::Heartbeat::new(Duration::from_mins(1));
    let inputs = Inputs { access, held, heartbeat };
    let mut cluster = cluster::start(&config, &accesses, inputs, metrics.clone(), &tasks, &cancel);

    assert_eq!(isolated(&same(&plane, &mut cluster).await), 2);
    until_health(&mut cluster, Result::is_ok).await.unwrap();
    match &*cluster.directories.borrow() {
        Directory::Known(pods) => assert_eq!(pods.len(), 2, "this node's: {pods:?}"),
        unknown @ Directory::Unknown { .. } => panic!("{unknown:?}"),
    }

    // The other node says of its pod what it likes: its NIC's word stays.
    running(&plane, "db", "10.244.0.66");
    let says = |it: &Policies| matches!(it, Policies::Known(known) if known.reports.iter().any(|it| it.contains("shop/db")));
    tests::until("the lie is reported", PATIENCE, || {
        if says(&cluster.policies.borrow()) {
            Ok(())
        } else {
            Err(format!("{:?}", cluster.policies.borrow()))
        }
    });
    running(&plane, "db", "10.244.0.3");

    // Each change by kubectl, and each changes something.
    let mut before = same(&plane, &mut cluster).await;
    for change in [
        "-n shop label pod cache app=db --overwrite",
        "-n shop label pod cart app=web --overwrite",
        "label namespace shop team=b --overwrite",
        "-n shop delete networkpolicy web",
        "-n shop delete pod web --force --grace-period=0",
    ] {
        kubectl(&plane, change);
        let after = same(&plane, &mut cluster).await;
        if !change.contains("namespace") {
            assert_ne!(before, after, "{change}");
        }
        before = after;
    }

    // What concerns nobody here costs nothing.
    let compiled = metrics.pods_compiled.get();
    cluster.policies.mark_unchanged();
    apply(&plane, &[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}})]);
    let version =
        plane.kubectl(&["get", "namespace", "elsewhere", "-o", "jsonpath={.metadata.resourceVersion}"]).ok();
    let read = format!("namespaces={} ", version.trim());
    let is_read =
        || matches!(&*cluster.policies.borrow(), Policies::Known(known) if known.source.contains(&read));
    tests::until("the namespace was read", PATIENCE, || if is_read() { Ok(()) } else { Err(read.clone()) });
    assert_eq!(metrics.pods_compiled.get(), compiled);
    assert!(!cluster.policies.has_changed().unwrap());

    // The API server goes, and comes back with what was edited since.
    plane.stop(Program::ApiServer);
    let why = until_health(&mut cluster, Result::is_err).await.unwrap_err();
    assert!(why.starts_with("Kubernetes API: "), "{why}");
    assert!(!cluster.policies.has_changed().unwrap());
    plane.start_again(Program::ApiServer);
    apply(&plane, &[policy("all", &json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}))]);
    let after = same(&plane, &mut cluster).await;
    assert_ne!(before, after);
    until_health(&mut cluster, Result::is_ok).await.unwrap();
    cancel.cancel();
}
