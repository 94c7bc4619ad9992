//! Preflight: is the NIC as the agent needs it? Kernel, eSwitch, uplinks, Open vSwitch, OVN, clock and certificates.
//!
//! ```text
//!  root of files ─┐
//!  devlink ───────┤
//!  OVSDB ─────────┼─► System ─► checks (pure) ─► Report ─┬─► table or JSON, exit status
//!  daemons ───────┤  (observe)                           └─► /run/nic-agent/preflight.json ─► agent (watch) ─► NicNode
//!  programs ──────┘
//! ```
//!
//! It is a run of its own, as the agent's sandbox sees next to nothing of this: the unit `nic-agent-preflight`. It changes
//! nothing but its file.
//!
//! Failure: what cannot be read is a fact of its own ([`Fact`]), and the check that needs it is [`State::Unknown`], never
//! passed. A file that makes no sense, or is another boot's, leaves the agent without a report, and it says so.

pub mod boot;
pub mod checks;
pub mod command;
pub mod file;
pub mod observe;
pub mod report;
pub mod system;
pub mod table;
pub mod version;
pub mod watch;

pub use report::{Line, Report, State};
pub use system::{Fact, System};

#[cfg(test)]
mod broken;
