//! The pods that the same policies isolate on egress, and which Services these policies together cover.
//!
//! A ClusterIP is what the sending pod's boundary sees; Kubernetes' rules speak of the pods behind it. So it is allowed
//! when every ready backend is, by whichever rule, and never in part. Where a rule names the address itself (an ipBlock
//! that holds it), it is refused before that rule is asked.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use offload::policy::{Action, PrefixSet, Rule, Traffic, Transport};

use super::program::{allow, transports};
use super::services::{Front, FrontId, Services};
use crate::policy::budget::Excess;
use crate::policy::model::{ObjectName, Protocol};
use crate::policy::origins::{OriginKey, Origins};

/// How the policies stand to one port of a Service. Not said of those that no rule has to do with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Covered {
        /// A rule names the address itself, so that nothing more need be said.
        is_named: bool,
    },
    Refused {
        /// A rule names the address itself.
        is_named: bool,
        covered: usize,
        /// The first [`SOME`] of them.
        uncovered: Vec<(IpAddr, u16)>,
        more: usize,
    },
}

const SOME: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Group {
    pub users: BTreeSet<ObjectName>,
    pub standings: BTreeMap<FrontId, Standing>,
    /// Made of `standings`: refusals, to stand first, and allowances.
    pub refusals: Vec<Rule>,
    pub allowances: Vec<Rule>,
    /// The Services of these namespaces are too many, and refused as a whole where they are not allowed.
    pub excess: Option<(Vec<Arc<str>>, Excess)>,
}

/// What a group's rules are to say of Services.
#[derive(Default)]
struct Ruled {
    refused: BTreeMap<(Protocol, u16), Vec<IpAddr>>,
    /// In every protocol.
    refused_whole: Vec<IpAddr>,
    allowed: BTreeMap<(Protocol, u16), Vec<IpAddr>>,
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
    if front.is_whole {
        let is_named = rules.iter().any(|rule| rule.peers.contains(front.address));
        let (covered, uncovered, more) = (0, Vec::new(), 0);
        return is_named.then_some(Standing::Refused { is_named, covered, uncovered, more });
    }
    let is_named = covers(rules, front.address, front.protocol, front.port);
    let (covered, mut uncovered): (Vec<_>, Vec<_>) =
        front.backends.iter().partition(|(ip, port)| covers(rules, *ip, front.protocol, *port));
    if uncovered.is_empty() && !covered.is_empty() {
        return Some(Standing::Covered { is_named });
    }
    let more = uncovered.len().saturating_sub(SOME);
    uncovered.truncate(SOME);
    uncovered.shrink_to_fit();
    (is_named || !covered.is_empty()).then_some(Standing::Refused {
        is_named,
        covered: covered.len(),
        uncovered,
        more,
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
    pub fn judge_all(
        &mut self,
        rules: &[&Rule],
        services: &Services,
        origins: &Origins,
        most: usize,
    ) -> bool {
        let mut candidates = BTreeSet::new();
        if !is_open(rules) {
            let mut walked: Vec<&PrefixSet> = Vec::new();
            for rule in rules {
                if walked.contains(&&rule.peers) {
                    continue;
                }
                walked.push(&rule.peers);
                for net in rule.peers.iter() {
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
        self.rebuild(services, origins, most);
        is_changed
    }

    /// Asks about these alone.
    pub fn judge_some(
        &mut self,
        fronts: &BTreeSet<FrontId>,
        rules: &[&Rule],
        services: &Services,
        origins: &Origins,
        most: usize,
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
            self.rebuild(services, origins, most);
        }
        is_changed
    }

    fn rebuild(&mut self, services: &Services, origins: &Origins, most: usize) {
        let excess = self.coarsened(services, most);
        self.excess = excess;
        (self.refusals, self.allowances) = self.rules(&BTreeSet::new(), services, origins);
    }

    /// The namespaces that have the most Services' ports with a rule of their own, while these are more than `most` in all.
    /// That of the pods themselves comes last.
    fn coarsened(&self, services: &Services, most: usize) -> Option<(Vec<Arc<str>>, Excess)> {
        if self.standings.len() <= most {
            return None;
        }
        let own = self.users.first().map(|it| &it.namespace);
        let mut counts: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for (id, standing) in &self.standings {
            let needs_rule = matches!(
                standing,
                Standing::Covered { is_named: false } | Standing::Refused { is_named: true, .. }
            );
            if let Some(front) = services.front(*id).filter(|it| needs_rule && !it.is_whole) {
                *counts.entry(&front.service.namespace).or_default() += 1;
            }
        }
        let found: usize = counts.values().sum();
        let mut by_count: Vec<(bool, Reverse<usize>, &Arc<str>)> =
            counts.into_iter().map(|(name, count)| (own == Some(name), Reverse(count), name)).collect();
        by_count.sort();
        let (mut left, mut coarse) = (found, Vec::new());
        for (_, Reverse(count), namespace) in by_count {
            if left <= most {
                break;
            }
            left -= count;
            coarse.push(namespace.clone());
        }
        coarse.sort();
        let excess = Excess { what: "ports of Services", found, most, key: "pod-service-flows" };
        (!coarse.is_empty()).then_some((coarse, excess))
    }

    /// Refusals and allowances, with these allowed besides.
    pub fn rules(
        &self,
        besides: &BTreeSet<FrontId>,
        services: &Services,
        origins: &Origins,
    ) -> (Vec<Rule>, Vec<Rule>) {
        let coarse = self.excess.as_ref().map(|(namespaces, _)| namespaces.as_slice()).unwrap_or_default();
        let mut ruled = Ruled::default();
        for (id, standing) in &self.standings {
            let Some(front) = services.front(*id).filter(|_| !besides.contains(id)) else { continue };
            let is_whole = front.is_whole || coarse.contains(&front.service.namespace);
            let to = match standing {
                Standing::Refused { is_named: true, .. } if is_whole => {
                    ruled.refused_whole.push(front.address);
                    continue;
                }
                Standing::Refused { is_named: true, .. } => &mut ruled.refused,
                Standing::Covered { is_named: false } if !is_whole => &mut ruled.allowed,
                // A rule says it already, or none does.
                Standing::Refused { .. } | Standing::Covered { .. } => continue,
            };
            to.entry((front.protocol, front.port)).or_default().push(front.address);
        }
        for front in besides.iter().filter_map(|id| services.front(*id)) {
            ruled.allowed.entry((front.protocol, front.port)).or_default().push(front.address);
        }
        ruled.into_rules(origins)
    }
}

impl Ruled {
    fn into_rules(self, origins: &Origins) -> (Vec<Rule>, Vec<Rule>) {
        let make = |by_port: BTreeMap<(Protocol, u16), Vec<IpAddr>>, action, key: &OriginKey| {
            let origin = origins.of(key).unwrap_or_default();
            let rule = |((protocol, port), ips): ((Protocol, u16), Vec<IpAddr>)| Rule {
                action,
                ..allow(ips.into_iter().collect(), Traffic::Of(transports(protocol, port)), origin)
            };
            by_port.into_iter().map(rule).collect::<Vec<_>>()
        };
        let mut refusals = make(self.refused, Action::Deny, &OriginKey::ServiceRefused);
        if !self.refused_whole.is_empty() {
            let origin = origins.of(&OriginKey::ServiceRefused).unwrap_or_default();
            let peers = self.refused_whole.into_iter().collect();
            refusals.push(Rule { action: Action::Deny, ..allow(peers, Traffic::Any, origin) });
        }
        (refusals, make(self.allowed, Action::Allow, &OriginKey::ServiceCovered))
    }
}
