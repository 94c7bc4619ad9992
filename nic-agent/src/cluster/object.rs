//! What is kept of an object on its way in: the policy compiler's own types, and of a pod the little that a claim needs.
//!
//! An object that cannot be read must not hide the others of its kind, so receiving one never fails: reading it says what is
//! wrong. Nor may one that is large beyond measure take the memory that the others need.

mod bounded;
mod json;

use std::borrow::Cow;
use std::fmt::Debug;
use std::net::IpAddr;

use drawbridge_api::{GROUP, VERSION};
use kube::Resource;
use kube::core::{ClusterResourceScope, ObjectMeta};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use self::bounded::Bounded;
use self::json::Json;
use crate::directory::PodRecord;
use crate::policy::{EndpointSlice, Namespace, ObjectName, Pod, Policy, Service, Word};
use crate::profile::cms;

/// The kinds that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    EndpointSlices,
    Namespaces,
    NetworkPolicies,
    NicNodes,
    NodeRanges,
    Nodes,
    /// This NIC's, alone and in full.
    OwnNode,
    PodAttachments,
    Pods,
    Services,
}

impl Kind {
    /// As the API's paths have it.
    pub const fn path(self) -> &'static str {
        match self {
            Self::OwnNode => "nodes",
            other => other.plural(),
        }
    }

    /// For people, each kind another.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::EndpointSlices => "endpointslices",
            Self::Namespaces => "namespaces",
            Self::NetworkPolicies => "networkpolicies",
            Self::NicNodes => "nicnodes",
            Self::NodeRanges => "noderanges",
            Self::Nodes => "nodes",
            Self::OwnNode => "own-node",
            Self::PodAttachments => "podattachments",
            Self::Pods => "pods",
            Self::Services => "services",
        }
    }

    /// May the cluster do without it? Its CRD may not be there.
    pub const fn is_optional(self) -> bool {
        matches!(self, Self::NicNodes | Self::NodeRanges | Self::PodAttachments)
    }
}

/// An object's content, trimmed.
#[derive(Debug, Clone)]
pub enum Content {
    EndpointSlice(EndpointSlice),
    Namespace(Namespace),
    NetworkPolicy(Policy),
    /// The addresses of the node's own.
    OwnNode(Vec<IpAddr>),
    Pod(Box<(Pod, PodRecord)>),
    Service(Service),
    Word(Word),
}

/// How a kind is found in the API, and read.
pub trait Watched: Clone + Debug + Send + Sync + 'static {
    const KIND: Kind;
    const GROUP: &'static str;
    const VERSION: &'static str;
    /// As in `kind:`.
    const NAME: &'static str;
    /// Nothing but its metadata is asked for.
    const METADATA_ONLY: bool = false;

    fn read(object: &Value) -> Result<Content, serde_json::Error>;
}

macro_rules! watched {
    ($marker:ident, $kind:ident, $group:expr, $version:expr, $name:literal, $read:expr) => {
        #[derive(Debug, Clone)]
        pub struct $marker;

        impl Watched for $marker {
            const KIND: Kind = Kind::$kind;
            const GROUP: &'static str = $group;
            const VERSION: &'static str = $version;
            const NAME: &'static str = $name;

            fn read(object: &Value) -> Result<Content, serde_json::Error> {
                $read(object)
            }
        }
    };
}

watched!(Pods, Pods, "", "v1", "Pod", pod);
watched!(Namespaces, Namespaces, "", "v1", "Namespace", |it| Ok(Content::Namespace(read(it)?)));
watched!(Services, Services, "", "v1", "Service", |it| Ok(Content::Service(read(it)?)));
watched!(OwnNode, OwnNode, "", "v1", "Node", |it| Ok(Content::OwnNode(node_addresses(it))));
watched!(NetworkPolicies, NetworkPolicies, "networking.k8s.io", "v1", "NetworkPolicy", |it| Ok(
    Content::NetworkPolicy(read(it)?)
));
watched!(EndpointSlices, EndpointSlices, "discovery.k8s.io", "v1", "EndpointSlice", |it| Ok(
    Content::EndpointSlice(read(it)?)
));
watched!(PodAttachments, PodAttachments, GROUP, VERSION, "PodAttachment", |it| word(it, Word::Attachment));
watched!(NicNodes, NicNodes, GROUP, VERSION, "NicNode", |it| word(it, Word::Nic));
watched!(NodeRanges, NodeRanges, GROUP, VERSION, "NodeRange", |it| word(it, Word::Range));

/// Who has a node's name now. Nodes are large, and written often for what is of no interest here.
#[derive(Debug, Clone)]
pub struct Nodes;

impl Watched for Nodes {
    const KIND: Kind = Kind::Nodes;
    const GROUP: &'static str = "";
    const VERSION: &'static str = "v1";
    const NAME: &'static str = "Node";
    const METADATA_ONLY: bool = true;

    fn read(object: &Value) -> Result<Content, serde_json::Error> {
        word(object, Word::Node)
    }
}

fn word<T: DeserializeOwned>(object: &Value, of: fn(T) -> Word) -> Result<Content, serde_json::Error> {
    Ok(Content::Word(of(read(object)?)))
}

