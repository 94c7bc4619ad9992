//! Which nodes get the taint `drawbridge.dev/nic-not-ready:NoSchedule`, and which lose it. Pure; [`mod@write`] does it.
//!
//! A node whose NIC is not ready takes pods and cannot start them. A runtime that speaks CNI 1.1 asks STATUS, and kubelet
//! shows the node as not ready; containerd 1.7 does not ask. So the scheduler is told from here, in a place that the
//! server cannot change (NodeRestriction refuses a kubelet that changes its own Node's taints).
//!
//! A NIC is judged by what its agent writes in `NicNode.status`: the condition `Ready`, and whether the heartbeat goes on.
//! No clocks are compared: a heartbeat is fresh as long as this process has seen it *change* within
//! [`Timing::silence`]. So after a start nothing is known until heartbeats change, and what is not known leaves the taint
//! as it is.
//!
//! As long as no NIC at all has a fresh heartbeat, the fault is more likely the API's than all NICs' (an outage, or our
//! own watch): then nothing is tainted, but for NICs that have never written anything. When the first one reports again,
//! the others' silence is counted from that moment. (kube-controller-manager does so in its "full disruption mode":
//! `pkg/controller/nodelifecycle`, `handleDisruption`.)
//!
//! Failure: what cannot be written is tried again; a taint that stands stays.

pub mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::{Change, NicHealth, NicNode};

/// The taint's key. Whatever bears it with [`EFFECT`] is ours, whoever put it there.
pub const KEY: &str = "drawbridge.dev/nic-not-ready";
pub const EFFECT: &str = "NoSchedule";

/// Is this our taint?
pub fn is_ours(key: &str, effect: &str) -> bool {
    key == KEY && effect == EFFECT
}

/// How long things must last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// A heartbeat that has not changed for so long has stopped.
    pub silence: Duration,
    /// So long a NIC must be not ready before its node is tainted.
    pub settle_bad: Duration,
    /// So long it must be ready again before the taint goes.
    pub settle_good: Duration,
}

impl Timing {
    /// An agent writes its heartbeat each 75 seconds at most, and after a failure tries again within 150.
    pub const SILENCE: Duration = Duration::from_mins(3);
}

impl Default for Timing {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { silence: Self::SILENCE, settle_bad: seconds(30), settle_good: seconds(15) }
    }
}

/// A Node whose taint is to be another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of this very Node.
    pub uid: Arc<str>,
    pub tainted: bool,
    /// For people.
    pub why: String,
}

/// By the Nodes' names.
pub type AllWanted = BTreeMap<Arc<str>, Wanted>;

#[derive(Debug)]
struct Node {
    uid: Arc<str>,
    tainted: bool,
}

#[derive(Debug)]
struct Nic {
    node: Arc<str>,
    health: NicHealth,
    /// Since when the heartbeat is what it is, by our clock.
    since: Instant,
    /// Have we seen the heartbeat change, since we watch or since an outage?
    heard: bool,
}

/// What is known of a node's NICs now.
#[derive(Debug)]
enum Verdict {
    Ready,
    /// Not enough is known to change anything.
    Unknown,
    NotReady(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Ready,
    Unknown,
    NotReady,
}

impl Verdict {
    const fn kind(&self) -> Kind {
        match self {
            Self::Ready => Kind::Ready,
            Self::Unknown => Kind::Unknown,
            Self::NotReady(_) => Kind::NotReady,
        }
    }
}

/// All Nodes and NICs, and how long they have been what they are.
#[derive(Debug)]
pub struct Nics {
    timing: Timing,
    nodes: BTreeMap<Arc<str>, Node>,
    /// By the NicNodes' names.
    known: BTreeMap<Arc<str>, Nic>,
    /// Of each node with a NIC: its last verdict, and since when.
    standing: BTreeMap<Arc<str>, (Kind, Instant)>,
    /// No NIC has a fresh heartbeat.
    disrupted: bool,
}

impl Nics {
    pub fn new(timing: Timing) -> Self {
        Self {
            timing,
            nodes: BTreeMap::new(),
            known: BTreeMap::new(),
            standing: BTreeMap::new(),
            disrupted: true,
        }
    }

    /// Takes an object as it is now.
    pub fn take(&mut self, change: &Change, now: Instant) {
        match change {
            Change::Node(name, Some(node)) => {
                let node = Node { uid: Arc::clone(&node.uid), tainted: node.nic_taint };
                self.nodes.insert(Arc::clone(name), node);
            }
            Change::Node(name, None) => {
                self.nodes.remove(name);
            }
            Change::NicNode(name, Some(nic)) => self.hear(name, nic, now),
            Change::NicNode(name, None) => {
                self.known.remove(name);
            }
            _ => {}
        }
    }

