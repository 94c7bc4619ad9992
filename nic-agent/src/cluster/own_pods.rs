//! This node's pods, as the watch shows them, and those that were asked for before it did.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::directory::{Directory, PodRecord};
use crate::policy::ObjectName;

/// A pod that we asked for by name, and that the watch has not shown for so long, is not there.
pub(super) const AHEAD: Duration = Duration::from_mins(1);

pub struct OwnPods {
    node: Arc<str>,
    /// By uid.
    records: BTreeMap<String, PodRecord>,
    uids: BTreeMap<ObjectName, String>,
    /// Those that we asked for, until the watch has shown them.
    ahead: BTreeMap<String, (PodRecord, Instant)>,
    is_changed: bool,
}

impl OwnPods {
    pub fn new(node: Arc<str>) -> Self {
        let (records, uids, ahead) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { node, records, uids, ahead, is_changed: true }
    }

    /// A pod, of whichever node.
    pub fn put(&mut self, name: ObjectName, record: PodRecord) {
        let is_ours = *record.node == *self.node;
        // A pod never leaves its node; one of the same name may be another.
        if let Some(old) = self.uids.get(&name)
            && (*old != record.uid || !is_ours)
        {
            let old = old.clone();
            self.forget(&name, &old);
        }
        if !is_ours {
            return;
        }
        self.ahead.remove(&record.uid);
        if self.records.get(&record.uid) != Some(&record) {
            self.is_changed = true;
            self.uids.insert(name, record.uid.clone());
            self.records.insert(record.uid.clone(), record);
        }
    }

    pub fn remove(&mut self, name: &ObjectName, uid: &str) {
        // Whichever had this name: what was said of one in between may have been superseded.
        if let Some(known) = self.uids.get(name).cloned() {
            self.forget(name, &known);
        }
        self.forget(name, uid);
    }

    fn forget(&mut self, name: &ObjectName, uid: &str) {
        if self.uids.get(name).is_some_and(|it| it == uid) {
            self.uids.remove(name);
        }
        self.is_changed |= self.records.remove(uid).is_some() | self.ahead.remove(uid).is_some();
    }

    /// A list is complete.
    pub fn retain(&mut self, listed: &HashSet<ObjectName>) {
        let gone = self.uids.iter().filter(|(name, _)| !listed.contains(*name));
        for (name, uid) in gone.map(|(name, uid)| (name.clone(), uid.clone())).collect::<Vec<_>>() {
            self.forget(&name, &uid);
        }
        // From unknown to known, even if there is no pod.
        self.is_changed = true;
    }

    /// A pod that the API showed when asked for it.
    pub fn found(&mut self, record: PodRecord) {
        if *record.node != *self.node || self.records.contains_key(&record.uid) {
            return;
        }
        self.is_changed = true;
        self.ahead.insert(record.uid.clone(), (record, Instant::now()));
    }

    /// Forgets pods that were asked for and did not come.
    pub fn expire(&mut self) {
        let before = self.ahead.len();
        self.ahead.retain(|_, (_, since)| since.elapsed() < AHEAD);
        self.is_changed |= self.ahead.len() != before;
    }

    /// Is it another than when this was last asked?
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    pub fn directory(&self) -> Directory {
        let ahead = self.ahead.iter().map(|(uid, (record, _))| (uid, record));
        let all = ahead.chain(&self.records).map(|(uid, record)| (uid.clone(), record.clone()));
        Directory::Known(Arc::new(all.collect()))
    }
}
