//! Waiting for what must come true.

use std::time::{Duration, Instant};

/// Polls until `check` gives a value; panics, with what it said last, when it does not in time.
#[track_caller]
pub fn until<T>(what: &str, patience: Duration, mut check: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + patience;
    loop {
        match check() {
            Ok(value) => return value,
            Err(last) => assert!(Instant::now() < end, "not within {patience:?}: {what}; last seen: {last}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
