//! A pod's policy: the tiers of all layers, in their order, as far as they are not too much together.

use offload::policy::{Action, Direction, Origin, PodPolicy, Rules, Tier};

use super::{Compiled, Compiler};
use crate::policy::budget::Excess;
use crate::policy::index::LocalPod;
use crate::policy::layers::{Base, Layers};
use crate::policy::model::{ObjectName, Pod};
use crate::policy::origins::OriginKey;

impl Compiler {
    pub(super) fn recompose(&mut self, name: &ObjectName) {
        let Some(local) = self.base.index.local_pod(name) else { return };
        let (policy, excess) = compose(local, &self.base, &self.layers);
        let uid = &local.pod.uid;
        let known = self.compiled.get_mut(name);
        self.reports_changed |= known.as_ref().map_or(&[][..], |it| it.excess.as_slice()) != excess;
        if let Some(known) = known {
            known.excess = excess;
            if *known.policy == policy {
                return;
            }
            let old = std::mem::replace(&mut known.policy, self.shared.acquire(policy));
            self.shared.release(&old);
        } else {
            let policy = self.shared.acquire(policy);
            self.compiled.insert(name.clone(), Compiled { uid: uid.clone(), policy, excess });
        }
        self.affected.insert(uid.clone());
    }
}

fn compose(local: &LocalPod, base: &Base, layers: &Layers) -> (PodPolicy, Vec<(Direction, Excess)>) {
    let mut excess = Vec::new();
    let mut policy = PodPolicy::default();
    if let Some(found) = local.pod.unkept {
        // Whom it is meant by nobody knows.
        let too_much =
            Excess { what: "bytes of labels and named ports", found, most: Pod::MOST_BYTES, key: "" };
        excess.extend([Direction::Ingress, Direction::Egress].map(|it| (it, too_much)));
        let closed =
            |rules| Rules { tiers: vec![Tier { rules, otherwise: Action::Deny, origin: Origin::default() }] };
        policy.egress = closed(Vec::new());
        policy.ingress = closed(base.rule_of_node().into_iter().collect());
    } else {
        for layer in layers.in_order() {
            layer.append_tiers(base, local, &mut policy);
        }
    }
    let most = base.budget.pod_flows;
    for (direction, rules) in
        [(Direction::Ingress, &mut policy.ingress), (Direction::Egress, &mut policy.egress)]
    {
        let found = rules.size();
        if found > most {
            // It stays isolated, in the name of the same policy; the node still reaches it.
            let node = base.origins.of(&OriginKey::Node);
            rules.tiers.iter_mut().for_each(|it| it.rules.retain(|it| Some(it.origin) == node));
            excess.push((direction, Excess { what: "flows", found, most, key: "pod-flows" }));
        }
    }
    (policy, excess)
}
