//! Pods and namespaces.

use std::net::IpAddr;
use std::sync::Arc;

use kube_services::{ObjectName, Protocol};

use super::Labels;

/// A container's port that has a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NamedPort {
    pub name: Arc<str>,
    pub protocol: Protocol,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    pub name: Arc<str>,
    pub labels: Labels,
}
