//! What a user should know of his policies.

use std::fmt;
use std::net::IpAddr;

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
        uncovered: Vec<(IpAddr, u16)>,
    },
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
            Self::PartlyCovered { service, address, protocol, port, policies, pods, covered, uncovered } => {
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
                write!(f, "{}; allow these, too, or none", backends.join(", "))
            }
        }
    }
}