    fn hear(&mut self, name: &Arc<str>, nic: &NicNode, now: Instant) {
        let before = self.known.get(name).filter(|it| it.node == nic.node);
        let (since, heard) = match before {
            Some(before) if before.health.heartbeat == nic.health.heartbeat => (before.since, before.heard),
            Some(_) => (now, nic.health.heartbeat.is_some()),
            // How old it is cannot be told.
            None => (now, false),
        };
        let nic = Nic { node: Arc::clone(&nic.node), health: nic.health.clone(), since, heard };
        self.known.insert(Arc::clone(name), nic);
    }

    /// Does no NIC report, of those that once did?
    pub fn is_disrupted(&self) -> bool {
        self.disrupted && self.known.values().any(|nic| nic.health.heartbeat.is_some())
    }

    /// How many Nodes have the taint.
    pub fn tainted(&self) -> usize {
        self.nodes.values().filter(|node| node.tainted).count()
    }

    /// What is to be changed. Only once all Nodes and NICs have been named: what has not been looks as if it were gone.
    pub fn plan(&mut self, now: Instant) -> AllWanted {
        self.look_for_disruption(now);
        let mut verdicts: BTreeMap<Arc<str>, Verdict> = BTreeMap::new();
        for (name, nic) in &self.known {
            let verdict = self.verdict(name, nic, now);
            let of_node = verdicts.entry(Arc::clone(&nic.node)).or_insert(Verdict::Ready);
            // Of several NICs the worst counts: nobody knows which one a pod would get.
            match (&of_node, &verdict) {
                (Verdict::NotReady(_), _) | (_, Verdict::Ready) => {}
                _ => *of_node = verdict,
            }
        }
        self.standing.retain(|node, _| verdicts.contains_key(node));
        let mut wanted = AllWanted::new();
        for (name, node) in &self.nodes {
            let (tainted, why) = match verdicts.remove(name) {
                None => (false, "this node has no NicNode".to_owned()),
                Some(verdict) => {
                    let kind = verdict.kind();
                    let standing = self.standing.entry(Arc::clone(name)).or_insert((kind, now));
                    if standing.0 != kind {
                        *standing = (kind, now);
                    }
                    let lasted = now.saturating_duration_since(standing.1);
                    match verdict {
                        Verdict::Ready if lasted >= self.timing.settle_good => {
                            (false, "its NIC is ready".to_owned())
                        }
                        Verdict::NotReady(why) if lasted >= self.timing.settle_bad => (true, why),
                        Verdict::Ready | Verdict::Unknown | Verdict::NotReady(_) => continue,
                    }
                }
            };
            if tainted != node.tainted {
                wanted.insert(Arc::clone(name), Wanted { uid: Arc::clone(&node.uid), tainted, why });
            }
        }
        wanted
    }

    fn is_fresh(&self, nic: &Nic, now: Instant) -> bool {
        nic.heard && !self.is_silent(nic, now)
    }

    fn is_silent(&self, nic: &Nic, now: Instant) -> bool {
        now.saturating_duration_since(nic.since) >= self.timing.silence
    }

    fn look_for_disruption(&mut self, now: Instant) {
        let fresh: BTreeSet<Arc<str>> = self
            .known
            .iter()
            .filter(|(_, nic)| self.is_fresh(nic, now))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        if !fresh.is_empty() && self.disrupted {
            for (_, nic) in self.known.iter_mut().filter(|(name, _)| !fresh.contains(*name)) {
                (nic.since, nic.heard) = (now, false);
            }
        }
        self.disrupted = fresh.is_empty();
    }

    fn verdict(&self, name: &str, nic: &Nic, now: Instant) -> Verdict {
        let health = &nic.health;
        if health.heartbeat.is_none() {
            return Verdict::NotReady(format!("the agent of NicNode {name} has not reported yet"));
        }
        if self.disrupted {
            return Verdict::Unknown;
        }
        if self.is_silent(nic, now) {
            let seconds = self.timing.silence.as_secs();
            return Verdict::NotReady(format!("NicNode {name} has had no heartbeat for {seconds} s or more"));
        }
        match (health.ready, nic.heard) {
            (true, true) => Verdict::Ready,
            (true, false) => Verdict::Unknown,
            (false, _) if health.message.is_empty() => {
                Verdict::NotReady(format!("NicNode {name} is not ready"))
            }
            (false, _) => Verdict::NotReady(format!("NicNode {name} is not ready: {}", health.message)),
        }
    }
}

#[cfg(test)]
mod tests;
