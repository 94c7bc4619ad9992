//! What a user should know of his policies.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use offload::policy::Direction;

use super::budget::Excess;
use super::model::{Fault, ObjectName, Protocol};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Report {
    /// The policy has fields that make no sense.
    Faulty { policy: ObjectName, faults: Vec<Fault>, in_force: InForce },
    /// These policies together allow these pods a part of a Service's ready backends, or name its address without
    /// allowing all of them: the address is refused.
    PartlyCovered {
        service: ObjectName,
        address: IpAddr,
        protocol: Protocol,
        port: u16,
        policies: Vec<ObjectName>,
        pods: Vec<ObjectName>,
        /// How many backends are allowed.
        covered: usize,
        /// Some of those that are not.
        uncovered: Vec<(IpAddr, u16)>,
        /// How many there are besides.
        more: usize,
    },
    /// More than it may be, so that it could hurt others: it hurts its own.
    OverBudget { of: Overrun, excess: Excess },
    /// More of this kind, of objects of this namespace.
    More { namespace: Arc<str>, count: usize },
    /// Addresses of these pods, or of endpoints, count for nothing.
    Disbelieved { why: Disbelief, some: Vec<ObjectName>, count: usize },
}

impl Report {
    /// So many objects are named; the rest is counted.
    pub const SOME: usize = 3;
}

/// What is too much.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Overrun {
    /// A policy, in this direction; `None`: its selector, and so the whole of it.
    Policy {
        policy: ObjectName,
        direction: Option<Direction>,
    },
    /// A policy, together with the smaller ones of its namespace.
    Together {
        policy: ObjectName,
        is_dropped: bool,
    },
    /// All that applies to a pod.
    Pod {
        pod: ObjectName,
        direction: Direction,
    },
    Service(ObjectName),
    /// The Services of these namespaces, for the pods of these policies.
    Services {
        policies: Vec<ObjectName>,
        namespaces: Vec<Arc<str>>,
    },
}

impl fmt::Display for Overrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy { policy, direction: Some(direction) } => {
                write!(f, "NetworkPolicy {policy}, {}", side(*direction))
            }
            Self::Policy { policy, direction: None } => write!(f, "NetworkPolicy {policy}, spec.podSelector"),
            Self::Together { policy, .. } => write!(f, "NetworkPolicy {policy}"),
            Self::Pod { pod, direction } => write!(f, "Pod {pod}, {}", side(*direction)),
            Self::Service(service) => write!(f, "Service {service}"),
            Self::Services { policies, namespaces } => {
                let policies: Vec<String> = policies.iter().map(ToString::to_string).collect();
                write!(f, "Services of {}, for the pods of {}", namespaces.join(", "), policies.join(", "))
            }
        }
    }
}

fn side(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// Why an address that somebody says is a pod's is not taken for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disbelief {
    /// Of a pod that its node made by itself.
    Mirror { node: Arc<str> },
    /// Of a node without a NIC, or of its NIC, outside of what is confirmed for it.
    NotConfirmed { node: Arc<str> },
    /// Of a pod on its node's network, and not known to be that node's.
    NotTheNodes { node: Arc<str> },
    /// Of a node with a NIC, which says otherwise, or nothing.
    NotTheNics { node: Arc<str> },
    /// Of a NIC, of a pod of another node.
    OtherNode { node: Arc<str> },
    /// No address at all, said by this node or, of a slice, by nobody knows whom.
    Unreadable { node: Option<Arc<str>> },
}

impl Disbelief {
    /// For programs.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Mirror { .. } => "MirrorPods",
            Self::NotConfirmed { .. } => "AddressesNotConfirmed",
            Self::NotTheNodes { .. } => "HostAddressesNotConfirmed",
            Self::NotTheNics { .. } => "AddressesNotTheNICs",
            Self::OtherNode { .. } => "PodsOfAnotherNode",
            Self::Unreadable { .. } => "AddressesUnreadable",
        }
    }

    /// By whose word it is.
    pub fn node(&self) -> Option<&Arc<str>> {
        match self {
            Self::Mirror { node }
            | Self::NotConfirmed { node }
            | Self::NotTheNodes { node }
            | Self::NotTheNics { node }
            | Self::OtherNode { node } => Some(node),
            Self::Unreadable { node } => node.as_ref(),
        }
    }
}

