//! GC: detaches what the runtime no longer knows.
//!
//! Kept: what the runtime calls valid, and what belongs to another network, whose GC has its own list. What the NIC holds
//! without a record here was attached before the last boot, or its DEL could not tell.
//!
//! The CNI specification has a runtime run no ADD beside a GC. One that does all the same loses nothing: an ADD that began
//! after this GC, or that runs beside it, cannot be in the runtime's list, and is left alone. So what the NIC holds is
//! asked for before the records are read: an ADD writes its record before it asks the NIC.
use std::time::Duration;

use crate::{
    agent::Agent,
    args::Sandbox,
    commands::del,
    config::Config,
    error::{CniError, Code},
    note,
    state::{Record, StateDir, uptime},
};

const PATIENCE: Duration = Duration::from_secs(20);
/// As [`uptime`] has it. One that has not ended by then was killed: `timeoutSeconds` may be 600.
pub(super) const LONGEST_ADD: u64 = 15 * 60 * 1_000_000_000;

pub async fn run(config: &Config) -> Result<(), CniError> {
    let Some(valid) = &config.valid_attachments else {
        let msg = "cni.dev/valid-attachments: missing; without the runtime's list GC would detach every pod";
        return Err(CniError::new(Code::InvalidConfig, msg));
    };
    let state = StateDir::new(&config.state_dir);
    let began = uptime();
    let patience = PATIENCE.min(config.timeout);
    let agent = Agent::new(&config.access)?;
    let held = agent.list(patience).await;
    let records = state.list()?;
    let mut errors = Vec::new();
    for record in stale(&records, valid, &config.name, began) {
        // An ADD may have begun anew with it since.
        if state.load(&record.key())?.as_ref() != Some(record) {
            continue;
        }
        note(format_args!("GC: {} of sandbox {} is not valid any more", record.interface, record.sandbox));
        if let Err(error) = del::undo(config, &state, record, None).await {
            errors.push(error);
        }
    }
    let held = match held {
        Ok(held) => held,
        Err(error) => {
            errors.push(error.into());
            Vec::new()
        }
    };
    let held: Vec<Sandbox> = held
        .into_iter()
        .filter(|item| item.network == config.name)
        .filter_map(|item| item.sandbox)
        .map(|sandbox| Sandbox { id: sandbox.id, interface: sandbox.interface })
        .collect();
    for sandbox in unknown(&held, valid, &records) {
        note(format_args!(
            "GC: the NIC holds {} of sandbox {}, which is not ours",
            sandbox.interface, sandbox.id
        ));
        if let Err(error) = agent.detach(sandbox, patience).await {
            errors.push(error.into());
        }
    }
    let mut errors = errors.into_iter();
    match errors.next() {
        None => Ok(()),
        Some(first) => Err(errors.fold(first, CniError::with_details)),
    }
}

/// Records of this network that the runtime does not call valid, and could. `began`: when this GC did.
fn stale<'a>(records: &'a [Record], valid: &[Sandbox], network: &str, began: u64) -> Vec<&'a Record> {
    let runs = |record: &Record| {
        record.ended.is_none_or(|ended| ended >= began) && began.saturating_sub(record.began) < LONGEST_ADD
    };
    let is_stale =
        |record: &&Record| record.network == network && !valid.contains(&record.key()) && !runs(record);
    records.iter().filter(is_stale).collect()
}

/// What the NIC holds and neither the runtime nor any record knows.
fn unknown<'a>(held: &'a [Sandbox], valid: &[Sandbox], records: &[Record]) -> Vec<&'a Sandbox> {
    let recorded = |sandbox: &Sandbox| records.iter().any(|record| record.key() == *sandbox);
    held.iter().filter(|sandbox| !valid.contains(sandbox) && !recorded(sandbox)).collect()
}

#[cfg(test)]
mod tests;
