//! Which ports are on one eSwitch: a rule of one sends to ports of the same.
//!
//! An eSwitch is its devlink device. `phys_switch_id` is the NIC's, so the eSwitches of its PFs share it, and that two
//! ports bear the same does not mean that one can send to the other (mlx5: `mlx5e_is_valid_eswitch_fwd_dev`). What some
//! NICs take beyond that, from a VF to a VF of the other PF, is in hardware when they have taken it; here it is only not
//! expected of them.

use std::collections::{BTreeMap, BTreeSet};

use offload::ids::IfIndex;
use offload::netlink::devlink::DeviceHandle;
use offload::netlink::link::{Link, SwitchId};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Device(DeviceHandle),
    /// All that a port says of itself under a kernel before 5.14.
    Switch(SwitchId),
}

impl Name {
    fn of(link: &Link) -> Option<Self> {
        let id = link.phys_switch_id.as_ref()?;
        let parent = || link.parent.clone().map(|(bus, device)| DeviceHandle { bus, device });
        let device = link.devlink_port.as_ref().map(|port| port.device.clone()).or_else(parent);
        Some(device.map_or_else(|| Self::Switch(id.clone()), Self::Device))
    }
}

/// Ports of eSwitches, and what joins them (a bond), each with the eSwitches that it is of.
#[derive(Debug, Default)]
pub struct Eswitches(BTreeMap<IfIndex, BTreeSet<Name>>);

impl Eswitches {
    pub fn new(all: &[Link]) -> Self {
        let mut ports: BTreeMap<IfIndex, BTreeSet<Name>> = BTreeMap::new();
        for link in all {
            let Some(name) = Name::of(link) else { continue };
            for port in [Some(link.ifindex), link.master].into_iter().flatten() {
                ports.entry(port).or_default().insert(name.clone());
            }
        }
        Self(ports)
    }

    /// Can what enters at `from` leave at `to` without software? What enters by a device that is no port (a tunnel) may
    /// enter anywhere.
    pub fn are_one(&self, from: IfIndex, to: IfIndex) -> bool {
        match (self.0.get(&from), self.0.get(&to)) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(from), Some(to)) => !from.is_disjoint(to),
        }
    }

    #[cfg(test)]
    pub fn of(ports: &[(u32, &str)]) -> Self {
        let name = |it: &str| Name::Switch(SwitchId(it.as_bytes().to_vec()));
        Self(ports.iter().map(|(port, it)| (IfIndex(*port), BTreeSet::from([name(it)]))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A port of the NIC with this switch id, on the PF's eSwitch.
    fn port(ifindex: u32, id: &str, pf: Option<u32>, master: Option<u32>) -> Link {
        Link {
            ifindex: IfIndex(ifindex),
            name: format!("port{ifindex}"),
            mac: None,
            mtu: 1500,
            up: true,
            running: true,
            carrier: true,
            phys_switch_id: Some(SwitchId(id.as_bytes().to_vec())),
            phys_port_name: None,
            parent: pf.map(|pf| ("pci".to_owned(), format!("0000:03:00.{pf}"))),
            devlink_port: None,
            link_netnsid: None,
            master: master.map(IfIndex),
            kind: None,
        }
    }

    #[test]
    fn a_switch_id_is_the_nics_and_not_an_eswitchs() {
        let links = [
            port(1, "s", Some(0), Some(9)),
            port(2, "s", Some(0), None),
            port(3, "s", Some(1), Some(9)),
            port(4, "s", Some(1), None),
            Link { phys_switch_id: None, ..port(5, "", Some(0), None) },
        ];
        let eswitches = Eswitches::new(&links);
        let are_one = |from, to| eswitches.are_one(IfIndex(from), IfIndex(to));
        assert!(are_one(2, 1) && are_one(4, 3));
        assert!(!are_one(2, 4) && !are_one(2, 3), "the other PF's");
        assert!(are_one(2, 9) && are_one(4, 9), "the bond of both uplinks");
        assert!(!are_one(2, 5), "a NIC's own port");
        assert!(are_one(7, 2), "a tunnel's frames may have come in anywhere");
    }

    #[test]
    fn where_the_kernel_names_no_device_the_id_is_all_there_is() {
        let eswitches =
            Eswitches::new(&[port(1, "s", None, None), port(2, "s", None, None), port(3, "t", None, None)]);
        assert!(eswitches.are_one(IfIndex(1), IfIndex(2)) && !eswitches.are_one(IfIndex(1), IfIndex(3)));
    }
}
