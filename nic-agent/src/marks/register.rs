//! Numbers for rules. Pure: no file, no clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use imbl::OrdMap;
use offload::policy::{Origin, RuleMark};
use serde::{Deserialize, Serialize};

/// Rules that are not in force any more are remembered up to this many, those that left last.
const REMEMBERED: usize = 4096;
/// Bytes of a text that people read. What a rule is told from others by is all of it.
const SHOWN: usize = 240;

/// A rule as it is told from others, and as it is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    key: String,
    text: String,
}

impl Name {
    /// `uid` is the policy's; `wording` names the policy and says all that the rule says.
    pub fn new(uid: &str, wording: &str) -> Self {
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        for part in [uid.as_bytes(), &[0], wording.as_bytes()] {
            digest.update(part);
        }
        let digest = digest.finish();
        let bytes = digest.as_ref().iter().take(16).map(|byte| format!("{byte:02x}"));
        let key = bytes.collect::<Vec<String>>().concat();
        let text = match wording.char_indices().find(|(at, char)| at + char.len_utf8() > SHOWN) {
            Some((end, _)) => format!("{}…", wording.get(..end).unwrap_or_default()),
            None => wording.to_owned(),
        };
        Self { key, text }
    }
}

/// A rule that has a mark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    /// Digest of the name.
    pub key: String,
    pub text: String,
    /// What it is called in cookies, or was when it was last in force. By these it is found after a restart, until the
    /// policy source has spoken.
    pub origins: BTreeSet<Origin>,
    /// When it left force, counted in changes. `None`: it is in force.
    pub left: Option<u64>,
}

/// Which number stands for which rule.
#[derive(Clone, Debug)]
pub struct Register {
    rules: OrdMap<RuleMark, Arc<Remembered>>,
    by_key: HashMap<String, RuleMark>,
    /// Up to here all numbers are given, or may have been.
    given: u32,
    max: u32,
    remembered: usize,
    changes: u64,
    /// Rules in force for which there was no number.
    unnamed: usize,
}

impl Default for Register {
    fn default() -> Self {
        Self::new(RuleMark::MASK, REMEMBERED)
    }
}

impl Register {
    fn new(max: u32, remembered: usize) -> Self {
        let (rules, by_key) = (OrdMap::new(), HashMap::new());
        Self { rules, by_key, given: 0, max, remembered, changes: 0, unnamed: 0 }
    }

    /// As it was kept. Of two rules of one key the one with the greater number is believed.
    pub fn restored(rules: impl IntoIterator<Item = (RuleMark, Remembered)>, given: u32) -> Self {
        let mut register = Self { given, ..Self::default() };
        for (mark, rule) in rules {
            register.given = register.given.max(mark.get());
            register.changes = register.changes.max(rule.left.unwrap_or(0));
            register.by_key.insert(rule.key.clone(), mark);
            register.rules.insert(mark, Arc::new(rule));
        }
        register
    }

    pub fn given(&self) -> u32 {
        self.given
    }

    pub fn unnamed(&self) -> usize {
        self.unnamed
    }

    pub fn rules(&self) -> &OrdMap<RuleMark, Arc<Remembered>> {
        &self.rules
    }

    /// Of the rules in force.
    pub fn by_origin(&self) -> impl Iterator<Item = (Origin, RuleMark)> {
        let in_force = self.rules.iter().filter(|(_, rule)| rule.left.is_none());
        in_force.flat_map(|(mark, rule)| rule.origins.iter().map(|origin| (*origin, *mark)))
    }

    /// These rules are in force, and no others. A name of `None`: nobody says who that is, but it may be remembered. Says
    /// whether anything is another than it was.
    pub fn put_in_force(&mut self, rules: impl IntoIterator<Item = (Origin, Option<Name>)>) -> bool {
        let mut called: BTreeMap<RuleMark, BTreeSet<Origin>> = BTreeMap::new();
        let mut fresh: BTreeMap<Name, BTreeSet<Origin>> = BTreeMap::new();
        let rules: Vec<(Origin, Option<Name>)> = rules.into_iter().collect();
        let mut remembered = HashMap::new();
        if rules.iter().any(|(_, name)| name.is_none()) {
            for (mark, rule) in &self.rules {
                remembered.extend(rule.origins.iter().map(|origin| (*origin, *mark)));
            }
        }
        for (origin, name) in rules {
            let mark = match &name {
                Some(name) => self.by_key.get(&name.key),
                None => remembered.get(&origin),
            };
            match (mark, name) {
                (Some(mark), _) => drop(called.entry(*mark).or_default().insert(origin)),
                (None, Some(name)) => drop(fresh.entry(name).or_default().insert(origin)),
                (None, None) => {}
            }
        }
        self.changes = self.changes.saturating_add(1);
        let mut changed = false;
        for (mark, rule) in self.rules.clone() {
            let now = match called.remove(&mark) {
                Some(origins) if rule.left.is_none() && rule.origins == origins => continue,
                Some(origins) => Remembered { origins, left: None, ..(*rule).clone() },
                None if rule.left.is_some() => continue,
                None => Remembered { left: Some(self.changes), ..(*rule).clone() },
            };
            self.rules.insert(mark, Arc::new(now));
            changed = true;
        }
        self.unnamed = 0;
        for (Name { key, text }, origins) in fresh {
            match RuleMark::new(self.given.saturating_add(1)).filter(|mark| mark.get() <= self.max) {
                Some(mark) => {
                    self.given = mark.get();
                    self.by_key.insert(key.clone(), mark);
                    self.rules.insert(mark, Arc::new(Remembered { key, text, origins, left: None }));
                    changed = true;
                }
                None => self.unnamed = self.unnamed.saturating_add(1),
            }
        }
        self.forget();
        changed
    }

