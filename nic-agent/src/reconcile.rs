//! The one task that owns the ledger and brings the NIC to what is wanted.
//!
//! ```text
//!  gRPC server ── Intake ───┐                        ┌─► kernel: links, TC           (close what nobody holds)
//!  pod directory ── watch ──┤                        ├─► OpenFlow bundle on br-edge  (boundaries)
//!  OVSDB replica ── watch ──┼─► pass: observe, plan, ┼─► OVSDB transaction           (chassis, ports)
//!  southbound    ── watch ──┤        apply           ├─► kernel: links, TC           (open what has its boundary)
//!  kernel events ── mpsc ───┤                        ├─► watch: Published            (Handle answers from it)
//!  policy        ── watch ──┤                        └─► Auditor: connections that policy denies
//!  configuration ── watch ──┘
//! ```
//!
//! Level-triggered: each pass looks at everything and changes what is not as it should be; events only say when. What
//! cannot be reached is left as it is (fail static), but nothing is opened without its boundary (fail closed), and
//! closing comes first. Stopping changes nothing.

mod annotations;
pub mod batch;
mod closing;
pub mod connections;
mod enforce;
pub mod handle;
pub mod intake;
pub mod links;
mod management;
mod outcome;
mod pass;
mod record;
pub mod reoffer;
pub mod stage;
#[cfg(test)]
mod tests;
mod waited;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use offload::ids::VfId;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admission::{self, Grounds};
use crate::attachment::{Attachment, AttachmentId};
use crate::audit::Auditor;
use crate::claim::{Claim, Refusal, SandboxKey};
use crate::cluster::Health;
use crate::cluster::lookup::Lookup;
use crate::config::Config;
use crate::directory::Directories;
use crate::durable::Disk;
use crate::edge::Edge;
use crate::enforcement::PolicyWatch;
use crate::enforcement::kept::{self, Kept};
use crate::kernel::{KernelError, NoRepresentor, Seen};
use crate::ledger::Ledger;
use crate::log::Throttle;
use crate::management::Access;
use crate::marks::keeper::Keeper;
use crate::metrics::Metrics;
use crate::network::Networks;
use crate::news;
use crate::platform::{Clock, Ovs as _, Platform, Southbound as _};
use crate::profile;
use crate::published::Published;
use crate::service_manager::Heartbeat;
use batch::Left;
use connections::ConnectionLimits;
use handle::Handle;
use intake::{Intake, Tickets};
use record::Record;
use reoffer::Reoffer;
use waited::Waited;

/// The ledger's name in the state directory.
pub const LEDGER: &str = "ledger.json";

/// Everything is looked at again this often, event or not.
const TICK: Duration = Duration::from_secs(10);
/// After a pass that could not do all.
const RETRY: Duration = Duration::from_millis(500);

/// What the task works with.
pub struct Reconciler<P: Platform> {
    config: watch::Receiver<Arc<Config>>,
    directories: Directories,
    kernel: P::Links,
    kernel_events: mpsc::Receiver<()>,
    ovs: P::Ovs,
    southbound: P::Southbound,
    edge: Edge<P::Switch>,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    /// `external_ids:hostname` of the chassis.
    hostname: String,
    ledger: Ledger,
    ledger_path: PathBuf,
    policies: PolicyWatch,
    /// Of the cluster's API, if there is one.
    health: Option<Health>,
    kept: Kept,
    kept_path: PathBuf,
    marks: Keeper,
    auditor: Auditor,
    access: watch::Sender<Access>,
    /// Which word of the source this pass goes by, and which the tables follow.
    resolved_source: Option<String>,
    source_in_tables: Option<String>,
    intake: Intake,
    publish: watch::Sender<Arc<Published>>,
    metrics: Metrics,
    heartbeat: Heartbeat,
    tickets: Tickets,
    /// The ledger in memory is newer than the one on the disk.
    unsaved: bool,
    throttle: Throttle,
    records: BTreeMap<AttachmentId, Record>,
    /// Names of representors as last seen: one that vanished keeps its port's name.
    rep_names: BTreeMap<VfId, String>,
    /// What the kernel last showed.
    seen: Result<Seen, Arc<KernelError>>,
    reoffer: Reoffer,
    connections: ConnectionLimits,
    /// Errors of the last pass, each logged once while it lasts.
    errors: BTreeSet<String>,
    /// Answers that wait for the pass that makes them true.
    detached: Vec<(oneshot::Sender<Result<bool, Refusal>>, bool)>,
}

