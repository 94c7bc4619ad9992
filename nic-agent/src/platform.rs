//! What the reconcile loop touches, each behind a narrow interface: the platform's own types implement them, and in tests
//! types that keep what they were told and can fail.
//!
//! ```text
//!             ┌─► Links ─────── netlink: representors, TC        (`kernel`)
//!             ├─► Ovs ───────── OVSDB: bridges, ports            (`ovs::link`)
//!  Reconciler ┼─► Southbound ── OVSDB: logical ports             (`southbound::link`)
//!             ├─► Edge ─► Switch, SwitchSession ── OpenFlow, and conntrack by way of it (`openflow`)
//!             └─► Disk, Clock                                    (`durable`, here)
//! ```
//!
//! Each interface stands with the type that is the platform's own. Beside these the loop has channels: what it is asked, the
//! directory, policies, the configuration, and the audit's.

use std::fmt;
use std::time::Instant;

pub use crate::kernel::Links;
pub use crate::openflow::{Switch, SwitchSession};
pub use crate::ovs::link::Ovs;
pub use crate::southbound::link::Southbound;

use crate::kernel::Kernel;
use crate::openflow;
use crate::ovs::link::OvsLink;
use crate::southbound::link::SouthboundLink;

/// One of each.
pub trait Platform: 'static {
    type Links: Links;
    type Ovs: Ovs;
    type Southbound: Southbound;
    type Switch: Switch;
}

/// What the agent runs on.
#[derive(Debug, Clone, Copy)]
pub enum System {}

impl Platform for System {
    type Links = Kernel;
    type Ovs = OvsLink;
    type Southbound = SouthboundLink;
    type Switch = openflow::Socket;
}

/// What time it is.
pub trait Clock: fmt::Debug + Send + Sync {
    fn now(&self) -> Instant;
}

/// The kernel's.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }
}
