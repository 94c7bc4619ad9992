//! What a group's rules are to say of Services, kept as their ports come and go: a group may have to do with all of a
//! cluster's, and one of them is not worth looking at the others.

use std::collections::BTreeMap;
use std::net::IpAddr;

use imbl::OrdMap;
use offload::policy::{Action, PrefixSet, Rule, Traffic};

use super::judge::Standing;
use crate::policy::index::Front;
use crate::policy::layers::rule::{allow, transports};
use crate::policy::model::Protocol;
use crate::policy::origins::{OriginKey, Origins};

type ByPort = BTreeMap<(Protocol, u16), Addresses>;

#[derive(Clone, Debug, Default)]
pub struct Ruled {
    refused: ByPort,
    /// In every protocol.
    refused_whole: Addresses,
    allowed: ByPort,
}

/// Those that at least one port of a Service put here.
#[derive(Clone, Debug, Default)]
struct Addresses {
    set: PrefixSet,
    /// How often, where it is more than once: Services that share an address, or ports that are refused as a whole.
    often: OrdMap<IpAddr, usize>,
}

impl Addresses {
    fn put(&mut self, ip: IpAddr) {
        if self.set.contains(ip) {
            *self.often.entry(ip).or_insert(1) += 1;
        } else {
            self.set.insert(ip);
        }
    }

    fn take(&mut self, ip: IpAddr) {
        match self.often.get(&ip).copied() {
            None => self.set.remove(ip),
            Some(2) => {
                self.often.remove(&ip);
            }
            Some(count) => {
                self.often.insert(ip, count - 1);
            }
        }
    }
}

impl Ruled {
    /// `is_coarse`: the ports of its Service are not told from each other.
    pub fn put(&mut self, front: &Front, standing: &Standing, is_coarse: bool) {
        self.change(front, standing, is_coarse, Addresses::put);
    }

    /// What was put.
    pub fn take(&mut self, front: &Front, standing: &Standing, is_coarse: bool) {
        self.change(front, standing, is_coarse, Addresses::take);
    }

    fn change(
        &mut self,
        front: &Front,
        standing: &Standing,
        is_coarse: bool,
        change: fn(&mut Addresses, IpAddr),
    ) {
        let is_whole = front.is_whole || is_coarse;
        let by_port = match standing {
            Standing::Refused { is_named: true, .. } if is_whole => {
                return change(&mut self.refused_whole, front.address);
            }
            Standing::Refused { is_named: true, .. } => &mut self.refused,
            Standing::Covered { is_named: false } if !is_whole => &mut self.allowed,
            // A rule says it already, or none does.
            Standing::Refused { .. } | Standing::Covered { .. } => return,
        };
        let port = (front.protocol, front.port);
        let addresses = by_port.entry(port).or_default();
        change(addresses, front.address);
        if addresses.set.is_empty() {
            by_port.remove(&port);
        }
    }

    /// Whatever else is said of it.
    pub fn allow(&mut self, front: &Front) {
        self.allowed.entry((front.protocol, front.port)).or_default().put(front.address);
    }

    /// Refusals and allowances.
    pub fn rules(&self, origins: &Origins) -> (Vec<Rule>, Vec<Rule>) {
        let make = |by_port: &ByPort, action, key: &OriginKey| {
            let origin = origins.of(key).unwrap_or_default();
            let rule = |((protocol, port), ips): (&(Protocol, u16), &Addresses)| Rule {
                action,
                ..allow(ips.set.clone(), Traffic::Of(transports(*protocol, *port)), origin)
            };
            by_port.iter().map(rule).collect::<Vec<_>>()
        };
        let mut refusals = make(&self.refused, Action::Deny, &OriginKey::ServiceRefused);
        if !self.refused_whole.set.is_empty() {
            let origin = origins.of(&OriginKey::ServiceRefused).unwrap_or_default();
            let peers = self.refused_whole.set.clone();
            refusals.push(Rule { action: Action::Deny, ..allow(peers, Traffic::Any, origin) });
        }
        (refusals, make(&self.allowed, Action::Allow, &OriginKey::ServiceCovered))
    }
}
