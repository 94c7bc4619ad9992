//! When is a change of the cluster's objects in force?

use std::collections::BTreeMap;
use std::time::Duration;

use crate::nic::Nic;
use crate::policy_lab::{policy_of, revalidated};
use crate::until;

const PATIENCE: Duration = Duration::from_secs(40);

/// By kind, as `networkpolicies`: the newest version that must have been heard of.
pub type Versions = BTreeMap<&'static str, u64>;

/// The newest version of each kind that the NIC's agent says it has heard of.
pub fn heard(nic: Nic) -> Result<BTreeMap<String, u64>, String> {
    let said = policy_of(nic)?;
    let source = said["source"].as_str().unwrap_or_default();
    let version = |it: &str| {
        let (kind, version) = it.split_once('=')?;
        Some((kind.to_owned(), version.parse().ok()?))
    };
    Ok(source.split(' ').filter_map(version).collect())
}

/// Returns when this NIC's agent says that its tables follow these versions, and the datapath follows the tables. What
/// concerns no pod of the NIC its agent says only with its next pass: do not wait for that.
#[track_caller]
pub fn in_force(nic: Nic, wanted: &Versions) {
    until(&format!("{nic:?} follows {wanted:?}"), PATIENCE, || {
        let heard = heard(nic)?;
        let is_there = wanted.iter().all(|(kind, version)| heard.get(*kind) >= Some(version));
        if is_there { Ok(()) } else { Err(format!("{heard:?}")) }
    });
    revalidated(nic);
}
