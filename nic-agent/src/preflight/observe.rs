//! Looks at the NIC: files below a root, what devlink says, Open vSwitch's database and daemons, and two programs.
//!
//! Reads only. Nothing here decides what is right. Each thing that cannot be read is a fact of its own, and keeps nothing
//! else from being read; nothing waits for longer than [`PATIENCE`].

mod certificates;
mod configuration;
mod kernel;
pub mod netlink;
mod program;
mod switch;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::boot;
use super::checks::SYSCTLS;
use super::system::{Eswitch, Fact, Kernel, System, Uplink};
use configuration::Places;

/// For each answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What netlink says, or was recorded.
pub struct Netlink {
    pub eswitches: Fact<Vec<Eswitch>>,
    pub uplinks: Fact<Vec<Uplink>>,
}

/// `root` is `/`, and `configuration` the agent's file, which is not below it.
pub async fn system(root: &Path, configuration: &Path, netlink: Netlink) -> System {
    let Netlink { mut eswitches, mut uplinks } = netlink;
    for eswitch in eswitches.iter_mut().flatten() {
        eswitch.privileges = program::privileges(root, &eswitch.device).await;
    }
    for uplink in uplinks.iter_mut().flatten() {
        if let Ok(Some(bond)) = &mut uplink.bond {
            bond.mode = kernel::bond_mode(root, &bond.name);
        }
    }
    let (configuration, places) = configuration::read(configuration);
    let Places { db, ovs_run_dir, ovn_run_dir, certificates } = places;
    let (switch, ovs_version, ovn_version, synchronised) = tokio::join!(
        switch::database(db),
        switch::version(&ovs_run_dir, "ovs-vswitchd"),
        switch::version(&ovn_run_dir, "ovn-controller"),
        program::synchronised(root),
    );
    System {
        now: now(),
        boot_id: boot::of_root(root),
        configuration,
        kernel: Kernel { options: kernel::options(root), page_size: kernel::page_size() },
        sysctls: SYSCTLS.into_iter().map(|name| (name, kernel::sysctl(root, name))).collect(),
        eswitches,
        uplinks,
        switch,
        ovs_version,
        ovn_version,
        synchronised,
        certificates: certificates::all(&certificates),
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
