//! Kubernetes' JSON, read: only the fields that matter here, so that the rest is not even kept while it is read.
//!
//! A type for each kind ([`raw`]), and what it means for the plan. None of them fails: what makes no sense is left out by
//! itself. Services and their slices are read by [`kube_services`], as in the agent; of the other kinds its policy compiler
//! reads other fields (labels, container ports, selectors), and takes the addresses of each pod, which here are OVN's to
//! give.

mod raw;

use std::net::IpAddr;

use drawbridge_api::{
    Condition, ConditionStatus, NodeRange, NodeRangeSpec, NodeRangeStatus, conditions as nic_conditions,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube_services::ZONE;
use lenient_json::{List, Part, Scalar, Text};

pub use raw::{
    AttachmentObject, NicNodeObject, NodeObject, PodObject, RangeObject, ServiceObject, SliceObject,
};
use raw::{AttachmentStatus, RangeCondition, Resources};

use super::{Attached, Change, Managed, NicHealth, NicNode, Node, ObjectName, Pod};
use crate::taint;

/// How a pod asks for a VF: prefixes of the names of extended resources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VfResources(pub Vec<String>);

impl VfResources {
    fn has(&self, resources: &Resources) -> bool {
        let named = |name: &str| self.0.iter().any(|prefix| name.starts_with(prefix.as_str()));
        // Extended resources cannot be overcommitted: a request without a limit is refused, a limit implies a request.
        let mut all = resources.limits.iter().chain(&*resources.requests);
        all.any(|(name, amount)| named(name) && !is_none(amount))
    }
}

/// Of an extended resource a quantity is a whole number, as a text or not; only whether it is zero matters.
fn is_none(amount: &Scalar) -> bool {
    match amount {
        Scalar::Text(text) => text.trim_matches('0').is_empty(),
        Scalar::Number(number) => *number == 0,
        Scalar::Flag(_) | Scalar::Other => true,
    }
}

fn texts(list: List<Text>) -> Vec<String> {
    list.into_iter().map(|it| it.0).collect()
}

/// An object that is watched.
pub trait Watched: Sized {
    /// What it means that it is as it is.
    fn present(self, resources: &VfResources) -> Option<Change>;
    /// What it means that it is not there.
    fn absent(namespace: Option<&str>, name: &str) -> Option<Change>;
}

/// By which kubelet says that a pod is the mirror of a static one. Whoever makes pods can write it; a node must.
const MIRROR: &str = "kubernetes.io/config.mirror";

fn object_name(meta: &ObjectMeta) -> Option<ObjectName> {
    Some(ObjectName::new(meta.namespace.as_deref()?, meta.name.as_deref()?))
}

impl Watched for NodeObject {
    fn present(self, _: &VfResources) -> Option<Change> {
        let name = self.metadata.name?;
        let zone = self.metadata.labels.as_ref().and_then(|it| it.get(ZONE)).map(String::as_str);
        let spec = self.spec.0;
        let node = Node {
            uid: self.metadata.uid?.into(),
            nic_taint: spec.taints.iter().any(|taint| taint::is_ours(&taint.key, &taint.effect)),
            pod_cidrs: texts(spec.pod_cidrs),
            zone: zone.unwrap_or_default().into(),
        };
        Some(Change::Node(name.into(), Some(node)))
    }

    fn absent(_: Option<&str>, name: &str) -> Option<Change> {
        Some(Change::Node(name.into(), None))
    }
}

impl Watched for NicNodeObject {
    fn present(self, _: &VfResources) -> Option<Change> {
        let status = self.status.0;
        let health = health(&status);
        let nic_node = NicNode {
            node: (*self.spec.node_name).into(),
            management: self.spec.management_port.is_some(),
            static_pods: &*self.spec.static_pods == "Allowed",
            chassis: status.chassis.some().map(Into::into),
            managed: addresses(&status.management_port.ips)
                .map(|ips| Managed { mac: (*status.management_port.mac).into(), ips }),
            health,
        };
        Some(Change::NicNode(self.metadata.name?.into(), Some(nic_node)))
    }

    fn absent(_: Option<&str>, name: &str) -> Option<Change> {
        Some(Change::NicNode(name.into(), None))
    }
}

fn health(status: &raw::NicNodeStatus) -> NicHealth {
    let ready = status.conditions.iter().find(|it| &*it.kind == nic_conditions::READY);
    let message = ready.map_or("", |it| &*it.message);
    let message = message.get(..message.floor_char_boundary(NicHealth::LONGEST)).unwrap_or_default();
    NicHealth {
        ready: ready.is_some_and(|it| &*it.status == "True"),
        message: message.into(),
        heartbeat: Some(&*status.last_heartbeat_time).filter(|it| !it.is_empty()).map(Into::into),
    }
}

impl Watched for RangeObject {
    fn present(self, _: &VfResources) -> Option<Change> {
        let name = self.metadata.name.clone()?;
        let spec = self.spec.0;
        let status = self.status.map(|Part(status)| NodeRangeStatus {
            observed_generation: status.observed_generation.0,
            node_uid: status.node_uid.some(),
            ranges: texts(status.ranges),
            addresses: texts(status.addresses),
            conditions: status.conditions.into_iter().filter_map(|Part(it)| condition(it)).collect(),
        });
        let spec = NodeRangeSpec { ranges: texts(spec.ranges), addresses: texts(spec.addresses) };
        let range = NodeRange { metadata: self.metadata, status, ..NodeRange::new(&name, spec) };
        Some(Change::NodeRange(name.into(), Some(Box::new(range))))
    }

    fn absent(_: Option<&str>, name: &str) -> Option<Change> {
        Some(Change::NodeRange(name.into(), None))
    }
}

fn condition(raw: RangeCondition) -> Option<Condition> {
    let status = match &*raw.status {
        "True" => ConditionStatus::True,
        "False" => ConditionStatus::False,
        "Unknown" => ConditionStatus::Unknown,
        _ => return None,
    };
    Some(Condition {
        kind: raw.kind.0,
        status,
        observed_generation: raw.observed_generation.0,
        last_transition_time: raw.last_transition_time.0,
        reason: raw.reason.0,
        message: raw.message.0,
    })
}

/// What a port has: a list of which a part cannot be read says nothing at all.
fn addresses(ips: &[Text]) -> Option<Vec<IpAddr>> {
    let ips: Option<Vec<IpAddr>> = ips.iter().map(|ip| ip.parse().ok()).collect();
    ips.filter(|ips| !ips.is_empty())
}

impl Watched for AttachmentObject {
    fn present(self, _: &VfResources) -> Option<Change> {
        let name = object_name(&self.metadata)?;
        let AttachmentStatus { logical_port, mac, ips } = self.status.0;
        let spec = self.spec.0;
        let created = self.metadata.creation_timestamp.map(|time| time.0);
        // One that is not bound yet has nothing to keep.
        let attached = addresses(&ips).filter(|_| !mac.is_empty()).map(|ips| Attached {
            pod: (*spec.pod.name).into(),
            uid: (*spec.pod.uid).into(),
            node: (*spec.node_name).into(),
            logical_port: (*logical_port).into(),
            mac: (*mac).into(),
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
        let finished = matches!(&*self.status.phase, "Succeeded" | "Failed");
        let mut containers = self.spec.containers.iter().chain(&*self.spec.init_containers);
        let vf = containers.any(|container| resources.has(&container.resources));
        let mirror = is_mirror(&self.metadata);
        let host_network = self.spec.host_network.0.unwrap_or(false);
        let pod = match (self.metadata.uid, self.spec.0.node_name.some()) {
            (Some(uid), Some(node)) if !finished => {
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
        let service = Some(self.service).filter(|it| !it.cluster_ips.is_empty());
        Some(Change::Service(object_name(&self.metadata)?, service))
    }

    fn absent(namespace: Option<&str>, name: &str) -> Option<Change> {
        Some(Change::Service(ObjectName::new(namespace?, name), None))
    }
}

impl Watched for SliceObject {
    fn present(self, _: &VfResources) -> Option<Change> {
        let slice = Some(self.slice).filter(|it| it.service.is_some());
        Some(Change::Slice(object_name(&self.metadata)?, slice))
    }

    fn absent(namespace: Option<&str>, name: &str) -> Option<Change> {
        Some(Change::Slice(ObjectName::new(namespace?, name), None))
    }
}

#[cfg(test)]
mod tests;
