//! The agent put together: [`App::build`] binds and reads what can fail at a start, [`App::run`] runs until told to
//! stop.
//!
//! ```text
//!  config file ─► watch<Config> ─┬─► reconciler ─► Published ─┬─► gRPC server (Attach waits for it)
//!  cluster, or   watch<Directory>┤   (owns the ledger)        └─► /readyz, systemd's status line
//!  two files ──► watch<Policies> ┤ ◄── Cutter
//!  kernel thread ─► events ──────┘
//! ```

mod following;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::audit::Auditor;
use crate::backend::overlay;
use crate::certificates;
use crate::cluster::client::Accesses;
use crate::cluster::configuration::{Layers, Report};
use crate::cluster::events::{Teller, Telling};
use crate::cluster::held;
use crate::cluster::lookup::Lookup;
use crate::cluster::own_node::Own;
use crate::cluster::{self, Cluster, Health, attachments, report, status};
use crate::config::{self, Config, Source};
use crate::directory::{self, Directories};
use crate::durable::SystemDisk;
use crate::edge::Edge;
use crate::endpoint::{Endpoint, Readiness};
use crate::enforcement::{self, PolicyWatch};
use crate::kernel::{self, Kernel, Watched};
use crate::ledger::Ledger;
use crate::log::Logging;
use crate::management::Access;
use crate::metrics::Metrics;
use crate::openflow;
use crate::ovs::control::Switch;
use crate::ovs::daemons;
use crate::ovs::link::OvsLink;
use crate::platform::{System, SystemClock};
use crate::preflight;
use crate::published::Published;
use crate::reconcile::handle::Handle;
use crate::reconcile::trace::Trace;
use crate::reconcile::{Inputs, LEDGER, Parts, Reconciler};
use crate::recording::{Header, Recorded, Recorder, With};
use crate::server::{Server, Shims};
use crate::service_manager::{Heartbeat, Hearts, ServiceManager};
use crate::southbound::link::SouthboundLink;
use following::Following;

/// The reconcile loop looks at everything every ten seconds, and the policy compiler at least looks up; one that did not
/// for a minute hangs.
const HEARTBEAT: Duration = Duration::from_mins(1);
/// How long a stop waits for requests under way.
const DRAIN: Duration = Duration::from_secs(10);

