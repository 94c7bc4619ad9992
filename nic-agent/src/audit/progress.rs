//! How far each pod's rules have come, and what is to be looked at next. Pure: it is told the time.
//!
//! ```text
//!  in the tables ─► Unproven ── proof ─► Unaudited ── an audit that began after it found nothing ─► Releasing
//!                                            ▲                                (nothing was cut: Settled) │
//!                         something was found│                                                            ▼
//!  Settled ◄─ another one found nothing ─ Confirming ◄─── Open vSwitch's queues were empty ──────────  Draining
//!                                               (at once where nothing can have been answered)
//! ```
//!
//! A packet of a connection that was cut may wait in Open vSwitch's queues, and passes when its turn comes: it was an
//! established connection's when it was put there (`ovs::queues`). So after the cut, and after the hardware has let go,
//! the queues have to have been empty; and what such a packet may have begun is looked for. Where nothing was cut all
//! that waits there was of connections that are allowed, or begins one, which the tables judge when its turn comes.
//!
//! An answer that was under way when its connection was cut may begin one of its own, the other way round, which policy
//! mostly allows. So what was cut is remembered for a while, and its answers are cut as well. How often one comes says
//! nothing: a server may have a backlog to answer. Who begins such a connection by itself, with the very same ports, is
//! held up by that, until it is settled and nothing that is denied was cut for so long.

mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use offload::ids::CtZone;
use offload::netlink::conntrack::SWEEP;
use offload::tuple::Tuple;
use serde::{Deserialize, Serialize};

use super::loads::Loads;
use super::look::{Answers, Cut, Look, Scope};
use super::proof::Proof;
use super::zones::Zones;
use crate::attachment::AttachmentId;

pub use waits::{ToDrain, ToRelease};

/// From the end of a complete audit to the next one. "At most 5 s", with room for a machine that is busy.
pub const EVERY: Duration = Duration::from_secs(4);
/// Between two complete audits where nothing can be denied: for how many connections there are.
const COUNT_AGAIN: Duration = Duration::from_mins(1);
/// Between two looks at a pod that waits for Open vSwitch's proof.
const UNPROVEN: Duration = Duration::from_millis(500);
/// For an answer to arrive that was under way, where nothing is queued any more.
const UNDER_WAY: Duration = Duration::from_millis(200);
/// Looks take at most this part of the time, the complete ones aside.
const DUTY: u32 = 4;
/// More zones than this are looked at by one walk through the table.
const FEW: usize = 2;
/// How long what was cut is remembered, for its answers, once the pod is settled; and how many of a zone: of more than that,
/// the old ones are forgotten before.
const REMEMBERED: Duration = Duration::from_secs(5);
const MOST_REMEMBERED: usize = 1 << 16;
/// For the hardware to let go: three sweeps are enough, and as many again for a machine that is busy.
pub const PATIENCE: Duration = SWEEP.saturating_mul(6);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    Unproven,
    Unaudited,
    Releasing,
    Draining,
    Confirming,
    Settled,
}

impl Stage {
    /// What the pod waits for.
    pub const fn waits_for(self) -> &'static str {
        match self {
            Self::Unproven => "Open vSwitch to show that its datapath follows the tables",
            Self::Unaudited | Self::Confirming => "an audit that finds no connection that policy denies",
            Self::Releasing => "the flow tables to let go of the connections that were cut",
            Self::Draining => "Open vSwitch to come to the end of the packets that wait in its queues",
            Self::Settled => "nothing",
        }
    }
}

/// Conntrack entries that are in no list any more and yet not freed, at the last look: of connections that were cut, or of
/// others that went. The sweeps that let go of those that were cut are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    pub entries: usize,
    /// When the last connection was cut.
    pub since: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodProgress {
    pub version: u64,
    pub stage: Stage,
    /// In this stage.
    pub since: Instant,
    /// Connections, since the rules were in the tables.
    pub cut: usize,
    /// Not shown that the hardware has let go.
    pub held: Option<Held>,
}

