//! Random clusters in which everything is scarce (three namespaces, three labels, a few ports), so that rules, pods and
//! Services meet. The same seed gives the same cluster.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

/// SplitMix64.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub fn roll(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.roll(n) == 0
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())].clone()
    }

    fn some<T>(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.roll(most + 1)).map(|_| make(self)).collect()
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.roll(at + 1));
        }
    }
}

const NAMESPACES: [&str; 3] = ["a", "b", "c"];
const KEYS: [&str; 3] = ["app", "tier", "x"];
const VALUES: [&str; 3] = ["p", "q", "r"];
const NAMES: [&str; 3] = ["http", "dns", "sig"];
pub const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
/// Rules and containers know these; 79 and 83 are nobody's.
pub const PORTS: [u16; 5] = [79, 80, 81, 82, 83];

pub fn labels(dice: &mut Dice) -> Value {
    let pairs = dice.some(3, |dice| (dice.pick(&KEYS).to_owned(), json!(dice.pick(&VALUES))));
    Value::Object(pairs.into_iter().collect())
}

fn selector(dice: &mut Dice) -> Value {
    let expression = |dice: &mut Dice| {
        let key = dice.pick(&KEYS);
        match dice.roll(4) {
            0 => json!({"key": key, "operator": "In", "values": [dice.pick(&VALUES), dice.pick(&VALUES)]}),
            1 => json!({"key": key, "operator": "NotIn", "values": [dice.pick(&VALUES)]}),
            2 => json!({"key": key, "operator": "Exists"}),
            _ => json!({"key": key, "operator": "DoesNotExist"}),
        }
    };
    match dice.roll(4) {
        0 => json!({}),
        1 => json!({"matchLabels": {dice.pick(&KEYS): dice.pick(&VALUES)}}),
        2 => json!({"matchExpressions": dice.some(2, expression)}),
        _ => {
            json!({"matchLabels": {dice.pick(&KEYS): dice.pick(&VALUES)}, "matchExpressions": [expression(dice)]})
        }
    }
}

/// Makes an ipBlock.
type Block<'a> = &'a dyn Fn(&mut Dice) -> Value;

/// Blocks of the addresses that [`object`] gives to pods.
fn known_block(dice: &mut Dice) -> Value {
    let (cidr, except) = dice.pick(&[
        ("0.0.0.0/0", vec!["10.0.0.0/8", "172.16.0.0/12"]),
        ("0.0.0.0/0", vec![]),
        ("10.0.0.0/29", vec![]),
        ("10.0.0.0/24", vec!["10.0.0.0/29", "10.0.0.2/32"]),
        ("10.0.0.4/32", vec![]),
        ("10.96.0.0/16", vec![]),
        ("fd00::/64", vec!["fd00::4/126"]),
        ("192.0.2.0/24", vec!["192.0.2.128/25"]),
    ]);
    json!({"cidr": cidr, "except": except})
}

/// A block around one of these addresses, without up to two blocks within it that are around one of them, too.
pub fn block_around(dice: &mut Dice, addresses: &[IpAddr]) -> Value {
    let around = |dice: &mut Dice| {
        let address = dice.pick(addresses);
        let lengths: &[u8] =
            if address.is_ipv4() { &[0, 16, 24, 28, 31, 32] } else { &[0, 64, 112, 124, 127, 128] };
        IpNet::new(address, dice.pick(lengths)).unwrap().trunc()
    };
    let block = around(dice);
    let except = dice.some(4, around);
    let is_within = |it: &IpNet| block.contains(it) && it.prefix_len() > block.prefix_len();
    let except: Vec<String> =
        except.iter().filter(|it| is_within(it)).take(2).map(ToString::to_string).collect();
    json!({"cidr": block.to_string(), "except": except})
}

fn peer(dice: &mut Dice, block: Block<'_>) -> Value {
    match dice.roll(5) {
        0 => json!({"podSelector": selector(dice)}),
        1 => json!({"namespaceSelector": selector(dice)}),
        2 => json!({"namespaceSelector": selector(dice), "podSelector": selector(dice)}),
        _ => json!({"ipBlock": block(dice)}),
    }
}

