//! How often a client may ask for what: a token bucket for each key and method.
//!
//! The key is that of the client's certificate, so one that was copied, or that runs amok, costs no other its answers.
//! Whoever holds certificates of many keys gets no more for them: beyond [`KEYS`] the rest share one set of buckets.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::bucket::{Rate, TokenBucket};
use crate::key_pin::KeyPin;

/// A host has one key, and a second one while it is replaced.
const KEYS: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Attach,
    Detach,
    Check,
    List,
    Status,
}

impl Method {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Attach => "Attach",
            Self::Detach => "Detach",
            Self::Check => "Check",
            Self::List => "List",
            Self::Status => "Status",
        }
    }
}

/// What each key may ask for. A request whose caller does not wait for its answer counts, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    pub attach: Rate,
    pub detach: Rate,
    pub check: Rate,
    pub list: Rate,
    pub status: Rate,
}

impl Default for Rates {
    /// A server that starts, or that is drained, asks once for each of its pods, of which there are 255 at most.
    fn default() -> Self {
        let change = Rate { burst: 256, period: Duration::from_millis(200) };
        Self {
            attach: change,
            detach: change,
            // What these cost is an answer from memory.
            check: Rate { burst: 256, period: Duration::from_millis(50) },
            list: Rate { burst: 32, period: Duration::from_millis(500) },
            status: Rate { burst: 128, period: Duration::from_millis(100) },
        }
    }
}

impl Rates {
    fn of(&self, method: Method) -> Rate {
        match method {
            Method::Attach => self.attach,
            Method::Detach => self.detach,
            Method::Check => self.check,
            Method::List => self.list,
            Method::Status => self.status,
        }
    }
}

/// One key's.
#[derive(Debug)]
struct Buckets {
    attach: TokenBucket,
    detach: TokenBucket,
    check: TokenBucket,
    list: TokenBucket,
    status: TokenBucket,
}

impl Buckets {
    fn new(rates: &Rates, now: Instant) -> Self {
        let of = |rate| TokenBucket::new(rate, now);
        Self {
            attach: of(rates.attach),
            detach: of(rates.detach),
            check: of(rates.check),
            list: of(rates.list),
            status: of(rates.status),
        }
    }

    fn of(&mut self, method: Method) -> &mut TokenBucket {
        match method {
            Method::Attach => &mut self.attach,
            Method::Detach => &mut self.detach,
            Method::Check => &mut self.check,
            Method::List => &mut self.list,
            Method::Status => &mut self.status,
        }
    }

    fn are_full(&mut self, now: Instant) -> bool {
        [&mut self.attach, &mut self.detach, &mut self.check, &mut self.list, &mut self.status]
            .into_iter()
            .all(|bucket| bucket.is_full(now))
    }
}

#[derive(Debug)]
pub(super) struct Budgets {
    rates: Rates,
    /// `None`: of all keys for which there was no room.
    of: Mutex<BTreeMap<Option<KeyPin>, Buckets>>,
}

impl Budgets {
    pub(super) fn new(rates: Rates) -> Self {
        Self { rates, of: Mutex::default() }
    }

    /// `Err` says what to do about it.
    pub(super) fn take(&self, key: Option<KeyPin>, method: Method, now: Instant) -> Result<(), String> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.len() >= KEYS && !of.contains_key(&key) {
            of.retain(|_, buckets| !buckets.are_full(now));
        }
        let key = key.filter(|key| of.len() < KEYS || of.contains_key(&Some(*key)));
        let buckets = of.entry(key).or_insert_with(|| Buckets::new(&self.rates, now));
        if buckets.of(method).take(now) {
            return Ok(());
        }
        let (name, Rate { burst, period }) = (method.name(), self.rates.of(method));
        Err(format!(
            "too many {name} requests of this client's key: {burst} at once are answered, then one every {period:?}; \
             wait {period:?}, then ask again"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(of: usize) -> KeyPin {
        format!("{of:064x}").parse().unwrap()
    }

    fn granted(budgets: &Budgets, key: KeyPin, method: Method, now: Instant) -> usize {
        (0..1000).filter(|_| budgets.take(Some(key), method, now).is_ok()).count()
    }

    #[test]
    fn a_flood_of_one_kind_and_key_costs_no_other() {
        let (budgets, now) = (Budgets::new(Rates::default()), Instant::now());
        assert_eq!(granted(&budgets, key(1), Method::Attach, now), 256);
        let why = budgets.take(Some(key(1)), Method::Attach, now).unwrap_err();
        assert!(why.contains("Attach") && why.contains("wait 200ms"), "{why}");
        assert!(budgets.take(Some(key(1)), Method::Detach, now).is_ok());
        assert_eq!(granted(&budgets, key(2), Method::Attach, now), 256);
        assert_eq!(granted(&budgets, key(1), Method::Attach, now + Duration::from_secs(1)), 5);
    }

    #[test]
    fn many_keys_get_no_more_than_a_few() {
        let (budgets, now) = (Budgets::new(Rates::default()), Instant::now());
        let all: usize = (0..1000).map(|it| granted(&budgets, key(it), Method::Attach, now)).sum();
        assert_eq!(all, 256 * (KEYS + 1));
        assert_eq!(budgets.of.lock().unwrap().len(), KEYS + 1);
        // Who did nothing for a while is forgotten, and others have their own again.
        let later = now + Duration::from_mins(2);
        assert_eq!(granted(&budgets, key(5000), Method::Attach, later), 256);
        assert_eq!(granted(&budgets, key(5001), Method::Attach, later), 256);
    }
}
