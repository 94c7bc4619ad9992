//! `PodAttachment`s: where the pods of this NIC are wired, for whoever asks the cluster.
//!
//! Level-triggered: those that should be there, from what the reconciler publishes, against those that the API has of
//! this node; a pure [`plan`] says what to create, to update and to delete. Objects of other nodes are never touched, and
//! would not be allowed to be. A spec cannot be changed, so another sandbox's attachment takes the place of the old one.
//! A name that another node's NIC has taken, by whatever right, keeps nothing from being said: the object gets one that
//! nobody can foresee ([`Taken`]). Whoever reads PodAttachments goes by their specs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use drawbridge_api::{
    AttachmentOffload, Condition, ConditionStatus, Connections, PodAttachment, PodAttachmentSpec,
    PodAttachmentStatus, PodReference, RuleSets, SoftwareRule, Vf, attachment_conditions as kinds,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use ring::digest;

use super::words::{SWITCHED_OFF, status_of};
use crate::claim::Claim;
use crate::published::{Entry, PodStatus, Published, State};

mod seen;
mod write;
pub use write::{Inputs, run};

/// Fewer connections than this are as good as none.
const FEW_CONNECTIONS: i32 = 256;
/// Rules in software that a status lists; they are counted all the same.
const LISTED: usize = 8;
/// Figures change with the traffic, and what is written of one pod is read by every NIC of the cluster. So an object is
/// written for them alone when they tell something else than before, and not until this time is over, or half as much more:
/// pods that came together are not written together.
const FIGURES: Duration = Duration::from_mins(5);
/// The same for the first that there are of a pod.
const FIRST_FIGURES: Duration = Duration::from_secs(30);

/// Namespace and name.
pub type Key = (String, String);

/// What figures tell that differ from those that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The pod is idle, or about as busy as it was.
    Nothing,
    /// There were none, or offload has been switched.
    First,
    /// Other reasons, or several times as many rules.
    Other,
}

impl News {
    fn of(after: &PodAttachmentStatus, before: &PodAttachmentStatus) -> Self {
        let state = |status: &PodAttachmentStatus| {
            let found = status.conditions.iter().find(|it| it.kind == kinds::OFFLOADED);
            found.map(|it| (it.status, it.reason.clone()))
        };
        let is_off = |it: &Option<(_, String)>| it.as_ref().is_some_and(|(_, reason)| reason == SWITCHED_OFF);
        let has_rules = |it: &Option<(ConditionStatus, _)>| {
            it.as_ref().is_some_and(|(status, _)| *status != ConditionStatus::Unknown)
        };
        let (old, new) = (state(before), state(after));
        if is_off(&old) != is_off(&new) || (!has_rules(&old) && has_rules(&new)) {
            return Self::First;
        }
        let used =
            |status: &PodAttachmentStatus| status.connections.map_or(0, |it| it.used / FEW_CONNECTIONS);
        let is_far = |a: i32, b: i32| a.max(b) > a.min(b).max(1).saturating_mul(2);
        if is_far(used(before), used(after)) {
            return Self::Other;
        }
        if !has_rules(&new) {
            return Self::Nothing;
        }
        let reasons = |status: &PodAttachmentStatus| -> BTreeSet<String> {
            status.offload.in_software.iter().map(|rule| rule.reason.clone()).collect()
        };
        let (was, is) = (&before.offload, &after.offload);
        let is_other = old != new
            || reasons(before) != reasons(after)
            || is_far(was.hardware_rules, is.hardware_rules)
            || is_far(was.software_rules, is.software_rules);
        if is_other { Self::Other } else { Self::Nothing }
    }

    /// How old the object's last write is when it may be written for these; `None`: never.
    fn patience(self, key: &Key) -> Option<Duration> {
        match self {
            Self::Nothing => None,
            Self::First => Some(FIRST_FIGURES),
            Self::Other => {
                let mut hasher = DefaultHasher::new();
                key.hash(&mut hasher);
                let part = f64::from(u16::try_from(hasher.finish() % 1000).unwrap_or(0)) / 2000.0;
                Some(FIGURES + FIGURES.mul_f64(part))
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Create(Box<PodAttachment>),
    Status { key: Key, status: Box<PodAttachmentStatus>, only_figures: bool },
    Delete { key: Key, uid: Option<String> },
}

/// Names that are not to be had.
#[derive(Debug, Clone)]
pub struct Taken {
    names: BTreeSet<Key>,
    /// Ours alone: a name that is made with it is nobody else's.
    salt: [u8; 16],
}

impl Taken {
    pub const fn new(salt: [u8; 16]) -> Self {
        Self { names: BTreeSet::new(), salt }
    }

    /// Another node's NIC has it.
    pub fn add(&mut self, key: Key) {
        self.names.insert(key);
    }

    fn name(&self, claim: &Claim) -> String {
        let plain = name(claim);
        if self.names.contains(&(claim.pod.namespace.clone(), plain.clone())) {
            hashed(&claim.pod.name, &[&self.salt, plain.as_bytes()].concat())
        } else {
            plain
        }
    }
}

/// Those of what is published.
pub fn wanted(
    published: &Published,
    node: &str,
    hw_offload: bool,
    taken: &Taken,
) -> BTreeMap<Key, PodAttachment> {
    let of = |entry: &Entry| {
        let claim = &entry.claim;
        let vf = claim.vf.to_string();
        let mut pods = published.policy.pods.iter();
        let policy = pods.find(|pod| pod.uid == claim.pod.uid && pod.vf == vf);
        let name = taken.name(claim);
        let mut attachment = PodAttachment::new(&name, spec(claim, node));
        attachment.metadata.namespace = Some(claim.pod.namespace.clone());
        attachment.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: claim.pod.name.clone(),
            uid: claim.pod.uid.clone(),
            ..OwnerReference::default()
        }]);
        attachment.status = Some(status(entry, policy, hw_offload));
        ((claim.pod.namespace.clone(), name), attachment)
    };
    published.attachments.values().map(of).collect()
}

