//! The one task that owns the ledger and brings the NIC to what is wanted.
//!
//! ```text
//!  gRPC server ── Command ──┐                        ┌─► kernel: links, TC           (close what nobody holds)
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

mod enforce;
pub mod handle;
pub mod links;
mod management;
mod pass;
pub mod published;
pub mod reoffer;
pub mod restore;
pub mod stage;
mod waited;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use offload::ids::{CtZone, VfId};
use offload::policy::PodPolicy;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admission::{self, Admission, Grounds};
use crate::audit::Auditor;
use crate::claim::{Claim, Refusal, SandboxKey};
use crate::cluster::Health;
use crate::cluster::lookup::Lookup;
use crate::config::Config;
use crate::directory::Directories;
use crate::edge::Edge;
use crate::enforcement::PolicyWatch;
use crate::enforcement::kept::{self, Kept};
use crate::kernel::{Kernel, Seen};
use crate::ledger::Ledger;
use crate::management::Access;
use crate::marks::keeper::Keeper;
use crate::metrics::Metrics;
use crate::news;
use crate::ovs::link::OvsLink;
use crate::profile;
use crate::service_manager::Heartbeat;
use crate::southbound::link::SouthboundLink;
use handle::{Command, Handle, Ticket};
use published::Published;
use reoffer::Reoffer;
use waited::Waited;

/// The ledger's name in the state directory.
pub const LEDGER: &str = "ledger.json";

/// Everything is looked at again this often, event or not.
const TICK: Duration = Duration::from_secs(10);
/// After a pass that could not do all.
const RETRY: Duration = Duration::from_millis(500);

/// What the task works with.
pub struct Reconciler {
    config: watch::Receiver<Arc<Config>>,
    directories: Directories,
    kernel: Kernel,
    kernel_events: mpsc::Receiver<()>,
    ovs: OvsLink,
    southbound: SouthboundLink,
    edge: Edge,
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
    /// The policy that each pod's flows have.
    in_force: BTreeMap<SandboxKey, Arc<PodPolicy>>,
    commands: mpsc::UnboundedReceiver<Command>,
    publish: watch::Sender<Arc<Published>>,
    metrics: Metrics,
    heartbeat: Heartbeat,
    /// Per sandbox, of its newest Attach.
    tokens: BTreeMap<SandboxKey, u64>,
    last_token: u64,
    /// Sandboxes that were ready once: a later Attach that gives up does not withdraw them.
    established: BTreeSet<SandboxKey>,
    /// How long, and for whom, each new attachment has waited.
    waits: BTreeMap<SandboxKey, Waited>,
    /// Zones whose pod is gone: their connections go, too.
    flush: BTreeSet<CtZone>,
    /// Names of representors as last seen: one that vanished keeps its port's name.
    rep_names: BTreeMap<VfId, String>,
    /// What the kernel last showed.
    seen: Result<Seen, String>,
    reoffer: Reoffer,
    /// Errors of the last pass, each logged once while it lasts.
    errors: BTreeSet<String>,
    /// Answers that wait for the pass that makes them true.
    detached: Vec<(oneshot::Sender<Result<bool, Refusal>>, bool)>,
}

/// What the task is given.
pub struct Parts {
    pub config: watch::Receiver<Arc<Config>>,
    pub directories: Directories,
    pub kernel: Kernel,
    pub kernel_events: mpsc::Receiver<()>,
    pub ovs: OvsLink,
    pub southbound: SouthboundLink,
    pub edge: Edge,
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

impl Reconciler {
    pub fn new(parts: Parts) -> (Self, Handle) {
        let (state_dir, attach_timeout) = {
            let config = parts.config.borrow();
            (config.state.dir.clone(), config.server.attach_timeout)
        };
        let (ledger_path, kept_path) = (state_dir.join(LEDGER), state_dir.join("policy.json"));
        let ledger = parts.ledger;
        let pod_of = |key: &SandboxKey| Some(ledger.get(key)?.claim.pod.uid.clone());
        let kept = kept::load(&kept_path, pod_of).unwrap_or_else(|e| {
            error!(error = %e, "policy last enforced not readable: pods pass nothing until it is known anew");
            Kept::new()
        });
        let established: BTreeSet<_> = ledger.attachments().map(|a| a.claim.key.clone()).collect();
        let (send, commands) = mpsc::unbounded_channel();
        let (publish, published) = watch::channel(Arc::default());
        let reconciler = Self {
            config: parts.config,
            directories: parts.directories,
            kernel: parts.kernel,
            kernel_events: parts.kernel_events,
            ovs: parts.ovs,
            southbound: parts.southbound,
            edge: parts.edge,
            hostname: parts.hostname,
            ledger,
            ledger_path,
            policies: parts.policies,
            health: parts.health,
            kept,
            kept_path,
            marks: Keeper::load(&state_dir),
            auditor: parts.auditor,
            access: parts.access,
            resolved_source: None,
            source_in_tables: None,
            in_force: BTreeMap::new(),
            commands,
            publish,
            metrics: parts.metrics,
            heartbeat: parts.heartbeat,
            tokens: BTreeMap::new(),
            last_token: 0,
            established,
            waits: BTreeMap::new(),
            flush: BTreeSet::new(),
            rep_names: BTreeMap::new(),
            seen: Err("the kernel has not been asked yet".to_owned()),
            reoffer: Reoffer::default(),
            errors: BTreeSet::new(),
            detached: Vec::new(),
        };
        (reconciler, Handle::new(send, published, attach_timeout, parts.lookup))
    }

