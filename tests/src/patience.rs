//! How long a test waits before it gives up, on this machine. What it waits for comes later on a slower one.
//!
//! Tests of `offload` take this file by its path. Its own tests are in `wait.rs`.

use std::fmt::Display;
use std::sync::OnceLock;
use std::time::Duration;

/// A deadline of the reference machine's, as long as this machine needs it to be. `tests/run` measures that.
pub fn patience(on_reference: Duration) -> Duration {
    static TIMES: OnceLock<f64> = OnceLock::new();
    let times = TIMES.get_or_init(|| {
        let said = std::env::var("DRAWBRIDGE_PATIENCE").ok();
        times(said.as_deref()).unwrap_or_else(|e| panic!("{e}"))
    });
    on_reference.mul_f64(*times)
}

/// What `DRAWBRIDGE_PATIENCE` says.
pub(crate) fn times(said: Option<&str>) -> Result<f64, String> {
    let Some(said) = said else { return Ok(1.0) };
    match said.parse() {
        Ok(times) if (1.0..=1000.0).contains(&times) => Ok(times),
        _ => Err(format!("DRAWBRIDGE_PATIENCE is a number from 1 on, and not {said:?}")),
    }
}

/// The message of a wait that ran out. By its first word `tests/run` tells what came late from what is wrong.
pub fn late(what: impl Display, waited: Duration, last: impl Display) -> String {
    format!("late: {what}, after {waited:.1?}; last seen: {last}")
}
