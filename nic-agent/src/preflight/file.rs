//! `/run/nic-agent/preflight.json`: a [`Report`], written whole by the unit `nic-agent-preflight`, read by the agent.
//!
//! The reader takes it for what anybody may have written there: as much as [`LONGEST`], of the shape that the writer gives
//! it, and of this boot, or it is [`Unusable`] and says why.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::report::{LONGEST_NAME, LONGEST_TEXT, MOST_LINES, Report};
use crate::durable::{self, DurableError, SystemDisk};

/// Where the unit writes it.
pub const PATH: &str = "/run/nic-agent/preflight.json";
/// In bytes: [`MOST_LINES`] lines, each as long as it may be, and some room.
pub const LONGEST: u64 = 512 * 1024;

pub fn write(path: &Path, report: &Report) -> Result<(), DurableError> {
    durable::write_json(&SystemDisk, path, report)
}

/// Why there is no report to go by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("no preflight was run since the boot: systemctl start nic-agent-preflight")]
    NotRun,
    #[error("{0}")]
    Unreadable(String),
    #[error("the preflight is of another boot: systemctl start nic-agent-preflight")]
    OtherBoot,
    #[error(
        "which boot this is, or which the preflight is of, is not known: the unit sets NIC_AGENT_BOOT_ID=%b \
         (nic-agent.service)"
    )]
    BootUnknown,
}

impl Unusable {
    /// As a condition's reason.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotRun => "NotRun",
            Self::Unreadable(_) => "Unreadable",
            Self::OtherBoot => "OtherBoot",
            Self::BootUnknown => "BootUnknown",
        }
    }
}

/// `boot_id` is this boot's.
pub fn read(path: &Path, boot_id: Option<&str>) -> Result<Report, Unusable> {
    let bad = |why: String| Unusable::Unreadable(format!("{}: {why}", path.display()));
    let text = match bytes(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Unusable::NotRun),
        Err(e) => return Err(bad(e.to_string())),
    };
    let report: Report = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
    within_bounds(&report).map_err(bad)?;
    match (report.boot_id.as_deref(), boot_id) {
        (Some(of), Some(now)) if of == now => Ok(report),
        (Some(_), Some(_)) => Err(Unusable::OtherBoot),
        (None, _) | (_, None) => Err(Unusable::BootUnknown),
    }
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    // Nobody is waited for at a pipe's other end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no regular file"));
    }
    let mut text = Vec::new();
    let length = File::open(path)?.take(LONGEST + 1).read_to_end(&mut text)?;
    if u64::try_from(length).is_ok_and(|length| length <= LONGEST) {
        return Ok(text);
    }
    Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("more than {} KiB", LONGEST / 1024)))
}

fn within_bounds(report: &Report) -> Result<(), String> {
    if report.version != Report::VERSION {
        return Err(format!("version {} is not known, {} is", report.version, Report::VERSION));
    }
    if report.checks.is_empty() || report.checks.len() > MOST_LINES {
        return Err(format!("{} checks, where 1 to {MOST_LINES} may be", report.checks.len()));
    }
    let is_too_long =
        |text: &str, most: usize| text.chars().count() > most || text.contains(char::is_control);
    for line in &report.checks {
        let names = [&line.check, &line.subject].into_iter().any(|it| is_too_long(it, LONGEST_NAME));
        let texts = [&line.found, &line.wanted, &line.remedy];
        if names || texts.into_iter().any(|it| is_too_long(it, LONGEST_TEXT)) {
            return Err("a text in it is too long, or not one line".to_owned());
        }
    }
    if is_too_long(&report.time, LONGEST_NAME) {
        return Err("its time is too long".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::report::{Line, State};
    use super::*;

    const BOOT: &str = "4d3c0a2e5f1b4c6a9a770123456789ab";

    fn report() -> Report {
        let checks =
            vec![Line::new("page-size", "", State::Failed, "64 KiB", "4 KiB", "boot another kernel")];
        Report { version: 1, boot_id: Some(BOOT.into()), time: "2026-11-30T12:00:00Z".into(), checks }
    }

    fn against(text: &[u8]) -> Result<Report, Unusable> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("preflight.json");
        std::fs::write(&path, text).unwrap();
        read(&path, Some(BOOT))
    }

    fn reason(text: &[u8]) -> &'static str {
        against(text).unwrap_err().reason()
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("preflight.json");
        assert_eq!(read(&path, Some(BOOT)), Err(Unusable::NotRun));
        write(&path, &report()).unwrap();
        assert_eq!(read(&path, Some(BOOT)), Ok(report()));
        assert_eq!(read(&path, Some("another")), Err(Unusable::OtherBoot));
        assert_eq!(read(&path, None), Err(Unusable::BootUnknown));
        write(&path, &Report { boot_id: None, ..report() }).unwrap();
        assert_eq!(read(&path, Some(BOOT)), Err(Unusable::BootUnknown));
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing is left beside it: {left:?}");
    }

    #[test]
    fn a_full_report_can_be_read() {
        let (name, text) = ("c\"".repeat(LONGEST_NAME), "x\"".repeat(LONGEST_TEXT));
        let line = Line::new(&name, &name, State::Failed, &*text, &*text, &*text);
        let full = Report { checks: vec![line; MOST_LINES], ..report() };
        // In its own words: the whole would fill the screen.
        assert!(against(&serde_json::to_vec_pretty(&full).unwrap()) == Ok(full), "not as it was written");
    }

    #[test]
    fn a_bad_file_is_no_report() {
        let with = |change: &dyn Fn(&mut Report)| {
            let mut report = report();
            change(&mut report);
            reason(&serde_json::to_vec(&report).unwrap())
        };
        let line = report().checks[0].clone();
        assert_eq!(with(&|it| it.version = 2), "Unreadable");
        assert_eq!(with(&|it| it.checks.clear()), "Unreadable");
        assert_eq!(with(&|it| it.checks = vec![line.clone(); MOST_LINES + 1]), "Unreadable");
        assert_eq!(with(&|it| it.checks[0].found = "x".repeat(LONGEST_TEXT + 1)), "Unreadable");
        assert_eq!(with(&|it| it.checks[0].check = "x".repeat(LONGEST_NAME + 1)), "Unreadable");
        assert_eq!(with(&|it| it.checks[0].remedy = "two\nlines".into()), "Unreadable");
        assert_eq!(with(&|it| it.time = "x".repeat(LONGEST_NAME + 1)), "Unreadable");
        for text in ["", "{", "[]", "null", "{\"version\":1}", "\u{0}"] {
            assert_eq!(reason(text.as_bytes()), "Unreadable", "{text:?}");
        }
        let mut padded = serde_json::to_vec(&report()).unwrap();
        padded.resize(usize::try_from(LONGEST).unwrap() + 1, b' ');
        let error = against(&padded).unwrap_err().to_string();
        assert!(error.contains("more than 512 KiB"), "{error}");
    }

    #[test]
    fn neither_a_directory_nor_a_pipe_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path(), Some(BOOT)).unwrap_err().reason(), "Unreadable");
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read(&pipe, Some(BOOT)).unwrap_err().reason(), "Unreadable");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..200) {
            let _ = against(&bytes);
            let good = serde_json::to_vec(&report()).unwrap();
            let end = cut.min(good.len() - 1);
            prop_assert!(against(&good[..end]).is_err());
        }
    }
}
