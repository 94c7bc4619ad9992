//! The objects, as values that have been checked.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use lenient_json::Part;
use serde::{Deserialize, Deserializer};

use crate::raw;

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

/// A Service's port, or a slice's: an endpoint's port of the same name and protocol is its backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Empty if it has none.
    pub name: Arc<str>,
    pub protocol: Protocol,
    /// Not 0.
    pub number: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Part<raw::Service>")]
pub struct Service {
    pub name: ObjectName,
    /// None of a headless Service, of one of type ExternalName, and of one that another proxy serves
    /// (`service.kubernetes.io/service-proxy-name`).
    pub cluster_ips: Vec<IpAddr>,
    pub ports: Vec<Port>,
    /// How many there are, should somebody keep fewer.
    pub ports_found: usize,
    /// Seconds for which a client stays with its endpoint.
    pub affinity: Option<u32>,
    /// `internalTrafficPolicy: Local`: only endpoints of the client's node.
    pub local: bool,
    /// The first thing that could not be read, and is left out: which field, what it is, what to write.
    pub fault: Option<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(from = "Part<raw::EndpointSlice>")]
pub struct EndpointSlice {
    pub name: ObjectName,
    /// Label `kubernetes.io/service-name`. None: it backs no ClusterIP, as without the label, with one that says that it is
    /// a headless Service's or another proxy's, and of type FQDN.
    pub service: Option<Arc<str>>,
    /// All of one version of IP.
    pub endpoints: Vec<Endpoint>,
    pub ports: Vec<Port>,
    /// As of a [`Service`].
    pub fault: Option<Box<str>>,
    /// It was too much to be read: whatever it says, it says of too many.
    pub is_cut: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The first of `addresses`: the others mean nothing (the API's documentation of `Endpoint`).
    pub address: IpAddr,
    pub node: Option<Arc<str>>,
    /// The pod that it is said to be, of the slice's own namespace. None: somebody wrote the address by hand.
    pub target: Option<Target>,
    /// Not said: ready, serving, not terminating (the API's documentation of `EndpointConditions`).
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
    /// For whom it is meant; most say nothing.
    pub hints: Option<Box<Hints>>,
}

/// `endpoints[].hints`; Kubernetes allows 8 of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    pub zones: Vec<Arc<str>>,
    pub nodes: Vec<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub pod: ObjectName,
    /// Empty: not said.
    pub uid: Arc<str>,
}

/// For a watch, which needs more of its metadata.
#[derive(Clone, Debug)]
pub struct WithMetadata<T> {
    pub metadata: ObjectMeta,
    pub object: T,
}

macro_rules! with_metadata {
    ($($name:ident),*) => {$(
        impl<'de> Deserialize<'de> for WithMetadata<$name> {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let raw = Part::<raw::$name>::deserialize(from)?;
                Ok(Self { metadata: raw.metadata.clone(), object: raw.into() })
            }
        }
    )*};
}

with_metadata!(Service, EndpointSlice);
