//! Equal values are one: pods of a workload share labels and ports, those of a node its name.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use crate::policy::model::Labels;

/// A value of which copies are cheap.
pub trait Shared: Clone + Eq + Hash {
    /// Has anybody else a copy?
    fn is_shared(&self) -> bool;
}

impl<T: ?Sized + Eq + Hash> Shared for Arc<T> {
    fn is_shared(&self) -> bool {
        Self::strong_count(self) > 1
    }
}

impl Shared for Labels {
    fn is_shared(&self) -> bool {
        Self::is_shared(self)
    }
}

#[derive(Debug)]
pub struct Interner<T> {
    values: HashSet<T>,
    /// Values that nobody has any more go when there are so many.
    limit: usize,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { values: HashSet::new(), limit: 256 }
    }
}

impl<T: Shared> Interner<T> {
    pub fn one(&mut self, value: T) -> T {
        if let Some(known) = self.values.get(&value) {
            return known.clone();
        }
        if self.values.len() >= self.limit {
            self.values.retain(Shared::is_shared);
            self.limit = 256.max(2 * self.values.len());
        }
        self.values.insert(value.clone());
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_what_nobody_has_goes() {
        let mut interner = Interner::<Arc<str>>::default();
        let kept = interner.one("kept".into());
        assert!(Arc::ptr_eq(&kept, &interner.one("kept".into())));
        for number in 0..10_000 {
            drop(interner.one(number.to_string().into()));
        }
        assert!(interner.values.len() <= 512, "{}", interner.values.len());
        assert!(Arc::ptr_eq(&kept, &interner.one("kept".into())));
    }
}