fn spec(claim: &Claim, node: &str) -> PodAttachmentSpec {
    PodAttachmentSpec {
        pod: PodReference { name: claim.pod.name.clone(), uid: claim.pod.uid.clone() },
        interface: claim.key.interface.clone(),
        node_name: node.to_owned(),
        vf: Vf { pf: claim.vf.pf, vf: claim.vf.vf },
    }
}

/// `POD-INTERFACE` where that is a name and no other pod's; else the interface's place is taken by a hash, which is
/// longer than an interface's name can be.
fn name(claim: &Claim) -> String {
    let (pod, interface) = (&claim.pod.name, &claim.key.interface);
    let plain = format!("{pod}-{interface}");
    // With a dash in it, it could be the end of another pod's name.
    if plain.len() <= LONGEST && !interface.contains('-') && is_object_name(&plain) {
        return plain;
    }
    hashed(pod, format!("{pod}/{interface}").as_bytes())
}

/// `metadata.name` of an object.
const LONGEST: usize = 253;
const HASH: usize = 16;

fn hashed(pod: &str, of: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, of);
    let mut hash = String::new();
    for byte in digest.as_ref().iter().take(HASH / 2) {
        // A String takes whatever is written to it.
        let _ = write!(hash, "{byte:02x}");
    }
    let pod: String = pod.chars().take(LONGEST - HASH - 1).collect();
    format!("{}-{hash}", pod.trim_end_matches(['.', '-']))
}

/// As Kubernetes has it: a subdomain of RFC 1123, but for its labels' length (`IsDNS1123Subdomain`).
fn is_object_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text.split('.').all(|label| {
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    })
}

fn status(entry: &Entry, policy: Option<&PodStatus>, hw_offload: bool) -> PodAttachmentStatus {
    let (wiring, claim) = (&entry.wiring, &entry.claim);
    let binding = wiring.binding.as_ref();
    let bound = match (&entry.state, &entry.problem) {
        (State::Waiting(missing), _) => {
            Condition::new(kinds::BOUND, ConditionStatus::False, "Waiting", missing)
        }
        (State::Ready(_), Some(problem)) => {
            let what = format!("the server could not give the pod its interface: {problem}");
            Condition::new(kinds::BOUND, ConditionStatus::False, "InterfaceMissing", what)
        }
        (State::Ready(_), None) if entry.remarks.is_empty() => {
            Condition::new(kinds::BOUND, ConditionStatus::True, "Bound", "frames can flow")
        }
        (State::Ready(_), None) => {
            let unused = entry.remarks.join("; ");
            let what = format!("frames can flow; of the CMS's annotations is not used: {unused}");
            Condition::new(kinds::BOUND, ConditionStatus::True, "Bound", what)
        }
    };
    let offload = policy.map(|it| &it.offload).cloned().unwrap_or_default();
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let (hardware, software) = (count(offload.hardware), count(offload.software.len()));
    let reasons = offload.software.iter().map(|rule| rule.why.clone());
    let offloaded = status_of(kinds::OFFLOADED, hw_offload, (hardware.into(), software.into()), reasons);
    let connections = policy.and_then(|it| it.connections);
    let limited = connections.map(|it| limited(it.limited, it.limit));
    PodAttachmentStatus {
        representor: wiring.representor.clone(),
        logical_port: Some(wiring.logical_port.clone()),
        mac: binding.map(|it| it.mac.to_string()),
        ips: binding.map(|it| it.ips.iter().map(ToString::to_string).collect()).unwrap_or_default(),
        conntrack_zone: Some(wiring.zone.get()),
        rule_sets: policy
            .map(|it| RuleSets { egress: it.egress_rule_set, ingress: it.ingress_rule_set })
            .unwrap_or_default(),
        offload: AttachmentOffload {
            hardware_rules: hardware,
            software_rules: software,
            in_software: offload
                .software
                .iter()
                .take(LISTED)
                .map(|rule| SoftwareRule { rule: shortened(&rule.filter), reason: shortened(&rule.why) })
                .collect(),
        },
        connections: connections.map(|it| Connections {
            limit: i32::try_from(it.limit).unwrap_or(i32::MAX),
            used: i32::try_from(it.used).unwrap_or(i32::MAX),
            refused_by_rate: i64::try_from(it.refused_by_rate).unwrap_or(i64::MAX),
        }),
        conditions: [bound, enforced(policy, claim), offloaded].into_iter().chain(limited).collect(),
    }
}

