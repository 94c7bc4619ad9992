//! What systemd hears from us: readiness, reloads, a line of status, and the watchdog's keep-alive.
//!
//! The keep-alive is the loops': it is only sent while each one's [`Heartbeat`] is fresh, so a loop that hangs
//! gets the agent restarted, which costs the data path nothing.
//!
//! Failure: without a service manager every call does nothing; a message that cannot be sent is logged and forgotten.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Shows that a loop moves. A clone is the same heart.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    started: Instant,
    /// Milliseconds from `started` to the last tick.
    last: Arc<AtomicU64>,
    max_age: Duration,
}

impl Heartbeat {
    /// Fresh for `max_age` from now, and from each tick.
    pub fn new(max_age: Duration) -> Self {
        Self { started: Instant::now(), last: Arc::default(), max_age }
    }

    pub fn tick(&self) {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.fetch_max(elapsed, Ordering::Relaxed);
    }

    /// Since the last tick.
    pub fn age(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }

    pub fn is_fresh(&self) -> bool {
        self.age() < self.max_age
    }
}

/// Every loop without which nothing new is enforced, by what people call it.
#[derive(Debug, Clone, Default)]
pub struct Hearts(Vec<(&'static str, Heartbeat)>);

impl Hearts {
    #[must_use]
    pub fn with(mut self, name: &'static str, heartbeat: Heartbeat) -> Self {
        self.0.push((name, heartbeat));
        self
    }

    /// The first that stands still, and for how long.
    pub fn still(&self) -> Option<(&'static str, Duration)> {
        let (name, heartbeat) = self.0.iter().find(|(_, it)| !it.is_fresh())?;
        Some((name, heartbeat.age()))
    }
}

type Send = dyn Fn(&[NotifyState<'_>]) -> io::Result<()> + std::marker::Send + Sync;

/// The service manager that started us, if any.
#[derive(Clone)]
pub struct ServiceManager {
    send: Arc<Send>,
    /// Without a keep-alive for this long the service manager ends us.
    watchdog: Option<Duration>,
}

impl fmt::Debug for ServiceManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceManager").field("watchdog", &self.watchdog).finish_non_exhaustive()
    }
}

impl ServiceManager {
    /// As the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub fn from_env() -> Self {
        Self { send: Arc::new(sd_notify::notify), watchdog: sd_notify::watchdog_enabled() }
    }

    /// Started, or done with reloading.
    pub fn ready(&self, status: &str) {
        self.send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// [`Self::ready`] must follow.
    pub fn reloading(&self) {
        // systemd 253 and newer want the time with it.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.send(&[NotifyState::Reloading, now]),
            Err(error) => warn!(%error, "cannot read the monotonic clock"),
        }
    }

    pub fn stopping(&self) {
        self.send(&[NotifyState::Stopping]);
    }

    /// One line for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.send(&[NotifyState::Status(&one_line(status))]);
    }

    /// Keeps the watchdog quiet while none of the `hearts` stands still, until `cancel`.
    pub async fn run_watchdog(&self, hearts: Hearts, cancel: CancellationToken) {
        let Some(watchdog) = self.watchdog.filter(|watchdog| !watchdog.is_zero()) else {
            return cancel.cancelled().await;
        };
        // sd_watchdog_enabled(3) recommends half; a third outlives one that came late.
        let mut interval = tokio::time::interval(watchdog / 3);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_fresh = true;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = interval.tick() => {}
            }
            let still = hearts.still();
            match still {
                None => self.send(&[NotifyState::Watchdog]),
                Some((which, age)) if was_fresh => {
                    let age_seconds = age.as_secs();
                    warn!(which, age_seconds, "a loop stands still, withholding the watchdog's keep-alive");
                }
                Some(_) => {}
            }
            was_fresh = still.is_none();
        }
    }

    fn send(&self, state: &[NotifyState<'_>]) {
        if let Err(error) = (self.send)(state) {
            debug!(%error, "service manager not reached");
        }
    }
}

/// A line break in a status would begin another variable of the protocol.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
