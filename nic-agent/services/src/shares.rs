//! How much Services may cost whoever serves them: on the NICs, and in OVN. What is too much is refused as a whole, and
//! costs its own namespace alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::backing::Backing;
use crate::object::{Endpoint, EndpointSlice, ObjectName, Service};

/// What Services cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Served {
    /// Ports of each address.
    pub ports: usize,
    /// Usable ones, of each of these ports.
    pub endpoints: usize,
}

/// The most that there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub service: Served,
    /// All Services of a namespace together.
    pub namespace: Served,
}

impl Default for Limits {
    /// Many times what people write.
    fn default() -> Self {
        Self {
            service: Served { ports: 500, endpoints: 20_000 },
            namespace: Served { ports: 5_000, endpoints: 100_000 },
        }
    }
}

/// Of what there is more than there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    ServicePorts,
    ServiceEndpoints,
    NamespacePorts,
    NamespaceEndpoints,
}

impl Limit {
    pub const fn what(self) -> &'static str {
        match self {
            Self::ServicePorts => "ports of its addresses",
            Self::ServiceEndpoints => "endpoints of its ports",
            Self::NamespacePorts => "ports of Services in its namespace",
            Self::NamespaceEndpoints => "endpoints of Services in its namespace",
        }
    }
}

/// Why a Service is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excess {
    pub of: Limit,
    pub found: usize,
    pub most: usize,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, at most {}", self.found, self.of.what(), self.most)
    }
}

impl Served {
    fn plus(self, other: Self) -> Self {
        Self {
            ports: self.ports.saturating_add(other.ports),
            endpoints: self.endpoints.saturating_add(other.endpoints),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            ports: self.ports.saturating_sub(other.ports),
            endpoints: self.endpoints.saturating_sub(other.endpoints),
        }
    }

    fn beyond(self, most: Self, ports: Limit, endpoints: Limit) -> Option<Excess> {
        let both = [(ports, self.ports, most.ports), (endpoints, self.endpoints, most.endpoints)];
        let (of, found, most) = both.into_iter().find(|(_, found, most)| found > most)?;
        Some(Excess { of, found, most })
    }
}

impl Limits {
    fn of_service(&self, cost: Served) -> Option<Excess> {
        cost.beyond(self.service, Limit::ServicePorts, Limit::ServiceEndpoints)
    }

    fn of_namespace(&self, cost: Served) -> Option<Excess> {
        cost.beyond(self.namespace, Limit::NamespacePorts, Limit::NamespaceEndpoints)
    }

    /// What the Service costs; `None` if it has no address. Of what is too much already, no more is counted.
    pub fn cost<'a>(
        &self,
        service: &Service,
        slices: impl Iterator<Item = &'a EndpointSlice> + Clone,
    ) -> Option<Served> {
        if service.cluster_ips.is_empty() {
            return None;
        }
        let ports = service.ports_found.saturating_mul(service.cluster_ips.len());
        let mut cost = Served { ports, endpoints: 0 };
        if self.of_service(cost).is_some() {
            return Some(cost);
        }
        let cut = slices.clone().filter(|slice| slice.is_cut).count();
        cost.endpoints = cut.saturating_mul(self.service.endpoints.saturating_add(1));
        let backing = Backing::new(service, slices, |_: &Endpoint| true);
        for address in &service.cluster_ips {
            for port in &service.ports {
                cost.endpoints = cost.endpoints.saturating_add(backing.count(port, address.is_ipv4()));
            }
        }
        Some(cost)
    }
}

/// What the Services cost, and which are refused: each that is too much by itself; of the others of a namespace the largest,
/// while they are too much together. That follows from the objects alone, not from the order in which they came.
#[derive(Debug)]
pub struct Shares {
    limits: Limits,
    of: BTreeMap<Arc<str>, OfNamespace>,
    /// Namespaces of which some are refused.
    exceeding: BTreeSet<Arc<str>>,
    changed: bool,
}

#[derive(Debug, Default)]
struct OfNamespace {
    sum: Served,
    by_name: BTreeMap<ObjectName, Served>,
    refused: BTreeMap<ObjectName, Excess>,
}

impl Shares {
    pub fn new(limits: Limits) -> Self {
        Self { limits, of: BTreeMap::new(), exceeding: BTreeSet::new(), changed: false }
    }

    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn refuses(&self, name: &ObjectName) -> bool {
        self.of.get(&name.namespace).is_some_and(|it| it.refused.contains_key(name))
    }

    /// All that are refused.
    pub fn refused(&self) -> impl Iterator<Item = (&ObjectName, Excess)> {
        let all = self.exceeding.iter().filter_map(|it| self.of.get(it));
        all.flat_map(|it| it.refused.iter().map(|(name, excess)| (name, *excess)))
    }

    /// May [`Self::refused`] be others than when this was last asked?
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Takes what a Service costs now ([`Limits::cost`]), `None` if it is gone. Returns those that are refused now, or are
    /// not any more.
    pub fn set(&mut self, name: &ObjectName, cost: Option<Served>) -> BTreeSet<ObjectName> {
        let limits = self.limits;
        let namespace = &name.namespace;
        if cost.is_none() && !self.of.contains_key(namespace) {
            return BTreeSet::new();
        }
        let shares = self.of.entry(namespace.clone()).or_default();
        // What is refused by itself takes nothing from the others.
        let counted = |it: Served| if limits.of_service(it).is_some() { Served::default() } else { it };
        let before = match cost {
            Some(cost) => shares.by_name.insert(name.clone(), cost),
            None => shares.by_name.remove(name),
        };
        shares.sum = shares.sum.minus(before.map(counted).unwrap_or_default());
        shares.sum = shares.sum.plus(cost.map(counted).unwrap_or_default());
        let together = limits.of_namespace(shares.sum);
        let alone = cost.and_then(|it| limits.of_service(it));
        let refused = if together.is_none() && alone.is_none() && shares.refused.is_empty() {
            BTreeMap::new()
        } else {
            shares.too_much(&limits, together)
        };
        let is_other = |name: &&ObjectName| refused.contains_key(*name) != shares.refused.contains_key(*name);
        let moved = refused.keys().chain(shares.refused.keys()).filter(is_other).cloned().collect();
        self.changed |= shares.refused != refused;
        if refused.is_empty() {
            self.exceeding.remove(namespace);
        } else {
            self.exceeding.insert(namespace.clone());
        }
        shares.refused = refused;
        if shares.by_name.is_empty() {
            self.of.remove(namespace);
        }
        moved
    }
}

impl OfNamespace {
    fn too_much(&self, limits: &Limits, together: Option<Excess>) -> BTreeMap<ObjectName, Excess> {
        let mut by_size: Vec<(Served, &ObjectName)> =
            self.by_name.iter().map(|(name, it)| (*it, name)).collect();
        by_size.sort();
        let (mut sum, mut refused) = (Served::default(), BTreeMap::new());
        for (cost, name) in by_size {
            if let Some(alone) = limits.of_service(cost) {
                refused.insert(name.clone(), alone);
                continue;
            }
            sum = sum.plus(cost);
            if let (Some(together), Some(_)) = (together, limits.of_namespace(sum)) {
                refused.insert(name.clone(), together);
            }
        }
        refused
    }
}

#[cfg(test)]
mod tests;
