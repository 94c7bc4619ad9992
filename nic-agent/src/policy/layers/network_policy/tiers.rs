//! A pod's tiers, put together from the policies that select it.

use std::collections::{BTreeMap, BTreeSet};

use offload::policy::{Action, Direction, PrefixSet, Rule, Tier, Traffic};

use super::group::{self, Standing};
use super::program::Program;
use super::settle::isolation;
use super::{NetworkPolicies, PolicyEntry, Selected};
use crate::policy::index::{FrontId, LocalPod};
use crate::policy::layers::Base;
use crate::policy::layers::rule::{allow, transports};
use crate::policy::model::Protocol;
use crate::policy::origins::OriginKey;

impl NetworkPolicies {
    pub(super) fn ingress(&self, base: &Base, local: &LocalPod, selected: &Selected) -> Option<Tier> {
        let selecting = self.policies.some_of_one(&selected.by);
        let isolating: Vec<&PolicyEntry> = selecting.filter(|it| it.policy.isolates.ingress).collect();
        let first = isolating.first()?;
        let all = isolating.iter().filter_map(|it| it.program.as_ref()).map(Program::most_ingress_rules);
        let hairpins = hairpins(base, local);
        let mut rules: Vec<Rule> = Vec::with_capacity(1 + hairpins.len() + all.sum::<usize>());
        rules.extend(base.rule_of_node());
        rules.extend(hairpins);
        for program in isolating.iter().filter_map(|it| it.program.as_ref()) {
            rules.extend(program.ingress_rules(&local.pod));
        }
        let origin = base.origin(&isolation(&first.policy, Direction::Ingress));
        Some(Tier { rules, otherwise: Action::Deny, origin })
    }

    pub(super) fn egress(&self, base: &Base, local: &LocalPod, selected: &Selected) -> Option<Tier> {
        let key = selected.group.as_ref()?;
        let (group, first) = (self.groups.get(key)?, self.policies.get(key.first()?)?);
        let services = base.index.services();
        let is_open = group::is_open(&group.rules);
        // Those that it may use as it is itself what its policies leave uncovered.
        let own = local.fronts.iter().copied().filter(|id| {
            !is_open
                && !matches!(group.standing(*id), Some(Standing::Covered { .. }))
                && services
                    .front(*id)
                    .is_some_and(|front| group::is_covered_for(&group.rules, front, &local.pod.ips))
        });
        let own: BTreeSet<FrontId> = own.collect();
        let of_its_own;
        let (refusals, allowances) = if own.is_empty() {
            (&group.refusals, &group.allowances)
        } else {
            of_its_own = group.rules_besides(&own, services, &base.origins);
            (&of_its_own.0, &of_its_own.1)
        };
        let mut rules = Vec::with_capacity(refusals.len() + group.rules.len() + allowances.len());
        rules.extend(refusals.iter().chain(&group.rules).chain(allowances).cloned());
        let origin = base.origin(&isolation(&first.policy, Direction::Egress));
        Some(Tier { rules, otherwise: Action::Deny, origin })
    }
}

/// What the pod sends to itself by a Service's address comes back from that address (OVN's `hairpin_snat_ip`).
fn hairpins(base: &Base, local: &LocalPod) -> Vec<Rule> {
    let mut sources: BTreeMap<(Protocol, u16), PrefixSet> = BTreeMap::new();
    for front in local.fronts.iter().filter_map(|id| base.index.services().front(*id)) {
        for (_, port) in front.backends.iter().filter(|(ip, _)| local.pod.ips.contains(ip)) {
            sources.entry((front.protocol, *port)).or_default().insert(front.address);
        }
    }
    let origin = base.origin(&OriginKey::Hairpin);
    let rule = |((protocol, port), ips): ((Protocol, u16), PrefixSet)| {
        allow(ips, Traffic::Of(transports(protocol, port)), origin)
    };
    sources.into_iter().map(rule).collect()
}
