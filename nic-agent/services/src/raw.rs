//! The objects as Kubernetes writes them: each field of any JSON ([`lenient_json`]), so that one object, or one port of it,
//! that is wrong hides no other.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use lenient_json::{Flag, List, Part, Text, Whole};
use serde::Deserialize;

use crate::object::{self, Hints, ObjectName, Protocol, Target};

/// Of zones, and of nodes, that an endpoint is meant for.
const MOST_HINTS: usize = 8;
/// Seconds, where a Service asks for affinity and does not say how long (`DefaultClientIPServiceAffinitySeconds`).
const AFFINITY: u32 = 10_800;
/// What a label of this name says: another proxy than the cluster's own serves it.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";
const HEADLESS: &str = "service.kubernetes.io/headless";
const SERVICE_NAME: &str = "kubernetes.io/service-name";

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Service {
    #[serde(deserialize_with = "lenient_json::metadata")]
    pub(crate) metadata: ObjectMeta,
    spec: Part<Spec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "type")]
    kind: Text,
    #[serde(rename = "clusterIP")]
    cluster_ip: Text,
    #[serde(rename = "clusterIPs")]
    cluster_ips: List<Text>,
    ports: List<Part<PortObject>>,
    session_affinity: Text,
    session_affinity_config: Part<AffinityConfig>,
    internal_traffic_policy: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: Part<ClientIp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClientIp {
    timeout_seconds: Whole,
}

