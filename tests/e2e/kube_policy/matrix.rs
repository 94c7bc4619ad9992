//! Nine pods, the policies of the case, and who reaches whom.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::cluster::{Api, KubePod, Namespaces, Versions, Wanted, in_force, version};
use tests::kube_oracle::Cluster;
use tests::nic::NICS;
use tests::policy_lab::{Kind, Pace, Probe, Range, Stand};

use crate::cases::{Case, Group, Step};

pub const NAMESPACES: [&str; 3] = ["x", "y", "z"];
pub const PODS: [&str; 3] = ["a", "b", "c"];
pub const KINDS: [Kind; 4] = [Kind::Tcp(80), Kind::Tcp(81), Kind::Udp(80), Kind::Udp(81)];

/// A cluster's daemons run beside. What the eSwitch does with an established connection is others' business.
const PACE: Pace = Pace { exchanges: 1, wave: 36, late: Duration::from_secs(8) };

/// A namespace as the API has it; cases say `x`.
fn full(namespace: &str) -> String {
    format!("conformance-{namespace}")
}

/// A pod, as the e2e suite writes it: `x/a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    pub ns: &'static str,
    pub pod: &'static str,
}

impl Who {
    pub const ALL: [Self; 9] = {
        let mut all = [Self { ns: "", pod: "" }; 9];
        let mut at = 0;
        while at < 9 {
            all[at] = Self { ns: NAMESPACES[at / 3], pod: PODS[at % 3] };
            at += 1;
        }
        all
    };

    #[track_caller]
    pub fn named(text: &str) -> Self {
        let found = Self::ALL.into_iter().find(|it| it.to_string() == text);
        found.unwrap_or_else(|| panic!("no pod {text}"))
    }

    pub fn is(self, text: &str) -> bool {
        self.to_string() == text
    }

    fn index(self) -> usize {
        Self::ALL.iter().position(|it| *it == self).expect("one of them")
    }

    /// Each namespace has pods on both servers.
    fn node(self) -> &'static str {
        if self.index().is_multiple_of(2) { "host1" } else { "host2" }
    }

    /// The named ports are another number in each pod: `web` (TCP) is 80 in every `a`, else 81; `dns` (UDP) the other way
    /// round.
    fn ports(self) -> Value {
        let (web, dns) = if self.pod == "a" { (80, 81) } else { (81, 80) };
        json!([{"name": "web", "protocol": "TCP", "containerPort": web},
            {"name": "dns", "protocol": "UDP", "containerPort": dns}])
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ns, self.pod)
    }
}

/// A cell of the table.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    pub from: Who,
    pub to: Who,
    pub kind: Kind,
    pub v6: bool,
}

