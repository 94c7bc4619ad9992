//! The objects as Kubernetes writes them, and what becomes of them.

mod bounded;
mod network_policy;
mod word;

use std::collections::BTreeMap;
use std::net::IpAddr;

use lenient_json::Whole;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::object::{self, AddressKind, ObjectName, Protocol};

pub(super) use network_policy::Policy;
pub(super) use word::{NicNode, NodeName, NodeRange, PodAttachment};

#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(
        "{kind} {object}: {field} is {found:?}, which is no address; write one such as 10.0.0.1 or fd00::1"
    )]
    Address { kind: &'static str, object: ObjectName, field: &'static str, found: String },
    #[error("{kind} {object}: {field} is {found:?}; write TCP, UDP or SCTP")]
    Protocol { kind: &'static str, object: ObjectName, field: &'static str, found: String },
}

/// `null` and a missing field are the same to Kubernetes.
fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    name: String,
    /// Empty: of the cluster. `kubectl` fills it in; a file written by hand may leave it out.
    #[serde(default = "default_namespace")]
    namespace: String,
    #[serde(default)]
    uid: String,
    #[serde(default, deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    annotations: Annotations,
    #[serde(default, rename = "ownerReferences", deserialize_with = "or_default")]
    owners: Vec<Owner>,
}

#[derive(Debug, Default, Deserialize)]
struct Annotations {
    #[serde(default, rename = "kubernetes.io/config.mirror")]
    mirror: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
}

fn default_namespace() -> String {
    "default".to_owned()
}

impl Metadata {
    fn name(&self) -> ObjectName {
        ObjectName::new(self.namespace.as_str(), self.name.as_str())
    }

    /// NodeRestriction lets a node make pods of this kind only.
    fn is_mirror(&self) -> bool {
        let is_node = |it: &Owner| it.kind == "Node" && it.api_version == "v1";
        self.annotations.mirror.is_some() || self.owners.iter().any(is_node)
    }
}

/// The API takes more for an address than it should: what has leading zeros is read in two ways by different programs,
/// and an IPv4 address written as IPv6 is one that no packet has.
fn strict_address(text: &str) -> Option<IpAddr> {
    let ip = text.parse::<IpAddr>().ok()?;
    let is_mapped = matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    (!is_mapped).then_some(ip)
}

/// Those that can be read, and the first that cannot.
fn addresses<'a>(texts: impl IntoIterator<Item = &'a str>) -> (Vec<IpAddr>, Option<Box<str>>) {
    let (mut ips, mut unreadable) = (Vec::new(), None);
    for text in texts {
        match strict_address(text) {
            Some(ip) => ips.push(ip),
            None => drop(unreadable.get_or_insert_with(|| text.into())),
        }
    }
    (ips, unreadable)
}

fn address(
    kind: &'static str,
    object: &ObjectName,
    field: &'static str,
    text: &str,
) -> Result<IpAddr, ReadError> {
    text.parse().map_err(|_| ReadError::Address {
        kind,
        object: object.clone(),
        field,
        found: text.to_owned(),
    })
}

fn protocol(
    kind: &'static str,
    object: &ObjectName,
    field: &'static str,
    text: Option<&str>,
) -> Result<Protocol, ReadError> {
    let Some(text) = text else { return Ok(Protocol::Tcp) };
    Protocol::from_name(text).ok_or_else(|| ReadError::Protocol {
        kind,
        object: object.clone(),
        field,
        found: text.to_owned(),
    })
}

