//! One connection's bookkeeping: what waits to be sent, and who waits for which answer. No I/O but [`Outbox::push`].

use std::collections::HashMap;

use serde_json::{Value, json};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;

use crate::command::{Answer, Error};
use crate::rpc;

/// Who waits for an answer.
#[derive(Debug)]
pub(super) enum Pending {
    Call {
        method: &'static str,
        answer: oneshot::Sender<Answer>,
    },
    Monitor(u64),
    /// Any answer is a sign of life, and that is all it was for.
    Probe,
    Nobody,
}

/// Bytes on their way to the server.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    /// Written but perhaps still inside TLS.
    unflushed: bool,
}

impl Outbox {
    pub fn has_work(&self) -> bool {
        self.unflushed || self.len() > 0
    }

    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Moves the work on by one step. Cancel-safe: what a cancelled step had not handed over is still here.
    pub async fn push(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        let rest = self.bytes.get(self.sent..).unwrap_or_default();
        if rest.is_empty() {
            writer.flush().await?;
            self.unflushed = false;
            return Ok(());
        }
        let written = writer.write(rest).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        self.unflushed = true;
        self.sent += written;
        // Now and then, so that a long backlog is not moved for every write.
        if self.sent == self.bytes.len() || self.sent > 1 << 20 {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }
}

/// One connection.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub outbox: Outbox,
    pending: HashMap<u64, Pending>,
    next_id: u64,
}

impl Link {
    pub fn request(&mut self, method: &str, params: &Value, pending: Pending) {
        let id = self.next_id;
        self.next_id += 1;
        self.outbox.add(&rpc::request(id, method, params));
        self.pending.insert(id, pending);
    }

    pub fn probe(&mut self) {
        self.request("echo", &json!([]), Pending::Probe);
    }

    pub fn reply(&mut self, id: &Value, result: Result<&Value, &str>) {
        self.outbox.add(&rpc::reply(id, result));
    }

    pub fn take(&mut self, id: u64) -> Option<Pending> {
        self.pending.remove(&id)
    }

    /// The connection is gone: whoever waits is told.
    pub fn fail(self, reason: &str) {
        for pending in self.pending.into_values() {
            if let Pending::Call { answer, .. } = pending {
                drop(answer.send(Err(Error::Lost(reason.into()))));
            }
        }
    }
}