/// A Service's and a slice's, as far as they are one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PortObject {
    name: Text,
    protocol: Text,
    port: Whole,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EndpointSlice {
    #[serde(deserialize_with = "lenient_json::metadata")]
    pub(crate) metadata: ObjectMeta,
    address_type: Text,
    endpoints: List<Part<Endpoint>>,
    ports: List<Part<PortObject>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Endpoint {
    addresses: List<Text>,
    conditions: Part<Conditions>,
    node_name: Text,
    target_ref: Option<Part<TargetRef>>,
    hints: Part<RawHints>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Flag,
    serving: Flag,
    terminating: Flag,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TargetRef {
    kind: Text,
    namespace: Text,
    name: Text,
    uid: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RawHints {
    for_zones: List<Part<Hint>>,
    for_nodes: List<Part<Hint>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Hint {
    name: Text,
}

/// `kubectl` fills the namespace in; a file written by hand may leave it out.
fn name(meta: &ObjectMeta) -> ObjectName {
    let namespace = meta.namespace.as_deref().unwrap_or("default");
    ObjectName::new(namespace, meta.name.as_deref().unwrap_or_default())
}

fn label<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(name).map(String::as_str)
}

/// The API takes more for an address than it should: what has leading zeros is read in two ways by different programs,
/// and an IPv4 address written as IPv6 is one that no packet has.
pub fn strict_address(text: &str) -> Option<IpAddr> {
    let ip = text.parse::<IpAddr>().ok()?;
    let is_mapped = matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    (!is_mapped).then_some(ip)
}

fn wrong_address(field: &str, found: &str) -> Box<str> {
    format!("{field} is {found:?}, which is no address; write one such as 10.0.0.1 or fd00::1").into()
}

/// Those without a number are left out, as kube-proxy does; and those that no packet can have, which the API server takes
/// in an EndpointSlice.
fn ports(field: &str, list: List<Part<PortObject>>, fault: &mut Option<Box<str>>) -> Vec<object::Port> {
    let mut read = |Part(port): Part<PortObject>| {
        let found = &*port.protocol;
        let Some(protocol) = Protocol::from_name(if found.is_empty() { "TCP" } else { found }) else {
            fault.get_or_insert_with(|| {
                format!("{field}[].protocol is {found:?}; write TCP, UDP or SCTP").into()
            });
            return None;
        };
        Some(object::Port { name: (*port.name).into(), protocol, number: port.port.port()? })
    };
    list.into_iter().filter_map(&mut read).collect()
}

impl From<Part<Service>> for object::Service {
    fn from(Part(raw): Part<Service>) -> Self {
        let spec = raw.spec.0;
        let mut fault = None;
        let is_served = &*spec.kind != "ExternalName" && label(&raw.metadata, OTHER_PROXY).is_none();
        let texts = if spec.cluster_ips.is_empty() { vec![spec.cluster_ip] } else { spec.cluster_ips.0 };
        let texts = texts.iter().filter(|it| is_served && !it.is_empty() && &***it != "None");
        let mut cluster_ips = Vec::new();
        for text in texts {
            match strict_address(text) {
                Some(ip) => cluster_ips.push(ip),
                None => {
                    fault.get_or_insert_with(|| wrong_address("spec.clusterIPs[]", text));
                }
            }
        }
        let ports = ports("spec.ports", spec.ports, &mut fault);
        let configured = spec.session_affinity_config.client_ip.timeout_seconds.within();
        Self {
            name: name(&raw.metadata),
            cluster_ips,
            ports_found: ports.len(),
            ports,
            affinity: (&*spec.session_affinity == "ClientIP").then(|| configured.unwrap_or(AFFINITY)),
            local: &*spec.internal_traffic_policy == "Local",
            fault,
        }
    }
}

impl From<Part<EndpointSlice>> for object::EndpointSlice {
    fn from(Part(raw): Part<EndpointSlice>) -> Self {
        let name = name(&raw.metadata);
        let mut fault = None;
        let is_v4 = match &*raw.address_type {
            "IPv4" => Some(true),
            "IPv6" => Some(false),
            _ => None, // FQDN: nothing that a packet could be sent to
        };
        let is_others = [OTHER_PROXY, HEADLESS].iter().any(|name| label(&raw.metadata, name).is_some());
        let service = label(&raw.metadata, SERVICE_NAME).filter(|it| !it.is_empty() && !is_others);
        let (Some(service), Some(is_v4)) = (service, is_v4) else {
            let (endpoints, ports) = (Vec::new(), Vec::new());
            return Self { name, service: None, endpoints, ports, fault, is_cut: false };
        };
        let endpoints: Vec<_> = (raw.endpoints.into_iter())
            .filter_map(|Part(it)| endpoint(it, &name.namespace, &mut fault))
            .filter(|it| it.address.is_ipv4() == is_v4)
            .collect();
        let ports = ports("ports", raw.ports, &mut fault);
        Self { service: Some(service.into()), name, endpoints, ports, fault, is_cut: false }
    }
}

fn endpoint(raw: Endpoint, namespace: &str, fault: &mut Option<Box<str>>) -> Option<object::Endpoint> {
    let text = raw.addresses.first()?;
    let Some(address) = strict_address(text) else {
        fault.get_or_insert_with(|| wrong_address("endpoints[].addresses[]", text));
        return None;
    };
    let target = raw.target_ref.filter(|it| &*it.kind == "Pod");
    // A Service's pods are of its own namespace. An endpoint in another's would let whoever writes it use what the Service's
    // clients may reach (CVE-2021-25740).
    if target.as_ref().is_some_and(|it| !it.namespace.is_empty() && *it.namespace != *namespace) {
        return None;
    }
    let target =
        target.map(|it| Target { pod: ObjectName::new(namespace, &*it.name), uid: (*it.uid).into() });
    let names = |list: &List<Part<Hint>>| -> Vec<Arc<str>> {
        let names = list.iter().map(|it| &*it.name).filter(|it| !it.is_empty());
        names.take(MOST_HINTS).map(Into::into).collect()
    };
    let hints = Hints { zones: names(&raw.hints.for_zones), nodes: names(&raw.hints.for_nodes) };
    Some(object::Endpoint {
        address,
        node: raw.node_name.some().map(Into::into),
        target,
        ready: raw.conditions.ready.0.unwrap_or(true),
        serving: raw.conditions.serving.0.unwrap_or(true),
        terminating: raw.conditions.terminating.0.unwrap_or(false),
        hints: (hints != Hints::default()).then(|| Box::new(hints)),
    })
}
