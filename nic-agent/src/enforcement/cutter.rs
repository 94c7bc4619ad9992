//! Cuts the connections that a policy no longer allows, and says when the hardware, too, has let go of them.
//!
//! New rules are in `br-edge`'s tables before a job comes here. Cut is twice: at once, because that is what ends most of
//! it, and again when the datapath follows the tables ([`control::revalidated`]), because until then an old megaflow may
//! let a packet begin its connection anew. What an answer that was under way begins in its place is cut as well
//! ([`cut::answers`]), until a look finds none. Then it waits until nobody holds a deleted entry any more.
//!
//! Runs beside the reconcile loop, which must not wait for it. Jobs for one pod that come while another is under way
//! become one, the newest. What fails is tried again until it succeeds or the pod is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use offload::cut;
use offload::ids::CtZone;
use offload::netlink::conntrack::{Conntrack, Deleted, Entry, Release, SWEEP};
use offload::policy::PodPolicy;
use offload::tuple::Tuple;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::claim::SandboxKey;
use crate::metrics::Metrics;
use crate::ovs::control;

/// A round of the revalidators takes well under a second; OVS itself is overloaded if it takes longer than this.
const REVALIDATION: Duration = Duration::from_secs(10);
/// For the hardware to let go: three sweeps are enough, and as many again for a machine that is busy.
const PATIENCE: Duration = SWEEP.saturating_mul(6);
const RETRY: Duration = Duration::from_secs(1);
/// For an answer to arrive that was under way.
const UNDER_WAY: Duration = Duration::from_millis(200);
/// Who still begins connections after so many looks is not answering: it sends by itself, as its policy allows.
const LOOKS: usize = 5;

/// A pod whose rules have changed.
#[derive(Debug, Clone)]
pub struct Job {
    pub key: SandboxKey,
    pub zone: CtZone,
    pub addresses: Vec<IpAddr>,
    pub policy: Arc<PodPolicy>,
    /// When the new rules were in the tables.
    pub since: Instant,
}

#[derive(Debug)]
enum Order {
    Cut(Job),
    Forget(SandboxKey),
}

/// Pods on which only connections that this policy allows are left.
#[derive(Debug)]
pub struct Done {
    pub pods: Vec<(SandboxKey, Arc<PodPolicy>)>,
}

/// The reconcile loop's end.
#[derive(Debug)]
pub struct Cutter {
    orders: mpsc::UnboundedSender<Order>,
    done: mpsc::UnboundedReceiver<Done>,
}

impl Cutter {
    pub fn start(
        run_dir: PathBuf,
        metrics: Metrics,
        cancel: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (orders, incoming) = mpsc::unbounded_channel();
        let (report, done) = mpsc::unbounded_channel();
        let worker = Worker { run_dir, metrics, incoming, report, pending: BTreeMap::new() };
        (Self { orders, done }, worker.run(cancel))
    }

    pub fn cut(&self, job: Job) {
        // Only a stop of the whole agent ends the other end.
        let _ = self.orders.send(Order::Cut(job));
    }

    /// The pod is gone, and its zone will be another's.
    pub fn forget(&self, key: &SandboxKey) {
        let _ = self.orders.send(Order::Forget(key.clone()));
    }

    pub async fn done(&mut self) -> Option<Done> {
        self.done.recv().await
    }
}

struct Worker {
    run_dir: PathBuf,
    metrics: Metrics,
    incoming: mpsc::UnboundedReceiver<Order>,
    report: mpsc::UnboundedSender<Done>,
    pending: BTreeMap<SandboxKey, Job>,
}

