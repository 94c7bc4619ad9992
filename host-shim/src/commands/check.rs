//! CHECK: is the interface as ADD left it, and does the NIC say the same?
//!
//! Compares with the runtime's `prevResult` and with what the NIC now says: an address that was changed at the NIC is
//! found as well as one that was removed in the pod. What the pod added is its own business.
use std::time::Duration;

use crate::{
    agent::Agent,
    args::Environment,
    config::Config,
    error::{CniError, Code},
    interface::{self, Expected},
    netns::Netns,
    result::PrevInterface,
    state::StateDir,
};

const PATIENCE: Duration = Duration::from_secs(20);

pub async fn run(environment: &Environment, config: &Config) -> Result<(), CniError> {
    let sandbox = environment.sandbox()?;
    let path = environment.required_netns()?;
    let Some(prev) = &config.prev_result else {
        return Err(CniError::new(
            Code::InvalidConfig,
            "prevResult: missing; the runtime must give ADD's result to CHECK",
        ));
    };
    let Some(wanted) = PrevInterface::find(prev, &sandbox.interface)? else {
        let msg = format!("prevResult: holds no interface {} in a sandbox; was it ADD's?", sandbox.interface);
        return Err(CniError::new(Code::InvalidConfig, msg));
    };
    let netns = Netns::open(&path)?;
    let mismatch = |problems: &[String]| {
        let msg = format!(
            "{} in {} is not as ADD left it: {}",
            sandbox.interface,
            path.display(),
            problems.join("; ")
        );
        CniError::new(Code::Mismatch, msg)
    };
    let Some((_, observed)) = interface::observe(&netns, &sandbox.interface).await? else {
        return Err(mismatch(&["there is no such interface".into()]));
    };
    // A chained interface has routes that may go out elsewhere: its own plugin checks them.
    let record = StateDir::new(&config.state_dir).load(&sandbox)?;
    let relayed = record.is_some_and(|record| record.vf.is_none());
    let expected = Expected {
        mac: wanted.mac,
        mtu: wanted.mtu,
        addresses: wanted.addresses,
        routes: if relayed { Vec::new() } else { wanted.routes },
    };
    let problems = expected.missing_in(&observed);
    if !problems.is_empty() {
        return Err(mismatch(&problems));
    }
    let said = Agent::new(&config.access)?.check(&sandbox, None, PATIENCE.min(config.timeout)).await?;
    let mut expected = Expected::from(&said);
    if relayed {
        expected = Expected { mac: expected.mac, ..Expected::default() };
    }
    let problems = expected.missing_in(&observed);
    if problems.is_empty() {
        Ok(())
    } else {
        Err(mismatch(&problems).with_details("compared with what the NIC says now"))
    }
}
