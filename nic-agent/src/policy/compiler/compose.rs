//! A pod's policy, put together from those that select it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use offload::policy::{Action, Direction, Origin, PodPolicy, Rule, Rules, Tier, Traffic};

use super::group::{self, Standing};
use super::program::{allow, transports};
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
        let policy = self.share(policy);
        if let Some(local) = self.locals.get_mut(name) {
            local.compiled = Some(policy);
            affected.insert(local.pod.uid.clone());
        }
    }

    fn ingress(&self, local: &Local) -> Rules {
        let selecting = self.policies.some_of_one(&local.selected_by);
        let isolating: Vec<&Stated> = selecting.filter(|it| it.policy.isolates.ingress).collect();
        let Some(first) = isolating.first() else { return Rules::default() };
        let mut rules: Vec<Rule> = self.rule_of_node().into_iter().collect();
        rules.extend(self.hairpins(local));
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
        let mut sources: BTreeMap<(Protocol, u16), BTreeSet<IpAddr>> = BTreeMap::new();
        for front in local.own.iter().filter_map(|id| self.services.front(*id)) {
            for (_, port) in front.backends.iter().filter(|(ip, _)| local.pod.ips.contains(ip)) {
                sources.entry((front.protocol, *port)).or_default().insert(front.address);
            }
        }
        let origin = self.origins.of(&OriginKey::Hairpin).unwrap_or_default();
        let rule = |((protocol, port), ips): ((Protocol, u16), BTreeSet<IpAddr>)| {
            allow(ips.into_iter().collect(), Traffic::Of(transports(protocol, port)), origin)
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
        let rules = refusals.iter().chain(&group.rules).chain(allowances).cloned().collect();
        let origin = self.origins.of(&isolation(&first.policy, Direction::Egress)).unwrap_or_default();
        Rules { tiers: vec![Tier { rules, otherwise: Action::Deny, origin }] }
    }

    /// Equal policies are one.
    fn share(&mut self, policy: PodPolicy) -> Arc<PodPolicy> {
        let bucket = self.shared.entry(rough_hash(&policy)).or_default();
        if let Some(known) = bucket.iter().find(|it| ***it == policy) {
            return known.clone();
        }
        let policy = Arc::new(policy);
        bucket.push(policy.clone());
        policy
    }

    pub(super) fn forget_unshared(&mut self) {
        self.shared.retain(|_, bucket| {
            bucket.retain(|it| Arc::strong_count(it) > 1);
            !bucket.is_empty()
        });
    }
}

/// Only says where to look: sets of peers are large, and comparing them is quick where they are one and the same.
fn rough_hash(policy: &PodPolicy) -> u64 {
    let rules =
        [&policy.egress, &policy.ingress].into_iter().flat_map(|it| &it.tiers).flat_map(|it| &it.rules);
    rules.fold(0xcbf2_9ce4_8422_2325, |hash, rule| {
        let size = u64::try_from(rule.peers.len()).unwrap_or(u64::MAX);
        (hash ^ rule.origin.0 ^ size).wrapping_mul(0x0100_0000_01b3).rotate_left(5)
    })
}
