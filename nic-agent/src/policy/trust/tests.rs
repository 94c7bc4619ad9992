//! Who is believed in what. That a node's lies change nothing for others is tried at random beside the oracle (package
//! tests, `kube_oracle`).

use std::net::IpAddr;
use std::sync::Arc;

use offload::policy::{Direction, Packet, State, Transport, verdict};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Held, Trust};
use crate::policy::model::{EndpointSlice, ObjectName, Pod, Word};
use crate::policy::{Change, Compiler, ObjectKind, Settings, Snapshot, WordKind};

/// At node "n": its pod "web" lets in `app=api`.
struct Bench {
    trust: Trust,
    compiler: Compiler,
}

fn read<T: for<'de> Deserialize<'de>>(object: &Value) -> T {
    T::deserialize(object).unwrap()
}

fn pod(name: &str, node: &str, ips: &[&str]) -> Value {
    let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    json!({"metadata": {"namespace": "bank", "name": name, "uid": format!("u-{name}"), "labels": {"app": "api"}},
        "spec": {"nodeName": node, "containers": []}, "status": {"phase": "Running", "podIPs": ips}})
}

fn range(node: &str, pods: &str, host: &str) -> Word {
    Word::Range(read(
        &json!({"metadata": {"name": node}, "status": {"nodeUid": format!("u-{node}"), "ranges": [pods],
        "addresses": [host]}}),
    ))
}

fn node(name: &str, uid: &str) -> Word {
    Word::Node(read(&json!({"metadata": {"name": name, "uid": uid}})))
}

fn nic(name: &str, node: &str) -> Word {
    Word::Nic(read(&json!({"metadata": {"name": name}, "spec": {"nodeName": node}})))
}

fn attachment(pod: &str, uid: &str, node: &str, ips: &[&str]) -> Word {
    Word::Attachment(read(&json!({"metadata": {"namespace": "bank", "name": format!("{pod}-eth0")},
        "spec": {"pod": {"name": pod, "uid": uid}, "interface": "eth0", "nodeName": node, "vf": {"pf": 0, "vf": 0}},
        "status": {"ips": ips}})))
}