fn port(dice: &mut Dice) -> Value {
    let mut port = match dice.roll(5) {
        0 => json!({}),
        1 => json!({"port": 80, "endPort": 82}),
        2 => json!({"port": dice.pick(&NAMES)}),
        _ => json!({"port": dice.pick(&PORTS[1..4])}),
    };
    if !dice.one_in(3) {
        port["protocol"] = dice.pick(&PROTOCOLS).into();
    }
    port
}

fn rule(dice: &mut Dice, side: &str, block: Block<'_>) -> Value {
    let mut rule = json!({});
    if !dice.one_in(6) {
        rule[side] = vec![peer(dice, block), peer(dice, block)].into_iter().take(1 + dice.roll(2)).collect();
    }
    if !dice.one_in(3) {
        rule["ports"] = dice.some(2, port).into();
    }
    rule
}

/// Of a container: named ports, a name perhaps twice.
pub fn container_ports(dice: &mut Dice) -> Value {
    let ports = dice.some(3, |dice| {
        let (name, protocol) = (dice.pick(&NAMES), dice.pick(&PROTOCOLS));
        json!({"name": name, "protocol": protocol, "containerPort": dice.pick(&PORTS[1..4])})
    });
    ports.into()
}

/// `block` makes the ipBlocks.
pub fn policy(dice: &mut Dice, namespace: &str, name: &str, block: Block<'_>) -> Value {
    let mut spec = json!({"podSelector": selector(dice)});
    for (direction, side) in [("ingress", "from"), ("egress", "to")] {
        if !dice.one_in(3) {
            spec[direction] = dice.some(2, |dice| rule(dice, side, block)).into();
        }
    }
    if let Some(types) =
        dice.pick(&[None, Some(vec!["Ingress"]), Some(vec!["Egress"]), Some(vec!["Ingress", "Egress"])])
    {
        spec["policyTypes"] = types.into();
    }
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": name, "uid": format!("{namespace}-{name}")}, "spec": spec})
}

/// Of an endpoint.
pub fn conditions(dice: &mut Dice) -> Value {
    dice.pick(&[
        json!({}),
        json!({"ready": true}),
        json!({"ready": true, "serving": true, "terminating": false}),
        json!({"ready": false}),
        json!({"ready": false, "serving": false, "terminating": false}),
        json!({"ready": false, "serving": true, "terminating": true}),
        json!({"ready": false, "terminating": true}),
        json!({"ready": false, "serving": false, "terminating": true}),
    ])
}

