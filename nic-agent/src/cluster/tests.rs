//! All of the reading part, against an API server that can be told to fail.

use std::sync::Arc;
use std::time::Duration;

use offload::policy::PodPolicy;
use serde_json::{Value, json};

use super::testing::FakeApi;
use super::*;
use crate::claim::PodRef;
use crate::config::Served;
use crate::enforcement::{Enforced, Known, resolve};

const EXAMPLE: &str = include_str!("../../../packaging/nic-agent.example.toml");
/// Only a wrong answer takes that long.
const PATIENCE: Duration = Duration::from_mins(1);

const SERVED: Served<'static> = Served { node: "server1", static_pods: true };

struct Bench {
    api: FakeApi,
    cluster: Cluster,
    hold: channel::Sender<Held>,
    metrics: Metrics,
    dir: tempfile::TempDir,
    cancel: CancellationToken,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn pod(name: &str, uid: &str, node: &str, ip: &str) -> Value {
    json!({"kind": "Pod", "metadata": {"namespace": "shop", "name": name, "uid": uid, "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}]}})
}

fn policy(name: &str, from: &str) -> Value {
    json!({"kind": "NetworkPolicy", "metadata": {"namespace": "shop", "name": name, "uid": name},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": from}}}]}]}})
}

fn ranges(node: &str, pods: &str) -> Value {
    json!({"kind": "NodeRange", "metadata": {"name": node}, "status": {"nodeUid": format!("u-{node}"), "ranges": [pods]}})
}

fn node(name: &str, uid: &str) -> Value {
    json!({"kind": "Node", "metadata": {"name": name, "uid": uid, "managedFields": [{"manager": "kubelet"}]},
        "status": {"images": [{"names": ["long"]}]}})
}

fn fill(api: &FakeApi) {
    api.put("nodes", node("server2", "u-server2"));
    api.put("namespaces", json!({"kind": "Namespace", "metadata": {"name": "shop"}}));
    api.put("pods", pod("web", "u-web", "server1", "10.0.0.1"));
    api.put("pods", pod("db", "u-db", "server2", "10.0.0.2"));
    api.put("pods", pod("cache", "u-cache", "server2", "10.0.0.3"));
    api.put("networkpolicies", policy("p", "db"));
    api.put("noderanges", ranges("server2", "10.0.0.0/24"));
}

impl Bench {
    async fn new(api: FakeApi) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kubeconfig = api.kubeconfig(dir.path(), "secret");
        let text = EXAMPLE
            .replace("#kubeconfig = \"\"", &format!("kubeconfig = {:?}", kubeconfig.to_str().unwrap()));
        let config: Config = text.parse().unwrap();
        let cancel = CancellationToken::new();
        let tasks = TaskTracker::new();
        let metrics = Metrics::new();
        let (accesses, follow) = client::start(kubeconfig, cancel.clone()).await;
        tasks.spawn(follow);
        let (_, access) = channel::channel(Access::NodeAddresses);
        let (hold, held) = channel::channel(Held::default());
        let heartbeat = crate::service_manager::Heartbeat::new(Duration::from_mins(1));
        let inputs = Inputs { access, held, heartbeat };
        let cluster = start(&config, &accesses, inputs, metrics.clone(), &tasks, &cancel);
        Self { api, cluster, hold, metrics, dir, cancel }
    }

    async fn known(&mut self, is: impl Fn(&Known) -> bool) -> Arc<Known> {
        let wait = self.cluster.policies.wait_for(|it| matches!(it, Policies::Known(known) if is(known)));
        let now = tokio::time::timeout(PATIENCE, wait).await.expect("policies as expected").unwrap().clone();
        let Policies::Known(known) = now else { panic!("{now:?}") };
        known
    }

    async fn health(&mut self, is: impl Fn(&Result<(), String>) -> bool) -> Result<(), String> {
        let wait = self.cluster.health.wait_for(is);
        tokio::time::timeout(PATIENCE, wait).await.expect("health as expected").unwrap().clone()
    }

    async fn claim(&self, name: &str, uid: &str) -> &'static str {
        let pod = PodRef { namespace: "shop".into(), name: name.into(), uid: uid.into() };
        let judged = match self.cluster.lookup.ensure(&pod).await {
            Ok(pod) => self.cluster.directories.borrow().judge(&pod, SERVED),
            Err(refusal) => Err(refusal),
        };
        judged.map_or_else(|it| it.reason(), |()| "believed")
    }
}

/// May this address begin a connection to the pod?
fn lets_in(policy: &PodPolicy, from: &str) -> bool {
    use offload::policy::{Direction, Packet, State, Transport, verdict};
    let (src, dst) = (from.parse().unwrap(), "10.0.0.1".parse().unwrap());
    let packet = Packet { src, dst, transport: Transport::Tcp { src: 1, dst: 80 } };
    verdict(policy, Direction::Ingress, &packet, State::New).allowed
}

fn web(known: &Known) -> Option<&PodPolicy> {
    known.pods.get("u-web").map(|it| &**it)
}

/// What [`fill`] says is in force.
fn as_filled(known: &Known) -> bool {
    web(known).is_some_and(|it| lets_in(it, "10.0.0.2") && !lets_in(it, "10.0.0.3"))
}

async fn filled() -> Bench {
    let api = FakeApi::start().await;
    fill(&api);
    let mut bench = Bench::new(api).await;
    bench.known(as_filled).await;
    bench.health(Result::is_ok).await.unwrap();
    bench
}

#[tokio::test]
async fn changes_in_the_cluster_become_changes_of_policy() {
    let mut bench = filled().await;
    assert!(bench.api.requests().iter().any(|it| it.contains("sendInitialEvents=true")));
    bench.api.put("networkpolicies", policy("p", "cache"));
    bench.known(|it| web(it).is_some_and(|it| !lets_in(it, "10.0.0.2") && lets_in(it, "10.0.0.3"))).await;
    let mut relabelled = pod("db", "u-db", "server2", "10.0.0.2");
    relabelled["metadata"]["labels"]["app"] = "cache".into();
    bench.api.put("pods", relabelled);
    bench.known(|it| web(it).is_some_and(|it| lets_in(it, "10.0.0.2"))).await;
    bench.api.delete("networkpolicies", "shop/p");
    bench.known(|it| web(it).is_some_and(|it| it.ingress.is_open())).await;
    bench.api.delete("pods", "shop/web");
    bench.known(|it| it.pods.is_empty()).await;
    assert_eq!(bench.claim("web", "u-web").await, "unknown-pod");
}

#[tokio::test]
async fn a_server_without_streaming_lists_is_asked_by_pages() {
    // Without the feature; with it, on an etcd without progress notifications.
    for code in [422, 500] {
        let api = FakeApi::start().await;
        fill(&api);
        api.without_streaming(code, 1);
        let mut bench = Bench::new(api).await;
        bench.known(as_filled).await;
        bench.health(Result::is_ok).await.unwrap();
        let requests = bench.api.requests();
        assert!(requests.iter().any(|it| it.contains("/pods?") && it.contains("continue=2")), "{requests:?}");
        bench.api.put("networkpolicies", policy("p", "cache"));
        bench.known(|it| web(it).is_some_and(|it| lets_in(it, "10.0.0.3"))).await;
    }
}

#[tokio::test]
async fn after_410_only_the_difference_counts() {
    let mut bench = filled().await;
    let before = bench.known(|_| true).await;
    let compiled = bench.metrics.pods_compiled.get();
    // While nobody watches: what concerns nobody here, and then history is lost.
    bench.api.refuse(Some(503));
    bench.health(Result::is_err).await.unwrap_err();
    bench.api.put("pods", pod("far", "u-far", "server3", "10.0.0.9"));
    bench.api.delete("pods", "shop/cache");
    bench.api.compact();
    bench.cluster.policies.mark_unchanged();
    bench.api.refuse(None);
    // The list's end is in the versions, which wake nobody.
    bench.health(Result::is_ok).await.unwrap();
    let lists = || {
        bench
            .metrics
            .encode(crate::metrics::Format::Text)
            .unwrap()
            .contains("drawbridge_nic_agent_watch_events_total{kind=\"pods\",what=\"list\"} 2")
    };
    tokio::time::timeout(PATIENCE, async {
        while !lists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("a second list");
    assert!(!bench.cluster.policies.has_changed().unwrap());
    assert_eq!(bench.metrics.pods_compiled.get(), compiled);
    let after = bench.known(|_| true).await;
    assert!(Arc::ptr_eq(&before.pods["u-web"], &after.pods["u-web"]));

    // And an edit of that time takes effect.
    bench.api.refuse(Some(503));
    bench.health(Result::is_err).await.unwrap_err();
    bench.api.delete("networkpolicies", "shop/p");
    bench.api.compact();
    bench.api.refuse(None);
    bench.known(|it| web(it).is_some_and(|it| it.ingress.is_open())).await;
}

#[tokio::test]
async fn whatever_the_server_answers_what_is_known_stays() {
    let mut bench = filled().await;
    let before = bench.known(|_| true).await;
    for (code, says) in
        [(401, "401: the credential"), (403, "403: refused"), (429, "429"), (500, "500: refused")]
    {
        bench.api.refuse(Some(code));
        let why = bench.health(|it| it.as_ref().is_err_and(|why| why.contains(says))).await.unwrap_err();
        assert!(why.starts_with("Kubernetes API: "), "{why}");
        let now = bench.known(|_| true).await;
        assert!(Arc::ptr_eq(&before.pods["u-web"], &now.pods["u-web"]));
        assert_eq!(bench.claim("web", "u-web").await, "believed");
        assert_eq!(bench.claim("new", "u-new").await, "directory-unavailable");
        assert!(
            bench
                .metrics
                .encode(crate::metrics::Format::Text)
                .unwrap()
                .contains("drawbridge_nic_agent_connected{peer=\"kubernetes\"} 0")
        );
        bench.api.refuse(None);
        bench.health(Result::is_ok).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_is_gone_changes_nothing() {
    let mut bench = filled().await;
    let elsewhere = FakeApi::start().await;
    let gone = std::mem::replace(&mut bench.api, elsewhere);
    drop(gone);
    let gone = |it: &Result<(), String>| it.as_ref().is_err_and(|why| why.contains("Connection refused"));
    bench.health(gone).await.unwrap_err();
    assert!(!bench.known(|_| true).await.pods["u-web"].ingress.is_open());
    assert_eq!(bench.claim("web", "u-web").await, "believed");
    assert_eq!(bench.claim("new", "u-new").await, "directory-unavailable");

    // It comes back under another address, with another CA and another history.
    fill(&bench.api);
    bench.api.put("networkpolicies", policy("p", "cache"));
    bench.api.kubeconfig(bench.dir.path(), "secret");
    bench.known(|it| web(it).is_some_and(|it| lets_in(it, "10.0.0.3"))).await;
    bench.health(Result::is_ok).await.unwrap();
}

#[tokio::test]
async fn a_credential_that_was_renewed_is_used() {
    let mut bench = filled().await;
    bench.api.only_token("other");
    let why = bench.health(Result::is_err).await.unwrap_err();
    assert!(why.contains("401: the credential") && why.contains("cluster.kubeconfig"), "{why}");
    bench.api.kubeconfig(bench.dir.path(), "other");
    bench.health(Result::is_ok).await.unwrap();
    bench.api.put("networkpolicies", policy("p", "cache"));
    bench.known(|it| web(it).is_some_and(|it| lets_in(it, "10.0.0.3"))).await;
}

#[tokio::test]
async fn who_is_not_the_api_server_is_not_believed() {
    let api = FakeApi::start().await;
    let other = FakeApi::start().await;
    fill(&api);
    let dir = tempfile::tempdir().unwrap();
    other.kubeconfig(dir.path(), "secret");
    let foreign_ca = std::fs::read(dir.path().join("ca.pem")).unwrap();
    let mut bench = Bench::new(api).await;
    bench.health(Result::is_ok).await.unwrap();
    std::fs::write(bench.dir.path().join("ca.pem"), foreign_ca).unwrap();
    let why = bench.health(Result::is_err).await.unwrap_err();
    assert!(why.contains("not signed by the CA") && why.contains("cluster.kubeconfig"), "{why}");
    assert_eq!(bench.claim("web", "u-web").await, "believed");

    let expired = FakeApi::with_certificate(true).await;
    let mut bench = Bench::new(expired).await;
    let clock = |it: &Result<(), String>| it.as_ref().is_err_and(|why| why.contains("clock right"));
    bench.health(clock).await.unwrap_err();
    let directory = bench.cluster.directories.borrow().clone();
    assert!(matches!(&directory, Directory::Unknown { why } if why.contains("clock right")), "{directory:?}");
    assert!(
        matches!(&*bench.cluster.policies.borrow(), Policies::Unknown { why } if why.contains("clock right"))
    );
}

#[tokio::test]
async fn a_claim_that_is_ahead_of_the_watch_is_looked_up() {
    let bench = filled().await;
    assert_eq!(bench.claim("web", "u-web").await, "believed");
    assert_eq!(bench.claim("web", "u-old").await, "unknown-pod");
    assert_eq!(bench.claim("nobody", "u-none").await, "unknown-pod");
    assert_eq!(bench.claim("db", "u-db").await, "wrong-node");
    assert_eq!(bench.claim("db", "u-web").await, "wrong-pod");
    // The watch hears nothing of it, as its server is behind.
    bench.api.hide_events();
    bench.api.put("pods", pod("new", "u-new", "server1", "10.0.0.7"));
    assert_eq!(bench.claim("new", "u-new").await, "believed");
    assert_eq!(bench.claim("new", "u-other").await, "unknown-pod");
}

#[tokio::test]
async fn a_start_without_the_api_keeps_what_was_enforced() {
    let api = FakeApi::start().await;
    api.refuse(Some(500));
    let mut bench = Bench::new(api).await;
    bench.health(|it| it.as_ref().is_err_and(|why| why.contains("500"))).await.unwrap_err();
    let kept = Arc::new(PodPolicy::default());
    let policies = bench.cluster.policies.borrow().clone();
    assert_eq!(resolve(&policies, "u-web", Some(&kept)), Enforced::Policy(kept));
    let Enforced::Closed { why } = resolve(&policies, "u-new", None) else { panic!("{policies:?}") };
    assert!(why.contains("500: refused"), "{why}");
    let directory = bench.cluster.directories.borrow().clone();
    let pod = PodRef { namespace: "shop".into(), name: "web".into(), uid: "u-web".into() };
    let refusal = directory.judge(&pod, SERVED).unwrap_err();
    assert_eq!(refusal.reason(), "directory-unavailable");
    assert!(refusal.to_string().contains("500: refused"), "{refusal}");
    // And then it comes.
    fill(&bench.api);
    bench.api.refuse(None);
    bench.known(|it| web(it).is_some_and(|it| lets_in(it, "10.0.0.2"))).await;
    assert_eq!(bench.claim("web", "u-web").await, "believed");
}

/// Ends when the other side lets it in.
async fn until(bench: &mut Bench, ip: &str, is_in: bool) {
    bench.known(|it| web(it).is_some_and(|it| lets_in(it, ip) == is_in)).await;
}

#[tokio::test]
async fn a_pods_address_is_what_its_nic_says() {
    let mut bench = filled().await;
    bench.api.put("noderanges", json!({"kind": "NodeRange", "metadata": {"name": "server2"}}));
    until(&mut bench, "10.0.0.2", false).await;
    bench.api.put(
        "nicnodes",
        json!({"kind": "NicNode", "metadata": {"name": "server2"}, "spec": {"nodeName": "server2"}}),
    );
    let attachment = |ip: &str, uid: &str, node: &str| {
        json!({"kind": "PodAttachment", "metadata": {"namespace": "shop", "name": "db-eth0"},
            "spec": {"pod": {"name": "db", "uid": uid}, "interface": "eth0", "nodeName": node, "vf": {"pf": 0, "vf": 1}},
            "status": {"ips": [ip]}})
    };
    let good = || attachment("10.0.0.20", "u-db", "server2");
    bench.api.put("podattachments", good());
    until(&mut bench, "10.0.0.20", true).await;
    // Its node says what it likes.
    bench.api.put("pods", pod("db", "u-db", "server2", "10.0.0.66"));
    let says = |it: &Known| it.reports.iter().any(|it| it.contains("server2") && it.contains("shop/db"));
    let known = bench.known(says).await;
    assert!(web(&known).is_some_and(|it| lets_in(it, "10.0.0.20") && !lets_in(it, "10.0.0.66")));
    // So does the NIC of another node, and one that held a pod of this name before.
    for (uid, node) in [("u-db", "server3"), ("u-old", "server2")] {
        bench.api.put("podattachments", attachment("10.0.0.20", uid, node));
        until(&mut bench, "10.0.0.20", false).await;
        bench.api.put("podattachments", good());
        until(&mut bench, "10.0.0.20", true).await;
    }
    bench.api.delete("podattachments", "shop/db-eth0");
    until(&mut bench, "10.0.0.20", false).await;
}

#[tokio::test]
async fn a_node_made_again_under_its_name_does_not_inherit_what_was_confirmed() {
    let mut bench = filled().await;
    bench.api.delete("nodes", "/server2");
    until(&mut bench, "10.0.0.2", false).await;
    bench.api.put("nodes", node("server2", "u-again"));
    let again = |uid: &str| {
        json!({"kind": "NodeRange", "metadata": {"name": "server2"},
            "status": {"nodeUid": uid, "ranges": ["10.0.0.0/24"]}})
    };
    bench.api.put("noderanges", again("u-again"));
    until(&mut bench, "10.0.0.2", true).await;
    // Nobody sees it go: it is another at once, by its uid.
    bench.api.put("nodes", node("server2", "u-third"));
    until(&mut bench, "10.0.0.2", false).await;
    // Of Nodes nothing but their metadata is asked for.
    let full = bench
        .api
        .requests_of("nodes")
        .into_iter()
        .filter(|(query, metadata)| !metadata && !query.contains("metadata.name%3Dserver1"));
    assert_eq!(full.count(), 0);
}

#[tokio::test]
async fn a_static_pod_is_attached_as_its_mirror() {
    let bench = filled().await;
    let mut mirror = pod("proxy", "u-mirror", "server1", "10.0.0.5");
    mirror["metadata"]["annotations"] =
        json!({"kubernetes.io/config.mirror": "hash", "kubernetes.io/config.hash": "hash"});
    mirror["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "server1", "uid": "u-server1"}]);
    // Whether the watch has shown it or we have to ask.
    bench.api.hide_events();
    bench.api.put("pods", mirror);
    assert_eq!(bench.claim("proxy", "other").await, "other-mirror");
    assert_eq!(bench.claim("proxy", "hash").await, "believed");
    let claimed = PodRef { namespace: "shop".into(), name: "proxy".into(), uid: "hash".into() };
    assert_eq!(bench.cluster.lookup.ensure(&claimed).await.unwrap().uid, "u-mirror");
    assert_eq!(bench.claim("web", "hash").await, "unknown-pod");
}

#[tokio::test]
async fn of_its_own_pods_this_nic_asks_nobody() {
    let mut bench = filled().await;
    bench.api.put("pods", pod("near", "u-near", "server1", "10.0.0.66"));
    let mut near = pod("near", "u-near", "server1", "10.0.0.66");
    near["metadata"]["labels"]["app"] = "db".into();
    bench.api.put("pods", near);
    let held = std::collections::BTreeMap::from([("u-near".into(), vec!["10.0.0.7".parse().unwrap()])]);
    bench.hold.send_replace(Arc::new(held));
    until(&mut bench, "10.0.0.7", true).await;
    assert!(!bench.known(|_| true).await.pods.is_empty());
    until(&mut bench, "10.0.0.66", false).await;
    bench.hold.send_replace(Held::default());
    until(&mut bench, "10.0.0.7", false).await;
}

#[tokio::test]
async fn kinds_that_the_server_does_not_have_are_empty_until_it_has_them() {
    let api = FakeApi::start().await;
    fill(&api);
    api.without_kinds(&["podattachments", "nicnodes", "noderanges"]);
    let mut bench = Bench::new(api).await;
    bench.health(Result::is_ok).await.unwrap();
    bench.known(|it| web(it).is_some_and(|it| !lets_in(it, "10.0.0.2"))).await;
    bench.api.without_kinds(&[]);
    bench.known(as_filled).await;
    // Once there were some, their absence is trouble, and takes nothing away.
    bench.api.without_kinds(&["noderanges"]);
    let why = bench.health(Result::is_err).await.unwrap_err();
    assert!(why.contains("404"), "{why}");
    assert!(as_filled(&*bench.known(|_| true).await));
}

mod fuzz;
