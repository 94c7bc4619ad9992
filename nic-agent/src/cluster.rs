//! What the agent reads from the Kubernetes API: which pods this node has, and what policy they have. What it writes there,
//! and the NicNode that configures it, are in `report` and the modules that it names.
//!
//! ```text
//!  kubeconfig ─► Accesses ─┬─► watch of each kind ── Said ──► State ─┬─► watch<Directory>
//!                          │                                ▲        ├─► watch<Policies>
//!                          └─► Lookup: one pod, asked for ──┘        └─► watch<health>
//! ```
//!
//! Reading never writes to the API, and never tells the data path anything by itself. A foreign pod is trimmed as it comes in;
//! what is kept of it is the policy compiler's (`policy/compiler/pods.rs`).
//!
//! Failure: whatever happens to the API, what was last known holds; it is said once, and counted. Before the first
//! complete list nothing is known: claims are refused with `directory-unavailable`, and attachments of before keep the
//! policy that `policy.json` holds for them.

pub mod attachments;
pub mod client;
pub mod configuration;
pub mod daemons;
pub mod events;
pub mod held;
pub mod lookup;
pub mod machine;
pub mod nic_node;
mod object;
pub mod own_node;
pub mod report;
mod state;
pub mod status;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod watch;
mod words;

use std::time::Duration;

use tokio::sync::{mpsc, watch as channel};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

use crate::config::Config;
use crate::directory::{Directories, Directory, PodRecord};
use crate::enforcement::{Policies, PolicyWatch};
use crate::management::Access;
use crate::metrics::Metrics;
use crate::policy::{Held, Settings};
use crate::service_manager::Heartbeat;
use client::Accesses;
use lookup::Lookup;
use object::{
    EndpointSlices, Kind, Namespaces, NetworkPolicies, NicNodes, NodeRanges, Nodes, OwnNode, PodAttachments,
    Pods, Services,
};
use state::State;
use watch::{Said, follow};

/// What comes within this time of a first event is compiled with it.
const TOGETHER: Duration = Duration::from_millis(5);
/// As many events are looked at as one, at most.
const AT_ONCE: usize = 4096;
/// Events that wait while what came before them is compiled: some may be large.
const WAITING: usize = 128;
const TICK: Duration = Duration::from_secs(10);

/// `Err` says what is wrong.
pub type Health = channel::Receiver<Result<(), String>>;

/// What the rest of the agent follows.
pub struct Cluster {
    pub directories: Directories,
    pub policies: PolicyWatch,
    pub lookup: Lookup,
    pub health: Health,
}

/// What the agent's other parts know, and this one needs.
pub struct Inputs {
    /// Whose traffic is the node's own.
    pub access: channel::Receiver<Access>,
    /// Which addresses this NIC's own pods have.
    pub held: channel::Receiver<Held>,
    /// That of the compiler of policies.
    pub heartbeat: Heartbeat,
}

