//! The one task that owns the ledger and brings the NIC to what is wanted.
//!
//! ```text
//!  gRPC server ── Intake ───┐         ┌─ reap      pods that are gone leave the ledger
//!  pod directory ── watch ──┤         ├─ close     representors of which no backend says that they keep their boundary
//!  policy        ── watch ──┼─► pass ─┼─ wanted    identities, intents
//!  configuration ── watch ──┤         ├─ backends  observe, plan, apply: flows, ports; then zones that nobody has are emptied
//!  kernel events ── mpsc ───┤         ├─ open      what its backend says has its boundary
//!  backends' news ──────────┘         └─ publish   watch: Published (Handle answers from it)
//! ```
//!
//! Level-triggered: each pass looks at everything and changes what is not as it should be; events only say when. What
//! cannot be reached is left as it is (fail static), but nothing is opened without its boundary (fail closed), and
//! closing comes first. Stopping changes nothing.

pub mod batch;
mod enforce;
pub mod handle;
pub mod intake;
mod management;
mod pass;
mod publish;
mod record;
pub mod reoffer;
#[cfg(test)]
mod tests;
pub mod trace;
mod waited;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admission::{self, Grounds};
use crate::attachment::{Attachment, AttachmentId};
use crate::backend::Backend as _;
use crate::backend::overlay::{self, Overlay};
use crate::claim::{Claim, Refusal, SandboxKey};
use crate::cluster::Health;
use crate::cluster::lookup::Lookup;
use crate::config::Config;
use crate::directory::Directories;
use crate::durable::Disk;
use crate::enforcement::PolicyWatch;
use crate::enforcement::kept::{self, Kept};
use crate::kernel::NoRepresentor;
use crate::ledger::Ledger;
use crate::ledger::book::Book;
use crate::log::Throttle;
use crate::management::Access;
use crate::marks::keeper::Keeper;
use crate::metrics::Metrics;
use crate::network::Networks;
use crate::news;
use crate::platform::{Clock, Platform};
use crate::profile;
use crate::published::Published;
use crate::representors::Representors;
use crate::service_manager::Heartbeat;
use batch::Left;
use handle::Handle;
use intake::{Intake, Tickets};
use record::Record;
use reoffer::Reoffer;
use trace::Trace;
use waited::Waited;

/// The ledger's name in the state directory.
pub const LEDGER: &str = "ledger.json";

/// Everything is looked at again this often, event or not.
const TICK: Duration = Duration::from_secs(10);
/// After a pass that could not do all.
const RETRY: Duration = Duration::from_millis(500);

/// What the task is told.
pub struct Inputs {
    pub config: watch::Receiver<Arc<Config>>,
    pub directories: Directories,
    pub policies: PolicyWatch,
    /// Of the cluster's API, if there is one.
    pub health: Option<Health>,
    pub kernel_events: mpsc::Receiver<()>,
}

/// What the task works with.
pub struct Reconciler<P: Platform> {
    inputs: Inputs,
    intake: Intake,
    representors: Representors<P::Links>,
    overlay: Overlay<P>,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    book: Book,
    kept: Kept,
    kept_path: PathBuf,
    marks: Keeper,
    access: watch::Sender<Access>,
    /// Which word of the policies' source this pass goes by, and which the tables follow.
    resolved_source: Option<String>,
    source_in_tables: Option<String>,
    publish: watch::Sender<Arc<Published>>,
    metrics: Metrics,
    heartbeat: Heartbeat,
    tickets: Tickets,
    throttle: Throttle,
    records: BTreeMap<AttachmentId, Record>,
    reoffer: Reoffer,
    /// Errors of the last pass, each logged once while it lasts.
    errors: BTreeSet<String>,
    /// Answers that wait for the pass that makes them true.
    detached: Vec<(oneshot::Sender<Result<bool, Refusal>>, bool)>,
    trace: Trace,
}

