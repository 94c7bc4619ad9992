//! One node lies in every field that it can write. What the NIC of another compiles is what it would compile had that node
//! said nothing but what its own NIC says.

mod cluster;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use nic_agent::policy::{Budget, Change, Compiler, ObjectName, Report, Settings, Snapshot, Trust, Word};
use offload::policy::PodPolicy;
use serde_json::{Value, from_value, json};

use super::super::random::Dice;
use super::super::text;
use super::{Held, believed};
use cluster::Cluster;

/// Whose NIC compiles.
const OWN: &str = "n1";
const LIAR: &str = "n2";

fn settings() -> Settings {
    let node_addresses = ["10.9.0.1".parse::<IpAddr>().unwrap()].into_iter().collect();
    Settings { node: OWN.into(), zone: "z1".into(), node_addresses, budget: Budget::default() }
}

type Key = (String, String, String);

fn key(item: &Value) -> Key {
    let metadata = &item["metadata"];
    let of = |value: &Value| text(value).to_owned();
    (of(&item["kind"]), of(&metadata["namespace"]), of(&metadata["name"]))
}

/// What a NIC makes of a cluster that it watches.
struct Nic {
    trust: Trust,
    compiler: Compiler,
    seen: BTreeMap<Key, Value>,
}

impl Nic {
    fn new() -> Self {
        let compiler = Compiler::new(settings(), Snapshot::default());
        Self { trust: Trust::new(OWN.into()), compiler, seen: BTreeMap::new() }
    }

    fn change(&mut self, change: Change) {
        if let Some(change) = self.trust.take(change) {
            self.compiler.stage(change);
        }
    }

    /// By its difference, in an order of the dice's.
    fn watch(&mut self, items: &[Value], held: &Held, dice: &mut Dice) {
        let now: BTreeMap<Key, Value> = items.iter().map(|it| (key(it), it.clone())).collect();
        let mut events: Vec<(Key, Option<Value>)> =
            self.seen.keys().filter(|it| !now.contains_key(*it)).map(|it| (it.clone(), None)).collect();
        let is_news = |(key, item): &(&Key, &Value)| self.seen.get(*key) != Some(*item);
        events.extend(now.iter().filter(is_news).map(|(key, item)| (key.clone(), Some(item.clone()))));
        dice.shuffle(&mut events);
        for ((kind, namespace, name), item) in events {
            let name = ObjectName::new(namespace, name);
            match (kind.as_str(), item) {
                ("Pod", Some(item)) => self.change(Change::Pod(from_value(item).unwrap())),
                ("Pod", None) => self.change(Change::PodGone(name)),
                ("Namespace", Some(item)) => self.change(Change::Namespace(from_value(item).unwrap())),
                ("Namespace", None) => self.change(Change::NamespaceGone(name.name)),
                ("NetworkPolicy", Some(item)) => self.change(Change::Policy(from_value(item).unwrap())),
                ("NetworkPolicy", None) => self.change(Change::PolicyGone(name)),
                ("Service", Some(item)) => self.change(Change::Service(from_value(item).unwrap())),
                ("Service", None) => self.change(Change::ServiceGone(name)),
                ("EndpointSlice", Some(item)) => {
                    self.change(Change::EndpointSlice(from_value(item).unwrap()));
                }
                ("EndpointSlice", None) => self.change(Change::EndpointSliceGone(name)),
                ("PodAttachment", Some(item)) => self.trust.hear(Word::Attachment(from_value(item).unwrap())),
                ("PodAttachment", None) => self.trust.hear(Word::AttachmentGone(name)),
                ("NicNode", Some(item)) => self.trust.hear(Word::Nic(from_value(item).unwrap())),
                ("NicNode", None) => self.trust.hear(Word::NicGone(name.name)),
                ("NodeRange", Some(item)) => self.trust.hear(Word::Range(from_value(item).unwrap())),
                ("NodeRange", None) => self.trust.hear(Word::RangeGone(name.name)),
                ("Node", Some(item)) => self.trust.hear(Word::Node(from_value(item).unwrap())),
                ("Node", None) => self.trust.hear(Word::NodeGone(name.name)),
                (other, _) => panic!("{other}"),
            }
        }
        let held = held.iter().map(|(uid, ips)| (Arc::from(uid.as_str()), ips.clone())).collect();
        self.trust.hold(Arc::new(held));
        for change in self.trust.flush() {
            self.compiler.stage(change);
        }
        self.compiler.settle();
        self.seen = now;
    }
}

/// Everything that concerns this node's pods.
#[derive(Debug, PartialEq)]
struct Compiled {
    pods: Vec<(Arc<str>, Arc<PodPolicy>)>,
    reports: Vec<Report>,
}

fn compiled(compiler: &Compiler) -> Compiled {
    let pods = compiler.all_compiled().map(|(uid, _, policy)| (uid.clone(), policy.clone()));
    Compiled { pods: pods.collect(), reports: compiler.reports() }
}

/// Who wrote these is believed in everything. `None`: there is something that is no address.
fn as_file(items: &[Value]) -> Option<Compiled> {
    let own = items.iter().find(|it| it["kind"] == "Node" && it["metadata"]["name"] == OWN).unwrap();
    let zone = text(&own["metadata"]["labels"]["topology.kubernetes.io/zone"]).into();
    let list = json!({"kind": "List", "items": items});
    let snapshot = Snapshot::parse(Path::new("test"), list.to_string().as_bytes());
    snapshot.ok().map(|it| compiled(&Compiler::new(Settings { zone, ..settings() }, it)))
}

#[test]
fn a_node_that_lies_changes_nothing_for_pods_of_others() {
    let (mut lies, mut looks, mut would_matter) = (0, 0, 0);
    for seed in 0..20 {
        let mut cluster = Cluster::new(seed);
        let mut order = Dice(seed << 32);
        let (mut nic, mut of_honest) = (Nic::new(), Nic::new());
        for step in 0..80 {
            cluster.step();
            let held = cluster.held();
            nic.watch(&cluster.items, &held, &mut order);
            let in_force = compiled(&nic.compiler);
            of_honest.watch(&cluster.honest(), &held, &mut order);
            assert!(in_force == compiled(&of_honest.compiler), "seed {seed} step {step}: a lie counts");
            if step % 2 == 0 {
                let truth = as_file(&believed(&cluster.items, OWN, &held)).unwrap();
                assert!(in_force == truth, "seed {seed} step {step}:\n{in_force:#?}\nshould be\n{truth:#?}");
            }
            if step % 4 == 0 {
                looks += 1;
                would_matter += usize::from(as_file(&cluster.items).as_ref() != Some(&in_force));
            }
        }
        lies += cluster.lies;
    }
    // They would have, had they been believed.
    assert!(lies > 200 && would_matter > looks / 4, "{lies} lies, {would_matter} of {looks} looks");
}
