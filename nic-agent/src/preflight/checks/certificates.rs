//! How long each certificate is valid that the agent shows or trusts.

use super::super::report::{Line, State};
use super::super::system::{Certificate, System, Validity};

const DAY: i64 = 86_400;
/// Less is a warning.
const ENOUGH: i64 = 14;

pub fn all(system: &System) -> Vec<Line> {
    let unread = match &system.configuration {
        Ok(it) if it.problems.is_some() && system.certificates.is_empty() => {
            Some("the configuration does not say where they are")
        }
        Ok(_) => None,
        Err(why) => Some(why.as_str()),
    };
    if let Some(why) = unread {
        let wanted = format!("{ENOUGH} days or more");
        return vec![Line::new("certificate", "", State::Unknown, why, wanted, "nic-agent --check")];
    }
    system.certificates.iter().map(|it| one(it, system.now)).collect()
}

fn one(certificate: &Certificate, now: i64) -> Line {
    let Certificate { key, path, validity } = certificate;
    let remedy = format!("put a new one at {} (docs/operation.md, Certificates)", path.display());
    let line = |state, found: String| {
        Line::new("certificate", key, state, found, format!("{ENOUGH} days or more"), remedy.as_str())
    };
    let Validity { not_before, not_after } = match validity {
        Ok(validity) => *validity,
        Err(why) => return line(State::Unknown, why.clone()),
    };
    if now < not_before {
        return line(
            State::Failed,
            format!("valid in {} days only; is the clock right?", days(not_before - now)),
        );
    }
    if now > not_after {
        return line(State::Failed, format!("expired {} days ago", days(now - not_after)));
    }
    let left = days(not_after - now);
    let state = if left < ENOUGH { State::Warning } else { State::Passed };
    line(state, format!("{left} days left"))
}

fn days(seconds: i64) -> i64 {
    seconds / DAY
}