impl Worker {
    async fn run(mut self, cancel: CancellationToken) {
        loop {
            if self.pending.is_empty() {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    order = self.incoming.recv() => match order {
                        Some(order) => self.note(order),
                        None => return,
                    }
                }
            }
            while let Ok(order) = self.incoming.try_recv() {
                self.note(order);
            }
            let jobs: Vec<Job> = self.pending.values().cloned().collect();
            if jobs.is_empty() {
                continue;
            }
            let round = tokio::select! {
                () = cancel.cancelled() => return,
                round = round(&self.run_dir, jobs.clone()) => round,
            };
            match round {
                Ok(cut) => {
                    self.pending.clear();
                    // The next policy does not wait until the hardware has let go for this one.
                    tokio::spawn(release(jobs, cut, self.metrics.clone(), self.report.clone()));
                }
                Err(error) => {
                    warn!(error, "connections not cut yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn note(&mut self, order: Order) {
        match order {
            Order::Cut(job) => {
                self.pending.insert(job.key.clone(), job);
            }
            Order::Forget(key) => {
                self.pending.remove(&key);
            }
        }
    }
}

async fn round(run_dir: &Path, jobs: Vec<Job>) -> Result<Pass, String> {
    let jobs = Arc::new(jobs);
    let mut all = delete(jobs.clone(), BTreeMap::new()).await?;
    control::revalidated(run_dir, REVALIDATION).await.map_err(|e| e.to_string())?;
    for look in 0..LOOKS {
        let more = delete(jobs.clone(), all.answers.clone()).await?;
        let quiet = more.deleted.deleted == 0;
        all.add(more);
        // Nothing is answered where nothing was cut; and what was under way has had its time.
        if quiet && (all.deleted.deleted == 0 || look > 0) {
            break;
        }
        tokio::time::sleep(UNDER_WAY).await;
    }
    Ok(all)
}

/// Reports, once the hardware has let go.
async fn release(jobs: Vec<Job>, cut: Pass, metrics: Metrics, report: mpsc::UnboundedSender<Done>) {
    let deleted = cut.deleted;
    let waited = blocking(move || {
        let mut conntrack = Conntrack::open().map_err(|e| e.to_string())?;
        conntrack.wait_until_released(deleted, PATIENCE).map_err(|e| e.to_string())
    });
    let released = match waited.await {
        Ok(Release::Complete { .. }) => true,
        Ok(Release::Unproven { held, .. }) => {
            info!(held, "entries are held somewhere; the sweeps that let go of those cut are over");
            false
        }
        Err(error) => {
            warn!(error, "not seen whether the hardware has let go");
            false
        }
    };
    let took = jobs.iter().map(|job| job.since.elapsed()).max().unwrap_or_default();
    if deleted.deleted > 0 {
        info!(
            connections = deleted.deleted,
            pods = cut.pods.len(),
            took_ms = took.as_millis(),
            released,
            "connections cut that policy no longer allows"
        );
        metrics.connections_cut.inc_by(u64::try_from(deleted.deleted).unwrap_or(u64::MAX));
        metrics.tighten_seconds.observe(took.as_secs_f64());
    }
    let pods = jobs.into_iter().map(|job| (job.key, job.policy)).collect();
    let _ = report.send(Done { pods });
}

struct Pass {
    deleted: Deleted,
    pods: BTreeSet<SandboxKey>,
    /// By zone: what an answer to a connection that was cut looks like.
    answers: Answers,
}

type Answers = BTreeMap<CtZone, BTreeSet<Tuple>>;

impl Pass {
    fn add(&mut self, more: Self) {
        self.pods.extend(more.pods);
        self.deleted.deleted += more.deleted.deleted;
        self.deleted.gone += more.deleted.gone;
        self.deleted.at = more.deleted.at;
        for (zone, tuples) in more.answers {
            self.answers.entry(zone).or_default().extend(tuples);
        }
    }
}

/// Deletes what the jobs' policies deny, and what was begun by `answers`.
async fn delete(jobs: Arc<Vec<Job>>, answers: Answers) -> Result<Pass, String> {
    blocking(move || {
        let mut conntrack = Conntrack::open().map_err(|e| e.to_string())?;
        let deleted = Deleted { deleted: 0, gone: 0, at: Instant::now() };
        let mut pass = Pass { deleted, pods: BTreeSet::new(), answers: Answers::new() };
        for job in jobs.iter() {
            let entries = conntrack.entries(job.zone).map_err(|e| e.to_string())?;
            let denied = cut::cut(&job.addresses, &job.policy, &entries);
            pass.answers.entry(job.zone).or_default().extend(denied.iter().map(|it| it.reply));
            let mut doomed: BTreeMap<u32, Entry> = denied.into_iter().map(|it| (it.id, *it)).collect();
            if let Some(answers) = answers.get(&job.zone) {
                doomed.extend(cut::answers(answers, &entries).into_iter().map(|it| (it.id, *it)));
            }
            if doomed.is_empty() {
                continue;
            }
            debug!(key = %job.key, zone = job.zone.get(), connections = doomed.len(), "cutting");
            let doomed: Vec<Entry> = doomed.into_values().collect();
            let deleted = conntrack.delete(&doomed).map_err(|e| e.to_string())?;
            pass.pods.insert(job.key.clone());
            pass.deleted.deleted += deleted.deleted;
            pass.deleted.gone += deleted.gone;
            pass.deleted.at = deleted.at;
        }
        Ok(pass)
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|e| format!("conntrack task: {e}"))?
}
