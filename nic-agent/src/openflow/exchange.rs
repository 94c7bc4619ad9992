//! Questions and their answers, by transaction id.

use offload::openflow::errors::SwitchError;
use offload::openflow::message::VERSION;
use offload::openflow::{DecodeError, Features, Message, Xid};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Error, Incoming, SILENCE};

#[derive(Debug)]
pub struct Exchange {
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    incoming: mpsc::UnboundedReceiver<Incoming>,
    last_xid: Xid,
}

/// The switch answered with a message of another kind.
pub fn unexpected(what: &'static str, got: &Message) -> Error {
    match got {
        Message::Error(reason) => Error::Refused { what, reason: reason.clone() },
        _ => Error::Answer { what, source: DecodeError::BadValue { what: "kind of message", value: 0 } },
    }
}

impl Exchange {
    pub fn new(
        outgoing: mpsc::UnboundedSender<Vec<u8>>,
        incoming: mpsc::UnboundedReceiver<Incoming>,
    ) -> Self {
        Self { outgoing, incoming, last_xid: Xid(0) }
    }

    /// Never zero, which is what the switch uses for what nobody asked for.
    pub fn next_xid(&mut self) -> Xid {
        self.last_xid = Xid(self.last_xid.0.checked_add(1).unwrap_or(1));
        self.last_xid
    }

    pub fn send(&self, bytes: Vec<u8>) -> Result<(), Error> {
        self.outgoing.send(bytes).map_err(|_| Error::Closed)
    }

    pub fn ask(&mut self, what: &'static str, message: &Message) -> Result<Xid, Error> {
        let xid = self.next_xid();
        self.send(message.encode(xid).map_err(|source| Error::Question { what, source })?)?;
        Ok(xid)
    }

    async fn next(&mut self, what: &'static str) -> Result<Incoming, Error> {
        let next = timeout(SILENCE, self.incoming.recv()).await;
        next.map_err(|_| Error::Timeout { what, after: SILENCE })?.ok_or(Error::Closed)
    }

    /// The next message of whatever transaction, if it makes sense.
    pub async fn next_message(&mut self, what: &'static str) -> Result<(Xid, Message), Error> {
        let (xid, message) = self.next(what).await?;
        Ok((xid, message.map_err(|source| Error::Answer { what, source })?))
    }

    /// The next message of this transaction; others are too late and of no interest any more.
    pub async fn answer(&mut self, what: &'static str, xid: Xid) -> Result<Message, Error> {
        loop {
            let (got, message) = self.next(what).await?;
            if got == xid {
                return match message.map_err(|source| Error::Answer { what, source })? {
                    Message::Error(reason) => Err(Error::Refused { what, reason }),
                    message => Ok(message),
                };
            }
        }
    }

    /// Waits until the switch has done all that it was asked; returns what it refused on the way.
    pub async fn barrier(&mut self, what: &'static str) -> Result<Vec<(Xid, SwitchError)>, Error> {
        let xid = self.ask(what, &Message::BarrierRequest)?;
        let mut errors = Vec::new();
        loop {
            match self.next(what).await? {
                (got, Ok(Message::BarrierReply)) if got == xid => return Ok(errors),
                (got, Ok(Message::Error(reason))) if got == xid => {
                    return Err(Error::Refused { what, reason });
                }
                (got, Ok(Message::Error(reason))) => errors.push((got, reason)),
                _ => {}
            }
        }
    }

    pub async fn agree(&mut self) -> Result<(), Error> {
        let ours = 1 << VERSION;
        self.ask("hello", &Message::Hello { versions: ours })?;
        match self.next("hello").await? {
            (_, Ok(Message::Hello { versions })) if versions & ours != 0 => Ok(()),
            (_, Ok(Message::Hello { versions })) => {
                Err(Error::Version { reason: format!("it offers versions {versions:#x}") })
            }
            (_, Ok(Message::Error(reason))) => Err(Error::Version { reason: reason.to_string() }),
            (_, Ok(other)) => Err(unexpected("hello", &other)),
            (_, Err(source)) => Err(Error::Answer { what: "hello", source }),
        }
    }

    pub async fn features(&mut self) -> Result<Features, Error> {
        let xid = self.ask("the features", &Message::FeaturesRequest)?;
        match self.answer("the features", xid).await? {
            Message::FeaturesReply(features) => Ok(features),
            other => Err(unexpected("the features", &other)),
        }
    }
}
