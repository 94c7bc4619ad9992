//! Which addresses are whose: the ranges of nodes, confirmed. Pure.
//!
//! What a Node says of its podCIDRs its own server may have written (at its creation, or while they were empty). So it is
//! a claim. It is confirmed by an operator, who names the ranges in the spec of the node's `NodeRange`; or because it fits
//! the allocator's plan ([`Allocation`]: inside of the cluster's prefixes, of the plan's size, nothing reserved) and no
//! other node has or claims it. Two claims that meet are both refused until an operator, or the end of one of the two
//! Nodes, decides: which of them came first says nothing. What is confirmed stands in the `NodeRange`'s status, which
//! nobody else writes, and stays that Node's, by its uid, until it is deleted.
//!
//! [`Held`] is what stands there, and all that rows are made of; [`decide`] says what shall stand there.

mod held;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use drawbridge_api::{Condition, ConditionStatus, NodeRange, NodeRangeStatus, range_conditions::CONFIRMED};
use ipnet::IpNet;

pub use held::{Held, overlap};

use crate::cluster::Node;

/// The allocator's plan, as the controller manager has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// `--cluster-cidr`. With none of a family, no claim of that family fits.
    pub cluster: Vec<IpNet>,
    /// Nobody's: the Services'.
    pub reserved: Vec<IpNet>,
    /// `--node-cidr-mask-size-ipv4`.
    pub v4_length: u8,
    /// `--node-cidr-mask-size-ipv6`.
    pub v6_length: u8,
}

impl Allocation {
    /// As the controller manager has it by itself.
    pub fn new(cluster: Vec<IpNet>, reserved: Vec<IpNet>) -> Self {
        Self { cluster, reserved, v4_length: 24, v6_length: 64 }
    }

    fn length(&self, range: &IpNet) -> u8 {
        if matches!(range, IpNet::V4(_)) { self.v4_length } else { self.v6_length }
    }
}

/// Why a range is not confirmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Unreadable,
    HostBits,
    OutsideOfCluster,
    NotOfPlan { length: u8 },
    Reserved(IpNet),
    SecondOfFamily,
    Held { by: Arc<str>, range: IpNet },
    Contended { with: Vec<Arc<str>> },
}

impl Refusal {
    /// For programs.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable => "Unreadable",
            Self::HostBits => "HostBits",
            Self::OutsideOfCluster => "OutsideOfCluster",
            Self::NotOfPlan { .. } => "NotOfPlan",
            Self::Reserved(_) => "Reserved",
            Self::SecondOfFamily => "SecondOfFamily",
            Self::Held { .. } => "HeldByAnother",
            Self::Contended { .. } => "Contended",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => f.write_str("is no prefix"),
            Self::HostBits => f.write_str("has bits set after its length"),
            Self::OutsideOfCluster => f.write_str("is outside of --cluster-cidr"),
            Self::NotOfPlan { length } => {
                write!(f, "is no /{length}, as the plan has it: name it in spec.ranges if it is meant")
            }
            Self::Reserved(range) => write!(f, "overlaps {range}, which is reserved"),
            Self::SecondOfFamily => {
                f.write_str("is a second range of its family: name both in spec.ranges if they are meant")
            }
            Self::Held { by, range } => write!(f, "overlaps {range}, which is confirmed for {by}"),
            Self::Contended { with } => {
                let few: Vec<&str> = with.iter().take(3).map(|name| &**name).collect();
                write!(
                    f,
                    "is claimed for {}{}, too: nobody has it until spec.ranges of one names it",
                    few.join(", "),
                    if with.len() > few.len() { " and others" } else { "" }
                )
            }
        }
    }
}

/// What shall stand in a node's `NodeRange`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// There is no such Node, and no operator has said anything of it.
    Delete,
    Status(Box<NodeRangeStatus>),
}

/// A range, as it was written.
struct Claim<'a> {
    node: &'a Arc<str>,
    text: &'a str,
    verdict: Result<IpNet, Refusal>,
}

