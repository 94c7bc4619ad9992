//! Which network device on the NIC stands for which function of the server.
//!
//! Pure: made from one dump of devlink ports and one of links. A representor is found by its devlink port; where devlink
//! says nothing about a device, by `phys_port_name` together with `phys_switch_id`. Never by the device's own name, which
//! anybody may change. What cannot be told apart is an error that lists the candidates, never a guess.
//!
//! Sources: Linux `Documentation/networking/devlink/devlink-port.rst`, `representors.rst`,
//! `net/devlink/port.c:__devlink_port_phys_port_name_get`.

mod candidates;
mod port_name;

use std::collections::BTreeMap;
use std::fmt;

use crate::ids::{IfIndex, VfId};
use crate::netlink::devlink::{DeviceHandle, Flavour, Port, PortHandle, PortType};
use crate::netlink::link::{Link, SwitchId};
use port_name::parse_port_name;

/// What the configuration says of the NIC, for machines with more than one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// The devlink device of the eSwitch.
    pub device: Option<DeviceHandle>,
    /// The controller (the server) whose functions are meant, when a search names none.
    pub controller: Option<u32>,
}

/// The function that a port stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Function {
    Uplink { number: Option<u32> },
    Pf { controller: u32, pf: u16, external: bool },
    Vf { controller: u32, vf: VfId },
    Sf { controller: u32, pf: u16, sf: u32 },
}

impl Function {
    fn controller(self) -> Option<u32> {
        match self {
            Self::Uplink { .. } => None,
            Self::Pf { controller, .. } | Self::Vf { controller, .. } | Self::Sf { controller, .. } => {
                Some(controller)
            }
        }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(controller) = self.controller().filter(|controller| *controller != 0) {
            write!(f, "c{controller}")?;
        }
        match self {
            Self::Uplink { number: Some(number) } => write!(f, "p{number}"),
            Self::Uplink { number: None } => write!(f, "p?"),
            Self::Pf { pf, .. } => write!(f, "pf{pf}"),
            Self::Vf { vf, .. } => vf.fmt(f),
            Self::Sf { pf, sf, .. } => write!(f, "pf{pf}sf{sf}"),
        }
    }
}

impl From<Flavour> for Option<Function> {
    fn from(flavour: Flavour) -> Self {
        Some(match flavour {
            Flavour::Physical { number } => Function::Uplink { number },
            Flavour::PciPf { controller, pf, external } => Function::Pf { controller, pf, external },
            Flavour::PciVf { controller, pf, vf, .. } => Function::Vf { controller, vf: VfId { pf, vf } },
            Flavour::PciSf { controller, pf, sf, .. } => Function::Sf { controller, pf, sf },
            Flavour::Other(_) => return None,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundBy {
    Devlink,
    PhysPortName,
}

/// A network device that stands for a function, or for the cable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Representor {
    pub ifindex: IfIndex,
    pub name: String,
    pub function: Function,
    pub device: Option<DeviceHandle>,
    /// For `port function set`; only where devlink knows the port.
    pub port: Option<PortHandle>,
    pub switch_id: Option<SwitchId>,
    pub found_by: FoundBy,
}

impl Representor {
    pub fn vf(&self) -> Option<VfId> {
        match self.function {
            Function::Vf { vf, .. } => Some(vf),
            _ => None,
        }
    }

    pub fn controller(&self) -> Option<u32> {
        self.function.controller()
    }
}

/// What was asked for, in the kernel's own notation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub controller: Option<u32>,
    pub vf: VfId,
    pub device: Option<DeviceHandle>,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.controller {
            Some(0) => write!(f, "{} of controller 0", self.vf)?,
            Some(controller) => write!(f, "c{controller}{}", self.vf)?,
            None => write!(f, "{}", self.vf)?,
        }
        self.device.iter().try_for_each(|device| write!(f, " of {device}"))
    }
}

/// Why there is no representor to be had. `candidates` is a text for people: `c1pf0vf0-7 (pci/0000:03:00.0)`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    #[error("no representor of {wanted} on this NIC; there are: {candidates}")]
    NotFound { wanted: Wanted, candidates: String },
    #[error(
        "more than one representor of {wanted}; configure the devlink device or the controller; there are: {candidates}"
    )]
    Ambiguous { wanted: Wanted, candidates: String },
    #[error("devlink port {port} is {wanted}, but {why}")]
    NoNetdev { wanted: Wanted, port: String, why: String },
}

