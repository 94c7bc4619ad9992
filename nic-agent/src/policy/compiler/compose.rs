//! A pod's policy, put together from those that select it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offload::policy::{Action, Direction, Origin, PodPolicy, PrefixSet, Rule, Rules, Tier, Traffic};

use super::group::{self, Standing};
use super::program::{Program, allow, transports};
use super::services::FrontId;
use super::settle::isolation;
use super::{Compiler, Local, Stated};
use crate::policy::budget::Excess;
use crate::policy::model::{ObjectName, Pod, Protocol};
use crate::policy::origins::OriginKey;

impl Compiler {
    pub(super) fn recompose(&mut self, name: &ObjectName, affected: &mut BTreeSet<Arc<str>>) {
        let Some(local) = self.locals.get(name) else { return };
        let mut excess = Vec::new();
        let mut policy = if let Some(found) = local.pod.unkept {
            // Whom it is meant by nobody knows.
            let too_much =
                Excess { what: "bytes of labels and named ports", found, most: Pod::MOST_BYTES, key: "" };
            excess.extend([Direction::Ingress, Direction::Egress].map(|it| (it, too_much)));
            let closed = |rules| Rules {
                tiers: vec![Tier { rules, otherwise: Action::Deny, origin: Origin::default() }],
            };
            PodPolicy {
                egress: closed(Vec::new()),
                ingress: closed(self.rule_of_node().into_iter().collect()),
            }
        } else {
            PodPolicy { egress: self.egress(local), ingress: self.ingress(local) }
        };
        let most = self.settings.budget.pod_flows;
        for (direction, rules) in
            [(Direction::Ingress, &mut policy.ingress), (Direction::Egress, &mut policy.egress)]
        {
            let found = rules.size();
            if found > most {
                // It stays isolated, in the name of the same policy; the node still reaches it.
                let node = self.origins.of(&OriginKey::Node);
                rules.tiers.iter_mut().for_each(|it| it.rules.retain(|it| Some(it.origin) == node));
                excess.push((direction, Excess { what: "flows", found, most, key: "pod-flows" }));
            }
        }
        self.reports_stale |= local.excess != excess;
        let is_same = local.compiled.as_deref() == Some(&policy);
        if let Some(local) = self.locals.get_mut(name) {
            local.excess = excess;
        }
        if is_same {
            return;
        }
        if let Some(local) = self.locals.get_mut(name) {
            if let Some(old) = local.compiled.replace(self.shared.acquire(policy)) {
                self.shared.release(&old);
            }
            affected.insert(local.pod.uid.clone());
        }
    }

    fn ingress(&self, local: &Local) -> Rules {
        let selecting = self.policies.some_of_one(&local.selected_by);
        let isolating: Vec<&Stated> = selecting.filter(|it| it.policy.isolates.ingress).collect();
        let Some(first) = isolating.first() else { return Rules::default() };
        let all = isolating.iter().filter_map(|it| it.program.as_ref()).map(Program::most_ingress_rules);
        let hairpins = self.hairpins(local);
        let mut rules: Vec<Rule> = Vec::with_capacity(1 + hairpins.len() + all.sum::<usize>());
        rules.extend(self.rule_of_node());
        rules.extend(hairpins);
        for program in isolating.iter().filter_map(|it| it.program.as_ref()) {
            rules.extend(program.ingress_rules(&local.pod));
        }
        let origin = self.origins.of(&isolation(&first.policy, Direction::Ingress)).unwrap_or_default();
        Rules { tiers: vec![Tier { rules, otherwise: Action::Deny, origin }] }
    }

    fn rule_of_node(&self) -> Option<Rule> {
        let node = &self.settings.node_addresses;
        let origin = || self.origins.of(&OriginKey::Node).unwrap_or_default();
        (!node.is_empty()).then(|| allow(node.clone(), Traffic::Any, origin()))
    }

    /// What the pod sends to itself by a Service's address comes back from that address (OVN's `hairpin_snat_ip`).
    fn hairpins(&self, local: &Local) -> Vec<Rule> {
        let mut sources: BTreeMap<(Protocol, u16), PrefixSet> = BTreeMap::new();
        for front in local.own.iter().filter_map(|id| self.services.front(*id)) {
            for (_, port) in front.backends.iter().filter(|(ip, _)| local.pod.ips.contains(ip)) {
                sources.entry((front.protocol, *port)).or_default().insert(front.address);
            }
        }
        let origin = self.origins.of(&OriginKey::Hairpin).unwrap_or_default();
        let rule = |((protocol, port), ips): ((Protocol, u16), PrefixSet)| {
            allow(ips, Traffic::Of(transports(protocol, port)), origin)
        };
        sources.into_iter().map(rule).collect()
    }

    fn egress(&self, local: &Local) -> Rules {
        let Some(key) = &local.group else { return Rules::default() };
        let (Some(group), Some(first)) =
            (self.groups.get(key), key.first().and_then(|it| self.policies.get(it)))
        else {
            return Rules::default();
        };
        let is_open = group::is_open(&group.rules);
        // Those that it may use as it is itself what its policies leave uncovered.
        let own = local.own.iter().copied().filter(|id| {
            !is_open
                && !matches!(group.standing(*id), Some(Standing::Covered { .. }))
                && self
                    .services
                    .front(*id)
                    .is_some_and(|front| group::is_covered_for(&group.rules, front, &local.pod.ips))
        });
        let own: BTreeSet<FrontId> = own.collect();
        let of_its_own;
        let (refusals, allowances) = if own.is_empty() {
            (&group.refusals, &group.allowances)
        } else {
            of_its_own = group.rules_besides(&own, &self.services, &self.origins);
            (&of_its_own.0, &of_its_own.1)
        };
        let mut rules = Vec::with_capacity(refusals.len() + group.rules.len() + allowances.len());
        rules.extend(refusals.iter().chain(&group.rules).chain(allowances).cloned());
        let origin = self.origins.of(&isolation(&first.policy, Direction::Egress)).unwrap_or_default();
        Rules { tiers: vec![Tier { rules, otherwise: Action::Deny, origin }] }
    }
}
