use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::claim::PodRef;
use crate::cluster::kinds::{
    EndpointSlices, Listed, Namespaces, NetworkPolicies, NodeRanges, Nodes, OwnNode, Pods, Services,
};
use crate::cluster::object::Seen;
use crate::cluster::own_pods::AHEAD;
use crate::cluster::turns::Turns;
use crate::cluster::watch::{Event, Said};
use crate::config::Served;
use kube_watch::Cause;

const KINDS: [Kind; 8] = [
    Kind::EndpointSlices,
    Kind::Namespaces,
    Kind::NetworkPolicies,
    Kind::NodeRanges,
    Kind::Nodes,
    Kind::OwnNode,
    Kind::Pods,
    Kind::Services,
];

const SERVED: Served<'static> = Served { node: "server1", static_pods: true };

/// What is said is due at once.
struct Fed {
    state: State,
    turns: Turns,
}

impl Fed {
    fn take(&mut self, said: Said) {
        self.turns.put(said);
        for next in self.turns.round(true) {
            self.state.take(next);
        }
    }
}

impl Deref for Fed {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Fed {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

fn state() -> Fed {
    let settings = Settings {
        node: "server1".into(),
        zone: "".into(),
        node_addresses: offload::policy::PrefixSet::default(),
        budget: crate::policy::Budget::default(),
    };
    let state = State::new(&KINDS, settings, Access::NodeAddresses, Metrics::new());
    Fed { state, turns: Turns::default() }
}

fn object<K: Listed>(object: Value) -> Said {
    let seen: Seen<K> = serde_json::from_value(object).unwrap();
    let event = Event::Object(Named {
        name: seen.name(),
        uid: seen.uid(),
        version: seen.version(),
        unread: seen.unread,
    });
    Said { kind: K::KIND, event }
}

#[allow(clippy::needless_pass_by_value)] // a json!(…) is what every caller has
fn pod(name: &str, uid: &str, node: &str, labels: Value) -> Said {
    object::<Pods>(json!({
        "metadata": {"namespace": "default", "name": name, "uid": uid, "labels": labels, "resourceVersion": "5"},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": "Running", "podIPs": [{"ip": format!("10.0.0.{}", uid.len())}]}}))
}

fn deny(name: &str) -> Said {
    object::<NetworkPolicies>(json!({
        "metadata": {"namespace": "default", "name": name, "uid": name, "resourceVersion": "9"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]}}))
}

fn gone_event(name: ObjectName, uid: &str, version: u64) -> Event<Named> {
    let unread = serde_json::from_str::<Seen<Pods>>("{}").unwrap().unread;
    Event::Gone(Named { name, uid: uid.to_owned(), version, unread })
}

fn said(kind: Kind, event: Event<Named>) -> Said {
    Said { kind, event }
}

fn list(state: &mut Fed, kind: Kind, objects: Vec<Said>) {
    state.take(said(kind, Event::Well));
    state.take(said(kind, Event::Begin));
    for object in objects {
        state.take(object);
    }
    state.take(said(kind, Event::End));
}

fn gone(name: &str, uid: &str) -> Said {
    let name = ObjectName::new("default", name);
    said(Kind::Pods, gone_event(name, uid, 6))
}

/// All kinds, and these pods and policies.
fn listed(pods: Vec<Said>, policies: Vec<Said>) -> (Fed, News) {
    let mut state = state();
    list(&mut state, Kind::Namespaces, vec![object::<Namespaces>(json!({"metadata": {"name": "default"}}))]);
    list(&mut state, Kind::Services, vec![]);
    list(&mut state, Kind::EndpointSlices, vec![]);
    list(&mut state, Kind::OwnNode, vec![]);
    let node = json!({"metadata": {"name": "server2", "uid": "u-server2"}});
    list(&mut state, Kind::Nodes, vec![object::<Nodes>(node)]);
    let range = json!({"metadata": {"name": "server2"}, "status": {"nodeUid": "u-server2", "ranges": ["10.0.0.0/24"]}});
    list(&mut state, Kind::NodeRanges, vec![object::<NodeRanges>(range)]);
    list(&mut state, Kind::Pods, pods);
    list(&mut state, Kind::NetworkPolicies, policies);
    let news = state.news();
    (state, news)
}

fn web() -> Said {
    pod("web", "u1", "server1", json!({"app": "web"}))
}

fn known(news: &News) -> Arc<crate::enforcement::Known> {
    match &news.policies {
        Some(PolicyNews { policies: Policies::Known(known), .. }) => known.clone(),
        other => panic!("{other:?}"),
    }
}

fn is_change(news: &News) -> bool {
    news.policies.as_ref().is_some_and(|it| it.is_change)
}

fn reason(directory: Option<&Directory>, name: &str, uid: &str) -> &'static str {
    let pod = PodRef { namespace: "default".into(), name: name.into(), uid: uid.into() };
    directory.unwrap().judge(&pod, SERVED).map_or_else(|it| it.reason(), |()| "believed")
}

#[test]
fn of_a_half_known_cluster_nothing_is_said() {
    let mut state = state();
    let first = state.news();
    assert!(
        matches!(&first.directory, Some(Directory::Unknown { why }) if why.contains("pods")),
        "{first:?}"
    );
    assert!(matches!(&first.health, Some(Err(why)) if why.contains("not listed")), "{first:?}");
    state.take(said(Kind::Pods, Event::Begin));
    state.take(web());
    assert!(state.news().directory.is_none(), "a list that is under way says nothing");
    state.take(said(Kind::Pods, Event::End));
    let news = state.news();
    assert_eq!(reason(news.directory.as_ref(), "web", "u1"), "believed");
    assert!(matches!(news.policies, Some(PolicyNews { policies: Policies::Unknown { .. }, .. })), "{news:?}");
    for kind in KINDS.into_iter().filter(|it| *it != Kind::Pods && *it != Kind::NetworkPolicies) {
        list(&mut state, kind, vec![]);
    }
    let news = state.news();
    assert!(
        matches!(&news.policies, Some(PolicyNews { policies: Policies::Unknown { why }, .. }) if why.contains("networkpolicies")),
        "{news:?}"
    );
    list(&mut state, Kind::NetworkPolicies, vec![deny("deny")]);
    let news = state.news();
    assert!(is_change(&news) && !known(&news).pods["u1"].ingress.is_open());
    assert_eq!(news.health, Some(Ok(())));
}

#[test]
fn what_concerns_no_pod_here_wakes_nobody_and_compiles_nothing() {
    let (mut state, news) = listed(vec![web()], vec![deny("deny")]);
    assert!(known(&news).source.contains("networkpolicies=9"), "{}", known(&news).source);
    let compiled = state.metrics.pods_compiled.get();
    state.take(pod("far", "u-far", "server2", json!({"app": "db"})));
    state.take(object::<Services>(
        json!({"metadata": {"namespace": "default", "name": "s", "resourceVersion": "77"},
        "spec": {"clusterIPs": ["10.96.0.1"], "ports": []}}),
    ));
    let news = state.news();
    assert!(!is_change(&news) && news.directory.is_none(), "{news:?}");
    assert!(known(&news).source.contains("services=77"), "{}", known(&news).source);
    assert_eq!(state.metrics.pods_compiled.get(), compiled);
    // And what does, does.
    state.take(pod("web", "u1", "server1", json!({"app": "other"})));
    let news = state.news();
    assert!(is_change(&news) && known(&news).pods["u1"].ingress.is_open());
    assert_eq!(state.metrics.pods_compiled.get(), compiled + 1);
}

#[test]
fn a_new_list_counts_by_its_difference() {
    let foreign = || pod("far", "u-far", "server2", json!({}));
    let (mut state, before) = listed(vec![web(), foreign()], vec![deny("deny")]);
    let compiled = state.metrics.pods_compiled.get();
    // After 410, say.
    list(&mut state, Kind::Pods, vec![web(), foreign()]);
    list(&mut state, Kind::NetworkPolicies, vec![deny("deny")]);
    let news = state.news();
    assert!(!is_change(&news), "{news:?}");
    assert!(Arc::ptr_eq(&known(&news).pods["u1"], &known(&before).pods["u1"]));
    assert_eq!(state.metrics.pods_compiled.get(), compiled);

    // A list that breaks off takes nothing away; a complete one does.
    state.take(said(Kind::NetworkPolicies, Event::Begin));
    state.take(said(Kind::NetworkPolicies, Event::Failed(Trouble::new(Cause::Server, "500"))));
    assert!(!known(&state.news()).pods["u1"].ingress.is_open());
    list(&mut state, Kind::NetworkPolicies, vec![]);
    list(&mut state, Kind::Pods, vec![foreign()]);
    let news = state.news();
    assert!(known(&news).pods.is_empty(), "{news:?}");
    assert_eq!(reason(news.directory.as_ref(), "web", "u1"), "unknown-pod");
}

#[test]
fn a_pod_of_the_same_name_is_another_pod() {
    let (mut state, _) = listed(vec![web()], vec![deny("deny")]);
    // The old one's deletion may come with the next list only.
    state.take(pod("web", "u2", "server1", json!({"app": "web"})));
    let news = state.news();
    assert_eq!(reason(news.directory.as_ref(), "web", "u1"), "unknown-pod");
    assert_eq!(reason(news.directory.as_ref(), "web", "u2"), "believed");
    assert_eq!(known(&news).pods.keys().map(|it| &**it).collect::<Vec<_>>(), ["u2"]);
    state.take(gone("web", "u2"));
    let news = state.news();
    assert_eq!(reason(news.directory.as_ref(), "web", "u2"), "unknown-pod");
    assert!(known(&news).pods.is_empty());
}

#[test]
fn a_pod_that_is_being_deleted_keeps_what_it_has_until_it_is_gone() {
    let mut terminating = json!({"metadata": {"namespace": "default", "name": "web", "uid": "u1",
        "deletionTimestamp": "2026-11-21T12:00:00Z", "labels": {"app": "web"}},
        "spec": {"nodeName": "server1", "containers": []},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.2"}]}});
    let (mut state, news) = listed(vec![object::<Pods>(terminating.clone())], vec![deny("deny")]);
    assert_eq!(reason(news.directory.as_ref(), "web", "u1"), "believed");
    assert!(!known(&news).pods["u1"].ingress.is_open());
    terminating["status"]["phase"] = "Succeeded".into();
    state.take(object::<Pods>(terminating));
    assert_eq!(reason(state.news().directory.as_ref(), "web", "u1"), "finished");
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_was_asked_for_counts_until_the_watch_has_had_its_time() {
    let (mut state, _) = listed(vec![], vec![]);
    let record = |uid: &str, node: &str| PodRecord {
        uid: uid.into(),
        namespace: "default".into(),
        name: "new".into(),
        node: node.into(),
        host_network: false,
        mirror: false,
        static_uid: String::new(),
        phase: "Pending".into(),
        annotations: std::collections::BTreeMap::new(),
    };
    state.found(record("u9", "server2"));
    assert!(state.news().directory.is_none(), "another node's is nothing to us");
    state.found(record("u8", "server1"));
    assert_eq!(reason(state.news().directory.as_ref(), "new", "u8"), "believed");
    // What the watch has yet to say of the time before: unscheduled, and a namesake that went.
    state.take(gone("new", "u7"));
    state.take(pod("new", "u8", "", json!({})));
    assert!(state.news().directory.is_none_or(|it| reason(Some(&it), "new", "u8") == "believed"));
    // While the watch is down it waits.
    state.take(said(Kind::Pods, Event::Failed(Trouble::new(Cause::Unreachable, "down"))));
    tokio::time::advance(AHEAD * 2).await;
    state.expire();
    assert!(state.news().directory.is_none());
    state.take(said(Kind::Pods, Event::Well));
    state.expire();
    assert_eq!(reason(state.news().directory.as_ref(), "new", "u8"), "unknown-pod");

    state.found(record("u8", "server1"));
    state.take(pod("new", "u8", "server1", json!({})));
    tokio::time::advance(AHEAD * 2).await;
    state.expire();
    assert_eq!(reason(state.news().directory.as_ref(), "new", "u8"), "believed", "it has come");
}

#[test]
fn trouble_changes_nothing_but_what_is_said_of_it() {
    let (mut state, news) = listed(vec![web()], vec![deny("deny")]);
    assert_eq!(news.health, Some(Ok(())));
    let forbidden = || Trouble::new(Cause::Forbidden, "403: no");
    state.take(said(Kind::NetworkPolicies, Event::Failed(forbidden())));
    let news = state.news();
    assert_eq!(news.health, Some(Err("Kubernetes API: 403: no".to_owned())));
    assert!(!is_change(&news) && news.directory.is_none());
    state.take(said(Kind::NetworkPolicies, Event::Failed(forbidden())));
    assert_eq!(state.news().health, None, "said once");
    let encoded = state.metrics.encode(crate::metrics::Format::Text).unwrap();
    assert!(encoded.contains("drawbridge_nic_agent_connected{peer=\"kubernetes\"} 0"), "{encoded}");
    assert!(
        encoded.contains("drawbridge_nic_agent_watch_failures_total{cause=\"forbidden\"} 2"),
        "{encoded}"
    );
    state.take(said(Kind::NetworkPolicies, Event::Well));
    assert_eq!(state.news().health, Some(Ok(())));
    assert!(
        state
            .metrics
            .encode(crate::metrics::Format::Text)
            .unwrap()
            .contains("drawbridge_nic_agent_connected{peer=\"kubernetes\"} 1")
    );
}

#[test]
fn the_node_reaches_its_pods_from_the_addresses_that_it_has() {
    let (mut state, news) = listed(vec![web()], vec![deny("deny")]);
    let rules = |news: &News| known(news).pods["u1"].ingress.tiers[0].rules.len();
    assert_eq!(rules(&news), 0);
    state.take(object::<OwnNode>(json!({"metadata": {"name": "server1"},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}})));
    let news = state.news();
    assert!(is_change(&news));
    assert_eq!(rules(&news), 1);
}

#[test]
fn what_cannot_be_read_stays_as_it_was() {
    let (mut state, _) = listed(vec![web()], vec![deny("deny")]);
    let broken = json!({"metadata": {"namespace": "default", "name": "web", "uid": "u1"},
        "spec": {"nodeName": "server1", "containers": 5}});
    state.take(object::<Pods>(broken.clone()));
    let slice =
        json!({"metadata": {"namespace": "default", "name": "s"}, "addressType": "IPv4", "endpoints": 5});
    state.take(object::<EndpointSlices>(slice));
    assert!(!is_change(&state.news()));
    list(&mut state, Kind::Pods, vec![object::<Pods>(broken)]);
    let news = state.news();
    assert_eq!(reason(Some(&state.directory()), "web", "u1"), "believed");
    assert!(!known(&news).pods["u1"].ingress.is_open());
}

#[test]
fn an_address_that_cannot_be_read_does_not_keep_what_was_there_before() {
    let from_db = object::<NetworkPolicies>(json!({
        "metadata": {"namespace": "default", "name": "p", "uid": "p", "resourceVersion": "9"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "db"}}}]}]}}));
    let db = |ips: Value| {
        object::<Pods>(json!({
            "metadata": {"namespace": "default", "name": "db", "uid": "u-db", "labels": {"app": "db"}},
            "spec": {"nodeName": "server2", "containers": []}, "status": {"podIPs": ips}}))
    };
    let (mut state, news) = listed(vec![web(), db(json!([{"ip": "10.0.0.9"}]))], vec![from_db]);
    let lets_in = |news: &News, ip: &str| {
        let ip: IpAddr = ip.parse().unwrap();
        known(news).pods["u1"].ingress.tiers[0].rules.iter().any(|rule| rule.peers.contains(ip))
    };
    assert!(lets_in(&news, "10.0.0.9"));
    state.take(db(json!([{"ip": "010.0.0.9"}, {"ip": "::ffff:10.0.0.9"}, {"ip": "10.0.0.8"}])));
    let news = state.news();
    assert!(!lets_in(&news, "10.0.0.9") && lets_in(&news, "10.0.0.8"));
    let says: Vec<_> =
        known(&news).reports.iter().filter(|it| it.contains("leading zeros")).cloned().collect();
    assert!(says.len() == 1 && says[0].contains("server2") && says[0].contains("default/db"), "{says:?}");
    state.take(db(json!([{"ip": "10.0.0.9"}])));
    assert!(!known(&state.news()).reports.iter().any(|it| it.contains("server2")));
}

