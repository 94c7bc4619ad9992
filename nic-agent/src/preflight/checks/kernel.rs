//! The kernel's options. The layer `yocto/meta-drawbridge` sets the same ones.

use std::collections::BTreeMap;

use super::super::report::{Line, State};
use super::super::system::{Fact, System};

const CHECK: &str = "kernel-option";
/// ConnectX's and BlueField's driver.
const MLX5: &str = "mlx5_core";

/// Which NICs need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    All,
    Mlx5,
}

/// An option that must be there: its name, of which NICs, and what it is for, which is said where it is missing.
pub const OPTIONS: [(&str, Of, &str); 28] = [
    ("NET_SWITCHDEV", Of::All, "representors"),
    ("NET_TC_SKB_EXT", Of::All, "a packet goes on in software where the hardware stopped"),
    ("NET_CLS_ACT", Of::All, "TC's actions"),
    ("NET_SCH_INGRESS", Of::All, "TC on representors"),
    ("NET_CLS_FLOWER", Of::All, "Open vSwitch's flows in TC"),
    ("NET_ACT_GACT", Of::All, "closed representors drop"),
    ("NET_ACT_MIRRED", Of::All, "outputs in TC"),
    ("NET_ACT_CT", Of::All, "connection tracking in TC"),
    ("NET_ACT_TUNNEL_KEY", Of::All, "tunnels in TC"),
    ("NET_ACT_PEDIT", Of::All, "rewritten addresses in TC"),
    ("NET_ACT_CSUM", Of::All, "checksums of rewritten packets in TC"),
    ("NET_ACT_SKBEDIT", Of::All, "tunnels that end on a bridge in TC"),
    ("NET_ACT_VLAN", Of::All, "VLANs in TC"),
    ("NET_ACT_POLICE", Of::All, "meters in TC"),
    ("NF_CONNTRACK", Of::All, "connection tracking"),
    ("NF_CONNTRACK_MARK", Of::All, "which rule admitted a connection"),
    ("NF_CONNTRACK_ZONES", Of::All, "a zone for each pod"),
    ("NF_CONNTRACK_LABELS", Of::All, "OVN's ct_label"),
    ("NF_CONNTRACK_EVENTS", Of::All, "connections are looked at as they begin"),
    ("NF_CT_NETLINK", Of::All, "connections that policy denies are cut"),
    ("NF_NAT", Of::All, "Services"),
    ("NF_FLOW_TABLE", Of::All, "established connections in hardware"),
    ("OPENVSWITCH", Of::All, "Open vSwitch's datapath"),
    ("OPENVSWITCH_GENEVE", Of::All, "OVN's tunnels"),
    ("GENEVE", Of::All, "OVN's tunnels"),
    ("MLX5_ESWITCH", Of::Mlx5, "switchdev mode"),
    ("MLX5_CLS_ACT", Of::Mlx5, "TC in hardware"),
    ("MLX5_TC_CT", Of::Mlx5, "connections in hardware"),
];

pub fn options(system: &System) -> Vec<Line> {
    let options = match &system.kernel.options {
        Ok(options) => options,
        Err(why) => {
            let remedy = "modprobe configs, or put the kernel's configuration at /boot/config-$(uname -r)";
            let wanted = "y or m, of each that docs/preflight.md names";
            return vec![Line::new(CHECK, "", State::Unknown, why, wanted, remedy)];
        }
    };
    let needed = is_mlx5(system);
    OPTIONS
        .iter()
        .filter(|(_, of, _)| *of == Of::All || needed != Ok(false))
        .map(|(name, of, purpose)| {
            let needed = if *of == Of::All { Ok(true) } else { needed.clone() };
            one(name, purpose, options, needed)
        })
        .collect()
}

fn wanted(purpose: &str) -> String {
    format!("y or m ({purpose})")
}

fn one(name: &str, purpose: &str, options: &BTreeMap<String, String>, needed: Fact<bool>) -> Line {
    let remedy = format!("boot a kernel with CONFIG_{name}=y");
    let (state, found) = match (options.get(name).map(String::as_str), needed) {
        (Some(value @ ("y" | "m")), _) => (State::Passed, value.to_owned()),
        (value, Ok(_)) => (State::Failed, value.unwrap_or("not set").to_owned()),
        (value, Err(why)) => {
            let value = value.unwrap_or("not set");
            (State::Unknown, format!("{value}, and not known whether this NIC needs it: {why}"))
        }
    };
    Line::new(CHECK, name, state, found, wanted(purpose), remedy)
}

/// Is any of the NIC's devices driven by mlx5?
fn is_mlx5(system: &System) -> Fact<bool> {
    let eswitches = system.eswitches.as_ref().map_err(Clone::clone)?;
    let mut unread = None;
    for eswitch in eswitches {
        match &eswitch.driver {
            Ok(driver) if driver == MLX5 => return Ok(true),
            Ok(_) => {}
            Err(why) => unread = Some(why.clone()),
        }
    }
    match unread {
        Some(why) => Err(why),
        None if eswitches.is_empty() => Err("no device has an eSwitch".to_owned()),
        None => Ok(false),
    }
}
