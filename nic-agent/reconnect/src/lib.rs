//! Which remote is tried next, and after how long. No I/O, no clock.
//!
//! The remotes are tried in turn, without a pause inside a round; after a round in which none could be used comes a
//! pause that grows from `min` to `max`, drawn anew each time ("decorrelated jitter") so that many clients of one
//! server do not come back together. A connection that had worked for a while is taken up again at once, at the *next*
//! remote: the one just lost is the least likely to be there.
#![forbid(unsafe_code)]

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The next try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Try {
    /// Which remote.
    pub index: usize,
    /// After how long.
    pub delay: Duration,
}

/// The state of the tries.
#[derive(Debug)]
pub struct Reconnect {
    min: Duration,
    max: Duration,
    remotes: usize,
    next: usize,
    tried: usize,
    pause: Duration,
    random: u64,
}

impl Reconnect {
    /// For so many remotes, seeded at random.
    pub fn new(remotes: usize, min: Duration, max: Duration) -> Self {
        Self::with_seed(remotes, min, max, RandomState::new().hash_one(0u8))
    }

    /// The same with a seed of one's own.
    pub fn with_seed(remotes: usize, min: Duration, max: Duration, seed: u64) -> Self {
        Self { min, max: max.max(min), remotes, next: 0, tried: 0, pause: Duration::ZERO, random: seed }
    }

    /// What to try now. Call it once per try.
    pub fn next_try(&mut self) -> Try {
        let delay = if self.tried >= self.remotes {
            self.tried = 0;
            // Of the last pause, so that it grows; but never less than `min`.
            let ceiling = (self.pause * 3).clamp(self.min, self.max);
            self.pause = self.draw(self.min, ceiling);
            self.pause
        } else {
            Duration::ZERO
        };
        let index = self.next;
        self.next = (self.next + 1) % self.remotes.max(1);
        self.tried += 1;
        Try { index, delay }
    }

    /// A connection that had come to work was lost after `lived`. One that broke at once counts as a failed try, so
    /// that a server which accepts and drops is not hammered.
    pub fn lost(&mut self, lived: Duration) {
        if lived >= self.min {
            self.tried = 0;
            self.pause = Duration::ZERO;
        }
    }

    fn draw(&mut self, low: Duration, high: Duration) -> Duration {
        // splitmix64
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let span = u64::try_from(high.saturating_sub(low).as_micros()).unwrap_or(u64::MAX);
        low + Duration::from_micros(if span == 0 { 0 } else { bits % (span + 1) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn reconnect(remotes: usize, seed: u64) -> Reconnect {
        Reconnect::with_seed(remotes, SECOND, 8 * SECOND, seed)
    }

    #[test]
    fn a_round_has_no_pause_and_the_next_round_has_one() {
        let mut reconnect = reconnect(3, 1);
        let round: Vec<Try> = (0..3).map(|_| reconnect.next_try()).collect();
        assert_eq!(round, (0..3).map(|index| Try { index, delay: Duration::ZERO }).collect::<Vec<_>>());
        let fourth = reconnect.next_try();
        assert_eq!(fourth.index, 0);
        assert_eq!(fourth.delay, SECOND, "the first pause is the smallest");
    }

    #[test]
    fn after_a_connection_that_worked_the_next_remote_is_tried_at_once() {
        let mut reconnect = reconnect(2, 1);
        for _ in 0..9 {
            reconnect.next_try();
        }
        reconnect.lost(SECOND);
        assert_eq!(reconnect.next_try(), Try { index: 1, delay: Duration::ZERO });
    }

    #[test]
    fn one_that_broke_at_once_is_a_failure() {
        let mut reconnect = reconnect(1, 1);
        reconnect.next_try();
        reconnect.lost(Duration::from_millis(10));
        assert!(reconnect.next_try().delay >= SECOND);
    }

    proptest! {
        #[test]
        fn pauses_stay_within_bounds_and_differ(seed in any::<u64>()) {
            let mut reconnect = reconnect(1, seed);
            reconnect.next_try();
            let pauses: Vec<Duration> = (0..40).map(|_| reconnect.next_try().delay).collect();
            prop_assert!(pauses.iter().all(|pause| (SECOND..=8 * SECOND).contains(pause)), "{pauses:?}");
            prop_assert!(pauses.iter().any(|pause| *pause > 2 * SECOND), "{pauses:?}");
            let distinct: std::collections::BTreeSet<_> = pauses.iter().collect();
            prop_assert!(distinct.len() > 10, "{pauses:?}");
        }
    }
}