/// What the task is given.
pub struct Parts<P: Platform> {
    pub config: watch::Receiver<Arc<Config>>,
    pub directories: Directories,
    pub kernel: P::Links,
    pub kernel_events: mpsc::Receiver<()>,
    pub ovs: P::Ovs,
    pub southbound: P::Southbound,
    pub edge: Edge<P::Switch>,
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    pub policies: PolicyWatch,
    /// `None`: files say it.
    pub lookup: Option<Lookup>,
    pub health: Option<Health>,
    pub auditor: Auditor,
    /// Whose traffic is the node's own, for who compiles policies.
    pub access: watch::Sender<Access>,
    pub ledger: Ledger,
    pub hostname: String,
    pub metrics: Metrics,
    pub heartbeat: Heartbeat,
}

impl<P: Platform> Reconciler<P> {
    pub fn new(parts: Parts<P>) -> (Self, Handle) {
        let (state_dir, attach_timeout) = {
            let config = parts.config.borrow();
            (config.state.dir.clone(), config.server.attach_timeout)
        };
        let (ledger_path, kept_path) = (state_dir.join(LEDGER), state_dir.join("policy.json"));
        let ledger = parts.ledger;
        let pod_of = |key: &SandboxKey| Some(ledger.of_sandbox(key)?.owner.uid().to_owned());
        let kept = kept::load(&*parts.disk, &kept_path, pod_of).unwrap_or_else(|e| {
            error!(error = %e, "policy last enforced not readable: pods pass nothing until it is known anew");
            Kept::new()
        });
        let established: BTreeSet<_> = ledger.attachments().map(Attachment::id).collect();
        let (requests, intake) = intake::channel();
        let (publish, published) = watch::channel(Arc::default());
        let reconciler = Self {
            config: parts.config,
            directories: parts.directories,
            kernel: parts.kernel,
            kernel_events: parts.kernel_events,
            ovs: parts.ovs,
            southbound: parts.southbound,
            edge: parts.edge,
            clock: parts.clock,
            hostname: parts.hostname,
            ledger,
            ledger_path,
            policies: parts.policies,
            health: parts.health,
            kept,
            kept_path,
            marks: Keeper::load(parts.disk.clone(), &state_dir),
            disk: parts.disk,
            auditor: parts.auditor,
            access: parts.access,
            resolved_source: None,
            source_in_tables: None,
            tickets: intake.tickets(established),
            intake,
            publish,
            unsaved: false,
            throttle: Throttle::new(parts.metrics.lines_withheld.clone()),
            metrics: parts.metrics,
            heartbeat: parts.heartbeat,
            records: BTreeMap::new(),
            rep_names: BTreeMap::new(),
            seen: Err(Arc::new(KernelError::NotAsked)),
            reoffer: Reoffer::default(),
            connections: ConnectionLimits::default(),
            errors: BTreeSet::new(),
            detached: Vec::new(),
        };
        let handle = Handle::new(requests, published, attach_timeout, parts.lookup, &reconciler.metrics);
        (reconciler, handle)
    }

