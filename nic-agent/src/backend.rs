//! What brings the attachments of one kind of network into the NIC's data path. Of a network the reconcile loop knows no more
//! than this; a backend knows nothing of another, and nothing of the loop.
//!
//! ```text
//!  pass:   reap ─► close ─► wanted ─► each backend ─► empty ─► open ─► publish
//!                    │         │           │            │       │         │
//!  Backend:        keeps     learn       bring        empty  (bring's   ready, in_force, health
//!                                  observe, plan, apply       answer)
//! ```
//!
//! What a backend needs of the platform it has through the interfaces of [`crate::platform`]; the representors, which all
//! backends share, it is lent for a pass.

pub mod overlay;

use std::collections::BTreeSet;
use std::error::Error;

use offload::ids::{CtZone, IfIndex, VfId};

use crate::attachment::Attachment;
use crate::audit::PodProgress;
use crate::config::Config;
use crate::directory::Directory;
use crate::intent::Intents;
use crate::kernel::view::RepView;
use crate::ledger::book::Book;
use crate::marks::Marks;
use crate::outcome::Outcome;
use crate::platform::Links;
use crate::profile::Answer;
use crate::published::{Connections, Health};
use crate::representors::Representors;

/// What a backend works with in one pass.
pub struct Pass<'a, L> {
    pub config: &'a Config,
    pub book: &'a mut Book,
    pub representors: &'a mut Representors<L>,
    /// What the cluster wants of every attachment.
    pub intents: &'a Intents,
    /// The numbers by which connections name the rules that admitted them.
    pub marks: &'a Marks,
    pub outcome: &'a mut Outcome,
}

/// How far a pass has come.
#[derive(Debug, Default)]
pub struct Brought {
    /// VFs that have all of their boundary, which may be opened.
    pub whole: BTreeSet<VfId>,
    /// What is wanted of all attachments is in the tables.
    pub in_tables: bool,
}

/// What else an attachment's readiness depends on.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub config: &'a Config,
    pub directory: &'a Directory,
    pub representor: Option<&'a RepView>,
    /// The pod's policy is known, or why not: then nothing passes.
    pub policy: Result<(), &'a str>,
    /// It was never ready.
    pub is_new: bool,
}

/// Whom an attachment waits for: the agent and Open vSwitch, or OVN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Us,
    Ovn,
}

/// What is missing, in words, and from whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub who: Who,
    pub what: String,
}

/// How what is wanted of an attachment is in force.
#[derive(Debug, Clone, Default)]
pub struct InForce {
    /// `None`: what is wanted is not in the tables, or nobody has looked since.
    pub progress: Option<PodProgress>,
    /// By which its rules can be found there; 0 is no policy.
    pub egress_rule_set: u32,
    pub ingress_rule_set: u32,
    pub connections: Option<Connections>,
}

pub trait Backend<L: Links> {
    /// Resolves when a pass would find something else than the last one.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;

    /// Which of these representors may stay as they are: they have their boundary, for all that is known before anything is
    /// asked.
    fn keeps(&mut self, config: &Config, book: &Book, reps: &[RepView]) -> BTreeSet<IfIndex>;

    /// What the network says of who its attachments are goes into the ledger.
    fn learn(&mut self, config: &Config, book: &mut Book);

    /// Observes, plans and applies: boundaries before ports. What failed is in `pass.outcome`, and changes nothing of the rest.
    fn bring(&mut self, pass: Pass<'_, L>) -> impl Future<Output = Brought> + Send;

    /// Deletes the connections of a zone that nobody has any more.
    fn empty(&mut self, zone: CtZone, outcome: &mut Outcome) -> impl Future<Output = bool> + Send;

    /// The attachment has left the ledger.
    fn forget(&mut self, attachment: &Attachment);

    /// What the interface is to look like, or the first thing that is missing, as of the last pass.
    fn ready(&self, attachment: &Attachment, facts: &Facts<'_>) -> Result<Answer, Missing>;

    /// `intents`: the same as in the last pass.
    fn in_force(&self, attachment: &Attachment, intents: &Intents, config: &Config) -> InForce;

    /// Fills in what is this backend's.
    fn health(&self, health: &mut Health);

    /// For users: what does not hold for any of its attachments, and why.
    fn trouble(&self) -> Option<String>;

    /// All flows are offered to the hardware anew. Resolves when that is done; `Err` is why it is not.
    fn offer_anew(
        &self,
        config: &Config,
    ) -> impl Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send + 'static;
}
