//! A cluster in which users, kubelets and NICs do what they do, and one node lies.

use serde_json::{Value, json};

use super::super::super::random::{self, Dice, PORTS};
use super::super::super::{list, text};
use super::super::{Held, addresses, believed_ips, is_mirror, said_ips};
use super::{LIAR, OWN};

/// With a NIC; the fourth has none, and the liar may have none.
const HONEST: [&str; 2] = ["n3", "n4"];
const NAMESPACES: [&str; 3] = ["a", "b", "c"];

/// What the API holds.
pub struct Cluster {
    dice: Dice,
    pub items: Vec<Value>,
    /// Nodes that have one.
    nics: Vec<&'static str>,
    uids: usize,
    pub lies: usize,
}

fn node_number(node: &str) -> &str {
    &node[1..]
}

fn node(name: &str, uid: usize) -> Value {
    let zone = format!("z{}", node_number(name));
    json!({"kind": "Node", "metadata": {"name": name, "uid": format!("n{uid}"),
        "labels": {"topology.kubernetes.io/zone": zone}}})
}

/// Of the Node of this uid.
fn range(node: &str, uid: &Value) -> Value {
    let number = node_number(node);
    json!({"kind": "NodeRange", "metadata": {"name": node}, "status": {
        "nodeUid": uid,
        "ranges": [format!("10.{number}.0.0/24"), format!("fd00:{number}::/64")],
        "addresses": [format!("192.0.2.{number}")]}})
}

