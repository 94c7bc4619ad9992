//! `host-shim`: Drawbridge's CNI plugin, on the server.
//!
//! It tells the SmartNIC's agent which VF went to which pod, and moves that VF's interface into the pod. It owns nothing
//! but the records of what it moved (`/run/host-shim`); it runs for one command and ends. It never decides who may have
//! which address, never touches the eSwitch, holds no credential of Kubernetes, and asks the PF for nothing.
//!
//! ```text
//!  runtime ── environment, JSON ──► commands ──► agent       gRPC, mutual TLS: Attach, Detach, Check, List, Status
//!                                     │  │  └──► kubelet     pod-resources: which device has the pod?
//!                                     │  └─────► device      sysfs: PF and number of the VF
//!                                     └─► state, vf, interface ──► link, netns      netlink
//! ```
//!
//! Failure: ADD asks the NIC first and undoes everything it did when a later step fails; a killed ADD leaves a record
//! that DEL, GC or the next ADD clear up. DEL brings the VF home whatever the NIC says.
//!
//! Sources: the CNI specification 1.1.0; k8s.io/kubelet's podresources/v1; Linux's net/core/{dev,rtnetlink}.c.
#![forbid(unsafe_code)]

pub mod addr;
pub mod agent;
pub mod args;
pub mod attachment;
pub mod commands;
pub mod config;
pub mod device;
pub mod error;
pub mod interface;
pub mod kubelet;
pub mod link;
pub mod netns;
pub mod result;
pub mod state;
pub mod version;
pub mod vf;

use std::fmt::Display;

use crate::{
    args::Environment,
    commands::restore::{Options, UsageError},
    error::CniError,
    version::CniVersion,
};

/// What the runtime reads: stdout and whether the command succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub stdout: String,
    pub success: bool,
}

/// Runs one CNI command. Needs a tokio runtime.
pub async fn run(environment: &Environment, stdin: &[u8]) -> Reply {
    match commands::run(environment, stdin).await {
        Ok(value) => {
            Reply { stdout: value.map(|value| value.to_string()).unwrap_or_default(), success: true }
        }
        Err(error) => fail(&error, stdin),
    }
}

/// `host-shim restore`, with the arguments after it. Needs a tokio runtime. True when there is nothing left to do.
///
/// # Errors
/// The command line makes no sense.
pub async fn restore(args: impl IntoIterator<Item = String>) -> Result<bool, UsageError> {
    let options = Options::parse(args)?;
    Ok(commands::restore::run(&options).await.unwrap_or_else(|error| {
        note(format_args!("restore: {error}"));
        false
    }))
}

/// The answer for an error, in the version that the configuration asks for.
pub fn fail(error: &CniError, stdin: &[u8]) -> Reply {
    note(error);
    let version = config::peek_version(stdin).unwrap_or(CniVersion::NEWEST);
    Reply { stdout: error.to_json(version).to_string(), success: false }
}

/// Says something to whoever reads the runtime's log. stdout belongs to the result.
pub(crate) fn note(what: impl Display) {
    eprintln!("host-shim: {what}");
}
