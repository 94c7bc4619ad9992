//! The task that owns the socket.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use reconnect::Reconnect;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, split};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::link::{Link, Pending};
use super::standing::{self, Standing, Unfit};
use super::{Options, State};
use crate::command::{Command, Error};
use crate::entry::{Ask, Entry, Fault};
use crate::frame::{FrameError, Framer};
use crate::remote::Remote;
use crate::rpc::{self, Incoming, RpcFault};
use crate::transport::{self, ConnectError, Stream};

const READ_CHUNK: usize = 64 << 10;

/// Why a connection came to its end.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("closed by the server")]
    Eof,
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("silent for {0:?}")]
    Silent(Duration),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Rpc(#[from] RpcFault),
    #[error("{0}")]
    Monitor(#[from] Fault),
    #[error("the server cancelled a monitor")]
    MonitorCancelled,
    #[error("not in good standing: {0}")]
    Unfit(#[from] Unfit),
}

/// Nobody holds a handle any more.
struct Deserted;

pub(super) struct Task {
    options: Options,
    commands: mpsc::UnboundedReceiver<Command>,
    state: watch::Sender<State>,
    monitors: BTreeMap<u64, Entry>,
    standing: Standing,
    /// Which were, and why, since there was one to stay with: each is said once.
    passed_over: BTreeSet<String>,
    epoch: u64,
}

impl Task {
    pub fn new(
        options: Options,
        commands: mpsc::UnboundedReceiver<Command>,
        state: watch::Sender<State>,
    ) -> Self {
        Self {
            options,
            commands,
            state,
            monitors: BTreeMap::new(),
            standing: Standing::default(),
            passed_over: BTreeSet::new(),
            epoch: 0,
        }
    }

    pub async fn run(mut self) {
        let mut reconnect =
            Reconnect::new(self.options.remotes.len(), self.options.backoff_min, self.options.backoff_max);
        loop {
            let next = reconnect.next_try();
            let remote = self.options.remotes.get(next.index).cloned();
            let connected = match self.connect(remote.as_ref(), next.delay).await {
                Ok(connected) => connected,
                Err(Deserted) => return,
            };
            let error = match (connected, remote) {
                (Ok(stream), Some(remote)) => {
                    // When it came to be a server to stay with.
                    let mut since = None;
                    match self.serve(stream, &remote, &mut since).await {
                        Ok(Deserted) => return,
                        Err(lost) => {
                            if let Some(since) = since {
                                tracing::warn!(%remote, error = %lost, "OVSDB connection lost");
                                reconnect.lost(since.elapsed());
                            } else if let Lost::Unfit(why) = &lost
                                && self.passed_over.insert(format!("{remote}: {why}"))
                            {
                                tracing::info!(%remote, %why, "OVSDB server passed over");
                            }
                            format!("{remote}: {lost}")
                        }
                    }
                }
                (Err(error), remote) => match remote {
                    Some(remote) => format!("{remote}: {error}"),
                    None => error,
                },
                (Ok(_), None) => continue,
            };
            tracing::debug!(error, "no OVSDB connection");
            self.state.send_replace(State::Connecting { error: Some(error) });
        }
    }

    /// Waits and connects, and meanwhile answers the handles.
    async fn connect(
        &mut self,
        remote: Option<&Remote>,
        delay: Duration,
    ) -> Result<Result<Box<dyn Stream>, String>, Deserted> {
        let tls = self.options.tls.clone();
        let patience = self.options.dead_after;
        let attempt = async {
            sleep(delay).await;
            let Some(remote) = remote else { return Err("no remote is given".to_owned()) };
            match timeout(patience, transport::connect(remote, tls.as_ref())).await {
                Ok(connected) => connected.map_err(|error: ConnectError| error.to_string()),
                Err(_) => Err(format!("no connection within {patience:?}")),
            }
        };
        tokio::pin!(attempt);
        loop {
            tokio::select! {
                connected = &mut attempt => return Ok(connected),
                command = self.commands.recv() => match command {
                    Some(command) => self.offline(command),
                    None => return Err(Deserted),
                },
            }
        }
    }

    /// A command while there is no server.
    fn offline(&mut self, command: Command) {
        match command {
            Command::Call { answer, .. } => {
                let reason = match &*self.state.borrow() {
                    State::Connecting { error: Some(error) } => error.clone(),
                    _ => "the first attempt is under way".into(),
                };
                drop(answer.send(Err(Error::NotConnected(reason))));
            }
            Command::Monitor { id, entry } => drop(self.monitors.insert(id, *entry)),
            Command::Conditions { monitor, table, rows, generation } => {
                if let Some(entry) = self.monitors.get_mut(&monitor) {
                    // Not at a server, it asks for nothing.
                    drop(entry.set_conditions(table, rows, generation));
                }
            }
            Command::Forget { monitor } => drop(self.monitors.remove(&monitor)),
        }
    }

    async fn serve(
        &mut self,
        stream: Box<dyn Stream>,
        remote: &Remote,
        since: &mut Option<Instant>,
    ) -> Result<Deserted, Lost> {
        let mut link = Link::default();
        let end = self.exchange(stream, remote, &mut link, since).await;
        for entry in self.monitors.values_mut() {
            entry.disconnected();
        }
        self.standing.disconnected();
        if let Err(lost) = &end {
            // Before the calls learn of it: who retries at once shall not be told "connected".
            self.state.send_replace(State::Connecting { error: Some(format!("{remote}: {lost}")) });
            link.fail(&lost.to_string());
        }
        end
    }

    async fn exchange(
        &mut self,
        stream: Box<dyn Stream>,
        remote: &Remote,
        link: &mut Link,
        since: &mut Option<Instant>,
    ) -> Result<Deserted, Lost> {
        let (mut reader, mut writer) = split(stream);
        let mut framer = Framer::new(self.options.max_message);
        let mut chunk = vec![0; READ_CHUNK];
        let mut heard = Instant::now();
        // An open socket is no server yet: the first answer is what makes a connection, and that it is a server to stay with.
        link.probe();
        let mut probed = true;
        let mut answered: Option<Instant> = None;
        let mut retry_at = None;
        loop {
            // Unprobed and not to probe, silence means nothing.
            let may_be_silent = !probed && self.options.probe_interval.is_zero();
            let patience = if probed { self.options.dead_after } else { self.options.probe_interval };
            let deadline = heard + patience.min(self.options.dead_after);
            let judged_by = answered.unwrap_or(heard) + self.options.dead_after;
            tokio::select! {
                read = reader.read(&mut chunk) => {
                    let read = read?;
                    if read == 0 {
                        return Err(Lost::Eof);
                    }
                    framer.push(chunk.get(..read).unwrap_or_default());
                    heard = Instant::now();
                    probed = answered.is_none();
                    while let Some(frame) = framer.next_frame()? {
                        self.incoming(link, rpc::parse(&frame)?)?;
                        answered.get_or_insert(heard);
                        probed = false;
                        if since.is_none() && self.is_judged(link)? {
                            *since = Some(heard);
                            self.established(remote);
                        }
                        if since.is_some() {
                            self.begin_monitors(link);
                        }
                    }
                }
                pushed = link.outbox.push(&mut writer), if link.outbox.has_work() => pushed?,
                command = self.commands.recv() => match command {
                    Some(command) if since.is_some() => self.online(link, command)?,
                    Some(command) => self.offline(command),
                    None => return Ok(Deserted),
                },
                () = sleep_until(deadline), if !may_be_silent => {
                    if probed || patience > self.options.dead_after {
                        return Err(Lost::Silent(self.options.dead_after));
                    }
                    link.probe();
                    probed = true;
                }
                () = sleep_until(judged_by), if answered.is_some() && since.is_none() => {
                    return Err(Lost::Silent(self.options.dead_after));
                }
                () = sleep_until(retry_at.unwrap_or(deadline)), if retry_at.is_some() => {
                    retry_at = None;
                    for (id, entry) in self.monitors.iter_mut().filter(|(_, entry)| entry.has_failed()) {
                        ask(link, *id, Some(entry.begin()));
                    }
                }
            }
            if retry_at.is_none() && self.monitors.values().any(Entry::has_failed) {
                retry_at = Some(Instant::now() + self.options.backoff_max);
            }
        }
    }

    fn established(&mut self, remote: &Remote) {
        self.epoch += 1;
        self.passed_over.clear();
        tracing::info!(%remote, epoch = self.epoch, "OVSDB connected");
        self.state.send_replace(State::Connected { epoch: self.epoch, remote: remote.clone() });
    }

    /// Is it known that the server is one to stay with? `Err`: it is not. Where nothing is monitored it is not asked.
    fn is_judged(&mut self, link: &mut Link) -> Result<bool, Unfit> {
        if self.monitors.is_empty() {
            return Ok(true);
        }
        ask(link, standing::MONITOR, self.standing.begin());
        let alone = self.options.remotes.len() == 1;
        for entry in self.monitors.values() {
            self.standing.judge(entry.db(), alone)?;
        }
        Ok(self.standing.is_known())
    }

    /// Not before the server is judged: what a stale one has is not to be seen.
    fn begin_monitors(&mut self, link: &mut Link) {
        if !self.standing.is_known() {
            return;
        }
        for (id, entry) in self.monitors.iter_mut().filter(|(_, entry)| entry.is_idle()) {
            ask(link, *id, Some(entry.begin()));
        }
    }

    /// A command while there is a server.
    fn online(&mut self, link: &mut Link, command: Command) -> Result<(), Lost> {
        match command {
            Command::Call { method, params, answer } => {
                if answer.is_closed() {
                    return Ok(());
                }
                if link.outbox.len() > self.options.max_message {
                    drop(answer.send(Err(Error::Backlog)));
                    return Ok(());
                }
                link.request(method, &params, Pending::Call { method, answer });
            }
            Command::Monitor { id, entry } => {
                self.monitors.insert(id, *entry);
                self.is_judged(link)?;
                self.begin_monitors(link);
            }
            Command::Conditions { monitor, table, rows, generation } => {
                if let Some(entry) = self.monitors.get_mut(&monitor) {
                    ask(link, monitor, entry.set_conditions(table, rows, generation));
                }
            }
            Command::Forget { monitor } => {
                if self.monitors.remove(&monitor).is_some_and(|entry| entry.is_at_server()) {
                    link.request("monitor_cancel", &json!([monitor]), Pending::Nobody);
                }
            }
        }
        Ok(())
    }

    fn incoming(&mut self, link: &mut Link, message: Incoming) -> Result<(), Lost> {
        match message {
            Incoming::Request { id, method, params } if method == "echo" => link.reply(&id, Ok(&params)),
            Incoming::Request { id, method, .. } => {
                tracing::warn!(method, "the server asks for what we do not know");
                link.reply(&id, Err("unknown method"));
            }
            Incoming::Notification { method, params } => self.notification(link, &method, &params)?,
            Incoming::Reply { id, result } => match link.take(id) {
                Some(Pending::Call { method, answer }) => {
                    // The caller may have gone: its own choice.
                    drop(answer.send(result.map_err(|error| Error::Refused { method, error })));
                }
                Some(Pending::Monitor(standing::MONITOR)) => {
                    ask(link, standing::MONITOR, self.standing.answer(result)?);
                    self.is_judged(link)?;
                }
                Some(Pending::Monitor(monitor)) => {
                    if let Some(entry) = self.monitors.get_mut(&monitor) {
                        ask(link, monitor, entry.answer(result)?);
                    }
                }
                Some(Pending::Probe | Pending::Nobody) => {}
                None => return Err(RpcFault::Id.into()),
            },
        }
        Ok(())
    }

    fn notification(&mut self, link: &mut Link, method: &str, params: &Value) -> Result<(), Lost> {
        let params = params.as_array().map(Vec::as_slice).unwrap_or_default();
        let (monitor, last, updates) = match (method, params) {
            ("update2", [monitor, updates]) => (monitor, None, updates),
            ("update3", [monitor, last, updates]) => (monitor, Some(last), updates),
            ("update2" | "update3", _) => return Err(Fault::Malformed("update").into()),
            // Come back and see what is left.
            ("monitor_canceled", _) => return Err(Lost::MonitorCancelled),
            _ => {
                tracing::debug!(method, "notification passed over");
                return Ok(());
            }
        };
        if monitor.as_u64() == Some(standing::MONITOR) {
            self.standing.update(updates)?;
            self.is_judged(link)?;
            return Ok(());
        }
        // One that has just been forgotten may still be updated.
        match monitor.as_u64().and_then(|id| self.monitors.get_mut(&id)) {
            Some(entry) => Ok(entry.update(last, updates)?),
            None => Ok(()),
        }
    }
}

fn ask(link: &mut Link, monitor: u64, ask: Option<Ask>) {
    if let Some(Ask { method, params }) = ask {
        link.request(method, &params, Pending::Monitor(monitor));
    }
}
