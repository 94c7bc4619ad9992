//! All that there is outside of the agent, and the faults it is to have.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use offload::ids::{CtZone, IfIndex, MacAddr, VfId};
use offload::openflow::{Flow, FlowKey, Meter};

use super::disk::Holder;
use super::southbound::LogicalPort;
use crate::ledger::MORE;
use crate::ovs::view::{BridgeView, OvsView};
use crate::reconcile::LEDGER;

pub const EDGE: &str = "br-edge";
pub const INTEGRATION: &str = "br-int";

/// What the agent does to the world, in the order in which it does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    Close(String),
    Open(String),
    SetMtu(String),
    /// A transaction, by its steps.
    Ovs(Vec<String>),
    /// A bundle: how many flows it adds or changes, and how many it deletes.
    Flows {
        put: usize,
        deleted: usize,
    },
    Meters,
    Flush(CtZone),
    /// A file's name.
    Write(String),
}

impl Effect {
    pub fn part(&self) -> Part {
        match self {
            Self::Close(_) | Self::Open(_) | Self::SetMtu(_) => Part::Links,
            Self::Ovs(_) => Part::Ovs,
            Self::Flows { .. } | Self::Meters | Self::Flush(_) => Part::Switch,
            Self::Write(_) => Part::Disk,
        }
    }
}

/// What can fail by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Changing links; looking at them.
    Links,
    Sight,
    Ovs,
    Switch,
    Disk,
}

/// The agent's process ends here, in the midst of what it does.
#[derive(Debug)]
pub struct Crash;

/// A representor.
#[derive(Debug, Clone)]
pub struct Rep {
    pub ifindex: IfIndex,
    pub up: bool,
    /// Our TC rule that drops all is there.
    pub closed: bool,
    pub mtu: u32,
    /// A port of ovs-vswitchd's datapath.
    pub in_datapath: bool,
}

impl Rep {
    pub fn is_open(&self) -> bool {
        self.up && !self.closed
    }
}

/// By a representor's name: `r-pf0vf1`, or `r-pf0` of the server's own PF.
pub fn rep_name(vf: Option<VfId>) -> String {
    vf.map_or_else(|| "r-pf0".to_owned(), |vf| format!("r-{vf}"))
}

#[derive(Debug)]
pub struct State {
    pub reps: BTreeMap<Option<VfId>, Rep>,
    pub next_ifindex: u32,
    pub ovs: OvsView,
    pub ovsdb_up: bool,
    /// ovs-vswitchd.
    pub switch_up: bool,
    /// Sessions of an older one are lost.
    pub switch_starts: u64,
    /// It waits for its flows (`flow-restore-wait`), and passes nothing.
    pub switch_waits: bool,
    pub ovn_controller_up: bool,
    pub flows: BTreeMap<FlowKey, Flow>,
    pub meters: BTreeMap<u32, Meter>,
    /// Whose connections each zone has: pods, by their MAC.
    pub connections: BTreeMap<CtZone, BTreeSet<MacAddr>>,
    /// What the datapath still does for flows that are deleted.
    pub late: Vec<(CtZone, MacAddr)>,
    pub logical_ports: BTreeMap<String, LogicalPort>,
    pub southbound_up: bool,
    /// As this process of the agent has last seen them.
    pub seen_ports: Option<BTreeMap<String, LogicalPort>>,
    pub asked: BTreeSet<String>,
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    /// Of the ledger on the disk.
    pub holders: BTreeMap<VfId, Holder>,
    pub elapsed: Duration,
    pub log: Vec<Effect>,
    /// Of the parts that fail now, all attempts.
    pub failing: BTreeSet<Part>,
    /// So many effects from now, the agent ends before it has one more.
    pub crash_in: Option<u64>,
    /// The ledger on the disk is older than what the agent goes by: a disk that takes nothing stops nobody.
    pub ledger_behind: bool,
    /// The process ended then: of a zone whose first flow the disk does not know, nobody knows that it is to be emptied.
    pub ledger_lost: bool,
    pub violations: Vec<String>,
}

/// Cheap to clone; all of them are the one world.
#[derive(Clone)]
pub struct World {
    state: Arc<Mutex<State>>,
    pub began: Instant,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

impl World {
    /// A NIC with so many VFs, all daemons up, and connections of strangers in every zone.
    pub fn new(vfs: u16, zones: impl Iterator<Item = CtZone>) -> Self {
        let open = |ifindex| Rep {
            ifindex: IfIndex(ifindex),
            up: true,
            closed: false,
            mtu: 1500,
            in_datapath: false,
        };
        let functions = (0..vfs).map(|vf| Some(VfId { pf: 0, vf })).chain([None]);
        let reps: BTreeMap<_, _> = functions.zip((10..).map(open)).collect();
        let integration = (INTEGRATION.to_owned(), BridgeView::default());
        let stranger = MacAddr([2, 0, 0, 0, 0xff, 0xff]);
        let state = State {
            next_ifindex: 1000,
            reps,
            ovs: OvsView { bridges: [integration].into(), ..OvsView::default() },
            ovsdb_up: true,
            switch_up: true,
            switch_starts: 0,
            switch_waits: false,
            ovn_controller_up: true,
            flows: BTreeMap::new(),
            meters: BTreeMap::new(),
            connections: zones.map(|zone| (zone, [stranger].into())).collect(),
            late: Vec::new(),
            logical_ports: BTreeMap::new(),
            southbound_up: true,
            seen_ports: None,
            asked: BTreeSet::new(),
            files: BTreeMap::new(),
            holders: BTreeMap::new(),
            elapsed: Duration::ZERO,
            log: Vec::new(),
            failing: BTreeSet::new(),
            crash_in: None,
            ledger_behind: false,
            ledger_lost: false,
            violations: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), began: Instant::now() }
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came to be done since the last call.
    pub fn take_log(&self) -> Vec<Effect> {
        std::mem::take(&mut self.lock().log)
    }
}

impl State {
    pub fn fails(&mut self, part: Part) {
        self.failing.insert(part);
    }

    /// Before the agent changes something: the process may end here, or the attempt fail.
    pub fn attempt(&mut self, effect: Effect) -> Result<(), String> {
        if let Some(left) = self.crash_in {
            if left == 0 {
                self.crash_in = None;
                std::panic::resume_unwind(Box::new(Crash));
            }
            self.crash_in = Some(left - 1);
        }
        let part = effect.part();
        if matches!(&effect, Effect::Write(file) if [LEDGER, MORE].contains(&file.as_str())) {
            self.ledger_behind = self.failing.contains(&part);
        }
        if self.failing.contains(&part) {
            return Err(format!("{part:?} is made to fail"));
        }
        self.log.push(effect);
        Ok(())
    }

    pub fn violated(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.violations.contains(&what) {
            self.violations.push(what);
        }
    }
}
