//! The way from the gRPC server into the reconcile loop: a queue with an end, of which each pass takes so many requests,
//! and only those that somebody still waits for.
//!
//! ```text
//!  request ─► Requests ─► queue of 64 ─► Intake::take: 32 at most ─► batch ─► pass
//!  request's future dropped ─► its Hold ─────────► Intake::ready      ▲
//!                                                  Tickets::given_up ─┘
//! ```
//!
//! A request that finds the queue full waits for its turn, for as long as its own deadline lets it; there are never more
//! of them than the server lets in. A request whose caller is gone leaves nothing behind in the loop, wherever it was: in
//! the queue it is dropped before anything is done for it, and behind it the loop finds its [`Hold`] gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use tokio::sync::{Notify, mpsc, oneshot};

use crate::attachment::AttachmentId;
use crate::claim::{Claim, Refusal, SandboxKey};

const QUEUE: usize = 64;
/// What one pass may be kept from its other work by.
pub const AT_ONCE: usize = 32;

/// What the reconciler is asked to do.
#[derive(Debug)]
pub enum Command {
    Attach {
        claim: Claim,
        reply: oneshot::Sender<Result<Ticket, Refusal>>,
    },
    /// Answered after the pass that did it.
    Detach {
        key: SandboxKey,
        reply: oneshot::Sender<Result<bool, Refusal>>,
    },
    /// What the server says is wrong on its side, or that nothing is. Nobody waits for it.
    Report {
        key: SandboxKey,
        problem: Option<String>,
    },
}

impl Command {
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Attach { reply, .. } => reply.is_closed(),
            Self::Detach { reply, .. } => reply.is_closed(),
            Self::Report { .. } => false,
        }
    }
}

/// A believed claim, to be followed in what is published.
#[derive(Debug)]
pub struct Ticket {
    pub token: u64,
    /// Passes until then: what was published by them does not know of the claim.
    pub passes: u64,
    /// Dropped before the attachment is ready, it takes the claim back.
    pub hold: Arc<Hold>,
}

