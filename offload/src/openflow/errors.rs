//! `OFPT_ERROR` in words.

use std::fmt;

/// What the switch did not like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchError {
    pub kind: u16,
    pub code: u16,
    /// The beginning of the offending message.
    pub data: Vec<u8>,
}

/// (type, its name, names of its codes from zero on), as the specification and `ofp-errors.h` have them.
const NAMES: &[(u16, &str, &[&str])] = &[
    (0, "hello failed", &["no common version", "permission denied"]),
    (
        1,
        "bad request",
        &[
            "version not supported",
            "type not supported",
            "multipart type not supported",
            "experimenter not supported",
            "experimenter type not supported",
            "permission denied",
            "wrong length",
            "buffer already used",
            "buffer unknown",
            "no such table",
            "not the master",
            "bad port",
            "bad packet",
            "multipart buffer overflow",
        ],
    ),
    (
        2,
        "bad action",
        &[
            "unknown action type",
            "wrong length",
            "unknown experimenter",
            "unknown experimenter action",
            "no such output port",
            "bad argument",
            "permission denied",
            "too many actions",
            "bad queue",
            "no such group",
            "match inconsistent with actions",
            "unsupported order",
            "unsupported tag",
            "unsupported set-field type",
            "set-field length",
            "bad set-field argument",
            "bad set-field mask",
            "no such meter",
        ],
    ),
    (
        3,
        "bad instruction",
        &[
            "unknown instruction",
            "unsupported instruction",
            "bad table in goto",
            "unsupported metadata",
            "unsupported metadata mask",
            "unknown experimenter",
            "unknown experimenter instruction",
            "wrong length",
            "permission denied",
            "duplicate instruction",
        ],
    ),
    (
        4,
        "bad match",
        &[
            "unsupported match type",
            "wrong length",
            "bad tag",
            "unsupported datalink mask",
            "unsupported network mask",
            "bad wildcards",
            "unsupported field",
            "bad value",
            "bad mask",
            "missing prerequisite",
            "duplicate field",
            "permission denied",
        ],
    ),
    (
        5,
        "flow mod failed",
        &[
            "unknown reason",
            "table full",
            "no such table",
            "overlap",
            "permission denied",
            "bad timeout",
            "bad command",
            "bad flags",
            "cannot synchronise",
            "bad priority",
        ],
    ),
    (
        17,
        "bundle failed",
        &[
            "unknown reason",
            "permission denied",
            "no such bundle",
            "bundle exists",
            "bundle is closed",
            "out of bundles",
            "unsupported type",
            "bad flags",
            "bad length in message",
            "xid of message differs",
            "unsupported message",
            "conflicting messages",
            "too many messages",
            "a message failed",
            "timeout",
            "bundle in progress",
        ],
    ),
];

/// Reasons of Nicira's own: their experimenter errors begin with the vendor and a number.
const EXPERIMENTER: u16 = 0xffff;

impl SwitchError {
    /// Names of type and code, where they are known.
    pub fn words(&self) -> (Option<&'static str>, Option<&'static str>) {
        match NAMES.iter().find(|(kind, _, _)| *kind == self.kind) {
            Some((_, name, codes)) => (Some(name), codes.get(usize::from(self.code)).copied()),
            None if self.kind == EXPERIMENTER => (Some("error of the vendor's own"), None),
            None => (None, None),
        }
    }
}

impl fmt::Display for SwitchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.words() {
            (Some(kind), Some(code)) => write!(f, "{kind}: {code}")?,
            (Some(kind), None) => write!(f, "{kind}")?,
            (None, _) => write!(f, "unknown error")?,
        }
        write!(f, " (type {}, code {})", self.kind, self.code)
    }
}
