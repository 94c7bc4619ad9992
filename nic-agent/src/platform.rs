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
//! Beside these it has channels: what it is asked, the directory, policies, the configuration, and the audit's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::time::Instant;

use offload::ids::CtZone;
use offload::openflow::{FlowMod, InstalledFlow, InstalledMeter, MeterMod, MeterStats};

use crate::attachment::Binding;
use crate::config::Profile;
use crate::kernel::{Kernel, Seen};
use crate::openflow;
use crate::ovs::link::{OvsError, OvsLink};
use crate::ovs::plan::OvsStep;
use crate::ovs::unixctl::ControlError;
use crate::ovs::view::OvsView;
use crate::reconcile::links::LinkStep;
use crate::reconcile::stage::PortState;
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

/// Representors, and the TC rules on them.
pub trait Links: Send + Sync + 'static {
    fn observe(&self) -> impl Future<Output = Result<Seen, String>> + Send;

    /// In their order, each of them whatever became of the others. Returns what failed.
    fn apply(&self, steps: Vec<LinkStep>) -> impl Future<Output = Vec<String>> + Send;

    /// Open vSwitch makes all its flows again: what is known of the old ones says nothing of them.
    fn forget_flows(&self);
}

/// The Open_vSwitch database, and ovs-vswitchd's control socket.
pub trait Ovs: Send + Sync + 'static {
    /// The database, or why it is not to be seen now.
    fn view(&mut self) -> Result<OvsView, String>;

    /// Resolves when the view may be another.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;

    /// All of these steps, or none: one transaction. `bump`: `cur_cfg` comes to `next_cfg` when ovs-vswitchd has taken them over.
    fn apply(&mut self, steps: &[OvsStep], bump: bool) -> impl Future<Output = Result<(), OvsError>> + Send;

    /// ovs-vswitchd makes its datapath's flows again. Resolves when all are deleted.
    fn forget_flows(&self, run_dir: &Path)
    -> impl Future<Output = Result<(), ControlError>> + Send + 'static;
}

/// OVN's southbound database.
pub trait Southbound: Send + Sync + 'static {
    /// Resolves when the answers may be others.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;

    /// From now on these logical ports are followed, and no others.
    fn ask_for(&mut self, ports: &BTreeSet<String>);

    /// Why nothing can be learned now, if so.
    fn unready(&self) -> Option<String>;

    /// Those of the northbound's port, as last known.
    fn external_ids(&self, port: &str) -> Option<BTreeMap<String, String>>;

    /// What is known of each of these ports, by the uid of the pod that claims it, with its identity where it gives one.
    fn ports(
        &mut self,
        claimed: &BTreeMap<String, String>,
        own_chassis: &str,
        profile: &Profile,
    ) -> BTreeMap<String, (PortState, Option<Binding>)>;
}

/// A bridge's OpenFlow socket.
pub trait Switch: Send + Sync + 'static {
    type Session: SwitchSession;

    fn connect(&self) -> impl Future<Output = Result<Self::Session, openflow::Error>> + Send;
}

/// What is asked of a bridge, and of conntrack, in one session.
pub trait SwitchSession: Send + Sync + 'static {
    /// Resolves when the connection is lost.
    fn closed(&self) -> impl Future<Output = ()> + Send;

    fn dump_flows(&self) -> impl Future<Output = Result<Vec<InstalledFlow>, openflow::Error>> + Send;

    fn meters(&self) -> impl Future<Output = Result<Vec<InstalledMeter>, openflow::Error>> + Send;

    fn meter_stats(&self) -> impl Future<Output = Result<Vec<MeterStats>, openflow::Error>> + Send;

    /// Each by itself, in their order.
    fn change_meters(&self, changes: &[MeterMod])
    -> impl Future<Output = Result<(), openflow::Error>> + Send;

    /// All of these, or none.
    fn apply(&self, changes: &[FlowMod]) -> impl Future<Output = Result<(), openflow::Error>> + Send;

    /// Forgets the connections of a zone. Resolves when that is done.
    fn flush_ct_zone(&self, zone: CtZone) -> impl Future<Output = Result<(), openflow::Error>> + Send;
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