impl fmt::Display for Disbelief {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mirror { node } => {
                write!(
                    f,
                    "node {node} made pods by itself (mirror pods), which are nobody's peers or endpoints"
                )
            }
            Self::NotConfirmed { node } => write!(
                f,
                "node {node} says addresses of pods that are not confirmed to be its own (NodeRange {node}, \
                 status.ranges), which count for nothing"
            ),
            Self::NotTheNodes { node } => write!(
                f,
                "node {node} says addresses of pods on its network that are not confirmed to be its own (NodeRange \
                 {node}, status.addresses), which count for nothing as endpoints"
            ),
            Self::NotTheNics { node } => {
                write!(f, "node {node} says addresses of pods that its NIC does not, which count for nothing")
            }
            Self::OtherNode { node } => {
                write!(
                    f,
                    "the NIC of node {node} says addresses of another node's pods, which count for nothing"
                )
            }
            Self::Unreadable { node } => {
                if let Some(node) = node {
                    write!(f, "of node {node}: ")?;
                }
                f.write_str(
                    "what is no address such as 10.0.0.1 or fd00::1 (leading zeros, IPv4 written as IPv6) counts for \
                     nothing",
                )
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InForce {
    /// What it said before it was wrong.
    LastGood,
    /// It isolates, and its wrong rules allow nothing.
    Closed,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Faulty { policy, faults, in_force } => {
                write!(f, "NetworkPolicy {policy}: ")?;
                for fault in faults {
                    write!(f, "{fault}; ")?;
                }
                f.write_str(match in_force {
                    InForce::LastGood => "what it said before stays in force",
                    InForce::Closed => "it isolates its pods, and the wrong rules allow nothing",
                })
            }
            Self::PartlyCovered {
                service,
                address,
                protocol,
                port,
                policies,
                pods,
                covered,
                uncovered,
                more,
            } => {
                let list = |names: &[ObjectName]| {
                    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
                };
                write!(
                    f,
                    "Service {service} ({address} {protocol} {port}) is refused to {}: {} allow {covered} of its \
                     ready backends and not ",
                    list(pods),
                    list(policies),
                )?;
                let backends: Vec<String> = uncovered
                    .iter()
                    .map(|(ip, port)| std::net::SocketAddr::new(*ip, *port).to_string())
                    .collect();
                f.write_str(&backends.join(", "))?;
                if *more > 0 {
                    write!(f, " and {more} more")?;
                }
                f.write_str("; allow these, too, or none")
            }
            Self::OverBudget { of, excess } => {
                write!(f, "{of}: {excess}; ")?;
                f.write_str(match of {
                    Overrun::Policy { direction: None, .. } => {
                        "it isolates every pod of its namespace, and allows nothing; make it smaller"
                    }
                    Overrun::Policy { .. } => {
                        "it isolates its pods, and allows nothing there; make it smaller, or several of it"
                    }
                    Overrun::Together { is_dropped: false, .. } => {
                        "it isolates its pods, and allows nothing, as one of the largest; make it smaller"
                    }
                    Overrun::Together { is_dropped: true, .. } => {
                        "it isolates its pods, and allows nothing, as one of the largest; make it smaller, or write \
                         it again when there is room"
                    }
                    Overrun::Pod { .. } => "nothing passes there; let fewer or simpler policies select it",
                    Overrun::Service(_) => {
                        "its addresses are refused to pods whose egress is isolated; make several Services of it"
                    }
                    Overrun::Services { .. } => {
                        "their addresses are refused to these pods where not all of them is allowed; name fewer \
                         addresses in these policies"
                    }
                })
            }
            Self::More { namespace, count } => {
                write!(f, "{count} more of such in namespace {namespace}; mend those that are named first")
            }
            Self::Disbelieved { why, some, count } => {
                let names: Vec<String> = some.iter().map(ToString::to_string).collect();
                write!(f, "{why}: {}", names.join(", "))?;
                match count.saturating_sub(some.len()) {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
        }
    }
}

/// Of a namespace's policies, and of its Services, so many are said one by one; the others are counted.
const SOME: usize = 20;

/// The first of each namespace, and how many more there are.
pub(super) fn some_of_each<'a>(reports: impl Iterator<Item = (&'a Arc<str>, Report)>) -> Vec<Report> {
    let mut by_namespace: BTreeMap<&Arc<str>, Vec<Report>> = BTreeMap::new();
    for (namespace, report) in reports {
        by_namespace.entry(namespace).or_default().push(report);
    }
    let mut all = Vec::new();
    for (namespace, mut reports) in by_namespace {
        reports.sort();
        let count = reports.len().saturating_sub(SOME);
        reports.truncate(SOME);
        all.extend(reports);
        if count > 0 {
            all.push(Report::More { namespace: namespace.clone(), count });
        }
    }
    all
}
