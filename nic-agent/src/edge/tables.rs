//! All flows of `br-edge`, compiled: what the pods share, their rule sets, and a boundary for each attachment whose
//! identity is known.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::num::NonZeroU32;
use std::sync::Arc;

use ipnet::IpNet;
use offload::boundary::{self, Boundary};
use offload::openflow::{Cookie, Flow, Meter};
use offload::policy::{Direction, PodPolicy, RuleMark, Rules};
use offload::ruleset::{self, RuleSetId, RuleSets, TooLarge};

use crate::attachment::{self, Attachment};
use crate::marks::Marks;

/// First byte of the cookies of what is no rule's, for whoever looks with `ovs-ofctl`. Rules have their origin there.
const COOKIE: u64 = 0xdb << 56;

/// An attachment, and what is enforced on it.
#[derive(Debug, Clone)]
pub struct Pod<'a> {
    pub attachment: &'a Attachment,
    pub policy: Arc<PodPolicy>,
    /// Where its neighbours and gateways are.
    pub on_link: Vec<IpNet>,
    /// It has as many connections as it may.
    pub full: bool,
}

/// What there shall be on the bridge.
#[derive(Debug, Default)]
pub struct Content {
    pub flows: Vec<Flow>,
    pub meters: Vec<Meter>,
    /// Policies that do not fit.
    pub too_large: Vec<String>,
}

/// Both directions of a policy, each to be shared by itself.
#[derive(Debug, Clone)]
struct Halves {
    egress: Arc<Rules>,
    ingress: Arc<Rules>,
}

/// A policy, told from others by where it is: equal ones are often the same one, and comparing them whole takes time.
#[derive(Debug)]
struct ByAddress(Arc<PodPolicy>);

impl PartialEq for ByAddress {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ByAddress {}

impl Hash for ByAddress {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// Compiled rule sets, kept while they are in use: most changes leave most of them as they are.
#[derive(Debug, Default)]
pub struct Tables {
    sets: RuleSets,
    halves: HashMap<ByAddress, Halves>,
    compiled: BTreeMap<(RuleSetId, Direction), Compiled>,
    /// Which they were compiled with.
    marks: Marks,
}

/// Flows with what they were made of.
#[derive(Debug, Clone)]
struct Compiled {
    rules: Arc<Rules>,
    /// Of the rules, in order.
    marks: Vec<Option<RuleMark>>,
    flows: Arc<Vec<Flow>>,
}

impl Compiled {
    fn new(
        id: RuleSetId,
        direction: Direction,
        rules: &Arc<Rules>,
        marks: &Marks,
    ) -> Result<Self, (Self, TooLarge)> {
        let (flows, error) = match ruleset::flows(id, direction, rules, &|origin| marks.of(origin)) {
            Ok(flows) => (Arc::new(flows), None),
            Err(error) => (Arc::default(), Some(error)),
        };
        let made = Self { rules: rules.clone(), marks: marks.of_rules(rules), flows };
        error.map_or(Ok(made.clone()), |error| Err((made, error)))
    }
}

impl Tables {
    /// `rate`: how many connections a second may begin, of each pod in each direction.
    pub fn content(&mut self, pods: &[Pod<'_>], marks: &Marks, rate: Option<NonZeroU32>) -> Content {
        let same_marks = self.marks.is_same(marks);
        self.halves = self.split(pods);
        self.sets =
            self.sets.update(self.halves.values().flat_map(|it| [it.egress.clone(), it.ingress.clone()]));
        let mut too_large = Vec::new();
        let mut compiled = BTreeMap::new();
        let (mut flows, mut meters) = (boundary::common_flows(Cookie(COOKIE)), Vec::new());
        for pod in pods {
            let attachment = pod.attachment;
            let Some(port) = attachment.overlay() else { continue };
            let (Some(binding), Some((rep, patch))) = (&port.binding, attachment::of_ports(attachment.vf))
            else {
                continue;
            };
            let Some(halves) = self.halves.get(&ByAddress(pod.policy.clone())) else { continue };
            let mut set = |direction, rules: &Arc<Rules>| {
                let id = self.sets.id(rules)?;
                let key = (id, direction);
                if let Entry::Vacant(entry) = compiled.entry(key) {
                    let is_current = |it: &&Compiled| {
                        it.rules == *rules && (same_marks || it.marks == marks.of_rules(rules))
                    };
                    let made = match self.compiled.get(&key).filter(is_current) {
                        Some(known) => known.clone(),
                        None => Compiled::new(id, direction, rules, marks).unwrap_or_else(|(none, error)| {
                            too_large.push(format!("{} ({direction:?}): {error}", attachment.owner));
                            none
                        }),
                    };
                    entry.insert(made);
                }
                Some(id)
            };
            let ids = set(Direction::Egress, &halves.egress).zip(set(Direction::Ingress, &halves.ingress));
            let Some((egress, ingress)) = ids else { continue };
            let boundary = Boundary {
                rep,
                patch,
                zone: port.zone,
                mac: binding.mac,
                ipv4: binding.ipv4(),
                ipv6: binding.ipv6(),
                on_link: pod.on_link.clone(),
                dhcp_servers: if binding.dhcp { binding.dhcp_servers.clone() } else { Vec::new() },
                egress,
                ingress,
                rate,
                full: pod.full,
                cookie: Cookie(COOKIE | u64::from(port.zone.get())),
            };
            flows.extend(boundary.flows());
            meters.extend(boundary.meters());
        }
        flows.extend(compiled.values().flat_map(|it| it.flows.iter().cloned()));
        self.compiled = compiled;
        self.marks = marks.clone();
        Content { flows, meters, too_large }
    }

    /// Egress and ingress of a policy that is in the tables.
    pub fn ids(&self, policy: &Arc<PodPolicy>) -> Option<(RuleSetId, RuleSetId)> {
        let halves = self.halves.get(&ByAddress(policy.clone()))?;
        self.sets.id(&halves.egress).zip(self.sets.id(&halves.ingress))
    }

    fn split(&self, pods: &[Pod<'_>]) -> HashMap<ByAddress, Halves> {
        let halves = |policy: &Arc<PodPolicy>| {
            let known = self.halves.get(&ByAddress(policy.clone()));
            known.cloned().unwrap_or_else(|| Halves {
                egress: Arc::new(policy.egress.clone()),
                ingress: Arc::new(policy.ingress.clone()),
            })
        };
        pods.iter().map(|pod| (ByAddress(pod.policy.clone()), halves(&pod.policy))).collect()
    }
}
