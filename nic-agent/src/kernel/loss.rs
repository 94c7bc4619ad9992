//! Filters that the hardware has taken and lost without a word, after a reset for instance.
//!
//! The kernel goes on saying `in_hw`, for that is what the driver said when the filter was written, and OVS believes it.
//! What gives the loss away is who counts. A frame enters at chain 0, and hardware meets it first: what software runs
//! there, hardware has begun to run and counted. (What it cannot finish, a connection that it does not carry, goes on in
//! software, there or in a later chain.) A filter of chain 0 that is in hardware, as is said, and where software's count
//! grows and hardware's does not, is not there.
//!
//! Hardware's counts may be a second old (mlx5), and a packet or two may be under way while we look: hence [`WINDOW`] and
//! [`ENOUGH`]. Where nothing comes nothing is noticed, and nothing is missed. Whether a NIC counts what it hands on in
//! the midst of a filter is for its driver to say; of one that does not, connections that it cannot carry look like a
//! loss, and flows are offered anew every ten minutes without need.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::view::FilterId;

const WINDOW: Duration = Duration::from_secs(3);
const ENOUGH: u64 = 4;

/// Packets, so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    pub hardware: u64,
    pub software: u64,
}

impl Count {
    fn is_lost_since(self, before: Self) -> bool {
        self.hardware == before.hardware
            && self.software.checked_sub(before.software).is_some_and(|it| it >= ENOUGH)
    }
}

#[derive(Debug, Default)]
pub struct Losses {
    since: Option<Instant>,
    counts: BTreeMap<FilterId, Count>,
    lost: BTreeSet<FilterId>,
}

impl Losses {
    /// `counts`: of all filters of chain 0 that are in hardware, as is said.
    pub fn look(&mut self, counts: BTreeMap<FilterId, Count>, now: Instant) -> BTreeSet<FilterId> {
        if self.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            let is_lost = |(id, now): &(&FilterId, &Count)| {
                self.counts.get(id).is_some_and(|it| now.is_lost_since(*it))
            };
            self.lost = counts.iter().filter(is_lost).map(|(id, _)| *id).collect();
            self.counts = counts;
            self.since = Some(now);
        }
        self.lost.clone()
    }
}

#[cfg(test)]
mod tests {
    use offload::flower::ChainIndex;
    use offload::ids::IfIndex;

    use super::*;

    fn id(handle: u32) -> FilterId {
        FilterId { ifindex: IfIndex(1), chain: ChainIndex(0), pref: 2, handle }
    }

    fn counts(all: &[(u64, u64)]) -> BTreeMap<FilterId, Count> {
        let count = |(handle, (hardware, software)): (u32, &(u64, u64))| {
            (id(handle), Count { hardware: *hardware, software: *software })
        };
        (1..).zip(all).map(count).collect()
    }

    #[test]
    fn lost_is_what_software_alone_counts() {
        let began = Instant::now();
        let mut losses = Losses::default();
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(losses.look(counts(&[(9, 9), (9, 9), (9, 9), (9, 9), (9, 9)]), at(0)), BTreeSet::new());
        let later = counts(&[(9, 99), (10, 99), (9, 9), (9, 12), (0, 5), (0, 99)]);
        // Too soon; then: software alone, both, none, too few, written anew, new.
        assert_eq!(losses.look(later.clone(), at(2)), BTreeSet::new());
        assert_eq!(losses.look(later.clone(), at(3)), BTreeSet::from([id(1)]));
        assert_eq!(losses.look(later.clone(), at(4)), BTreeSet::from([id(1)]), "until it is looked at again");
        assert_eq!(losses.look(later.clone(), at(6)), BTreeSet::new());
    }
}
