//! Events for people: claims that were refused, interfaces that a server could not give back to their pods, and rules that
//! did not go into hardware.
//!
//! A server may claim anything, so an Event stands on a pod only where the cluster itself says that the pod is this
//! node's; all other refusals stand on our NicNode. No more than a few a minute are written, whatever the server does;
//! the rest is in the log. The queue is short and never waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, warn};

use super::own_node::Own;
use super::words::PATIENCE;
use crate::bucket::{Rate, TokenBucket};
use crate::claim::{Attached, Attachments, Claim, PodRef, Refusal, SandboxKey};
use crate::published::Published;

/// `reportingController` of our Events. `reportingInstance` is the node's name, and the cluster holds us to it.
pub const CONTROLLER: &str = "drawbridge.dev/nic-agent";
const FEW: Rate = Rate { burst: 20, period: Duration::from_secs(10) };
const QUEUE: usize = 64;
/// How many notes are counted instead of being written again.
const NOTES: usize = 64;
/// A rule that is in software at two looks is no flow that was just coming or going.
const LOOK: Duration = Duration::from_secs(30);

/// A claim that was refused.
#[derive(Debug, Clone)]
pub struct Refused {
    pod: PodRef,
    vf: String,
    refusal: Refusal,
}

/// Hands what it is asked to another, and tells of refusals.
#[derive(Debug)]
pub struct Telling<A> {
    inner: A,
    tell: mpsc::Sender<Refused>,
}

impl<A> Telling<A> {
    pub fn new(inner: A) -> (Self, mpsc::Receiver<Refused>) {
        let (tell, told) = mpsc::channel(QUEUE);
        (Self { inner, tell }, told)
    }
}

impl<A: Attachments> Attachments for Telling<A> {
    async fn attach(&self, claim: Claim) -> Result<Attached, Refusal> {
        let (pod, vf) = (claim.pod.clone(), claim.vf.to_string());
        self.inner.attach(claim).await.inspect_err(|refusal| {
            // A full queue: there are more than are ever written.
            let _ = self.tell.try_send(Refused { pod, vf, refusal: refusal.clone() });
        })
    }

    async fn detach(&self, key: SandboxKey) -> Result<bool, Refusal> {
        self.inner.detach(key).await
    }

    async fn check(&self, key: SandboxKey, problem: Option<String>) -> Result<Attached, Refusal> {
        self.inner.check(key, problem).await
    }

    async fn list(&self) -> Vec<Claim> {
        self.inner.list().await
    }

    async fn status(&self) -> Result<(), String> {
        self.inner.status().await
    }
}

/// What an Event is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Pod { namespace: String, name: String, uid: String },
    OwnNicNode,
}

/// Has the cluster said that this pod is here, before the claim was refused?
fn is_ours(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::HostNetwork { .. }
        | Refusal::MirrorPod { .. }
        | Refusal::OtherMirror { .. }
        | Refusal::Finished { .. }
        | Refusal::VfHeld { .. }
        | Refusal::NoSuchVf { .. }
        | Refusal::SandboxInUse { .. }
        | Refusal::LogicalPortHeld { .. }
        | Refusal::NoZone { .. }
        | Refusal::BudgetUsed { .. }
        | Refusal::ManagementPort { .. }
        | Refusal::NotReady { .. } => true,
        Refusal::Malformed { .. }
        | Refusal::UnknownPod { .. }
        | Refusal::WrongPod { .. }
        | Refusal::WrongNode { .. }
        | Refusal::DirectoryUnavailable { .. }
        | Refusal::SandboxReplayed { .. }
        | Refusal::NotAttached { .. }
        | Refusal::Internal(_) => false,
    }
}

fn of_refusal(refused: &Refused) -> (About, Event) {
    let Refused { pod, vf, refusal } = refused;
    let about = if is_ours(refusal) {
        About::Pod { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() }
    } else {
        About::OwnNicNode
    };
    let reason = if matches!(refusal, Refusal::NotReady { .. }) { "AttachNotReady" } else { "ClaimRefused" };
    let note = format!("the server claims {vf} for pod {pod}: {refusal} ({})", refusal.reason());
    (about, warning(reason, "Attach", &note))
}

fn warning(reason: &str, action: &str, note: &str) -> Event {
    /// Of `note`, in bytes (validation of events.k8s.io).
    const LONGEST: usize = 1024;
    let mut note = note.to_owned();
    note.truncate(note.floor_char_boundary(LONGEST - 1));
    Event {
        type_: EventType::Warning,
        reason: reason.to_owned(),
        note: Some(note),
        action: action.to_owned(),
        secondary: None,
    }
}

type Whys = BTreeMap<About, BTreeSet<String>>;

fn in_software(published: &Published) -> Whys {
    let mut all = Whys::new();
    for pod in &published.policy.pods {
        let about =
            About::Pod { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() };
        let whys = pod.offload.software.iter().map(|rule| rule.why.clone());
        all.entry(about).or_default().extend(whys);
    }
    all
}

