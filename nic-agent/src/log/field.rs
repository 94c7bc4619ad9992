//! Names and values of fields on their way to the journal.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use tracing::field::{Field, Visit};

/// Names that the journal, systemd or our own entries give a meaning (systemd.journal-fields(7)). A fact of that name
/// gets another one.
const RESERVED: [&str; 22] = [
    "MESSAGE",
    "MESSAGE_ID",
    "PRIORITY",
    "CODE_FILE",
    "CODE_LINE",
    "CODE_FUNC",
    "CODE_MODULE",
    "ERRNO",
    "INVOCATION_ID",
    "USER_INVOCATION_ID",
    "SYSLOG_FACILITY",
    "SYSLOG_IDENTIFIER",
    "SYSLOG_PID",
    "SYSLOG_TIMESTAMP",
    "SYSLOG_RAW",
    "DOCUMENTATION",
    "TID",
    "UNIT",
    "USER_UNIT",
    "TARGET",
    "SPAN",
    "MONOTONIC_USEC",
];

/// What an entry about another process or a crash begins with.
const RESERVED_BEGINNINGS: [&str; 2] = ["COREDUMP_", "OBJECT_"];

/// The name under which the journal keeps a fact: upper case, never a reserved one.
pub(super) fn journal_name(name: &str) -> Cow<'_, str> {
    let upper = name.to_ascii_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_");
    let reserved =
        RESERVED.contains(&upper.as_str()) || RESERVED_BEGINNINGS.iter().any(|b| upper.starts_with(b));
    if reserved { Cow::Owned(format!("FIELD_{upper}")) } else { Cow::Owned(upper) }
}

/// The facts of an event or a span, as text, and an event's message.
#[derive(Debug, Default, Clone)]
pub(super) struct Facts {
    pub(super) message: String,
    pub(super) pairs: Vec<(&'static str, String)>,
}

impl Facts {
    /// A name stands once; the later value is the nearer one.
    fn set(&mut self, name: &'static str, value: String) {
        match name {
            "message" => self.message = value,
            // tracing-log's own, which stand in the normalized metadata.
            _ if name.starts_with("log.") => {}
            _ => match self.pairs.iter_mut().find(|(known, _)| *known == name) {
                Some((_, old)) => *old = value,
                None => self.pairs.push((name, value)),
            },
        }
    }

    pub(super) fn extend(&mut self, nearer: &Self) {
        for (name, value) in &nearer.pairs {
            self.set(name, value.clone());
        }
        if !nearer.message.is_empty() {
            self.message.clone_from(&nearer.message);
        }
    }
}

impl Visit for Facts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.set(field.name(), value.to_string());
    }
}
