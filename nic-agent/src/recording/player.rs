//! Reads a recording, and holds what is asked now against what was asked then.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, BufRead};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use super::line::{self, AnyHeader, FORMAT, Header, Kind, Line};

/// No text that is shown is longer.
const SHOWN: usize = 4000;

/// Why nothing more is to be had of a recording.
#[derive(Debug, Clone, thiserror::Error)]
pub enum End {
    /// All of it was heard.
    #[error("the recording ends here")]
    Over,
    #[error("line {line} is cut off: the recording ends here")]
    CutOff { line: usize },
    #[error("line {line} is damaged: {why}")]
    Damaged { line: usize, why: String },
    #[error("line {line}: it cannot be read: {why}")]
    Unreadable { line: usize, why: String },
    #[error("line 1: the recording has format {found}, this nic-agent reads format {FORMAT}")]
    Format { found: u32 },
    #[error(transparent)]
    Differs(#[from] Difference),
}

/// Where the loop does something else than it did.
#[derive(Debug, Clone, thiserror::Error)]
#[error("line {line}: recorded: {recorded}\nline {line}: now:      {now}")]
pub struct Difference {
    pub line: usize,
    pub recorded: String,
    pub now: String,
}

/// Cheap to clone; all of them read the one recording.
#[derive(Clone)]
pub struct Player(Arc<Shared>);

struct Shared {
    began: Instant,
    tape: Mutex<Reading>,
    ended: Notify,
}

struct Reading {
    from: Box<dyn BufRead + Send>,
    /// The last that was read; they count from 1.
    number: usize,
    ahead: Option<Line>,
    last: BTreeMap<Kind, Line>,
    now: Instant,
    end: Option<End>,
    deeds: VecDeque<String>,
}

impl fmt::Debug for Player {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Player").field(&self.lock().number).finish()
    }
}

impl Player {
    pub fn open(from: impl BufRead + Send + 'static) -> Result<(Self, Header), End> {
        let began = Instant::now();
        let mut reading = Reading {
            from: Box::new(from),
            number: 0,
            ahead: None,
            last: BTreeMap::new(),
            now: began,
            end: None,
            deeds: VecDeque::new(),
        };
        let text = reading.text().map_err(|end| match end {
            End::Over | End::CutOff { .. } => {
                End::Damaged { line: 1, why: "the file is no recording, or too little of one".to_owned() }
            }
            other => other,
        })?;
        let damaged = |e: serde_json::Error| End::Damaged { line: 1, why: e.to_string() };
        // First: another format's header may look like anything.
        let AnyHeader { format } = serde_json::from_str(&text).map_err(damaged)?;
        if format != FORMAT {
            return Err(End::Format { found: format });
        }
        let header = serde_json::from_str(&text).map_err(damaged)?;
        let shared = Shared { began, tape: Mutex::new(reading), ended: Notify::new() };
        Ok((Self(Arc::new(shared)), header))
    }

    /// What all times are since.
    pub fn began(&self) -> Instant {
        self.0.began
    }

    /// The number of the line that was read last.
    pub fn line(&self) -> usize {
        self.lock().number
    }

    pub fn end(&self) -> Option<End> {
        self.lock().end.clone()
    }

    /// Resolves when nothing more is to be had.
    pub async fn ended(&self) {
        while self.end().is_none() {
            self.0.ended.notified().await;
        }
    }

    /// What comes next; `None`: nothing.
    pub fn peek(&self) -> Option<Kind> {
        self.with(|reading| Ok(reading.next()?.of))
    }

    /// What comes next, if it is of this kind: a word that nobody asked for.
    pub fn word<A: DeserializeOwned>(&self, of: Kind) -> Option<A> {
        self.answer(of, &())
    }

    /// What was answered then, where the same was asked.
    pub fn answer<A: DeserializeOwned>(&self, of: Kind, ask: &impl Serialize) -> Option<A> {
        self.with(|reading| {
            let hear = reading.meet(of, ask)?.hear;
            serde_json::from_str(&hear)
                .map_err(|e| End::Damaged { line: reading.number, why: format!("{}: {e}", of.name()) })
        })
    }

    /// The same was done then.
    pub fn compare(&self, of: Kind, ask: &impl Serialize) {
        let _: Option<()> = self.with(|reading| reading.meet(of, ask).map(|_| ()));
    }