/// Where a port's device is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Netdev {
    Here {
        ifindex: IfIndex,
        name: String,
    },
    /// For the error's text.
    Missing(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    function: Function,
    device: Option<DeviceHandle>,
    port: Option<PortHandle>,
    switch_id: Option<SwitchId>,
    netdev: Netdev,
    found_by: FoundBy,
}

impl Entry {
    fn representor(&self) -> Option<Representor> {
        match &self.netdev {
            Netdev::Here { ifindex, name } => Some(Representor {
                ifindex: *ifindex,
                name: name.clone(),
                function: self.function,
                device: self.device.clone(),
                port: self.port.clone(),
                switch_id: self.switch_id.clone(),
                found_by: self.found_by,
            }),
            Netdev::Missing(_) => None,
        }
    }
}

/// All functions of the selected NIC, as they were when the dumps were taken.
#[derive(Debug, Clone, Default)]
pub struct RepresentorTable {
    entries: Vec<Entry>,
    selector: Selector,
}

impl RepresentorTable {
    pub fn new(ports: &[Port], links: &[Link], selector: Selector) -> Self {
        let by_index: BTreeMap<IfIndex, &Link> = links.iter().map(|link| (link.ifindex, link)).collect();
        let mut entries: Vec<Entry> = ports.iter().filter_map(|port| from_port(port, &by_index)).collect();
        // What devlink has said something about is not looked at again, whatever it was.
        let claimed: Vec<IfIndex> =
            ports.iter().filter_map(|port| Some(port.netdev.as_ref()?.ifindex)).collect();
        let named = links.iter().filter(|link| !claimed.contains(&link.ifindex)).filter_map(from_link);
        for entry in named {
            // devlink knows the port but not where its device is: then this is its device.
            match entries.iter_mut().find(|known| is_same_port(known, &entry)) {
                Some(known) => {
                    known.netdev = entry.netdev;
                    known.switch_id = entry.switch_id;
                }
                None => entries.push(entry),
            }
        }
        if let Some(device) = &selector.device {
            let switches: Vec<SwitchId> = entries
                .iter()
                .filter(|entry| entry.device.as_ref() == Some(device))
                .filter_map(|entry| entry.switch_id.clone())
                .collect();
            entries.retain(|entry| match &entry.device {
                Some(own) => own == device,
                None => entry.switch_id.as_ref().is_some_and(|id| switches.contains(id)),
            });
        }
        entries.sort_by(|a, b| (&a.device, a.function).cmp(&(&b.device, b.function)));
        Self { entries, selector }
    }

    /// The representor of a VF. Without a controller, here and in the configuration, any controller's will do if only one
    /// has such a VF.
    pub fn find(&self, controller: Option<u32>, vf: VfId) -> Result<Representor, FindError> {
        let controller = controller.or(self.selector.controller);
        let wanted = || Wanted { controller, vf, device: self.selector.device.clone() };
        let mut matching = self.entries.iter().filter(|entry| match entry.function {
            Function::Vf { controller: has, vf: is } => {
                is == vf && controller.is_none_or(|wanted| wanted == has)
            }
            _ => false,
        });
        match (matching.next(), matching.next()) {
            (None, _) => Err(FindError::NotFound { wanted: wanted(), candidates: self.candidates(None) }),
            (Some(_), Some(_)) => {
                Err(FindError::Ambiguous { wanted: wanted(), candidates: self.candidates(Some(vf)) })
            }
            (Some(entry), None) => match (entry.representor(), &entry.netdev, &entry.port) {
                (Some(representor), _, _) => Ok(representor),
                (None, Netdev::Missing(why), Some(port)) => {
                    Err(FindError::NoNetdev { wanted: wanted(), port: port.to_string(), why: why.clone() })
                }
                (None, _, _) => {
                    Err(FindError::NotFound { wanted: wanted(), candidates: self.candidates(None) })
                }
            },
        }
    }

