//! The task that owns the socket. It frames messages, answers echoes and hands on the rest.
//!
//! It always reads, also while much is being written: a switch that cannot get rid of its answers stops to read ours.

use std::io;

use offload::openflow::message::{self, HEADER};
use offload::openflow::{DecodeError, Message};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Incoming;

#[derive(Debug)]
pub struct Link {
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    closed: CancellationToken,
    task: Option<JoinHandle<()>>,
}

#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the switch closed the connection")]
    End,
    #[error("lost the place where messages begin: {0}")]
    Framing(#[from] DecodeError),
}

impl Link {
    pub fn start(stream: UnixStream) -> (Self, mpsc::UnboundedReceiver<Incoming>) {
        let (outgoing, to_write) = mpsc::unbounded_channel();
        let (hand_on, incoming) = mpsc::unbounded_channel();
        let closed = CancellationToken::new();
        let done = closed.clone().drop_guard();
        let (read_half, write_half) = stream.into_split();
        let echo = outgoing.downgrade();
        let task = tokio::spawn(async move {
            // However this task ends, the session is then known to be closed.
            let _done = done;
            let outcome = tokio::select! {
                outcome = read(read_half, &hand_on, &echo) => outcome,
                outcome = write(write_half, to_write) => outcome,
            };
            match outcome {
                Ok(()) => debug!("OpenFlow session ended"),
                Err(lost) => warn!(error = %lost, "OpenFlow connection lost"),
            }
        });
        (Self { outgoing, closed, task: Some(task) }, incoming)
    }

    pub fn outgoing(&self) -> mpsc::UnboundedSender<Vec<u8>> {
        self.outgoing.clone()
    }

    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub async fn close(mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // Cancelled, as just asked for; a panic has been reported by the runtime.
            let _ended = task.await;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn read(
    half: OwnedReadHalf,
    hand_on: &mpsc::UnboundedSender<Incoming>,
    echo: &mpsc::WeakUnboundedSender<Vec<u8>>,
) -> Result<(), Lost> {
    let mut half = BufReader::with_capacity(64 * 1024, half);
    loop {
        let mut head = [0; HEADER];
        match half.read_exact(&mut head).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Lost::End),
            outcome => outcome.map(drop)?,
        }
        let (_, _, length, xid) = message::header(&head)?;
        let mut bytes = head.to_vec();
        bytes.resize(length, 0);
        half.read_exact(bytes.get_mut(HEADER..).unwrap_or_default()).await?;
        match Message::decode(&bytes) {
            Ok((xid, Message::EchoRequest(data))) => {
                if let (Some(echo), Ok(reply)) = (echo.upgrade(), Message::EchoReply(data).encode(xid)) {
                    // Fails only when the writer is gone, which ends this task, too.
                    let _sent = echo.send(reply);
                }
            }
            Ok((_, Message::Other { kind, .. })) => debug!(kind, "OpenFlow message that nobody asked for"),
            Ok((xid, message)) => forward(hand_on, (xid, Ok(message))),
            Err(error) => forward(hand_on, (xid, Err(error))),
        }
    }
}

fn forward(hand_on: &mpsc::UnboundedSender<Incoming>, incoming: Incoming) {
    // Fails only when the session is being dropped.
    let _sent = hand_on.send(incoming);
}

async fn write(mut half: OwnedWriteHalf, mut to_write: mpsc::UnboundedReceiver<Vec<u8>>) -> Result<(), Lost> {
    while let Some(bytes) = to_write.recv().await {
        half.write_all(&bytes).await?;
    }
    Ok(())
}
