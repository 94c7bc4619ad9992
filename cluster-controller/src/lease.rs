//! Which of several controllers leads: a Lease, read as client-go's leader election reads it.
//!
//! Whoever's name is in the Lease leads, until it has not been renewed for the Lease's duration *by the reader's own
//! clock* since the reader saw it change: no clocks are compared. The leader writes for [`Timing::renew`] after the
//! beginning of its last renewal that succeeded, and that is shorter than the duration: so it has stopped before another
//! begins. What a transaction may do that was under way just then, the fence in the northbound decides
//! ([`crate::core::FENCE`]).
//!
//! Failure: without the API nobody becomes leader, and the leader stops writing; what is written stands.

pub mod elector;

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use elector::{Elector, Timing, Verdict};

/// Until when we lead, if we do.
pub type Leading = Option<Instant>;

/// One candidate.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    elector: Elector,
    leading: watch::Sender<Leading>,
}

/// Why a try came to nothing.
#[derive(Debug, thiserror::Error)]
enum TryError {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("no answer in time")]
    Late,
}

impl Candidate {
    pub fn new(
        client: Client,
        namespace: &str,
        name: &str,
        identity: &str,
        timing: Timing,
    ) -> (Self, watch::Receiver<Leading>) {
        let (leading, receiver) = watch::channel(None);
        let elector = Elector::new(identity, timing);
        (Self { api: Api::namespaced(client, namespace), name: name.to_owned(), elector, leading }, receiver)
    }

    /// Stands for election until `cancel`. Then the Lease is ours still, if it was: see [`Candidate::release`].
    pub async fn run(&mut self, cancel: &CancellationToken) {
        let timing = self.elector.timing();
        let mut failed = false;
        while !cancel.is_cancelled() {
            let started = Instant::now();
            let tried = match timeout(timing.renew / 2, self.attempt()).await {
                Ok(tried) => tried.map_err(TryError::from),
                Err(_) => Err(TryError::Late),
            };
            match tried {
                Ok(true) => self.lead(Some(started + timing.renew)),
                Ok(false) => self.lead(None),
                Err(error) => {
                    if !failed {
                        warn!(lease = self.name, %error, "the lease cannot be read or renewed, trying again");
                    }
                    let over = self.leading.borrow().is_some_and(|until| until <= Instant::now());
                    if over {
                        self.lead(None);
                    }
                    failed = true;
                    pause(timing.retry, cancel).await;
                    continue;
                }
            }
            failed = false;
            pause(timing.retry, cancel).await;
        }
    }

    /// Gives the Lease up, so that another need not wait until it has expired. Only once nothing is written any more.
    pub async fn release(self) {
        self.lead(None);
        let released = timeout(self.elector.timing().renew / 2, async {
            let Some(lease) = self.api.get_opt(&self.name).await? else { return Ok(()) };
            if let Some(lease) = self.elector.released(lease, Timestamp::now()) {
                self.api.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<(), kube::Error>(())
        });
        match released.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(lease = self.name, %error, "the lease was not given up: it expires"),
            Err(_) => warn!(lease = self.name, "the lease was not given up in time: it expires"),
        }
    }

    fn lead(&self, until: Leading) {
        let did = self.leading.borrow().is_some();
        match (did, until) {
            (false, Some(_)) => info!(lease = self.name, identity = self.elector.identity(), "leading"),
            (true, None) => info!(lease = self.name, identity = self.elector.identity(), "no longer leading"),
            _ => {}
        }
        self.leading.send_replace(until);
    }

    /// Do we hold the Lease?
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let there = self.api.get_opt(&self.name).await?;
        let exists = there.is_some();
        let lease = match self.elector.decide(there, Instant::now(), Timestamp::now()) {
            Verdict::Wait => return Ok(false),
            Verdict::Write(mut lease) => {
                lease.metadata.name = Some(self.name.clone());
                *lease
            }
        };
        let written = if exists {
            self.api.replace(&self.name, &PostParams::default(), &lease).await
        } else {
            self.api.create(&PostParams::default(), &lease).await
        };
        match written {
            Ok(_) => Ok(true),
            // Somebody else was quicker.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }
}

async fn pause(time: Duration, cancel: &CancellationToken) {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = tokio::time::sleep(time) => {}
    }
}
