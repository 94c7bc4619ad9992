//! Which network device on the NIC stands for which function of the server.
//!
//! Pure: made from one dump of devlink ports and one of links. A representor is found by its devlink port; where devlink
//! says nothing about a device, by `phys_port_name` together with `phys_switch_id`. Never by the device's own name, which
//! anybody may change. What cannot be told apart is an error that lists the candidates, never a guess.
//!
//! An eSwitch is its devlink device. `phys_switch_id` is the NIC's: on mlx5 the eSwitches of both its PFs bear the same.
//!
//! A selector chooses which functions a pod may have. What must be closed does not depend on it: a function that is not
//! chosen is another way in.
//!
//! Sources: Linux `Documentation/networking/devlink/devlink-port.rst`, `representors.rst`,
//! `net/devlink/port.c:__devlink_port_phys_port_name_get`.

mod candidates;
mod port_name;
mod selection;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{IfIndex, VfId};
use crate::netlink::devlink::{DeviceHandle, Flavour, Port, PortHandle, PortType};
use crate::netlink::link::{Link, SwitchId};
use port_name::parse_port_name;

/// Whose functions pods may have, on machines with more than one NIC or server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// The devlink device of the eSwitch. A NIC has one for each of its PFs.
    pub device: Option<DeviceHandle>,
    /// The controller (the server) whose functions are meant, when a search names none.
    pub controller: Option<u32>,
}

/// The function that a port stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Function {
    Uplink { number: Option<u32> },
    Pf { controller: u32, pf: u16, external: bool },
    Vf { controller: u32, vf: VfId },
    Sf { controller: u32, pf: u16, sf: u32 },
}

/// Is it a server's function, not the NIC's own, as devlink says?
fn is_external(flavour: Flavour) -> bool {
    match flavour {
        Flavour::PciPf { external, .. }
        | Flavour::PciVf { external, .. }
        | Flavour::PciSf { external, .. } => external,
        Flavour::Physical { .. } | Flavour::Other(_) => false,
    }
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The function is a server's, not the NIC's own.
    pub external: bool,
    /// Its eSwitch.
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Netdev {
    Here { ifindex: IfIndex, name: String },
    Missing(Missing),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Missing {
    /// Since the ports were dumped.
    Gone {
        name: String,
        ifindex: IfIndex,
    },
    /// Another namespace's, for all that can be seen: devlink says that it is a network device's port.
    Elsewhere,
    NotYet,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone { name, ifindex } => write!(f, "its network device {name} ({ifindex}) is gone"),
            Self::Elsewhere => {
                f.write_str("it has no network device here: none at all, or one in another network namespace")
            }
            Self::NotYet => f.write_str("it has no network device (yet)"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    function: Function,
    external: bool,
    /// On the selector's device.
    selected: bool,
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
                external: self.external,
                device: self.device.clone(),
                port: self.port.clone(),
                switch_id: self.switch_id.clone(),
                found_by: self.found_by,
            }),
            Netdev::Missing(_) => None,
        }
    }
}