    /// Until cancelled. What is installed stays.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            let wait = if self.turn().await { TICK } else { RETRY };
            tokio::select! {
                () = cancel.cancelled() => return,
                is_asked = self.intake.ready() => if !is_asked { return },
                () = news::changed(&mut self.directories) => {}
                () = news::changed(&mut self.config) => {}
                () = news::changed(&mut self.policies) => {}
                () = health_changed(&mut self.health) => {}
                () = self.auditor.changed() => {}
                () = self.ovs.changed() => {}
                () = self.southbound.changed() => {}
                () = self.edge.lost() => {}
                Some(()) = self.kernel_events.recv() => {}
                () = tokio::time::sleep(wait) => {}
            }
            self.take_in();
            while self.kernel_events.try_recv().is_ok() {}
        }
    }

    /// A pass, and the answers that it makes true.
    async fn turn(&mut self) -> bool {
        let complete = self.pass().await;
        self.heartbeat.tick();
        for (reply, existed) in self.detached.drain(..) {
            // A caller that went away has no use for the answer.
            let _ = reply.send(Ok(existed));
        }
        complete
    }

    /// So much of what the server asks as one pass is kept from its other work by.
    fn take_in(&mut self) {
        let intake::Taken { commands, abandoned } = self.intake.take();
        self.metrics.abandoned.inc_by(abandoned);
        let config = self.config.borrow().clone();
        let directory = self.directories.borrow().clone();
        let seen = &self.seen;
        let admit = |claim: &Claim, ledger: &Ledger| {
            let grounds = Grounds {
                directory: &directory,
                ledger,
                served: config.served(),
                networks: &Networks,
                zones: config.edge.ct_zones,
                budget: config.edge.vf_budget,
                management_port: config.edge.management_port,
                representor: &|vf| match seen {
                    Ok(seen) => seen.representor(vf),
                    Err(why) => Err(NoRepresentor::Unseen(why.clone())),
                },
                logical_port: &|claim| profile::logical_port(&config.profile, claim),
            };
            admission::admit(claim, &grounds)
        };
        let passes = self.publish.borrow().passes;
        let (disk, path, unsaved) = (&*self.disk, &self.ledger_path, &mut self.unsaved);
        let save = |ledger: &mut Ledger| {
            let saved = ledger.save(disk, path);
            *unsaved = saved.is_err();
            saved
        };
        let settled = batch::settle(commands, passes, &mut self.ledger, &mut self.tickets, admit, save);
        self.follow(settled);
    }

    /// What follows from what was done to the ledger.
    fn follow(&mut self, settled: batch::Settled) {
        for (claim, refusal) in settled.refused {
            if let Some(withheld) = self.throttle.admit() {
                warn!(key = %claim.key, pod = %claim.pod, vf = %claim.vf, reason = refusal.reason(),
                    error = %refusal, withheld, "claim refused");
            }
        }
        if let Some(error) = settled.unsaved {
            error!(%error, "ledger not written");
        }
        for (attachment, why) in settled.left {
            let (key, pod, vf) = (attachment.id(), &attachment.owner, attachment.vf);
            match why {
                Left::GivenUp => info!(%key, %pod, %vf, "attach given up"),
                Left::Detached => info!(%key, %pod, %vf, "detached"),
                Left::Superseded { by } => info!(%key, %by, "attachment superseded"),
            }
            self.clear(&attachment);
        }
        for claim in settled.believed {
            info!(key = %claim.key, pod = %claim.pod, vf = %claim.vf, "claim believed");
            // It may have been taken back at once.
            if self.ledger.of_sandbox(&claim.key).is_some() {
                let waited = Waited::begin(self.clock.now());
                self.records.entry(claim.key.into()).or_default().waited = Some(waited);
            }
        }
        self.detached.extend(settled.detached);
        for (key, problem) in settled.reported {
            self.report(&key, problem);
        }
    }

    /// The server is believed against its own pods, and for nothing else.
    fn report(&mut self, key: &SandboxKey, problem: Option<String>) {
        let Some(attachment) = self.ledger.of_sandbox(key) else { return };
        let pod = &attachment.owner;
        let reported = &mut self.records.entry(attachment.id()).or_default().reported;
        if *reported == problem {
            return;
        }
        if let Some(problem) = &problem {
            warn!(%key, %pod, error = problem, "the server could not give the pod its interface");
        } else {
            info!(%key, %pod, "the pod has its interface again");
        }
        *reported = problem;
    }

    /// An attachment left the ledger.
    fn forget(&mut self, attachment: &Attachment) {
        self.tickets.forget(&attachment.id());
        self.clear(attachment);
    }

    /// As [`Self::forget`], but for its tickets: its sandbox may have asked anew since.
    fn clear(&mut self, attachment: &Attachment) {
        self.records.remove(&attachment.id());
        self.auditor.forget(attachment.port.zone());
    }

    /// What the ledger says in memory holds; one that cannot be written now is written by a later pass.
    fn save(&mut self) {
        let saved = self.ledger.save(&*self.disk, &self.ledger_path);
        self.unsaved = saved.is_err();
        if let Err(error) = saved {
            error!(%error, "ledger not written");
        }
    }
}

async fn health_changed(health: &mut Option<Health>) {
    match health {
        Some(health) => news::changed(health).await,
        None => std::future::pending().await,
    }
}
