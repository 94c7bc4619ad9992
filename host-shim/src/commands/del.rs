//! DEL: brings the VF home, tells the NIC, forgets.
//!
//! Succeeds when nothing is left, as often as it is called, and needs no namespace: a VF whose pod's namespace is gone is
//! looked for by its PCI address. One that is nowhere (destroyed, or in a namespace we cannot see) is said on stderr and
//! no error.
//!
//! The VF comes home whatever the NIC says. If the NIC then cannot be reached and may still hold the attachment, DEL
//! fails with code 11 and the record stays. kubelet then keeps the pod, with its device, and tries again: so the VF is
//! not handed to the next pod while the NIC still takes it for the old one's. Without a record (after a reboot of the
//! server, or after a DEL that went through) there is nothing to protect: the NIC is told if it listens, GC and the
//! agent's own view of the API do the rest, and DEL succeeds.
use std::{path::Path, time::Duration};

use crate::{
    agent::Agent,
    args::{Environment, Sandbox},
    commands::remember_name,
    config::Config,
    device::Sysfs,
    error::CniError,
    note,
    state::{Record, StateDir, StateError},
    vf::{self, VfError},
};

/// kubelet gives a sandbox's end two minutes in all, and comes again.
const PATIENCE: Duration = Duration::from_secs(20);
const PATIENCE_UNKNOWN: Duration = Duration::from_secs(3);

pub async fn run(environment: &Environment, config: &Config) -> Result<(), CniError> {
    let sandbox = environment.sandbox()?;
    let netns = environment.netns();
    let state = StateDir::new(&config.state_dir);
    let Some(record) = state.load(&sandbox)? else {
        forget(config, &sandbox).await;
        return Ok(());
    };
    undo(config, &state, &record, netns.as_deref()).await
}

/// Undoes a recorded attachment: all of it that can be, with every error said.
pub async fn undo(
    config: &Config,
    state: &StateDir,
    record: &Record,
    netns: Option<&Path>,
) -> Result<(), CniError> {
    let record = &mark_leaving(state, record);
    let home = bring_home(config, state, record, netns).await;
    let detached = detach(config, &record.key(), PATIENCE.min(config.timeout)).await;
    match (home, detached) {
        (Ok(()), Ok(_)) => Ok(state.remove(&record.key())?),
        (Ok(()), Err(error)) => Err(error),
        (Err(error), Ok(_)) => Err(error.into()),
        (Err(error), Err(other)) => Err(CniError::from(error).with_details(other)),
    }
}

/// From here on no restore puts the VF back into the pod; one that is at work has ended. DEL goes on whatever fails here.
fn mark_leaving(state: &StateDir, record: &Record) -> Record {
    let mark = || {
        let _lock = state.lock()?;
        let newest = state.load(&record.key())?.unwrap_or_else(|| record.clone());
        let leaving = Record { leaving: true, ..newest };
        state.save(&leaving)?;
        Ok::<_, StateError>(leaving)
    };
    mark().unwrap_or_else(|error| {
        note(error);
        record.clone()
    })
}

/// Gives the VF back to the host, from wherever it is.
async fn bring_home(
    config: &Config,
    state: &StateDir,
    record: &Record,
    netns: Option<&Path>,
) -> Result<(), VfError> {
    let Some(home) = &record.vf else { return Ok(()) };
    // At home first: a pod's own device may have the index that the VF had there before it vanished.
    let found = match vf::find_at_home(record.pci, &Sysfs::new(&config.sysfs))? {
        Some(found) => Some(found),
        None => vf::find_away(record, netns)?,
    };
    let Some(found) = found else {
        let netns = record.netns.display();
        note(format_args!("VF {} is neither in {netns} nor on the host: nothing to bring home", record.pci));
        remember_name(state, home, None);
        return Ok(());
    };
    let link = vf::bring_home(&found, home).await?;
    remember_name(state, home, Some(&link));
    Ok(())
}

async fn detach(config: &Config, sandbox: &Sandbox, patience: Duration) -> Result<bool, CniError> {
    Ok(Agent::new(&config.access)?.detach(sandbox, patience).await?)
}

/// Tells the NIC about a sandbox that we know nothing of.
async fn forget(config: &Config, sandbox: &Sandbox) {
    match detach(config, sandbox, PATIENCE_UNKNOWN.min(config.timeout)).await {
        Ok(true) => {
            note(format_args!(
                "the NIC still knew {} of {}, which we did not",
                sandbox.interface, sandbox.id
            ));
        }
        Ok(false) => {}
        Err(error) => {
            note(format_args!("nothing is recorded for this sandbox, and the NIC was not told: {error}"));
        }
    }
}
