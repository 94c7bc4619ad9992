//! What Kubernetes' NetworkPolicy allows, read naively from the objects' JSON. Written from the documentation
//! ("Network Policies", and the field descriptions of `networking.k8s.io/v1`) and from docs/policy.md where that leaves it
//! open; shares no code with the compiler, not even the reading of the objects.

pub mod nodes;
pub mod random;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

/// Objects as `kubectl get -o json` writes them, and the addresses from which the node reaches its pods.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub items: Vec<Value>,
    pub node_addresses: Vec<IpAddr>,
    /// Of the pods that are asked about, and the zone that it is in.
    pub node: String,
    pub zone: String,
}

/// The first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// "TCP", "UDP" or "SCTP", and the destination's port.
    Port(&'static str, u16),
    /// Any protocol without ports.
    Other,
}

/// What endpoints are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// Who gets a connection.
    Connections,
    /// docs/policy.md: the same; if nobody does, who may have one.
    Policy,
}

/// A ClusterIP's port, and the endpoints behind it.
struct ServicePort {
    ip: IpAddr,
    protocol: String,
    number: u64,
    backends: Vec<(IpAddr, u16)>,
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// "matchLabels and matchExpressions are ANDed"; "NotIn … also matches objects without the key".
fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = match selector["matchLabels"].as_object() {
        Some(wanted) => wanted.iter().all(|(key, value)| labels.get(key) == Some(value)),
        None => true,
    };
    equal
        && list(&selector["matchExpressions"]).iter().all(|it| {
            let value = labels.get(text(&it["key"]));
            let is_listed = value.is_some_and(|value| list(&it["values"]).contains(value));
            match text(&it["operator"]) {
                "In" => is_listed,
                "NotIn" => !is_listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                other => panic!("operator {other}"),
            }
        })
}

fn ips(pod: &Value) -> Vec<IpAddr> {
    list(&pod["status"]["podIPs"]).iter().map(|it| text(&it["ip"]).parse().unwrap()).collect()
}

fn is_of_the_pod_network(pod: &Value) -> bool {
    pod["spec"]["hostNetwork"] != true && !["Succeeded", "Failed"].contains(&text(&pod["status"]["phase"]))
}

fn protocol(of: &Value) -> &str {
    of["protocol"].as_str().unwrap_or("TCP")
}

fn named_port(pod: &Value, name: &str, wanted: &str) -> Option<u64> {
    let mut ports = list(&pod["spec"]["containers"]).iter().flat_map(|it| list(&it["ports"]));
    ports.find(|it| text(&it["name"]) == name && protocol(it) == wanted)?["containerPort"].as_u64()
}

impl Cluster {
    fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = &Value> {
        self.items.iter().filter(move |it| it["kind"] == kind)
    }

    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Value> {
        self.of_kind("Pod")
            .find(|it| it["metadata"]["namespace"] == namespace && it["metadata"]["name"] == name)
    }

    /// May the pod at `from` open this to `to`: both sides must allow it. Who is no pod is restricted by nothing here.
    pub fn allowed(&self, from: IpAddr, to: IpAddr, traffic: Traffic) -> bool {
        let at =
            |ip: IpAddr| self.of_kind("Pod").find(|it| is_of_the_pod_network(it) && ips(it).contains(&ip));
        at(from).is_none_or(|pod| self.may_send(pod, to, traffic))
            && at(to).is_none_or(|pod| self.may_receive(pod, from, traffic))
    }

