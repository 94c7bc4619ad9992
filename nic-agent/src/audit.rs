//! Connections are held against the policy in force, again and again, whatever Open vSwitch did when.
//!
//! ```text
//!  reconcile loop ── coming, in the tables ──► Zones ──┬──► listener: conntrack's NEW events   (early, may lose some)
//!                                                      ├──► audit: a dump, every 4 s and when something asks for it
//!  Open vSwitch ◄── proof: the datapath follows ───────┤        what policy denies is deleted, whenever it is found
//!        the tables (ovs::control)                     └──► Progress ──► reconcile loop: `settled`
//! ```
//!
//! Established packets pass whatever the rules say. A connection that a policy denies is there because the policy was
//! another when it began, or because a busy switch let it begin by rules that were no longer in force (`ovs::control`
//! says how). Nobody looks at it again, so this does: a denied connection is in conntrack no longer than one audit, and
//! the hardware follows within one sweep of its flow table.
//!
//! A pod is *settled* when the tables have its rules, then Open vSwitch has shown that its datapath follows them, then an
//! audit that began after that found nothing, then the flow tables have let go of what was cut, or their sweeps are over,
//! and then whatever waited in Open vSwitch's queues has passed ([`progress`]). What is found later is cut all the same, and the pod is not settled until the next audit that
//! finds nothing.
//!
//! Runs beside the reconcile loop, which must not wait for it. What fails is tried again; until then nobody is settled.

mod drain;
mod listener;
mod loads;
mod look;
mod progress;
mod proof;
mod worker;
mod zones;

use std::sync::Arc;

use offload::ids::CtZone;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::attachment::AttachmentId;
use crate::config::ZoneRange;
use crate::marks::Marks;
use crate::metrics::Metrics;
use crate::news;
use crate::ovs::control::Switch;

pub use loads::{Load, Loads};
pub use progress::{Held, PodProgress, Stage};
pub use zones::{Wanted, ZoneRules, Zones};

/// What the worker has come to, by attachment.
pub type Progress = std::collections::BTreeMap<AttachmentId, PodProgress>;

/// The reconcile loop's end.
#[derive(Debug)]
pub struct Auditor {
    zones: Zones,
    /// Of the newest change of the tables.
    version: u64,
    publish: watch::Sender<Arc<Zones>>,
    names: watch::Sender<Marks>,
    pub(crate) progress: watch::Receiver<Arc<Progress>>,
    /// How many connections a pod may have.
    limit: watch::Sender<u32>,
    pub(crate) loads: watch::Receiver<Loads>,
}

/// The worker's: what it is told, and where it says what it has come to.
#[derive(Debug)]
pub(crate) struct OtherEnd {
    pub(crate) zones: watch::Receiver<Arc<Zones>>,
    marks: watch::Receiver<Marks>,
    limits: watch::Receiver<u32>,
    pub(crate) report: watch::Sender<Arc<Progress>>,
    pub(crate) loads: watch::Sender<Loads>,
}

impl Auditor {
    /// Without a worker: whoever has the other end is one.
    pub(crate) fn new() -> (Self, OtherEnd) {
        let (publish, zones) = watch::channel(Arc::default());
        let (report, progress) = watch::channel(Arc::default());
        let (names, marks) = watch::channel(Marks::default());
        let (limit, limits) = watch::channel(u32::MAX);
        let (tell_loads, loads) = watch::channel(Loads::default());
        let auditor = Self { zones: Zones::new(), version: 0, publish, names, progress, limit, loads };
        (auditor, OtherEnd { zones, marks, limits, report, loads: tell_loads })
    }

    /// `range` are the zones that may be the pods'.
    pub fn start(
        switch: Switch,
        range: ZoneRange,
        metrics: Metrics,
        cancel: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (auditor, OtherEnd { zones, marks, limits, report, loads }) = Self::new();
        let worker = async move {
            let (found, from_listener) = mpsc::channel(listener::WAITING);
            let (prove, to_prove) = watch::channel(0);
            let (proven, proofs) = watch::channel(proof::Proof::default());
            let listener = listener::Listener { range, zones: zones.clone(), found, cancel: cancel.clone() };
            // A thread of its own: the socket blocks.
            std::thread::spawn(move || listener.run());
            let prover = tokio::spawn(proof::run(switch.clone(), to_prove, proven, cancel.clone()));
            let inputs = worker::Inputs { zones, marks, proofs, heard: from_listener, limits };
            let outputs = worker::Outputs { prove, report, loads };
            worker::Worker::new(inputs, outputs, switch, metrics).run(cancel).await;
            // It ends with the same token.
            let _ = prover.await;
        };
        (auditor, worker)
    }

    /// These rules are on their way into the tables: until [`Self::in_tables`] says that they are there, a packet may meet
    /// them or those before.
    pub fn coming(&mut self, wanted: &[Wanted]) {
        if zones::coming(&mut self.zones, wanted) {
            self.publish.send_replace(Arc::new(self.zones.clone()));
        }
    }

    /// These rules, and no others, are in the tables; `marks` names those that connections bear. Returns those whose pod has
    /// other rules than before.
    pub fn in_tables(&mut self, wanted: Vec<Wanted>, marks: &Marks) -> Vec<AttachmentId> {
        self.names.send_if_modified(|known| {
            let is_news = !known.is_same(marks);
            *known = marks.clone();
            is_news
        });
        let changed = zones::in_tables(&mut self.zones, wanted, &mut self.version);
        if !changed.is_empty() {
            self.publish.send_replace(Arc::new(self.zones.clone()));
        }
        changed
    }

    /// The pod is gone, and its zone will be another's.
    pub fn forget(&mut self, zone: CtZone) {
        if self.zones.remove(&zone).is_some() {
            self.publish.send_replace(Arc::new(self.zones.clone()));
        }
    }

    /// How far the pod's rules have come; `None` if they are not in the tables, or others may be, or the worker has not seen
    /// that yet.
    pub fn progress(&self, zone: CtZone, key: &AttachmentId) -> Option<PodProgress> {
        let rules = self.zones.get(&zone).filter(|rules| rules.key == *key && rules.coming.is_empty())?;
        let progress = self.progress.borrow();
        progress.get(key).filter(|it| it.version == rules.version).cloned()
    }

    /// A pod may have so many connections.
    pub fn limit(&self, connections: u32) {
        self.limit.send_if_modified(|limit| std::mem::replace(limit, connections) != connections);
    }

    /// Of a zone; `None`: nobody has looked yet.
    pub fn load(&self, zone: CtZone) -> Option<Load> {
        self.loads.borrow().of(zone)
    }

    /// Resolves when there is other progress, or a pod has as many connections as it may, or no longer.
    pub async fn changed(&mut self) {
        tokio::select! {
            () = news::changed(&mut self.progress) => {}
            () = news::changed(&mut self.loads) => {}
        }
    }
}
