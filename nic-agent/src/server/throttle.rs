//! Bounds how many lines of the log the host can cause.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

const BURST: u32 = 20;
const REFILL: Duration = Duration::from_secs(1);

/// A bucket of [`BURST`] lines that regains one each [`REFILL`].
#[derive(Debug)]
pub(super) struct Throttle(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    left: u32,
    since: Instant,
    withheld: u64,
}

impl Throttle {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Bucket { left: BURST, since: Instant::now(), withheld: 0 }))
    }

    /// How many lines were withheld before this one, or `None` when this one is to be withheld too.
    pub(super) fn admit(&self) -> Option<u64> {
        let mut bucket = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let regained = bucket.since.elapsed().as_secs() / REFILL.as_secs();
        if regained > 0 {
            bucket.left = BURST.min(bucket.left.saturating_add(u32::try_from(regained).unwrap_or(u32::MAX)));
            bucket.since += REFILL * u32::try_from(regained).unwrap_or(u32::MAX);
        }
        if bucket.left == 0 {
            bucket.withheld += 1;
            return None;
        }
        bucket.left -= 1;
        Some(std::mem::take(&mut bucket.withheld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_leaves_a_few_lines_and_their_count() {
        let throttle = Throttle::new();
        let admitted = (0..1000).filter(|_| throttle.admit().is_some()).count();
        assert_eq!(admitted, 20);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(throttle.admit(), Some(980));
        assert_eq!(throttle.admit(), Some(0));
        assert_eq!(throttle.admit(), None);
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!((0..1000).filter(|_| throttle.admit().is_some()).count(), 20);
    }
}
