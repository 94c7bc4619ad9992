//! Cuts the connections that a policy no longer allows, and says when the hardware, too, has let go of them.
//!
//! New rules are in `br-edge`'s tables before a job comes here. Cut is twice: at once, because that is what ends most of
//! it, and again when the datapath follows the tables ([`control::revalidated`]), because until then an old megaflow may
//! let a packet begin its connection anew. Then it waits until nobody holds a deleted entry any more.
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
use offload::netlink::conntrack::{Conntrack, Deleted, Release, SWEEP};
use offload::policy::PodPolicy;
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
    let first = delete(jobs.clone()).await?;
    control::revalidated(run_dir, REVALIDATION).await.map_err(|e| e.to_string())?;
    let mut both = delete(jobs).await?;
    both.pods.extend(first.pods);
    both.deleted.deleted += first.deleted.deleted;
    both.deleted.gone += first.deleted.gone;
    Ok(both)
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
}

async fn delete(jobs: Arc<Vec<Job>>) -> Result<Pass, String> {
    blocking(move || {
        let mut conntrack = Conntrack::open().map_err(|e| e.to_string())?;
        let mut pods = BTreeSet::new();
        let mut all = Deleted { deleted: 0, gone: 0, at: Instant::now() };
        for job in jobs.iter() {
            let entries = conntrack.entries(job.zone).map_err(|e| e.to_string())?;
            let denied: Vec<_> =
                cut::cut(&job.addresses, &job.policy, &entries).into_iter().copied().collect();
            if denied.is_empty() {
                continue;
            }
            debug!(key = %job.key, zone = job.zone.get(), connections = denied.len(), "cutting");
            let deleted = conntrack.delete(&denied).map_err(|e| e.to_string())?;
            pods.insert(job.key.clone());
            all.deleted += deleted.deleted;
            all.gone += deleted.gone;
            all.at = deleted.at;
        }
        Ok(Pass { deleted: all, pods })
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|e| format!("conntrack task: {e}"))?
}
