//! What the watches have said, until it is acted on: of each object what was said last, and each namespace in its turn.
//!
//! Whoever may write objects decides how often, and how large they are. A tenant that writes faster than this agent compiles
//! must be late for itself alone, so what it wrote and has overwritten since is dropped, and of what is left each namespace
//! has a bounded part in each round (deficit round robin, Shreedhar and Varghese 1995).
//!
//! Pure: no I/O, no clock.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use kube_watch::Trouble;

use super::kinds::Kind;
use super::watch::{Event, Named, Said};
use crate::policy::ObjectName;

/// Bytes that wait at most: some of what the API server takes as one object, and as many small ones as there are.
const MOST_BYTES: usize = 16 << 20;
/// As many objects wait at most.
const MOST_OBJECTS: usize = 4096;
/// Bytes that a namespace has in each round, and may save up for an object that is larger.
const PART: usize = 256 << 10;
/// Of one round. What comes next waits for it.
const ROUND: usize = 1 << 20;
/// What the smallest object counts as: it is not its text that it costs.
const LEAST: usize = 512;

/// Of a kind.
#[derive(Debug)]
pub struct Next {
    pub kind: Kind,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    Object(Named),
    /// With its uid.
    Gone(ObjectName, String),
    /// A list has ended, and all that it named has been handed out: what it did not name is gone.
    Listed(HashSet<ObjectName>),
    /// All up to this resourceVersion has been handed out.
    Heard(u64),
    /// So many were dropped, as they had been overwritten before their turn came.
    Superseded(u64),
    Well,
    Failed(Trouble),
}

#[derive(Debug, Default)]
pub struct Turns {
    kinds: BTreeMap<Kind, OfKind>,
    objects: HashMap<(Kind, ObjectName), Waiting>,
    /// Namespaces for which something waits, the next one first.
    order: VecDeque<Arc<str>>,
    namespaces: HashMap<Arc<str>, OfNamespace>,
    /// Had their part since there was last a round for everybody.
    served: HashSet<Arc<str>>,
    /// What has no turn to wait for.
    at_once: Vec<Next>,
    size: usize,
    /// Of the next object that is not waiting yet.
    number: u64,
}

#[derive(Debug, Default)]
struct OfKind {
    /// What the list that is under way has named so far.
    listing: Option<HashSet<ObjectName>>,
    ended: Option<Ended>,
    waiting: usize,
    /// Of what waits the versions with which it came: how many of each.
    versions: BTreeMap<u64, usize>,
    newest: u64,
    superseded: u64,
}

/// A list that has ended, while something of it waits.
#[derive(Debug)]
struct Ended {
    /// And what has come since.
    named: HashSet<ObjectName>,
    /// Objects that came later bear higher numbers.
    last: u64,
    waiting: usize,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    /// With which it came; newer ones may have replaced what it said.
    version: u64,
    size: usize,
    /// The uid of one that is gone. It comes before `object`, which may be another of the same name.
    gone: Option<String>,
    object: Option<Named>,
}

#[derive(Debug, Default)]
struct OfNamespace {
    saved: usize,
    objects: VecDeque<(Kind, ObjectName)>,
}

/// Whose turn it is.
fn owner(kind: Kind, name: &ObjectName) -> Arc<str> {
    kind.owner(name).clone()
}

