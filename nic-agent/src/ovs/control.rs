//! `ovs-vswitchd`'s control socket, the one that `ovs-appctl` uses, for the one question that nothing else answers: do
//! the datapath's flows follow the OpenFlow tables as they are now?
//!
//! A bundle that is committed has changed the tables; megaflows that were made from the old ones stay in the datapath,
//! and in the eSwitch, until the revalidators have been round (`ofproto-dpif-upcall.c`). `revalidator/wait` returns when
//! a round ends, also one that was under way: it may have passed a flow before the tables changed. The next one has not,
//! so two are waited for. Source: `udpif_run`, `upcall_unixctl_dump_wait`; `lib/unixctl.c` (JSON-RPC 1.0 without
//! notifications), ovs-vswitchd(8).

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
    #[error("{}: {source}; is ovs-vswitchd running?", path.display())]
    Pid { path: PathBuf, source: io::Error },
    #[error("{}: {text:?} is no process number", path.display())]
    NoPid { path: PathBuf, text: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("ovs-vswitchd's answer makes no sense: {0}")]
    Answer(String),
    #[error("ovs-vswitchd says: {0}")]
    Refused(String),
    #[error("no answer from ovs-vswitchd for {0:?}")]
    Silent(Duration),
}

#[derive(Deserialize)]
struct Answer {
    error: Option<serde_json::Value>,
}

/// Returns once the datapath follows the tables as they were when this was called.
pub async fn revalidated(run_dir: &Path, deadline: Duration) -> Result<(), ControlError> {
    let rounds = async {
        call(run_dir, "revalidator/wait").await?;
        call(run_dir, "revalidator/wait").await
    };
    tokio::time::timeout(deadline, rounds).await.unwrap_or(Err(ControlError::Silent(deadline)))
}

async fn call(run_dir: &Path, method: &str) -> Result<(), ControlError> {
    let pid_file = run_dir.join("ovs-vswitchd.pid");
    let text = tokio::fs::read_to_string(&pid_file)
        .await
        .map_err(|source| ControlError::Pid { path: pid_file.clone(), source })?;
    let pid: u32 =
        text.trim().parse().map_err(|_| ControlError::NoPid { path: pid_file, text: text.clone() })?;
    let path = run_dir.join(format!("ovs-vswitchd.{pid}.ctl"));
    let failed = |source| ControlError::Io { path: path.clone(), source };
    let mut stream = UnixStream::connect(&path).await.map_err(failed)?;
    let request = serde_json::json!({"id": 0, "method": method, "params": []}).to_string();
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut framer = Framer::new(LONGEST);
    let mut piece = [0; 1024];
    loop {
        let senseless = |e: FrameError| ControlError::Answer(e.to_string());
        if let Some(frame) = framer.next_frame().map_err(senseless)? {
            let answer: Answer =
                serde_json::from_slice(&frame).map_err(|e| ControlError::Answer(e.to_string()))?;
            return match answer.error {
                None | Some(serde_json::Value::Null) => Ok(()),
                Some(error) => Err(ControlError::Refused(error.to_string())),
            };
        }
        let length = stream.read(&mut piece).await.map_err(failed)?;
        if length == 0 {
            return Err(failed(io::ErrorKind::UnexpectedEof.into()));
        }
        framer.push(piece.get(..length).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    async fn against(calls: usize, answer: &'static str) -> Result<(), ControlError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ovs-vswitchd.pid"), "4711\n").unwrap();
        let listener = UnixListener::bind(dir.path().join("ovs-vswitchd.4711.ctl")).unwrap();
        let server = tokio::spawn(async move {
            for _ in 0..calls {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 512];
                let length = stream.read(&mut request).await.unwrap();
                let request: serde_json::Value = serde_json::from_slice(&request[..length]).unwrap();
                assert_eq!(request, serde_json::json!({"id": 0, "method": "revalidator/wait", "params": []}));
                for byte in answer.as_bytes().chunks(7) {
                    stream.write_all(byte).await.unwrap();
                    stream.flush().await.unwrap();
                }
            }
        });
        let result = revalidated(dir.path(), Duration::from_secs(5)).await;
        server.await.unwrap();
        result
    }

    #[tokio::test]
    async fn answers_are_told_apart() {
        against(2, r#"{"id":0,"result":"","error":null}"#).await.unwrap();
        let refused = against(1, r#"{"id":0,"result":null,"error":"no such thing"}"#).await.unwrap_err();
        assert!(matches!(&refused, ControlError::Refused(why) if why.contains("no such thing")), "{refused}");
        assert!(matches!(against(1, "[1]").await.unwrap_err(), ControlError::Answer(_)));
        assert!(matches!(against(1, "{\"id\"").await.unwrap_err(), ControlError::Io { .. }));
    }

    #[tokio::test]
    async fn without_ovs_it_says_where_it_looked() {
        let dir = tempfile::tempdir().unwrap();
        let error = revalidated(dir.path(), Duration::from_secs(1)).await.unwrap_err().to_string();
        assert!(error.contains("ovs-vswitchd.pid"), "{error}");
    }
}
