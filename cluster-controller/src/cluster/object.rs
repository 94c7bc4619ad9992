//! Kubernetes' JSON, read: only the fields that matter here, so that the rest is not even kept while it is read.
//!
//! A type for each kind, with kube's [`Resource`] for the watches, and what it means for the plan. The agent's policy
//! compiler has trimmed objects of its own (`nic-agent/src/policy/model`): it reads other fields of them (labels,
//! container ports, selectors), and takes the addresses of each pod, which here are OVN's to give.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use drawbridge_api::NodeRange;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::Deserialize;

use super::{
    Attached, Change, Endpoint, NicNode, Node, ObjectName, Pod, PodReference, Port, Protocol, Service, Slice,
};

/// How a pod asks for a VF: prefixes of the names of extended resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VfResources(pub Vec<String>);

impl VfResources {
    fn has(&self, resources: &Resources) -> bool {
        let named = |name: &str| self.0.iter().any(|prefix| name.starts_with(prefix.as_str()));
        // Extended resources cannot be overcommitted: a request without a limit is refused, a limit implies a request.
        resources
            .limits
            .iter()
            .chain(&resources.requests)
            .any(|(name, amount)| named(name) && !amount.is_none())
    }
}

/// An object that is watched.
pub trait Watched: Sized {
    /// What it means that it is as it is.
    fn present(self, resources: &VfResources) -> Option<Change>;
    /// What it means that it is not there.
    fn absent(namespace: Option<&str>, name: &str) -> Option<Change>;
}

macro_rules! resource {
    ($($name:ident: $group:literal, $version:literal, $kind:literal, $plural:literal, $scope:ident;)*) => {$(
        impl Resource for $name {
            type DynamicType = ();
            type Scope = k8s_openapi::$scope;
            fn kind((): &()) -> Cow<'_, str> {
                $kind.into()
            }
            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }
            fn version((): &()) -> Cow<'_, str> {
                $version.into()
            }
            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    )*};
}

