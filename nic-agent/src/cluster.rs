//! What the agent reads from the Kubernetes API: which pods this node has, and what policy they have. What it writes there,
//! and the NicNode that configures it, are in `report` and the modules that it names.
//!
//! ```text
//!  kubeconfig ─► Accesses ─┬─► watch of each kind ── Said ──► Turns ── Next ──► State ─┬─► watch<Directory>
//!                          │                                                  ▲        ├─► watch<Policies>
//!                          └─► Lookup: one pod, asked for ────────────────────┘        └─► watch<health>
//! ```
//!
//! What is particular to a kind is in its file in `kinds`; nothing here knows one, but that the directory is made of pods.
//!
//! Reading never writes to the API, and never tells the data path anything by itself. A foreign pod is trimmed as it comes in;
//! what is kept of it is the policy compiler's (`policy/index/pods.rs`).
//!
//! Failure: whatever happens to the API, what was last known holds; it is said once, and counted. Before the first
//! complete list nothing is known: claims are refused with `directory-unavailable`, and attachments of before keep the
//! policy that `policy.json` holds for them.

pub mod attachments;
pub mod client;
pub mod configuration;
pub mod events;
pub mod held;
mod kinds;
pub mod lookup;
pub mod machine;
pub mod nic_node;
mod node_traffic;
mod object;
pub mod own_node;
mod own_pods;
mod receivers;
pub mod report;
mod state;
pub mod status;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod turns;
mod watch;
mod words;

use std::time::Duration;

use tokio::sync::{mpsc, watch as channel};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
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
use state::{News, PolicyNews, State};
use turns::Turns;
use watch::{Said, Watching};

/// What comes within this time of a first event is compiled with it.
const TOGETHER: Duration = Duration::from_millis(5);
/// Events on their way to where they take turns: some may be large.
const WAITING: usize = 4;
/// After a round, who had a part in it waits as long as it took, and no longer than this: others share the processors.
const LONGEST_REST: Duration = Duration::from_secs(1);
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
    let run = |watching| drop(tasks.spawn(until(cancel.clone(), watching)));
    let kinds = watch::start(config, accesses, say, run);
    let settings = Settings {
        node: node.as_str().into(),
        zone: "".into(),
        node_addresses: config.policy.node_addresses.iter().copied().collect(),
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

impl Publish {
    fn publish(&self, news: News) {
        if let Some(directory) = news.directory {
            self.directory.send_if_modified(|current| {
                let is_new = *current != directory;
                if is_new {
                    *current = directory;
                }
                is_new
            });
        }
        if let Some(news) = news.policies {
            // The versions alone wake nobody: whoever looks next sees them.
            self.policies.send_if_modified(|current| {
                *current = news.policies;
                news.is_change
            });
        }
        if let Some(health) = news.health {
            // The one before is of no use.
            drop(self.health.send_replace(health));
        }
    }
}

/// What takes it in, or where it is while it does.
enum Round {
    /// Until this time it waits for more.
    Idle(Box<State>, Option<Instant>),
    /// Since then.
    Compiling(Instant, JoinHandle<(Box<State>, News)>),
}

async fn gather(
    state: State,
    mut said: mpsc::Receiver<Said>,
    mut asked: mpsc::Receiver<PodRecord>,
    inputs: Inputs,
    publish: Publish,
) {
    let Inputs { mut access, mut held, heartbeat } = inputs;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turns = Turns::default();
    let mut round = Round::Idle(Box::new(state), None);
    let mut rests_until = Instant::now();
    loop {
        // A round that does not end stops the heart, and the watchdog sees to the rest.
        round = match round {
            Round::Compiling(since, mut compiling) => tokio::select! {
                compiled = &mut compiling => match compiled {
                    Ok((state, news)) => {
                        heartbeat.tick();
                        // Before all is known nobody has anything of its being known in part.
                        let is_known = matches!(news.policies, Some(PolicyNews { policies: Policies::Known(_), .. }));
                        let rest = if is_known { since.elapsed().min(LONGEST_REST) } else { Duration::ZERO };
                        rests_until = rests_until.max(Instant::now() + rest);
                        publish.publish(news);
                        let next = if turns.is_urgent() { Instant::now() } else { rests_until };
                        Round::Idle(state, (!turns.is_empty()).then_some(next))
                    }
                    Err(error) => return error!(%error, "policy compiler ended"),
                },
                // What is superseded meanwhile is never compiled.
                Some(next) = said.recv(), if turns.has_room() => {
                    turns.put(next);
                    Round::Compiling(since, compiling)
                }
            },
            Round::Idle(mut state, start) => {
                let due = async {
                    match start {
                        Some(start) => sleep_until(start).await,
                        None => std::future::pending().await,
                    }
                };
                let soon = || {
                    let soon = Instant::now() + TOGETHER;
                    start.map_or(soon, |start| start.min(soon))
                };
                let start = tokio::select! {
                    () = due => {
                        heartbeat.tick();
                        let since = Instant::now();
                        let next = turns.round(since >= rests_until);
                        // It may take long, and other tasks share this thread.
                        round = Round::Compiling(since, spawn_blocking(move || {
                            for next in next {
                                state.take(next);
                            }
                            let news = state.news();
                            (state, news)
                        }));
                        continue;
                    }
                    next = said.recv(), if turns.has_room() => {
                        let Some(next) = next else { return };
                        if turns.put(next) {
                            soon()
                        } else {
                            start.unwrap_or_else(|| rests_until.max(Instant::now() + TOGETHER))
                        }
                    }
                    // Whoever asked for it is gone when the lookup is.
                    Some(record) = asked.recv() => {
                        state.found(record);
                        soon()
                    }
                    Ok(()) = access.changed() => {
                        state.set_access(access.borrow_and_update().clone());
                        soon()
                    }
                    Ok(()) = held.changed() => {
                        let held = held.borrow_and_update().clone();
                        state.hold(held);
                        soon()
                    }
                    _ = tick.tick() => {
                        state.expire();
                        soon()
                    }
                };
                Round::Idle(state, Some(start))
            }
        }
    }
}
