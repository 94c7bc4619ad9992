//! Representors and the flows on them, as plain values: what was seen, and what is to be done.

use std::collections::BTreeSet;

use offload::flower::ChainIndex;
use offload::ids::{IfIndex, MacAddr, VfId};
use offload::netlink::devlink::PortHandle;
use serde::{Deserialize, Serialize};

/// A representor of a function of the server: of a VF, or with `vf: None` of a PF, which nobody may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepView {
    pub ifindex: IfIndex,
    pub name: String,
    pub vf: Option<VfId>,
    pub up: bool,
    pub mtu: u32,
    /// Our TC rule that drops all is there.
    pub closed: bool,
    /// It is a port of Open vSwitch's datapath in the kernel.
    pub in_datapath: bool,
    pub offload: Offload,
    /// The function's MAC address, and where that is set; none where devlink does not know the port.
    pub function: Option<(PortHandle, MacAddr)>,
}

/// Which of a port's TC filters the eSwitch runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offload {
    pub hardware: usize,
    pub software: Vec<InSoftware>,
}

/// In words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InSoftware {
    pub filter: String,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum LinkStep {
    Close { ifindex: IfIndex, name: String },
    Open { ifindex: IfIndex, name: String },
    SetMtu { ifindex: IfIndex, name: String, mtu: u32 },
    SetMac { port: PortHandle, name: String, mac: MacAddr },
}

/// A TC filter's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FilterId {
    pub ifindex: IfIndex,
    pub chain: ChainIndex,
    pub pref: u16,
    pub handle: u32,
}

/// Those of OVS's flows that say something of the hardware.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    pub accepted: BTreeSet<FilterId>,
    /// Although this hardware could have taken them.
    pub refused: BTreeSet<FilterId>,
    /// Taken, and not there any more.
    pub lost: BTreeSet<FilterId>,
    /// Asked anew, the hardware takes one of those that it has refused.
    pub room: bool,
}
