//! The gRPC server's side of the reconciler: sends commands, waits for what it publishes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tracing::warn;

use super::intake::{Command, Requests, Ticket};
use crate::claim::{Attached, Attachments, Claim, Refusal, SandboxKey};
use crate::cluster::lookup::Lookup;
use crate::log::Throttle;
use crate::metrics::Metrics;
use crate::published::{Published, State};

/// Left of the deadline for the answer, which names the stage that is missing: the server's own time-out knows none.
const TO_ANSWER: Duration = Duration::from_secs(1);

/// Cheap to clone; all of them lead to the one reconciler.
#[derive(Debug, Clone)]
pub struct Handle {
    requests: Requests,
    published: watch::Receiver<Arc<Published>>,
    attach_timeout: Duration,
    lookup: Option<Lookup>,
    throttle: Arc<Throttle>,
}

impl Handle {
    pub fn new(
        requests: Requests,
        published: watch::Receiver<Arc<Published>>,
        attach_timeout: Duration,
        lookup: Option<Lookup>,
        metrics: &Metrics,
    ) -> Self {
        let throttle = Arc::new(Throttle::new(metrics.lines_withheld.clone()));
        Self { requests, published, attach_timeout, lookup, throttle }
    }

    /// Those who ask.
    pub(crate) fn requests(&self) -> Requests {
        self.requests.clone()
    }

    pub fn published(&self) -> watch::Receiver<Arc<Published>> {
        self.published.clone()
    }

    /// Waits until the attachment is ready; `stage` holds what was missing last.
    async fn ready(
        &self,
        key: &SandboxKey,
        ticket: &Ticket,
        stage: &mut String,
    ) -> Result<Arc<Attached>, Refusal> {
        let &Ticket { token, passes, .. } = ticket;
        let mut published = self.published.clone();
        loop {
            let (entry, known) = {
                let now = published.borrow_and_update();
                (now.attachments.get(key).cloned(), now.passes > passes)
            };
            match entry {
                Some(entry) if entry.token == token => match entry.state {
                    State::Ready(attached) => return Ok(attached),
                    State::Waiting(missing) => *stage = missing,
                },
                // A later Attach of the same sandbox: it has the answer, and ours would be the same.
                Some(entry) if entry.token > token => {
                    if let State::Ready(attached) = entry.state {
                        return Ok(attached);
                    }
                }
                Some(_) => {}
                None if !known => {}
                None => return Err(Refusal::taken_back(key)),
            }
            published.changed().await.map_err(|_| Refusal::stopping())?;
        }
    }
}

impl Attachments for Handle {
    async fn attach(&self, mut claim: Claim) -> Result<Attached, Refusal> {
        let deadline = Instant::now() + self.attach_timeout.saturating_sub(TO_ANSWER);
        let key = claim.key.clone();
        if let Some(lookup) = &self.lookup {
            claim.pod = lookup.ensure(&claim.pod).await.inspect_err(|refusal| {
                if let Some(withheld) = self.throttle.admit() {
                    warn!(key = %claim.key, pod = %claim.pod, vf = %claim.vf, reason = refusal.reason(),
                        error = %refusal, withheld, "claim refused");
                }
            })?;
        }
        let (reply, answer) = oneshot::channel();
        self.requests.send(Command::Attach { claim, reply }).await?;
        // Dropped with us, it withdraws the claim: our caller went away, or its deadline passed.
        let ticket = answer.await.map_err(|_| Refusal::stopping())??;
        let mut stage = "not looked at yet".to_owned();
        match tokio::time::timeout_at(deadline, self.ready(&key, &ticket, &mut stage)).await {
            Ok(outcome) => outcome.map(Arc::unwrap_or_clone),
            Err(_) => Err(Refusal::NotReady { stage }),
        }
    }

    async fn detach(&self, key: SandboxKey) -> Result<bool, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Command::Detach { key, reply }).await?;
        answer.await.map_err(|_| Refusal::stopping())?
    }

    async fn check(&self, key: SandboxKey, problem: Option<String>) -> Result<Attached, Refusal> {
        let entry = self.published.borrow().attachments.get(&key).cloned();
        if entry.as_ref().is_some_and(|entry| entry.problem != problem) {
            self.requests.send(Command::Report { key: key.clone(), problem }).await?;
        }
        match entry.map(|e| e.state) {
            Some(State::Ready(attached)) => Ok(Arc::unwrap_or_clone(attached)),
            Some(State::Waiting(stage)) => Err(Refusal::NotReady { stage }),
            None => Err(Refusal::NotAttached { key }),
        }
    }

    async fn list(&self) -> Vec<Claim> {
        self.published.borrow().attachments.values().map(|e| e.claim.clone()).collect()
    }

    async fn status(&self) -> Result<(), String> {
        self.published.borrow().unready().map_or(Ok(()), Err)
    }
}
