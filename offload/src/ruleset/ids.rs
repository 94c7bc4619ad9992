//! Which number stands for which rules.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::{Hash as _, Hasher};
use std::sync::Arc;

use crate::policy::Rules;

/// A set of rules, by number: what stands in [`crate::tables::RULE_SET`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleSetId(pub u32);

impl RuleSetId {
    /// No rules: every new connection is allowed.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for RuleSetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// The distinct rules in use, each with its id. Cheap to clone.
///
/// An id follows from the contents (a fixed hash), so it is the same after a restart, and adding or removing one set
/// leaves the others' alone. Two contents of one hash are told apart by comparing them in full; their ids then follow
/// from all contents that are there, not from the order in which they came. (Another compiler may hash in another way.
/// All ids change then, which costs one large bundle.)
#[derive(Clone, Debug)]
pub struct RuleSets(Arc<Assigned>);

#[derive(Debug)]
struct Assigned {
    /// Linear probing: from its hash on, the first id that was free.
    by_id: BTreeMap<RuleSetId, Entry>,
    /// Address of the contents, which `by_id` keeps from being used for anything else.
    by_address: HashMap<usize, RuleSetId>,
    hash: fn(&Rules) -> u32,
}

#[derive(Debug)]
struct Entry {
    hash: u32,
    rules: Arc<Rules>,
}

impl Default for RuleSets {
    fn default() -> Self {
        Self::new([])
    }
}

impl PartialEq for RuleSets {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.iter().eq(other.iter())
    }
}

impl Eq for RuleSets {}

impl RuleSets {
    /// The same contents in any order, and as often as one likes, get the same ids. Open rules are
    /// [`RuleSetId::NONE`].
    pub fn new(contents: impl IntoIterator<Item = Arc<Rules>>) -> Self {
        Self::assign(contents, fnv, |_| None)
    }

    /// As [`Self::new`], without hashing again what is here already.
    #[must_use]
    pub fn update(&self, contents: impl IntoIterator<Item = Arc<Rules>>) -> Self {
        let known = |rules: &Rules| Some(self.0.by_id.get(self.0.by_address.get(&address(rules))?)?.hash);
        Self::assign(contents, self.0.hash, known)
    }

    fn assign(
        contents: impl IntoIterator<Item = Arc<Rules>>,
        hash: fn(&Rules) -> u32,
        known: impl Fn(&Rules) -> Option<u32>,
    ) -> Self {
        let closed = contents.into_iter().filter(|rules| !rules.is_open());
        // One of each address, then one of each content.
        let distinct: HashMap<usize, Arc<Rules>> = closed.map(|rules| (address(&rules), rules)).collect();
        let mut hashed: Vec<(u32, Arc<Rules>)> = distinct
            .into_values()
            .map(|rules| (known(&rules).unwrap_or_else(|| hash(&rules)), rules))
            .collect();
        // Contents are only compared where hashes are equal.
        hashed.sort();
        hashed.dedup();
        let mut by_id = BTreeMap::new();
        for (hash, rules) in hashed {
            let mut id = first(hash);
            while by_id.contains_key(&id) {
                id = next(id);
            }
            by_id.insert(id, Entry { hash, rules });
        }
        let by_address = by_id.iter().map(|(id, entry)| (address(&entry.rules), *id)).collect();
        Self(Arc::new(Assigned { by_id, by_address, hash }))
    }

    /// `None` if these rules were not among those given.
    pub fn id(&self, rules: &Rules) -> Option<RuleSetId> {
        if rules.is_open() {
            return Some(RuleSetId::NONE);
        }
        if let Some(id) = self.0.by_address.get(&address(rules)) {
            return Some(*id);
        }
        let mut id = first((self.0.hash)(rules));
        loop {
            if *self.0.by_id.get(&id)?.rules == *rules {
                return Some(id);
            }
            id = next(id);
        }
    }

    pub fn get(&self, id: RuleSetId) -> Option<&Arc<Rules>> {
        self.0.by_id.get(&id).map(|entry| &entry.rules)
    }

    /// Sorted by id, without [`RuleSetId::NONE`].
    pub fn iter(&self) -> impl Iterator<Item = (RuleSetId, &Arc<Rules>)> {
        self.0.by_id.iter().map(|(id, entry)| (*id, &entry.rules))
    }
}

fn address(rules: &Rules) -> usize {
    std::ptr::from_ref(rules).addr()
}

fn first(hash: u32) -> RuleSetId {
    RuleSetId(hash.max(1))
}

fn next(id: RuleSetId) -> RuleSetId {
    first(id.0.wrapping_add(1))
}

/// FNV-1a of 64 bits, folded. Not std's hash, which has another key in every process.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn fnv(rules: &Rules) -> u32 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    rules.hash(&mut hasher);
    let [high, low] = [hasher.finish() >> 32, hasher.finish() & 0xffff_ffff];
    u32::try_from(high ^ low).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::{Action, Origin, Tier};

    fn rules(n: u64) -> Arc<Rules> {
        let tier = Tier { rules: Vec::new(), otherwise: Action::Deny, origin: Origin(n) };
        Arc::new(Rules { tiers: vec![tier] })
    }

    /// Many of one hash; the last one's ids run over the end of the numbers.
    fn weak(rules: &Rules) -> u32 {
        match rules.tiers[0].origin.0 % 3 {
            2 => u32::MAX,
            n => u32::try_from(n).unwrap(),
        }
    }

    proptest! {
        #[test]
        fn ids_follow_from_the_set_of_contents(mut numbers in proptest::collection::vec(0u64..30, 0..40), rotate in any::<prop::sample::Index>(), is_weak in any::<bool>()) {
            let hash = if is_weak { weak } else { fnv };
            let one = RuleSets::assign(numbers.iter().map(|n| rules(*n)), hash, |_| None);
            if !numbers.is_empty() {
                let by = rotate.index(numbers.len());
                numbers.rotate_left(by);
            }
            numbers.extend(numbers.clone());
            let other = RuleSets::assign(numbers.iter().map(|n| rules(*n)), hash, |_| None);
            prop_assert_eq!(&one, &other);
            let again = one.update(one.iter().map(|(_, rules)| Arc::clone(rules)).collect::<Vec<_>>());
            prop_assert_eq!(&one, &again);
            for n in 0..30 {
                let id = one.id(&rules(n));
                prop_assert_eq!(id.is_some(), numbers.contains(&n));
                prop_assert_eq!(id.and_then(|id| one.get(id)).cloned(), id.map(|_| rules(n)));
                prop_assert_ne!(id, Some(RuleSetId::NONE));
            }
            let mut distinct = numbers.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prop_assert_eq!(one.iter().count(), distinct.len());
        }
    }

    #[test]
    fn open_rules_are_none_and_an_id_does_not_depend_on_the_others() {
        let alone = RuleSets::new([rules(1)]);
        let among = RuleSets::new([rules(7), rules(1), Arc::new(Rules::default()), rules(9)]);
        assert_eq!(alone.id(&rules(1)), among.id(&rules(1)));
        assert_eq!(among.id(&Rules::default()), Some(RuleSetId::NONE));
        assert_eq!(among.iter().count(), 3);
        assert_eq!(alone.id(&rules(9)), None);
    }
}