fn limited(is_limited: bool, limit: u32) -> Condition {
    let of =
        |status, reason: &str, what: &str| Condition::new(kinds::CONNECTIONS_LIMITED, status, reason, what);
    if is_limited {
        let what = format!(
            "in the last five minutes it had {limit} connections, as many as it may (spec.podLimits.connections of the \
             NicNode): no other begins"
        );
        of(ConditionStatus::True, "AtLimit", &what)
    } else {
        of(ConditionStatus::False, "BelowLimit", &format!("it may have {limit} connections"))
    }
}

/// Within what the schema allows.
fn shortened(text: &str) -> String {
    text.chars().take(1000).collect()
}

fn enforced(policy: Option<&PodStatus>, claim: &Claim) -> Condition {
    let of = |status, reason: &str, what: &str| Condition::new(kinds::POLICY_ENFORCED, status, reason, what);
    let Some(policy) = policy else {
        let what = format!("{} has not been looked at yet", claim.pod);
        return of(ConditionStatus::Unknown, "Pending", &what);
    };
    match (&policy.closed, policy.settled, policy.egress_rule_set | policy.ingress_rule_set) {
        (Some(why), _, _) => of(ConditionStatus::False, "PolicyUnknown", &format!("nothing passes: {why}")),
        (None, false, _) => {
            let waits_for =
                policy.unsettled.as_ref().map_or("its rules to be in the tables", |it| it.waits_for);
            of(ConditionStatus::False, "Settling", &format!("waits for {waits_for}"))
        }
        (None, true, _) if policy.held.is_some() => of(
            ConditionStatus::True,
            "Enforced",
            "no connection is left that policy denies; connections that were cut, or others that ended, are still held \
             by a flow table whose sweeps are over",
        ),
        (None, true, 0) => of(ConditionStatus::True, "Unrestricted", "no policy restricts the pod"),
        (None, true, _) => of(ConditionStatus::True, "Enforced", "no connection is left that policy denies"),
    }
}

/// `wanted` against what the API has. `written` says how long ago an object was written by this agent, if it was.
pub fn plan(
    wanted: &BTreeMap<Key, PodAttachment>,
    observed: &BTreeMap<Key, PodAttachment>,
    node: &str,
    now: &str,
    written: impl Fn(&Key) -> Option<Duration>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for (key, there) in observed.iter().filter(|(_, it)| it.spec.node_name == node) {
        let delete = || Step::Delete { key: key.clone(), uid: there.metadata.uid.clone() };
        let going = there.metadata.deletion_timestamp.is_some();
        match wanted.get(key) {
            _ if going => {}
            None => steps.push(delete()),
            Some(wanted) if wanted.spec != there.spec || !is_owned_alike(wanted, there) => {
                steps.push(delete());
            }
            Some(wanted) => {
                let before = there.status.clone().unwrap_or_default();
                let after = stamped(wanted.status.clone().unwrap_or_default(), &before, there, now);
                let only_figures = without_figures(&after, &before) == before;
                let is_due = || {
                    let patience = News::of(&after, &before).patience(key);
                    patience.is_some_and(|it| written(key).is_none_or(|age| age >= it))
                };
                if after != before && (!only_figures || is_due()) {
                    steps.push(Step::Status { key: key.clone(), status: Box::new(after), only_figures });
                }
            }
        }
    }
    for (key, wanted) in wanted.iter().filter(|(key, _)| !observed.contains_key(*key)) {
        let create = PodAttachment { status: None, ..wanted.clone() };
        debug_assert_eq!(create.metadata.name.as_ref(), Some(&key.1));
        steps.push(Step::Create(Box::new(create)));
    }
    steps
}

fn is_owned_alike(wanted: &PodAttachment, there: &PodAttachment) -> bool {
    let uids = |it: &PodAttachment| -> Vec<String> {
        it.metadata.owner_references.iter().flatten().map(|owner| owner.uid.clone()).collect()
    };
    uids(wanted) == uids(there)
}

fn stamped(
    status: PodAttachmentStatus,
    before: &PodAttachmentStatus,
    there: &PodAttachment,
    now: &str,
) -> PodAttachmentStatus {
    let generation = there.metadata.generation;
    let conditions = status.conditions.into_iter();
    let conditions = conditions.map(|it| it.of(generation).after(&before.conditions, now)).collect();
    PodAttachmentStatus { conditions, ..status }
}

fn without_figures(status: &PodAttachmentStatus, before: &PodAttachmentStatus) -> PodAttachmentStatus {
    let mut status = PodAttachmentStatus {
        offload: before.offload.clone(),
        connections: before.connections,
        ..status.clone()
    };
    if let Some(old) = before.conditions.iter().find(|it| it.kind == kinds::OFFLOADED) {
        for new in status.conditions.iter_mut().filter(|it| it.kind == kinds::OFFLOADED) {
            new.clone_from(old);
        }
    }
    status
}

#[cfg(test)]
mod tests;
