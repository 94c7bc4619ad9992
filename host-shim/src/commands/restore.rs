//! `host-shim restore`: puts VFs that came back to the host into the pods that they were of.
//!
//! A VF vanishes under its pod when the NIC reboots or `sriov_numvfs` is written, and comes back as a new interface on the
//! host. No runtime asks for it a second time, so udev does (`host-shim-restore@.service`). Everything that it needs, ADD
//! has recorded; the NIC need not answer, for it decides what passes, whatever is put where.
//!
//! Safe beside everything else, and as often as one likes: under the lock, a record is looked at again, and left alone while
//! its ADD runs, from the moment that its DEL has begun, when another sandbox has claimed the VF since, and when the VF is
//! in the pod. What could not be restored is said to the NIC, which tells the cluster.
use std::{path::PathBuf, time::Duration};

use thiserror::Error;

use crate::{
    agent::{Agent, AgentError},
    args::Sandbox,
    commands::gc::LONGEST_ADD,
    device::{DeviceError, PciAddress, Sysfs},
    interface,
    link::LinkError,
    netns::{Netns, NetnsError},
    note,
    state::{Record, Restorable, StateDir, StateError, VfRecord, uptime},
    vf::{self, Found, VfError},
};

/// The NIC may be booting still; who waits here is nobody but udev's unit.
const PATIENCE: Duration = Duration::from_secs(20);
const DEFAULT_STATE: &str = "/run/host-shim";

/// A command line that cannot be followed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UsageError {
    #[error("{0:?} is neither --state-dir DIR nor a PCI address; see host-shim(8)")]
    Argument(String),
    #[error("--state-dir: {0:?} is not an absolute path; give the stateDir of the network configuration")]
    StateDir(String),
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub state_dir: PathBuf,
    /// Empty: all that are recorded.
    pub devices: Vec<PciAddress>,
}

impl Options {
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, UsageError> {
        let mut options = Self { state_dir: DEFAULT_STATE.into(), devices: Vec::new() };
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            if arg == "--state-dir" {
                let path = args.next().unwrap_or_default();
                options.state_dir = PathBuf::from(&path);
                if !options.state_dir.is_absolute() {
                    return Err(UsageError::StateDir(path));
                }
            } else {
                options.devices.push(arg.parse().map_err(|_| UsageError::Argument(arg))?);
            }
        }
        Ok(options)
    }
}

/// Why a pod stays without its interface.
#[derive(Debug, Error)]
pub enum RestoreError {
    #[error("its record was written by an older host-shim and does not say its addresses; delete the pod")]
    OldRecord,
    #[error("another plugin of the chain owns the interface and does not restore it; delete the pod")]
    Chained,
    #[error("VF {0} is not on the host: is its driver loaded, has a virtual machine got it?")]
    NotThere(PciAddress),
    #[error(
        "VF {pci} was number {was} of PF {was_pf}, and is number {now} of PF {now_pf} now: it is another function; delete \
         the pod"
    )]
    OtherFunction { pci: PciAddress, was_pf: u8, was: u32, now_pf: u8, now: u32 },
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Vf(#[from] VfError),
}

