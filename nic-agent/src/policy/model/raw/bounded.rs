//! Lists of which no more is kept than anybody means: an object that the API server takes may be a million `{}`, and each
//! is a hundred times larger here than there.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::super::policy::Policy;

/// How many things it is made of.
pub(super) trait Weigh {
    fn weight(&self) -> usize {
        1
    }
}

/// What comes before it weighs too much, and how much all of it weighs; an item that is not kept weighs 1.
#[derive(Debug)]
pub(super) struct Bounded<T> {
    kept: Vec<T>,
    weight: usize,
}

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self { kept: Vec::new(), weight: 0 }
    }
}

impl<T> Bounded<T> {
    pub fn weight(&self) -> usize {
        self.weight
    }
}

impl<T> Deref for Bounded<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.kept
    }
}

impl<'de, T: Deserialize<'de> + Weigh> Deserialize<'de> for Bounded<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct List<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de> + Weigh> Visitor<'de> for List<T> {
            type Value = Bounded<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Bounded<T>, A::Error> {
                let mut all = Bounded::default();
                while all.weight <= Policy::MOST_ITEMS {
                    let Some(item) = list.next_element::<T>()? else { return Ok(all) };
                    all.weight = all.weight.saturating_add(item.weight());
                    all.kept.push(item);
                }
                while list.next_element::<IgnoredAny>()?.is_some() {
                    all.weight = all.weight.saturating_add(1);
                }
                Ok(all)
            }
        }

        from.deserialize_seq(List(PhantomData))
    }
}
