//! What one policy means in rules, as far as it is the same for all pods that it selects.

use std::collections::BTreeMap;
use std::sync::Arc;

use offload::policy::{Direction, PortRange, PortSet, PrefixSet, Rule, Traffic, Transports};

use crate::policy::index::{Index, Scope, SetId, SetKey};
use crate::policy::layers::NETWORK;
use crate::policy::layers::rule::{allow, matches_nothing, transports};
use crate::policy::model::{Peer, Peers, Pod, Policy, PolicyPort, PolicyRule, Ports, Protocol};
use crate::policy::origins::{OriginKey, Origins};

/// One rule of the policy, its peers looked up.
#[derive(Debug)]
struct Part {
    /// The rule in words: a part of its name.
    text: Arc<str>,
    /// `None`: everybody.
    peers: Option<SetId>,
    /// Where a name of a port is looked up: the receivers' pods. Only of egress, and only if there are names.
    receivers: Option<SetId>,
    /// `None`: every protocol.
    numbers: Option<Transports>,
    names: Vec<(Protocol, Arc<str>)>,
}

/// An ingress rule; a name in it is the selected pod's own.
#[derive(Debug, PartialEq, Eq)]
struct IngressRule {
    rule: Rule,
    names: Vec<(Protocol, Arc<str>)>,
}

#[derive(Debug)]
pub struct Program {
    ingress: Vec<Part>,
    egress: Vec<Part>,
    ingress_rules: Vec<IngressRule>,
    pub egress_rules: Vec<Rule>,
}

impl Program {
    pub fn new(policy: &Policy, index: &mut Index) -> Self {
        let mut part = |rule: &PolicyRule, direction| {
            let (numbers, names) = split(&rule.ports);
            let looked_up: &[_] = if direction == Direction::Egress { &names } else { &[] };
            let mut acquire = |key| index.acquire_set(key, looked_up);
            let peers = match &rule.peers {
                Peers::All => None,
                Peers::Of(peers) => Some(acquire(set_of(peers, &policy.name.namespace))),
            };
            let receivers =
                (!looked_up.is_empty()).then(|| peers.unwrap_or_else(|| acquire(SetKey::every_pod())));
            Part { text: rule.to_string().into(), peers, receivers, numbers, names }
        };
        // What the types do not name is not in force (NetworkPolicySpec.policyTypes).
        let ingress = policy.ingress.iter().filter(|_| policy.isolates.ingress);
        let ingress = ingress.map(|it| part(it, Direction::Ingress)).collect();
        let egress = policy.egress.iter().filter(|_| policy.isolates.egress);
        let egress = egress.map(|it| part(it, Direction::Egress)).collect();
        Self { ingress, egress, ingress_rules: Vec::new(), egress_rules: Vec::new() }
    }

    pub fn release(self, index: &mut Index) {
        for id in self.sets() {
            index.release_set(id);
        }
    }

    /// Those that it has acquired, each as often as it has: a rule's receivers are its peers, if it has any.
    pub fn sets(&self) -> impl Iterator<Item = SetId> {
        self.ingress.iter().chain(&self.egress).filter_map(|it| it.peers.or(it.receivers))
    }

    /// After a set, or an origin, has changed.
    pub fn rebuild(&mut self, policy: &Policy, index: &Index, origins: &Origins) {
        let origin = |direction, at, part: &Part| {
            let (policy, uid, text) = (policy.name.clone(), policy.uid.clone(), part.text.clone());
            origins.of(&OriginKey::Rule { policy, uid, direction, index: at, text }).unwrap_or_default()
        };
        let addresses = |part: &Part| match part.peers {
            None => PrefixSet::any(),
            Some(id) => index.set(id).map(|set| set.addresses(NETWORK).clone()).unwrap_or_default(),
        };
        let numbers = |part: &Part| part.numbers.clone().map_or(Traffic::Any, Traffic::Of);
        self.ingress_rules.clear();
        for (at, part) in self.ingress.iter().enumerate() {
            let rule = allow(addresses(part), numbers(part), origin(Direction::Ingress, at, part));
            self.ingress_rules.push(IngressRule { rule, names: part.names.clone() });
        }
        self.egress_rules.clear();
        for (at, part) in self.egress.iter().enumerate() {
            let origin = origin(Direction::Egress, at, part);
            self.egress_rules.push(allow(addresses(part), numbers(part), origin));
            let Some(receivers) = part.receivers.and_then(|id| index.set(id)) else { continue };
            let mut resolved: BTreeMap<(Protocol, u16), PrefixSet> = BTreeMap::new();
            for (protocol, name) in &part.names {
                for (port, pods) in receivers.named(NETWORK, *protocol, name) {
                    let all = resolved.entry((*protocol, port)).or_default();
                    *all = if all.is_empty() { pods.clone() } else { all.union(pods) };
                }
            }
            for ((protocol, port), pods) in resolved {
                self.egress_rules.push(allow(pods, Traffic::Of(transports(protocol, port)), origin));
            }
        }
        self.egress_rules.retain(|it| !matches_nothing(it));
    }

    /// So many at most.
    pub fn most_ingress_rules(&self) -> usize {
        self.ingress_rules.len()
    }

    /// For one of the pods that it selects.
    pub fn ingress_rules(&self, pod: &Pod) -> impl Iterator<Item = Rule> {
        let ruled = self.ingress_rules.iter().map(|it| {
            let mut rule = it.rule.clone();
            for (protocol, name) in &it.names {
                if let (Traffic::Of(all), Some(port)) = (&mut rule.traffic, pod.port(name, *protocol)) {
                    *all = std::mem::take(all).union(&transports(*protocol, port));
                }
            }
            rule
        });
        ruled.filter(|it| !matches_nothing(it))
    }
}

fn set_of(peers: &[Peer], namespace: &Arc<str>) -> SetKey {
    let mut key = SetKey::default();
    for peer in peers {
        match peer {
            Peer::Block { cidr, except } => key.add_block(*cidr, except.clone()),
            Peer::Pods { namespaces, pods } => {
                let scope = match namespaces {
                    None => Scope::Namespace(namespace.clone()),
                    Some(selector) => Scope::Namespaces(selector.clone()),
                };
                key.add_pods(scope, pods.clone());
            }
        }
    }
    key
}

/// Numbers (`None`: every protocol) and names.
fn split(ports: &Ports) -> (Option<Transports>, Vec<(Protocol, Arc<str>)>) {
    let Ports::Of(ports) = ports else { return (None, Vec::new()) };
    let mut names = Vec::new();
    // All at once: one by one would sort them all for each.
    let mut ranges: BTreeMap<Protocol, Vec<PortRange>> = BTreeMap::new();
    for port in ports {
        match port {
            PolicyPort::Range(protocol, range) => ranges.entry(*protocol).or_default().push(*range),
            PolicyPort::Named(protocol, name) => names.push((*protocol, name.clone())),
        }
    }
    let of = |(protocol, ranges): (Protocol, Vec<PortRange>)| transports(protocol, PortSet::from(ranges));
    let numbers = ranges.into_iter().map(of).fold(Transports::default(), |sum, it| sum.union(&it));
    names.sort();
    names.dedup();
    (Some(numbers), names)
}
