//! What the watches have said, put together: which pods this node has, what policy they have, and what is wrong. No I/O.
//!
//! Nothing is said of policy before every kind has been listed once: of a half-known cluster nobody knows what it allows.
//! From then on each change counts at once, and a new list, after 410 or another credential, only by its difference.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use kube_watch::Trouble;
use offload::policy::PrefixSet;
use tokio::time::Instant;
use tracing::{info, warn};

use super::object::{Content, Kind};
use super::turns::{Next, What};
use super::watch::Named;
use crate::directory::{Directory, PodRecord};
use crate::enforcement::Policies;
use crate::enforcement::feed::Feed;
use crate::management::Access;
use crate::metrics::{CauseLabel, KindLabel, Metrics};
use crate::policy::{Change, Held, ObjectKind, ObjectName, Settings, Word, WordKind};

/// A pod that we asked for by name, and that the watch has not shown for so long, is not there.
const AHEAD: Duration = Duration::from_mins(1);

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
    node: Arc<str>,
    kinds: BTreeMap<Kind, OfKind>,
    feed: Feed,
    /// From the file: these are the node's, whatever else is.
    given: PrefixSet,
    /// In the Node's status.
    of_node: Vec<IpAddr>,
    access: Access,
    /// This node's pods, by uid.
    records: BTreeMap<String, PodRecord>,
    uids: BTreeMap<ObjectName, String>,
    /// Those that we asked for, until the watch has shown them.
    ahead: BTreeMap<String, (PodRecord, Instant)>,
    /// Troubles that are in the log.
    told: BTreeSet<String>,
    health: Option<Result<(), String>>,
    unreadable: BTreeSet<(Kind, ObjectName)>,
    directory_changed: bool,
    policies_told: bool,
    metrics: Metrics,
}

impl State {
    /// `kinds` are those that are watched.
    pub fn new(kinds: &[Kind], settings: Settings, access: Access, metrics: Metrics) -> Self {
        let mut state = Self {
            node: settings.node.clone(),
            kinds: kinds.iter().map(|kind| (*kind, OfKind::default())).collect(),
            given: settings.node_addresses.clone(),
            of_node: Vec::new(),
            access,
            feed: Feed::of_cluster(settings, metrics.clone()),
            records: BTreeMap::new(),
            uids: BTreeMap::new(),
            ahead: BTreeMap::new(),
            told: BTreeSet::new(),
            health: None,
            unreadable: BTreeSet::new(),
            directory_changed: true,
            policies_told: false,
            metrics,
        };
        state.tell_node();
        state
    }

    /// Whose traffic is the node's own.
    pub fn set_access(&mut self, access: Access) {
        self.access = access;
        self.tell_node();
    }

    /// What this NIC itself holds; nobody else's word on its node's pods counts.
    pub fn hold(&mut self, held: Held) {
        self.feed.hold(held);
    }

    fn tell_node(&mut self) {
        let ips = match &self.access {
            Access::Port(ips) => ips,
            Access::NodeAddresses => &self.of_node,
        };
        let ips: PrefixSet = ips.iter().copied().collect();
        self.feed.put(Change::NodeAddresses(self.given.union(&ips)));
    }

