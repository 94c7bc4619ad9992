//! What the watches have said, put together: which pods this node has, what policy they have, and what is wrong. No I/O.
//!
//! Nothing is said of policy before every kind has been listed once: of a half-known cluster nobody knows what it allows.
//! From then on each change counts at once, and a new list, after 410 or another credential, only by its difference.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use kube_watch::Trouble;
use tracing::{info, warn};

use super::kinds::Kind;
use super::node_traffic::NodeTraffic;
use super::own_pods::OwnPods;
use super::receivers::Receivers;
use super::turns::{Next, What};
use super::watch::Named;
use crate::directory::{Directory, PodRecord};
use crate::enforcement::Policies;
use crate::enforcement::feed::Feed;
use crate::management::Access;
use crate::metrics::{CauseLabel, KindLabel, Metrics};
use crate::policy::{Held, ObjectName, Settings};

#[derive(Debug, Default)]
struct OfKind {
    /// Once, completely.
    listed: bool,
    /// All up to this resourceVersion.
    heard: u64,
    well: bool,
    trouble: Option<Trouble>,
}

/// What is new after a round.
#[derive(Debug, Default)]
pub struct News {
    pub directory: Option<Directory>,
    pub policies: Option<PolicyNews>,
    pub health: Option<Result<(), String>>,
}

#[derive(Debug)]
pub struct PolicyNews {
    pub policies: Policies,
    /// Something else than the versions that it was made of.
    pub is_change: bool,
}

pub struct State {
    kinds: BTreeMap<Kind, OfKind>,
    receivers: Receivers,
    /// Troubles that are in the log.
    told: BTreeSet<String>,
    health: Option<Result<(), String>>,
    unreadable: BTreeSet<(Kind, ObjectName)>,
    policies_told: bool,
    metrics: Metrics,
}

impl State {
    /// `kinds` are those that are watched.
    pub fn new(kinds: &[Kind], settings: Settings, access: Access, metrics: Metrics) -> Self {
        let own_pods = OwnPods::new(settings.node.clone());
        let node_traffic = NodeTraffic::new(settings.node_addresses.clone(), access);
        let mut policy = Feed::of_cluster(settings, metrics.clone());
        node_traffic.publish(&mut policy);
        Self {
            kinds: kinds.iter().map(|kind| (*kind, OfKind::default())).collect(),
            receivers: Receivers { policy, own_pods, node_traffic },
            told: BTreeSet::new(),
            health: None,
            unreadable: BTreeSet::new(),
            policies_told: false,
            metrics,
        }
    }

    /// Whose traffic is the node's own.
    pub fn set_access(&mut self, access: Access) {
        self.receivers.node_traffic.set_access(access, &mut self.receivers.policy);
    }

    /// What this NIC itself holds; nobody else's word on its node's pods counts.
    pub fn hold(&mut self, held: Held) {
        self.receivers.policy.hold(held);
    }

    pub fn take(&mut self, Next { kind, what }: Next) {
        let Some(of) = self.kinds.get_mut(&kind) else { return };
        match what {
            What::Object(object) => {
                self.count(kind, "object", 1);
                self.put(kind, object);
            }
            What::Gone(name, uid) => {
                self.count(kind, "gone", 1);
                self.unreadable.remove(&(kind, name.clone()));
                kind.remove(name, &uid, &mut self.receivers);
            }
            What::Listed(listed) => {
                of.listed = true;
                self.count(kind, "list", 1);
                self.unreadable.retain(|(of, name)| *of != kind || listed.contains(name));
                kind.retain(&listed, &mut self.receivers);
            }
            What::Heard(version) => of.heard = of.heard.max(version),
            What::Superseded(objects) => self.count(kind, "superseded", objects),
            What::Well => (of.well, of.trouble) = (true, None),
            What::Failed(trouble) => {
                let cause = trouble.cause.as_str();
                (of.well, of.trouble) = (false, Some(trouble));
                self.metrics.watch_failures.get_or_create(&CauseLabel { cause }).inc();
            }
        }
    }

    fn count(&self, kind: Kind, what: &'static str, times: u64) {
        self.metrics.watch_events.get_or_create(&KindLabel { kind: kind.label(), what }).inc_by(times);
    }