/// One object, perhaps in the place of another of the same name.
pub fn object(dice: &mut Dice, kind: &str) -> Value {
    let namespace = dice.pick(&NAMESPACES);
    let number = dice.roll(6);
    let metadata =
        |labels: Value| json!({"namespace": namespace, "name": format!("it-{number}"), "labels": labels});
    match kind {
        "Namespace" => {
            json!({"kind": kind, "metadata": {"name": namespace, "labels": labels(dice)}})
        }
        "Pod" => {
            let mut metadata = metadata(labels(dice));
            // Sometimes it is another pod of the same name.
            metadata["uid"] = format!("{namespace}-{number}-{}", dice.roll(3) / 2).into();
            // Now and then two of them say that an address is theirs.
            let host = 1 + dice.roll(14);
            let ips = [json!({"ip": format!("10.0.0.{host}")}), json!({"ip": format!("fd00::{host:x}")})];
            let ips = &ips[..dice.pick(&[2, 2, 2, 1, 0])];
            let ports = container_ports(dice);
            json!({"kind": kind, "metadata": metadata,
                "spec": {"nodeName": dice.pick(&["n1", "n1", "n2"]), "hostNetwork": dice.one_in(12),
                    "containers": [{"ports": ports}]},
                "status": {"phase": dice.pick(&["Running", "Running", "Running", "Pending", "Running", "Succeeded"]),
                    "podIPs": ips}})
        }
        "NetworkPolicy" => policy(dice, namespace, &format!("it-{number}"), &known_block),
        "Service" => {
            let at = namespace.as_bytes()[0] - b'a';
            let ips = vec![format!("10.96.{at}.{number}"), format!("fd00:96:{at}::{number}")];
            let headless = dice.one_in(8);
            let mut port = json!({"port": dice.pick(&PORTS[1..4]), "name": dice.pick(&["", "web"])});
            if dice.one_in(2) {
                port["protocol"] = dice.pick(&PROTOCOLS).into();
            }
            let labels = if dice.one_in(12) {
                json!({"service.kubernetes.io/service-proxy-name": "another"})
            } else {
                json!({})
            };
            let traffic = dice.pick(&["Cluster", "Cluster", "Cluster", "Local"]);
            json!({"kind": kind, "metadata": metadata(labels),
                "spec": {"clusterIPs": if headless { vec!["None".to_owned()] } else { ips }, "ports": [port],
                    "internalTrafficPolicy": traffic}})
        }
        "EndpointSlice" => {
            let is_v4 = !dice.one_in(3);
            let hinted = dice.pick(&[&[][..], &[], &["forZones"], &["forNodes"], &["forZones", "forNodes"]]);
            let endpoints = dice.some(3, |dice| {
                let host = 1 + dice.roll(14);
                let address = if is_v4 { format!("10.0.0.{host}") } else { format!("fd00::{host:x}") };
                let mut endpoint = json!({"addresses": [address], "conditions": conditions(dice)});
                if dice.one_in(8) {
                    // Nobody uses the second.
                    let second = if is_v4 { "10.0.0.15" } else { "fd00::f" };
                    endpoint["addresses"].as_array_mut().unwrap().push(json!(second));
                }
                if !dice.one_in(4) {
                    endpoint["nodeName"] = json!(dice.pick(&["n1", "n2"]));
                }
                if dice.one_in(12) {
                    endpoint["targetRef"] = json!({"kind": "Pod", "namespace": "d", "name": "it-0"});
                }
                for (kind, names) in [("forZones", ["z1", "z2"]), ("forNodes", ["n1", "n2"])] {
                    if hinted.contains(&kind) && !dice.one_in(6) {
                        endpoint["hints"][kind] = json!([{"name": dice.pick(&names)}]);
                    }
                }
                endpoint
            });
            let port = |dice: &mut Dice| json!({"name": dice.pick(&["", "web"]), "port": dice.pick(&PORTS[1..4]), "protocol": dice.pick(&PROTOCOLS)});
            let service = format!("it-{}", dice.roll(6));
            let mut labels = json!({"kubernetes.io/service-name": service});
            if dice.one_in(12) {
                labels["service.kubernetes.io/headless"] = json!("");
            }
            json!({"kind": kind, "metadata": metadata(labels),
                "addressType": if is_v4 { "IPv4" } else { "IPv6" },
                "endpoints": endpoints, "ports": dice.some(3, port)})
        }
        other => panic!("kind {other}"),
    }
}

/// Two of them are one and the same object, perhaps at different times.
pub fn is_same(a: &Value, b: &Value) -> bool {
    a["kind"] == b["kind"]
        && a["metadata"]["name"] == b["metadata"]["name"]
        && a["metadata"]["namespace"] == b["metadata"]["namespace"]
}

pub fn put(items: &mut Vec<Value>, item: Value) {
    items.retain(|it| !is_same(it, &item));
    items.push(item);
}

pub fn kind(dice: &mut Dice) -> &'static str {
    dice.pick(&[
        "Pod",
        "Pod",
        "Pod",
        "NetworkPolicy",
        "NetworkPolicy",
        "Namespace",
        "Service",
        "EndpointSlice",
        "EndpointSlice",
    ])
}

pub fn items(dice: &mut Dice) -> Vec<Value> {
    let mut items = Vec::new();
    for _ in 0..20 + dice.roll(40) {
        let kind = kind(dice);
        put(&mut items, object(dice, kind));
    }
    items
}
