//! Whom the plan believes what: whose an address is, and which pods count.
//!
//! A pod's `status` is its server's to write, a NIC's PodAttachment that NIC's: each counts for that node's own pods, and
//! for addresses of that node's own ranges, at most.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Plan, node};
use crate::cluster::{Attached, Endpoint, Managed, ObjectName, Pod};
use crate::northbound::{Had, Said};

/// A node's NIC. Of several, what all of them say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Nic {
    /// Has the server a port of its own?
    pub(super) management: bool,
    /// Do static pods count?
    pub(super) static_pods: bool,
    /// Where ports are to be bound; unknown with several NICs.
    pub(super) chassis: Option<Arc<str>>,
    /// What the server's port has; unknown with several NICs.
    managed: Option<Managed>,
}

impl Plan {
    /// The node's NIC, if it has one.
    pub(super) fn nic(&self, node: &str) -> Option<Nic> {
        let names = self.nics_of.get(node).into_iter().flatten();
        let nics: Vec<_> = names.filter_map(|name| self.nic_nodes.get(name)).collect();
        let chassis: BTreeSet<_> = nics.iter().filter_map(|nic| nic.chassis.as_ref()).collect();
        (!nics.is_empty()).then(|| Nic {
            management: nics.iter().any(|nic| nic.management),
            static_pods: nics.iter().all(|nic| nic.static_pods),
            chassis: if nics.len() == 1 { chassis.first().map(|it| Arc::clone(it)) } else { None },
            managed: if let [nic] = nics.as_slice() { nic.managed.clone() } else { None },
        })
    }

    /// Is the pod one at all, for ports and Services?
    pub(super) fn counts(&self, pod: &Pod) -> bool {
        !pod.mirror || self.nic(&pod.node).is_some_and(|nic| nic.static_pods)
    }

    /// Can a pod of this node have it?
    fn is_of_pods(&self, node: &str, ip: IpAddr) -> bool {
        let ranges: Vec<_> = self.held.sole(node).collect();
        ranges.iter().any(|range| range.contains(&ip) && ip != range.network() && ip != range.broadcast())
            && !node::is_routers(&self.settings, &ranges, ip)
    }

    /// Does the NIC of the pod's own node say this of this very pod, and may it?
    fn is_believed(&self, pod: &Pod, attached: &Attached) -> bool {
        attached.uid == pod.uid
            && attached.node == pod.node
            && attached.ips.iter().all(|ip| self.is_of_pods(&pod.node, *ip))
    }

    fn attachments(&self, pod: &ObjectName) -> impl Iterator<Item = (&ObjectName, &Attached)> {
        let names = self.attachments_of.get(pod).into_iter().flatten();
        names.filter_map(|name| Some((name, self.attachments.get(name)?)))
    }

    /// What the pod's port had, should the northbound no longer know.
    pub(super) fn had(&self, name: &ObjectName, pod: &Pod, logical_port: &str) -> Option<Had> {
        let ranges: Vec<_> = self.held.sole(&pod.node).collect();
        let server = self.nic(&pod.node).and_then(|nic| nic.managed);
        let is_servers = |ip: &IpAddr| server.as_ref().is_some_and(|it| it.ips.contains(ip));
        let (_, attached) = self.attachments(name).find(|(own, it)| {
            // Where a NIC gives one address to two of its pods, neither gets it; nor a pod what is its server's.
            let is_shared = |ip: &IpAddr| self.sharers(own, &it.node, *ip).next().is_some();
            let shared = it.ips.iter().any(|ip| is_shared(ip) || is_servers(ip));
            *it.logical_port == *logical_port && self.is_believed(pod, it) && !shared
        })?;
        let mac = node::pods_mac(&self.settings, &ranges, &attached.mac)?;
        Some(Had { addresses: written(&mac, &attached.ips), said: Said::At(attached.created) })
    }

    /// What the server's own port had.
    pub(super) fn server_had(&self, node: &Arc<str>, nic: &Nic) -> Option<Had> {
        let managed = nic.managed.as_ref()?;
        let ranges: Vec<_> = self.held.sole(node).collect();
        if managed.ips.iter().any(|ip| !self.is_of_pods(node, *ip)) {
            return None;
        }
        let mac = node::pods_mac(&self.settings, &ranges, &managed.mac)?;
        Some(Had { addresses: written(&mac, &managed.ips), said: Said::Undated })
    }

    /// Other attachments of this NIC's that have this address.
    fn sharers(&self, own: &ObjectName, node: &str, ip: IpAddr) -> impl Iterator<Item = &ObjectName> {
        let all = self.attachments_by_ip.get(&ip).into_iter().flatten();
        all.filter(move |it| {
            *it != own && self.attachments.get(*it).is_some_and(|attached| *attached.node == *node)
        })
    }

    /// Does it answer at this address? Slices that are kept by hand say so themselves: no node can write them. Of the
    /// others, which are made of pods' statuses, it must be the pod's address by a word that is not its server's.
    pub(super) fn answers(&self, endpoint: &Endpoint) -> bool {
        let Some(target) = &endpoint.target else { return true };
        let Some(pod) = self.pods.get(&target.pod).filter(|pod| pod.uid == target.uid) else {
            return false;
        };
        if endpoint.node.as_ref().is_some_and(|node| *node != pod.node) || !self.counts(pod) {
            return false;
        }
        if pod.host_network {
            return self.addresses(&pod.node).any(|ip| ip == endpoint.address);
        }
        if self.nic(&pod.node).is_some() {
            self.attachments(&target.pod)
                .any(|(_, it)| it.ips.contains(&endpoint.address) && self.is_believed(pod, it))
        } else {
            self.is_of_pods(&pod.node, endpoint.address)
        }
    }

    /// The server's own, as confirmed.
    fn addresses(&self, node: &str) -> impl Iterator<Item = IpAddr> {
        self.confirmed(node).into_iter().flat_map(|it| &it.addresses).filter_map(|ip| ip.parse().ok())
    }
}

/// As OVN writes them.
fn written(mac: &str, ips: &[IpAddr]) -> Arc<str> {
    let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
    format!("{mac} {}", ips.join(" ")).into()
}