/// What the server says of its side of attachments. It may say something else each time: only the last is kept.
fn missing(published: &Published) -> Whys {
    let mut all = Whys::new();
    for entry in published.attachments.values() {
        let PodRef { namespace, name, uid } = entry.claim.pod.clone();
        let why = entry.problem.as_ref().map(|why| format!("{}: {why}", entry.claim.key.interface));
        all.entry(About::Pod { namespace, name, uid }).or_default().extend(why);
    }
    all
}

/// Whatever was not there at the last look.
fn fresh(before: &Whys, now: &Whys) -> Vec<(About, Event)> {
    let is_known = |about: &About, why: &String| before.get(about).is_some_and(|old| old.contains(why));
    let of = |(about, whys): (&About, &BTreeSet<String>)| {
        let fresh = whys.iter().filter(|why| !is_known(about, why)).map(|why| {
            let note = format!("the server could not give this pod its interface again: {why}");
            (about.clone(), warning("InterfaceMissing", "Restore", &note))
        });
        fresh.collect::<Vec<_>>()
    };
    now.iter().flat_map(of).collect()
}

/// What is in software at both looks, and was not said of the pod already.
fn news(before: &Whys, now: &Whys, said: &mut Whys) -> Vec<(About, Event)> {
    said.retain(|about, _| now.contains_key(about));
    let mut events = Vec::new();
    for (about, whys) in now {
        let lasting = before.get(about).into_iter().flat_map(|old| old.intersection(whys));
        let said = said.entry(about.clone()).or_default();
        for why in lasting {
            if said.insert(why.clone()) {
                let note = format!("rules of this pod run in software: {why}");
                events.push((about.clone(), warning("NotOffloaded", "Offload", &note)));
            }
        }
    }
    events
}

/// A Recorder counts what it is told twice of one object, and compares all but the note: two reasons would be one Event,
/// with the first one's words. So each note has its own.
struct Recorders {
    client: Client,
    reporter: Reporter,
    by_note: BTreeMap<String, Recorder>,
}

impl Recorders {
    fn of(&mut self, note: &str) -> &Recorder {
        // What was said long ago is said anew.
        if self.by_note.len() >= NOTES && !self.by_note.contains_key(note) {
            self.by_note.clear();
        }
        let new = || Recorder::new(self.client.clone(), self.reporter.clone());
        self.by_note.entry(note.to_owned()).or_insert_with(new)
    }
}

/// What outlives a client: another credential is no reason to say things twice.
#[derive(Debug)]
pub struct Teller {
    refused: mpsc::Receiver<Refused>,
    published: watch::Receiver<Arc<Published>>,
    own: watch::Receiver<Own>,
    bucket: TokenBucket,
    withheld: u64,
    before: Whys,
    said: Whys,
    missing: Whys,
}

impl Teller {
    pub fn new(
        refused: mpsc::Receiver<Refused>,
        published: watch::Receiver<Arc<Published>>,
        own: watch::Receiver<Own>,
    ) -> Self {
        let bucket = TokenBucket::new(FEW, Instant::now().into_std());
        Self {
            refused,
            published,
            own,
            bucket,
            withheld: 0,
            before: Whys::new(),
            said: Whys::new(),
            missing: Whys::new(),
        }
    }

    /// Until dropped, or until nobody is left who could refuse.
    pub async fn run(&mut self, client: Client, node: &str) {
        let reporter = Reporter { controller: CONTROLLER.to_owned(), instance: Some(node.to_owned()) };
        let mut recorders = Recorders { client, reporter, by_note: BTreeMap::new() };
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let events = tokio::select! {
                refused = self.refused.recv() => match refused {
                    Some(refused) => vec![of_refusal(&refused)],
                    None => return,
                },
                _ = look.tick() => {
                    let published = self.published.borrow().clone();
                    let now = in_software(&published);
                    let mut events = news(&self.before, &now, &mut self.said);
                    self.before = now;
                    let missing = missing(&published);
                    events.extend(fresh(&self.missing, &missing));
                    self.missing = missing;
                    events
                }
            };
            for (about, event) in events {
                self.publish(&mut recorders, &about, &event).await;
            }
        }
    }

    async fn publish(&mut self, recorders: &mut Recorders, about: &About, event: &Event) {
        let Some(reference) = self.reference(about) else { return };
        if !self.bucket.take(Instant::now().into_std()) {
            self.withheld += 1;
            debug!(withheld = self.withheld, "too many Events, this one is not written");
            return;
        }
        let recorder = recorders.of(event.note.as_deref().unwrap_or_default());
        match tokio::time::timeout(PATIENCE, recorder.publish(event, &reference)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(error = %error, reason = event.reason, "Event not written"),
            Err(_) => warn!(reason = event.reason, "Event not written: no answer"),
        }
    }

    fn reference(&self, about: &About) -> Option<ObjectReference> {
        match about {
            About::Pod { namespace, name, uid } => Some(ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                namespace: Some(namespace.clone()),
                name: Some(name.clone()),
                uid: Some(uid.clone()),
                ..ObjectReference::default()
            }),
            About::OwnNicNode => match &*self.own.borrow() {
                Own::Known(node) => Some(node.object_ref(&())),
                Own::Unknown | Own::Absent => None,
            },
        }
    }
}

#[cfg(test)]
mod tests;