impl Turns {
    /// No: what comes next has to wait outside.
    pub fn has_room(&self) -> bool {
        self.size < MOST_BYTES && self.objects.len() < MOST_OBJECTS
    }

    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.at_once.is_empty()
    }

    /// Does somebody wait who has not just had a part?
    pub fn is_urgent(&self) -> bool {
        !self.at_once.is_empty() || self.order.iter().any(|owner| !self.served.contains(owner))
    }

    /// Says whether it is urgent.
    pub fn put(&mut self, Said { kind, event }: Said) -> bool {
        let is_urgent = match &event {
            Event::Object(object) | Event::Gone(object) => !self.served.contains(&owner(kind, &object.name)),
            Event::Begin | Event::End | Event::Well | Event::Failed(_) => true,
        };
        self.take(kind, event);
        is_urgent
    }

    fn take(&mut self, kind: Kind, event: Event<Named>) {
        let of = self.kinds.entry(kind).or_default();
        match event {
            Event::Begin => of.listing = Some(HashSet::new()),
            Event::Object(object) => {
                if let Some(listing) = &mut of.listing {
                    listing.insert(object.name.clone());
                }
                if let Some(ended) = &mut of.ended {
                    ended.named.insert(object.name.clone());
                }
                of.newest = of.newest.max(object.version);
                self.wait(kind, object, |waiting, object| waiting.object.replace(object).is_some());
            }
            Event::Gone(object) => {
                of.newest = of.newest.max(object.version);
                self.wait(kind, object, |waiting, object| {
                    let superseded = waiting.object.take().is_some();
                    waiting.gone.get_or_insert(object.uid);
                    superseded
                });
            }
            Event::End => {
                let named = of.listing.take().unwrap_or_default();
                of.ended = Some(Ended { named, last: self.number, waiting: of.waiting });
                self.at_once.extend(of.listed(kind));
            }
            Event::Well => self.at_once.push(Next { kind, what: What::Well }),
            Event::Failed(trouble) => {
                // The list begins again, and says then what there is.
                of.listing = None;
                self.at_once.push(Next { kind, what: What::Failed(trouble) });
            }
        }
    }

    /// `say` adds to what waits, and says whether it took the place of something.
    fn wait(&mut self, kind: Kind, object: Named, say: impl FnOnce(&mut Waiting, Named) -> bool) {
        let key = (kind, object.name.clone());
        let of = self.kinds.entry(kind).or_default();
        let waiting = self.objects.entry(key).or_insert_with_key(|(_, name)| {
            of.waiting += 1;
            *of.versions.entry(object.version).or_default() += 1;
            self.number += 1;
            let owner = owner(kind, name);
            let namespace = self.namespaces.entry(owner.clone()).or_default();
            if namespace.objects.is_empty() {
                self.order.push_back(owner);
            }
            namespace.objects.push_back((kind, name.clone()));
            Waiting { number: self.number, version: object.version, size: 0, gone: None, object: None }
        });
        of.superseded += u64::from(say(waiting, object));
        self.size -= waiting.size;
        waiting.size = LEAST + waiting.object.as_ref().map_or(0, |it| it.unread.size());
        self.size += waiting.size;
    }

    /// What is due now. `is_for_all`: also of those who have just had their part; then it is nothing only if nothing waits.
    pub fn round(&mut self, is_for_all: bool) -> Vec<Next> {
        let mut due = std::mem::take(&mut self.at_once);
        if is_for_all {
            self.served.clear();
        }
        let (mut spent, mut had) = (0, 0);
        let everybody = self.order.len();
        while spent < ROUND && (had < everybody || (spent == 0 && is_for_all)) {
            let Some(owner) = self.order.pop_front() else { break };
            had += 1;
            if !is_for_all && self.served.contains(&owner) {
                self.order.push_back(owner);
                continue;
            }
            let part = self.part(&owner, &mut due);
            if part > 0 {
                self.served.insert(owner);
            }
            spent += part;
        }
        for (kind, of) in &mut self.kinds {
            let superseded = std::mem::take(&mut of.superseded);
            if superseded > 0 {
                due.push(Next { kind: *kind, what: What::Superseded(superseded) });
            }
            due.push(Next { kind: *kind, what: What::Heard(of.heard()) });
        }
        due
    }

    /// Of one namespace. Returns what that weighs.
    fn part(&mut self, owner: &Arc<str>, due: &mut Vec<Next>) -> usize {
        let Some(namespace) = self.namespaces.get_mut(owner) else { return 0 };
        namespace.saved += PART;
        let mut spent = 0;
        while let Some(key) = namespace.objects.front() {
            let size = self.objects.get(key).map_or(0, |it| it.size);
            if size > namespace.saved {
                self.order.push_back(owner.clone());
                return spent;
            }
            namespace.saved -= size;
            spent += size;
            let Some((kind, name)) = namespace.objects.pop_front() else { break };
            let Some(waiting) = self.objects.remove(&(kind, name.clone())) else { continue };
            self.size -= waiting.size;
            let Some(of) = self.kinds.get_mut(&kind) else { continue };
            of.handed_out(&waiting);
            due.extend(waiting.gone.map(|uid| Next { kind, what: What::Gone(name, uid) }));
            due.extend(waiting.object.map(|it| Next { kind, what: What::Object(it) }));
            due.extend(of.listed(kind));
        }
        self.namespaces.remove(owner);
        spent
    }
}

impl OfKind {
    fn handed_out(&mut self, object: &Waiting) {
        self.waiting -= 1;
        if let Some(count) = self.versions.get_mut(&object.version) {
            *count -= 1;
            if *count == 0 {
                self.versions.remove(&object.version);
            }
        }
        if let Some(ended) = &mut self.ended
            && object.number <= ended.last
        {
            ended.waiting -= 1;
        }
    }

    fn listed(&mut self, kind: Kind) -> Option<Next> {
        let ended = self.ended.take_if(|it| it.waiting == 0)?;
        Some(Next { kind, what: What::Listed(ended.named) })
    }

    fn heard(&self) -> u64 {
        let before = self.versions.first_key_value().map(|(version, _)| version.saturating_sub(1));
        before.map_or(self.newest, |it| it.min(self.newest))
    }
}

#[cfg(test)]
mod tests;
