//! A NetworkPolicy: `networking.k8s.io/v1`, with its defaults filled in.

use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use offload::policy::PortRange;

use super::{ObjectName, Protocol, Selector};

/// "All" and "none" are different values here, where the API writes both as a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub name: ObjectName,
    pub uid: Arc<str>,
    /// The pods of its namespace that it isolates.
    pub selector: Selector,
    pub isolates: Directions,
    pub ingress: Vec<PolicyRule>,
    pub egress: Vec<PolicyRule>,
    /// What could not be read. A rule with a fault allows nothing here; a wrong selector selects every pod of the
    /// namespace; wrong types isolate in both directions.
    pub faults: Vec<Fault>,
    /// What is not here, as it was too much to be read.
    pub unkept: Unkept,
}

/// How many rules, peers, ports and values of selectors there are in a part of a policy that is left out for that. As
/// far as they were counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unkept {
    pub selector: Option<usize>,
    pub ingress: Option<usize>,
    pub egress: Option<usize>,
}

impl Policy {
    /// Of rules, peers, ports and values in one direction, or in the selector, whatever the configuration says.
    pub const MOST_ITEMS: usize = 20_000;

    /// Something of it was not read: of no part is it known that it is all there.
    pub fn cut(&mut self) {
        self.close();
        let most = Some(Self::MOST_ITEMS + 1);
        let of = &mut self.unkept;
        (of.ingress, of.egress) = (of.ingress.or(most), of.egress.or(most));
    }

    /// Leaves the rules out: it isolates, and allows nothing.
    pub fn close(&mut self) {
        (self.ingress, self.egress) = (Vec::new(), Vec::new());
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directions {
    pub ingress: bool,
    pub egress: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    pub peers: Peers,
    pub ports: Ports,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peers {
    All,
    Of(Vec<Peer>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    Block {
        cidr: IpNet,
        except: Vec<IpNet>,
    },
    /// Pods for which both hold. `None`: of the policy's own namespace.
    Pods {
        namespaces: Option<Selector>,
        pods: Selector,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ports {
    /// Every protocol, also those without ports.
    All,
    Of(Vec<PolicyPort>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyPort {
    Range(Protocol, PortRange),
    /// What the receiving pod calls so.
    Named(Protocol, Arc<str>),
}

/// A field that makes no sense, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// As `kubectl explain` names it, with indexes: `spec.ingress[0].from[1].ipBlock.cidr`.
    pub field: String,
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.what)
    }
}
