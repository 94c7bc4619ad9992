//! An attachment that was believed: which VF is whose, and the numbers and names that follow from it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use offload::ids::{CtZone, MacAddr, OfPort, VfId};
use serde::{Deserialize, Serialize};

use crate::claim::Claim;

/// One believed claim, as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attachment {
    pub claim: Claim,
    /// Conntrack zone of the pod's own.
    pub zone: CtZone,
    /// The zone may hold connections of whoever had it before: flush it before the first flow goes in. As long as this says
    /// so there has been no flow.
    pub zone_dirty: bool,
    pub logical_port: String,
    /// What the southbound last said of the logical port. Kept, so that a restart without OVN changes nothing.
    pub binding: Option<Binding>,
}

impl Attachment {
    /// Of the server itself ([`crate::management`]), whose sandbox no runtime names.
    pub fn is_management(&self) -> bool {
        self.claim.key.sandbox.is_empty()
    }
}

/// A logical port's identity, from the southbound's `Port_Binding.mac`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    pub mac: MacAddr,
    pub ips: Vec<IpAddr>,
    /// The pod may be a DHCP client: of these servers, and of none if none are named.
    pub dhcp: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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
