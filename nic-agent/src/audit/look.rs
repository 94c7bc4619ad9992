//! One audit: a dump of conntrack, and what of it is denied, deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use offload::cut;
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
    /// Entries that were judged, of each of these zones.
    pub connections: BTreeMap<CtZone, u32>,
    /// Zones in which something was found.
    pub cut: BTreeMap<CtZone, Cut>,
    /// Why not all of it could be deleted.
    pub refused: Option<netlink::Error>,
}

/// Judges every entry, whatever its mark says. What is denied is deleted when the dump is complete, so that one call does
/// not walk a table that it changes. By then it is held against `newest` as well: a dump takes a while, and what other
/// rules have let in meanwhile, or another pod in the same zone, is theirs to judge.
pub fn look(
    zones: &Zones,
    newest: impl FnOnce() -> Arc<Zones>,
    scope: &Scope,
    answers: &Answers,
) -> netlink::Result<Look> {
    let began = Instant::now();
    let mut conntrack = Conntrack::open()?;
    let in_scope = |zone: &CtZone| match scope {
        Scope::All => true,
        Scope::Zones(some) => some.contains(zone),
    };
    let looked_at: BTreeMap<CtZone, u64> =
        zones.iter().filter(|(zone, _)| in_scope(zone)).map(|(zone, rules)| (*zone, rules.version)).collect();
    let mut connections: BTreeMap<CtZone, u32> = looked_at.keys().map(|zone| (*zone, 0)).collect();
    let mut judge = |entry: Entry| {
        let zone = entry.zone.filter(|zone| looked_at.contains_key(zone))?;
        let rules = zones.get(&zone)?;
        if let Some(count) = connections.get_mut(&zone) {
            *count = count.saturating_add(1);
        }
        let is_answer = || answers.get(&zone).is_some_and(|cut| cut::is_answer(cut, &entry.orig));
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
    let mut refused = None;
    if !doomed.is_empty() {
        let newest = newest();
        doomed.retain(|(zone, entry, is_answer)| is_doomed_still(zones, &newest, *zone, entry, *is_answer));
        let entries: Vec<Entry> = doomed.iter().map(|(_, entry, _)| *entry).collect();
        // What was deleted before an error is cut all the same: it is waited for, and what is left is found again.
        refused = conntrack.delete(&entries).err();
        for (zone, entry, is_answer) in &doomed {
            if let Some(rules) = zones.get(zone) {
                cut.entry(*zone).or_insert_with(|| Cut::of(rules)).add(entry, *is_answer);
            }
        }
    }
    let is_full = *scope == Scope::All;
    Ok(Look { began, took: began.elapsed(), is_full, zones: looked_at, connections, cut, refused })
}

fn is_doomed_still(zones: &Zones, newest: &Zones, zone: CtZone, entry: &Entry, is_answer: bool) -> bool {
    let Some((before, now)) = zones.get(&zone).zip(newest.get(&zone)) else { return false };
    before.key == now.key && (is_answer || now.denies(&entry.orig))
}

#[cfg(test)]
mod tests {
    use offload::netlink::conntrack::Status;
    use offload::policy::PodPolicy;
    use offload::tuple::{L4, UDP};

    use super::*;
    use crate::audit::zones::{self, Wanted};
    use crate::claim::SandboxKey;
    use crate::enforcement;

    fn wanted(sandbox: &str, policy: PodPolicy) -> Wanted {
        Wanted {
            zone: CtZone::new(7).unwrap(),
            key: SandboxKey { sandbox: sandbox.to_owned(), interface: "eth0".to_owned() }.into(),
            pod: "a/b".to_owned(),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            policy: policy.into(),
        }
    }

    #[test]
    fn what_was_let_in_while_the_dump_went_on_is_left_alone() {
        let [src, dst] = ["10.0.0.2", "10.0.0.1"].map(|it| it.parse().unwrap());
        let orig = Tuple { src, dst, proto: UDP, l4: L4::Ports { src: 4000, dst: 53 } };
        let reply = Tuple { src: dst, dst: src, l4: L4::Ports { src: 53, dst: 4000 }, ..orig };
        let zone = CtZone::new(7).unwrap();
        let status = Status::default();
        let entry =
            Entry { zone: Some(zone), orig, reply, mark: 0, status, id: 1, timeout: None, began: None };
        let (mut at_first, mut version) = (Zones::new(), 0);
        zones::in_tables(&mut at_first, vec![wanted("s", enforcement::closed())], &mut version);
        let doomed = |newest: &Zones, is_answer| is_doomed_still(&at_first, newest, zone, &entry, is_answer);
        assert!(doomed(&at_first, false) && doomed(&at_first, true));
        // Looser rules are on their way: it may have begun by them.
        let mut newest = at_first.clone();
        zones::coming(&mut newest, &[wanted("s", PodPolicy::default())]);
        assert!(!doomed(&newest, false));
        zones::in_tables(&mut newest, vec![wanted("s", PodPolicy::default())], &mut version);
        assert!(!doomed(&newest, false) && doomed(&newest, true));
        // The pod is gone; the zone is another's, whose connections nobody has judged yet.
        assert!(!doomed(&Zones::new(), false));
        zones::in_tables(&mut newest, vec![wanted("t", enforcement::closed())], &mut version);
        assert!(!doomed(&newest, false) && !doomed(&newest, true));
    }
}