    /// Those that left longest ago, where there are too many.
    fn forget(&mut self) {
        let mut gone: Vec<(u64, RuleMark)> =
            self.rules.iter().filter_map(|(mark, rule)| Some((rule.left?, *mark))).collect();
        gone.sort_unstable();
        let too_many = gone.len().saturating_sub(self.remembered);
        for (_, mark) in gone.into_iter().take(too_many) {
            if let Some(rule) = self.rules.remove(&mark)
                && self.by_key.get(&rule.key) == Some(&mark)
            {
                self.by_key.remove(&rule.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn name(rule: u64) -> Name {
        Name::new("uid", &format!("default/p{rule} ingress from everybody: TCP {rule}"))
    }

    fn marks(register: &Register) -> BTreeMap<Origin, RuleMark> {
        register.by_origin().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// What was ever said of a number holds of it for ever, or nothing does; who stays in force stays who he is.
        #[test]
        fn a_number_is_one_rule_s_for_ever(
            steps in vec((btree_set(0u64..30, 0..9), any::<bool>(), any::<bool>()), 1..60),
            max in 5u32..60,
            remembered in 0usize..12,
        ) {
            let mut register = Register::new(max, remembered);
            let mut ever: BTreeMap<RuleMark, String> = BTreeMap::new();
            for (wanted, is_restarted, knows_names) in steps {
                let before = marks(&register);
                let were: BTreeSet<Origin> = before.keys().copied().collect();
                if is_restarted {
                    let kept: Vec<_> = register.rules.iter().map(|(mark, it)| (*mark, (**it).clone())).collect();
                    let restored = Register::restored(kept, register.given);
                    register = Register { max, remembered, ..restored };
                    prop_assert_eq!(&marks(&register), &before);
                }
                let rules = wanted.iter().map(|rule| (Origin(*rule), knows_names.then(|| name(*rule))));
                register.put_in_force(rules);
                let now = marks(&register);
                for (origin, mark) in &now {
                    let said = ever.entry(*mark).or_insert_with(|| name(origin.0).text);
                    prop_assert_eq!(&*said, &name(origin.0).text);
                    prop_assert_eq!(&register.rules[mark].text, &*said);
                }
                for (origin, mark) in before.iter().filter(|(origin, _)| wanted.contains(&origin.0)) {
                    prop_assert_eq!(now.get(origin), Some(mark));
                }
                if knows_names {
                    prop_assert_eq!(now.len() + register.unnamed, wanted.len());
                    prop_assert!(register.unnamed == 0 || register.given == max);
                } else {
                    prop_assert!(were.iter().filter(|it| wanted.contains(&it.0)).all(|it| now.contains_key(it)));
                }
                for (mark, rule) in &register.rules {
                    prop_assert!(mark.get() <= max);
                    prop_assert_eq!(Some(&rule.text), ever.get(mark));
                }
                prop_assert!(register.rules.values().filter(|it| it.left.is_some()).count() <= remembered);
                let again = wanted.iter().map(|rule| (Origin(*rule), knows_names.then(|| name(*rule))));
                prop_assert!(!register.put_in_force(again), "said twice is said once");
            }
        }
    }

    #[test]
    fn a_rule_keeps_its_mark_wherever_it_stands_and_loses_it_with_its_text() {
        let mut register = Register::default();
        let of = |register: &Register, origin| marks(register).get(&Origin(origin)).map(|it| it.get());
        register.put_in_force([(Origin(10), Some(name(1))), (Origin(11), Some(name(2)))]);
        let (first, second) = (of(&register, 10).unwrap(), of(&register, 11).unwrap());
        assert_ne!(first, second);
        // One above: all origins are others.
        let moved = [(Origin(20), Some(name(3))), (Origin(21), Some(name(1))), (Origin(22), Some(name(2)))];
        assert!(register.put_in_force(moved));
        assert_eq!(
            (of(&register, 21), of(&register, 22), of(&register, 10)),
            (Some(first), Some(second), None)
        );
        // Two of one text are one.
        register.put_in_force([(Origin(30), Some(name(1))), (Origin(31), Some(name(1)))]);
        assert_eq!((of(&register, 30), of(&register, 31)), (Some(first), Some(first)));
        // The same name, but of a policy that was made anew.
        let again = Name::new("another uid", &name(1).text);
        register.put_in_force([(Origin(40), Some(again))]);
        assert!(of(&register, 40).unwrap() > second);
        // Gone, and told all the same; back, and the same.
        assert_eq!(register.rules()[&RuleMark::new(second).unwrap()].text, name(2).text);
        register.put_in_force([(Origin(50), Some(name(2)))]);
        assert_eq!(of(&register, 50), Some(second));
    }

    #[test]
    fn a_long_text_is_shown_in_part_and_told_apart_in_whole() {
        let long = |end: &str| Name::new("u", &format!("{}{end}", "ä".repeat(400)));
        assert_eq!(long("a").text, long("b").text);
        assert_ne!(long("a").key, long("b").key);
        assert_eq!(long("a").text.chars().count(), SHOWN / 2 + 1);
    }
}
