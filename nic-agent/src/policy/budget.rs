//! How much one object, one namespace and one pod may cost this NIC, whatever else there is.
//!
//! What is too large hurts its own pods and nobody else's: a policy isolates the pods that it selects and allows nothing,
//! a pod is closed in the direction concerned, a Service is refused as a whole. Always with a report that has the number
//! and the limit. Which of several objects is too much follows from the objects alone, not from the order in which they
//! came: the largest are.

use std::fmt;

use kube_services::{Limit, Limits};
use offload::policy::{Direction, PrefixSet};

use super::model::{Peer, Peers, Policy, PolicyPort, PolicyRule, Ports, Selector, Test};

/// Limits. The defaults are many times what people write, and leave the rest of a NIC's agent room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// One direction of one policy.
    pub policy: Cost,
    /// All policies of a namespace together.
    pub namespace: Cost,
    /// What a switch may need for one direction of a pod.
    pub pod_flows: usize,
    /// Of these, for Services.
    pub pod_service_flows: usize,
    pub services: Limits,
}

impl Default for Budget {
    fn default() -> Self {
        let policy = Cost { rules: 500, prefixes: 10_000, ports: 5_000, bytes: 256 << 10 };
        let namespace = Cost { rules: 5_000, prefixes: 50_000, ports: 25_000, bytes: 2 << 20 };
        let services = Limits::default();
        Self { policy, namespace, pod_flows: 100_000, pod_service_flows: 10_000, services }
    }
}

/// What policies cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost {
    /// First, as it decides which of two policies is the larger one.
    pub bytes: usize,
    pub rules: usize,
    /// Of `ipBlock`s, without their `except`s.
    pub prefixes: usize,
    /// As aligned blocks; a name is one.
    pub ports: usize,
}

/// More than there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Excess {
    pub what: &'static str,
    pub found: usize,
    pub most: usize,
    /// In `[policy.budget]`. Empty: nobody can have more.
    pub key: &'static str,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, at most {}", self.found, self.what, self.most)?;
        if self.key.is_empty() { Ok(()) } else { write!(f, " (policy.budget.{})", self.key) }
    }
}

/// The first of these that is too much.
fn excess(found: [(usize, usize, &'static str, &'static str); 4]) -> Option<Excess> {
    let (found, most, what, key) = found.into_iter().find(|(found, most, ..)| found > most)?;
    Some(Excess { what, found, most, key })
}

impl Cost {
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            rules: self.rules.saturating_add(other.rules),
            prefixes: self.prefixes.saturating_add(other.prefixes),
            ports: self.ports.saturating_add(other.ports),
        }
    }

    fn beyond_policy(&self, most: &Self) -> Option<Excess> {
        excess([
            (self.rules, most.rules, "rules", "policy-rules"),
            (self.prefixes, most.prefixes, "prefixes", "policy-prefixes"),
            (self.ports, most.ports, "ports", "policy-ports"),
            (self.bytes, most.bytes, "bytes", "policy-bytes"),
        ])
    }

    /// Of the namespace's policies together.
    pub fn beyond_namespace(&self, most: &Self) -> Option<Excess> {
        excess([
            (self.rules, most.rules, "rules in its namespace", "namespace-rules"),
            (self.prefixes, most.prefixes, "prefixes in its namespace", "namespace-prefixes"),
            (self.ports, most.ports, "ports in its namespace", "namespace-ports"),
            (self.bytes, most.bytes, "bytes in its namespace", "namespace-bytes"),
        ])
    }
}

impl From<kube_services::Excess> for Excess {
    fn from(it: kube_services::Excess) -> Self {
        let key = match it.of {
            Limit::ServicePorts => "service-ports",
            Limit::ServiceEndpoints => "service-endpoints",
            Limit::NamespacePorts => "namespace-service-ports",
            Limit::NamespaceEndpoints => "namespace-service-endpoints",
        };
        Self { what: it.of.what(), found: it.found, most: it.most, key }
    }
}

/// A policy that costs no more than it may, and what was taken from it for that.
#[derive(Debug)]
pub struct Held {
    pub policy: Policy,
    /// `None`: the selector, and so everything.
    pub excess: Vec<(Option<Direction>, Excess)>,
    pub cost: Cost,
}

impl Budget {
    /// Takes from a policy what is too much: it goes on isolating, and allows nothing there.
    pub fn hold(&self, mut policy: Policy) -> Held {
        let mut found = Vec::new();
        let hard = |count| Excess {
            what: "rules, peers, ports and values in all",
            found: count,
            most: Policy::MOST_ITEMS,
            key: "",
        };
        // Something for the object itself: there may be many that say nothing.
        let mut cost = Cost { bytes: 512 + selector_bytes(&policy.selector), ..Cost::default() };
        let of_selector = policy.unkept.selector.map(hard).or_else(|| cost.beyond_policy(&self.policy));
        if let Some(excess) = of_selector {
            // Whom it selects is not looked at any more: everybody in the namespace, rather than nobody.
            policy.selector = Selector::everything();
            policy.close();
            cost = Cost { bytes: 512, ..Cost::default() };
            found.push((None, excess));
        }
        for (direction, unkept) in
            [(Direction::Ingress, policy.unkept.ingress), (Direction::Egress, policy.unkept.egress)]
        {
            let rules = match direction {
                Direction::Ingress => &mut policy.ingress,
                Direction::Egress => &mut policy.egress,
            };
            let of_rules = rules_cost(rules, self.policy.prefixes);
            match unkept.map(hard).or_else(|| of_rules.beyond_policy(&self.policy)) {
                Some(excess) => {
                    *rules = Vec::new();
                    found.push((Some(direction), excess));
                }
                None => cost = cost.plus(of_rules),
            }
        }
        Held { policy, excess: found, cost }
    }
}

fn rules_cost(rules: &[PolicyRule], enough: usize) -> Cost {
    let mut sum = Cost { rules: rules.len(), ..Cost::default() };
    for rule in rules {
        let mut bytes = size_of::<PolicyRule>();
        if let Peers::Of(peers) = &rule.peers {
            for peer in peers {
                bytes += size_of::<Peer>();
                match peer {
                    Peer::Block { cidr, except } => {
                        bytes += size_of_val(except.as_slice());
                        let holes: PrefixSet = except.iter().copied().collect();
                        let count = match PrefixSet::from(*cidr).difference_within(&holes, enough) {
                            Ok(whole) => whole.len(),
                            Err(count) => count,
                        };
                        // Each may stand in a set of peers.
                        bytes += 16 * count;
                        sum.prefixes = sum.prefixes.saturating_add(count);
                    }
                    Peer::Pods { namespaces, pods } => {
                        bytes += selector_bytes(pods) + namespaces.as_ref().map_or(0, selector_bytes);
                    }
                }
            }
        }
        if let Ports::Of(ports) = &rule.ports {
            bytes += size_of_val(ports.as_slice());
            for port in ports {
                sum.ports += match port {
                    PolicyPort::Range(_, range) => offload::policy::PortSet::from(*range).blocks().count(),
                    PolicyPort::Named(_, name) => {
                        bytes += name.len();
                        1
                    }
                };
            }
        }
        sum.bytes = sum.bytes.saturating_add(bytes);
    }
    sum
}

fn selector_bytes(selector: &Selector) -> usize {
    let of = |test: &Test| match test {
        Test::In(values) | Test::NotIn(values) => values.iter().map(|it| 32 + it.len()).sum(),
        Test::Exists | Test::DoesNotExist => 0,
    };
    selector.requirements().map(|it| 64 + it.key.len() + of(&it.test)).sum()
}

#[cfg(test)]
mod tests;
