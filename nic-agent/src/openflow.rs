//! The agent's OpenFlow session with one bridge, over the socket that OVS keeps for its management.
//!
//! Owns one connection: agreement on OpenFlow 1.5, the answers to the switch's echoes, questions and their answers,
//! and changes as atomic bundles. It never decides which flows there should be and never reconnects: when the
//! connection is lost, every call fails, [`Session::closed`] resolves, and the owner makes a new session.
//!
//! ```text
//!  caller ── call ──► exchange (one at a time) ── bytes ──► link task ──► socket
//!                          ▲                                   │ echo is answered here
//!                          └──────────── answers ──────────────┘
//! ```
//!
//! A call that gets no answer for [`SILENCE`] fails. Its late answer is told from others by its transaction id and
//! ignored, but what it asked for may have been done: look again before anything is concluded.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use offload::ids::CtZone;
use offload::openflow::errors::SwitchError;
use offload::openflow::{
    CtFlush, DecodeError, EncodeError, Features, FlowMod, InstalledFlow, InstalledMeter, Message, MeterMod,
    MeterStats, PortDesc, Xid,
};
use tokio::net::UnixStream;
use tokio::time::timeout;

mod bundle;
mod exchange;
mod link;

use exchange::Exchange;
use link::Link;

/// How long the switch may say nothing while an answer is due.
pub const SILENCE: Duration = Duration::from_secs(10);
/// How long [`Socket`] tries.
const CONNECT: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("connecting to {}: {source}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("the switch at {} did not agree on a session within {deadline:?}", path.display())]
    Deadline { path: PathBuf, deadline: Duration },
    #[error("the bridge does not speak OpenFlow 1.5, which its column `protocols` must allow: {reason}")]
    Version { reason: String },
    #[error("the connection to the switch is lost")]
    Closed,
    #[error("no answer to {what} for {after:?}")]
    Timeout { what: &'static str, after: Duration },
    #[error("the switch's answer to {what} makes no sense: {source}")]
    Answer { what: &'static str, source: DecodeError },
    #[error("{what} cannot be written: {source}")]
    Question { what: &'static str, source: EncodeError },
    #[error("the switch refused {what}: {reason}")]
    Refused { what: &'static str, reason: SwitchError },
    #[error("nothing was changed, because this cannot be written: {change}: {source}")]
    Unwritable { change: Box<FlowMod>, source: EncodeError },
    #[error("nothing was changed, because the switch refused: {change}: {reason}")]
    FlowRefused { change: Box<FlowMod>, reason: SwitchError },
    /// As a recording tells it.
    #[error("{text}")]
    Recorded { text: String, refused: bool },
}

impl Error {
    /// The switch understood what it was asked, and does not do it.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Recorded { refused: true, .. })
    }
}

/// A session with one bridge. Dropping it ends it.
#[derive(Debug)]
pub struct Session {
    link: Link,
    exchange: tokio::sync::Mutex<Exchange>,
    features: Features,
}

impl Session {
    /// Connects and agrees on the version, both within `deadline`.
    pub async fn connect(path: &Path, deadline: Duration) -> Result<Self, Error> {
        timeout(deadline, Self::connect_now(path))
            .await
            .unwrap_or_else(|_| Err(Error::Deadline { path: path.to_owned(), deadline }))
    }

    async fn connect_now(path: &Path) -> Result<Self, Error> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| Error::Connect { path: path.to_owned(), source })?;
        let (link, incoming) = Link::start(stream);
        let mut exchange = Exchange::new(link.outgoing(), incoming);
        exchange.agree().await?;
        let features = exchange.features().await?;
        Ok(Self { link, exchange: exchange.into(), features })
    }

    /// Ends the session and waits until its task is gone.
    pub async fn close(self) {
        self.link.close().await;
    }

    pub fn features(&self) -> Features {
        self.features
    }

    /// Resolves when the connection is lost.
    pub async fn closed(&self) {
        self.link.closed().await;
    }

    /// All flows of all tables.
    pub async fn dump_flows(&self) -> Result<Vec<InstalledFlow>, Error> {
        self.all("the dump of flows", &Message::FlowStatsRequest, |answer| match answer {
            Message::FlowStatsReply { flows, more } => Ok((flows, more)),
            other => Err(Box::new(other)),
        })
        .await
    }

    pub async fn ports(&self) -> Result<Vec<PortDesc>, Error> {
        self.all("the list of ports", &Message::PortDescRequest, |answer| match answer {
            Message::PortDescReply { ports, more } => Ok((ports, more)),
            other => Err(Box::new(other)),
        })
        .await
    }

    pub async fn meters(&self) -> Result<Vec<InstalledMeter>, Error> {
        self.all("the list of meters", &Message::MeterDescRequest, |answer| match answer {
            Message::MeterDescReply { meters, more } => Ok((meters, more)),
            other => Err(Box::new(other)),
        })
        .await
    }

    /// What all meters have counted.
    pub async fn meter_stats(&self) -> Result<Vec<MeterStats>, Error> {
        self.all("the meters' counters", &Message::MeterStatsRequest, |answer| match answer {
            Message::MeterStatsReply { stats, more } => Ok((stats, more)),
            other => Err(Box::new(other)),
        })
        .await
    }

    /// An answer in parts, put together. `part` says whether there are more.
    async fn all<T>(
        &self,
        what: &'static str,
        question: &Message,
        part: impl Fn(Message) -> Result<(Vec<T>, bool), Box<Message>>,
    ) -> Result<Vec<T>, Error> {
        let mut exchange = self.exchange.lock().await;
        let xid = exchange.ask(what, question)?;
        let mut all = Vec::new();
        loop {
            let (mut some, more) = part(exchange.answer(what, xid).await?)
                .map_err(|other| exchange::unexpected(what, &other))?;
            all.append(&mut some);
            if !more {
                return Ok(all);
            }
        }
    }

    /// Meters are in no bundle: each of these by itself, in their order. Of several that are refused the first is told.
    pub async fn change_meters(&self, changes: &[MeterMod]) -> Result<(), Error> {
        let what = "a change of meters";
        if changes.is_empty() {
            return Ok(());
        }
        let mut exchange = self.exchange.lock().await;
        let mut asked = Vec::new();
        for change in changes {
            asked.push(exchange.ask(what, &Message::MeterMod(*change))?);
        }
        let errors = exchange.barrier(what).await?;
        match errors.into_iter().find(|(refused, _)| asked.contains(refused)) {
            Some((_, reason)) => Err(Error::Refused { what, reason }),
            None => Ok(()),
        }
    }

    /// All of these changes in their order, or none of them: one atomic, ordered bundle.
    pub async fn apply(&self, changes: &[FlowMod]) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut exchange = self.exchange.lock().await;
        bundle::apply(&mut exchange, changes).await
    }

    /// Forgets the connections of a zone. Returns when that is done.
    pub async fn flush_ct_zone(&self, zone: CtZone) -> Result<(), Error> {
        self.order("the flush of a conntrack zone", Message::CtFlushZone(zone.get())).await
    }

    /// Forgets the connections that match. Returns when that is done.
    pub async fn flush_ct(&self, which: CtFlush) -> Result<(), Error> {
        self.order("the flush of connections", Message::CtFlush(which)).await
    }

    /// A message that is only answered if it is refused; the barrier after it always is.
    async fn order(&self, what: &'static str, message: Message) -> Result<(), Error> {
        let mut exchange = self.exchange.lock().await;
        let xid = exchange.ask(what, &message)?;
        let errors = exchange.barrier(what).await?;
        match errors.into_iter().find(|(refused, _)| *refused == xid) {
            Some((_, reason)) => Err(Error::Refused { what, reason }),
            None => Ok(()),
        }
    }
}