fn read<T: DeserializeOwned>(object: &Value) -> Result<T, serde_json::Error> {
    T::deserialize(object)
}

fn pod(object: &Value) -> Result<Content, serde_json::Error> {
    let pod: Pod = read(object)?;
    let record = PodRecord {
        uid: pod.uid.to_string(),
        namespace: pod.name.namespace.to_string(),
        name: pod.name.name.to_string(),
        node: pod.node.to_string(),
        host_network: pod.host_network,
        mirror: pod.mirror,
        static_uid: if pod.mirror {
            text(object, "/metadata/annotations/kubernetes.io~1config.hash").to_owned()
        } else {
            String::new()
        },
        phase: text(object, "/status/phase").to_owned(),
        annotations: cms_annotations(object),
    };
    Ok(Content::Pod(Box::new((pod, record))))
}

/// One that is too long stays, cut: it is then not readable, and its reader says so.
fn cms_annotations(object: &Value) -> cms::Annotations {
    let all = object.pointer("/metadata/annotations");
    let of = |key: &str| {
        let text = all?.get(key)?.as_str()?;
        let end = text.floor_char_boundary(cms::LONGEST + 1);
        Some((key.to_owned(), text.get(..end).unwrap_or_default().to_owned()))
    };
    cms::READ.into_iter().filter_map(of).collect()
}

fn node_addresses(object: &Value) -> Vec<IpAddr> {
    let all = object.pointer("/status/addresses").and_then(Value::as_array);
    let is_address = |it: &&Value| matches!(text(it, "/type"), "InternalIP" | "ExternalIP");
    let mut ips: Vec<IpAddr> = (all.into_iter().flatten().filter(is_address))
        .filter_map(|it| text(it, "/address").parse().ok())
        .filter(|ip: &IpAddr| !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast()))
        .collect();
    ips.sort_unstable();
    ips.dedup();
    ips
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// An object as it comes in: who it is, and its text.
#[derive(Debug, Clone)]
pub struct Seen<K> {
    metadata: ObjectMeta,
    pub unread: Unread,
    kind: std::marker::PhantomData<K>,
}

impl<K> Seen<K> {
    pub fn name(&self) -> ObjectName {
        let text = |it: &Option<String>| it.as_deref().unwrap_or_default().to_owned();
        ObjectName::new(text(&self.metadata.namespace), text(&self.metadata.name))
    }

    pub fn uid(&self) -> String {
        self.metadata.uid.clone().unwrap_or_default()
    }

    pub fn version(&self) -> u64 {
        self.metadata.resource_version.as_deref().and_then(|it| it.parse().ok()).unwrap_or(0)
    }
}

impl<'de, K: Watched> Deserialize<'de> for Seen<K> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let json = Json::deserialize(from)?;
        let metadata = json.metadata();
        Ok(Self { metadata, unread: Unread { json, read: read_whole::<K> }, kind: std::marker::PhantomData })
    }
}

/// What an object says. Reading it takes far longer than receiving it, and waits until nothing newer can be read instead.
#[derive(Debug, Clone)]
pub struct Unread {
    json: Json,
    read: fn(&Json) -> Result<Content, String>,
}

impl Unread {
    /// In bytes.
    pub fn size(&self) -> usize {
        self.json.text.len()
    }

    /// `Err`: why it cannot be read.
    pub fn read(&self) -> Result<Content, String> {
        (self.read)(&self.json)
    }
}

fn read_whole<K: Watched>(json: &Json) -> Result<Content, String> {
    let Bounded { value: mut object, mut is_cut } =
        serde_json::from_str(&json.text).map_err(|e| e.to_string())?;
    is_cut |= json.is_cut;
    if is_cut {
        trim(&mut object);
    }
    let mut content = K::read(&object);
    if content.is_err() && is_cut && K::KIND == Kind::NetworkPolicies {
        // Its selector was cut, too: everybody in the namespace, rather than nobody.
        if let Some(selector) = object.pointer_mut("/spec/podSelector") {
            *selector = Value::Null;
        }
        content = K::read(&object);
    }
    match content.map_err(|e| e.to_string()) {
        Ok(content) if is_cut => cut(content),
        content => content,
    }
}

/// Of what was cut lists may be there in part, and be no lists of anything that can be read.
fn trim(object: &mut Value) {
    for at in ["/spec/ingress", "/spec/egress", "/spec/ports", "/endpoints", "/ports"] {
        if let Some(list) = object.pointer_mut(at) {
            *list = Value::Array(Vec::new());
        }
    }
}

/// What is missing may be what denies, so it denies by itself. `Err`: what it said before stays.
fn cut(content: Content) -> Result<Content, String> {
    match content {
        Content::NetworkPolicy(mut policy) => {
            policy.cut();
            Ok(Content::NetworkPolicy(policy))
        }
        Content::Service(service) => {
            Ok(Content::Service(Service { ports_found: Policy::MOST_ITEMS + 1, ..service }))
        }
        Content::EndpointSlice(slice) => Ok(Content::EndpointSlice(EndpointSlice { is_cut: true, ..slice })),
        _ => Err("it has too many fields to be read; make several objects of it".to_owned()),
    }
}

