//! What a CMS writes on a pod of its interface, in annotations: prefix lengths, gateways, routes. Pure.
//!
//! An annotation is no identity: who makes the pod may write it, and so may its node (`pods/status`). So it says nothing of
//! what the pod may send or hear. MAC and IPs are the southbound's; the annotation is used only where it has the same ones
//! ([`PodNetwork::is_of`]), and only for what the pod's own interface gets inside of its own network namespace. Its boundary
//! goes by the profile alone ([`super::on_link`]).
//!
//! Failure: a part that cannot be read is left out and said ([`PodNetwork::remarks`]), the rest counts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use lenient_json::{Dict, List, Part, Text};
use offload::ids::MacAddr;
use serde::Deserialize;

use crate::attachment::Binding;
use crate::config::ProfileKind;

/// ovn-kubernetes, `go-controller/pkg/util/pod_annotation.go`.
const POD_NETWORKS: &str = "k8s.ovn.org/pod-networks";
/// Kube-OVN, `pkg/util/const.go`.
const ALLOCATED: &str = "ovn.kubernetes.io/allocated";
const MAC_ADDRESS: &str = "ovn.kubernetes.io/mac_address";
const IP_ADDRESS: &str = "ovn.kubernetes.io/ip_address";
const CIDR: &str = "ovn.kubernetes.io/cidr";
const GATEWAY: &str = "ovn.kubernetes.io/gateway";
const ROUTES: &str = "ovn.kubernetes.io/routes";

/// Which annotations are kept of a pod.
pub const READ: [&str; 7] = [POD_NETWORKS, ALLOCATED, MAC_ADDRESS, IP_ADDRESS, CIDR, GATEWAY, ROUTES];

/// Bytes of one annotation. ovn-kubernetes' of a pod with two networks and four routes is 600.
pub const LONGEST: usize = 16 << 10;
/// Of addresses, gateways and routes each.
const MOST: usize = 64;
/// Of what is said about one pod, and bytes of a text that stands in it.
const REMARKS: usize = 8;
const SHOWN: usize = 64;

/// Annotations of a pod, those of [`READ`] alone.
pub type Annotations = BTreeMap<String, String>;

/// A route; without a gateway its destination is on the link.
pub type Route = (IpNet, Option<IpAddr>);

/// What the CMS says of a pod's interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodNetwork {
    /// The annotation that says so.
    pub source: &'static str,
    pub mac: Option<MacAddr>,
    /// With the lengths of their prefixes.
    pub addresses: Vec<IpNet>,
    pub gateways: Vec<IpAddr>,
    pub routes: Vec<Route>,
    /// What could not be read, for people.
    pub remarks: Vec<String>,
}

/// Is the annotation there, and does it say anything? `None` also for a profile that reads none.
fn read(kind: &ProfileKind, annotations: &Annotations) -> Option<PodNetwork> {
    match kind {
        ProfileKind::OvnKubernetes => annotations.get(POD_NETWORKS).map(|text| ovn_kubernetes(text)),
        ProfileKind::KubeOvn => kube_ovn(annotations),
        ProfileKind::Plain { .. } => None,
    }
}

/// What the CMS says of an attachment's pod. A new one waits for it, as the southbound may be quicker than the API, where
/// the port shows that its CMS writes it: `Err` is the annotation's name. One that was answered before waits for nothing.
pub fn word(
    kind: &ProfileKind,
    annotations: Option<&Annotations>,
    is_new: bool,
    external_ids: impl FnOnce() -> Option<BTreeMap<String, String>>,
) -> Result<Option<PodNetwork>, &'static str> {
    let said = annotations.and_then(|it| read(kind, it));
    if said.is_some() || !is_new {
        return Ok(said);
    }
    match external_ids().and_then(|ids| awaited(kind, &ids)) {
        None => Ok(None),
        Some(key) => Err(key),
    }
}

/// Which annotation a port of this CMS waits for, as the CMS writes one for every port of its own. By the northbound's
/// `external_ids`, which northd copies: ovn-kubernetes `base_network_controller_pods.go` (`addLogicalPortToNetwork`),
/// Kube-OVN `pkg/ovs/ovn-nb-logical_switch_port.go` (`vendor`). Ports of others under such a name have none.
fn awaited(kind: &ProfileKind, external_ids: &BTreeMap<String, String>) -> Option<&'static str> {
    let says = |key: &str, value: &str| external_ids.get(key).is_some_and(|it| it == value);
    match kind {
        ProfileKind::OvnKubernetes if says("pod", "true") => Some(POD_NETWORKS),
        ProfileKind::KubeOvn if says("vendor", "kube-ovn") => Some(IP_ADDRESS),
        _ => None,
    }
}

impl PodNetwork {
    fn of(source: &'static str) -> Self {
        Self { source, ..Self::default() }
    }

    fn remark(&mut self, what: impl FnOnce() -> String) {
        if self.remarks.len() < REMARKS {
            self.remarks.push(what());
        }
    }

    /// Is it the port's? It must have the same MAC, and the same addresses, no more and no fewer.
    pub fn is_of(&self, binding: &Binding) -> bool {
        let said: BTreeSet<IpAddr> = self.addresses.iter().map(IpNet::addr).collect();
        let has: BTreeSet<IpAddr> = binding.ips.iter().copied().collect();
        self.mac == Some(binding.mac) && said == has
    }