    /// Until cancelled. What is installed stays.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            let complete = self.pass().await;
            self.heartbeat.tick();
            for (reply, existed) in self.detached.drain(..) {
                // A caller that went away has no use for the answer.
                let _ = reply.send(Ok(existed));
            }
            let wait = if complete { TICK } else { RETRY };
            tokio::select! {
                () = cancel.cancelled() => return,
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
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
            while let Ok(command) = self.commands.try_recv() {
                self.command(command);
            }
            while self.kernel_events.try_recv().is_ok() {}
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Attach { claim, reply } => {
                let key = claim.key.clone();
                let answer = self.attach(&claim);
                let token = answer.as_ref().ok().map(|ticket| ticket.token);
                // A caller that went away before it heard cannot give up by itself.
                if let (Err(_), Some(token)) = (reply.send(answer), token) {
                    self.withdraw(&key, token);
                }
            }
            Command::Withdraw { key, token } => self.withdraw(&key, token),
            Command::Detach { key, reply } => {
                let attachment = self.ledger.detach(&key);
                if let Some(attachment) = &attachment {
                    info!(%key, pod = %attachment.claim.pod, vf = %attachment.claim.vf, "detached");
                    self.released(&key, attachment.zone);
                }
                self.detached.push((reply, attachment.is_some()));
            }
        }
    }

    fn attach(&mut self, claim: &Claim) -> Result<Ticket, Refusal> {
        let config = self.config.borrow().clone();
        let directory = self.directories.borrow().clone();
        let admission = {
            let seen = &self.seen;
            let grounds = Grounds {
                directory: &directory,
                ledger: &self.ledger,
                served: config.served(),
                zones: config.edge.ct_zones,
                budget: config.edge.vf_budget,
                management_port: config.edge.management_port,
                representor: &|vf| match seen {
                    Ok(seen) => seen.representor(vf),
                    Err(why) => Err(format!("none that can be read ({why})")),
                },
                logical_port: &|claim| profile::logical_port(&config.profile, claim),
            };
            admission::admit(claim, &grounds)
        };
        let admission = admission.inspect_err(|refusal| {
            warn!(key = %claim.key, pod = %claim.pod, vf = %claim.vf, reason = refusal.reason(), error = %refusal,
                "claim refused");
        })?;
        let key = claim.key.clone();
        if let Admission::New { attachment, supersedes } = admission {
            let before = self.ledger.clone();
            let mut released = Vec::new();
            for old in supersedes {
                if let Some(old) = self.ledger.detach(&old) {
                    released.push((old.claim.key, old.zone));
                }
            }
            self.ledger.insert(*attachment);
            if let Err(e) = self.ledger.save(&self.ledger_path) {
                self.ledger = before;
                error!(error = %e, "ledger not written");
                return Err(Refusal::Internal(format!("ledger not written: {e}")));
            }
            for (old, zone) in released {
                info!(key = %old, by = %key, "attachment superseded");
                self.forget(&old, zone);
            }
            info!(%key, pod = %claim.pod, vf = %claim.vf, "claim believed");
            self.waits.insert(key.clone(), Waited::begin());
        }
        self.last_token += 1;
        self.tokens.insert(key, self.last_token);
        Ok(Ticket { token: self.last_token, passes: self.publish.borrow().passes })
    }

    fn withdraw(&mut self, key: &SandboxKey, token: u64) {
        if self.tokens.get(key) == Some(&token)
            && !self.established.contains(key)
            && let Some(attachment) = self.ledger.withdraw(key)
        {
            info!(%key, pod = %attachment.claim.pod, vf = %attachment.claim.vf, "attach given up");
            self.released(key, attachment.zone);
        }
    }

    /// An attachment left the ledger: keep that, and what follows from it.
    fn released(&mut self, key: &SandboxKey, zone: CtZone) {
        self.forget(key, zone);
        self.save();
    }

    fn forget(&mut self, key: &SandboxKey, zone: CtZone) {
        self.tokens.remove(key);
        self.established.remove(key);
        self.waits.remove(key);
        self.in_force.remove(key);
        self.auditor.forget(zone);
        self.flush.insert(zone);
    }

    /// A ledger that cannot be written now is written by a later pass: what it says in memory holds.
    fn save(&mut self) {
        if let Err(e) = self.ledger.save(&self.ledger_path) {
            error!(error = %e, "ledger not written");
        }
    }
}

async fn health_changed(health: &mut Option<Health>) {
    match health {
        Some(health) => news::changed(health).await,
        None => std::future::pending().await,
    }
}
