//! The pod directory from a file: `{"version": 1, "pods": [{"uid": ..., "namespace": ..., "name": ..., "node": ...}]}`.
//!
//! Read again once a second; a file that cannot be read or does not parse leaves the last good snapshot in force.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Directories, Directory, PodRecord};

const POLL: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("directory.file {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("directory.file {path}: {source}")]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("directory.file {path}: version {found} is not known; write version 1")]
    Version { path: PathBuf, found: u32 },
    #[error("directory.file {path}: uid {uid} stands twice; a uid is one pod's")]
    Twice { path: PathBuf, uid: String },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    pods: Vec<PodRecord>,
}

fn parse(path: &Path, text: &[u8]) -> Result<BTreeMap<String, PodRecord>, FileError> {
    let file: File =
        serde_json::from_slice(text).map_err(|source| FileError::Parse { path: path.to_owned(), source })?;
    if file.version != 1 {
        return Err(FileError::Version { path: path.to_owned(), found: file.version });
    }
    let mut pods = BTreeMap::new();
    for pod in file.pods {
        let uid = pod.uid.clone();
        if pods.insert(uid.clone(), pod).is_some() {
            return Err(FileError::Twice { path: path.to_owned(), uid });
        }
    }
    Ok(pods)
}

fn read(path: &Path) -> Result<BTreeMap<String, PodRecord>, FileError> {
    let text = std::fs::read(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    parse(path, &text)
}

/// Follows the file until cancelled. The first snapshot is there when this returns.
pub fn start(
    path: PathBuf,
    cancel: CancellationToken,
) -> (Directories, impl Future<Output = ()> + Send + 'static) {
    let first = read(&path);
    let mut error = first.as_ref().err().map(ToString::to_string);
    let (publish, directories) = watch::channel(match first {
        Ok(pods) => Directory::Known(Arc::new(pods)),
        Err(e) => Directory::Unknown { why: e.to_string() },
    });
    if let Some(error) = &error {
        warn!(error, "pod directory not readable");
    }
    let follow = async move {
        let mut tick = tokio::time::interval(POLL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = tick.tick() => {}
            }
            // A small local file: reading it is no slower than handing the read to another thread.
            match read(&path) {
                Ok(pods) => {
                    error = None;
                    publish.send_if_modified(|current| match current {
                        Directory::Known(known) if **known == pods => false,
                        _ => {
                            info!(pods = pods.len(), "pod directory changed");
                            *current = Directory::Known(Arc::new(pods));
                            true
                        }
                    });
                }
                Err(e) => {
                    let text = e.to_string();
                    if error.as_ref() != Some(&text) {
                        warn!(error = text, "pod directory not readable, keeping the last good one");
                    }
                    error = Some(text);
                }
            }
        }
    };
    (directories, follow)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"version":1,"pods":[{"uid":"u1","namespace":"default","name":"web-0","node":"server1",
        "hostNetwork":false,"phase":"Running"},{"uid":"u2","namespace":"default","name":"web-1"}]}"#;

    #[test]
    fn parses_and_refuses() {
        let path = Path::new("/pods.json");
        let pods = parse(path, GOOD.as_bytes()).unwrap();
        assert_eq!(pods["u1"].node, "server1");
        assert_eq!(pods["u2"].node, "");
        for (bad, says) in [
            (r#"{"version":2,"pods":[]}"#, "version 2"),
            (r#"{"version":1}"#, "pods"),
            (r#"{"version":1,"pods":[{"uid":"u","namespace":"n","name":"x","nodeName":"y"}]}"#, "nodeName"),
            (
                r#"{"version":1,"pods":[{"uid":"u","namespace":"n","name":"x"},{"uid":"u","namespace":"n","name":"y"}]}"#,
                "twice",
            ),
            ("", "EOF"),
        ] {
            let error = parse(path, bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(says) && error.contains("/pods.json"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_the_last_good_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pods.json");
        let cancel = CancellationToken::new();
        let (mut directories, follow) = start(path.clone(), cancel.clone());
        assert!(matches!(&*directories.borrow(), Directory::Unknown { why } if why.contains("pods.json")));
        let task = tokio::spawn(follow);
        std::fs::write(&path, GOOD).unwrap();
        directories.changed().await.unwrap();
        let known = directories.borrow_and_update().clone();
        assert!(matches!(&known, Directory::Known(pods) if pods.len() == 2));
        std::fs::write(&path, "{").unwrap();
        tokio::time::sleep(3 * POLL).await;
        assert!(!directories.has_changed().unwrap());
        assert_eq!(*directories.borrow(), known);
        std::fs::write(&path, r#"{"version":1,"pods":[]}"#).unwrap();
        directories.changed().await.unwrap();
        cancel.cancel();
        task.await.unwrap();
    }
}