/// Prefixes as they are written: without host bits, and in no form that another reads otherwise. (`IpNet`'s own parser
/// takes 010.244.1.0/24, which is 8.244.1.0 to some.)
fn read(text: &str) -> Result<IpNet, Refusal> {
    let (ip, length) = text.split_once('/').ok_or(Refusal::Unreadable)?;
    let ip: IpAddr = ip.parse().map_err(|_| Refusal::Unreadable)?;
    let bits: u8 = length.parse().map_err(|_| Refusal::Unreadable)?;
    if bits.to_string() != length {
        return Err(Refusal::Unreadable);
    }
    let range = IpNet::new(ip, bits).map_err(|_| Refusal::Unreadable)?;
    if range.addr() == range.network() { Ok(range) } else { Err(Refusal::HostBits) }
}

/// What holds for every claim.
fn fits_cluster(allocation: &Allocation, range: IpNet) -> Result<IpNet, Refusal> {
    if let Some(reserved) = allocation.reserved.iter().find(|it| overlap(it, &range)) {
        return Err(Refusal::Reserved(*reserved));
    }
    let inside = allocation.cluster.iter().any(|cluster| cluster.contains(&range));
    if inside { Ok(range) } else { Err(Refusal::OutsideOfCluster) }
}

/// And for what no operator has said.
fn fits_plan(allocation: &Allocation, range: IpNet) -> Result<IpNet, Refusal> {
    let length = allocation.length(&range);
    if range.prefix_len() == length { Ok(range) } else { Err(Refusal::NotOfPlan { length }) }
}

/// Of the operator, if he has said anything.
fn spoken(object: Option<&NodeRange>) -> Option<&[String]> {
    object.map(|it| it.spec.ranges.as_slice()).filter(|ranges| !ranges.is_empty())
}

/// What shall stand in each `NodeRange`, from the Nodes and what stands there.
pub fn decide(
    allocation: &Allocation,
    nodes: &BTreeMap<Arc<str>, Node>,
    objects: &BTreeMap<Arc<str>, NodeRange>,
    standing: &Held,
    now: &str,
) -> BTreeMap<Arc<str>, Decision> {
    // What stands, but for what an operator has named otherwise.
    let mut held = Held::default();
    for name in nodes.keys() {
        let named = spoken(objects.get(name))
            .map(|texts| -> Vec<IpNet> { texts.iter().filter_map(|text| read(text).ok()).collect() });
        let kept = standing.sole(name).filter(|range| named.as_ref().is_none_or(|it| it.contains(range)));
        held.set(name, kept.collect());
    }
    // An operator's word may come before its Node. It counts before any Node's.
    let mut operators = Vec::new();
    for (node, object) in objects {
        for text in spoken(Some(object)).unwrap_or_default() {
            let verdict = read(text).and_then(|range| fits_cluster(allocation, range));
            operators.push(Claim { node, text, verdict });
        }
    }
    settle(&mut operators, &mut held);
    let mut plan = Vec::new();
    for (name, node) in nodes.iter().filter(|(name, _)| spoken(objects.get(*name)).is_none()) {
        let mut families: Vec<bool> = Vec::new();
        for text in &node.pod_cidrs {
            let verdict = read(text)
                .and_then(|range| fits_cluster(allocation, range))
                .and_then(|range| fits_plan(allocation, range))
                .and_then(|range| {
                    let v4 = matches!(range, IpNet::V4(_));
                    let mut others = held.of(name).filter(|it| *it != range);
                    let second = families.contains(&v4) || others.any(|it| matches!(it, IpNet::V4(_)) == v4);
                    families.push(v4);
                    if second { Err(Refusal::SecondOfFamily) } else { Ok(range) }
                });
            plan.push(Claim { node: name, text, verdict });
        }
    }
    settle(&mut plan, &mut held);
    let mut claims: BTreeMap<&Arc<str>, Vec<&Claim<'_>>> = BTreeMap::new();
    for claim in operators.iter().chain(&plan) {
        claims.entry(claim.node).or_default().push(claim);
    }
    let names = nodes.keys().chain(objects.keys().filter(|name| !nodes.contains_key(*name)));
    let of = |name: &Arc<str>| {
        let claims = claims.get(name).map(Vec::as_slice).unwrap_or_default();
        let decision = decision(allocation, nodes.get(name), objects.get(name), &held, name, claims, now);
        (Arc::clone(name), decision)
    };
    names.map(of).collect()
}

