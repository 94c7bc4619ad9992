//! What is still to be done: which of our rows may differ from what is wanted. Pure.
//!
//! A key becomes dirty when its wanted row changes, or its row in the northbound does; a batch takes dirty keys and turns
//! those that really differ into operations. So the work is that of the change, whatever the size of the rest. A
//! transaction that the server refuses is tried again in halves, until the row that it does not take is alone; that one
//! waits, the others go on.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use ovsdb_session::rows::northbound::NbGlobal;
use ovsdb_session::{Condition, Error, Mutation, Op, OpResult, Snapshot, Table as _};

use crate::cluster::Change;
use crate::northbound::Key;
use crate::northbound::batch::{Batch, Blocked};
use crate::northbound::observed::Observed;
use crate::plan::Plan;
use crate::settings::Settings;

/// The most rows of one transaction: enough for a fresh start to be quick, few enough not to hold the server up.
pub const CHUNK: usize = 500;

/// In `NB_Global:external_ids`: the leader's token. Every transaction asks for it first: one of a leader that has been
/// succeeded, and does not know yet, fails whole.
pub const FENCE: &str = "drawbridge.dev/cluster-controller";

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Done.
    Done,
    /// Another has led since.
    Fenced,
    /// Not done: will be tried in smaller parts, or is set aside.
    Refused(String),
    /// The connection is gone; what was done shows when it is back.
    Lost(String),
}

#[derive(Debug)]
pub struct Core {
    plan: Plan,
    observed: Observed,
    dirty: BTreeSet<Key>,
    /// Waiting for something in the northbound to change.
    blocked: BTreeMap<Key, Blocked>,
    /// Waiting for time to pass.
    refused: BTreeMap<Key, Blocked>,
    chunk: usize,
}

impl Core {
    pub fn new(settings: Settings) -> Self {
        let plan = Plan::new(settings);
        let dirty = plan.rows().map(|(key, _)| key.clone()).collect();
        Self {
            plan,
            observed: Observed::default(),
            dirty,
            blocked: BTreeMap::new(),
            refused: BTreeMap::new(),
            chunk: CHUNK,
        }
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// How many keys may have something to be done.
    pub fn pending(&self) -> usize {
        self.dirty.len()
    }

    /// Rows that cannot be as they shall be, and why.
    pub fn blocked(&self) -> impl Iterator<Item = (&Key, &Blocked)> {
        self.blocked.iter().chain(&self.refused)
    }

    /// Takes one of the cluster's objects as it is now.
    pub fn change(&mut self, change: Change) {
        let touched = self.plan.apply(change);
        for key in &touched {
            // What was refused was another row.
            self.refused.remove(key);
        }
        self.dirty.extend(touched);
    }

    /// Takes the northbound as it is now.
    pub fn observe(&mut self, snapshot: Snapshot) {
        let before = self.observed.snapshot();
        let same_schema = snapshot.missing == before.missing;
        if same_schema && snapshot.revision == before.revision {
            return;
        }
        let touched = self.observed.update(snapshot);
        self.dirty.extend(touched);
        if !same_schema {
            // The server has become another, as with OVN's update: what it could not hold it may hold now.
            self.dirty.extend(self.plan.rows().map(|(key, _)| key.clone()));
        }
        self.dirty.extend(std::mem::take(&mut self.blocked).into_keys());
    }

    /// Tries again what the server refused.
    pub fn retry_refused(&mut self) {
        self.dirty.extend(std::mem::take(&mut self.refused).into_keys());
    }

    /// The next transaction, without its fence; `None` when all is as it shall be, or has to wait.
    pub fn next_batch(&mut self, now: Timestamp) -> Option<Batch> {
        while !self.dirty.is_empty() {
            let batch = Batch::build(&self.plan, &self.observed, &self.dirty, self.chunk, now);
            for key in &batch.keys {
                self.dirty.remove(key);
            }
            self.blocked.extend(batch.blocked.iter().cloned());
            if !batch.ops.is_empty() {
                return Some(batch);
            }
        }
        None
    }

    /// Takes what became of a batch that was sent behind a fence.
    pub fn applied(&mut self, batch: &Batch, result: Result<Vec<OpResult>, Error>) -> Applied {
        match result {
            Ok(results) => {
                if Batch::stale(results.get(1..).unwrap_or_default()) {
                    self.dirty.extend(batch.keys.iter().cloned());
                }
                self.chunk = (self.chunk * 2).clamp(1, CHUNK);
                Applied::Done
            }
            Err(Error::Transaction(error)) => {
                if matches!(&error, ovsdb_session::op::ResultError::Op { index: 0, .. }) {
                    self.dirty.extend(batch.keys.iter().cloned());
                    return Applied::Fenced;
                }
                let mut keys = batch.keys.iter();
                if let (Some(only), None) = (keys.next(), keys.next()) {
                    self.refused.insert(only.clone(), Blocked::Refused(error.to_string()));
                } else {
                    self.chunk = (batch.keys.len() / 2).max(1);
                    self.dirty.extend(batch.keys.iter().cloned());
                }
                Applied::Refused(error.to_string())
            }
            Err(error) => {
                self.dirty.extend(batch.keys.iter().cloned());
                Applied::Lost(error.to_string())
            }
        }
    }

    /// Whose token is in the northbound?
    pub fn fence(&self) -> Option<String> {
        let row = self.observed.snapshot().rows::<NbGlobal>().next()?.ok()?;
        row.external_ids.get(FENCE).cloned()
    }

    /// Puts our token there.
    pub fn claim(&self, token: &str) -> Vec<Op> {
        if let Some((uuid, _)) = self.observed.snapshot().table(NbGlobal::NAME).next() {
            let set = Mutation::set_keys("external_ids", [(FENCE, token)]);
            vec![Op::mutate(NbGlobal::NAME).when(Condition::uuid(uuid)).with_all(set).into()]
        } else {
            // northd makes the row when it starts; a wiped database has none.
            let marks = ovsdb_session::Datum::map([(FENCE, token)]);
            vec![Op::insert(NbGlobal::NAME).set("external_ids", marks).into()]
        }
    }
}

/// Fails the transaction that it begins unless the token is ours.
pub fn fenced(token: &str, ops: Vec<Op>) -> Vec<Op> {
    let ours = Condition::includes("external_ids", ovsdb_session::Datum::map([(FENCE, token)]));
    let fence = Op::wait(NbGlobal::NAME).when(ours).row::<ovsdb_session::Datum>([]);
    std::iter::once(fence.into()).chain(ops).collect()
}
