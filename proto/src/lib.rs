//! The gRPC contract between `host-shim` on the server and `nic-agent` on its SmartNIC, generated from
//! `proto/nic_agent.proto`.
#![forbid(unsafe_code)]

/// Version 1 of the contract.
pub mod v1 {
    #![allow(clippy::all, clippy::pedantic, missing_docs)]
    tonic::include_proto!("drawbridge.nic.v1");
}

mod refusal;
pub use refusal::{DOMAIN, reason, refusal};

/// Reason of a request that came too soon after others, and is worth another try.
pub const TOO_MANY_REQUESTS: &str = "too-many-requests";

/// `CheckRequest.problem`: at most so many characters, all of them printable ASCII.
pub const PROBLEM_MAX: usize = 256;