/// What nobody holds and nobody else claims is held from now on.
fn settle(claims: &mut [Claim<'_>], held: &mut Held) {
    for claim in claims.iter_mut() {
        let Ok(range) = claim.verdict else { continue };
        let other = held.overlapping(&range, claim.node).next();
        if let Some((by, range)) = other {
            claim.verdict = Err(Refusal::Held { by, range });
        }
    }
    let mut claimed = Held::default();
    for claim in claims.iter() {
        if let Ok(range) = &claim.verdict {
            claimed.add(claim.node, *range);
        }
    }
    for claim in claims {
        let Ok(range) = claim.verdict else { continue };
        let mut with: Vec<Arc<str>> = claimed.overlapping(&range, claim.node).map(|(name, _)| name).collect();
        with.sort_unstable();
        with.dedup();
        if with.is_empty() {
            held.add(claim.node, range);
        } else {
            claim.verdict = Err(Refusal::Contended { with });
        }
    }
}

fn decision(
    allocation: &Allocation,
    node: Option<&Node>,
    object: Option<&NodeRange>,
    held: &Held,
    name: &str,
    claims: &[&Claim<'_>],
    now: &str,
) -> Decision {
    let refused = claims.iter().filter_map(|claim| Some((claim.text, claim.verdict.as_ref().err()?)));
    let refused: Vec<(&str, &Refusal)> = refused.collect();
    let no =
        |reason: &str, message: String| Condition::new(CONFIRMED, ConditionStatus::False, reason, message);
    let by = if spoken(object).is_some() { "Operator" } else { "Plan" };
    let condition = match (node, refused.first()) {
        (None, _) if object.is_none_or(|it| it.spec.ranges.is_empty() && it.spec.addresses.is_empty()) => {
            return Decision::Delete;
        }
        (None, None) => no("NoNode", "reserved: there is no Node of this name yet".to_owned()),
        (_, Some((_, first))) => {
            let all: Vec<String> = refused.iter().map(|(text, why)| format!("{text} {why}")).collect();
            no(first.reason(), all.join("; "))
        }
        (Some(_), None) if held.of(name).next().is_none() => {
            let what = if allocation.cluster.is_empty() {
                "cluster-controller has no --cluster-cidr, and spec.ranges names nothing"
            } else {
                "the Node has no podCIDRs yet, and spec.ranges names nothing"
            };
            no("NothingClaimed", what.to_owned())
        }
        (Some(_), None) => Condition::new(CONFIRMED, ConditionStatus::True, by, ""),
    };
    let before = object.and_then(|it| it.status.as_ref());
    let generation = object.and_then(|it| it.metadata.generation);
    let addresses = object.map(addresses).unwrap_or_default();
    let ranges = if node.is_some() { held.of(name).map(|it| it.to_string()).collect() } else { Vec::new() };
    let conditions = before.map(|it| it.conditions.as_slice()).unwrap_or_default();
    Decision::Status(Box::new(NodeRangeStatus {
        observed_generation: generation,
        node_uid: node.map(|it| it.uid.to_string()),
        ranges,
        addresses: addresses.iter().map(ToString::to_string).collect(),
        conditions: vec![condition.of(generation).after(conditions, now)],
    }))
}

/// The server's own, by an operator's word.
pub fn addresses(object: &NodeRange) -> Vec<IpAddr> {
    let read = object.spec.addresses.iter().filter_map(|text| text.parse().ok());
    read.collect()
}
