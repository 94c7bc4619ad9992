//! Pods, namespaces, Services and their endpoints.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use super::{Labels, raw};

/// Namespace and name. Displayed as Kubernetes' tools write it: `default/web`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ObjectName {
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// Kubernetes' own spelling, upper case only.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// A container's port that has a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    pub name: Arc<str>,
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "raw::Pod")]
pub struct Pod {
    pub name: ObjectName,
    pub uid: Arc<str>,
    pub labels: Labels,
    /// Empty: not scheduled.
    pub node: Arc<str>,
    pub host_network: bool,
    /// Its node made it by itself, in whatever namespace and with whatever labels it liked: annotation
    /// `kubernetes.io/config.mirror`, or a Node as owner.
    pub mirror: bool,
    /// Succeeded or Failed: never runs again, and its addresses may be another's by now.
    pub finished: bool,
    /// As it came in: `status.podIPs`. As the compiler has it: those that are believed ([`crate::policy::Trust`]).
    pub ips: Vec<IpAddr>,
    /// Something in `status.podIPs` that is no address.
    pub unreadable: Option<Box<str>>,
    /// In the order of the containers: of two with one name and protocol the first counts
    /// (`FindPort` in `pkg/api/v1/pod`).
    pub ports: Arc<[NamedPort]>,
    /// The bytes of labels and named ports, where there are more than [`Pod::MOST_BYTES`]: none of them are kept, and the
    /// pod is closed and nobody's peer.
    pub unkept: Option<usize>,
}

impl Pod {
    /// Of labels and named ports. Every agent of the cluster keeps those of every pod, and the API server takes objects of
    /// more than a megabyte. People write some hundred bytes.
    pub const MOST_BYTES: usize = 8 << 10;

    /// The port's number under this name.
    pub fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        find_port(&self.ports, name, protocol)
    }

    /// Does it have addresses that are a pod's, and policies of its own?
    pub fn is_networked(&self) -> bool {
        !self.host_network && !self.mirror && !self.finished
    }
}

pub(in crate::policy) fn find_port(ports: &[NamedPort], name: &str, protocol: Protocol) -> Option<u16> {
    ports.iter().find(|it| it.protocol == protocol && *it.name == *name).map(|it| it.port)
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "raw::Namespace")]
pub struct Namespace {
    pub name: Arc<str>,
    pub labels: Labels,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "raw::Service")]
pub struct Service {
    pub name: ObjectName,
    /// None of a headless Service or one of type ExternalName.
    pub cluster_ips: Vec<IpAddr>,
    /// All of them, or the first where they are too many.
    pub ports: Vec<ServicePort>,
    /// How many there are.
    pub ports_found: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    /// Empty if it has none; an endpoint's port of the same name is its backend.
    pub name: Arc<str>,
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "raw::EndpointSlice")]
pub struct EndpointSlice {
    pub name: ObjectName,
    /// Label `kubernetes.io/service-name`; a slice without it is nobody's.
    pub service: Option<Arc<str>>,
    pub kind: AddressKind,
    pub endpoints: Vec<Endpoint>,
    pub ports: Vec<EndpointPort>,
    /// Something in `endpoints[].addresses` that is no address.
    pub unreadable: Option<Box<str>>,
    /// It was too much to be read: whatever it says, it says of too many.
    pub is_cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressKind {
    Ip,
    /// Names, which no ClusterIP balances to.
    Fqdn,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub addresses: Vec<IpAddr>,
    /// Not said: ready (the API's documentation of `EndpointConditions`).
    pub ready: bool,
    /// The pod that it is said to be. None: somebody wrote the address by hand.
    pub target: Option<Target>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub pod: ObjectName,
    /// Empty: not said.
    pub uid: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    pub name: Arc<str>,
    pub protocol: Protocol,
    pub port: u16,
}