/// Of a connection that was cut.
#[derive(Debug, Clone, Copy)]
struct Memory {
    cut: Instant,
    /// When the pod was settled after that: until then packets of it may wait somewhere.
    settled: Option<Instant>,
}

impl Memory {
    fn is_over(self, now: Instant) -> bool {
        self.settled.is_some_and(|at| at + REMEMBERED <= now)
    }

    fn is_old(self, now: Instant) -> bool {
        self.cut + REMEMBERED <= now
    }
}

/// What is worth telling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Denied connections were there. `late`: the pod was settled.
    Found { pod: String, late: bool, cut: Cut },
    /// Of a pod of which connections were cut since its rules were in the tables.
    Settled { pod: String, cut: usize, took: Duration, released: bool },
}

#[derive(Debug)]
struct Pod {
    key: AttachmentId,
    name: String,
    version: u64,
    is_open: bool,
    in_tables: Instant,
    stage: Stage,
    since: Instant,
    is_looked_at: bool,
    /// Since its rules were in the tables.
    cut: usize,
    /// Of those, and of what rules before cut, since the hardware was last seen to let go.
    unreleased: usize,
    last_cut: Option<Instant>,
    /// Packets of what was cut, by whichever rules, may wait in Open vSwitch's queues.
    is_queued: bool,
    /// What its answers look like.
    answers: BTreeMap<Tuple, Memory>,
    held: Option<Held>,
}

#[derive(Debug, Default)]
pub struct Book {
    pods: BTreeMap<CtZone, Pod>,
    proof: Proof,
    /// End of the last look, and how long it took.
    last: Option<(Instant, Duration)>,
    last_full: Option<Instant>,
    /// Something may have been missed.
    is_full_wanted: bool,
    /// Those whose hardware was not seen to let go are to be asked for again.
    is_held_due: bool,
    loads: Loads,
    /// Connections that a pod may have, once that is known.
    limit: Option<u32>,
}

impl Book {
    /// A pod may have so many connections.
    pub fn set_limit(&mut self, connections: u32) {
        self.limit = Some(connections);
        // Those that were full may have room, and others none.
        self.is_full_wanted = true;
    }

    pub fn began(&mut self, began: BTreeMap<CtZone, u32>) {
        for (zone, connections) in began.into_iter().filter(|(zone, _)| self.pods.contains_key(zone)) {
            self.loads.began(zone, connections);
        }
    }

    /// A look begins.
    pub fn look(&mut self) {
        self.loads.look();
    }

    fn limit(&self) -> u32 {
        self.limit.unwrap_or(u32::MAX)
    }

    pub const fn loads(&self) -> &Loads {
        &self.loads
    }

    /// These are in the tables.
    pub fn follow(&mut self, zones: &Zones, now: Instant) {
        self.pods.retain(|zone, _| zones.contains_key(zone));
        self.loads.follow(|zone| zones.contains_key(zone));
        for (zone, rules) in zones {
            let before = self.pods.remove(zone).filter(|pod| pod.key == rules.key);
            let pod = match before {
                Some(pod) if pod.version == rules.version => Pod { is_open: rules.is_open(), ..pod },
                before => Pod {
                    key: rules.key.clone(),
                    name: rules.pod.clone(),
                    version: rules.version,
                    is_open: rules.is_open(),
                    in_tables: rules.since,
                    // Nothing can be denied.
                    stage: if rules.is_open() { Stage::Settled } else { Stage::Unproven },
                    since: now,
                    is_looked_at: false,
                    cut: 0,
                    // The hardware forwards what was cut a moment ago, whatever came after.
                    unreleased: before.as_ref().map_or(0, |it| it.unreleased),
                    last_cut: before.as_ref().and_then(|it| it.last_cut),
                    // What an agent before this one has cut we do not know.
                    is_queued: before.as_ref().map_or(self.last_full.is_none(), |it| it.is_queued),
                    answers: before.map(|it| it.answers).unwrap_or_default(),
                    held: None,
                },
            };
            self.pods.insert(*zone, pod);
        }
        self.advance(now);
    }

