//! What a pass took of the server's requests, done to the ledger: all of it with one write, whatever it was.
//!
//! A claim is answered when the ledger that holds it is on the disk. A ledger that cannot be written holds none of the
//! batch's new claims; what was taken back or detached is gone all the same, and a later write says so.

use tokio::sync::oneshot;

use super::intake::{Command, Ticket, Tickets};
use crate::admission::Admission;
use crate::attachment::Attachment;
use crate::claim::{Claim, Refusal, SandboxKey};
use crate::durable::DurableError;
use crate::ledger::Ledger;

/// Why an attachment left the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// Nobody waits for it, and it was never ready.
    GivenUp,
    Detached,
    Superseded {
        by: SandboxKey,
    },
}

/// What was done.
#[derive(Debug, Default)]
pub struct Settled {
    /// New in the ledger, in the order in which they came.
    pub believed: Vec<Claim>,
    pub refused: Vec<(Claim, Refusal)>,
    pub left: Vec<(Attachment, Left)>,
    /// To be answered after the pass that makes it true.
    pub detached: Vec<(oneshot::Sender<Result<bool, Refusal>>, bool)>,
    /// What the server says of its side of attachments, in the order in which it did.
    pub reported: Vec<(SandboxKey, Option<String>)>,
    /// The ledger is not on the disk.
    pub unsaved: Option<DurableError>,
}

type Reply = oneshot::Sender<Result<Ticket, Refusal>>;

/// `passes` is how many there were until now.
pub fn settle(
    commands: Vec<Command>,
    passes: u64,
    ledger: &mut Ledger,
    tickets: &mut Tickets,
    admit: impl Fn(&Claim, &Ledger) -> Result<Admission, Refusal>,
    save: impl FnOnce(&mut Ledger) -> Result<(), DurableError>,
) -> Settled {
    let mut settled = Settled::default();
    for key in tickets.given_up() {
        match ledger.withdraw(&key.clone().into()) {
            Some(attachment) => settled.left.push((attachment, Left::GivenUp)),
            None => tickets.forget(&key.into()),
        }
    }
    // The ledger before the first new claim, and how many had left it by then.
    let mut before: Option<(Ledger, usize)> = None;
    let mut claims: Vec<(Claim, Reply)> = Vec::new();
    let mut detached = Vec::new();
    let mut is_to_be_written = !settled.left.is_empty();
    for command in commands {
        match command {
            Command::Attach { claim, reply } => match admit(&claim, ledger) {
                Ok(Admission::Known) => claims.push((claim, reply)),
                Ok(Admission::New { attachment, supersedes }) => {
                    before.get_or_insert_with(|| (ledger.clone(), settled.left.len()));
                    for old in supersedes {
                        let by = claim.key.clone();
                        let old = ledger.detach(&old).map(|old| (old, Left::Superseded { by }));
                        settled.left.extend(old);
                    }
                    is_to_be_written = true;
                    ledger.insert(*attachment);
                    settled.believed.push(claim.clone());
                    claims.push((claim, reply));
                }
                Err(refusal) => {
                    // A caller that went away has no use for the answer.
                    let _ = reply.send(Err(refusal.clone()));
                    settled.refused.push((claim, refusal));
                }
            },
            Command::Detach { key, reply } => {
                // Of one that is not there, too: after a restart its Attach must not be believed either.
                is_to_be_written |= !ledger.is_detached(&key);
                let attachment = ledger.detach(&key);
                detached.push(key);
                settled.detached.push((reply, attachment.is_some()));
                settled.left.extend(attachment.map(|it| (it, Left::Detached)));
            }
            Command::Report { key, problem } => settled.reported.push((key, problem)),
        }
    }
    if is_to_be_written && let Err(error) = save(ledger) {
        if let Some((before, left)) = before {
            *ledger = before;
            settled.believed.clear();
            for (attachment, why) in settled.left.split_off(left) {
                // What a claim had superseded is back. A claim of this batch that was detached in it was never there.
                let key = attachment.owner.sandbox().map(|it| &it.key);
                if why == Left::Detached && key.is_some_and(|key| ledger.detach(key).is_some()) {
                    settled.left.push((attachment, why));
                }
            }
            // What is not there is remembered, too: its Attach may come yet.
            for key in detached {
                ledger.detach(&key);
            }
        }
        settled.unsaved = Some(error);
    }
    for (attachment, _) in &settled.left {
        tickets.forget(&attachment.id());
    }
    for (claim, reply) in claims {
        let answer = match (&settled.unsaved, ledger.of_sandbox(&claim.key)) {
            (_, Some(_)) => Ok(tickets.issue(claim.key, passes)),
            (Some(error), None) => Err(Refusal::Internal(format!("ledger not written: {error}"))),
            (None, None) => Err(Refusal::taken_back(&claim.key)),
        };
        // What nobody hears of is given up with its ticket.
        let _ = reply.send(answer);
    }
    settled
}

#[cfg(test)]
mod tests;
