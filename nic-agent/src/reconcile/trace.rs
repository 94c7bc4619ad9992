//! The loop's side of a recording, and of a replay: what it is told between its steps, which step begins, and what it came
//! to.
//!
//! Where nothing is recorded the loop reads its channels as they are. Where it is, they pass a gate, which opens before each
//! step and at no other time: so a step meets one word of each, and the file says which.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

use super::batch::{Left, Settled};
use super::intake::{Command, Tickets};
use super::{Inputs, Reconciler};
use crate::audit::{Auditor, Loads, Progress};
use crate::config::Config;
use crate::directory::Directory;
use crate::enforcement::Policies;
use crate::news;
use crate::platform::Platform;
use crate::published::{Published, State};
use crate::recording::words::{self, Asked, PoliciesWord, Taken};
use crate::recording::{Kind, Player, Recorder};

/// Whether all this is recorded, or is a recording.
#[derive(Debug, Default)]
pub enum Trace {
    #[default]
    Off,
    Records(Box<Gate>),
    Replays(Player),
}

/// From a channel to the loop's.
#[derive(Debug)]
struct Valve<T> {
    from: watch::Receiver<T>,
    to: watch::Sender<T>,
    is_news: bool,
}

#[derive(Debug)]
pub struct Gate {
    recorder: Recorder,
    config: Valve<Arc<Config>>,
    directory: Valve<Directory>,
    policies: Valve<Policies>,
    health: Option<Valve<Result<(), String>>>,
    progress: Valve<Arc<Progress>>,
    loads: Valve<Loads>,
}

/// What became of the server's requests.
#[derive(Serialize)]
struct SettledWord {
    believed: Vec<String>,
    refused: Vec<(String, String)>,
    left: Vec<(String, String)>,
    unsaved: Option<String>,
}

/// What a pass came to.
#[derive(Serialize)]
struct PassedWord<'a> {
    complete: bool,
    steps: usize,
    errors: &'a BTreeSet<String>,
    /// What each waits for; none: it is ready.
    attachments: BTreeMap<String, Option<&'a str>>,
}

impl<T: Clone> Valve<T> {
    /// What `of` has now it keeps.
    fn before(of: &mut watch::Receiver<T>) -> Self {
        let (to, behind) = watch::channel(of.borrow_and_update().clone());
        Self { from: std::mem::replace(of, behind), to, is_news: false }
    }

    /// What is new.
    fn open(&mut self) -> Option<T> {
        let now = {
            let now = self.from.borrow_and_update();
            (now.has_changed() || self.is_news).then(|| now.clone())
        };
        self.is_news = false;
        if let Some(now) = &now {
            self.to.send_replace(now.clone());
        }
        now
    }

    async fn changed(&mut self) {
        news::changed(&mut self.from).await;
        self.is_news = true;
    }
}

impl Gate {
    fn before(inputs: &mut Inputs, auditor: &mut Auditor, recorder: Recorder) -> Self {
        let gate = Self {
            recorder,
            config: Valve::before(&mut inputs.config),
            directory: Valve::before(&mut inputs.directories),
            policies: Valve::before(&mut inputs.policies),
            health: inputs.health.as_mut().map(Valve::before),
            progress: Valve::before(&mut auditor.progress),
            loads: Valve::before(&mut auditor.loads),
        };
        gate.note_directory(&gate.directory.to.borrow());
        gate.note_policies(&gate.policies.to.borrow());
        if let Some(health) = &gate.health {
            gate.recorder.note(Kind::Health, || ((), health.to.borrow().clone()));
        }
        gate.recorder.note(Kind::Begin, || ((), ()));
        gate
    }

    fn note_directory(&self, directory: &Directory) {
        self.recorder.note(Kind::Directory, || ((), words::directory(directory)));
    }

    fn note_policies(&self, policies: &Policies) {
        self.recorder.note(Kind::Policies, || ((), PoliciesWord::from(policies)));
    }

    fn open(&mut self) {
        if let Some(config) = self.config.open() {
            self.recorder.note(Kind::Config, || ((), &*config));
        }
        if let Some(directory) = self.directory.open() {
            self.note_directory(&directory);
        }
        if let Some(policies) = self.policies.open() {
            self.note_policies(&policies);
        }
        if let Some(health) = self.health.as_mut().and_then(Valve::open) {
            self.recorder.note(Kind::Health, || ((), health));
        }
        if let Some(progress) = self.progress.open() {
            let recorder = &self.recorder;
            recorder.note(Kind::Progress, || ((), words::progress(&progress, |at| recorder.offset(at))));
        }
        if let Some(loads) = self.loads.open() {
            self.recorder.note(Kind::Loads, || ((), loads));
        }
    }

