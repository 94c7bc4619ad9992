//! Where the agent's log goes: the journal with a field for each fact, or text or JSON on standard error.
//!
//! Owns the process' tracing subscriber, and takes in what other crates say through the `log` crate. Messages are
//! constant; facts are fields, of the event and of the spans around it.
//!
//! Who else can cause lines can fill neither disk nor journal: each place in the source has a budget ([`throttle`]).
//!
//! Failure: `format = "journal"` without a journal is an error at the start; `auto` falls back to text. An entry that the
//! journal does not take is lost: nothing waits for the log.

mod field;
mod journal;
#[cfg(test)]
mod tests;
mod throttle;

use std::io::{self, IsTerminal};
use std::sync::Arc;

use systemd_journal_logger::{JournalLog, connected_to_journal};
use tracing::subscriber::SetGlobalDefaultError;
use tracing_log::LogTracer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{self, LogFormat, LogLevel};
use crate::metrics::Withheld;
use journal::JournalLayer;
use throttle::Budget;
pub use throttle::Throttle;

/// `SYSLOG_IDENTIFIER`: what `journalctl -t` takes.
const IDENTIFIER: &str = "nic-agent";

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(
        "log.format = \"journal\": the journal cannot be reached: {0}; write \"auto\", \"text\" or \"json\""
    )]
    Journal(#[source] io::Error),
    #[error("this process logs already: {0}")]
    Subscriber(#[from] SetGlobalDefaultError),
    #[error("this process logs already: {0}")]
    Logger(#[from] log::SetLoggerError),
    #[error("log.level = {0:?}: no level; write one of off, error, warn, info, debug, trace")]
    Level(String),
    #[error("log level cannot be changed: {0}")]
    Reload(#[from] reload::Error),
}

type Levels = reload::Layer<Targets, Registry>;
type Bounded = Layered<Budget, Layered<Levels, Registry>>;
type Output = Box<dyn Layer<Bounded> + Send + Sync>;

/// The running log.
#[derive(Debug, Clone)]
pub struct Logging {
    levels: reload::Handle<Targets, Registry>,
    withheld: Withheld,
    /// The levels themselves, when no subscriber holds them.
    _detached: Option<Arc<Levels>>,
}

impl Logging {
    /// Makes this the log of the whole process.
    pub fn install(config: &config::Log) -> Result<Self, LogError> {
        let (layer, levels) = reload::Layer::new(targets(&config.level)?);
        let withheld = Withheld::default();
        let bounded = tracing_subscriber::registry().with(layer).with(Budget::new(withheld.clone()));
        let subscriber = bounded.with(output(config.format)?);
        tracing::subscriber::set_global_default(subscriber)?;
        LogTracer::init()?;
        Ok(Self { levels, withheld, _detached: None })
    }

    /// Says nothing anywhere: for an agent inside of a test.
    pub fn detached() -> Self {
        let (layer, levels) = reload::Layer::new(Targets::new());
        Self { levels, withheld: Withheld::default(), _detached: Some(Arc::new(layer)) }
    }

    /// Counts the lines that were not written.
    pub fn withheld(&self) -> &Withheld {
        &self.withheld
    }

    pub fn set_level(&self, level: &LogLevel) -> Result<(), LogError> {
        Ok(self.levels.reload(targets(level)?)?)
    }
}

/// What the Kubernetes client says of each failed request; we say it once, and in our words.
const NOISY: [&str; 2] = ["kube_client", "kube_runtime"];

fn targets(level: &LogLevel) -> Result<Targets, LogError> {
    let text = level.to_string();
    let mut targets: Targets = text.parse().map_err(|_| LogError::Level(text.clone()))?;
    for crate_name in NOISY.into_iter().filter(|it| !text.contains(it)) {
        targets = targets.with_target(crate_name, LevelFilter::OFF);
    }
    Ok(targets)
}

fn output(format: LogFormat) -> Result<Output, LogError> {
    let journal = || JournalLog::empty().map(|log| log.with_syslog_identifier(IDENTIFIER.to_owned()));
    Ok(match format {
        LogFormat::Journal => to_journal(journal().map_err(LogError::Journal)?),
        LogFormat::Auto if connected_to_journal() => journal().map_or_else(|_| text(), to_journal),
        LogFormat::Auto | LogFormat::Text => text(),
        LogFormat::Json => Box::new(fmt::layer().json().flatten_event(true).with_writer(io::stderr)),
    })
}

fn text() -> Output {
    Box::new(fmt::layer().with_ansi(io::stderr().is_terminal()).with_writer(io::stderr))
}

fn to_journal(log: JournalLog) -> Output {
    Box::new(JournalLayer::new(move |record: &log::Record<'_>| {
        // Whoever would be told of a failure reads the journal.
        let _ = log.journal_send(record);
    }))
}
