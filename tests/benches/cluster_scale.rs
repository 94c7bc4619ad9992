//! The agent against a real API server that holds a large cluster, and a real Open vSwitch: memory, processor time at rest,
//! and how long a label takes from the caller's hands to the flows' being in place, split into the API's part and ours.
//!
//! A plain program: `cargo bench -p tests --bench cluster_scale -- PODS NAMESPACES POLICIES`. The agent's part runs in a
//! process of its own, so that its memory is its own: watches, compiler, tables, OpenFlow session; Open vSwitch has a
//! datapath without devices, and one bundle's answer says that the flows are in.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_precision_loss)] // figures for people

#[path = "../../nic-agent/tests/openflow_support/mod.rs"]
mod openflow_support;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::watcher;
use nic_agent::attachment::{Attachment, Binding, OverlayPort, Port};
use nic_agent::claim::{Claim, PodRef, SandboxKey};
use nic_agent::cluster::client::Access;
use nic_agent::cluster::{self, Cluster, Inputs};
use nic_agent::config::Config;
use nic_agent::edge::{Edge, Pod};
use nic_agent::enforcement::{Known, Policies};
use nic_agent::management;
use nic_agent::metrics::Metrics;
use nic_agent::openflow::Socket;
use nic_agent::platform::SystemClock;
use nic_agent::policy::Held;
use offload::ids::{CtZone, MacAddr, VfId};
use openflow_support::{BRIDGE, PrivateSwitch};
use serde_json::{Value, json};
use tests::control_plane::ControlPlane;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// New connections a second: the meters of 100 pods are among what is written first.
const RATE: std::num::NonZeroU32 = std::num::NonZeroU32::new(4000).unwrap();
const EXAMPLE: &str = include_str!("../../packaging/nic-agent.example.toml");
const NODES: u32 = 100;
const ROLES: u32 = 7;
const ROUNDS: usize = 120;
const REST: Duration = Duration::from_secs(30);
/// What the agent has heard for so long, without a word of it, does not concern this node.
const SILENCE: Duration = Duration::from_millis(300);
const API: &str = "1 the API's part: until a watch has it";
const OURS: &str = "4 ours: 2 and 3";
const KUBECONFIG: &str = "CLUSTER_SCALE_KUBECONFIG";
/// Requests under way at a time while the cluster is filled.
const AT_ONCE: usize = 16;

#[derive(Clone, Copy)]
struct Size {
    pods: u32,
    namespaces: u32,
    policies: u32,
}

fn size() -> Size {
    let numbers: Vec<u32> = std::env::args().filter_map(|it| it.parse().ok()).collect();
    match numbers[..] {
        [pods, namespaces, policies] => Size { pods, namespaces, policies },
        _ => Size { pods: 10_000, namespaces: 500, policies: 1_000 },
    }
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Ok(kubeconfig) = std::env::var(KUBECONFIG) {
        runtime.block_on(measure(kubeconfig.into()));
        return;
    }
    let plane = ControlPlane::api_only();
    for crd in ["nicnodes", "podattachments"] {
        let path = format!("{}/../packaging/kubernetes/crds/{crd}.yaml", env!("CARGO_MANIFEST_DIR"));
        plane.kubectl(&["apply", "-f", &path]).ok();
        plane.kubectl(&["wait", "--for=condition=Established", &format!("crd/{crd}.drawbridge.dev")]).ok();
    }
    let started = Instant::now();
    runtime.block_on(async {
        let client = Access::load(&plane.kubeconfig()).await.unwrap().client().unwrap();
        fill(&client, size()).await;
    });
    println!("loaded in {:.0} s", started.elapsed().as_secs_f64());
    let itself = std::env::current_exe().unwrap();
    let arguments = std::env::args().skip(1);
    let status = Command::new(itself).args(arguments).env(KUBECONFIG, plane.kubeconfig()).status().unwrap();
    assert!(status.success());
}

// --- The cluster ---

const OURS_GROUP: &str = "drawbridge.dev";

fn version(group: &str) -> &'static str {
    if group == OURS_GROUP { "v1alpha1" } else { "v1" }
}

