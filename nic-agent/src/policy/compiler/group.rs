//! The pods that the same policies isolate on egress, and which Services these policies together cover.
//!
//! A ClusterIP is what the sending pod's boundary sees; Kubernetes' rules speak of the pods behind it. So it is allowed
//! when every ready backend is, by whichever rule, and never in part. Where a rule names the address itself (an ipBlock
//! that holds it), it is refused before that rule is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use offload::policy::{Action, PrefixSet, Rule, Traffic, Transport};

use super::program::{allow, transports};
use super::services::{Front, FrontId, Services};
use crate::policy::model::{ObjectName, Protocol};
use crate::policy::origins::{OriginKey, Origins};

/// How the policies stand to one port of a Service. Not said of those that no rule has to do with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Covered,
    Refused {
        /// A rule names the address itself.
        is_named: bool,
        covered: usize,
        uncovered: Vec<(IpAddr, u16)>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Group {
    pub users: BTreeSet<ObjectName>,
    pub standings: BTreeMap<FrontId, Standing>,
    /// Made of `standings`: refusals, to stand first, and allowances.
    pub refusals: Vec<Rule>,
    pub allowances: Vec<Rule>,
}

fn transport(protocol: Protocol, port: u16) -> Transport {
    match protocol {
        Protocol::Tcp => Transport::Tcp { src: 0, dst: port },
        Protocol::Udp => Transport::Udp { src: 0, dst: port },
        Protocol::Sctp => Transport::Sctp { src: 0, dst: port },
    }
}

fn covers(rules: &[&Rule], ip: IpAddr, protocol: Protocol, port: u16) -> bool {
    let transport = transport(protocol, port);
    rules.iter().any(|rule| rule.traffic.covers(transport, ip.is_ipv6()) && rule.peers.contains(ip))
}

fn judge(rules: &[&Rule], front: &Front) -> Option<Standing> {
    let (covered, uncovered): (Vec<_>, Vec<_>) =
        front.backends.iter().partition(|(ip, port)| covers(rules, *ip, front.protocol, *port));
    if uncovered.is_empty() && !covered.is_empty() {
        return Some(Standing::Covered);
    }
    let is_named = covers(rules, front.address, front.protocol, front.port);
    (is_named || !covered.is_empty()).then_some(Standing::Refused {
        is_named,
        covered: covered.len(),
        uncovered,
    })
}

/// May the pod with these addresses, of which it is itself one or more backends, use it? Nothing denies a pod itself.
pub(super) fn is_covered_for(rules: &[&Rule], front: &Front, own: &[IpAddr]) -> bool {
    let is_allowed =
        |(ip, port): &(IpAddr, u16)| own.contains(ip) || covers(rules, *ip, front.protocol, *port);
    !front.backends.is_empty() && front.backends.iter().all(is_allowed)
}

/// Everything is allowed: no Service needs a rule, and none is refused.
pub(super) fn is_open(rules: &[&Rule]) -> bool {
    let any = PrefixSet::any();
    rules.iter().any(|rule| rule.traffic == Traffic::Any && rule.peers == any)
}

impl Group {
    /// Asks about every Service that a rule has to do with. Says whether anything changed.
    pub fn judge_all(&mut self, rules: &[&Rule], services: &Services, origins: &Origins) -> bool {
        let mut candidates = BTreeSet::new();
        if !is_open(rules) {
            let mut walked: Vec<&PrefixSet> = Vec::new();
            for rule in rules {
                if walked.contains(&&rule.peers) {
                    continue;
                }
                walked.push(&rule.peers);
                let v4 = rule.peers.v4().iter().copied().map(IpNet::from);
                for net in v4.chain(rule.peers.v6().iter().copied().map(IpNet::from)) {
                    let range = net.network()..=net.broadcast();
                    candidates.extend(services.with_backends_in(range.clone()));
                    candidates.extend(services.with_address_in(range));
                }
            }
        }
        let known = |id: &FrontId| services.front(*id).and_then(|front| Some((*id, judge(rules, front)?)));
        let standings = candidates.iter().filter_map(known).collect();
        let is_changed = self.standings != standings;
        self.standings = standings;
        self.rebuild(services, origins);
        is_changed
    }

    /// Asks about these alone.
    pub fn judge_some(
        &mut self,
        fronts: &BTreeSet<FrontId>,
        rules: &[&Rule],
        services: &Services,
        origins: &Origins,
    ) -> bool {
        let open = is_open(rules);
        let mut is_changed = false;
        for id in fronts {
            let standing =
                if open { None } else { services.front(*id).and_then(|front| judge(rules, front)) };
            if self.standings.get(id) == standing.as_ref() {
                continue;
            }
            is_changed = true;
            match standing {
                Some(standing) => self.standings.insert(*id, standing),
                None => self.standings.remove(id),
            };
        }
        if is_changed {
            self.rebuild(services, origins);
        }
        is_changed
    }

    fn rebuild(&mut self, services: &Services, origins: &Origins) {
        (self.refusals, self.allowances) = self.rules(&BTreeSet::new(), services, origins);
    }

    /// Refusals and allowances, with these allowed besides.
    pub fn rules(
        &self,
        besides: &BTreeSet<FrontId>,
        services: &Services,
        origins: &Origins,
    ) -> (Vec<Rule>, Vec<Rule>) {
        let mut refused: BTreeMap<(Protocol, u16), Vec<IpAddr>> = BTreeMap::new();
        let mut allowed = refused.clone();
        for (id, standing) in &self.standings {
            let Some(front) = services.front(*id).filter(|_| !besides.contains(id)) else { continue };
            let to = match standing {
                Standing::Covered => &mut allowed,
                Standing::Refused { is_named: true, .. } => &mut refused,
                Standing::Refused { .. } => continue,
            };
            to.entry((front.protocol, front.port)).or_default().push(front.address);
        }
        for front in besides.iter().filter_map(|id| services.front(*id)) {
            allowed.entry((front.protocol, front.port)).or_default().push(front.address);
        }
        let make = |by_port: BTreeMap<(Protocol, u16), Vec<IpAddr>>, action, key: &OriginKey| {
            let origin = origins.of(key).unwrap_or_default();
            let rule = |((protocol, port), ips): ((Protocol, u16), Vec<IpAddr>)| Rule {
                action,
                ..allow(ips.into_iter().collect(), Traffic::Of(transports(protocol, port)), origin)
            };
            by_port.into_iter().map(rule).collect()
        };
        (
            make(refused, Action::Deny, &OriginKey::ServiceRefused),
            make(allowed, Action::Allow, &OriginKey::ServiceCovered),
        )
    }
}
