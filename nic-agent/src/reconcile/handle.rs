//! The gRPC server's side of the reconciler: sends commands, waits for what it publishes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::warn;

use super::published::{Published, State};
use crate::claim::{Attached, Attachments, Claim, Refusal, SandboxKey};
use crate::cluster::lookup::Lookup;

/// Left of the deadline for the answer, which names the stage that is missing: the server's own time-out knows none.
const TO_ANSWER: Duration = Duration::from_secs(1);

/// What the reconciler is asked to do. Each is answered after the pass that did it.
#[derive(Debug)]
pub enum Command {
    Attach {
        claim: Claim,
        reply: oneshot::Sender<Result<Ticket, Refusal>>,
    },
    /// The Attach with this token gave up.
    Withdraw {
        key: SandboxKey,
        token: u64,
    },
    Detach {
        key: SandboxKey,
        reply: oneshot::Sender<Result<bool, Refusal>>,
    },
}

/// A believed claim, to be followed in what is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    pub token: u64,
    /// Passes until then: what was published by them does not know of the claim.
    pub passes: u64,
}

/// Cheap to clone; all of them lead to the one reconciler.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: mpsc::UnboundedSender<Command>,
    published: watch::Receiver<Arc<Published>>,
    attach_timeout: Duration,
    lookup: Option<Lookup>,
}

impl Handle {
    pub(super) fn new(
        commands: mpsc::UnboundedSender<Command>,
        published: watch::Receiver<Arc<Published>>,
        attach_timeout: Duration,
        lookup: Option<Lookup>,
    ) -> Self {
        Self { commands, published, attach_timeout, lookup }
    }

    pub fn published(&self) -> watch::Receiver<Arc<Published>> {
        self.published.clone()
    }

    fn send(&self, command: Command) -> Result<(), Refusal> {
        self.commands.send(command).map_err(|_| stopping())
    }

    /// Waits until the attachment is ready; `stage` holds what was missing last.
    async fn ready(
        &self,
        key: &SandboxKey,
        ticket: Ticket,
        stage: &mut String,
    ) -> Result<Arc<Attached>, Refusal> {
        let Ticket { token, passes } = ticket;
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
                None => {
                    return Err(Refusal::Internal(format!(
                        "the attachment of sandbox {key} was taken back: detached, or its pod deleted"
                    )));
                }
            }
            published.changed().await.map_err(|_| stopping())?;
        }
    }
}

fn stopping() -> Refusal {
    Refusal::Internal("nic-agent is stopping".to_owned())
}

/// Withdraws a claim whose caller went away or whose deadline passed.
struct Withdraw {
    commands: mpsc::UnboundedSender<Command>,
    key: SandboxKey,
    token: u64,
    armed: bool,
}

impl Drop for Withdraw {
    fn drop(&mut self) {
        if self.armed {
            // A reconciler that is gone has nothing to withdraw.
            let _ = self.commands.send(Command::Withdraw { key: self.key.clone(), token: self.token });
        }
    }
}

impl Attachments for Handle {
    async fn attach(&self, mut claim: Claim) -> Result<Attached, Refusal> {
        let deadline = Instant::now() + self.attach_timeout.saturating_sub(TO_ANSWER);
        let key = claim.key.clone();
        if let Some(lookup) = &self.lookup {
            claim.pod = lookup.ensure(&claim.pod).await.inspect_err(|refusal| {
                warn!(key = %claim.key, pod = %claim.pod, vf = %claim.vf, reason = refusal.reason(), error = %refusal,
                    "claim refused");
            })?;
        }
        let (reply, answer) = oneshot::channel();
        self.send(Command::Attach { claim, reply })?;
        let ticket = answer.await.map_err(|_| stopping())??;
        let mut withdraw =
            Withdraw { commands: self.commands.clone(), key: key.clone(), token: ticket.token, armed: true };
        let mut stage = "not looked at yet".to_owned();
        let outcome = tokio::time::timeout_at(deadline, self.ready(&key, ticket, &mut stage)).await;
        match outcome {
            Ok(Ok(attached)) => {
                withdraw.armed = false;
                Ok(Arc::unwrap_or_clone(attached))
            }
            Ok(Err(refusal)) => Err(refusal),
            Err(_) => Err(Refusal::NotReady { stage }),
        }
    }

    async fn detach(&self, key: SandboxKey) -> Result<bool, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Detach { key, reply })?;
        answer.await.map_err(|_| stopping())?
    }

    async fn check(&self, key: SandboxKey) -> Result<Attached, Refusal> {
        let entry = self.published.borrow().attachments.get(&key).cloned();
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
