//! Which functions are on the eSwitch that a configuration names.

use std::collections::BTreeSet;

use super::{Entry, Function};
use crate::netlink::devlink::DeviceHandle;

impl Function {
    /// Of which of the NIC's PFs it is, and so on which of its eSwitches. The uplink's number is its PF's
    /// (mlx5: `mlx5_get_dev_index`, for both).
    fn pf(self) -> Option<u32> {
        match self {
            Self::Uplink { number } => number,
            Self::Pf { pf, .. } | Self::Sf { pf, .. } => Some(pf.into()),
            Self::Vf { vf, .. } => Some(vf.pf.into()),
        }
    }
}

/// Marks those of the device; all, if none is named.
pub(super) fn select(entries: &mut [Entry], device: Option<&DeviceHandle>) {
    let Some(device) = device else { return };
    // What bears no device of its own is told by switch and PF together: the switch's id alone is that of all the NIC's PFs.
    let place = |entry: &Entry| Some((entry.switch_id.clone()?, entry.function.pf()?));
    let own: BTreeSet<_> =
        entries.iter().filter(|entry| entry.device.as_ref() == Some(device)).filter_map(place).collect();
    for entry in entries {
        entry.selected = match &entry.device {
            Some(has) => has == device,
            None => place(entry).is_some_and(|place| own.contains(&place)),
        };
    }
}