/// Somebody waits for an attachment.
#[derive(Debug)]
pub struct Hold(Arc<Notify>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// The server's end.
#[derive(Debug, Clone)]
pub struct Requests(mpsc::Sender<Command>);

impl Requests {
    /// `Err`: nobody is there any more who could do it.
    pub async fn send(&self, command: Command) -> Result<(), Refusal> {
        self.0.send(command).await.map_err(|_| Refusal::stopping())
    }
}

/// The loop's end.
#[derive(Debug)]
pub struct Intake {
    commands: mpsc::Receiver<Command>,
    /// Taken out of the queue by [`Intake::ready`].
    first: Option<Command>,
    given_up: Arc<Notify>,
}

/// What [`Intake::take`] found.
#[derive(Debug, Default)]
pub struct Taken {
    pub commands: Vec<Command>,
    /// How many there were whose callers were gone.
    pub abandoned: u64,
}

pub fn channel() -> (Requests, Intake) {
    let (send, commands) = mpsc::channel(QUEUE);
    (Requests(send), Intake { commands, first: None, given_up: Arc::default() })
}

impl Intake {
    /// Resolves when there is something to take, or when somebody gave up; to false when nobody is left who could ask.
    pub async fn ready(&mut self) -> bool {
        if self.first.is_some() {
            return true;
        }
        tokio::select! {
            command = self.commands.recv() => {
                self.first = command;
                self.first.is_some()
            }
            () = self.given_up.notified() => true,
        }
    }

    /// Those that came first; the rest stays for the next pass. The abandoned are passed over, but not without end.
    pub fn take(&mut self) -> Taken {
        let mut taken = Taken::default();
        for _ in 0..QUEUE {
            if taken.commands.len() >= AT_ONCE {
                break;
            }
            let Some(command) = self.first.take().or_else(|| self.commands.try_recv().ok()) else { break };
            if command.is_abandoned() {
                taken.abandoned += 1;
            } else {
                taken.commands.push(command);
            }
        }
        taken
    }

    pub fn tickets(&self, ready: BTreeSet<AttachmentId>) -> Tickets {
        let given_up = self.given_up.clone();
        Tickets { newest: BTreeMap::new(), last: 0, ready, given_up, looked: None }
    }
}

/// Who waits for which attachment.
#[derive(Debug)]
pub struct Tickets {
    /// Of the newest Attach of each sandbox.
    newest: BTreeMap<SandboxKey, (u64, Weak<Hold>)>,
    last: u64,
    /// Those that were ready once: a later Attach that gives up does not take them back.
    ready: BTreeSet<AttachmentId>,
    given_up: Arc<Notify>,
    /// Who had given up at a look that counts until it is over.
    looked: Option<Vec<SandboxKey>>,
}

impl Tickets {
    /// One that is newer than all others of this sandbox.
    pub fn issue(&mut self, key: SandboxKey, passes: u64) -> Ticket {
        let hold = Arc::new(Hold(self.given_up.clone()));
        self.last += 1;
        self.newest.insert(key, (self.last, Arc::downgrade(&hold)));
        Ticket { token: self.last, passes, hold }
    }

    /// 0 where there was none since we started.
    pub fn token(&self, key: &SandboxKey) -> u64 {
        self.newest.get(key).map_or(0, |(token, _)| *token)
    }

    /// True when it was not before.
    pub fn set_ready(&mut self, id: &AttachmentId) -> bool {
        !self.ready.contains(id) && self.ready.insert(id.clone())
    }

    pub fn is_ready(&self, id: &AttachmentId) -> bool {
        self.ready.contains(id)
    }

    pub fn forget(&mut self, id: &AttachmentId) {
        if let Some(key) = id.sandbox() {
            self.newest.remove(key);
        }
        self.ready.remove(id);
    }

    /// Sandboxes that nobody waits for any more, and that were never ready.
    pub fn given_up(&self) -> Vec<SandboxKey> {
        if let Some(looked) = &self.looked {
            return looked.clone();
        }
        let is_gone = |(key, (_, hold)): &(&SandboxKey, &(u64, Weak<Hold>))| {
            hold.strong_count() == 0 && !self.ready.contains(&AttachmentId::from((*key).clone()))
        };
        self.newest.iter().filter(is_gone).map(|(key, _)| key.clone()).collect()
    }

    /// Who has given up now; who does so until [`Self::looked`] has not yet.
    pub fn look(&mut self) -> &[SandboxKey] {
        let now = self.given_up();
        self.looked.insert(now)
    }

    pub fn looked(&mut self) {
        self.looked = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(of: usize) -> SandboxKey {
        SandboxKey { sandbox: format!("s{of}"), interface: "eth0".to_owned() }
    }

    fn detach(of: usize) -> (Command, oneshot::Receiver<Result<bool, Refusal>>) {
        let (reply, answer) = oneshot::channel();
        (Command::Detach { key: key(of), reply }, answer)
    }

    fn sandboxes(taken: &Taken) -> Vec<String> {
        let of = |command: &Command| match command {
            Command::Attach { claim, .. } => claim.key.sandbox.clone(),
            Command::Detach { key, .. } | Command::Report { key, .. } => key.sandbox.clone(),
        };
        taken.commands.iter().map(of).collect()
    }

    #[tokio::test]
    async fn a_pass_takes_so_many_and_in_order() {
        let (requests, mut intake) = channel();
        let mut answers = Vec::new();
        for of in 0..QUEUE {
            let (command, answer) = detach(of);
            requests.send(command).await.unwrap();
            answers.push(answer);
        }
        // The queue has an end: who comes next waits, and takes nothing of it when it goes.
        let (command, _answer) = detach(QUEUE);
        let late = requests.send(command);
        tokio::select! {
            biased;
            sent = late => panic!("{sent:?}"),
            () = std::future::ready(()) => {}
        }
        assert!(intake.ready().await);
        let of = |range: std::ops::Range<usize>| range.map(|it| format!("s{it}")).collect::<Vec<_>>();
        assert_eq!(sandboxes(&intake.take()), of(0..AT_ONCE));
        assert_eq!(sandboxes(&intake.take()), of(AT_ONCE..QUEUE));
        assert_eq!(intake.take().commands.len(), 0);
    }

    #[tokio::test]
    async fn whose_caller_is_gone_is_passed_over() {
        let (requests, mut intake) = channel();
        let mut waiting = Vec::new();
        for of in 0..QUEUE {
            let (command, answer) = detach(of);
            requests.send(command).await.unwrap();
            if of % 10 == 5 {
                waiting.push(answer);
            }
        }
        let taken = intake.take();
        assert_eq!(sandboxes(&taken), ["s5", "s15", "s25", "s35", "s45", "s55"]);
        assert_eq!(taken.abandoned, 58);
    }

    #[tokio::test]
    async fn only_the_newest_of_a_sandbox_takes_it_back_and_only_before_it_was_ready() {
        let (_requests, mut intake) = channel();
        let mut tickets = intake.tickets([key(9).into()].into());
        let (first, second) = (tickets.issue(key(1), 0), tickets.issue(key(1), 0));
        let other = tickets.issue(key(2), 0);
        drop((first, tickets.issue(key(9), 0)));
        assert!(intake.ready().await, "somebody gave up");
        assert_eq!(tickets.given_up(), []);
        assert!(tickets.set_ready(&key(2).into()) && !tickets.set_ready(&key(2).into()));
        drop((second, other));
        assert!(intake.ready().await);
        assert_eq!(tickets.given_up(), [key(1)]);
        tickets.forget(&key(1).into());
        assert_eq!(tickets.given_up(), []);
        assert_eq!((tickets.token(&key(1)), tickets.token(&key(2))), (0, 3));
    }

    #[tokio::test]
    async fn nobody_is_left() {
        let (requests, mut intake) = channel();
        drop(requests);
        assert!(!intake.ready().await);
    }
}