fn slice(endpoints: &Value) -> Change {
    Change::EndpointSlice(read(&json!({"metadata": {"namespace": "bank", "name": "s-1",
        "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4", "ports": [{"port": 80}], "endpoints": endpoints})))
}

fn endpoint(pod: &str, uid: &str, ip: &str) -> Value {
    json!({"addresses": [ip], "targetRef": {"kind": "Pod", "namespace": "bank", "name": pod, "uid": uid}})
}

impl Bench {
    fn new() -> Self {
        let spec = json!({"podSelector": {"matchLabels": {"app": "web"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "api"}}}]}],
            "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "api"}}}]}]});
        let policy = json!({"metadata": {"namespace": "bank", "name": "p", "uid": "p"}, "spec": spec});
        let service = json!({"metadata": {"namespace": "bank", "name": "s"},
            "spec": {"clusterIPs": ["10.96.0.1"], "ports": [{"port": 80}]}});
        let settings = Settings {
            node: "n".into(),
            zone: "".into(),
            node_addresses: offload::policy::PrefixSet::default(),
            budget: crate::policy::Budget::default(),
        };
        let mut compiler = Compiler::new(settings, Snapshot::default());
        compiler.apply_all([Change::Policy(read(&policy)), Change::Service(read(&service))]);
        let mut bench = Self { trust: Trust::new("n".into()), compiler };
        for name in ["n", "far", "near"] {
            bench.hear(node(name, &format!("u-{name}")));
        }
        let mut web = pod("web", "n", &[]);
        web["metadata"]["labels"]["app"] = "web".into();
        bench.put(&web);
        bench
    }

    fn settle(&mut self) {
        let changes = self.trust.flush();
        self.compiler.apply_all(changes);
    }

    fn put(&mut self, pod: &Value) {
        assert_eq!(self.trust.take(Change::Pod(read::<Pod>(pod))), None);
        self.settle();
    }

    fn hear(&mut self, word: Word) {
        self.trust.hear(word);
        self.settle();
    }

    fn slice(&mut self, endpoints: &Value) {
        assert_eq!(self.trust.take(slice(endpoints)), None);
        self.settle();
    }

    fn passes(&self, direction: Direction, src: &str, dst: &str) -> bool {
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        let packet = Packet { src, dst, transport: Transport::Tcp { src: 1, dst: 80 } };
        verdict(self.compiler.compiled("u-web").unwrap(), direction, &packet, State::New).allowed
    }

    fn lets_in(&self, ip: &str) -> bool {
        self.passes(Direction::Ingress, ip, "10.0.1.1")
    }

    fn may_use_the_service(&self) -> bool {
        self.passes(Direction::Egress, "10.0.1.1", "10.96.0.1")
    }

    fn reports(&self) -> String {
        self.trust.reports().map(|it| it.to_string()).collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn a_node_without_a_nic_is_believed_within_its_confirmed_ranges() {
    let mut bench = Bench::new();
    bench.put(&pod("api", "far", &["10.0.2.1", "10.0.3.1"]));
    assert!(!bench.lets_in("10.0.2.1") && bench.reports().contains("NodeRange far"), "{}", bench.reports());
    bench.hear(range("far", "10.0.2.0/24", "192.0.2.2"));
    assert!(bench.lets_in("10.0.2.1") && !bench.lets_in("10.0.3.1"));
    assert!(bench.reports().contains("bank/api"), "{}", bench.reports());
    bench.put(&pod("api", "far", &["10.0.2.1"]));
    assert_eq!(bench.reports(), "");
    // Another node's range is another's.
    bench.hear(range("near", "10.0.3.0/24", "192.0.2.3"));
    bench.put(&pod("api", "far", &["10.0.3.1"]));
    assert!(!bench.lets_in("10.0.3.1"));
    bench.put(&pod("api", "far", &["10.0.2.9"]));
    bench.hear(Word::Range(read(&json!({"metadata": {"name": "far"}, "status": {}}))));
    assert!(!bench.lets_in("10.0.2.9"), "all of it is refused");
    bench.hear(range("far", "10.0.2.0/24", "192.0.2.2"));
    assert!(bench.lets_in("10.0.2.9"));
    bench.trust.only_words(WordKind::Range, &[ObjectName::new("", "near")].into());
    bench.settle();
    assert!(!bench.lets_in("10.0.2.9"));
}

#[test]
fn what_is_confirmed_is_that_nodes_by_its_uid() {
    let mut bench = Bench::new();
    bench.hear(range("far", "10.0.2.0/24", "192.0.2.2"));
    bench.put(&pod("api", "far", &["10.0.2.1"]));
    let mut host = pod("host", "far", &["192.0.2.2"]);
    host["spec"]["hostNetwork"] = true.into();
    bench.put(&host);
    let both = json!([endpoint("api", "u-api", "10.0.2.1"), endpoint("host", "u-host", "192.0.2.2")]);
    bench.slice(&both);
    let is_believed = |bench: &Bench| (bench.lets_in("10.0.2.1"), bench.reports().is_empty());
    assert_eq!(is_believed(&bench), (true, true));
    for gone in [node("far", "u-again"), Word::NodeGone("far".into())] {
        bench.hear(gone);
        assert_eq!(is_believed(&bench), (false, false));
        assert!(bench.reports().contains("bank/api") && bench.reports().contains("bank/host"));
        bench.hear(node("far", "u-far"));
        assert_eq!(is_believed(&bench), (true, true));
    }
    // Its NIC says what it likes: of a range that is another machine's nothing is its own.
    bench.hear(nic("nic-far", "far"));
    bench.hear(attachment("api", "u-api", "far", &["10.0.2.1"]));
    assert!(bench.lets_in("10.0.2.1"));
    bench.hear(node("far", "u-again"));
    assert!(!bench.lets_in("10.0.2.1"));
    // Confirmed anew, of this one.
    let again =
        json!({"metadata": {"name": "far"}, "status": {"nodeUid": "u-again", "ranges": ["10.0.2.0/24"]}});
    bench.hear(Word::Range(read(&again)));
    assert!(bench.lets_in("10.0.2.1"));
    // What bears no uid was said of nobody.
    bench.hear(Word::Range(read(
        &json!({"metadata": {"name": "far"}, "status": {"ranges": ["10.0.2.0/24"]}}),
    )));
    assert!(!bench.lets_in("10.0.2.1"));
}

#[test]
fn a_nic_is_believed_of_pods_of_its_own_node_by_their_uid() {
    let mut bench = Bench::new();
    bench.hear(nic("nic-far", "far"));
    bench.hear(range("far", "10.0.2.0/24", "192.0.2.2"));
    bench.put(&pod("api", "far", &["10.0.2.1"]));
    assert!(!bench.lets_in("10.0.2.1"), "its NIC holds no such pod");
    assert!(bench.reports().contains("its NIC does not"), "{}", bench.reports());
    // As soon as it says so, whatever kubelet has written by then.
    bench.put(&pod("api", "far", &[]));
    bench.hear(attachment("api", "u-api", "far", &["10.0.2.1", "10.0.9.9", "::ffff:10.0.2.7"]));
    assert!(bench.lets_in("10.0.2.1") && !bench.lets_in("10.0.9.9") && !bench.lets_in("10.0.2.7"));
    assert!(bench.reports().contains("not confirmed") && bench.reports().contains("leading zeros"));
    for (uid, node) in [("u-old", "far"), ("u-api", "other"), ("u-api", "n")] {
        bench.hear(attachment("api", uid, node, &["10.0.2.1"]));
        assert!(!bench.lets_in("10.0.2.1"), "{uid} {node}");
        assert_eq!(bench.reports().contains("another node's pods"), uid == "u-api", "{}", bench.reports());
        bench.hear(attachment("api", "u-api", "far", &["10.0.2.1"]));
        assert!(bench.lets_in("10.0.2.1") && bench.reports().is_empty(), "{}", bench.reports());
    }
    // Without a word on the node's ranges its NIC's word is all that there is.
    bench.hear(Word::RangeGone("far".into()));
    bench.hear(attachment("api", "u-api", "far", &["10.0.9.9"]));
    assert!(bench.lets_in("10.0.9.9"));
    bench.hear(Word::AttachmentGone(ObjectName::new("bank", "api-eth0")));
    assert!(!bench.lets_in("10.0.9.9"));
    // The NIC is taken out: the node is one without.
    bench.put(&pod("api", "far", &["10.0.2.1"]));
    bench.hear(nic("nic-too", "far"));
    bench.hear(range("far", "10.0.2.0/24", "192.0.2.2"));
    bench.hear(Word::NicGone("nic-far".into()));
    assert!(!bench.lets_in("10.0.2.1"), "another NicNode names it");
    bench.hear(nic("nic-too", "elsewhere"));
    assert!(bench.lets_in("10.0.2.1"));
}

#[test]
fn of_this_nodes_pods_only_what_this_nic_holds_counts() {
    let mut bench = Bench::new();
    bench.hear(range("n", "10.0.1.0/24", "192.0.2.1"));
    bench.put(&pod("api", "n", &["10.0.1.2"]));
    bench.hear(attachment("api", "u-api", "n", &["10.0.1.2"]));
    assert!(!bench.lets_in("10.0.1.2"));
    let hold = |uid: &str, ip: &str| -> Held {
        Arc::new([(uid.into(), vec![ip.parse::<IpAddr>().unwrap()])].into())
    };
    bench.trust.hold(hold("u-api", "10.0.1.3"));
    bench.settle();
    assert!(bench.lets_in("10.0.1.3") && !bench.lets_in("10.0.1.2"));
    bench.trust.hold(hold("u-other", "10.0.1.3"));
    bench.settle();
    assert!(!bench.lets_in("10.0.1.3"));
}

#[test]
fn mirror_pods_are_nobodys_peers_endpoints_or_members() {
    let owner = |api: &str| json!([{"apiVersion": api, "kind": "Node", "name": "far", "uid": "x"}]);
    let mut bench = Bench::new();
    bench.hear(range("far", "10.0.2.0/24", "192.0.2.2"));
    let mut mirror = pod("api", "far", &["10.0.2.1"]);
    bench.slice(&json!([endpoint("api", "u-api", "10.0.2.1")]));
    bench.put(&mirror);
    assert!(bench.lets_in("10.0.2.1") && bench.may_use_the_service());
    for (pointer, value) in
        [("annotations", json!({"kubernetes.io/config.mirror": ""})), ("ownerReferences", owner("v1"))]
    {
        mirror["metadata"][pointer] = value;
        bench.put(&mirror);
        assert!(!bench.lets_in("10.0.2.1") && !bench.may_use_the_service(), "{pointer}");
        assert!(bench.reports().contains("mirror pods"), "{}", bench.reports());
        mirror["metadata"][pointer] = Value::Null;
        bench.put(&mirror);
        assert!(bench.lets_in("10.0.2.1") && bench.may_use_the_service());
    }
    mirror["metadata"]["ownerReferences"] = owner("cluster.example/v1");
    bench.put(&mirror);
    assert!(bench.lets_in("10.0.2.1"), "some other kind of Node");
    // Here neither: no policy selects it, and there is nothing of its.
    let mut own = pod("own", "n", &["10.0.1.5"]);
    own["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    bench.put(&own);
    assert!(bench.compiler.compiled("u-own").is_none());
}

#[test]
fn static_pods_count_where_an_operator_says_so_and_within_their_nodes_ranges() {
    let nic = |name: &str, node: &str, word: &str| {
        Word::Nic(read(&json!({"metadata": {"name": name}, "spec": {"nodeName": node, "staticPods": word}})))
    };
    let mirror = |name: &str, node: &str, ip: &str| {
        let mut pod = pod(name, node, &[ip]);
        pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
        pod
    };
    let mut bench = Bench::new();
    bench.put(&mirror("api", "far", "10.0.2.1"));
    bench.slice(&json!([endpoint("api", "u-api", "10.0.2.1")]));
    bench.hear(attachment("api", "u-api", "far", &["10.0.2.1", "10.0.9.9"]));
    let counts = |bench: &Bench| bench.lets_in("10.0.2.1") && bench.may_use_the_service();
    bench.hear(nic("nic-far", "far", "Allowed"));
    assert!(!counts(&bench), "nothing is confirmed for its node");
    assert!(bench.reports().contains("NodeRange far"), "{}", bench.reports());
    bench.hear(range("far", "10.0.2.0/24", "192.0.2.2"));
    assert!(counts(&bench) && !bench.lets_in("10.0.9.9"));
    // Another NIC of the node refuses them.
    bench.hear(nic("nic-too", "far", "Refused"));
    assert!(!counts(&bench) && bench.reports().contains("mirror pods"), "{}", bench.reports());
    bench.hear(Word::NicGone("nic-too".into()));
    assert!(counts(&bench));
    bench.hear(nic("nic-far", "far", "Refused"));
    assert!(!counts(&bench));
    bench.hear(nic("nic-far", "far", "Allowed"));
    assert!(counts(&bench));
    bench.hear(Word::AttachmentGone(ObjectName::new("bank", "api-eth0")));
    assert!(!counts(&bench), "what kubelet says of it is nobody's business");
    bench.hear(attachment("api", "u-api", "far", &["10.0.2.1"]));
    bench.hear(Word::NicGone("nic-far".into()));
    assert!(!counts(&bench), "and without a NIC");
    // This NIC's own.
    bench.put(&mirror("own", "n", "10.0.1.5"));
    bench.hear(nic("nic-n", "n", "Allowed"));
    let held = ["10.0.1.5", "10.0.9.9"].map(|it| it.parse::<IpAddr>().unwrap()).to_vec();
    bench.trust.hold(Arc::new([("u-own".into(), held)].into()));
    bench.settle();
    assert!(bench.compiler.compiled("u-own").is_some(), "policies concern it");
    assert!(!bench.lets_in("10.0.1.5"));
    bench.hear(range("n", "10.0.1.0/24", "192.0.2.1"));
    assert!(bench.lets_in("10.0.1.5") && !bench.lets_in("10.0.9.9"));
    bench.hear(nic("nic-n", "n", "Refused"));
    assert!(!bench.lets_in("10.0.1.5") && bench.compiler.compiled("u-own").is_none());
}

#[test]
fn an_endpoint_counts_when_its_address_is_its_pods() {
    let mut bench = Bench::new();
    bench.hear(range("far", "10.0.2.0/24", "192.0.2.2"));
    let good = endpoint("api", "u-api", "10.0.2.1");
    // Not before there is such a pod.
    bench.slice(&json!([good]));
    assert!(!bench.may_use_the_service());
    bench.put(&pod("api", "far", &["10.0.2.1"]));
    assert!(bench.may_use_the_service());
    // What does not count refuses the others nothing.
    let mut stranger = pod("stranger", "far", &["10.0.2.66", "10.0.3.66"]);
    stranger["metadata"]["labels"] = json!({});
    bench.put(&stranger);
    for lie in [
        endpoint("stranger", "u-stranger", "10.0.3.66"),
        endpoint("stranger", "u-stranger", "10.0.2.67"),
        endpoint("stranger", "u-old", "10.0.2.66"),
        endpoint("nobody", "u-nobody", "10.0.2.66"),
        json!({"addresses": ["010.0.2.66"]}),
    ] {
        bench.slice(&json!([good, lie]));
        assert!(bench.may_use_the_service(), "{lie}");
    }
    // A true one does.
    bench.slice(&json!([good, endpoint("stranger", "u-stranger", "10.0.2.66")]));
    assert!(!bench.may_use_the_service());
    // By hand, as no node can.
    bench.slice(&json!([good, {"addresses": ["10.0.3.66"]}]));
    assert!(!bench.may_use_the_service());
    // A pod takes its endpoint along.
    bench.slice(&json!([good]));
    let mut again = pod("api", "far", &["10.0.2.1"]);
    again["metadata"]["uid"] = "u-again".into();
    bench.put(&again);
    assert!(!bench.may_use_the_service());
    bench.slice(&json!([endpoint("api", "u-again", "10.0.2.1")]));
    assert!(bench.may_use_the_service());
    let left = [ObjectName::new("bank", "web"), ObjectName::new("bank", "stranger")];
    bench.trust.only(ObjectKind::Pod, &left.into());
    bench.settle();
    assert!(!bench.may_use_the_service());
}

#[test]
fn a_pod_on_its_nodes_network_is_an_endpoint_at_that_nodes_addresses() {
    let mut bench = Bench::new();
    let mut host = pod("host", "far", &["192.0.2.2"]);
    host["spec"]["hostNetwork"] = true.into();
    bench.put(&host);
    bench.put(&pod("api", "far", &["10.0.2.1"]));
    bench.hear(range("far", "10.0.2.0/24", "192.0.2.3"));
    let both = json!([endpoint("api", "u-api", "10.0.2.1"), endpoint("host", "u-host", "192.0.2.2")]);
    bench.slice(&both);
    assert!(bench.may_use_the_service(), "nobody says that this address is the node's");
    assert!(bench.reports().contains("bank/host"), "{}", bench.reports());
    bench.hear(range("far", "10.0.2.0/24", "192.0.2.2"));
    assert!(!bench.may_use_the_service(), "one backend is no pod that the policy means");
    assert!(!bench.lets_in("192.0.2.2"));
}

#[test]
fn what_is_gone_leaves_nothing() {
    let mut bench = Bench::new();
    bench.put(&pod("api", "far", &["10.0.2.1"]));
    bench.slice(&json!([endpoint("api", "u-api", "x")]));
    bench.hear(attachment("api", "u-api", "other", &["y"]));
    bench.hear(nic("nic", "far"));
    bench.hear(range("far", "10.0.2.0/24", "192.0.2.2"));
    assert_ne!(bench.reports(), "");
    for name in ["api", "web"] {
        bench.trust.take(Change::PodGone(ObjectName::new("bank", name)));
    }
    let gone = EndpointSlice {
        service: None,
        ..read(&json!({"metadata": {"namespace": "bank", "name": "s-1"},
        "addressType": "IPv4"}))
    };
    bench.trust.take(Change::EndpointSlice(gone));
    bench.hear(Word::AttachmentGone(ObjectName::new("bank", "api-eth0")));
    bench.hear(Word::NicGone("nic".into()));
    bench.hear(Word::RangeGone("far".into()));
    bench.trust.only_words(WordKind::Node, &[].into());
    let Trust {
        pods,
        own,
        attachments,
        attached,
        nics,
        with_nic,
        confirmed,
        nodes,
        slices,
        naming,
        refused,
        ..
    } = &bench.trust;
    assert!(pods.is_empty() && own.is_empty() && attachments.is_empty() && attached.is_empty());
    assert!(nics.is_empty() && with_nic.is_empty() && confirmed.is_empty() && nodes.is_empty());
    assert!(slices.is_empty() && naming.is_empty() && refused.is_empty(), "{refused:?}");
}
