//! The part of the Open_vSwitch database that the plan depends on, as plain values.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub type StringMap = BTreeMap<String, String>;

/// The database as observed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OvsView {
    pub external_ids: StringMap,
    pub other_config: StringMap,
    pub ovs_version: String,
    pub next_cfg: i64,
    pub cur_cfg: i64,
    pub bridges: BTreeMap<String, BridgeView>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeView {
    pub fail_mode: Option<String>,
    pub datapath_type: String,
    pub protocols: BTreeSet<String>,
    pub external_ids: StringMap,
    pub other_config: StringMap,
    pub ports: BTreeMap<String, PortView>,
}

/// A port and its one interface. A bond (a port of several interfaces) has `interface: None`: none of ours is one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortView {
    pub interface: Option<InterfaceView>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceView {
    pub kind: String,
    pub options: StringMap,
    pub external_ids: StringMap,
    pub ofport_request: Option<i64>,
    /// Given by ovs-vswitchd: `None` before it looked, `Some(-1)` when it failed.
    pub ofport: Option<i64>,
    /// The kernel's number of the device that ovs-vswitchd has under this name.
    pub ifindex: Option<i64>,
    /// Why ovs-vswitchd could not set the interface up.
    pub error: Option<String>,
}

impl OvsView {
    /// The bridge that has a port of this name: names are unique in the whole database.
    pub fn bridge_of(&self, port: &str) -> Option<&str> {
        self.bridges.iter().find(|(_, b)| b.ports.contains_key(port)).map(|(name, _)| name.as_str())
    }

    pub fn interface(&self, port: &str) -> Option<&InterfaceView> {
        self.bridges.values().find_map(|b| b.ports.get(port)).and_then(|p| p.interface.as_ref())
    }
}
