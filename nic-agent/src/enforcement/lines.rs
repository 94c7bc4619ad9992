//! How many lines of the log whoever writes policies may cause.

use std::time::Duration;

use tokio::time::Instant;

const AT_ONCE: u32 = 20;
/// After this long there is one more.
const EVERY: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub struct Lines {
    left: u32,
    since: Instant,
    untold: u64,
    untold_said: Option<Instant>,
}

impl Default for Lines {
    fn default() -> Self {
        Self { left: AT_ONCE, since: Instant::now(), untold: 0, untold_said: None }
    }
}

impl Lines {
    /// May a line be written? Else it is counted.
    pub fn take(&mut self) -> bool {
        let new = self.since.elapsed().as_millis() / EVERY.as_millis();
        let new = u32::try_from(new).unwrap_or(u32::MAX);
        if new > 0 {
            (self.left, self.since) = (self.left.saturating_add(new).min(AT_ONCE), Instant::now());
        }
        let Some(left) = self.left.checked_sub(1) else {
            self.untold += 1;
            return false;
        };
        self.left = left;
        true
    }

    /// How many were not written, to be said once a minute.
    pub fn untold(&mut self) -> Option<u64> {
        let is_time = self.untold_said.is_none_or(|it| it.elapsed() >= Duration::from_mins(1));
        if self.untold == 0 || !is_time {
            return None;
        }
        self.untold_said = Some(Instant::now());
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_counted_and_lines_come_back() {
        let mut lines = Lines::default();
        assert_eq!((0..100).filter(|_| lines.take()).count(), 20);
        assert_eq!((lines.untold(), lines.untold()), (Some(80), None));
        assert!(!lines.take());
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!((0..100).filter(|_| lines.take()).count(), 2);
        assert_eq!(lines.untold(), None, "once a minute");
        tokio::time::sleep(Duration::from_hours(1)).await;
        assert_eq!(lines.untold(), Some(99));
        assert_eq!((0..100).filter(|_| lines.take()).count(), 20);
    }
}