    pub fn take(&mut self, Next { kind, what }: Next) {
        let Some(of) = self.kinds.get_mut(&kind) else { return };
        match what {
            What::Object(Named { name, unread, .. }) => {
                self.count(kind, "object", 1);
                self.put(kind, name, unread.read());
            }
            What::Gone(name, uid) => {
                self.count(kind, "gone", 1);
                self.gone(kind, name, &uid);
            }
            What::Listed(named) => {
                of.listed = true;
                self.count(kind, "list", 1);
                self.only(kind, &named);
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
        self.metrics.watch_events.get_or_create(&KindLabel { kind: kind.plural(), what }).inc_by(times);
    }

    fn put(&mut self, kind: Kind, name: ObjectName, content: Result<Content, String>) {
        let content = match content {
            Ok(content) => content,
            Err(error) => {
                if self.unreadable.insert((kind, name.clone())) {
                    warn!(kind = kind.plural(), %name, error, "object not readable, what it said before stays");
                }
                return;
            }
        };
        self.unreadable.remove(&(kind, name.clone()));
        let change = match content {
            Content::Pod(pod) => {
                let (pod, record) = *pod;
                self.put_record(name, record);
                Change::Pod(pod)
            }
            Content::Namespace(it) => Change::Namespace(it),
            Content::NetworkPolicy(it) => Change::Policy(it),
            Content::Service(it) => Change::Service(it),
            Content::EndpointSlice(it) => Change::EndpointSlice(it),
            Content::Word(word) => return self.feed.hear(word),
            Content::OwnNode(ips) => {
                self.of_node = ips;
                return self.tell_node();
            }
        };
        self.feed.put(change);
    }

    fn put_record(&mut self, name: ObjectName, record: PodRecord) {
        let is_ours = *record.node == *self.node;
        // A pod never leaves its node; one of the same name may be another.
        if let Some(old) = self.uids.get(&name)
            && (*old != record.uid || !is_ours)
        {
            let old = old.clone();
            self.drop_record(&name, &old);
        }
        if !is_ours {
            return;
        }
        self.ahead.remove(&record.uid);
        if self.records.get(&record.uid) != Some(&record) {
            self.directory_changed = true;
            self.uids.insert(name, record.uid.clone());
            self.records.insert(record.uid.clone(), record);
        }
    }

    fn drop_record(&mut self, name: &ObjectName, uid: &str) {
        if self.uids.get(name).is_some_and(|it| it == uid) {
            self.uids.remove(name);
        }
        self.directory_changed |= self.records.remove(uid).is_some() | self.ahead.remove(uid).is_some();
    }

    fn gone(&mut self, kind: Kind, name: ObjectName, uid: &str) {
        self.unreadable.remove(&(kind, name.clone()));
        let change = match kind {
            Kind::Pods => {
                // Whichever had this name: what was said of one in between may have been superseded.
                if let Some(known) = self.uids.get(&name).cloned() {
                    self.drop_record(&name, &known);
                }
                self.drop_record(&name, uid);
                Change::PodGone(name)
            }
            Kind::Namespaces => Change::NamespaceGone(name.name),
            Kind::NetworkPolicies => Change::PolicyGone(name),
            Kind::Services => Change::ServiceGone(name),
            Kind::EndpointSlices => Change::EndpointSliceGone(name),
            // A Node that is made anew has the same addresses, most likely; kubelet goes on without it.
            Kind::OwnNode => return,
            Kind::Nodes => return self.feed.hear(Word::NodeGone(name.name)),
            Kind::PodAttachments => return self.feed.hear(Word::AttachmentGone(name)),
            Kind::NicNodes => return self.feed.hear(Word::NicGone(name.name)),
            Kind::NodeRanges => return self.feed.hear(Word::RangeGone(name.name)),
        };
        self.feed.put(change);
    }

    /// A list is complete.
    fn only(&mut self, kind: Kind, listed: &HashSet<ObjectName>) {
        self.unreadable.retain(|(of, name)| *of != kind || listed.contains(name));
        let kind = match kind {
            Kind::Pods => {
                let gone = self.uids.iter().filter(|(name, _)| !listed.contains(*name));
                for (name, uid) in gone.map(|(name, uid)| (name.clone(), uid.clone())).collect::<Vec<_>>() {
                    self.drop_record(&name, &uid);
                }
                // From unknown to known, even if there is no pod.
                self.directory_changed = true;
                ObjectKind::Pod
            }
            Kind::Namespaces => ObjectKind::Namespace,
            Kind::NetworkPolicies => ObjectKind::Policy,
            Kind::Services => ObjectKind::Service,
            Kind::EndpointSlices => ObjectKind::EndpointSlice,
            Kind::OwnNode => return,
            Kind::Nodes => return self.feed.only_words(WordKind::Node, listed),
            Kind::PodAttachments => return self.feed.only_words(WordKind::Attachment, listed),
            Kind::NicNodes => return self.feed.only_words(WordKind::Nic, listed),
            Kind::NodeRanges => return self.feed.only_words(WordKind::Range, listed),
        };
        self.feed.only(kind, listed);
    }

    /// A pod of this node, that the API showed when asked for it.
    pub fn found(&mut self, record: PodRecord) {
        if *record.node != *self.node || self.records.contains_key(&record.uid) {
            return;
        }
        self.directory_changed = true;
        self.ahead.insert(record.uid.clone(), (record, Instant::now()));
    }

    /// Forgets pods that were asked for and did not come. While nobody says what comes, they stay.
    pub fn expire(&mut self) {
        if !self.kinds.get(&Kind::Pods).is_some_and(|it| it.well) {
            return;
        }
        let before = self.ahead.len();
        self.ahead.retain(|_, (_, since)| since.elapsed() < AHEAD);
        self.directory_changed |= self.ahead.len() != before;
    }

    /// What is new since this was last asked.
    pub fn news(&mut self) -> News {
        let health = self.health();
        let is_news = if self.is_listed(Kind::Pods) {
            std::mem::take(&mut self.directory_changed)
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
        let ahead = self.ahead.iter().map(|(uid, (record, _))| (uid, record));
        let all = ahead.chain(&self.records).map(|(uid, record)| (uid.clone(), record.clone()));
        Directory::Known(Arc::new(all.collect()))
    }

    fn why_not_listed(&self) -> String {
        let missing: Vec<&str> =
            self.kinds.iter().filter(|(_, of)| !of.listed).map(|(kind, _)| kind.plural()).collect();
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
        let is_change = self.feed.settle(self.versions()) | is_first;
        Some(PolicyNews { policies: Policies::Known(self.feed.known()), is_change })
    }

    /// Of each kind the resourceVersion up to which all has been taken in.
    fn versions(&self) -> String {
        let mut text = String::new();
        for (kind, of) in &self.kinds {
            let space = if text.is_empty() { "" } else { " " };
            // Writing into a String does not fail.
            let _ = write!(text, "{space}{}={}", kind.plural(), of.heard);
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
            let kinds = kinds.iter().map(|it| it.plural()).collect::<Vec<_>>().join(",");
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
