//! What hangs on a VF: whose it is, which network it is on, and the numbers and names that follow from that.
//!
//! ```text
//!  Attachment { owner: Pod | Host, vf, network, port }
//!                                              └── what a network of its kind needs
//! ```
//!
//! A network of another kind is another [`Port`]; whoever has to know of it does not compile before it does.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use offload::ids::{CtZone, MacAddr, OfPort, VfId};
use serde::{Deserialize, Serialize};

use crate::claim::{Claim, PodRef, SandboxKey};

/// One VF that somebody holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    pub owner: Owner,
    pub vf: VfId,
    /// A name; what it means, the cluster says ([`crate::network`]).
    pub network: String,
    pub port: Port,
}

/// Who holds a VF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// The server itself: its management port ([`crate::management`]).
    Host,
    Pod(Sandbox),
}

/// A pod's interface, as the server named it, and as it was believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    pub key: SandboxKey,
    pub pod: PodRef,
    /// Only for the log, and for the server that asks what it claimed.
    pub pci_address: String,
}

/// What tells attachments apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AttachmentId {
    Host,
    Sandbox(SandboxKey),
}

impl AttachmentId {
    /// `None`: the server's own.
    pub fn sandbox(&self) -> Option<&SandboxKey> {
        match self {
            Self::Host => None,
            Self::Sandbox(key) => Some(key),
        }
    }
}

impl From<SandboxKey> for AttachmentId {
    fn from(key: SandboxKey) -> Self {
        Self::Sandbox(key)
    }
}

/// As it stands in Open vSwitch's rows.
impl fmt::Display for AttachmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("/management"),
            Self::Sandbox(key) => key.fmt(f),
        }
    }
}

impl Owner {
    pub fn sandbox(&self) -> Option<&Sandbox> {
        match self {
            Self::Host => None,
            Self::Pod(sandbox) => Some(sandbox),
        }
    }

    /// The pod's; empty for the server, which has none.
    pub fn uid(&self) -> &str {
        self.sandbox().map_or("", |it| &it.pod.uid)
    }
}

/// For people.
impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("management-port"),
            Self::Pod(sandbox) => sandbox.pod.fmt(f),
        }
    }
}

/// By the network's kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    Overlay(OverlayPort),
}

/// On a network of OVN's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayPort {
    /// Conntrack zone of its own.
    pub zone: CtZone,
    /// The zone may hold connections of whoever had it before: flush it before the first flow goes in. As long as this says
    /// so there has been no flow.
    pub zone_dirty: bool,
    pub logical_port: String,
    /// What the southbound last said of the logical port. Kept, so that a restart without OVN changes nothing.
    pub binding: Option<Binding>,
}

impl Port {
    /// Where the connections of whoever has it are kept.
    pub fn zone(&self) -> CtZone {
        let Self::Overlay(port) = self;
        port.zone
    }

    pub fn is_zone_dirty(&self) -> bool {
        let Self::Overlay(port) = self;
        port.zone_dirty
    }
}

impl OverlayPort {
    /// Of which nothing is known yet.
    pub fn new(zone: CtZone, logical_port: String) -> Self {
        Self { zone, zone_dirty: true, logical_port, binding: None }
    }
}

impl Attachment {
    /// A believed claim's.
    pub fn of_claim(claim: &Claim, port: Port) -> Self {
        let Claim { key, pod, network, pci_address, vf } = claim.clone();
        Self { owner: Owner::Pod(Sandbox { key, pod, pci_address }), vf, network, port }
    }

    pub fn id(&self) -> AttachmentId {
        match &self.owner {
            Owner::Host => AttachmentId::Host,
            Owner::Pod(sandbox) => AttachmentId::Sandbox(sandbox.key.clone()),
        }
    }

    pub fn is(&self, id: &AttachmentId) -> bool {
        self.owner.sandbox().map(|it| &it.key) == id.sandbox()
    }

    /// What was claimed; the server itself claims nothing.
    pub fn claim(&self) -> Option<Claim> {
        let Sandbox { key, pod, pci_address } = self.owner.sandbox()?.clone();
        Some(Claim { key, pod, network: self.network.clone(), pci_address, vf: self.vf })
    }

    pub fn is_host(&self) -> bool {
        self.owner == Owner::Host
    }

    pub fn overlay(&self) -> Option<&OverlayPort> {
        let Port::Overlay(port) = &self.port;
        Some(port)
    }

    pub fn overlay_mut(&mut self) -> Option<&mut OverlayPort> {
        let Port::Overlay(port) = &mut self.port;
        Some(port)
    }

    /// What is known of who it is on its network.
    pub fn binding(&self) -> Option<&Binding> {
        self.overlay()?.binding.as_ref()
    }
}

/// A logical port's identity, from the southbound's `Port_Binding.mac`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub mac: MacAddr,
    pub ips: Vec<IpAddr>,
    /// The pod may be a DHCP client: of these servers, and of none if none are named.
    pub dhcp: bool,
    pub dhcp_servers: Vec<IpAddr>,
}

impl Binding {
    /// All that the pod may send from: its addresses, and with IPv6 the one that its MAC gives (`offload::boundary`).
    pub fn sources(&self) -> Vec<IpAddr> {
        let local = self.ips.iter().any(IpAddr::is_ipv6).then(|| IpAddr::V6(self.mac.link_local()));
        let mut sources: Vec<IpAddr> = self.ips.iter().copied().chain(local).collect();
        sources.sort_unstable();
        sources.dedup();
        sources
    }

    pub fn ipv4(&self) -> Vec<Ipv4Addr> {
        self.ips.iter().filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(*ip) } else { None }).collect()
    }

    pub fn ipv6(&self) -> Vec<Ipv6Addr> {
        self.ips.iter().filter_map(|ip| if let IpAddr::V6(ip) = ip { Some(*ip) } else { None }).collect()
    }
}

/// Highest PF and VF numbers that have port numbers on `br-edge`.
const PFS: u16 = 16;
const VFS: u16 = 1024;
/// Below it stays room for ports that are no pod's.
const FIRST_POD_PORT: u32 = 1024;

/// The OpenFlow ports of a VF on `br-edge`: its representor, and the patch port to `br-int`. They follow from the VF, so
/// that flows can be there before the ports are, and are the same after a restart.
pub fn of_ports(vf: VfId) -> Option<(OfPort, OfPort)> {
    if vf.pf >= PFS || vf.vf >= VFS {
        return None;
    }
    let first = FIRST_POD_PORT + 2 * (u32::from(vf.pf) * u32::from(VFS) + u32::from(vf.vf));
    Some((OfPort::new(first)?, OfPort::new(first + 1)?))
}

/// Name of the patch port on `br-edge`.
pub fn edge_patch(vf: VfId) -> String {
    format!("e-{vf}")
}

/// Name of the patch port on the integration bridge.
pub fn int_patch(vf: VfId) -> String {
    format!("i-{vf}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_vf_has_ports_of_its_own() {
        let mut seen = BTreeSet::new();
        for pf in 0..PFS {
            for vf in 0..VFS {
                let (rep, patch) = of_ports(VfId { pf, vf }).unwrap();
                assert!(seen.insert(rep) && seen.insert(patch));
            }
        }
        assert!(of_ports(VfId { pf: PFS, vf: 0 }).is_none());
        assert!(of_ports(VfId { pf: 0, vf: VFS }).is_none());
    }
}