#[test]
fn with_a_management_port_the_nodes_own_word_counts_no_more() {
    let from = |news: &News, ip: &str| {
        let source: IpAddr = ip.parse().unwrap();
        let known = known(news);
        let rules = known.pods["u1"].ingress.tiers[0].rules.clone();
        rules.iter().any(|rule| rule.peers.contains(source))
    };
    let (mut state, _) = listed(vec![web()], vec![deny("deny")]);
    let (says, port) = ("192.0.2.21", "10.0.0.200");
    state.take(object::<OwnNode>(json!({"metadata": {"name": "server1", "resourceVersion": "3"},
        "status": {"addresses": [{"type": "InternalIP", "address": says}]}})));
    let news = state.news();
    assert!(is_change(&news) && from(&news, says) && !from(&news, port));
    state.set_access(Access::Port(Vec::new()));
    let news = state.news();
    assert!(is_change(&news) && !from(&news, says) && !from(&news, port), "named, and not known yet");
    state.set_access(Access::Port(vec![port.parse().unwrap()]));
    let news = state.news();
    assert!(is_change(&news) && !from(&news, says) && from(&news, port));
    state.take(object::<OwnNode>(json!({"metadata": {"name": "server1", "resourceVersion": "4"},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.201"}]}})));
    assert!(!from(&state.news(), "10.0.0.201"), "the server writes that itself");
    state.set_access(Access::NodeAddresses);
    assert!(from(&state.news(), "10.0.0.201"));
}

#[test]
fn what_the_own_node_is_not_believed_is_told_apart() {
    let mirror = |name: &str, node: &str| {
        object::<Pods>(json!({"metadata": {"namespace": "default", "name": name, "uid": name,
            "annotations": {"kubernetes.io/config.mirror": "x"}},
            "spec": {"nodeName": node, "containers": []}, "status": {"podIPs": [{"ip": "10.0.0.9"}]}}))
    };
    let (mut state, news) = listed(vec![mirror("far", "server2")], vec![]);
    assert_eq!((known(&news).reports.len(), known(&news).disbelieved.len()), (1, 0));
    for number in 0..5 {
        state.take(mirror(&format!("near-{number}"), "server1"));
    }
    let disbelieved = known(&state.news()).disbelieved.clone();
    let [only] = &*disbelieved else { panic!("{disbelieved:?}") };
    assert_eq!(only.reason, "MirrorPods");
    assert!(only.what.contains("server1") && only.what.contains("default/near-0"), "{only:?}");
    assert!(only.what.ends_with("and 2 more"), "{only:?}");
    for number in 0..5 {
        let (name, uid) = (ObjectName::new("default", format!("near-{number}")), format!("near-{number}"));
        state.take(said(Kind::Pods, gone_event(name, &uid, 9)));
    }
    assert!(known(&state.news()).disbelieved.is_empty());
}