    fn having(&self, wanted: impl Fn(&Function) -> bool) -> Vec<Representor> {
        let controller = self.selector.controller;
        self.entries
            .iter()
            .filter(|entry| {
                let own = entry.function.controller();
                wanted(&entry.function) && (own.is_none() || controller.is_none() || own == controller)
            })
            .filter_map(Entry::representor)
            .collect()
    }

    /// The representors of the server's PFs: what the server itself, not a VF, sends.
    pub fn pf_representors(&self) -> Vec<Representor> {
        self.having(|function| matches!(function, Function::Pf { external: true, .. }))
    }

    /// The eSwitches' cables.
    pub fn uplinks(&self) -> Vec<Representor> {
        self.having(|function| matches!(function, Function::Uplink { .. }))
    }

    /// The representors of all VFs, of whatever PF.
    pub fn all_vf_representors(&self) -> Vec<Representor> {
        self.having(|function| matches!(function, Function::Vf { .. }))
    }

    /// What there is, in few words; of one VF only, if one is given.
    fn candidates(&self, only: Option<VfId>) -> String {
        candidates::text(self.entries.iter().filter(|entry| match (only, entry.function) {
            (None, _) => true,
            (Some(only), Function::Vf { vf, .. }) => vf == only,
            _ => false,
        }))
    }
}

fn from_port(port: &Port, links: &BTreeMap<IfIndex, &Link>) -> Option<Entry> {
    let function = Option::from(port.flavour)?;
    let link = port.netdev.as_ref().and_then(|netdev| links.get(&netdev.ifindex));
    let netdev = match (&port.netdev, link, port.kind) {
        // The link's name is the newer one or the same.
        (Some(_), Some(link), _) => Netdev::Here { ifindex: link.ifindex, name: link.name.clone() },
        (Some(netdev), None, _) => {
            Netdev::Missing(format!("its network device {} ({}) is gone", netdev.name, netdev.ifindex))
        }
        (None, _, PortType::Ethernet) => Netdev::Missing(
            "it has no network device here: none at all, or one in another network namespace".into(),
        ),
        (None, _, _) => Netdev::Missing("it has no network device (yet)".into()),
    };
    let switch_id = link.and_then(|link| link.phys_switch_id.clone());
    // A physical port outside of switchdev mode is a NIC's own port and no eSwitch's uplink.
    if matches!(function, Function::Uplink { .. }) && link.is_some() && switch_id.is_none() {
        return None;
    }
    Some(Entry {
        function,
        device: Some(port.handle.device.clone()),
        port: Some(port.handle.clone()),
        switch_id,
        netdev,
        found_by: FoundBy::Devlink,
    })
}

fn from_link(link: &Link) -> Option<Entry> {
    let switch_id = link.phys_switch_id.clone()?;
    let function = parse_port_name(link.phys_port_name.as_deref()?)?;
    let parent = || link.parent.clone().map(|(bus, device)| DeviceHandle { bus, device });
    Some(Entry {
        function,
        device: link.devlink_port.as_ref().map(|port| port.device.clone()).or_else(parent),
        port: link.devlink_port.clone(),
        switch_id: Some(switch_id),
        netdev: Netdev::Here { ifindex: link.ifindex, name: link.name.clone() },
        found_by: FoundBy::PhysPortName,
    })
}

/// Whether `named`, found by its phys_port_name, is the device that devlink did not show for `known`.
fn is_same_port(known: &Entry, named: &Entry) -> bool {
    if !matches!(known.netdev, Netdev::Missing(_)) {
        return false;
    }
    match (&known.port, &named.port) {
        (Some(known), Some(named)) => known == named,
        _ => {
            known.device.is_some()
                && known.device == named.device
                && known.function.to_string() == named.function.to_string()
        }
    }
}

#[cfg(test)]
mod tests;
