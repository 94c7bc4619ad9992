//! Writes a recording, beside the loop: a line waits in memory until a thread of its own has written it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;
use tracing::{error, warn};

use super::line::{self, Header, Kind};

/// Of the file.
const LARGEST: u64 = 1 << 30;
/// Of what waits for a slow disk.
const WAITING: u64 = 64 << 20;
/// Only the agent's user: names and addresses of pods are in it.
const MODE: u32 = 0o600;

/// Why nothing is recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("{}: {source}; a recording overwrites no file", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("the configuration cannot be written as JSON: {0}")]
    Header(#[from] serde_json::Error),
}

/// Cheap to clone; all of them write to the one file. That of [`Recorder::default`] writes nothing.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    began: Instant,
    lines: Mutex<Lines>,
    /// Bytes that are not written yet.
    waiting: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Lines {
    /// None: the recording is over.
    to: Option<mpsc::Sender<String>>,
    writing: Option<JoinHandle<()>>,
    /// Of each kind.
    last: BTreeMap<Kind, String>,
    written: u64,
    largest: u64,
}

/// Makes the file of a recording.
pub fn create(path: &Path) -> Result<File, RecordError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path);
    opened.map_err(|source| RecordError::Open { path: path.to_owned(), source })
}

impl Recorder {
    pub fn create(path: &Path, header: &Header) -> Result<Self, RecordError> {
        Self::start(create(path)?, Instant::now(), header)
    }

    /// Times are told as since `began`.
    pub fn start(
        to: impl Write + Send + 'static,
        began: Instant,
        header: &Header,
    ) -> Result<Self, RecordError> {
        Self::up_to(LARGEST, to, began, header)
    }

    pub(crate) fn up_to(
        largest: u64,
        to: impl Write + Send + 'static,
        began: Instant,
        header: &Header,
    ) -> Result<Self, RecordError> {
        let header = serde_json::to_string(header)?;
        let (send, lines) = mpsc::channel();
        let waiting = Arc::new(AtomicU64::new(0));
        let left = waiting.clone();
        let writing = std::thread::spawn(move || {
            if let Err(e) = write(to, &lines, &left) {
                error!(error = %e, "recording cannot be written, and is over");
            }
        });
        let lines =
            Lines { to: Some(send), writing: Some(writing), last: BTreeMap::new(), written: 0, largest };
        let shared = Shared { began, lines: Mutex::new(lines), waiting };
        shared.lock().send(header, &shared.waiting);
        Ok(Self(Some(Arc::new(shared))))
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// What was asked, and what was heard; not even looked at where nothing is recorded.
    pub fn note<Q: Serialize, A: Serialize>(&self, of: Kind, words: impl FnOnce() -> (Q, A)) {
        let Some(shared) = &self.0 else { return };
        if shared.lock().to.is_none() {
            return;
        }
        let (ask, hear) = words();
        match (serde_json::to_string(&ask), serde_json::to_string(&hear)) {
            (Ok(ask), Ok(hear)) => shared.lock().put(of, line::text(of, &ask, &hear), &shared.waiting),
            (Err(e), _) | (_, Err(e)) => {
                error!(error = %e, kind = of.name(), "recording has no word for this, and is over");
                shared.lock().to = None;
            }
        }
    }

    /// In nanoseconds, since the recording began.
    pub fn offset(&self, at: Instant) -> u64 {
        let since = |shared: &Arc<Shared>| at.saturating_duration_since(shared.began);
        let since = self.0.as_ref().map_or(Duration::ZERO, since);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn put(&mut self, of: Kind, text: String, waiting: &AtomicU64) {
        if self.last.get(&of) == Some(&text) {
            return self.send(line::same(of), waiting);
        }
        self.send(text.clone(), waiting);
        self.last.insert(of, text);
    }

    fn send(&mut self, mut text: String, waiting: &AtomicU64) {
        text.push('\n');
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let Some(to) = &self.to else { return };
        self.written = self.written.saturating_add(length);
        if self.written > self.largest {
            warn!(bytes = self.largest, "recording is as large as it may be, and is over");
            self.to = None;
        } else if waiting.fetch_add(length, Ordering::Relaxed).saturating_add(length) > WAITING {
            error!("recording is over: the disk is too slow for it");
            self.to = None;
        } else if to.send(text).is_err() {
            // Its thread has said why.
            self.to = None;
        }
    }
}

/// The last lines are written, too.
impl Drop for Shared {
    fn drop(&mut self) {
        let mut lines = self.lock();
        lines.to = None;
        if let Some(writing) = lines.writing.take() {
            // It has said what was wrong.
            let _ = writing.join();
        }
    }
}

/// What is written is in the file when nothing more waits: a process may end at any time.
fn write(to: impl Write, lines: &mpsc::Receiver<String>, waiting: &AtomicU64) -> io::Result<()> {
    let mut to = BufWriter::new(to);
    loop {
        let text = match lines.try_recv() {
            Ok(text) => text,
            Err(TryRecvError::Empty) => {
                to.flush()?;
                let Ok(text) = lines.recv() else { return Ok(()) };
                text
            }
            Err(TryRecvError::Disconnected) => return to.flush(),
        };
        to.write_all(text.as_bytes())?;
        waiting.fetch_sub(u64::try_from(text.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn header() -> Header {
        let text = "[node]\nname = 'server1'\n[server]\nlisten = ['192.0.2.21:8443']\n[chassis]\nsystem-id = 'nic1'\n\
                    ovn-remote = 'tcp:192.0.2.10:6642'\novn-encap-ip = '192.0.2.1'\n[profile]\nkind = 'plain'\n";
        Header::new("nic".to_owned(), text.parse().unwrap())
    }

    #[test]
    fn the_file_is_its_users_alone_and_overwrites_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recording");
        let recorder = Recorder::create(&path, &header()).unwrap();
        recorder.note(Kind::Now, || ((), 7));
        recorder.note(Kind::Now, || ((), 7));
        drop(recorder);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().skip(1).collect();
        assert_eq!(lines, [r#"{"of":"now","hear":7}"#, r#"{"same":"now"}"#]);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, MODE);
        let error = Recorder::create(&path, &header()).unwrap_err().to_string();
        assert!(error.contains("overwrites no file"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_recording_has_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recording");
        let recorder = Recorder::up_to(10_000, create(&path).unwrap(), Instant::now(), &header()).unwrap();
        for number in 0..10_000 {
            recorder.note(Kind::Now, || ((), number));
        }
        drop(recorder);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.len() <= 10_000 && text.len() > 9_900 && text.ends_with("}\n"), "{}", text.len());
    }
}
