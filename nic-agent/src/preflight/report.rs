//! What came of the checks: a line for each, as `preflight.json` has them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Of a text in a line, in characters; what is longer is cut.
pub const LONGEST_TEXT: usize = 512;
pub const LONGEST_NAME: usize = 128;
/// A NIC with two eSwitches has some sixty.
pub const MOST_LINES: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    Passed,
    /// It works, and not as it should.
    Warning,
    /// It does not work, or is not safe.
    Failed,
    /// What it takes to know could not be read.
    Unknown,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed => "Passed",
            Self::Warning => "Warning",
            Self::Failed => "Failed",
            Self::Unknown => "Unknown",
        })
    }
}

/// One check of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Line {
    /// Which check; stable.
    pub check: String,
    /// Of what, where there are several: a kernel option, a device, a file's key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    pub state: State,
    /// What there is, or why it could not be read.
    pub found: String,
    pub wanted: String,
    /// The command that mends it; empty of what is passed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl Line {
    pub fn new(
        check: &str,
        subject: &str,
        state: State,
        found: impl Into<String>,
        wanted: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let remedy = if state == State::Passed { String::new() } else { remedy.into() };
        Self {
            check: text(check, LONGEST_NAME),
            subject: text(subject, LONGEST_NAME),
            state,
            found: text(&found.into(), LONGEST_TEXT),
            wanted: text(&wanted.into(), LONGEST_TEXT),
            remedy: text(&remedy, LONGEST_TEXT),
        }
    }

    /// `eswitch-mode pci/0000:03:00.0`.
    pub fn name(&self) -> String {
        if self.subject.is_empty() { self.check.clone() } else { format!("{} {}", self.check, self.subject) }
    }
}

/// On one line, and no longer than that.
fn text(text: &str, longest: usize) -> String {
    let clean = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    if text.chars().count() <= longest {
        clean.collect()
    } else {
        clean.take(longest - 1).chain(['…']).collect()
    }
}

/// All of one look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    pub version: u32,
    /// Of the kernel that it was made on, 32 hexadecimal digits; none where that cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// When it was made, RFC 3339.
    pub time: String,
    pub checks: Vec<Line>,
}

impl Report {
    pub const VERSION: u32 = 1;

    pub fn has_failed(&self) -> bool {
        self.of(State::Failed).next().is_some()
    }

    pub fn of(&self, state: State) -> impl Iterator<Item = &Line> {
        self.checks.iter().filter(move |line| line.state == state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_one_short_line() {
        let line = Line::new("check", "", State::Failed, "a\nb\u{1b}[0m", "x".repeat(2000), "remedy\n");
        assert_eq!((line.found.as_str(), line.remedy.as_str()), ("a b [0m", "remedy"));
        assert_eq!(line.wanted.chars().count(), LONGEST_TEXT);
        assert_eq!(line.name(), "check");
        assert_eq!(Line::new("check", "p0", State::Passed, "", "", "x").remedy, "", "nothing to mend");
    }
}
