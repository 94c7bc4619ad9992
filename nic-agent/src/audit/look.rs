//! One audit: a dump of conntrack, and what of it is denied, deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use offload::ids::CtZone;
use offload::netlink;
use offload::netlink::conntrack::{Conntrack, Entry};
use offload::tuple::{TCP, Tuple};

use super::zones::{ZoneRules, Zones};

/// Which zones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    All,
    /// Few: each is a walk through the kernel's whole table.
    Zones(BTreeSet<CtZone>),
}

/// By zone, what answers to connections that were cut look like.
pub type Answers = BTreeMap<CtZone, BTreeSet<Tuple>>;

/// What was cut in a zone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cut {
    /// Of the rules that it was held against.
    pub version: u64,
    /// Connections that the rules deny.
    pub denied: usize,
    /// Connections that an answer to one that was cut has begun.
    pub answers: BTreeSet<Tuple>,
    /// What answers to those that were cut look like. Not of TCP, which begins with SYN only (`offload::boundary`).
    pub replies: BTreeSet<Tuple>,
    /// When the oldest began, since the Unix epoch, as far as the kernel tells.
    pub oldest: Option<Duration>,
    /// Which rule admitted them (`ct_mark`), and how many.
    pub marks: BTreeMap<u32, usize>,
}

impl Cut {
    pub fn of(rules: &ZoneRules) -> Self {
        Self { version: rules.version, ..Self::default() }
    }

    pub fn add(&mut self, entry: &Entry, is_answer: bool) {
        if is_answer {
            self.answers.insert(entry.orig);
        } else {
            self.denied += 1;
            if entry.orig.proto != TCP {
                self.replies.insert(entry.reply);
            }
        }
        if let Some(began) = entry.began {
            self.oldest = Some(self.oldest.map_or(began, |oldest| oldest.min(began)));
        }
        *self.marks.entry(entry.mark).or_default() += 1;
    }

    /// What was found later, to be told together.
    pub fn merge(&mut self, later: Self) {
        self.denied += later.denied;
        self.answers.extend(later.answers);
        self.oldest = self.oldest.into_iter().chain(later.oldest).min();
        for (mark, connections) in later.marks {
            *self.marks.entry(mark).or_default() += connections;
        }
    }

    pub fn count(&self) -> usize {
        self.denied + self.answers.len()
    }
}

#[derive(Debug)]
pub struct Look {
    pub began: Instant,
    pub took: Duration,
    pub is_full: bool,
    /// The zones that were looked at, and the version of the rules that they were held against.
    pub zones: BTreeMap<CtZone, u64>,
    /// Entries that were judged.
    pub judged: usize,
    /// Zones in which something was found.
    pub cut: BTreeMap<CtZone, Cut>,
}

/// Judges every entry, whatever its mark says. What is denied is deleted when the dump is complete, so that one call does
/// not walk a table that it changes.
pub fn look(zones: &Zones, scope: &Scope, answers: &Answers) -> netlink::Result<Look> {
    let began = Instant::now();
    let mut conntrack = Conntrack::open()?;
    let in_scope = |zone: &CtZone| match scope {
        Scope::All => true,
        Scope::Zones(some) => some.contains(zone),
    };
    let looked_at: BTreeMap<CtZone, u64> =
        zones.iter().filter(|(zone, _)| in_scope(zone)).map(|(zone, rules)| (*zone, rules.version)).collect();
    let mut judged = 0;
    let mut judge = |entry: Entry| {
        let zone = entry.zone.filter(|zone| looked_at.contains_key(zone))?;
        let rules = zones.get(&zone)?;
        judged += 1;
        let is_answer = || answers.get(&zone).is_some_and(|answers| answers.contains(&entry.orig));
        let is_denied = rules.denies(&entry.orig);
        (is_denied || is_answer()).then_some((zone, entry, !is_denied))
    };
    let mut doomed = Vec::new();
    match scope {
        Scope::All => doomed = conntrack.select(None, &mut judge)?,
        Scope::Zones(some) => {
            for zone in some {
                doomed.extend(conntrack.select(Some(*zone), &mut judge)?);
            }
        }
    }
    // A dump that goes on in the midst of a bucket may tell some of it twice.
    doomed.sort_unstable_by_key(|(zone, entry, _)| (entry.mark, *zone, entry.orig, entry.id));
    doomed.dedup_by_key(|(zone, entry, _)| (*zone, entry.orig, entry.id));
    let mut cut: BTreeMap<CtZone, Cut> = BTreeMap::new();
    if !doomed.is_empty() {
        let entries: Vec<Entry> = doomed.iter().map(|(_, entry, _)| *entry).collect();
        conntrack.delete(&entries)?;
        for (zone, entry, is_answer) in &doomed {
            if let Some(rules) = zones.get(zone) {
                cut.entry(*zone).or_insert_with(|| Cut::of(rules)).add(entry, *is_answer);
            }
        }
    }
    let is_full = *scope == Scope::All;
    Ok(Look { began, took: began.elapsed(), is_full, zones: looked_at, judged, cut })
}