resource! {
    NodeObject: "", "v1", "Node", "nodes", ClusterResourceScope;
    NicNodeObject: "drawbridge.dev", "v1alpha1", "NicNode", "nicnodes", ClusterResourceScope;
    PodObject: "", "v1", "Pod", "pods", NamespaceResourceScope;
    ServiceObject: "", "v1", "Service", "services", NamespaceResourceScope;
    AttachmentObject: "drawbridge.dev", "v1alpha1", "PodAttachment", "podattachments", NamespaceResourceScope;
    SliceObject: "discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", NamespaceResourceScope;
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NodeObject {
    metadata: ObjectMeta,
    spec: NodeSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NodeSpec {
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NicNodeObject {
    metadata: ObjectMeta,
    spec: NicNodeSpec,
    status: NicNodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NicNodeSpec {
    node: String,
    /// Which VF it is concerns the NIC alone.
    management_port: Option<serde::de::IgnoredAny>,
    static_pods: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NicNodeStatus {
    chassis: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct AttachmentObject {
    metadata: ObjectMeta,
    spec: AttachmentSpec,
    status: AttachmentStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct AttachmentSpec {
    pod: AttachedPod,
    node: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct AttachedPod {
    name: String,
    uid: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct AttachmentStatus {
    logical_port: String,
    mac: String,
    ips: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PodObject {
    metadata: ObjectMeta,
    spec: PodSpec,
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodSpec {
    node_name: Option<String>,
    host_network: bool,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Container {
    resources: Resources,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Resources {
    limits: BTreeMap<String, Amount>,
    requests: BTreeMap<String, Amount>,
}

/// A quantity. Of an extended resource it is a whole number, as a string or not; only whether it is zero matters.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Amount {
    Text(String),
    Number(f64),
}

impl Amount {
    fn is_none(&self) -> bool {
        match self {
            Self::Text(text) => text.trim_matches('0').is_empty(),
            Self::Number(number) => *number == 0.0,
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PodStatus {
    phase: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServiceObject {
    metadata: ObjectMeta,
    spec: ServiceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ServiceSpec {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    ports: Vec<ObjectPort>,
    session_affinity: String,
    session_affinity_config: Option<AffinityConfig>,
    internal_traffic_policy: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: Option<ClientIp>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ClientIp {
    timeout_seconds: Option<u32>,
}

/// A Service's port and an endpoint slice's, as far as they are one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ObjectPort {
    name: Option<String>,
    protocol: Option<Protocol>,
    port: Option<u16>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SliceObject {
    metadata: ObjectMeta,
    address_type: String,
    endpoints: Option<Vec<ObjectEndpoint>>,
    ports: Option<Vec<ObjectPort>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ObjectEndpoint {
    addresses: Vec<String>,
    conditions: Conditions,
    node_name: Option<String>,
    target_ref: Option<TargetReference>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct TargetReference {
    kind: String,
    namespace: Option<String>,
    name: String,
    uid: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

/// Seconds, where a Service asks for affinity and does not say how long (`DefaultClientIPServiceAffinitySeconds`).
const AFFINITY: u32 = 10_800;

/// What a label of this name says: another proxy than the cluster's own serves it.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";
const HEADLESS: &str = "service.kubernetes.io/headless";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// By which kubelet says that a pod is the mirror of a static one. Whoever makes pods can write it; a node must.
const MIRROR: &str = "kubernetes.io/config.mirror";

fn object_name(meta: &ObjectMeta) -> Option<ObjectName> {
    Some(ObjectName::new(meta.namespace.as_deref()?, meta.name.as_deref()?))
}

fn label<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(name).map(String::as_str)
}

impl Watched for NodeObject {
    fn present(self, _: &VfResources) -> Option<Change> {
        let name = self.metadata.name?;
        let node = Node { uid: self.metadata.uid?.into(), pod_cidrs: self.spec.pod_cidrs };
        Some(Change::Node(name.into(), Some(node)))
    }

    fn absent(_: Option<&str>, name: &str) -> Option<Change> {
        Some(Change::Node(name.into(), None))
    }
}

impl Watched for NicNodeObject {
    fn present(self, _: &VfResources) -> Option<Change> {
        let management = self.spec.management_port.is_some();
        let nic_node = NicNode {
            node: self.spec.node.into(),
            management,
            static_pods: self.spec.static_pods == "Allowed",
            chassis: self.status.chassis.filter(|name| !name.is_empty()).map(Into::into),
        };
        Some(Change::NicNode(self.metadata.name?.into(), Some(nic_node)))
    }

    fn absent(_: Option<&str>, name: &str) -> Option<Change> {
        Some(Change::NicNode(name.into(), None))
    }
}

impl Watched for NodeRange {
    fn present(self, _: &VfResources) -> Option<Change> {
        let name = self.metadata.name.clone()?;
        Some(Change::NodeRange(name.into(), Some(Box::new(self))))
    }

    fn absent(_: Option<&str>, name: &str) -> Option<Change> {
        Some(Change::NodeRange(name.into(), None))
    }
}

impl Watched for AttachmentObject {
    fn present(self, _: &VfResources) -> Option<Change> {
        let name = object_name(&self.metadata)?;
        let AttachmentStatus { logical_port, mac, ips } = self.status;
        // One of which a part cannot be read says nothing at all.
        let ips: Option<Vec<IpAddr>> = ips.iter().map(|ip| ip.parse().ok()).collect();
        let created = self.metadata.creation_timestamp.map(|time| time.0);
        // One that is not bound yet has nothing to keep.
        let attached = ips.filter(|ips| !mac.is_empty() && !ips.is_empty()).map(|ips| Attached {
            pod: self.spec.pod.name.into(),
            uid: self.spec.pod.uid.into(),
            node: self.spec.node.into(),
            logical_port: logical_port.into(),
            mac: mac.into(),
            ips,
            created,
        });
        Some(Change::Attachment(name, attached))
    }

    fn absent(namespace: Option<&str>, name: &str) -> Option<Change> {
        Some(Change::Attachment(ObjectName::new(namespace?, name), None))
    }
}

/// By the annotation, which a node must write that makes one (NodeRestriction), or by a Node as its owner, as kubelets
/// have it.
fn is_mirror(meta: &ObjectMeta) -> bool {
    let annotated = meta.annotations.as_ref().is_some_and(|it| it.contains_key(MIRROR));
    annotated || meta.owner_references.iter().flatten().any(|owner| owner.kind == "Node")
}

impl Watched for PodObject {
    fn present(self, resources: &VfResources) -> Option<Change> {
        let name = object_name(&self.metadata)?;
        let finished = matches!(self.status.phase.as_str(), "Succeeded" | "Failed");
        let mut containers = self.spec.containers.iter().chain(&self.spec.init_containers);
        let vf = containers.any(|container| resources.has(&container.resources));
        let mirror = is_mirror(&self.metadata);
        let host_network = self.spec.host_network;
        let pod = match (self.metadata.uid, self.spec.node_name) {
            (Some(uid), Some(node)) if !finished && !node.is_empty() => {
                Some(Pod { uid: uid.into(), node: node.into(), vf, host_network, mirror })
            }
            _ => None,
        };
        Some(Change::Pod(name, pod))
    }

    fn absent(namespace: Option<&str>, name: &str) -> Option<Change> {
        Some(Change::Pod(ObjectName::new(namespace?, name), None))
    }
}

impl Watched for ServiceObject {
    fn present(self, _: &VfResources) -> Option<Change> {
        let name = object_name(&self.metadata)?;
        let spec = self.spec;
        // "None" is no address: a headless Service has none of its own.
        let cluster_ips: Vec<IpAddr> = spec.cluster_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
        if spec.kind == "ExternalName"
            || cluster_ips.is_empty()
            || label(&self.metadata, OTHER_PROXY).is_some()
        {
            return Some(Change::Service(name, None));
        }
        let affinity = (spec.session_affinity == "ClientIP").then(|| {
            let configured =
                spec.session_affinity_config.and_then(|config| config.client_ip?.timeout_seconds);
            configured.unwrap_or(AFFINITY)
        });
        let ports = ports(spec.ports);
        let local = spec.internal_traffic_policy == "Local";
        Some(Change::Service(name, Some(Service { cluster_ips, ports, affinity, local })))
    }

    fn absent(namespace: Option<&str>, name: &str) -> Option<Change> {
        Some(Change::Service(ObjectName::new(namespace?, name), None))
    }
}

impl Watched for SliceObject {
    fn present(self, _: &VfResources) -> Option<Change> {
        let name = object_name(&self.metadata)?;
        let skipped = [OTHER_PROXY, HEADLESS].iter().any(|name| label(&self.metadata, name).is_some());
        let service = label(&self.metadata, SERVICE_NAME).filter(|service| !service.is_empty());
        let (Some(service), false) = (service, skipped) else { return Some(Change::Slice(name, None)) };
        let wants_v4 = match self.address_type.as_str() {
            "IPv4" => true,
            "IPv6" => false,
            _ => return Some(Change::Slice(name, None)), // FQDN: nothing a proxy could send to
        };
        let endpoints = self.endpoints.unwrap_or_default().into_iter();
        let endpoints = endpoints
            .filter_map(|it| endpoint(it, &name.namespace))
            .filter(|endpoint| endpoint.address.is_ipv4() == wants_v4);
        let slice = Slice {
            service: service.into(),
            ports: ports(self.ports.unwrap_or_default()),
            endpoints: endpoints.collect(),
        };
        Some(Change::Slice(name, Some(slice)))
    }

    fn absent(namespace: Option<&str>, name: &str) -> Option<Change> {
        Some(Change::Slice(ObjectName::new(namespace?, name), None))
    }
}

/// Ports without a number are left out, as kube-proxy does.
fn ports(ports: Vec<ObjectPort>) -> Vec<Port> {
    let port = |port: ObjectPort| {
        Some(Port {
            name: port.name.unwrap_or_default().into(),
            protocol: port.protocol.unwrap_or(Protocol::Tcp),
            number: port.port.filter(|number| *number != 0)?,
        })
    };
    ports.into_iter().filter_map(port).collect()
}

/// As kube-proxy reads it (pkg/proxy/endpointslicecache.go): the first address; what is not said is ready, serving and
/// not terminating.
fn endpoint(endpoint: ObjectEndpoint, namespace: &str) -> Option<Endpoint> {
    let pod = endpoint.target_ref.filter(|target| target.kind == "Pod").map(|target| PodReference {
        name: ObjectName::new(target.namespace.as_deref().unwrap_or(namespace), &target.name),
        uid: target.uid.into(),
    });
    // A Service's pods are of its own namespace.
    if pod.as_ref().is_some_and(|pod| *pod.name.namespace != *namespace) {
        return None;
    }
    Some(Endpoint {
        pod,
        address: endpoint.addresses.first()?.parse().ok()?,
        node: endpoint.node_name.map(Into::into),
        ready: endpoint.conditions.ready.unwrap_or(true),
        serving: endpoint.conditions.serving.unwrap_or(true),
        terminating: endpoint.conditions.terminating.unwrap_or(false),
    })
}

#[cfg(test)]
mod tests;