#[derive(Debug, Deserialize)]
pub(super) struct Pod {
    metadata: Metadata,
    spec: PodSpec,
    #[serde(default, deserialize_with = "or_default")]
    status: PodStatus,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    #[serde(default, deserialize_with = "or_default")]
    node_name: String,
    #[serde(default, deserialize_with = "or_default")]
    host_network: bool,
    #[serde(default, deserialize_with = "or_default")]
    containers: Vec<Container>,
    #[serde(default, deserialize_with = "or_default")]
    init_containers: Vec<Container>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default, deserialize_with = "or_default")]
    ports: Vec<ContainerPort>,
    /// `Always` makes an init container a sidecar, which runs along with the others.
    restart_policy: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerPort {
    name: Option<String>,
    #[serde(rename = "containerPort", default)]
    number: Whole,
    protocol: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct PodStatus {
    #[serde(default, deserialize_with = "or_default")]
    phase: String,
    #[serde(default, rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(default, rename = "podIPs", deserialize_with = "or_default")]
    pod_ips: Vec<PodIp>,
}

#[derive(Debug, Deserialize)]
struct PodIp {
    ip: String,
}

impl TryFrom<Pod> for object::Pod {
    type Error = ReadError;

    fn try_from(raw: Pod) -> Result<Self, ReadError> {
        let name = raw.metadata.name();
        let sidecars =
            raw.spec.init_containers.iter().filter(|it| it.restart_policy.as_deref() == Some("Always"));
        let mut ports = Vec::new();
        for port in raw.spec.containers.iter().chain(sidecars).flat_map(|it| &it.ports) {
            let (Some(port_name), Some(number)) = (&port.name, port.number.port()) else { continue };
            ports.push(object::NamedPort {
                name: port_name.as_str().into(),
                protocol: protocol(
                    "Pod",
                    &name,
                    "spec.containers[].ports[].protocol",
                    port.protocol.as_deref(),
                )?,
                port: number,
            });
        }
        // `podIPs` holds `podIP`, wherever the API server is not older than that.
        let texts: Vec<String> = if raw.status.pod_ips.is_empty() {
            raw.status.pod_ip.into_iter().filter(|it| !it.is_empty()).collect()
        } else {
            raw.status.pod_ips.into_iter().map(|it| it.ip).collect()
        };
        let (ips, unreadable) = addresses(texts.iter().map(String::as_str));
        let of_labels = raw.metadata.labels.iter().map(|(key, value)| key.len() + value.len());
        let of_ports = ports.iter().map(|it| size_of_val(it) + it.name.len());
        let bytes: usize = of_labels.chain(of_ports).sum();
        let mirror = raw.metadata.is_mirror();
        let unkept = Some(bytes).filter(|it| *it > Self::MOST_BYTES);
        let labels = if unkept.is_some() { BTreeMap::new() } else { raw.metadata.labels };
        if unkept.is_some() {
            ports = Vec::new();
        }
        Ok(Self {
            name,
            mirror,
            uid: raw.metadata.uid.into(),
            labels: labels.into_iter().collect(),
            node: raw.spec.node_name.into(),
            host_network: raw.spec.host_network,
            finished: matches!(raw.status.phase.as_str(), "Succeeded" | "Failed"),
            ips,
            unreadable,
            ports: ports.into(),
            unkept,
        })
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Namespace {
    metadata: Metadata,
}

impl From<Namespace> for object::Namespace {
    fn from(raw: Namespace) -> Self {
        Self { name: raw.metadata.name.into(), labels: raw.metadata.labels.into_iter().collect() }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Service {
    metadata: Metadata,
    spec: ServiceSpec,
}

#[derive(Debug, Deserialize)]
struct ServiceSpec {
    #[serde(default, rename = "type", deserialize_with = "or_default")]
    kind: String,
    #[serde(default, rename = "clusterIP", deserialize_with = "or_default")]
    cluster_ip: String,
    #[serde(default, rename = "clusterIPs", deserialize_with = "or_default")]
    cluster_ips: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    ports: Vec<ServicePort>,
}

#[derive(Debug, Deserialize)]
struct ServicePort {
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    protocol: Option<String>,
    #[serde(default)]
    port: Whole,
}

impl TryFrom<Service> for object::Service {
    type Error = ReadError;

    fn try_from(raw: Service) -> Result<Self, ReadError> {
        let name = raw.metadata.name();
        let texts = match raw.spec.kind.as_str() {
            "ExternalName" => Vec::new(),
            _ if raw.spec.cluster_ips.is_empty() => vec![raw.spec.cluster_ip],
            _ => raw.spec.cluster_ips,
        };
        let cluster_ips = texts
            .iter()
            .filter(|it| !it.is_empty() && *it != "None")
            .map(|it| address("Service", &name, "spec.clusterIPs[]", it))
            .collect::<Result<_, _>>()?;
        let port = |it: ServicePort| {
            let port = it.port.port()?;
            let protocol = protocol("Service", &name, "spec.ports[].protocol", it.protocol.as_deref());
            Some(protocol.map(|protocol| object::ServicePort { name: it.name.into(), protocol, port }))
        };
        let ports = raw.spec.ports.into_iter().filter_map(port).collect::<Result<Vec<_>, _>>()?;
        let ports_found = ports.len();
        Ok(Self { name, cluster_ips, ports, ports_found })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EndpointSlice {
    metadata: Metadata,
    address_type: String,
    #[serde(default, deserialize_with = "or_default")]
    endpoints: Vec<Endpoint>,
    #[serde(default, deserialize_with = "or_default")]
    ports: Vec<EndpointPort>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    #[serde(default, deserialize_with = "or_default")]
    addresses: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    conditions: Conditions,
    target_ref: Option<TargetRef>,
}

#[derive(Debug, Deserialize)]
struct TargetRef {
    #[serde(default, deserialize_with = "or_default")]
    kind: String,
    #[serde(default, deserialize_with = "or_default")]
    namespace: String,
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    #[serde(default, deserialize_with = "or_default")]
    uid: String,
}

impl TargetRef {
    fn pod(self, namespace: &str) -> Option<object::Target> {
        let of = if self.namespace.is_empty() { namespace } else { &self.namespace };
        let pod = ObjectName::new(of, self.name.as_str());
        (self.kind == "Pod").then(|| object::Target { pod, uid: self.uid.into() })
    }
}

#[derive(Debug, Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct EndpointPort {
    #[serde(default, deserialize_with = "or_default")]
    name: String,
    protocol: Option<String>,
    /// Missing: all ports, which no Service port can mean; kube-proxy skips it, too. The API server takes any number, also
    /// one that no packet has: that port is skipped, not the slice.
    #[serde(default)]
    port: Whole,
}

impl TryFrom<EndpointSlice> for object::EndpointSlice {
    type Error = ReadError;

    fn try_from(raw: EndpointSlice) -> Result<Self, ReadError> {
        let name = raw.metadata.name();
        let kind = if raw.address_type == "FQDN" { AddressKind::Fqdn } else { AddressKind::Ip };
        let mut unreadable = None;
        let mut endpoints = Vec::with_capacity(raw.endpoints.len());
        for it in raw.endpoints {
            let ips = match kind {
                AddressKind::Fqdn => Vec::new(),
                AddressKind::Ip => {
                    let (ips, wrong) = addresses(it.addresses.iter().map(String::as_str));
                    unreadable = unreadable.or(wrong);
                    ips
                }
            };
            let target = it.target_ref.and_then(|it| it.pod(&name.namespace));
            let ready = it.conditions.ready.unwrap_or(true);
            endpoints.push(object::Endpoint { addresses: ips, ready, target });
        }
        let mut ports = Vec::new();
        for it in raw.ports {
            let Some(port) = it.port.port() else { continue };
            let protocol = protocol("EndpointSlice", &name, "ports[].protocol", it.protocol.as_deref())?;
            ports.push(object::EndpointPort { name: it.name.into(), protocol, port });
        }
        let service = raw.metadata.labels.get("kubernetes.io/service-name").map(|it| it.as_str().into());
        Ok(Self { name, service, kind, endpoints, ports, unreadable, is_cut: false })
    }
}
