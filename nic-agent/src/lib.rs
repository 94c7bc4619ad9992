//! Drawbridge's agent on the SmartNIC. It owns Open vSwitch and the boundary of each pod's VF, and believes nothing that
//! the server says.
#![forbid(unsafe_code)]

pub mod claim;
pub mod config;
mod names;
pub mod metrics;
pub mod service_manager;