    fn put(&mut self, kind: Kind, Named { name, unread, .. }: Named) {
        match unread.give_to(name.clone(), &mut self.receivers) {
            Ok(()) => drop(self.unreadable.remove(&(kind, name))),
            Err(error) => {
                if self.unreadable.insert((kind, name.clone())) {
                    warn!(kind = kind.label(), %name, error, "object not readable, what it said before stays");
                }
            }
        }
    }

    /// A pod of this node, that the API showed when asked for it.
    pub fn found(&mut self, record: PodRecord) {
        self.receivers.own_pods.found(record);
    }

    /// Forgets pods that were asked for and did not come. While nobody says what comes, they stay.
    pub fn expire(&mut self) {
        if self.kinds.get(&Kind::Pods).is_some_and(|it| it.well) {
            self.receivers.own_pods.expire();
        }
    }

    /// What is new since this was last asked.
    pub fn news(&mut self) -> News {
        let health = self.health();
        let is_news = if self.is_listed(Kind::Pods) {
            self.receivers.own_pods.take_changed()
        } else {
            // Why it is not known yet is all that there is to say.
            health.is_some()
        };
        let directory = is_news.then(|| self.directory());
        News { directory, policies: self.policies(health.is_some()), health }
    }

    fn is_listed(&self, kind: Kind) -> bool {
        self.kinds.get(&kind).is_some_and(|it| it.listed)
    }

    fn directory(&self) -> Directory {
        if !self.is_listed(Kind::Pods) {
            return Directory::Unknown { why: self.why_not_listed() };
        }
        self.receivers.own_pods.directory()
    }

    fn why_not_listed(&self) -> String {
        let missing: Vec<&str> =
            self.kinds.iter().filter(|(_, of)| !of.listed).map(|(kind, _)| kind.label()).collect();
        let trouble = self.kinds.values().find_map(|of| of.trouble.as_ref());
        let mut why = format!("the Kubernetes API has not listed its {} yet", missing.join(", "));
        if let Some(trouble) = trouble {
            // Writing into a String does not fail.
            let _ = write!(why, ": {trouble}");
        }
        why
    }

    fn policies(&mut self, health_changed: bool) -> Option<PolicyNews> {
        if !self.kinds.values().all(|of| of.listed) {
            let policies = Policies::Unknown { why: self.why_not_listed() };
            return health_changed.then_some(PolicyNews { policies, is_change: true });
        }
        let is_first = !std::mem::replace(&mut self.policies_told, true);
        if is_first {
            info!("cluster known");
        }
        let is_change = self.receivers.policy.settle(self.versions()) | is_first;
        Some(PolicyNews { policies: Policies::Known(self.receivers.policy.known()), is_change })
    }

    /// Of each kind the resourceVersion up to which all has been taken in.
    fn versions(&self) -> String {
        let mut text = String::new();
        for (kind, of) in &self.kinds {
            let space = if text.is_empty() { "" } else { " " };
            // Writing into a String does not fail.
            let _ = write!(text, "{space}{}={}", kind.label(), of.heard);
        }
        text
    }

    /// `Some` when it is not what it was: `Err` says what is wrong.
    fn health(&mut self) -> Option<Result<(), String>> {
        let mut by_text: BTreeMap<String, Vec<Kind>> = BTreeMap::new();
        for (kind, of) in &self.kinds {
            if let Some(trouble) = &of.trouble {
                by_text.entry(trouble.to_string()).or_default().push(*kind);
            }
        }
        let now: BTreeSet<String> = by_text.keys().cloned().collect();
        self.metrics.set_connected("kubernetes", self.kinds.values().all(|of| of.well));
        for (error, kinds) in by_text.iter().filter(|(text, _)| !self.told.contains(*text)) {
            let kinds = kinds.iter().map(|it| it.label()).collect::<Vec<_>>().join(",");
            warn!(kinds, error, "Kubernetes API not watched, what is known stays in force");
        }
        if now.is_empty() && !self.told.is_empty() {
            info!("Kubernetes API watched again");
        }
        self.told = now;
        let health = match by_text.into_iter().next() {
            Some((text, _)) => Err(format!("Kubernetes API: {text}")),
            None if self.kinds.values().all(|of| of.listed) => Ok(()),
            None => Err(self.why_not_listed()),
        };
        if self.health.as_ref() == Some(&health) {
            return None;
        }
        self.health = Some(health.clone());
        Some(health)
    }
}

#[cfg(test)]
mod tests;
