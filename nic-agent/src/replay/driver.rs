//! Tells the loop what it was told, step by step.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::audit::{Auditor, OtherEnd};
use crate::backend::overlay;
use crate::claim::{Refusal, SandboxKey};
use crate::config::Config;
use crate::directory::Directory;
use crate::edge::Edge;
use crate::enforcement::Policies;
use crate::ledger::Ledger;
use crate::management::Access;
use crate::metrics::Metrics;
use crate::published::Published;
use crate::reconcile::intake::{Command, Hold, Requests};
use crate::reconcile::trace::{self, Trace};
use crate::reconcile::{Inputs, LEDGER, Parts, Reconciler};
use crate::recording::words::{self, Asked, PoliciesWord, Taken};
use crate::recording::{End, Header, Kind, Player, Replayed, Tape};
use crate::service_manager::Heartbeat;

/// The loop, and the other ends of all that it is told by.
struct Driver {
    player: Player,
    reconciler: Reconciler<Replayed>,
    requests: Requests,
    published: watch::Receiver<Arc<Published>>,
    said: Said,
    audit: OtherEnd,
    /// Of the newest Attach of each sandbox.
    holds: BTreeMap<SandboxKey, Arc<Hold>>,
    /// Answered after the next pass; nobody reads it.
    detaching: Vec<oneshot::Receiver<Result<bool, Refusal>>>,
    passes: usize,
    /// What each attachment was last said to wait for.
    attachments: BTreeMap<String, Option<String>>,
    _access: watch::Receiver<Access>,
    _kernel_events: mpsc::Sender<()>,
}

struct Said {
    config: watch::Sender<Arc<Config>>,
    directory: watch::Sender<Directory>,
    policies: watch::Sender<Policies>,
    health: Option<watch::Sender<Result<(), String>>>,
}

/// Replays all of it, and tells what is done.
///
/// # Errors
/// What is told cannot be written.
pub async fn replay(from: impl BufRead + Send + 'static, to: &mut impl Write) -> io::Result<End> {
    let (player, header) = match Player::open(from) {
        Ok(opened) => opened,
        Err(end) => return Ok(end),
    };
    let (own, by) = (env!("CARGO_PKG_VERSION"), &header.agent);
    writeln!(to, "recorded by nic-agent {by} on {}, replayed by nic-agent {own}", header.hostname)?;
    let end = match Driver::begin(&player, &header) {
        Some(mut driver) => {
            let end = driver.go(to).await?;
            writeln!(to, "{} passes, {} lines", driver.passes, player.line())?;
            end
        }
        None => player.end().unwrap_or(End::Over),
    };
    match &end {
        End::Over => writeln!(to, "the recording ends here; all that was done is the same")?,
        End::CutOff { .. } => writeln!(to, "{end}; all that was done until then is the same")?,
        End::Differs(difference) => writeln!(to, "the first difference:\n{difference}")?,
        End::Damaged { .. } | End::Unreadable { .. } | End::Format { .. } => {}
    }
    Ok(end)
}

impl Driver {
    /// `None`: the recording ends before the loop begins.
    fn begin(player: &Player, header: &Header) -> Option<Self> {
        let tape = Tape::new(player);
        let config = &header.config;
        // A damaged ledger stopped the agent then, and the recording ends with it.
        let ledger = Ledger::load(&tape, &config.state.dir.join(LEDGER)).ok()?.unwrap_or_default();
        let mut said = Said {
            config: watch::channel(Arc::new(config.clone())).0,
            directory: watch::channel(Directory::Unknown { why: String::new() }).0,
            policies: watch::channel(Policies::Off).0,
            health: None,
        };
        loop {
            match player.peek()? {
                Kind::Begin => break,
                Kind::Health => said.health = Some(watch::channel(player.word(Kind::Health)?).0),
                of => said.hear(player, of)?,
            }
        }
        player.word::<()>(Kind::Begin)?;
        let metrics = Metrics::new();
        let (auditor, audit) = Auditor::new();
        let (access, accessed) = watch::channel(Access::of(config, &ledger));
        let (send, kernel_events) = mpsc::channel(1);
        let clock = Arc::new(tape.clone());
        let overlay = overlay::Parts {
            ovs: tape.clone(),
            southbound: tape.clone(),
            edge: Edge::new(config.edge.bridge.clone(), tape.clone(), clock.clone(), metrics.clone()),
            auditor,
            disk: Arc::new(tape.clone()),
            clock,
            hostname: header.hostname.clone(),
            metrics,
        };
        let inputs = Inputs {
            config: said.config.subscribe(),
            directories: said.directory.subscribe(),
            policies: said.policies.subscribe(),
            health: said.health.as_ref().map(watch::Sender::subscribe),
            kernel_events,
        };
        let (reconciler, handle) = Reconciler::new(Parts {
            inputs,
            kernel: tape,
            overlay,
            lookup: None,
            access,
            ledger,
            heartbeat: Heartbeat::new(Duration::from_mins(1)),
            trace: Trace::Replays(player.clone()),
        });
        Some(Self {
            player: player.clone(),
            reconciler,
            requests: handle.requests(),
            published: handle.published(),
            said,
            audit,
            holds: BTreeMap::new(),
            detaching: Vec::new(),
            passes: 0,
            attachments: BTreeMap::new(),
            _access: accessed,
            _kernel_events: send,
        })
    }