pub enum Change {
    /// Namespace and NetworkPolicy: made, or changed to this.
    Apply(&'static str, Value),
    Delete(&'static str, &'static str),
    /// A merge patch of labels.
    LabelPod(&'static str, Value),
    LabelNamespace(&'static str, Value),
}

/// See the module.
pub struct Matrix<'a> {
    api: &'a Api,
    // Its threads are in the pods: it goes before them.
    range: Range,
    pods: Vec<KubePod>,
    namespaces: Namespaces<'a>,
    /// As they stand in the API server.
    policies: BTreeSet<(&'static str, String)>,
    relabelled: Vec<Change>,
    /// What the tables followed last.
    before: Cluster,
    counted: (usize, usize),
}

const NETWORKING: &str = "/apis/networking.k8s.io/v1";

fn policies(namespace: &str) -> String {
    format!("{NETWORKING}/namespaces/{}/networkpolicies", full(namespace))
}

impl<'a> Matrix<'a> {
    #[track_caller]
    pub fn start(api: &'a Api) -> Self {
        let named: Vec<(String, Value)> = NAMESPACES.iter().map(|it| (full(it), json!({"ns": it}))).collect();
        let named: Vec<(&str, Value)> =
            named.iter().map(|(name, labels)| (name.as_str(), labels.clone())).collect();
        let namespaces = Namespaces::create(api, &named);
        let wanted = Who::ALL.map(|who| Wanted {
            namespace: full(who.ns),
            name: who.pod.to_owned(),
            node: who.node(),
            labels: json!({"pod": who.pod}),
            ports: who.ports(),
            grace: 0,
        });
        let pods = namespaces.run(&wanted);
        let stands = pods.iter().zip(Who::ALL).map(|(pod, who)| Stand {
            name: who.to_string(),
            place: pod.place(),
            addresses: pod.addresses,
        });
        let range = Range::start(stands, PACE);
        let mut matrix = Self {
            api,
            range,
            pods,
            namespaces,
            policies: BTreeSet::new(),
            relabelled: Vec::new(),
            before: Cluster::default(),
            counted: (0, 0),
        };
        matrix.before = matrix.cluster();
        matrix
    }

    /// Of each pod, in the order of [`Who::ALL`]: IPv4, then IPv6.
    pub fn addresses(&self) -> Vec<[IpAddr; 2]> {
        self.pods.iter().map(|it| it.addresses).collect()
    }

    /// Allowed and denied connections.
    pub fn counted(&self) -> (usize, usize) {
        self.counted
    }

    /// All that policy depends on, as the API server has it.
    fn cluster(&self) -> Cluster {
        let of = |kind: &'static str, items: Vec<Value>| {
            // A list does not repeat what its items are.
            items.into_iter().map(move |mut it| {
                it["kind"] = kind.into();
                it
            })
        };
        let namespaces = self.api.list("/api/v1/namespaces");
        let items = of("Namespace", namespaces)
            .chain(of("Pod", self.namespaces.all("/api/v1", "pods")))
            .chain(of("NetworkPolicy", self.namespaces.all(NETWORKING, "networkpolicies")));
        Cluster { items: items.collect(), ..Cluster::default() }
    }

    fn change(&mut self, change: &Change, versions: &mut Versions) {
        let mut note = |kind, version: u64| {
            let newest = versions.entry(kind).or_default();
            *newest = version.max(*newest);
        };
        match change {
            Change::Apply(namespace, policy) => {
                let name = policy["metadata"]["name"].as_str().expect("a name");
                let object = if self.policies.insert((namespace, name.to_owned())) {
                    self.api.create(&policies(namespace), policy)
                } else {
                    // A merge would keep what the old one had and the new one has not.
                    self.api.replace(&format!("{}/{name}", policies(namespace)), policy)
                };
                note("networkpolicies", version(&object));
            }
            Change::Delete(namespace, name) => {
                assert!(self.policies.remove(&(*namespace, (*name).to_owned())), "no {namespace}/{name}");
                note("networkpolicies", self.api.deleted(&format!("{}/{name}", policies(namespace))));
            }
            Change::LabelPod(who, labels) => {
                let path = self.pods[Who::named(who).index()].path();
                note("pods", version(&self.api.patch(&path, &json!({"metadata": {"labels": labels}}))));
            }
            Change::LabelNamespace(namespace, labels) => {
                let path = format!("/api/v1/namespaces/{}", full(namespace));
                note("namespaces", version(&self.api.patch(&path, &json!({"metadata": {"labels": labels}}))));
            }
        }
        let back = |labels: &Value| -> Value {
            labels.as_object().expect("labels").keys().map(|key| (key.clone(), Value::Null)).collect()
        };
        match change {
            Change::LabelPod(who, labels) => {
                let mut labels = back(labels);
                labels["pod"] = Who::named(who).pod.into();
                self.relabelled.push(Change::LabelPod(who, labels));
            }
            Change::LabelNamespace(namespace, labels) => {
                let mut labels = back(labels);
                labels["ns"] = (*namespace).into();
                self.relabelled.push(Change::LabelNamespace(namespace, labels));
            }
            _ => {}
        }
    }

    /// Waits until the NICs that have something to do with it follow a change.
    fn wait(&mut self, probes: &[Probe], versions: &Versions) -> Cluster {
        let now = self.cluster();
        let mut concerned = BTreeSet::new();
        for probe in probes {
            let (from, to) = (&self.pods[probe.from], self.receiver(probe.to));
            let source = self.range.source(*probe);
            let sends = |cluster: &Cluster| {
                said(cluster, from, |it, pod| it.may_send(pod, probe.to, probe.kind.traffic()))
            };
            let takes = |cluster: &Cluster| {
                said(cluster, to, |it, pod| it.may_receive(pod, source, probe.kind.traffic()))
            };
            if !concerned.contains(&from.nic().0) && sends(&self.before) != sends(&now) {
                concerned.insert(from.nic().0);
            }
            if !concerned.contains(&to.nic().0) && takes(&self.before) != takes(&now) {
                concerned.insert(to.nic().0);
            }
            if concerned.len() == NICS.len() {
                break;
            }
        }
        std::thread::scope(|scope| {
            for nic in NICS.into_iter().filter(|it| concerned.contains(&it.0)) {
                scope.spawn(move || in_force(nic, versions));
            }
        });
        now
    }

    fn receiver(&self, address: IpAddr) -> &KubePod {
        self.pods.iter().find(|it| it.addresses.contains(&address)).expect("a pod's address")
    }

    fn cell(&self, probe: Probe) -> Cell {
        let to = self.pods.iter().position(|it| it.addresses.contains(&probe.to)).expect("a pod's address");
        Cell { from: Who::ALL[probe.from], to: Who::ALL[to], kind: probe.kind, v6: probe.to.is_ipv6() }
    }

    /// Those of the table, and what the cases want beyond it.
    fn probes(&self, cases: &[Case]) -> Vec<Probe> {
        let mut probes = self.range.all_pairs(&KINDS);
        for (who, kind) in cases.iter().flat_map(|it| &it.more) {
            let own = self.pods[who.index()].addresses;
            let all = self.range.all_pairs(&[*kind]);
            probes.extend(all.into_iter().filter(|it| it.from == who.index() || own.contains(&it.to)));
        }
        probes
    }

    /// What the last group left goes, with the same versions to wait for.
    fn clear(&mut self, versions: &mut Versions) {
        for (namespace, name) in std::mem::take(&mut self.policies) {
            let gone = self.api.deleted(&format!("{}/{name}", policies(namespace)));
            versions.insert("networkpolicies", gone);
        }
        for change in std::mem::take(&mut self.relabelled).iter().rev() {
            self.change(change, versions);
        }
        self.relabelled.clear();
    }

    #[track_caller]
    pub fn run<'b>(&mut self, group: &'b Group) {
        let mut versions = Versions::new();
        self.clear(&mut versions);
        let probes = self.probes(&group.cases);
        let steps = group.cases.iter().map(|it| it.steps.len()).max().unwrap_or_default();
        for at in 0..steps {
            let began = Instant::now();
            for step in group.cases.iter().filter_map(|it| it.steps.get(at)) {
                for change in &step.changes {
                    self.change(change, &mut versions);
                }
            }
            // A case that is through stays as it is.
            let last = |it: &'b Case| Some((it.name, it.steps.get(at).or(it.steps.last())?));
            let last: Vec<(&str, &Step)> = group.cases.iter().filter_map(last).collect();
            self.table(&format!("{}, step {}", group.name, at + 1), &probes, &versions, &last, began);
        }
    }

    #[track_caller]
    fn table(
        &mut self,
        name: &str,
        probes: &[Probe],
        versions: &Versions,
        steps: &[(&str, &Step)],
        began: Instant,
    ) {
        let now = self.wait(probes, versions);
        let in_force = began.elapsed();
        let mut wanted = Vec::with_capacity(probes.len());
        for probe in probes {
            let cell = self.cell(*probe);
            let refusing = |step: &&(&str, &Step)| !(step.1.allowed)(&cell);
            let refused: Vec<&str> = steps.iter().filter(refusing).map(|it| it.0).collect();
            let by_hand = refused.is_empty();
            let oracle = now.allowed(self.range.source(*probe), probe.to, probe.kind.traffic());
            assert_eq!(
                oracle, by_hand,
                "{name}: the oracle, and what stands beside the cases, of {cell:?}: refused by {refused:?}"
            );
            wanted.push(by_hand);
        }
        let differences = self.range.compare(probes, &wanted);
        let said: Vec<String> = differences.iter().take(20).map(|it| self.range.describe(it)).collect();
        assert!(said.is_empty(), "{name}: {} differences: {said:#?}", differences.len());
        let allowed = wanted.iter().filter(|it| **it).count();
        self.counted.0 += allowed;
        self.counted.1 += wanted.len() - allowed;
        self.before = now;
        println!(
            "{name} ({} cases): {allowed} of {} allowed, no difference; in force after {:.1} s, {:.1} s in all",
            steps.len(),
            wanted.len(),
            in_force.as_secs_f64(),
            began.elapsed().as_secs_f64()
        );
    }
}

/// `None`: it has no such pod.
fn said(cluster: &Cluster, of: &KubePod, what: impl Fn(&Cluster, &Value) -> bool) -> Option<bool> {
    cluster.pod(&of.namespace, &of.name).map(|pod| what(cluster, pod))
}
