//! The configuration file under way: read at the start, and again when it changes or SIGHUP asks for it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use super::{Config, ConfigError};

/// Projected files are swapped by symlinks, which inotify on a file does not see; reading a few kilobytes does.
const POLL: Duration = Duration::from_secs(10);

/// A file that changed is read again after this long and taken once it holds still: its writer may be half way.
const SETTLE: Duration = Duration::from_millis(500);

/// Far more than any sensible file has.
const LONGEST: u64 = 1 << 20;

pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let text = || {
        let mut text = String::new();
        let length = File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
        if u64::try_from(length).is_ok_and(|length| length <= LONGEST) {
            Ok(text)
        } else {
            Err(io::Error::new(io::ErrorKind::FileTooLarge, "more than 1 MiB"))
        }
    };
    text().map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

/// What was there when we last looked.
#[derive(Debug, PartialEq)]
enum Seen {
    Text(String),
    Unreadable(io::ErrorKind),
}

/// A configuration file that is watched. The caller keeps the last good configuration.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    seen: Seen,
    poll: Interval,
    hangup: Signal,
}

impl Source {
    /// Reads the file for the first time. From here on SIGHUP no longer ends the process.
    pub fn open(path: &Path) -> Result<(Self, Config), ConfigError> {
        let unreadable = |source| ConfigError::Read { path: path.to_owned(), source };
        let hangup = signal(SignalKind::hangup()).map_err(unreadable)?;
        let text = read(path)?;
        let config = text.parse()?;
        let mut poll = interval_at(tokio::time::Instant::now() + POLL, POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok((Self { path: path.to_owned(), seen: Seen::Text(text), poll, hangup }, config))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the file's content is another or until SIGHUP, and reads it then. An error is reported once for each
    /// content. Dropping the future loses nothing.
    pub async fn next_change(&mut self) -> Result<Config, ConfigError> {
        loop {
            let asked = tokio::select! {
                _ = self.poll.tick() => false,
                Some(()) = self.hangup.recv() => true,
            };
            let (mut found, mut seen) = self.look();
            if seen == self.seen && !asked {
                continue;
            }
            if !asked {
                (found, seen) = self.settled(seen).await;
            }
            self.seen = seen;
            return found.and_then(|text| text.parse());
        }
    }

    async fn settled(&self, mut before: Seen) -> (Result<String, ConfigError>, Seen) {
        loop {
            tokio::time::sleep(SETTLE).await;
            let (found, seen) = self.look();
            if seen == before {
                return (found, seen);
            }
            before = seen;
        }
    }

    fn look(&self) -> (Result<String, ConfigError>, Seen) {
        let found = read(&self.path);
        let seen = match &found {
            Ok(text) => Seen::Text(text.clone()),
            Err(ConfigError::Read { source, .. }) => Seen::Unreadable(source.kind()),
            Err(_) => Seen::Unreadable(io::ErrorKind::Other),
        };
        (found, seen)
    }
}