    fn take<T>(&mut self, field: &str, text: &str, parsed: Option<T>, into: fn(&mut Self) -> &mut Vec<T>) {
        match parsed {
            Some(_) if into(self).len() >= MOST => self.remark(|| format!("{field}: more than {MOST}")),
            Some(parsed) => into(self).push(parsed),
            None => self.remark(|| format!("{field}: {} cannot be read", shown(text))),
        }
    }
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

fn unicast(text: &str) -> Option<IpAddr> {
    let ip: IpAddr = text.trim().parse().ok()?;
    let is_host = !(ip.is_unspecified() || ip.is_multicast() || ip.is_loopback());
    let is_mapped = matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    (is_host && !is_mapped).then_some(ip)
}

fn address(text: &str) -> Option<IpNet> {
    let net: IpNet = text.trim().parse().ok()?;
    unicast(&net.addr().to_string()).map(|_| net)
}

fn route(destination: &str, gateway: &str) -> Option<Route> {
    // A destination alone is a host.
    let host = || destination.trim().parse::<IpAddr>().ok().map(IpNet::from);
    let net: IpNet = destination.trim().parse().ok().or_else(host)?;
    let gateway = if gateway.is_empty() { None } else { Some(unicast(gateway)?) };
    let same = gateway.is_none_or(|it| it.is_ipv4() == net.addr().is_ipv4());
    (same && !net.trunc().addr().is_multicast()).then(|| (net.trunc(), gateway))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Network {
    ip_addresses: List<Text>,
    mac_address: Text,
    gateway_ips: List<Text>,
    routes: List<Part<NetworkRoute>>,
    /// Of before there were several.
    ip_address: Text,
    gateway_ip: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct NetworkRoute {
    dest: Text,
    #[serde(rename = "nextHop")]
    next_hop: Text,
}

/// A map of networks. `default` is the one whose port bears the pod's own name.
fn ovn_kubernetes(text: &str) -> PodNetwork {
    let mut network = PodNetwork::of(POD_NETWORKS);
    if text.len() > LONGEST {
        network.remark(|| format!("longer than {LONGEST} bytes"));
        return network;
    }
    let mut all: Dict<Part<Network>> = match serde_json::from_str(text) {
        Ok(all) => all,
        Err(error) => {
            network.remark(|| format!("not JSON: {error}"));
            return network;
        }
    };
    let Some(Part(said)) = all.0.remove("default") else {
        network.remark(|| "no network \"default\"".to_owned());
        return network;
    };
    network.mac = said.mac_address.parse().ok();
    let single = |many: &List<Text>, one: &Text| -> Vec<String> {
        let many = many.iter().map(|it| it.0.clone());
        let one = Some(one.0.clone()).filter(|it| !it.is_empty());
        if many.len() == 0 { one.into_iter().collect() } else { many.collect() }
    };
    for text in single(&said.ip_addresses, &said.ip_address) {
        network.take("ip_addresses", &text, address(&text), |it| &mut it.addresses);
    }
    for text in single(&said.gateway_ips, &said.gateway_ip) {
        network.take("gateway_ips", &text, unicast(&text), |it| &mut it.gateways);
    }
    for Part(it) in said.routes {
        // Default routes are gateways, ovn-kubernetes takes none here.
        let read = route(&it.dest, &it.next_hop).filter(|(net, _)| net.prefix_len() > 0);
        network.take("routes", &format!("{} {}", &*it.dest, &*it.next_hop), read, |it| &mut it.routes);
    }
    network
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KubeOvnRoute {
    dst: Text,
    gw: Text,
}

/// An annotation for each field, lists with commas: one of each family. Those of other networks have longer names.
fn kube_ovn(annotations: &Annotations) -> Option<PodNetwork> {
    let of = |key: &str| annotations.get(key).map(String::as_str).unwrap_or_default();
    // Until it is allocated, what stands there is what somebody asks for.
    if of(ALLOCATED) != "true" || of(IP_ADDRESS).is_empty() {
        return None;
    }
    let mut network = PodNetwork::of(IP_ADDRESS);
    if READ.iter().any(|key| of(key).len() > LONGEST) {
        network.remark(|| format!("longer than {LONGEST} bytes"));
        return Some(network);
    }
    network.mac = of(MAC_ADDRESS).trim().parse().ok();
    let list = |key| of(key).split(',').map(str::trim).filter(|it| !it.is_empty());
    let prefixes: Vec<IpNet> = list(CIDR).take(MOST).filter_map(|it| it.parse().ok()).collect();
    for text in list(IP_ADDRESS) {
        let with_prefix = unicast(text).and_then(|ip| {
            let of = prefixes.iter().find(|net| net.contains(&ip));
            of.map_or_else(|| Some(IpNet::from(ip)), |net| IpNet::new(ip, net.prefix_len()).ok())
        });
        network.take(IP_ADDRESS, text, with_prefix, |it| &mut it.addresses);
    }
    for text in list(GATEWAY) {
        network.take(GATEWAY, text, unicast(text), |it| &mut it.gateways);
    }
    let routes = Some(of(ROUTES)).filter(|it| !it.is_empty());
    let routes = routes.map(serde_json::from_str::<List<Part<KubeOvnRoute>>>);
    match routes.unwrap_or_else(|| Ok(List::default())) {
        Ok(routes) => {
            for Part(it) in routes {
                let read = route(&it.dst, &it.gw);
                network.take(ROUTES, &format!("{} {}", &*it.dst, &*it.gw), read, |it| &mut it.routes);
            }
        }
        Err(error) => network.remark(|| format!("{ROUTES}: not JSON: {error}")),
    }
    Some(network)
}

#[cfg(test)]
mod tests;
