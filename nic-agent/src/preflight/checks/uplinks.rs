//! The cables: carrier, and how several are one.
//!
//! mlx5 takes a LAG of all ports of the NIC, as a bond in one of three modes, or its own multiport eSwitch (Linux 6.12,
//! `drivers/net/ethernet/mellanox/mlx5/core/lag/`). Without either, what a VF sends leaves in hardware by its own PF's port
//! only, and a tunnel has one way.

use std::collections::{BTreeMap, BTreeSet};

use super::super::report::{Line, State};
use super::super::system::{Bond, Eswitch, Fact, System, Uplink};

const MODES: [&str; 3] = ["active-backup", "balance-xor", "802.3ad"];

pub fn all(system: &System) -> Vec<Line> {
    let wanted = "at least one, with carrier";
    let uplinks = match &system.uplinks {
        Ok(uplinks) if uplinks.is_empty() => {
            let remedy = "devlink port show: a port of flavour physical with a netdev";
            return vec![Line::new("uplink", "", State::Failed, "none", wanted, remedy)];
        }
        Ok(uplinks) => uplinks,
        Err(why) => {
            let remedy = "devlink port show; ip -d link show";
            return ["uplink", "lag"].map(|it| Line::new(it, "", State::Unknown, why, wanted, remedy)).into();
        }
    };
    let any = uplinks.iter().any(|uplink| uplink.carrier == Ok(true));
    let mut lines: Vec<Line> = uplinks.iter().map(|uplink| carrier(uplink, any)).collect();
    let mut nics: BTreeMap<&str, Vec<&Uplink>> = BTreeMap::new();
    for uplink in uplinks {
        nics.entry(nic(&uplink.device)).or_default().push(uplink);
    }
    let eswitches = system.eswitches.as_deref().unwrap_or_default();
    lines.extend(nics.into_iter().map(|(nic, uplinks)| lag(nic, &uplinks, eswitches)));
    lines
}

/// Functions of one slot are one NIC's: `pci/0000:03:00.1` is of `pci/0000:03:00`.
fn nic(device: &str) -> &str {
    device.rsplit_once('.').map_or(device, |(slot, _)| slot)
}

fn carrier(uplink: &Uplink, any: bool) -> Line {
    let Uplink { name, device, carrier, .. } = uplink;
    let subject = name.as_ref().unwrap_or(device);
    let remedy = format!("ip link set {subject} up; ethtool {subject}; cable and switch");
    let line = |state, found: &str| Line::new("uplink", subject, state, found, "carrier", remedy.as_str());
    match carrier {
        Ok(true) => line(State::Passed, "carrier"),
        // The NIC is reached all the same.
        Ok(false) if any => line(State::Warning, "no carrier"),
        Ok(false) => line(State::Failed, "no carrier, and no other uplink has any"),
        Err(why) => line(State::Unknown, why),
    }
}

fn lag(nic: &str, uplinks: &[&Uplink], eswitches: &[Eswitch]) -> Line {
    let names: Vec<&str> = uplinks.iter().map(|it| it.name.as_deref().unwrap_or(&it.device)).collect();
    let names = names.join(" ");
    let wanted = format!("one uplink, a bond of all ({}), or a multiport eSwitch", MODES.join(", "));
    let remedy = format!("a bond of {names}, mode 802.3ad, before the eSwitch goes into switchdev mode");
    let line = |state, found: String| Line::new("lag", nic, state, found, wanted.as_str(), remedy.as_str());
    if let [_] = uplinks {
        return line(State::Passed, format!("one uplink, {names}"));
    }
    if let Some(why) = uplinks.iter().find_map(|it| it.bond.as_ref().err()) {
        return line(State::Unknown, why.clone());
    }
    let bonds: BTreeSet<Option<&str>> =
        uplinks.iter().map(|it| bond(it).map(|bond| bond.name.as_str())).collect();
    match (uplinks.iter().find_map(|it| bond(it)), bonds.len()) {
        (Some(bond), 1) => match &bond.mode {
            Ok(mode) if MODES.contains(&mode.as_str()) => {
                line(State::Passed, format!("{} of {names}, {mode}", bond.name))
            }
            Ok(mode) => line(State::Failed, format!("{} has mode {mode}, which no hardware does", bond.name)),
            Err(why) => line(State::Unknown, why.clone()),
        },
        (Some(bond), _) => line(State::Failed, format!("{} has not all of {names}", bond.name)),
        (None, _) => match multiport(nic, eswitches) {
            Ok(true) => line(State::Passed, "a multiport eSwitch".to_owned()),
            Ok(false) => {
                line(State::Warning, format!("{names}, neither in a bond nor in a multiport eSwitch"))
            }
            Err(why) => {
                line(State::Unknown, format!("{names} are in no bond, and multiport is not known: {why}"))
            }
        },
    }
}

fn bond(uplink: &Uplink) -> Option<&Bond> {
    uplink.bond.as_ref().ok()?.as_ref()
}

fn multiport(slot: &str, eswitches: &[Eswitch]) -> Fact<bool> {
    let mut all = Err("no eSwitch of this NIC was read".to_owned());
    for eswitch in eswitches.iter().filter(|it| nic(&it.device) == slot) {
        let on = eswitch.multiport.clone()? == "true";
        all = Ok(on && all != Ok(false));
    }
    all
}