/// Watches until cancelled.
pub fn start(
    config: &Config,
    accesses: &Accesses,
    inputs: Inputs,
    metrics: Metrics,
    tasks: &TaskTracker,
    cancel: &CancellationToken,
) -> Cluster {
    let node = &config.node.name;
    let (say, said) = mpsc::channel::<Said>(WAITING);
    let mut kinds = vec![
        Kind::EndpointSlices,
        Kind::Namespaces,
        Kind::NetworkPolicies,
        Kind::NicNodes,
        Kind::NodeRanges,
        Kind::Nodes,
        Kind::PodAttachments,
        Kind::Pods,
        Kind::Services,
    ];
    let run = |watch| tasks.spawn(until(cancel.clone(), watch));
    run(Box::pin(follow::<EndpointSlices>(None, accesses.clone(), say.clone())) as Watching);
    run(Box::pin(follow::<Namespaces>(None, accesses.clone(), say.clone())));
    run(Box::pin(follow::<NetworkPolicies>(None, accesses.clone(), say.clone())));
    run(Box::pin(follow::<NicNodes>(None, accesses.clone(), say.clone())));
    run(Box::pin(follow::<NodeRanges>(None, accesses.clone(), say.clone())));
    run(Box::pin(follow::<Nodes>(None, accesses.clone(), say.clone())));
    run(Box::pin(follow::<PodAttachments>(None, accesses.clone(), say.clone())));
    run(Box::pin(follow::<Pods>(None, accesses.clone(), say.clone())));
    run(Box::pin(follow::<Services>(None, accesses.clone(), say.clone())));
    let given = &config.policy.node_addresses;
    if given.is_empty() {
        kinds.push(Kind::OwnNode);
        run(Box::pin(follow::<OwnNode>(Some(format!("metadata.name={node}")), accesses.clone(), say)));
    }
    let settings = Settings {
        node: node.as_str().into(),
        zone: "".into(),
        node_addresses: given.iter().copied().collect(),
        budget: config.policy.budget,
    };
    let mut state = State::new(&kinds, settings, inputs.access.borrow().clone(), metrics);
    state.hold(inputs.held.borrow().clone());
    let first = state.news();
    let unknown = || "the Kubernetes API has not been asked yet".to_owned();
    let (publish_directory, directories) =
        channel::channel(first.directory.unwrap_or_else(|| Directory::Unknown { why: unknown() }));
    let (publish_policies, policies) = channel::channel(Policies::Unknown { why: unknown() });
    let (publish_health, health) = channel::channel(Err(unknown()));
    let (found, asked) = mpsc::channel(64);
    let lookup = Lookup::new(accesses.clone(), directories.clone(), node.as_str().into(), found);
    let publish =
        Publish { directory: publish_directory, policies: publish_policies, health: publish_health };
    tasks.spawn(until(cancel.clone(), Box::pin(gather(state, said, asked, inputs, publish))));
    Cluster { directories, policies, lookup, health }
}

type Watching = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

async fn until(cancel: CancellationToken, work: Watching) {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = work => {}
    }
}

struct Publish {
    directory: channel::Sender<Directory>,
    policies: channel::Sender<Policies>,
    health: channel::Sender<Result<(), String>>,
}

async fn gather(
    mut state: State,
    mut said: mpsc::Receiver<Said>,
    mut asked: mpsc::Receiver<PodRecord>,
    inputs: Inputs,
    publish: Publish,
) {
    let Inputs { mut access, mut held, heartbeat } = inputs;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            count = said.recv_many(&mut batch, AT_ONCE) => {
                if count == 0 {
                    return;
                }
                let deadline = Instant::now() + TOGETHER;
                while batch.len() < AT_ONCE {
                    let room = AT_ONCE - batch.len();
                    match timeout_at(deadline, said.recv_many(&mut batch, room)).await {
                        Ok(1..) => {}
                        Ok(0) | Err(_) => break,
                    }
                }
            }
            // Whoever asked for it is gone when the lookup is.
            Some(record) = asked.recv() => state.found(record),
            Ok(()) = access.changed() => state.set_access(access.borrow_and_update().clone()),
            Ok(()) = held.changed() => {
                let held = held.borrow_and_update().clone();
                state.hold(held);
            }
            _ = tick.tick() => state.expire(),
        }
        heartbeat.tick();
        // It may take long, and other tasks share this thread.
        let compiled = spawn_blocking(move || {
            for said in batch.drain(..) {
                state.take(said);
            }
            let news = state.news();
            (state, batch, news)
        });
        let news;
        (state, batch, news) = match compiled.await {
            Ok(compiled) => compiled,
            // The heart stops, and the watchdog sees to the rest.
            Err(error) => return error!(%error, "policy compiler ended"),
        };
        heartbeat.tick();
        if let Some(directory) = news.directory {
            publish.directory.send_if_modified(|current| {
                let is_new = *current != directory;
                if is_new {
                    *current = directory;
                }
                is_new
            });
        }
        if let Some(news) = news.policies {
            // The versions alone wake nobody: whoever looks next sees them.
            publish.policies.send_if_modified(|current| {
                *current = news.policies;
                news.is_change
            });
        }
        if let Some(health) = news.health {
            // The one before is of no use.
            drop(publish.health.send_replace(health));
        }
    }
}