    /// What comes next was asked then, and is not now.
    pub fn unmet(&self) {
        let _: Option<()> = self.with(|reading| {
            let line = reading.next()?;
            let recorded = show((line.of, &line.ask), (line.of, &line.ask)).0;
            Err(Difference { line: reading.number, recorded, now: "nothing is asked".to_owned() }.into())
        });
    }

    /// What time it was; it stands still where nobody knows.
    pub fn now(&self) -> Instant {
        let nanos: Option<u64> = self.answer(Kind::Now, &());
        let mut reading = self.lock();
        if let Some(at) = nanos.and_then(|it| self.0.began.checked_add(Duration::from_nanos(it))) {
            reading.now = at;
        }
        reading.now
    }

    /// What is there makes no sense.
    pub fn damaged(&self, why: String) {
        let _: Option<()> = self.with(|reading| Err(End::Damaged { line: reading.number, why }));
    }

    /// For people: what is done.
    pub fn tell(&self, deed: impl FnOnce() -> String) {
        let mut reading = self.lock();
        if reading.end.is_none() {
            let deed = deed();
            reading.deeds.push_back(deed);
        }
    }

    /// Since the last call.
    pub fn deeds(&self) -> Vec<String> {
        self.lock().deeds.drain(..).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Reading> {
        self.0.tape.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, read: impl FnOnce(&mut Reading) -> Result<T, End>) -> Option<T> {
        let mut reading = self.lock();
        if reading.end.is_some() {
            return None;
        }
        match read(&mut reading) {
            Ok(read) => Some(read),
            Err(end) => {
                reading.end = Some(end);
                self.0.ended.notify_one();
                None
            }
        }
    }
}

impl Reading {
    fn text(&mut self) -> Result<String, End> {
        let mut bytes = Vec::new();
        let read = self.from.read_until(b'\n', &mut bytes);
        let line = self.number + 1;
        read.map_err(|e: io::Error| End::Unreadable { line, why: e.to_string() })?;
        if bytes.is_empty() {
            return Err(End::Over);
        }
        self.number = line;
        if bytes.pop() != Some(b'\n') {
            return Err(End::CutOff { line });
        }
        String::from_utf8(bytes).map_err(|e| End::Damaged { line, why: e.to_string() })
    }

    fn next(&mut self) -> Result<&Line, End> {
        if self.ahead.is_none() {
            let text = self.text()?;
            let line = line::read(&text, |of| self.last.get(&of).cloned())
                .map_err(|why| End::Damaged { line: self.number, why })?;
            self.ahead = Some(line);
        }
        self.ahead.as_ref().ok_or(End::Over)
    }

    /// The next line, which is to be this.
    fn meet(&mut self, of: Kind, ask: &impl Serialize) -> Result<Line, End> {
        self.next()?;
        let line = self.ahead.take().ok_or(End::Over)?;
        let now =
            serde_json::to_string(ask).map_err(|e| End::Damaged { line: self.number, why: e.to_string() })?;
        if line.of != of || line.ask != now {
            let (recorded, now) = show((line.of, &line.ask), (of, &now));
            return Err(Difference { line: self.number, recorded, now }.into());
        }
        if self.last.get(&of).is_none_or(|it| it.ask != line.ask || it.hear != line.hear) {
            self.last.insert(of, line.clone());
        }
        Ok(line)
    }
}

/// Both, from a little before where they begin to differ.
fn show(recorded: (Kind, &str), now: (Kind, &str)) -> (String, String) {
    let alike = recorded.1.bytes().zip(now.1.bytes()).take_while(|(a, b)| a == b).count();
    let text = |(of, ask): (Kind, &str)| {
        if ask == "null" {
            return of.name();
        }
        let from = if ask.len() > SHOWN { alike.saturating_sub(SHOWN / 8) } else { 0 };
        let (from, until) = (ask.floor_char_boundary(from), ask.floor_char_boundary(from + SHOWN));
        let part = ask.get(from..until).unwrap_or_default();
        let (before, after) = (if from > 0 { "…" } else { "" }, if until < ask.len() { "…" } else { "" });
        format!("{} {before}{part}{after}", of.name())
    };
    (text(recorded), text(now))
}