    async fn go(&mut self, to: &mut impl Write) -> io::Result<End> {
        loop {
            let line = self.player.line() + 1;
            // What is missing is why there is nothing more.
            if let Some(next) = self.player.peek() {
                self.step(next).await;
            }
            let mut deeds = self.player.deeds();
            if let Some(end) = self.player.end() {
                tell(to, line, "what was begun", &deeds)?;
                return Ok(end);
            }
            deeds.extend(self.progress());
            let what = if self.passes == 0 { "start".to_owned() } else { format!("pass {}", self.passes) };
            tell(to, line, &what, &deeds)?;
        }
    }

    async fn step(&mut self, next: Kind) {
        match next {
            Kind::Take => {
                if let Some(taken) = self.player.word(Kind::Take) {
                    self.take(taken).await;
                }
            }
            Kind::Lost => {
                tokio::select! {
                    biased;
                    () = self.reconciler.replay_loss() => {}
                    // It has no session.
                    () = std::future::ready(()) => self.player.unmet(),
                }
            }
            Kind::CloseFirst | Kind::Pass => {
                if self.player.word::<()>(next).is_none() {
                    return;
                }
                let Self { player, reconciler, .. } = self;
                let work = async {
                    if next == Kind::Pass {
                        reconciler.replay_turn().await;
                    } else {
                        reconciler.close_first().await;
                    }
                };
                tokio::select! {
                    biased;
                    () = player.ended() => {}
                    () = work => {}
                }
                if next == Kind::Pass {
                    self.passes += 1;
                    self.detaching.clear();
                }
            }
            Kind::Progress => {
                if let Some(progress) = self.player.word(next) {
                    let progress = words::progress_of(progress, self.player.began());
                    self.audit.report.send_replace(Arc::new(progress));
                }
            }
            Kind::Loads => {
                if let Some(loads) = self.player.word(next) {
                    self.audit.loads.send_replace(loads);
                }
            }
            of => {
                let _ = self.said.hear(&self.player, of);
            }
        }
    }

    async fn take(&mut self, Taken { asked, given_up }: Taken) {
        for key in given_up {
            self.holds.remove(&key);
        }
        let mut attaching = Vec::new();
        for it in asked {
            let command = match it {
                Asked::Attach(claim) => {
                    let (reply, answer) = oneshot::channel();
                    attaching.push((claim.key.clone(), answer));
                    Command::Attach { claim, reply }
                }
                Asked::Detach(key) => {
                    let (reply, answer) = oneshot::channel();
                    self.detaching.push(answer);
                    Command::Detach { key, reply }
                }
                Asked::Report(key, problem) => Command::Report { key, problem },
            };
            // The loop is there: it is ours.
            let _ = self.requests.send(command).await;
        }
        self.reconciler.replay_requests();
        for (key, mut answer) in attaching {
            if let Ok(Ok(ticket)) = answer.try_recv() {
                self.holds.insert(key, ticket.hold);
            }
        }
    }

    /// What attachments have come to since the last call.
    fn progress(&mut self) -> Vec<String> {
        let published = self.published.borrow_and_update().clone();
        let now: BTreeMap<String, Option<String>> =
            trace::waiting(&published).into_iter().map(|(key, why)| (key, why.map(str::to_owned))).collect();
        let is_new = |(key, why): &(&String, &Option<String>)| self.attachments.get(*key) != Some(*why);
        let text = |(key, why): (&String, &Option<String>)| match why {
            None => format!("{key} is ready"),
            Some(why) => format!("{key} waits: {why}"),
        };
        let news = now.iter().filter(is_new).map(text).collect();
        self.attachments = now;
        news
    }
}

impl Said {
    /// `None`: that is not to be heard now, or makes no sense.
    fn hear(&self, player: &Player, of: Kind) -> Option<()> {
        match of {
            Kind::Config => drop(self.config.send_replace(Arc::new(player.word(of)?))),
            Kind::Directory => drop(self.directory.send_replace(words::directory_of(player.word(of)?))),
            Kind::Policies => {
                drop(self.policies.send_replace(player.word::<PoliciesWord>(of)?.into()));
            }
            Kind::Health => {
                let health: Result<(), String> = player.word(of)?;
                if let Some(to) = &self.health {
                    drop(to.send_replace(health));
                }
            }
            _ => {
                player.unmet();
                return None;
            }
        }
        Some(())
    }
}

fn tell(to: &mut impl Write, line: usize, what: &str, deeds: &[String]) -> io::Result<()> {
    if deeds.is_empty() {
        return Ok(());
    }
    writeln!(to, "line {line}, {what}:")?;
    deeds.iter().try_for_each(|deed| writeln!(to, "  {deed}"))
}
