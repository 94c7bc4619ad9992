//! STATUS: could an ADD succeed now?
//!
//! A NIC whose agent is away keeps its data path, so code 51 (pods that are there lose connectivity) is never right.
use std::time::Duration;

use crate::{
    agent::Agent,
    config::Config,
    error::{CniError, Code},
};

/// Runtimes ask every few seconds and wait meanwhile (containerd: within kubelet's own status call).
const PATIENCE: Duration = Duration::from_secs(5);

pub async fn run(config: &Config) -> Result<(), CniError> {
    let not_available = |error: CniError| CniError { code: Code::NotAvailable, ..error };
    let agent = Agent::new(&config.access).map_err(|error| not_available(error.into()))?;
    let status =
        agent.status(PATIENCE.min(config.timeout)).await.map_err(|error| not_available(error.into()))?;
    if status.ready {
        return Ok(());
    }
    let reason = if status.reason.is_empty() { "it does not say why" } else { &status.reason };
    let msg = format!("the NIC is not ready to attach pods: {reason}");
    Err(CniError::new(Code::NotAvailable, msg).with_details(format_args!("nic-agent {}", status.version)))
}
