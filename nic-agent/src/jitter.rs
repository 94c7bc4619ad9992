//! Pauses that are not the same on every NIC, so that not all ask in one moment.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// `least`, and up to a quarter more: a thousand agents that started together do not write together.
pub fn jittered(least: Duration) -> Duration {
    let random = RandomState::new().hash_one(0u8) % 1000;
    least + least.mul_f64(f64::from(u16::try_from(random).unwrap_or(0)) / 4000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_adds_a_quarter_at_most() {
        for _ in 0..100 {
            let pause = jittered(Duration::from_secs(4));
            assert!((4000..=5000).contains(&pause.as_millis()), "{pause:?}");
        }
    }
}
