//! One line of a recording.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::config::Config;

/// Grows when an older nic-agent cannot read the file any more.
pub const FORMAT: u32 = 1;

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Header {
    #[serde(rename = "nic-agent-recording")]
    pub format: u32,
    /// The agent's version.
    pub agent: String,
    /// `external_ids:hostname` of the chassis.
    pub hostname: String,
    /// In force at the start.
    pub config: Config,
}

impl Header {
    pub fn new(hostname: String, config: Config) -> Self {
        Self { format: FORMAT, agent: env!("CARGO_PKG_VERSION").to_owned(), hostname, config }
    }
}

/// What of the first line every version has.
#[derive(Deserialize)]
pub(super) struct AnyHeader {
    #[serde(rename = "nic-agent-recording")]
    pub(super) format: u32,
}

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    // What the loop is told between its steps.
    Config,
    Directory,
    Policies,
    Health,
    Progress,
    Loads,
    /// The OpenFlow session.
    Lost,
    // Its steps, and what they came to.
    Begin,
    CloseFirst,
    Take,
    Settled,
    Pass,
    Passed,
    // What it asks for.
    Now,
    Read,
    Write,
    Observe,
    Links,
    ForgetLosses,
    View,
    Ovs,
    ForgetFlows,
    AskFor,
    Unready,
    ExternalIds,
    Ports,
    Connect,
    DumpFlows,
    Meters,
    MeterStats,
    ChangeMeters,
    Flows,
    FlushZone,
}

impl Kind {
    /// As it stands in the file.
    pub fn name(self) -> String {
        serde_json::to_string(&self).unwrap_or_default().trim_matches('"').to_owned()
    }
}

/// What is not there is null.
const NULL: &str = "null";

/// `ask` and `hear` are JSON.
pub(super) fn text(of: Kind, ask: &str, hear: &str) -> String {
    let field = |name: &str, value: &str| {
        if value == NULL { String::new() } else { format!(",\"{name}\":{value}") }
    };
    format!("{{\"of\":\"{}\"{}{}}}", of.name(), field("ask", ask), field("hear", hear))
}

pub(super) fn same(of: Kind) -> String {
    format!("{{\"same\":\"{}\"}}", of.name())
}

/// Read, and not yet understood.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) of: Kind,
    pub(super) ask: String,
    pub(super) hear: String,
}

/// As [`text`] and [`same`] write them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<'a> {
    same: Option<Kind>,
    of: Option<Kind>,
    #[serde(borrow)]
    ask: Option<&'a RawValue>,
    #[serde(borrow)]
    hear: Option<&'a RawValue>,
}

/// `last` is the last line of its kind.
pub(super) fn read(text: &str, last: impl FnOnce(Kind) -> Option<Line>) -> Result<Line, String> {
    let stored: Stored<'_> = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let json = |it: Option<&RawValue>| it.map_or(NULL, RawValue::get).to_owned();
    match (stored.of, stored.same) {
        (Some(of), None) => Ok(Line { of, ask: json(stored.ask), hear: json(stored.hear) }),
        (None, Some(of)) => last(of).ok_or_else(|| format!("no line of {:?} is before it", of.name())),
        _ => Err("it is neither a word nor the repetition of one".to_owned()),
    }
}