impl Cluster {
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let mut nics = vec![OWN, "n3"];
        nics.extend(dice.one_in(2).then_some(LIAR));
        let mut items: Vec<Value> = (nics.iter())
            .map(|it| json!({"kind": "NicNode", "metadata": {"name": it}, "spec": {"nodeName": it}}))
            .collect();
        // Of a cluster of which nobody knows the ranges, those without a NIC have no peers.
        let has_ranges = !dice.one_in(4);
        for name in [OWN, LIAR, "n3", "n4"] {
            let node = node(name, 0);
            items.extend(has_ranges.then(|| range(name, &node["metadata"]["uid"])));
            items.push(node);
        }
        // Something for lies to matter to: Services that policies allow as long as all their backends are pods.
        for namespace in NAMESPACES {
            items.push(json!({"kind": "Namespace", "metadata": {"name": namespace, "labels": {"app": "p"}}}));
            items.push(json!({"kind": "NetworkPolicy",
                "metadata": {"namespace": namespace, "name": "to-pods", "uid": format!("to-pods-{namespace}")},
                "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"namespaceSelector": {}}]}]}}));
        }
        let mut cluster = Self { dice, items, nics, uids: 0, lies: 0 };
        for _ in 0..8 {
            cluster.make_pod();
            cluster.attach();
            cluster.attach();
            cluster.kubelet();
            cluster.kubelet();
            cluster.other("Service");
        }
        cluster.control_endpoints();
        cluster
    }

    fn pods(&self, of: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.items.iter().filter(|it| it["kind"] == "Pod" && of(it)).cloned().collect()
    }

    fn pick_pod(&mut self, of: impl Fn(&Value) -> bool) -> Option<Value> {
        let pods = self.pods(of);
        (!pods.is_empty()).then(|| self.dice.pick(&pods))
    }

    fn put(&mut self, item: Value) {
        random::put(&mut self.items, item);
    }

    /// Addresses that a node's NIC, or its kubelet where there is none, gives a pod.
    fn addresses(&mut self, node: &str) -> Vec<String> {
        let (number, host) = (node_number(node), 1 + self.dice.roll(6));
        let both = [format!("10.{number}.0.{host}"), format!("fd00:{number}::{host:x}")];
        both[..self.dice.pick(&[1, 2, 2])].to_vec()
    }

    pub fn step(&mut self) {
        match self.dice.roll(25) {
            0..4 => self.make_pod(),
            4..8 => self.attach(),
            8..10 => self.kubelet(),
            10..14 => self.lie(),
            14..16 => {
                let kind = self.dice.pick(&["Namespace", "Service", "Service", "Service", "NicNode"]);
                self.other(kind);
            }
            16 => self.toggle_range(),
            17 => self.register(),
            18 => {
                let gone = self.dice.roll(self.items.len());
                let is_lasting = ["Node", "NodeRange", "NicNode"].contains(&text(&self.items[gone]["kind"]));
                if !is_lasting {
                    self.items.remove(gone);
                }
            }
            19 => {
                let mut own = node(OWN, 0);
                own["metadata"]["labels"] = self.dice.pick(&[
                    json!({}),
                    json!({"topology.kubernetes.io/zone": "z1"}),
                    json!({"topology.kubernetes.io/zone": "z3"}),
                ]);
                self.put(own);
            }
            _ => self.other("NetworkPolicy"),
        }
        self.control_endpoints();
    }

    /// Under a name that a Node had; perhaps it is gone first. What was confirmed was so for that one.
    fn register(&mut self) {
        let name = self.dice.pick(&[LIAR, LIAR, "n3", "n4"]);
        self.uids += 1;
        let new = node(name, self.uids);
        if self.dice.one_in(4) {
            self.items.retain(|it| !random::is_same(it, &new));
        } else {
            self.put(new);
        }
    }

    fn node_uid(&self, name: &str) -> Value {
        let node = self.items.iter().find(|it| it["kind"] == "Node" && it["metadata"]["name"] == name);
        node.map(|it| it["metadata"]["uid"].clone()).unwrap_or_default()
    }

    /// Confirmed, or not any more.
    fn toggle_range(&mut self) {
        let node = self.dice.pick(&[LIAR, LIAR, "n3", "n4", "n4"]);
        let mut item = range(node, &self.node_uid(node));
        match self.items.iter().find(|it| random::is_same(it, &item)) {
            // All of it is refused.
            Some(known) if *known == item => item["status"] = json!({}),
            _ => {}
        }
        self.put(item);
    }

    fn other(&mut self, kind: &'static str) {
        match kind {
            // It comes and goes.
            "NicNode" => {
                let item = json!({"kind": kind, "metadata": {"name": "n4"}, "spec": {"nodeName": "n4"}});
                match self.items.iter().position(|it| random::is_same(it, &item)) {
                    Some(at) => drop(self.items.remove(at)),
                    None => self.put(item),
                }
            }
            "Service" => {
                let mut service = random::object(&mut self.dice, kind);
                // Of one label at most: it has backends.
                let labels = random::labels(&mut self.dice);
                let one = labels.as_object().unwrap().iter().take(1);
                service["spec"]["selector"] =
                    Value::Object(one.map(|(key, value)| (key.clone(), value.clone())).collect());
                self.put(service);
            }
            kind => {
                let item = random::object(&mut self.dice, kind);
                self.put(item);
            }
        }
    }

    /// By a user, on the node that the scheduler chose; perhaps in the place of one that was deleted.
    fn make_pod(&mut self) {
        self.uids += 1;
        let namespace = self.dice.pick(&NAMESPACES);
        let name = format!("it-{}", self.dice.roll(4));
        let (labels, ports) = (random::labels(&mut self.dice), random::container_ports(&mut self.dice));
        let node = self.dice.pick(&[OWN, OWN, LIAR, LIAR, "n3", "n4"]);
        let host_network = self.dice.one_in(8);
        self.put(json!({"kind": "Pod",
            "metadata": {"namespace": namespace, "name": name, "uid": format!("u-{}", self.uids), "labels": labels},
            "spec": {"nodeName": node, "hostNetwork": host_network, "containers": [{"ports": ports}]},
            "status": {"phase": "Pending"}}));
    }

    /// A NIC attaches a pod of its own node, or detaches one that may be gone already.
    fn attach(&mut self) {
        if self.dice.one_in(5) {
            let attachments = self.items.iter().filter(|it| it["kind"] == "PodAttachment");
            let attachments: Vec<Value> = attachments.cloned().collect();
            if !attachments.is_empty() {
                let gone = self.dice.pick(&attachments);
                self.items.retain(|it| *it != gone);
            }
            return;
        }
        let nics = self.nics.clone();
        let is_held = |it: &Value| {
            nics.iter().any(|nic| it["spec"]["nodeName"] == **nic)
                && it["spec"]["hostNetwork"] != true
                && !is_mirror(it)
        };
        let Some(pod) = self.pick_pod(is_held) else { return };
        let node = text(&pod["spec"]["nodeName"]);
        let ips = self.addresses(node);
        let metadata = &pod["metadata"];
        self.put(json!({"kind": "PodAttachment",
            "metadata": {"namespace": metadata["namespace"], "name": format!("{}-eth0", text(&metadata["name"]))},
            "spec": {"pod": {"name": metadata["name"], "uid": metadata["uid"]}, "interface": "eth0", "nodeName": node,
                "vf": {"pf": 0, "vf": 1}},
            "status": {"ips": ips}}));
    }

    /// An honest one.
    fn kubelet(&mut self) {
        let nodes = [OWN, HONEST[0], HONEST[1]];
        let of_honest = |it: &Value| nodes.iter().any(|node| it["spec"]["nodeName"] == **node);
        let Some(mut pod) = self.pick_pod(of_honest) else { return };
        let node = text(&pod["spec"]["nodeName"]).to_owned();
        let uid = &pod["metadata"]["uid"];
        let attachment =
            self.items.iter().find(|it| it["kind"] == "PodAttachment" && it["spec"]["pod"]["uid"] == *uid);
        let ips: Vec<String> = match attachment {
            _ if pod["spec"]["hostNetwork"] == true => vec![format!("192.0.2.{}", node_number(&node))],
            Some(it) => list(&it["status"]["ips"]).iter().map(|it| text(it).to_owned()).collect(),
            None if self.nics.contains(&node.as_str()) => Vec::new(),
            None => self.addresses(&node),
        };
        pod["status"] = self.status(&ips);
        self.put(pod);
    }

    fn status(&mut self, ips: &[String]) -> Value {
        let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        json!({"phase": self.dice.pick(&["Running", "Running", "Running", "Succeeded"]), "podIPs": ips,
            "conditions": [{"type": "Ready", "status": self.dice.pick(&["True", "True", "False"])}]})
    }

    /// Everything that NodeRestriction leaves to the node.
    fn lie(&mut self) {
        self.lies += 1;
        let ips: Vec<String> = (0..self.dice.roll(3))
            .map(|_| {
                let (node, host) = (1 + self.dice.roll(5), 1 + self.dice.roll(6));
                self.dice.pick(&[
                    format!("10.{node}.0.{host}"),
                    format!("10.{node}.0.{host}"),
                    format!("10.2.0.{host}"),
                    format!("fd00:{node}::{host:x}"),
                    format!("192.0.2.{node}"),
                    "10.9.0.1".to_owned(),
                    format!("10.96.0.{host}"),
                    format!("010.{node}.0.{host}"),
                    format!("::ffff:10.{node}.0.{host}"),
                ])
            })
            .collect();
        if self.dice.one_in(8) {
            let uid = match self.node_uid(LIAR) {
                // It registers.
                Value::Null => {
                    self.uids += 1;
                    json!(format!("n{}", self.uids))
                }
                uid => uid,
            };
            return self.put(json!({"kind": "Node", "metadata": {"name": LIAR, "uid": uid},
                "spec": {"podCIDRs": ["10.1.0.0/25", "10.3.0.0/16"]},
                "status": {"addresses": ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect::<Value>()}}));
        }
        if self.dice.one_in(3) {
            return self.mirror(&ips);
        }
        let Some(mut pod) = self.pick_pod(|it| it["spec"]["nodeName"] == LIAR) else { return };
        pod["status"] = self.status(&ips);
        pod["metadata"]["finalizers"] = json!(["example/never"]);
        let annotations = json!({"k8s.ovn.org/pod-networks":
            "{\"default\":{\"ip_addresses\":[\"10.3.0.1/24\"],\"mac_address\":\"0a:00:00:00:00:01\"}}"});
        for (key, value) in annotations.as_object().unwrap() {
            pod["metadata"]["annotations"][key] = value.clone();
        }
        if self.dice.one_in(6) {
            let items = std::mem::take(&mut self.items);
            self.items = items.into_iter().filter(|it| !random::is_same(it, &pod)).collect();
            return;
        }
        self.put(pod);
    }

    /// In any namespace, under any name that is free, with any labels.
    fn mirror(&mut self, ips: &[String]) {
        let name = format!("it-{}", self.dice.roll(6));
        let namespace = self.dice.pick(&NAMESPACES);
        let mut metadata =
            json!({"namespace": namespace, "name": name, "labels": random::labels(&mut self.dice)});
        if self.dice.one_in(2) {
            metadata["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
        } else {
            metadata["ownerReferences"] =
                json!([{"apiVersion": "v1", "kind": "Node", "name": LIAR, "uid": "n"}]);
        }
        self.uids += 1;
        metadata["uid"] = format!("m-{}", self.uids).into();
        // Perhaps with an address that its node may have, and all that makes a good backend.
        let status = if self.dice.one_in(2) {
            let ips: Vec<Value> = self.addresses(LIAR).iter().map(|ip| json!({"ip": ip})).collect();
            json!({"phase": "Running", "podIPs": ips, "conditions": [{"type": "Ready", "status": "True"}]})
        } else {
            self.status(ips)
        };
        let pod = json!({"kind": "Pod", "metadata": metadata,
            "spec": {"nodeName": LIAR, "hostNetwork": self.dice.one_in(4),
                "containers": [{"ports": random::container_ports(&mut self.dice)}]},
            "status": status});
        let is_taken = |it: &Value| random::is_same(it, &pod) && !is_mirror(it);
        if !self.items.iter().any(is_taken) {
            self.put(pod);
        }
    }

    /// As the EndpointSlice controller does: whatever the pods' nodes say.
    fn control_endpoints(&mut self) {
        self.items.retain(|it| it["kind"] != "EndpointSlice");
        let slices = slices(&self.items);
        self.items.extend(slices);
    }

    pub fn held(&self) -> Held {
        let own = |it: &&Value| it["kind"] == "PodAttachment" && it["spec"]["nodeName"] == OWN;
        let of = |it: &Value| (text(&it["spec"]["pod"]["uid"]).to_owned(), addresses(&it["status"]["ips"]));
        self.items.iter().filter(own).map(of).collect()
    }

    /// The liar's pods replaced by what its NIC says, and its kubelet does not take back.
    pub fn honest(&self) -> Vec<Value> {
        let held = self.held();
        let truth = |item: &Value| match text(&item["kind"]) {
            "EndpointSlice" => None,
            "Node" => Some(json!({"kind": "Node",
                "metadata": {"name": item["metadata"]["name"], "uid": item["metadata"]["uid"],
                    "labels": item["metadata"]["labels"]}})),
            "Pod" if is_mirror(item) => None,
            "Pod" if item["spec"]["nodeName"] == LIAR => {
                let mut pod = item.clone();
                let said = said_ips(item);
                let ips = believed_ips(&self.items, item, OWN, &held);
                pod["status"]["podIPs"] = ips
                    .iter()
                    .filter(|it| said.contains(it))
                    .map(|it| json!({"ip": it.to_string()}))
                    .collect();
                let metadata = pod["metadata"].as_object_mut().unwrap();
                metadata.remove("annotations");
                metadata.remove("finalizers");
                Some(pod)
            }
            _ => Some(item.clone()),
        };
        let mut items: Vec<Value> = self.items.iter().filter_map(truth).collect();
        items.extend(slices(&items));
        items
    }
}

fn slices(items: &[Value]) -> Vec<Value> {
    let mut all = Vec::new();
    for service in items.iter().filter(|it| it["kind"] == "Service") {
        let Some(wanted) = service["spec"]["selector"].as_object() else { continue };
        let is_meant = |pod: &&Value| {
            pod["kind"] == "Pod"
                && pod["metadata"]["namespace"] == service["metadata"]["namespace"]
                && wanted.iter().all(|(key, value)| pod["metadata"]["labels"].get(key) == Some(value))
                && !["Succeeded", "Failed"].contains(&text(&pod["status"]["phase"]))
        };
        let target = service["spec"]["ports"][0].clone();
        for (family, is_v6) in [("IPv4", false), ("IPv6", true)] {
            let mut endpoints = Vec::new();
            for pod in items.iter().filter(is_meant) {
                let metadata = &pod["metadata"];
                let is_ready = pod["status"]["conditions"][0]["status"] == "True";
                let of_family = |it: &&Value| text(&it["ip"]).contains(':') == is_v6;
                for ip in list(&pod["status"]["podIPs"]).iter().filter(of_family) {
                    // Some terminate; and of some Services each is for its own zone.
                    let leaves = !is_ready && text(&metadata["uid"]).ends_with(['1', '4', '7']);
                    let zone = format!("z{}", node_number(text(&pod["spec"]["nodeName"])));
                    let hints = if text(&service["metadata"]["name"]).ends_with(['1', '3']) {
                        json!({"forZones": [{"name": zone}]})
                    } else {
                        Value::Null
                    };
                    endpoints.push(json!({"addresses": [ip["ip"]], "hints": hints,
                        "conditions": {"ready": is_ready, "serving": is_ready || leaves, "terminating": leaves},
                        "nodeName": pod["spec"]["nodeName"],
                        "targetRef": {"kind": "Pod", "namespace": metadata["namespace"], "name": metadata["name"],
                            "uid": metadata["uid"]}}));
                }
            }
            let name = text(&service["metadata"]["name"]);
            all.push(json!({"kind": "EndpointSlice", "addressType": family,
                "metadata": {"namespace": service["metadata"]["namespace"], "name": format!("{name}-{family}"),
                    "labels": {"kubernetes.io/service-name": name}},
                "endpoints": endpoints,
                "ports": [{"name": target["name"], "protocol": target["protocol"], "port": PORTS[1]}]}));
        }
    }
    all
}