fn api(client: &Client, group: &str, kind: &str, namespace: Option<u32>) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version(group), kind));
    match namespace {
        Some(number) => Api::namespaced_with(client.clone(), &format!("ns-{number}"), &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Its uid.
async fn create(api: Api<DynamicObject>, kind: &str, mut object: Value) -> String {
    object["kind"] = kind.into();
    let version = match kind {
        "NetworkPolicy" => "networking.k8s.io/v1",
        "PodAttachment" => "drawbridge.dev/v1alpha1",
        _ => "v1",
    };
    object["apiVersion"] = version.into();
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap().metadata.uid.unwrap()
}

fn pod_name(at: u32) -> String {
    format!("app-{at:05}-7d9c5b8f6d-abcde")
}

fn role(at: u32, size: Size) -> String {
    format!("role-{}", at / size.namespaces % ROLES)
}

fn pod(at: u32, size: Size) -> Value {
    let node = if at.is_multiple_of(NODES) { "server1".to_owned() } else { format!("node-{}", at % NODES) };
    json!({
        "metadata": {"name": pod_name(at), "labels": {
            "app": format!("app-{}", at % 10), "role": role(at, size), "pod-template-hash": "7d9c5b8f6d"}},
        "spec": {"nodeName": node, "automountServiceAccountToken": false, "containers": [
            {"name": "c", "image": "registry.example/app:1", "ports": [{"name": "http", "containerPort": 8080}]}]},
    })
}

async fn fill(client: &Client, size: Size) {
    let each = |count: u32| futures::stream::iter(0..count);
    each(size.namespaces)
        .for_each_concurrent(AT_ONCE, |at| {
            let metadata =
                json!({"name": format!("ns-{at}"), "labels": {"team": format!("team-{}", at % 10)}});
            let object = json!({ "metadata": metadata });
            async move {
                create(api(client, "", "Namespace", None), "Namespace", object).await;
            }
        })
        .await;
    each(size.policies)
        .for_each_concurrent(AT_ONCE, |at| {
            let spec = json!({"podSelector": {}, "ingress": [{"from": [
                {"namespaceSelector": {"matchLabels": {"team": format!("team-{}", at % 10)}},
                 "podSelector": {"matchLabels": {"role": format!("role-{}", at % ROLES)}}}]}]});
            let api = api(client, "networking.k8s.io", "NetworkPolicy", Some(at % size.namespaces));
            let object = json!({"metadata": {"name": format!("p-{at}")}, "spec": spec});
            async move {
                create(api, "NetworkPolicy", object).await;
            }
        })
        .await;
    each(size.pods)
        .for_each_concurrent(AT_ONCE, |at| async move {
            let pods = api(client, "", "Pod", Some(at % size.namespaces));
            let object = pod(at, size);
            let node = object["spec"]["nodeName"].clone();
            let uid = create(pods.clone(), "Pod", object).await;
            let ip = std::net::Ipv4Addr::from(0x0a80_0000 + at);
            let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}});
            let patch = Patch::Merge(&status);
            pods.patch_status(&pod_name(at), &PatchParams::default(), &patch).await.unwrap();
            // As its node's NIC says it.
            let attachments = api(client, OURS_GROUP, "PodAttachment", Some(at % size.namespaces));
            let spec = json!({"pod": {"name": pod_name(at), "uid": uid}, "interface": "eth0", "nodeName": node,
                "vf": {"pf": 0, "vf": 1}});
            let object = json!({"metadata": {"name": format!("{}-eth0", pod_name(at))}, "spec": spec});
            create(attachments.clone(), "PodAttachment", object).await;
            let status = json!({"status": {"ips": [ip]}});
            let (name, patch) = (format!("{}-eth0", pod_name(at)), Patch::Merge(&status));
            attachments.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
        })
        .await;
}

// --- The agent's part ---

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Resident bytes, and seconds of processor time.
fn stat() -> (u64, f64) {
    let page = std::fs::read_to_string("/proc/self/statm").unwrap();
    let resident: u64 = page.split(' ').nth(1).unwrap().parse().unwrap();
    let times = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = times.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    (resident * 4096, ticks as f64 / 100.0)
}

/// Each local pod as if its VF had been claimed.
fn attachments(known: &Known) -> Vec<Attachment> {
    let of = |(at, uid): (usize, &Arc<str>)| {
        let at = u16::try_from(at).unwrap();
        let [high, low] = at.to_be_bytes();
        Attachment::of_claim(
            &Claim {
                key: SandboxKey { sandbox: format!("s{at}"), interface: "eth0".to_owned() },
                pod: PodRef { namespace: "ns".to_owned(), name: format!("p{at}"), uid: uid.to_string() },
                network: String::new(),
                pci_address: String::new(),
                vf: VfId { pf: 0, vf: at },
            },
            Port::Overlay(OverlayPort {
                zone: CtZone::new(61000 + at).unwrap(),
                zone_dirty: false,
                logical_port: format!("ns_p{at}"),
                binding: Some(Binding {
                    mac: MacAddr([2, 0, 0, 0, high, low]),
                    ips: vec![std::net::IpAddr::from([10, 9, high, low])],
                    dhcp: false,
                    dhcp_servers: Vec::new(),
                }),
            }),
        )
    };
    known.pods.keys().enumerate().map(of).collect()
}