    async fn changed(&mut self) {
        let health = async {
            match &mut self.health {
                Some(health) => health.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.config.changed() => {}
            () = self.directory.changed() => {}
            () = self.policies.changed() => {}
            () = health => {}
            () = self.progress.changed() => {}
            () = self.loads.changed() => {}
        }
    }
}

impl Trace {
    /// Before the loop is made of these.
    pub fn of(recorder: Recorder, inputs: &mut Inputs, auditor: &mut Auditor) -> Self {
        if recorder.is_on() {
            Self::Records(Box::new(Gate::before(inputs, auditor, recorder)))
        } else {
            Self::Off
        }
    }

    /// Resolves when something waits before the gate.
    pub(super) async fn changed(&mut self) {
        match self {
            Self::Records(gate) => gate.changed().await,
            Self::Off | Self::Replays(_) => std::future::pending().await,
        }
    }

    pub(super) fn open(&mut self) {
        if let Self::Records(gate) = self {
            gate.open();
        }
    }

    pub(super) fn begins(&mut self, step: Kind) {
        self.open();
        if let Self::Records(gate) = self {
            gate.recorder.note(step, || ((), ()));
        }
    }

    /// Who has given up is looked at once, so that the file can say it.
    /// False where nobody is to be told what becomes of them.
    pub(super) fn takes(&mut self, commands: &[Command], tickets: &mut Tickets) -> bool {
        let gate = match self {
            Self::Off => return false,
            Self::Replays(_) => return true,
            Self::Records(gate) => gate,
        };
        let given_up = tickets.look().to_vec();
        if commands.is_empty() && given_up.is_empty() {
            return false;
        }
        let asked = |command: &Command| match command {
            Command::Attach { claim, .. } => Asked::Attach(claim.clone()),
            Command::Detach { key, .. } => Asked::Detach(key.clone()),
            Command::Report { key, problem } => Asked::Report(key.clone(), problem.clone()),
        };
        let asked = || commands.iter().map(asked).collect();
        gate.recorder.note(Kind::Take, || ((), Taken { asked: asked(), given_up }));
        true
    }

    pub(super) fn settled(&mut self, settled: &Settled) {
        let refused = |(claim, why): &(crate::claim::Claim, crate::claim::Refusal)| {
            (claim.key.to_string(), why.to_string())
        };
        let left = |(attachment, why): &(crate::attachment::Attachment, Left)| {
            let why = match why {
                Left::GivenUp => "given up".to_owned(),
                Left::Detached => "detached".to_owned(),
                Left::Superseded { by } => format!("superseded by {by}"),
            };
            (attachment.id().to_string(), why)
        };
        self.came_to(Kind::Settled, || SettledWord {
            believed: settled.believed.iter().map(|it| it.key.to_string()).collect(),
            refused: settled.refused.iter().map(refused).collect(),
            left: settled.left.iter().map(left).collect(),
            unsaved: settled.unsaved.as_ref().map(ToString::to_string),
        });
        if let Self::Replays(player) = self {
            for claim in &settled.believed {
                player.tell(|| format!("believes {} of {} on {}", claim.key, claim.pod, claim.vf));
            }
            for (key, why) in settled.refused.iter().map(refused) {
                player.tell(|| format!("refuses {key}: {why}"));
            }
            for (id, why) in settled.left.iter().map(left) {
                player.tell(|| format!("lets go of {id}: {why}"));
            }
        }
    }

    pub(super) fn passed(&mut self, complete: bool, errors: &BTreeSet<String>, published: &Published) {
        self.came_to(Kind::Passed, || PassedWord {
            complete,
            steps: published.steps,
            errors,
            attachments: waiting(published),
        });
    }

    fn came_to<W: Serialize>(&self, what: Kind, word: impl FnOnce() -> W) {
        match self {
            Self::Off => {}
            Self::Records(gate) => gate.recorder.note(what, || (word(), ())),
            Self::Replays(player) => player.compare(what, &word()),
        }
    }
}

impl<P: Platform> Reconciler<P> {
    pub(super) async fn pass(&mut self) -> bool {
        self.trace.begins(Kind::Pass);
        let complete = self.look_and_change().await;
        self.trace.passed(complete, &self.errors, &self.publish.borrow());
        complete
    }

    /// A step of a replay.
    pub(crate) async fn replay_turn(&mut self) {
        self.turn().await;
    }

    /// A step of a replay.
    pub(crate) fn replay_requests(&mut self) {
        self.take_in();
    }

    /// As the loop's `select`: whether the OpenFlow session is lost it is told, and does not find out.
    pub(crate) async fn replay_loss(&mut self) {
        self.overlay.lost().await;
    }
}

/// What each attachment waits for; none: it is ready.
pub fn waiting(published: &Published) -> BTreeMap<String, Option<&str>> {
    let of = |state| match state {
        &State::Ready(_) => None,
        State::Waiting(what) => Some(what.as_str()),
    };
    published.attachments.iter().map(|(key, it)| (key.to_string(), of(&it.state))).collect()
}
