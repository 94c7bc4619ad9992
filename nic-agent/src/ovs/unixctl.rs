//! The control sockets of Open vSwitch's and OVN's daemons, the ones that `ovs-appctl` and `ovn-appctl` use: one request
//! on a connection of its own, and its answer.
//!
//! A daemon's socket bears its process number, which stands in its pid file, both in its run directory. So each request
//! finds the daemon that runs now. Waiting is the caller's to limit ([`Unixctl::within`]): some answers take long by
//! their nature, and a daemon of one thread answers when it has time. Source: `lib/unixctl.c` (JSON-RPC 1.0 without
//! notifications), ovs-appctl(8).

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ovsdb_session::frame::{FrameError, Framer};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// An answer is a few words.
const LONGEST: usize = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("{}: {source}; is {daemon} running?", path.display())]
    Pid { daemon: &'static str, path: PathBuf, source: io::Error },
    #[error("{}: {text:?} is no process number", path.display())]
    NoPid { path: PathBuf, text: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{daemon}'s answer makes no sense: {what}")]
    Answer { daemon: &'static str, what: String },
    #[error("{daemon} says: {what}")]
    Refused { daemon: &'static str, what: String },
    #[error("no answer from {daemon} for {after:?}")]
    Silent { daemon: &'static str, after: Duration },
    #[error("{daemon} was started again meanwhile: process {before} before, {now} now")]
    Restarted { daemon: &'static str, before: u32, now: u32 },
}

/// A daemon, whether it runs or not.
#[derive(Debug, Clone)]
pub struct Unixctl {
    run_dir: PathBuf,
    daemon: &'static str,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    result: serde_json::Value,
    error: Option<serde_json::Value>,
}

impl Unixctl {
    /// `daemon` is the program's name, which its files begin with.
    pub fn new(run_dir: &Path, daemon: &'static str) -> Self {
        Self { run_dir: run_dir.to_owned(), daemon }
    }

    pub fn daemon(&self) -> &'static str {
        self.daemon
    }

    /// Of one call, or of several.
    pub async fn within<T>(
        &self,
        deadline: Duration,
        calls: impl Future<Output = Result<T, ControlError>>,
    ) -> Result<T, ControlError> {
        let silent = ControlError::Silent { daemon: self.daemon, after: deadline };
        tokio::time::timeout(deadline, calls).await.unwrap_or(Err(silent))
    }

    /// Returns what is said.
    pub async fn call(&self, method: &str, parameters: &[&str]) -> Result<String, ControlError> {
        let daemon = self.daemon;
        let path = self.socket().await?;
        let failed = |source| ControlError::Io { path: path.clone(), source };
        let mut stream = UnixStream::connect(&path).await.map_err(failed)?;
        let request = serde_json::json!({"id": 0, "method": method, "params": parameters}).to_string();
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        let mut framer = Framer::new(LONGEST);
        let mut piece = [0; 1024];
        loop {
            let senseless = |e: FrameError| ControlError::Answer { daemon, what: e.to_string() };
            if let Some(frame) = framer.next_frame().map_err(senseless)? {
                let answer: Answer = serde_json::from_slice(&frame)
                    .map_err(|e| ControlError::Answer { daemon, what: e.to_string() })?;
                return match answer.error {
                    None | Some(serde_json::Value::Null) => {
                        Ok(answer.result.as_str().unwrap_or_default().to_owned())
                    }
                    Some(error) => Err(ControlError::Refused { daemon, what: error.to_string() }),
                };
            }
            let length = stream.read(&mut piece).await.map_err(failed)?;
            if length == 0 {
                return Err(failed(io::ErrorKind::UnexpectedEof.into()));
            }
            framer.push(piece.get(..length).unwrap_or_default());
        }
    }

    /// Of the process that runs now, as its pid file says.
    pub async fn pid(&self) -> Result<u32, ControlError> {
        let daemon = self.daemon;
        let pid_file = self.run_dir.join(format!("{daemon}.pid"));
        let text = tokio::fs::read_to_string(&pid_file).await.map_err(|source| ControlError::Pid {
            daemon,
            path: pid_file.clone(),
            source,
        })?;
        text.trim().parse().map_err(|_| ControlError::NoPid { path: pid_file, text: text.clone() })
    }

    async fn socket(&self) -> Result<PathBuf, ControlError> {
        let pid = self.pid().await?;
        Ok(self.run_dir.join(format!("{}.{pid}.ctl", self.daemon)))
    }
}

/// A daemon that answers what a test has it answer.
#[cfg(test)]
pub mod testing {
    use std::path::Path;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;
    use tokio::task::JoinHandle;

    /// To each of `calls`, which must come in this order, the same answer in pieces, on a connection of its own. It ends by
    /// itself after the last.
    pub fn daemon(
        run_dir: &Path,
        (name, pid): (&str, u32),
        calls: &[serde_json::Value],
        answer: &'static str,
    ) -> JoinHandle<()> {
        let listener = UnixListener::bind(run_dir.join(format!("{name}.{pid}.ctl"))).unwrap();
        std::fs::write(run_dir.join(format!("{name}.pid")), format!("{pid}\n")).unwrap();
        let calls = calls.to_vec();
        tokio::spawn(async move {
            for call in calls {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 512];
                let length = stream.read(&mut request).await.unwrap();
                let request: serde_json::Value = serde_json::from_slice(&request[..length]).unwrap();
                assert_eq!(request, call);
                for bytes in answer.as_bytes().chunks(7) {
                    stream.write_all(bytes).await.unwrap();
                    stream.flush().await.unwrap();
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn against(answer: &'static str) -> Result<String, ControlError> {
        let dir = tempfile::tempdir().unwrap();
        let call = serde_json::json!({"id": 0, "method": "list", "params": ["a", "b"]});
        let server = testing::daemon(dir.path(), ("some-daemon", 4711), &[call], answer);
        let result = Unixctl::new(dir.path(), "some-daemon").call("list", &["a", "b"]).await;
        server.await.unwrap();
        result
    }

    #[tokio::test]
    async fn answers_are_told_apart() {
        let said = against(r#"{"id":0,"result":"all {of} it\n","error":null}"#).await.unwrap();
        assert_eq!(said, "all {of} it\n");
        let refused = against(r#"{"id":0,"result":null,"error":"no such thing"}"#).await.unwrap_err();
        let ControlError::Refused { daemon: "some-daemon", what } = &refused else { panic!("{refused}") };
        assert!(what.contains("no such thing"), "{refused}");
        assert!(matches!(against("[1]").await.unwrap_err(), ControlError::Answer { .. }));
        assert!(matches!(against("{\"id\"").await.unwrap_err(), ControlError::Io { .. }));
    }

    #[tokio::test]
    async fn without_its_daemon_it_says_where_it_looked() {
        let dir = tempfile::tempdir().unwrap();
        let ask = || async { Unixctl::new(dir.path(), "some-daemon").call("list", &[]).await.unwrap_err() };
        let error = ask().await.to_string();
        assert!(error.contains("some-daemon.pid") && error.contains("is some-daemon running?"), "{error}");
        std::fs::write(dir.path().join("some-daemon.pid"), "x").unwrap();
        assert!(matches!(ask().await, ControlError::NoPid { .. }));
        // It died.
        std::fs::write(dir.path().join("some-daemon.pid"), "4711\n").unwrap();
        let error = ask().await.to_string();
        assert!(error.contains("some-daemon.4711.ctl"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever() {
        let daemon = Unixctl::new(Path::new("/none"), "some-daemon");
        let error = daemon
            .within::<()>(Duration::from_secs(7), std::future::pending())
            .await
            .unwrap_err()
            .to_string();
        assert_eq!(error, "no answer from some-daemon for 7s");
    }
}