struct Agent {
    cluster: Cluster,
    edge: Edge<Socket>,
    ovs: PrivateSwitch,
    metrics: Metrics,
}

impl Agent {
    fn known(&self) -> Arc<Known> {
        match &*self.cluster.policies.borrow() {
            Policies::Known(known) => known.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Brings the flows of what is known in; says how many changed.
    async fn sync(&mut self) -> usize {
        let known = self.known();
        let attachments = attachments(&known);
        let pods = attachments.iter().map(|attachment| Pod {
            on_link: Vec::new(),
            full: false,
            attachment,
            policy: known.pods[attachment.owner.uid()].clone(),
        });
        let synced = self.edge.sync(pods.collect(), &nic_agent::marks::Marks::default(), RATE).await.unwrap();
        assert!(synced.too_large.is_empty(), "{:?}", synced.too_large);
        synced.changes
    }

    /// What Open vSwitch itself says that it has.
    fn flows(&self) -> usize {
        self.ovs.ofctl(&["dump-flows", "--no-stats"]).lines().filter(|it| it.contains("actions=")).count()
    }
}

/// What the API delivers, and when, seen by a watch of the measurement's own.
async fn delivered(client: &Client) -> UnboundedReceiver<(String, Instant)> {
    let pods = api(client, "", "Pod", None);
    let (say, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut events = Box::pin(watcher(pods, watcher::Config::default()));
        while let Some(event) = events.next().await {
            match event.unwrap() {
                watcher::Event::Apply(pod) => {
                    let _ = say.send((pod.metadata.resource_version.unwrap(), Instant::now()));
                }
                watcher::Event::InitDone => drop(say.send((String::new(), Instant::now()))),
                _ => {}
            }
        }
    });
    while arrived.recv().await.is_some_and(|(version, _)| !version.is_empty()) {}
    arrived
}

async fn measure(kubeconfig: PathBuf) {
    let size = size();
    let ovs = PrivateSwitch::start(1);
    let path = format!("kubeconfig = {:?}", kubeconfig.to_str().unwrap());
    let config: Config = EXAMPLE.replace("#kubeconfig = \"\"", &path).parse().unwrap();
    let (cancel, tasks, metrics) = (CancellationToken::new(), TaskTracker::new(), Metrics::new());
    let (before, _) = stat();
    let started = Instant::now();
    let (accesses, follow) = cluster::client::start(kubeconfig.clone(), cancel.clone()).await;
    tasks.spawn(follow);
    let (_, access) = watch::channel(management::Access::NodeAddresses);
    let (_, held) = watch::channel(Held::default());
    let heartbeat = nic_agent::service_manager::Heartbeat::new(Duration::from_mins(1));
    let inputs = Inputs { access, held, heartbeat };
    let mut cluster = cluster::start(&config, &accesses, inputs, metrics.clone(), &tasks, &cancel);
    cluster.policies.wait_for(|it| matches!(it, Policies::Known(_))).await.unwrap();
    println!("known after {:.2} s", started.elapsed().as_secs_f64());
    let edge = Edge::new(
        BRIDGE.to_owned(),
        Socket::of(BRIDGE, ovs.management().parent().unwrap()),
        Arc::new(SystemClock),
        metrics.clone(),
    );
    let mut agent = Agent { cluster, edge, ovs, metrics };
    let changes = agent.sync().await;
    println!(
        "in force after {:.2} s: {} pods of this node, {changes} flows, {} in Open vSwitch",
        started.elapsed().as_secs_f64(),
        agent.known().pods.len(),
        agent.flows(),
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (resident, used) = stat();
    let of_cluster = resident.saturating_sub(before);
    println!("resident {:.1} MB, {:.1} MB of it for the cluster", mb(resident), mb(of_cluster));
    tokio::time::sleep(REST).await;
    let (_, after) = stat();
    let at_rest = (after - used) / REST.as_secs_f64() * 100.0;
    println!("at rest {at_rest:.3} % of a core");
    let client = Access::load(&kubeconfig).await.unwrap().client().unwrap();
    let mut arrived = delivered(&client).await;
    labels(&client, &mut agent, &mut arrived, size).await;
    unrelated(&client, &mut agent, size).await;
    cancel.cancel();
}

/// Pods of other nodes get a role that policies here name, and lose it.
async fn labels(
    client: &Client,
    agent: &mut Agent,
    arrived: &mut UnboundedReceiver<(String, Instant)>,
    size: Size,
) {
    let mut spent: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let (mut changed, mut flows) = (0, 0);
    let compiled = agent.metrics.pods_compiled.get();
    // Of a namespace that policies here name as a peer's (`fill`: that of the first one has pods of this node).
    let candidates =
        (0..size.pods).filter(|at| (at % size.namespaces).is_multiple_of(10) && !at.is_multiple_of(NODES));
    for at in candidates.step_by(7).take(ROUNDS) {
        let pods = api(client, "", "Pod", Some(at % size.namespaces));
        // One that nobody names, and the one that they name: each is a change.
        for role in ["other", "role-0"] {
            let labels = json!({"metadata": {"labels": {"role": role}}});
            agent.cluster.policies.mark_unchanged();
            let begun = Instant::now();
            let written =
                pods.patch(&pod_name(at), &PatchParams::default(), &Patch::Merge(&labels)).await.unwrap();
            let version = written.metadata.resource_version.unwrap();
            let mut hear = std::pin::pin!(async {
                loop {
                    let (of, when) = arrived.recv().await.unwrap();
                    if of == version {
                        break when;
                    }
                }
            });
            // Whichever watch has it first.
            let (heard, waited) = tokio::select! {
                biased;
                changed = agent.cluster.policies.changed() => (None, changed.is_ok()),
                heard = &mut hear => {
                    let waited = tokio::time::timeout(SILENCE, agent.cluster.policies.changed()).await;
                    (Some(heard), waited.is_ok())
                }
            };
            let published = Instant::now();
            let in_place = if waited {
                flows += agent.sync().await;
                Some(Instant::now())
            } else {
                None
            };
            let delivered = match heard {
                Some(heard) => heard,
                None => hear.await,
            };
            let Some(in_place) = in_place else { continue };
            changed += 1;
            for (name, from, to) in [
                (API, begun, delivered),
                ("2 ours: compiled and published", delivered, published),
                ("3 ours: flows in place", published, in_place),
                (OURS, delivered, in_place),
                ("5 all", begun, in_place),
            ] {
                spent.entry(name).or_default().push(to.saturating_duration_since(from));
            }
        }
    }
    let compiled = agent.metrics.pods_compiled.get() - compiled;
    println!(
        "{changed} labels concerned this node: {compiled} pods compiled for them, {flows} flows changed"
    );
    for (name, spent) in &mut spent {
        spent.sort_unstable();
        let (half, most) = (percentile(spent, 50), percentile(spent, 99));
        println!("{name}: p50 {half:.1} ms, p99 {most:.1} ms, worst {:.1} ms", percentile(spent, 100));
    }
    let [api, ours] = [API, OURS].map(|part| [50, 99].map(|percent| percentile(&spent[part], percent)));
    for (at, name) in ["p50", "p99"].into_iter().enumerate() {
        let ratio = ours[at] / api[at];
        println!(
            "bench\tlabel to flows, {name}: ours, beside the API's part\t{:.1} ms\t{:.1} ms\t{ratio:.2}\t",
            ours[at], api[at]
        );
    }
}

/// Milliseconds. Of what is in order.
fn percentile(spent: &[Duration], percent: usize) -> f64 {
    spent[(spent.len() * percent / 100).min(spent.len() - 1)].as_secs_f64() * 1e3
}

/// What concerns nobody here compiles nothing.
async fn unrelated(client: &Client, agent: &mut Agent, size: Size) {
    let compiled = agent.metrics.pods_compiled.get();
    agent.cluster.policies.mark_unchanged();
    let others: Vec<u32> = (1..size.pods.min(400)).filter(|it| !it.is_multiple_of(NODES)).collect();
    let note = json!({"metadata": {"annotations": {"note": "x"}}});
    for at in &others {
        let pods = api(client, "", "Pod", Some(at % size.namespaces));
        pods.patch(&pod_name(*at), &PatchParams::default(), &Patch::Merge(&note)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let compiled = agent.metrics.pods_compiled.get() - compiled;
    let published = agent.cluster.policies.has_changed().unwrap();
    println!("{} unrelated changes: {compiled} pods compiled, published: {published}", others.len());
    println!("bench\tpods compiled for {} unrelated changes\t{compiled}\t0\t\t0", others.len());
}
