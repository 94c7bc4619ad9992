//! A server that answers as a test says: old ones, rude ones, silent ones.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ovsdb_session::Remote;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

/// What a request is answered with.
pub enum Act {
    /// These bytes.
    Send(Vec<u8>),
    /// These bytes, and the end of the connection.
    Hang(Vec<u8>),
}

pub struct Fake {
    _dir: tempfile::TempDir,
    path: PathBuf,
    pub requests: Arc<Mutex<Vec<Value>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Fake {
    /// `act` sees the connection's number, from 1, and a request.
    pub fn start(mut act: impl FnMut(usize, &Value) -> Act + Send + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            for connection in 1.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut framer = ovsdb_session::frame::Framer::new(1 << 20);
                let mut buffer = vec![0; 1 << 16];
                'connection: loop {
                    let read = stream.read(&mut buffer).await.unwrap_or(0);
                    if read == 0 {
                        break;
                    }
                    framer.push(&buffer[..read]);
                    while let Some(frame) = framer.next_frame().unwrap() {
                        let request: Value = serde_json::from_slice(&frame).unwrap();
                        let act = act(connection, &request);
                        log.lock().unwrap().push(request);
                        match act {
                            Act::Send(bytes) => {
                                if stream.write_all(&bytes).await.is_err() {
                                    break 'connection;
                                }
                            }
                            Act::Hang(bytes) => {
                                drop(stream.write_all(&bytes).await);
                                break 'connection;
                            }
                        }
                    }
                }
            }
        });
        Self { _dir: dir, path, requests, task }
    }

    pub fn remote(&self) -> Remote {
        Remote::Unix(self.path().into())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn count(&self, method: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|request| request["method"] == method).count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn answer(request: &Value, result: &Value) -> Vec<u8> {
    serde_json::json!({"id": request["id"], "result": result, "error": null}).to_string().into_bytes()
}

pub fn refuse(request: &Value, error: &Value) -> Vec<u8> {
    serde_json::json!({"id": request["id"], "result": null, "error": error}).to_string().into_bytes()
}