    pub fn prove(&mut self, proof: Proof, now: Instant) {
        self.proof = proof;
        self.advance(now);
    }

    fn advance(&mut self, now: Instant) {
        for pod in self.pods.values_mut().filter(|pod| pod.version <= self.proof.version) {
            if pod.stage == Stage::Unproven {
                pod.enter(Stage::Unaudited, now);
            }
        }
    }

    /// Events were lost.
    pub fn want_all(&mut self) {
        self.is_full_wanted = true;
    }

    /// A look failed: the next one is not before its time.
    pub fn failed(&mut self, now: Instant, pause: Duration) {
        self.last = Some((now, pause / DUTY));
        self.last_full = Some(now);
        self.is_full_wanted = true;
    }

    /// What was cut outside of a look, as it began.
    pub fn heard(&mut self, cut: BTreeMap<CtZone, Cut>, now: Instant) -> Vec<Told> {
        cut.into_iter().filter_map(|(zone, cut)| self.found(zone, cut, now)).collect()
    }

    pub fn looked(&mut self, look: Look, now: Instant) -> Vec<Told> {
        self.last = Some((now, look.took));
        if look.is_full {
            self.last_full = Some(now);
            self.is_full_wanted = false;
            self.is_held_due = true;
        }
        let Look { began, zones, mut cut, connections, .. } = look;
        let limit = self.limit();
        for (zone, connections) in connections.into_iter().filter(|(zone, _)| self.pods.contains_key(zone)) {
            self.loads.counted(zone, connections, limit);
        }
        let mut told = Vec::new();
        for (zone, version) in zones {
            let found = cut.remove(&zone).map(|cut| self.found(zone, cut, now));
            let Some(pod) = self.pods.get_mut(&zone).filter(|pod| pod.version == version) else { continue };
            pod.is_looked_at = true;
            if let Some(found) = found {
                told.extend(found);
                continue;
            }
            pod.answers.retain(|_, memory| !memory.is_over(now));
            // Of what the look has not seen: what was let in before the proof, or is an answer under way.
            let after_proof = self.proof.version >= version && self.proof.at.is_some_and(|at| began >= at);
            let after_cut = pod.last_cut.is_none_or(|at| began >= at + UNDER_WAY);
            match pod.stage {
                Stage::Unaudited if after_proof && after_cut && pod.unreleased > 0 => {
                    pod.enter(Stage::Releasing, now);
                }
                Stage::Unaudited if after_proof && after_cut => told.extend(pod.drain(now)),
                // What the last packet of the queues has begun, or its answer.
                Stage::Confirming if began >= pod.since + UNDER_WAY => told.extend(pod.settle(now)),
                _ => {}
            }
        }
        told
    }

    fn found(&mut self, zone: CtZone, cut: Cut, now: Instant) -> Option<Told> {
        let pod = self.pods.get_mut(&zone)?;
        if pod.answers.len() >= MOST_REMEMBERED {
            pod.answers.retain(|_, memory| !memory.is_old(now));
        }
        for tuple in &cut.replies {
            if pod.answers.len() < MOST_REMEMBERED || pod.answers.contains_key(tuple) {
                pod.answers.insert(*tuple, Memory { cut: now, settled: None });
            }
        }
        pod.cut += cut.count();
        pod.unreleased += cut.count();
        pod.last_cut = Some(now);
        pod.is_queued = true;
        // By newer rules than the book has heard of: of those the pod was never settled.
        let late = pod.stage == Stage::Settled && !pod.is_open && cut.version <= pod.version;
        if pod.stage > Stage::Unaudited && !pod.is_open {
            pod.held = None;
            pod.enter(Stage::Unaudited, now);
        }
        Some(Told::Found { pod: pod.name.clone(), late, cut })
    }

