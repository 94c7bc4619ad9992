//! The token bucket by which everything is bounded that others can make us do: so many at once, then one in each period.

use std::time::{Duration, Instant};

/// How much of something there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At once.
    pub burst: u32,
    /// After that, one in each of these.
    pub period: Duration,
}

#[derive(Debug, Clone)]
pub struct TokenBucket {
    rate: Rate,
    left: u32,
    /// The part of a period that has passed counts from here.
    since: Instant,
}

impl TokenBucket {
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, left: rate.burst, since: now }
    }

    /// Takes a token; false when there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let granted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        granted
    }

    /// As good as new: nothing is lost when it is forgotten.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.left == self.rate.burst
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.since).as_nanos();
        // Without a period there is no bound.
        let periods = elapsed.checked_div(self.rate.period.as_nanos()).unwrap_or(u128::MAX);
        let missing = self.rate.burst.saturating_sub(self.left);
        match u32::try_from(periods) {
            Ok(regained) if regained < missing => {
                self.left += regained;
                self.since += self.rate.period * regained;
            }
            _ => {
                self.left = self.rate.burst;
                self.since = self.since.max(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_and_then_one_in_each_period() {
        let began = Instant::now();
        let mut bucket = TokenBucket::new(Rate { burst: 20, period: Duration::from_secs(10) }, began);
        let mut granted = |seconds| {
            let now = began + Duration::from_secs(seconds);
            (0..1000).filter(|_| bucket.take(now)).count()
        };
        assert_eq!(granted(0), 20);
        assert_eq!(granted(35), 3);
        assert_eq!(granted(39), 0);
        assert_eq!(granted(40), 1, "what is left of a period counts for the next one");
        assert_eq!(granted(100_000), 20);
    }

    #[test]
    fn no_burst_is_never() {
        let began = Instant::now();
        let mut bucket = TokenBucket::new(Rate { burst: 0, period: Duration::from_secs(1) }, began);
        assert!(!bucket.take(began + Duration::from_hours(1)));
    }

    proptest! {
        /// Between any two moments no more than the burst and what the time between them gives.
        #[test]
        fn never_more_than_it_says(
            burst in 1..20_u32,
            period in 1..50_u64,
            gaps in proptest::collection::vec(0..100_u64, 1..200),
        ) {
            let rate = Rate { burst, period: Duration::from_millis(period) };
            let mut now = Instant::now();
            let mut bucket = TokenBucket::new(rate, now);
            let mut granted = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                if bucket.take(now) {
                    granted.push(now);
                }
            }
            for (at, first) in granted.iter().enumerate() {
                for (later, last) in granted.iter().enumerate().skip(at) {
                    let fair = u128::from(burst) + last.duration_since(*first).as_millis() / u128::from(period) + 1;
                    prop_assert!(((later - at + 1) as u128) <= fair);
                }
            }
        }
    }
}