/// What there was to do for a record.
enum Outcome {
    /// Nothing; why stands for people.
    Left(&'static str),
    /// The interface is where it belongs.
    InPlace(Box<Restorable>),
    Restored(Box<Restorable>),
}

/// True when every pod that has a record has its interface.
pub async fn run(options: &Options) -> Result<bool, StateError> {
    let state = StateDir::new(&options.state_dir);
    let is_asked_for = |record: &Record| options.devices.is_empty() || options.devices.contains(&record.pci);
    let mut outcomes = Vec::new();
    for record in state.list()?.into_iter().filter(is_asked_for) {
        let outcome = one(&state, &record.key()).await;
        let what = format!("restore: {} of sandbox {} (VF {})", record.interface, record.sandbox, record.pci);
        match &outcome {
            Ok(Outcome::Left(why)) => note(format_args!("{what}: {why}")),
            Ok(Outcome::InPlace(_)) => {}
            Ok(Outcome::Restored(_)) => note(format_args!("{what}: is in its pod again")),
            Err(error) => note(format_args!("{what}: {error}")),
        }
        outcomes.push((record, what, outcome));
    }
    // A NIC that is not up yet keeps no pod waiting.
    let mut all = true;
    for (record, what, outcome) in outcomes {
        all &= match outcome {
            Ok(Outcome::Left(_)) => true,
            Ok(Outcome::InPlace(restorable) | Outcome::Restored(restorable)) => {
                ask(&record.key(), &what, &restorable).await
            }
            Err(error) => {
                tell(&record, &what, &error).await;
                false
            }
        };
    }
    Ok(all)
}

/// Says that all is well here, and hears what the NIC means by the attachment now.
async fn ask(key: &Sandbox, what: &str, restorable: &Restorable) -> bool {
    let said = async { Agent::new(&restorable.access)?.check(key, None, PATIENCE).await };
    match said.await {
        Ok(said) if said.is_within(&restorable.attachment) => true,
        Ok(_) => {
            note(format_args!("{what}: the NIC gives it other addresses now; delete the pod"));
            false
        }
        Err(error @ AgentError::Refused { .. }) => {
            note(format_args!("{what}: {error}; delete the pod if that stays"));
            false
        }
        Err(error) => {
            note(format_args!(
                "{what}: the NIC did not confirm it, traffic begins when it is ready: {error}"
            ));
            true
        }
    }
}

/// Says what is wrong to the NIC, which tells the cluster.
async fn tell(record: &Record, what: &str, problem: &RestoreError) {
    let Some(Restorable { access, .. }) = &record.restorable else { return };
    let problem = problem.to_string();
    let told = async { Agent::new(access)?.check(&record.key(), Some(&problem), PATIENCE).await };
    if let Err(error) = told.await {
        note(format_args!("{what}: the NIC was not told: {error}"));
    }
}

async fn one(state: &StateDir, key: &Sandbox) -> Result<Outcome, RestoreError> {
    let _lock = state.lock()?;
    let Some(record) = state.load(key)? else { return Ok(Outcome::Left("deleted meanwhile")) };
    if record.leaving {
        return Ok(Outcome::Left("is being deleted"));
    }
    // A host-shim that knew no times knew nothing of restoring either.
    let is_young = uptime().saturating_sub(record.began) < LONGEST_ADD;
    if record.ended.is_none() && (is_young || record.restorable.is_some()) {
        return Ok(Outcome::Left("its ADD has not ended"));
    }
    let is_newer =
        |other: &Record| other.pci == record.pci && other.key() != record.key() && other.began > record.began;
    if state.list()?.iter().any(is_newer) {
        return Ok(Outcome::Left("another sandbox has the VF now"));
    }
    let pod = match Netns::open(&record.netns) {
        Ok(pod) => pod,
        Err(NetnsError::Gone { .. }) => return Ok(Outcome::Left("its network namespace is gone")),
        Err(error) => return Err(error.into()),
    };
    let at_home = match &record.restorable {
        Some(restorable) => vf::find_at_home(record.pci, &Sysfs::new(&restorable.sysfs))?,
        None => None,
    };
    // Only what is not on the host can be in the pod: there, a device of the pod's own may have got the index that ours had.
    let in_pod = if at_home.is_none() { vf::find_in_pod(&record)? } else { None };
    if record.vf.is_none() {
        let there = interface::observe(&pod, &record.interface).await?;
        return there.map(|_| Outcome::Left("is there")).ok_or(RestoreError::Chained);
    }
    let Some(restorable) = record.restorable.clone() else {
        return in_pod.map(|_| Outcome::Left("is there")).ok_or(RestoreError::OldRecord);
    };
    // What the pod did to its own interface is its own business.
    if in_pod.is_some() && !record.restoring {
        return Ok(Outcome::InPlace(Box::new(restorable)));
    }
    let found = at_home.or(in_pod).ok_or(RestoreError::NotThere(record.pci))?;
    give(state, record, found, &pod, &restorable).await?;
    Ok(Outcome::Restored(Box::new(restorable)))
}

/// Moves the VF and sets it up as ADD did. Half done, it stays in the pod, where the next restore goes on: brought back to
/// the host it would be an event of udev's, and so the next restore at once, for ever.
async fn give(
    state: &StateDir,
    mut record: Record,
    found: Found,
    pod: &Netns,
    restorable: &Restorable,
) -> Result<(), RestoreError> {
    let pci = record.pci;
    let sysfs = Sysfs::new(&restorable.sysfs);
    let now = sysfs.vf(pci)?;
    if (now.pf, now.index) != (restorable.pf, restorable.vf) {
        let (was_pf, was) = (restorable.pf, restorable.vf);
        return Err(RestoreError::OtherFunction { pci, was_pf, was, now_pf: now.pf, now: now.index });
    }
    sysfs.check_driver(pci)?;
    let link = if found.netns.is(pod) {
        found.link
    } else {
        // A function that was made again has a MAC of its own, and may have other names.
        let fresh = VfRecord::of(pci, &found.link, true);
        record.vf = Some(state.lost_name(pci, Some(&found.link.name)).unwrap_or(fresh));
        record.restoring = true;
        record.index = None;
        state.save(&record)?;
        vf::send(&found, pod, pci).await?
    };
    record.index = Some(link.index);
    record.has_parent = link.parent.is_some();
    state.save(&record)?;
    interface::configure(pod, &link, &record.interface, &restorable.attachment).await?;
    interface::confirm(pod, &record.interface, &restorable.attachment).await?;
    record.restoring = false;
    Ok(state.save(&record)?)
}

#[cfg(test)]
mod tests;
