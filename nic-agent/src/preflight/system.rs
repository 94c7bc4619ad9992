//! What was observed of the NIC, as values: the checks see nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::ovs::view::OvsView;

/// What was read, or why it could not be.
pub type Fact<T> = Result<T, String>;

/// The NIC as it was at one time.
#[derive(Debug, Clone)]
pub struct System {
    /// Seconds since 1970, when it was looked at.
    pub now: i64,
    pub boot_id: Fact<String>,
    pub configuration: Fact<Configuration>,
    pub kernel: Kernel,
    /// By their names, as `sysctl` has them.
    pub sysctls: BTreeMap<&'static str, Fact<String>>,
    /// Those of all devices that have one.
    pub eswitches: Fact<Vec<Eswitch>>,
    /// The NIC's physical ports.
    pub uplinks: Fact<Vec<Uplink>>,
    /// As its database has it.
    pub switch: Fact<OvsView>,
    /// What `ovs-vswitchd` and `ovn-controller` say of themselves.
    pub ovs_version: Fact<String>,
    pub ovn_version: Fact<String>,
    /// Whether the kernel's clock is kept by something.
    pub synchronised: Fact<bool>,
    pub certificates: Vec<Certificate>,
}

/// Of the agent's file what the checks go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// What is wrong with it; the rest is as the defaults are then.
    pub problems: Option<String>,
    pub hw_offload: bool,
    pub edge_bridge: String,
    pub ovn_bridge: String,
    pub pod_connections: u32,
}

#[derive(Debug, Clone)]
pub struct Kernel {
    /// Options without `CONFIG_`, with `y`, `m` or a value.
    pub options: Fact<BTreeMap<String, String>>,
    /// Bytes.
    pub page_size: Fact<u64>,
}

#[derive(Debug, Clone)]
pub struct Eswitch {
    /// devlink's name, `pci/0000:03:00.0`.
    pub device: String,
    /// The kernel's, `mlx5_core`.
    pub driver: Fact<String>,
    /// devlink's words.
    pub mode: Fact<String>,
    pub encap: Fact<String>,
    /// Parameter `flow_steering_mode`.
    pub steering: Fact<String>,
    /// Parameter `esw_multiport`.
    pub multiport: Fact<String>,
    /// What the firmware lets the server do.
    pub privileges: Fact<Privileges>,
}

/// As `mlxprivhost` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Privileges {
    /// Of each of the servers behind the NIC.
    pub levels: Vec<String>,
    /// `disable_rshim` and so on, and whether that is so for all servers.
    pub disabled: BTreeMap<String, bool>,
}

#[derive(Debug, Clone)]
pub struct Uplink {
    /// `None`: in another network namespace, or not made yet.
    pub name: Option<String>,
    /// Its eSwitch's device, as in [`Eswitch::device`].
    pub device: String,
    pub carrier: Fact<bool>,
    pub bond: Fact<Option<Bond>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bond {
    pub name: String,
    /// The kernel's word, `802.3ad`.
    pub mode: Fact<String>,
}

#[derive(Debug, Clone)]
pub struct Certificate {
    /// The configuration's key that names the file.
    pub key: &'static str,
    pub path: PathBuf,
    /// Of all certificates in it: the latest beginning, and the earliest end, seconds since 1970.
    pub validity: Fact<Validity>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub not_before: i64,
    pub not_after: i64,
}