/// A bridge's OpenFlow socket.
pub trait Switch: Send + Sync + 'static {
    type Session: SwitchSession;

    fn connect(&self) -> impl Future<Output = Result<Self::Session, Error>> + Send;
}

/// What is asked of a bridge, and of conntrack, in one session.
pub trait SwitchSession: Send + Sync + 'static {
    /// Resolves when the connection is lost.
    fn closed(&self) -> impl Future<Output = ()> + Send;

    fn dump_flows(&self) -> impl Future<Output = Result<Vec<InstalledFlow>, Error>> + Send;

    fn meters(&self) -> impl Future<Output = Result<Vec<InstalledMeter>, Error>> + Send;

    fn meter_stats(&self) -> impl Future<Output = Result<Vec<MeterStats>, Error>> + Send;

    /// Each by itself, in their order.
    fn change_meters(&self, changes: &[MeterMod]) -> impl Future<Output = Result<(), Error>> + Send;

    /// All of these, or none.
    fn apply(&self, changes: &[FlowMod]) -> impl Future<Output = Result<(), Error>> + Send;

    /// Forgets the connections of a zone. Resolves when that is done.
    fn flush_ct_zone(&self, zone: CtZone) -> impl Future<Output = Result<(), Error>> + Send;
}

/// The socket that OVS keeps for a bridge's management.
#[derive(Debug, Clone)]
pub struct Socket(PathBuf);

impl Socket {
    pub fn of(bridge: &str, run_dir: &Path) -> Self {
        Self(run_dir.join(format!("{bridge}.mgmt")))
    }
}

impl Switch for Socket {
    type Session = Session;

    async fn connect(&self) -> Result<Session, Error> {
        Session::connect(&self.0, CONNECT).await
    }
}

impl SwitchSession for Session {
    async fn closed(&self) {
        Self::closed(self).await;
    }

    async fn dump_flows(&self) -> Result<Vec<InstalledFlow>, Error> {
        Self::dump_flows(self).await
    }

    async fn meters(&self) -> Result<Vec<InstalledMeter>, Error> {
        Self::meters(self).await
    }

    async fn meter_stats(&self) -> Result<Vec<MeterStats>, Error> {
        Self::meter_stats(self).await
    }

    async fn change_meters(&self, changes: &[MeterMod]) -> Result<(), Error> {
        Self::change_meters(self, changes).await
    }

    async fn apply(&self, changes: &[FlowMod]) -> Result<(), Error> {
        Self::apply(self, changes).await
    }

    async fn flush_ct_zone(&self, zone: CtZone) -> Result<(), Error> {
        Self::flush_ct_zone(self, zone).await
    }
}

/// A message with its transaction id; the message may have made no sense.
type Incoming = (Xid, Result<Message, DecodeError>);