/// What the task is given.
pub struct Parts<P: Platform> {
    pub inputs: Inputs,
    pub kernel: P::Links,
    pub overlay: overlay::Parts<P>,
    /// `None`: files say it.
    pub lookup: Option<Lookup>,
    /// Whose traffic is the node's own, for who compiles policies.
    pub access: watch::Sender<Access>,
    pub ledger: Ledger,
    pub heartbeat: Heartbeat,
    pub trace: Trace,
}

impl<P: Platform> Reconciler<P> {
    pub fn new(parts: Parts<P>) -> (Self, Handle) {
        let Parts { inputs, kernel, overlay, lookup, access, ledger, heartbeat, trace } = parts;
        let (disk, clock, metrics) = (overlay.disk.clone(), overlay.clock.clone(), overlay.metrics.clone());
        let (state_dir, attach_timeout) = {
            let config = inputs.config.borrow();
            (config.state.dir.clone(), config.server.attach_timeout)
        };
        let kept_path = state_dir.join("policy.json");
        let pod_of = |key: &SandboxKey| Some(ledger.of_sandbox(key)?.owner.uid().to_owned());
        let kept = kept::load(&*disk, &kept_path, pod_of).unwrap_or_else(|e| {
            error!(error = %e, "policy last enforced not readable: pods pass nothing until it is known anew");
            Kept::new()
        });
        let established: BTreeSet<_> = ledger.attachments().map(Attachment::id).collect();
        let (requests, intake) = intake::channel();
        let (publish, published) = watch::channel(Arc::default());
        let reconciler = Self {
            inputs,
            tickets: intake.tickets(established),
            intake,
            representors: Representors::new(kernel, metrics.clone()),
            overlay: Overlay::new(overlay),
            book: Book::new(ledger, disk.clone(), state_dir.join(LEDGER)),
            clock,
            kept,
            kept_path,
            marks: Keeper::load(disk.clone(), &state_dir),
            disk,
            access,
            resolved_source: None,
            source_in_tables: None,
            publish,
            throttle: Throttle::new(metrics.lines_withheld.clone()),
            metrics,
            heartbeat,
            records: BTreeMap::new(),
            reoffer: Reoffer::default(),
            errors: BTreeSet::new(),
            detached: Vec::new(),
            trace,
        };
        let handle = Handle::new(requests, published, attach_timeout, lookup, &reconciler.metrics);
        (reconciler, handle)
    }

    /// Until cancelled. What is installed stays.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            let wait = if self.turn().await { TICK } else { RETRY };
            tokio::select! {
                () = cancel.cancelled() => return,
                is_asked = self.intake.ready() => if !is_asked { return },
                () = self.inputs.changed() => {}
                () = self.overlay.changed() => {}
                () = self.trace.changed() => {}
                () = tokio::time::sleep(wait) => {}
            }
            self.take_in();
            while self.inputs.kernel_events.try_recv().is_ok() {}
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
        self.trace.open();
        let intake::Taken { commands, abandoned } = self.intake.take();
        self.metrics.abandoned.inc_by(abandoned);
        let is_traced = self.trace.takes(&commands, &mut self.tickets);
        let config = self.inputs.config.borrow().clone();
        let directory = self.inputs.directories.borrow().clone();
        let seen = self.representors.seen();
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
        let (ledger, save) = self.book.open();
        let settled = batch::settle(commands, passes, ledger, &mut self.tickets, admit, save);
        self.tickets.looked();
        if is_traced {
            self.trace.settled(&settled);
        }
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
            if self.book.ledger.of_sandbox(&claim.key).is_some() {
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
        let Some(attachment) = self.book.ledger.of_sandbox(key) else { return };
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
        self.overlay.forget(attachment);
    }
}

impl Inputs {
    /// Resolves when there is something new among them.
    async fn changed(&mut self) {
        tokio::select! {
            () = news::changed(&mut self.directories) => {}
            () = news::changed(&mut self.config) => {}
            () = news::changed(&mut self.policies) => {}
            () = health_changed(&mut self.health) => {}
            Some(()) = self.kernel_events.recv() => {}
        }
    }
}

async fn health_changed(health: &mut Option<Health>) {
    match health {
        Some(health) => news::changed(health).await,
        None => std::future::pending().await,
    }
}
