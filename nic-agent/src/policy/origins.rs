//! Numbers for rules, and the way back to their names.
//!
//! A number is 56 bits of a fixed hash over what the rule is, and 8 bits for its place among the rules whose hash is the
//! same: so two rules never share one, and which number a rule has follows from the set of rules alone.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use imbl::OrdMap;
use offload::policy::{Direction, Origin};

use super::model::ObjectName;

/// Who made a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OriginKey {
    /// A policy isolates, and no rule allowed it.
    Isolation { policy: ObjectName, uid: Arc<str>, direction: Direction },
    /// Counted from 0, as in the object; and what it says. Another text is another rule, also where it comes to the same
    /// addresses and ports today.
    Rule { policy: ObjectName, uid: Arc<str>, direction: Direction, index: usize, text: Arc<str> },
    /// The node may always reach its pods.
    Node,
    /// A pod may reach itself through its Service, which OVN sends with the ClusterIP as its source.
    Hairpin,
    /// Every ready backend of the ClusterIP is allowed.
    ServiceCovered,
    /// A rule names the ClusterIP, and not every ready backend of it is allowed.
    ServiceRefused,
}

impl fmt::Display for OriginKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Isolation { policy, direction, .. } => {
                write!(f, "{policy} {} default deny", side(*direction))
            }
            Self::Rule { policy, direction, index, .. } => {
                write!(f, "{policy} {} rule {}", side(*direction), index + 1)
            }
            Self::Node => f.write_str(NODE),
            Self::Hairpin => f.write_str(HAIRPIN),
            Self::ServiceCovered => f.write_str(SERVICE_COVERED),
            Self::ServiceRefused => f.write_str(SERVICE_REFUSED),
        }
    }
}

const NODE: &str = "node to its own pods";
const HAIRPIN: &str = "pod to itself through its Service";
const SERVICE_COVERED: &str = "Service of which every ready backend is allowed";
const SERVICE_REFUSED: &str = "Service of which not every ready backend is allowed";

