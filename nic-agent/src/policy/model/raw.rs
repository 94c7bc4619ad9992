//! The objects as Kubernetes writes them, and what becomes of them.

mod bounded;
mod network_policy;
mod word;

use std::collections::BTreeMap;
use std::net::IpAddr;

use lenient_json::Whole;
use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny};

use kube_services::{ObjectName, Protocol, strict_address};

use super::{object, policy};

use network_policy::Policy;

/// The object is read as what Kubernetes writes, and made of that.
macro_rules! read_as {
    ($($raw:ty => $object:ty),+ $(,)?) => {$(
        impl<'de> serde::Deserialize<'de> for $object {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                <$raw as serde::Deserialize>::deserialize(from).map(Into::into)
            }
        }
    )+};
}
use read_as;

read_as! { Namespace => object::Namespace, Policy => policy::Policy }

impl<'de> Deserialize<'de> for object::Pod {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Pod::deserialize(from)?.try_into().map_err(D::Error::custom)
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
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
