//! Bounds on how many lines of the log others can cause.
//!
//! [`Throttle`] stands before lines of which we know that the server causes them, and lets few through, each with the
//! number of those withheld before. [`Budget`] stands before the whole log, for each place in the source: what is not
//! known to be caused by anyone may be all the same.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::bucket::{Rate, TokenBucket};
use crate::metrics::{LevelLabel, Withheld};

const FEW: Rate = Rate { burst: 20, period: Duration::from_secs(1) };
/// A start with as many pods as there can be says a few lines for each of them.
const ENOUGH: Rate = Rate { burst: 1000, period: Duration::from_millis(100) };

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        _ => "info",
    }
}

/// For warnings that the server can cause.
#[derive(Debug)]
pub struct Throttle {
    bucket: Mutex<(TokenBucket, u64)>,
    withheld: Withheld,
}

impl Throttle {
    pub fn new(withheld: Withheld) -> Self {
        Self { bucket: Mutex::new((TokenBucket::new(FEW, now()), 0)), withheld }
    }

    /// How many lines were withheld before this one, or `None` when this one is to be withheld too.
    pub fn admit(&self) -> Option<u64> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let (bucket, withheld) = &mut *bucket;
        if bucket.take(now()) {
            return Some(std::mem::take(withheld));
        }
        *withheld += 1;
        self.withheld.get_or_create(&LevelLabel { level: name(Level::WARN) }).inc();
        None
    }
}

/// A filter before every output. What is said for whoever debugs is not bounded.
#[derive(Debug)]
pub(super) struct Budget {
    rate: Rate,
    places: Mutex<HashMap<Identifier, TokenBucket>>,
    withheld: Withheld,
}

impl Budget {
    pub(super) fn new(withheld: Withheld) -> Self {
        Self { rate: ENOUGH, places: Mutex::default(), withheld }
    }

    #[cfg(test)]
    pub(super) fn of(rate: Rate, withheld: Withheld) -> Self {
        Self { rate, ..Self::new(withheld) }
    }
}

impl<S: Subscriber> Layer<S> for Budget {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let (metadata, now) = (event.metadata(), now());
        if *metadata.level() > Level::INFO {
            return true;
        }
        let granted = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            places.entry(metadata.callsite()).or_insert_with(|| TokenBucket::new(self.rate, now)).take(now)
        };
        if !granted {
            self.withheld.get_or_create(&LevelLabel { level: name(*metadata.level()) }).inc();
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_leaves_a_few_lines_and_their_count() {
        let withheld = Withheld::default();
        let throttle = Throttle::new(withheld.clone());
        let admitted = (0..1000).filter(|_| throttle.admit().is_some()).count();
        assert_eq!(admitted, 20);
        assert_eq!(withheld.get_or_create(&LevelLabel { level: "warn" }).get(), 980);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(throttle.admit(), Some(980));
        assert_eq!(throttle.admit(), Some(0));
        assert_eq!(throttle.admit(), None);
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!((0..1000).filter(|_| throttle.admit().is_some()).count(), 20);
    }
}
