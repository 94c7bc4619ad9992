//! Sets of transport ports.

use serde::{Deserialize, Serialize};
use smallvec::{SmallVec, smallvec};

use crate::openflow::{Bits, Masked};

/// Both ends belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "(u16, u16)", into = "(u16, u16)")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// `None` if it ends before it begins.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first <= last { Some(Self { first, last }) } else { None }
    }

    pub const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    pub const fn first(self) -> u16 {
        self.first
    }

    pub const fn last(self) -> u16 {
        self.last
    }
}

/// Ranges in order, none touching the next: equal sets are equal values. Nearly all have a few, so that a copy allocates
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<PortRange>", into = "Vec<PortRange>")]
pub struct PortSet(SmallVec<[PortRange; 4]>);

impl PortSet {
    pub fn all() -> Self {
        Self(smallvec![PortRange::ALL])
    }

    pub fn is_all(&self) -> bool {
        *self.0 == [PortRange::ALL]
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn ranges(&self) -> &[PortRange] {
        &self.0
    }

    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.first <= port && port <= range.last)
    }

    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.0.iter().chain(&other.0).copied().collect()
    }

    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let meet = |a: &PortRange, b: &PortRange| PortRange::new(a.first.max(b.first), a.last.min(b.last));
        self.0.iter().flat_map(|a| other.0.iter().filter_map(move |b| meet(a, b))).collect()
    }

    /// As aligned blocks, which is what a bit mask can say: at most 30 for a range. All ports are one block.
    pub fn blocks(&self) -> impl Iterator<Item = Masked<u16>> {
        self.0.iter().flat_map(|range| {
            let (mut next, end) = (u32::from(range.first), u32::from(range.last) + 1);
            std::iter::from_fn(move || {
                let left = end.checked_sub(next).filter(|it| *it > 0)?;
                let aligned = if next == 0 { 1 << 16 } else { 1 << next.trailing_zeros() };
                let size: u32 = aligned.min(1 << left.ilog2());
                let block = Masked::new(
                    <u16 as Bits>::from_bits(next.into()),
                    <u16 as Bits>::from_bits(u128::from(!(size - 1))),
                );
                next += size;
                Some(block)
            })
        })
    }
}

impl TryFrom<(u16, u16)> for PortRange {
    type Error = String;

    fn try_from((first, last): (u16, u16)) -> Result<Self, Self::Error> {
        Self::new(first, last)
            .ok_or_else(|| format!("a range of ports that ends before it begins: {first} to {last}"))
    }
}

impl From<PortRange> for (u16, u16) {
    fn from(range: PortRange) -> Self {
        (range.first, range.last)
    }
}

impl From<Vec<PortRange>> for PortSet {
    fn from(ranges: Vec<PortRange>) -> Self {
        ranges.into_iter().collect()
    }
}

impl From<PortSet> for Vec<PortRange> {
    fn from(set: PortSet) -> Self {
        set.0.into_vec()
    }
}

impl From<u16> for PortSet {
    fn from(port: u16) -> Self {
        Self(smallvec![PortRange::one(port)])
    }
}

impl From<PortRange> for PortSet {
    fn from(range: PortRange) -> Self {
        Self(smallvec![range])
    }
}

impl FromIterator<PortRange> for PortSet {
    fn from_iter<I: IntoIterator<Item = PortRange>>(ranges: I) -> Self {
        let mut ranges: SmallVec<[PortRange; 4]> = ranges.into_iter().collect();
        ranges.sort_unstable();
        ranges.dedup_by(|range, previous| {
            let touches = u32::from(range.first) <= u32::from(previous.last) + 1;
            if touches {
                previous.last = previous.last.max(range.last);
            }
            touches
        });
        Self(ranges)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sets() -> impl Strategy<Value = PortSet> {
        let edge = prop_oneof![Just(0), Just(u16::MAX), 0..20u16, any::<u16>()];
        let range = (edge.clone(), edge).prop_filter_map("order", |(a, b)| PortRange::new(a, b));
        proptest::collection::vec(range, 0..5).prop_map(|ranges| ranges.into_iter().collect())
    }

    proptest! {
        #[test]
        fn a_set_is_what_its_ranges_say(a in sets(), b in sets(), ports in proptest::collection::vec(any::<u16>(), 40)) {
            for port in ports.into_iter().chain(0..25).chain(65_500..=u16::MAX) {
                let (in_a, in_b) = (a.contains(port), b.contains(port));
                prop_assert_eq!(a.union(&b).contains(port), in_a || in_b);
                prop_assert_eq!(a.intersection(&b).contains(port), in_a && in_b);
                let blocks: Vec<Masked<u16>> = a.blocks().collect();
                // Blocks never overlap.
                prop_assert_eq!(blocks.iter().filter(|it| it.covers(port)).count(), usize::from(in_a));
            }
            prop_assert_eq!(a.union(&b), b.union(&a));
            prop_assert!(a.ranges().windows(2).all(|it| u32::from(it[0].last) + 1 < u32::from(it[1].first)));
        }
    }

    #[test]
    fn all_ports_are_one_block_and_the_worst_range_thirty() {
        assert_eq!(PortSet::all().blocks().collect::<Vec<_>>(), [Masked::any()]);
        assert_eq!(PortSet::from(PortRange::new(1, 65_534).unwrap()).blocks().count(), 30);
    }
}