    /// What is to be looked at next, and when. `None`: there is no pod.
    pub fn due(&self, now: Instant) -> Option<(Instant, Scope)> {
        if self.pods.is_empty() {
            return None;
        }
        let judged = || self.pods.iter().filter(|(_, pod)| !pod.is_open || !pod.answers.is_empty());
        let doubtful: BTreeSet<CtZone> = self.loads.doubtful(self.limit()).collect();
        let is_urgent = self.is_full_wanted || !doubtful.is_empty() || self.loads.any_full();
        if judged().next().is_none() && !is_urgent {
            return Some((self.last_full.map_or(now, |end| end + COUNT_AGAIN), Scope::All));
        }
        let not_before = |pause: Duration| self.last.map_or(now, |(end, took)| end + pause.max(took * DUTY));
        let full = match self.last_full {
            // Never later than if nothing had been missed.
            Some(end) if self.is_full_wanted => not_before(Duration::ZERO).min(end + EVERY),
            Some(end) => end + EVERY,
            None => now,
        };
        let at = |pod: &Pod| match pod.stage {
            Stage::Unproven | Stage::Unaudited if !pod.is_looked_at => Some(not_before(Duration::ZERO)),
            Stage::Unproven => Some(not_before(UNPROVEN)),
            Stage::Unaudited => {
                let answered = pod.last_cut.map_or(now, |at| at + UNDER_WAY);
                Some(not_before(Duration::ZERO).max(answered))
            }
            Stage::Confirming => Some(not_before(Duration::ZERO).max(pod.since + UNDER_WAY)),
            Stage::Releasing | Stage::Draining | Stage::Settled => None,
        };
        let doubtful = doubtful.into_iter().map(|zone| (zone, not_before(Duration::ZERO)));
        let waiting: Vec<(CtZone, Instant)> =
            judged().filter_map(|(zone, pod)| Some((*zone, at(pod)?))).chain(doubtful).collect();
        let next = waiting.iter().map(|(_, at)| *at).fold(full, Instant::min);
        // Those that are due a moment later come along.
        let zones: BTreeSet<CtZone> =
            waiting.into_iter().filter(|(_, at)| *at <= next.max(now)).map(|(zone, _)| zone).collect();
        let scope = if full <= next.max(now) || zones.len() > FEW { Scope::All } else { Scope::Zones(zones) };
        Some((next, scope))
    }

    /// Of what was cut lately.
    pub fn answers(&self, now: Instant) -> Answers {
        let of = |pod: &Pod| -> BTreeSet<Tuple> {
            let known = pod.answers.iter().filter(|(_, memory)| !memory.is_over(now));
            known.map(|(tuple, _)| *tuple).collect()
        };
        let all = self.pods.iter().map(|(zone, pod)| (*zone, of(pod)));
        all.filter(|(_, answers)| !answers.is_empty()).collect()
    }

    pub fn progress(&self) -> impl Iterator<Item = (AttachmentId, PodProgress)> {
        self.pods.values().map(|pod| {
            let Pod { version, stage, since, cut, held, .. } = *pod;
            (pod.key.clone(), PodProgress { version, stage, since, cut, held })
        })
    }

    /// The newest version that has to be proven.
    pub fn unproven(&self) -> Option<u64> {
        self.pods.values().filter(|pod| pod.stage == Stage::Unproven).map(|pod| pod.version).max()
    }
}

impl Pod {
    fn enter(&mut self, stage: Stage, now: Instant) {
        self.stage = stage;
        self.since = now;
    }

    /// The hardware has let go, or was not seen to.
    fn drain(&mut self, now: Instant) -> Option<Told> {
        if self.is_queued {
            self.enter(Stage::Draining, now);
            return None;
        }
        self.settle(now)
    }

    /// Tells so if anything was cut.
    fn settle(&mut self, now: Instant) -> Option<Told> {
        self.enter(Stage::Settled, now);
        for memory in self.answers.values_mut() {
            memory.settled.get_or_insert(now);
        }
        (self.cut > 0).then(|| Told::Settled {
            pod: self.name.clone(),
            cut: self.cut,
            took: now.saturating_duration_since(self.in_tables),
            released: self.held.is_none(),
        })
    }
}

#[cfg(test)]
mod tests;
