//! Waiting for what must come true.

use std::time::{Duration, Instant};

/// Polls until `check` gives a value; panics, with what it said last, when it does not in time.
#[track_caller]
pub fn until<T>(what: &str, patience: Duration, mut check: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    let end = began + patience;
    loop {
        match check() {
            Ok(value) => return value,
            Err(last) => assert!(Instant::now() < end, "not within {patience:?}: {what}; last seen: {last}"),
        }
        // Looking costs the lab's processor, most of all where a program is run for it: the longer it takes, the rarer.
        std::thread::sleep(
            (began.elapsed() / 8).clamp(Duration::from_millis(100), Duration::from_millis(500)),
        );
    }
}