pub struct App {
    source: Source,
    config: watch::Sender<Arc<Config>>,
    logging: Logging,
    layers: Layers,
    own: watch::Receiver<Own>,
    report: watch::Sender<Report>,
    reconciler: Reconciler<Recorded<System>>,
    handle: Handle,
    server: Server<Telling<Handle>>,
    shims: watch::Sender<Shims>,
    endpoint: Option<Endpoint>,
    metrics: Metrics,
    hearts: Hearts,
    manager: ServiceManager,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl App {
    /// `source` and `file` are the configuration file and what it held; `record` is made, and takes a recording.
    pub async fn build(
        source: Source,
        file: Config,
        logging: Logging,
        record: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let (layers, first) = Layers::begin(file.clone(), file.cluster.is_some());
        let cancel = CancellationToken::new();
        let tasks = TaskTracker::new();
        let metrics = Metrics::counting(logging.withheld().clone());
        certificates::follow(&first, &metrics.certificates);
        let heartbeat = Heartbeat::new(HEARTBEAT);
        let compiling = Heartbeat::new(HEARTBEAT);
        let hearts = Hearts::default()
            .with("reconcile loop", heartbeat.clone())
            .with("policy compiler", compiling.clone());
        let hostname = match &first.chassis.hostname {
            Some(hostname) => hostname.clone(),
            None => system_hostname().context("the system's hostname (or set chassis.hostname)")?,
        };
        let recorder = match record {
            Some(path) => {
                let header = Header::new(hostname.clone(), first.clone());
                let recorder = Recorder::create(path, &header).context("--record")?;
                info!(file = %path.display(), "recording what the reconcile loop hears and does");
                recorder
            }
            None => Recorder::default(),
        };
        let disk = Arc::new(With::new(SystemDisk, &recorder));
        // A ledger that cannot be read stops the start: an empty one would cut every pod off.
        let ledger = Ledger::load(&*disk, &first.state.dir.join(LEDGER)).context(
            "ledger: restore it from a copy, or delete it to begin anew (pods must then be started again)",
        )?;
        let ledger = ledger.unwrap_or_default();
        info!(attachments = ledger.attachments().count(), "ledger read");
        // What was in force before a restart is in force after it: nobody's probes fail in between.
        let (access, accessed) = watch::channel(Access::of(&first, &ledger));
        let (hold, held) = watch::channel(held::of_ledger(&ledger));
        let inputs = cluster::Inputs { access: accessed, held, heartbeat: compiling };
        let sources = sources(&first, inputs, &metrics, &tasks, &cancel).await;
        let switch = Switch { run_dir: first.ovs.run_dir.clone(), bridge: first.edge.bridge.clone() };
        let (mut auditor, work) =
            Auditor::start(switch, first.edge.ct_zones, metrics.clone(), cancel.clone());
        tasks.spawn(work);
        std::fs::create_dir_all(&first.state.dir)
            .with_context(|| format!("state.dir {}", first.state.dir.display()))?;
        let kernel = Kernel::new(&first.eswitch);
        let (config, configs) = watch::channel(Arc::new(first.clone()));
        let clock = Arc::new(With::new(SystemClock, &recorder));
        let mut inputs = Inputs {
            config: configs,
            directories: sources.directories,
            policies: sources.policies,
            health: sources.health,
            kernel_events: kernel_events(kernel.watched(), cancel.clone()),
        };
        let trace = Trace::of(recorder.clone(), &mut inputs, &mut auditor);
        let southbound = SouthboundLink::start(
            first.chassis.ovn_remote.clone(),
            first.southbound.tls.as_ref().map(tls_files),
        );
        let switch = openflow::Socket::of(&first.edge.bridge, &first.ovs.run_dir);
        let overlay = overlay::Parts {
            ovs: With::new(OvsLink::start(first.ovs.db.clone()), &recorder),
            southbound: With::new(southbound, &recorder),
            edge: Edge::new(
                first.edge.bridge.clone(),
                With::new(switch, &recorder),
                clock.clone(),
                metrics.clone(),
            ),
            auditor,
            disk,
            clock,
            hostname,
            metrics: metrics.clone(),
        };
        let (mut reconciler, handle) = Reconciler::new(Parts {
            inputs,
            kernel: With::new(kernel, &recorder),
            overlay,
            lookup: sources.lookup,
            access,
            ledger,
            heartbeat,
            trace,
        });
        // Nothing that may be wrong with certificates or addresses keeps a VF open.
        reconciler.close_first().await;
        let (telling, refused) = Telling::new(handle.clone());
        let server =
            Server::bind(&first.server, &first.node, telling, metrics.clone()).context("gRPC server")?;
        let (shims, admitted) = watch::channel(Shims { keys: first.shim_keys.clone(), revoked: false });
        let server = server.admitting(admitted);
        let (report, reports) = watch::channel(Report::default());
        let (found, own) = watch::channel(Own::default());
        if let (Some(accesses), Some(_)) = (sources.accesses, &first.cluster) {
            let published = handle.published();
            tasks.spawn(held::follow(published.clone(), hold, cancel.clone()));
            let (daemons, follow) = daemons::start(&first, cancel.clone());
            tasks.spawn(follow);
            let (preflight, follow) = preflight::watch::start(preflight::file::PATH.into(), cancel.clone());
            tasks.spawn(follow);
            let inputs = report::Inputs {
                accesses,
                node: first.node.name.clone(),
                own: found,
                status: status::Inputs {
                    own: own.clone(),
                    published: published.clone(),
                    config: config.subscribe(),
                    report: reports,
                    daemons,
                    preflight,
                    metrics: metrics.clone(),
                },
                attachments: attachments::Inputs { published: published.clone(), config: config.subscribe() },
                events: Teller::new(refused, published, own.clone()),
            };
            tasks.spawn(report::run(inputs, cancel.clone()));
        }
        let endpoint = match first.metrics.listen {
            Some(address) => {
                let bound =
                    Endpoint::bind(address).await.with_context(|| format!("metrics.listen {address}"))?;
                info!(address = %bound.local_addr(), "metrics");
                Some(bound)
            }
            None => None,
        };
        Ok(Self {
            source,
            config,
            logging,
            layers,
            own,
            report,
            reconciler,
            handle,
            server,
            shims,
            endpoint,
            metrics,
            hearts,
            manager: ServiceManager::from_env(),
            cancel,
            tasks,
        })
    }

    /// Stops the running app: what is installed stays installed.
    pub fn canceller(&self) -> CancellationToken {
        self.cancel.clone()
    }

    pub async fn run(self) {
        let Self {
            source,
            config,
            logging,
            layers,
            own,
            report,
            reconciler,
            handle,
            server,
            shims,
            endpoint,
            metrics,
            hearts,
            manager,
            cancel,
            tasks,
        } = self;
        let published = handle.published();
        // Readiness for scrapers and the service manager follows what the reconciler publishes.
        let (readiness, ready) = watch::channel::<Readiness>(Err("starting".to_owned()));
        tasks.spawn(follow_readiness(published.clone(), readiness, manager.clone(), cancel.clone()));
        let following = Following {
            source,
            layers,
            own,
            report,
            config,
            logging,
            metrics: metrics.clone(),
            manager: manager.clone(),
            shims,
        };
        tasks.spawn(following.run(cancel.clone()));
        if let Some(endpoint) = endpoint {
            let (metrics, hearts, cancel) = (metrics.clone(), hearts.clone(), cancel.clone());
            tasks.spawn(async move {
                if let Err(e) = endpoint.run(metrics, hearts, ready, published, cancel).await {
                    error!(error = %e, "metrics listener ended");
                }
            });
        }
        {
            let (manager, cancel) = (manager.clone(), cancel.clone());
            tasks.spawn(async move { manager.run_watchdog(hearts, cancel).await });
        }
        // Requests are drained before the reconciler that answers them goes.
        let serving = CancellationToken::new();
        let server = tasks.spawn(serve(server, serving.clone(), cancel.clone()));
        let reconciling = CancellationToken::new();
        let reconciler = tasks.spawn(reconciler.run(reconciling.clone()));
        cancel.cancelled().await;
        manager.stopping();
        info!("stopping, the data path stays");
        serving.cancel();
        if tokio::time::timeout(DRAIN, server).await.is_err() {
            warn!("requests still under way at the deadline");
        }
        reconciling.cancel();
        if tokio::time::timeout(DRAIN, reconciler).await.is_err() {
            warn!("a pass was still under way at the deadline");
        }
        tasks.close();
        if tokio::time::timeout(DRAIN, tasks.wait()).await.is_err() {
            warn!("tasks still running at the deadline");
        }
    }
}

/// An agent that can no longer be asked stops, so that its supervisor starts it again.
async fn serve(server: Server<Telling<Handle>>, serving: CancellationToken, app: CancellationToken) {
    if let Err(e) = server.run(serving).await {
        error!(error = %e, "gRPC server ended");
        app.cancel();
    }
}

/// Where pods and policies come from.
struct Sources {
    directories: Directories,
    policies: PolicyWatch,
    lookup: Option<Lookup>,
    health: Option<Health>,
    accesses: Option<Accesses>,
}

async fn sources(
    config: &Config,
    inputs: cluster::Inputs,
    metrics: &Metrics,
    tasks: &TaskTracker,
    cancel: &CancellationToken,
) -> Sources {
    if let Some(cluster) = &config.cluster {
        let (accesses, follow) = cluster::client::start(cluster.kubeconfig.clone(), cancel.clone()).await;
        tasks.spawn(follow);
        let Cluster { directories, policies, lookup, health } =
            cluster::start(config, &accesses, inputs, metrics.clone(), tasks, cancel);
        return Sources {
            directories,
            policies,
            lookup: Some(lookup),
            health: Some(health),
            accesses: Some(accesses),
        };
    }
    let (directories, follow) = directory::file::start(config.directory.file.clone(), cancel.clone());
    tasks.spawn(follow);
    let (policies, follow) = enforcement::source::start(
        &config.policy,
        &config.node.name,
        metrics,
        inputs.heartbeat,
        cancel.clone(),
    );
    tasks.spawn(follow);
    Sources { directories, policies, lookup: None, health: None, accesses: None }
}

fn tls_files(tls: &config::SouthboundTls) -> ovsdb_session::TlsFiles {
    ovsdb_session::TlsFiles {
        key: tls.private_key.clone(),
        certificate: tls.certificate.clone(),
        ca: tls.ca_cert.clone(),
    }
}

fn system_hostname() -> anyhow::Result<String> {
    nix::unistd::gethostname()?
        .into_string()
        .map_err(|name| anyhow::anyhow!("{} is no UTF-8", name.display()))
}

/// Kernel events from a thread of their own: the sockets block.
fn kernel_events(watched: Watched, cancel: CancellationToken) -> mpsc::Receiver<()> {
    // One slot: "something changed" said twice is said once.
    let (send, receive) = mpsc::channel(1);
    std::thread::spawn(move || kernel::watch(&send, &watched, &cancel));
    receive
}

async fn follow_readiness(
    mut published: watch::Receiver<Arc<Published>>,
    readiness: watch::Sender<Readiness>,
    manager: ServiceManager,
    cancel: CancellationToken,
) {
    let mut notified = false;
    loop {
        let now = published.borrow_and_update().clone();
        if now.passes > 0 {
            let state = now.unready().map_or(Ok(()), Err);
            let status = match &state {
                Ok(()) => format!("{} attachments", now.attachments.len()),
                Err(why) => format!("{} attachments; {why}", now.attachments.len()),
            };
            if notified {
                manager.status(&status);
            } else {
                // The first pass is done: what nobody holds is closed. The rest may take as long as OVS and OVN do.
                manager.ready(&status);
                notified = true;
            }
            readiness.send_if_modified(|current| {
                let changed = *current != state;
                *current = state;
                changed
            });
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            changed = published.changed() => if changed.is_err() { return },
        }
    }
}