/// All functions of the machine's eSwitches, as they were when the dumps were taken.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
        selection::select(&mut entries, selector.device.as_ref());
        entries.sort_by(|a, b| (&a.device, a.function).cmp(&(&b.device, b.function)));
        Self { entries, selector }
    }

    /// The representor of a VF that a pod may have. Without a controller, here and in the configuration, any controller's
    /// will do if only one has such a VF.
    pub fn find(&self, controller: Option<u32>, vf: VfId) -> Result<Representor, FindError> {
        let controller = controller.or(self.selector.controller);
        let wanted = || Wanted { controller, vf, device: self.selector.device.clone() };
        let entry = match self.matching(controller, vf) {
            (None, _) => {
                return Err(FindError::NotFound { wanted: wanted(), candidates: self.candidates(None) });
            }
            (Some(_), Some(_)) => {
                return Err(FindError::Ambiguous { wanted: wanted(), candidates: self.candidates(Some(vf)) });
            }
            (Some(entry), None) => entry,
        };
        match (entry.representor(), &entry.netdev, &entry.port) {
            (Some(representor), _, _) => Ok(representor),
            (None, Netdev::Missing(why), Some(port)) => {
                Err(FindError::NoNetdev { wanted: wanted(), port: port.to_string(), why: why.to_string() })
            }
            (None, _, _) => Err(FindError::NotFound { wanted: wanted(), candidates: self.candidates(None) }),
        }
    }

    /// The first two of that number among those that may be had.
    fn matching(&self, controller: Option<u32>, vf: VfId) -> (Option<&Entry>, Option<&Entry>) {
        let is_it = |entry: &&Entry| match entry.function {
            Function::Vf { controller: has, vf: is } => {
                entry.selected && is == vf && controller.is_none_or(|wanted| wanted == has)
            }
            _ => false,
        };
        let mut matching = self.entries.iter().filter(is_it);
        (matching.next(), matching.next())
    }

    /// Which VF a pod may have by this representor: none by another's than the selector's, and none where a number is not
    /// one VF's alone.
    pub fn attachable(&self, representor: &Representor) -> Option<VfId> {
        let vf = representor.vf()?;
        match self.matching(self.selector.controller, vf) {
            (Some(Entry { netdev: Netdev::Here { ifindex, .. }, .. }), None)
                if *ifindex == representor.ifindex =>
            {
                Some(vf)
            }
            _ => None,
        }
    }

    /// Of the selected ones.
    fn having(&self, wanted: impl Fn(&Function) -> bool) -> Vec<Representor> {
        self.entries
            .iter()
            .filter(|entry| self.is_selected(entry) && wanted(&entry.function))
            .filter_map(Entry::representor)
            .collect()
    }

    fn is_selected(&self, entry: &Entry) -> bool {
        let (own, chosen) = (entry.function.controller(), self.selector.controller);
        entry.selected && (own.is_none() || chosen.is_none() || own == chosen)
    }

    /// Whatever must be closed unless a pod has it: all functions of servers, on each eSwitch, and each VF that may be had,
    /// if it is the NIC's own, too.
    pub fn to_be_closed(&self) -> Vec<Representor> {
        let is_one = |entry: &&Entry| {
            entry.external || (self.is_selected(entry) && matches!(entry.function, Function::Vf { .. }))
        };
        self.entries.iter().filter(is_one).filter_map(Entry::representor).collect()
    }

    /// Functions of servers whose devices are another namespace's: none can be closed from here.
    pub fn out_of_reach(&self) -> Vec<(Function, PortHandle, String)> {
        let missing = |entry: &Entry| match (&entry.netdev, &entry.port) {
            (Netdev::Missing(why @ Missing::Elsewhere), Some(port)) => {
                Some((entry.function, port.clone(), why.to_string()))
            }
            _ => None,
        };
        self.entries.iter().filter(|entry| entry.external).filter_map(missing).collect()
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
        candidates::text(self.entries.iter().filter(|entry| entry.selected).filter(|entry| {
            match (only, entry.function) {
                (None, _) => true,
                (Some(only), Function::Vf { vf, .. }) => vf == only,
                _ => false,
            }
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
            Netdev::Missing(Missing::Gone { name: netdev.name.clone(), ifindex: netdev.ifindex })
        }
        (None, _, PortType::Ethernet) => Netdev::Missing(Missing::Elsewhere),
        (None, _, _) => Netdev::Missing(Missing::NotYet),
    };
    let switch_id = link.and_then(|link| link.phys_switch_id.clone());
    // A physical port outside of switchdev mode is a NIC's own port and no eSwitch's uplink.
    if matches!(function, Function::Uplink { .. }) && link.is_some() && switch_id.is_none() {
        return None;
    }
    Some(Entry {
        function,
        external: is_external(port.flavour),
        selected: true,
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
    // Where devlink is silent the kernel may be one that never writes the controller. Subfunctions are younger.
    let external = match function {
        Function::Uplink { .. } => false,
        Function::Pf { external, .. } => external,
        Function::Vf { .. } => true,
        Function::Sf { controller, .. } => controller != 0,
    };
    Some(Entry {
        function,
        external,
        selected: true,
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
