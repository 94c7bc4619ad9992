//! The condition `PreflightPassed`: what the unit `nic-agent-preflight` has found.

use drawbridge_api::{Condition, ConditionStatus, conditions as kinds};

use crate::preflight::watch::Preflight;
use crate::preflight::{Line, State};

/// What has failed is named with what mends it. What could not be read is not passed: then nothing is said of the whole.
pub fn condition(preflight: &Preflight) -> Condition {
    let of = |status, reason, what: String| Condition::new(kinds::PREFLIGHT_PASSED, status, reason, what);
    let report = match preflight {
        Ok(report) => report,
        Err(why) => return of(ConditionStatus::Unknown, why.reason(), why.to_string()),
    };
    let all = |state, words: &dyn Fn(&Line) -> String| {
        let words: Vec<String> = report.of(state).map(words).collect();
        (!words.is_empty()).then(|| words.join("; "))
    };
    let whole =
        |it: &Line| format!("{}: found {}, wanted {}; mend: {}", it.name(), it.found, it.wanted, it.remedy);
    let failed = all(State::Failed, &whole);
    let unknown = all(State::Unknown, &|it| format!("{}: {}", it.name(), it.found));
    let warnings = all(State::Warning, &|it| format!("{}: {}", it.name(), it.found));
    let unread = |it: &String| format!("not read: {it}");
    let warned = |it: &String| format!("warnings: {it}");
    let message = |parts: [Option<String>; 3]| parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
    let rest = (warnings.as_ref().map(warned), unknown.as_ref().map(unread));
    match (failed, &unknown, &warnings) {
        (Some(failed), _, _) => of(ConditionStatus::False, "Failed", message([Some(failed), rest.0, rest.1])),
        (None, Some(_), _) => of(ConditionStatus::Unknown, "NotAllRead", message([None, rest.1, rest.0])),
        (None, None, Some(_)) => of(ConditionStatus::True, "Warnings", message([None, rest.0, None])),
        (None, None, None) => {
            of(ConditionStatus::True, "Passed", format!("all {} checks", report.checks.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::preflight::Report;
    use crate::preflight::file::Unusable;

    fn said(states: &[State]) -> (ConditionStatus, String, String) {
        let line = |(n, state): (usize, &State)| {
            Line::new("check", &n.to_string(), *state, "this", "that", "do something")
        };
        let checks = states.iter().enumerate().map(line).collect();
        let report = Report { version: 1, boot_id: None, time: String::new(), checks };
        let Condition { kind, status, reason, message, .. } = condition(&Ok(Arc::new(report)));
        assert_eq!(kind, "PreflightPassed");
        (status, reason, message)
    }

    #[test]
    fn the_worst_is_the_condition() {
        use State::{Failed, Passed, Unknown, Warning};
        let good = ConditionStatus::True;
        assert_eq!(said(&[Passed, Passed]), (good, "Passed".into(), "all 2 checks".into()));
        assert_eq!(said(&[Passed, Warning]), (good, "Warnings".into(), "warnings: check 1: this".into()));
        let (status, reason, message) = said(&[Unknown, Warning, Passed]);
        assert_eq!((status, reason.as_str()), (ConditionStatus::Unknown, "NotAllRead"));
        assert_eq!(message, "not read: check 0: this; warnings: check 1: this");
        let (status, reason, message) = said(&[Unknown, Failed, Passed]);
        assert_eq!((status, reason.as_str()), (ConditionStatus::False, "Failed"));
        assert_eq!(message, "check 1: found this, wanted that; mend: do something; not read: check 0: this");
    }

    #[test]
    fn without_a_report_nothing_is_known() {
        for (why, reason) in [
            (Unusable::NotRun, "NotRun"),
            (Unusable::OtherBoot, "OtherBoot"),
            (Unusable::BootUnknown, "BootUnknown"),
            (Unusable::Unreadable("x".into()), "Unreadable"),
        ] {
            let condition = condition(&Err(why));
            assert_eq!((condition.status, condition.reason.as_str()), (ConditionStatus::Unknown, reason));
        }
    }
}