    fn isolating<'a>(&'a self, pod: &'a Value, direction: &'static str) -> impl Iterator<Item = &'a Value> {
        self.of_kind("NetworkPolicy").filter(move |policy| {
            let spec = &policy["spec"];
            let types = list(&spec["policyTypes"]);
            // "If no policyTypes are specified then by default Ingress will always be set and Egress will be set if
            // the NetworkPolicy has any egress rules."
            let applies = if types.is_empty() {
                direction == "Ingress" || !list(&spec["egress"]).is_empty()
            } else {
                types.iter().any(|it| it == direction)
            };
            applies
                && policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
                && selects(&spec["podSelector"], &pod["metadata"]["labels"])
        })
    }

    fn peer_means(&self, policy: &Value, peer: &Value, pod: &Value) -> bool {
        if peer.get("ipBlock").is_some() {
            return false;
        }
        let (home, of_pod) = (&policy["metadata"]["namespace"], &pod["metadata"]["namespace"]);
        let in_scope = match peer.get("namespaceSelector") {
            None => home == of_pod,
            Some(selector) => self
                .of_kind("Namespace")
                .any(|it| it["metadata"]["name"] == *of_pod && selects(selector, &it["metadata"]["labels"])),
        };
        in_scope && peer.get("podSelector").is_none_or(|it| selects(it, &pod["metadata"]["labels"]))
    }

    fn rule_allows(
        &self,
        policy: &Value,
        rule: &Value,
        side: &str,
        own: &Value,
        ip: IpAddr,
        traffic: Traffic,
    ) -> bool {
        let peers = list(&rule[side]);
        let there: Vec<&Value> =
            self.of_kind("Pod").filter(|it| is_of_the_pod_network(it) && ips(it).contains(&ip)).collect();
        let meant: Vec<&Value> = there
            .into_iter()
            .filter(|pod| peers.is_empty() || peers.iter().any(|peer| self.peer_means(policy, peer, pod)))
            .collect();
        let within = |text: &Value| text.as_str().unwrap().parse::<IpNet>().unwrap().contains(&ip);
        let in_block = peers
            .iter()
            .filter_map(|it| it.get("ipBlock"))
            .any(|block| within(&block["cidr"]) && !list(&block["except"]).iter().any(within));
        if meant.is_empty() && !in_block && !peers.is_empty() {
            return false;
        }
        let ports = list(&rule["ports"]);
        if ports.is_empty() {
            return true;
        }
        let Traffic::Port(wanted, number) = traffic else { return false };
        let number = u64::from(number);
        ports.iter().filter(|it| protocol(it) == wanted).any(|it| match &it["port"] {
            Value::Null => true,
            Value::String(name) => {
                let receivers = if side == "from" { vec![own] } else { meant.clone() };
                receivers.iter().any(|pod| named_port(pod, name, wanted) == Some(number))
            }
            first => {
                let first = first.as_u64().unwrap();
                (first..=it["endPort"].as_u64().unwrap_or(first)).contains(&number)
            }
        })
    }

    /// What the pod's own policies say of what it starts.
    pub fn may_send(&self, pod: &Value, to: IpAddr, traffic: Traffic) -> bool {
        let policies: Vec<&Value> = self.isolating(pod, "Egress").collect();
        let rules =
            || policies.iter().flat_map(|it| list(&it["spec"]["egress"]).iter().map(move |rule| (*it, rule)));
        let by_rules = |ip, traffic| {
            rules().any(|(policy, rule)| self.rule_allows(policy, rule, "to", pod, ip, traffic))
        };
        let everything =
            rules().any(|(_, rule)| list(&rule["to"]).is_empty() && list(&rule["ports"]).is_empty());
        if policies.is_empty() || everything {
            return true;
        }
        if let Traffic::Port(wanted, number) = traffic
            && let Some(backends) = self.backends(to, wanted, number)
        {
            let own = ips(pod);
            return !backends.is_empty()
                && backends
                    .iter()
                    .all(|(ip, port)| own.contains(ip) || by_rules(*ip, Traffic::Port(wanted, *port)));
        }
        by_rules(to, traffic)
    }

    /// What the pod's own policies say of what reaches it.
    pub fn may_receive(&self, pod: &Value, from: IpAddr, traffic: Traffic) -> bool {
        let policies: Vec<&Value> = self.isolating(pod, "Ingress").collect();
        let own = ips(pod);
        policies.is_empty()
            || self.node_addresses.contains(&from)
            || self.is_own_service(&own, from, traffic)
            || policies.iter().any(|policy| {
                let rules = list(&policy["spec"]["ingress"]);
                rules.iter().any(|rule| self.rule_allows(policy, rule, "from", pod, from, traffic))
            })
    }

    /// "If the endpoints are not ready, those that are serving and terminating"; `internalTrafficPolicy`: "Local … only
    /// endpoints on the same node"; hints: "forNodes, forZones: the nodes, zones this endpoint should be consumed by", which
    /// count if every endpoint has them and one has ours.
    fn chosen<'a>(&self, service: &Value, endpoints: Vec<&'a Value>, of: For) -> Vec<&'a Value> {
        let local = service["spec"]["internalTrafficPolicy"] == "Local";
        let usable = endpoints.into_iter().filter(|it| !local || it["nodeName"] == *self.node);
        let usable: Vec<&Value> = usable.collect();
        let those = |wanted: &dyn Fn(&Value) -> bool| -> Vec<&'a Value> {
            usable.iter().copied().filter(|it| wanted(it)).collect()
        };
        let ready = those(&|it| it["conditions"]["ready"] != false);
        if !ready.is_empty() {
            for (hints, ours) in [("forNodes", &self.node), ("forZones", &self.zone)] {
                let named = |it: &Value| list(&it["hints"][hints]).to_vec();
                let meant = |it: &&&Value| named(it).iter().any(|it| text(&it["name"]) == ours);
                let all_say = !local && ready.iter().all(|it| !named(it).is_empty());
                if all_say && ready.iter().any(|it| meant(&it)) {
                    return ready.iter().filter(meant).copied().collect();
                }
            }
            return ready;
        }
        let leaving =
            those(&|it| it["conditions"]["serving"] != false && it["conditions"]["terminating"] == true);
        match of {
            For::Policy if leaving.is_empty() => usable,
            _ => leaving,
        }
    }

    /// Every Service port with its ClusterIP, number and backends.
    fn service_ports(&self, of: For) -> Vec<ServicePort> {
        let mut all = Vec::new();
        let is_ours = |it: &&Value| {
            it["spec"]["type"] != "ExternalName"
                && it["metadata"]["labels"].get("service.kubernetes.io/service-proxy-name").is_none()
        };
        for service in self.of_kind("Service").filter(is_ours) {
            for (ip, port) in list(&service["spec"]["clusterIPs"])
                .iter()
                .filter_map(|it| text(it).parse::<IpAddr>().ok())
                .flat_map(|ip| list(&service["spec"]["ports"]).iter().map(move |port| (ip, port)))
            {
                // Each endpoint as often as there are numbers for it.
                let mut endpoints = Vec::new();
                for slice in self.of_kind("EndpointSlice").filter(|it| {
                    let labels = &it["metadata"]["labels"];
                    it["metadata"]["namespace"] == service["metadata"]["namespace"]
                        && labels["kubernetes.io/service-name"] == service["metadata"]["name"]
                        && labels.get("service.kubernetes.io/headless").is_none()
                }) {
                    let is_same = |it: &&Value| {
                        text(&it["name"]) == text(&port["name"]) && protocol(it) == protocol(port)
                    };
                    for target in list(&slice["ports"]).iter().filter(is_same) {
                        for endpoint in list(&slice["endpoints"]) {
                            let of = &endpoint["targetRef"]["namespace"];
                            let is_foreign = !of.is_null() && *of != slice["metadata"]["namespace"];
                            let Some(first) = list(&endpoint["addresses"]).first() else { continue };
                            let address: IpAddr = text(first).parse().unwrap();
                            if address.is_ipv4() == ip.is_ipv4() && !is_foreign {
                                endpoints.push((endpoint, address, target["port"].as_u64().unwrap()));
                            }
                        }
                    }
                }
                let chosen = self.chosen(service, endpoints.iter().map(|it| it.0).collect(), of);
                let is_chosen = |it: &Value| chosen.iter().any(|chosen| std::ptr::eq(*chosen, it));
                let backends = endpoints.into_iter().filter(|(it, ..)| is_chosen(it));
                let backends: Vec<(IpAddr, u16)> =
                    backends.map(|(_, ip, number)| (ip, u16::try_from(number).unwrap())).collect();
                all.push(ServicePort {
                    ip,
                    protocol: protocol(port).to_owned(),
                    number: port["port"].as_u64().unwrap(),
                    backends,
                });
            }
        }
        all
    }

    /// `None`: no port of a Service.
    fn backends(&self, ip: IpAddr, wanted: &str, number: u16) -> Option<Vec<(IpAddr, u16)>> {
        let ports = self.service_ports(For::Policy);
        let port = ports
            .into_iter()
            .find(|it| it.ip == ip && it.protocol == wanted && it.number == u64::from(number));
        port.map(|it| it.backends)
    }

    /// Nothing keeps a pod from itself, also by way of a Service: then the source is the Service's address.
    fn is_own_service(&self, own: &[IpAddr], from: IpAddr, traffic: Traffic) -> bool {
        let Traffic::Port(wanted, number) = traffic else { return false };
        self.service_ports(For::Policy).iter().any(|port| {
            port.ip == from
                && port.protocol == wanted
                && port.backends.iter().any(|it| own.contains(&it.0) && it.1 == number)
        })
    }
}