fn side(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

impl OriginKey {
    /// The rule by what it says, wherever it stands in its policy: `default/web ingress from pods app=client: TCP 80`.
    pub fn wording(&self) -> String {
        match self {
            Self::Rule { policy, direction, text, .. } => {
                let preposition = if *direction == Direction::Ingress { "from" } else { "to" };
                format!("{policy} {} {preposition} {text}", side(*direction))
            }
            other => other.to_string(),
        }
    }

    /// Of the policy. Two of one name, one after the other, are not the same.
    pub fn uid(&self) -> &str {
        match self {
            Self::Isolation { uid, .. } | Self::Rule { uid, .. } => uid,
            _ => "",
        }
    }
}

/// The rules in force, by number. A copy costs nothing.
#[derive(Clone, Debug)]
pub struct Origins {
    by_hash: OrdMap<u64, BTreeSet<OriginKey>>,
    hash: fn(&OriginKey) -> u64,
}

impl Default for Origins {
    fn default() -> Self {
        Self { by_hash: OrdMap::new(), hash: fixed_hash }
    }
}

impl Origins {
    /// As [`fmt::Display`] of [`OriginKey`] writes it: `default/web ingress rule 2`, counted from 1.
    pub fn text(&self, origin: Origin) -> Option<String> {
        self.key(origin).map(ToString::to_string)
    }

    pub fn key(&self, origin: Origin) -> Option<&OriginKey> {
        let place = usize::try_from(origin.0 & 0xff).ok()?;
        self.by_hash.get(&(origin.0 >> 8))?.iter().nth(place)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Origin, &OriginKey)> {
        self.by_hash
            .iter()
            .flat_map(|(hash, keys)| keys.iter().enumerate().map(|(place, key)| (number(*hash, place), key)))
    }

    /// `None` if it is not in force.
    pub(super) fn of(&self, key: &OriginKey) -> Option<Origin> {
        let hash = (self.hash)(key) >> 8;
        let place = self.by_hash.get(&hash)?.iter().position(|it| it == key)?;
        Some(number(hash, place))
    }

    /// Returns the rules that had the same hash already: their numbers may have changed.
    pub(super) fn insert(&mut self, key: &OriginKey) -> Vec<OriginKey> {
        let keys = self.by_hash.entry((self.hash)(key) >> 8).or_default();
        keys.insert(key.clone());
        keys.iter().filter(|it| *it != key).cloned().collect()
    }

    /// As [`Self::insert`].
    pub(super) fn remove(&mut self, key: &OriginKey) -> Vec<OriginKey> {
        let hash = (self.hash)(key) >> 8;
        let Some(keys) = self.by_hash.get_mut(&hash) else { return Vec::new() };
        keys.remove(key);
        let left = keys.iter().cloned().collect();
        if keys.is_empty() {
            self.by_hash.remove(&hash);
        }
        left
    }

    #[cfg(test)]
    pub(super) fn with_hash(hash: fn(&OriginKey) -> u64) -> Self {
        Self { by_hash: OrdMap::new(), hash }
    }
}

/// The 256th rule of one hash shares its number with those after it; with 56 bits there is no second one.
fn number(hash: u64, place: usize) -> Origin {
    Origin(hash << 8 | u64::try_from(place).unwrap_or(0xff).min(0xff))
}

/// FNV-1a with a last mixing (the finaliser of MurmurHash3): the same in every process and version.
fn fixed_hash(key: &OriginKey) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    match key {
        OriginKey::Isolation { uid, policy, direction } | OriginKey::Rule { uid, policy, direction, .. } => {
            eat(policy.namespace.as_bytes());
            eat(b"/");
            eat(policy.name.as_bytes());
            eat(b"/");
            eat(uid.as_bytes());
            eat(match direction {
                Direction::Ingress => b"/in",
                Direction::Egress => b"/eg",
            });
            if let OriginKey::Rule { index, text, .. } = key {
                eat(&u64::try_from(*index).unwrap_or(u64::MAX).to_le_bytes());
                eat(text.as_bytes());
            }
        }
        OriginKey::Node => eat(NODE.as_bytes()),
        OriginKey::Hairpin => eat(HAIRPIN.as_bytes()),
        OriginKey::ServiceCovered => eat(SERVICE_COVERED.as_bytes()),
        OriginKey::ServiceRefused => eat(SERVICE_REFUSED.as_bytes()),
    }
    for multiplier in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ hash >> 33).wrapping_mul(multiplier);
    }
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, index: usize) -> OriginKey {
        OriginKey::Rule {
            policy: ObjectName::new("default", name),
            uid: format!("uid-{name}").into(),
            direction: Direction::Ingress,
            index,
            text: "everybody: TCP 80".into(),
        }
    }

    #[test]
    fn a_number_leads_back_to_its_rule() {
        let mut origins = Origins::default();
        assert!(origins.insert(&rule("web", 1)).is_empty());
        let origin = origins.of(&rule("web", 1)).unwrap();
        assert_eq!(origins.text(origin).unwrap(), "default/web ingress rule 2");
        // Part of what is written into switches: it must not change from one version to the next.
        assert_eq!(origin, Origin(FIXED));
        assert_eq!(rule("web", 1).wording(), "default/web ingress from everybody: TCP 80");
        origins.remove(&rule("web", 1));
        assert_eq!((origins.text(origin), origins.of(&rule("web", 1))), (None, None));
    }

    const FIXED: u64 = 6_991_166_735_804_944_896;

    #[test]
    fn rules_of_one_hash_have_numbers_of_their_own_whatever_came_first() {
        let keys: Vec<OriginKey> = (0..5).map(|it| rule("web", it)).collect();
        let build = |order: &[usize]| {
            let mut origins = Origins::with_hash(|_| 0xabcd_ef00);
            for at in order {
                origins.insert(&keys[*at]);
            }
            origins.insert(&rule("gone", 9));
            let moved = origins.remove(&rule("gone", 9));
            assert_eq!(moved.len(), 5);
            origins
        };
        let (one, other) = (build(&[0, 1, 2, 3, 4]), build(&[3, 4, 0, 2, 1]));
        let numbers: BTreeSet<Origin> = keys.iter().map(|it| one.of(it).unwrap()).collect();
        assert_eq!(numbers.len(), 5);
        for key in &keys {
            assert_eq!(one.of(key), other.of(key));
            assert_eq!(one.key(one.of(key).unwrap()), Some(key));
        }
    }
}
