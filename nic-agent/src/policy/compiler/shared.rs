//! Equal policies are one: what is made of a policy later is made once for all pods that have it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use offload::policy::PodPolicy;

/// The policies that pods have, each with how many pods have it.
#[derive(Debug, Default)]
pub(super) struct Shared {
    by_hash: HashMap<u64, Vec<(Arc<PodPolicy>, usize)>>,
}

impl Shared {
    /// One more pod has it.
    pub fn acquire(&mut self, policy: PodPolicy) -> Arc<PodPolicy> {
        let bucket = self.by_hash.entry(rough_hash(&policy)).or_default();
        if let Some((known, users)) = bucket.iter_mut().find(|(it, _)| **it == policy) {
            *users += 1;
            return known.clone();
        }
        let policy = Arc::new(policy);
        bucket.push((policy.clone(), 1));
        policy
    }

    /// A pod has it no longer.
    pub fn release(&mut self, policy: &Arc<PodPolicy>) {
        let Entry::Occupied(mut entry) = self.by_hash.entry(rough_hash(policy)) else { return };
        let bucket = entry.get_mut();
        let Some(at) = bucket.iter().position(|(it, _)| Arc::ptr_eq(it, policy)) else { return };
        if let Some((_, users)) = bucket.get_mut(at)
            && *users > 1
        {
            *users -= 1;
        } else if bucket.len() > 1 {
            bucket.swap_remove(at);
        } else {
            entry.remove();
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.by_hash.values().map(Vec::len).sum()
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

#[cfg(test)]
mod tests {
    use offload::policy::{Action, Origin, Rules, Tier};

    use super::*;

    fn policy(origin: u64) -> PodPolicy {
        let tier = Tier { rules: Vec::new(), otherwise: Action::Deny, origin: Origin(origin) };
        PodPolicy { egress: Rules { tiers: vec![tier] }, ingress: Rules::default() }
    }

    #[test]
    fn a_policy_is_kept_while_a_pod_has_it() {
        let mut shared = Shared::default();
        // Without rules, so that all have one hash.
        let (one, again, other) =
            (shared.acquire(policy(1)), shared.acquire(policy(1)), shared.acquire(policy(2)));
        assert!(Arc::ptr_eq(&one, &again) && !Arc::ptr_eq(&one, &other));
        shared.release(&one);
        assert_eq!(shared.len(), 2);
        shared.release(&again);
        assert_eq!(shared.len(), 1);
        // One that is not kept is not another's.
        shared.release(&one);
        shared.release(&other);
        assert_eq!(shared.len(), 0);
    }
}