impl<K: Watched> Resource for Seen<K> {
    type DynamicType = ();
    // Watched in all namespaces; only pods are asked for one by one, by path.
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::NAME.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        K::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        K::VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::KIND.path().into()
    }

    fn metadata_api() -> bool {
        K::METADATA_ONLY
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen<K: Watched>(object: Value) -> Seen<K> {
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn a_pod_is_trimmed_to_what_is_needed() {
        let pod = seen::<Pods>(json!({
            "metadata": {"namespace": "shop", "name": "web-0", "uid": "u1", "resourceVersion": "42",
                "labels": {"app": "web"}, "managedFields": [{"manager": "kubectl"}],
                "annotations": {"other": "long"}},
            "spec": {"nodeName": "server1", "hostNetwork": null,
                "containers": [{"name": "c", "image": "i", "env": [], "ports": [{"name": "http", "containerPort": 80}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}}));
        assert_eq!((pod.name().to_string(), pod.version()), ("shop/web-0".to_owned(), 42));
        let Content::Pod(content) = pod.unread.read().unwrap() else { panic!() };
        let (pod, record) = *content;
        assert_eq!((pod.ips.len(), pod.ports.len(), pod.labels.get("app")), (2, 1, Some("web")));
        assert_eq!(
            (record.uid.as_str(), record.node.as_str(), record.phase.as_str()),
            ("u1", "server1", "Running")
        );
    }

    #[test]
    fn what_cannot_be_read_says_so_and_has_a_name() {
        let pod = seen::<Pods>(json!({"metadata": {"namespace": "a", "name": "b", "resourceVersion": "7"},
            "spec": {"containers": "ten"}}));
        assert_eq!((pod.name().to_string(), pod.version()), ("a/b".to_owned(), 7));
        assert!(pod.unread.read().unwrap_err().contains("ten"));
        assert!(seen::<Namespaces>(json!({"metadata": 5})).unread.read().is_err());
    }

    #[test]
    fn what_is_too_large_to_be_read_denies() {
        let rules = vec![json!({"ports": [{"port": 1}]}); 68_000];
        let policy = seen::<NetworkPolicies>(json!({
            "metadata": {"namespace": "a", "name": "p", "uid": "u", "resourceVersion": "7"},
            "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": rules, "policyTypes": ["Ingress"]}}));
        let Ok(Content::NetworkPolicy(policy)) = policy.unread.read() else { panic!() };
        assert!(policy.isolates.ingress && policy.ingress.is_empty() && policy.unkept.ingress.is_some());
        let many = |item: Value| vec![item; 68_000];
        let expression = json!({"key": "app", "operator": "In", "values": ["web"]});
        let policy = seen::<NetworkPolicies>(json!({"metadata": {"namespace": "a", "name": "p"},
            "spec": {"egress": many(json!({"ports": [{"port": 1}]})), "podSelector": {"matchExpressions": [expression]},
                "policyTypes": ["Egress"]}}));
        let Ok(Content::NetworkPolicy(policy)) = policy.unread.read() else { panic!() };
        assert!(policy.isolates.egress && policy.egress.is_empty());
        assert_eq!(policy.selector, crate::policy::Selector::everything());
        let port = json!({"name": "p", "protocol": "TCP", "port": 1});
        let service = seen::<Services>(json!({"metadata": {"namespace": "a", "name": "s"},
            "spec": {"clusterIPs": ["10.0.0.1"], "ports": many(port.clone())}}));
        let Ok(Content::Service(service)) = service.unread.read() else { panic!() };
        assert_eq!((service.cluster_ips.len(), service.ports.len()), (1, 0));
        assert!(service.ports_found > 10_000);
        let slice = seen::<EndpointSlices>(json!({"metadata": {"namespace": "a", "name": "s-1",
            "labels": {"kubernetes.io/service-name": "s"}}, "addressType": "IPv4", "ports": [port],
            "endpoints": many(json!({"addresses": ["10.0.0.1"], "conditions": {"ready": true}}))}));
        let Ok(Content::EndpointSlice(slice)) = slice.unread.read() else { panic!() };
        assert!(slice.is_cut && slice.service.as_deref() == Some("s"));
        let pod = json!({"metadata": {"namespace": "a", "name": "p"},
            "spec": {"containers": many(json!({"ports": []}))}});
        assert!(seen::<Pods>(pod).unread.read().is_err());
    }

    #[test]
    fn a_node_has_the_addresses_that_can_be_one() {
        let address = |kind: &str, address: &str| json!({"type": kind, "address": address});
        let node = seen::<OwnNode>(json!({"metadata": {"name": "n"}, "status": {"addresses": [
            address("Hostname", "10.0.0.9"), address("InternalIP", "10.0.0.1"), address("InternalIP", "fd00::1"),
            address("ExternalIP", "10.0.0.1"), address("InternalIP", "0.0.0.0"), address("InternalIP", "x")]}}));
        let Ok(Content::OwnNode(ips)) = node.unread.read() else { panic!() };
        assert_eq!(ips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1", "fd00::1"]);
    }
}
