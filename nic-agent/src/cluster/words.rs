//! What all that is written to the API has in common: names, times, and how conditions are worded.

use std::collections::BTreeSet;
use std::time::Duration;

use drawbridge_api::{Condition, ConditionStatus};
use k8s_openapi::jiff::Timestamp;

/// `metadata.managedFields[].manager` of what we write.
pub(super) const MANAGER: &str = "nic-agent";
/// How long a write may take before it counts as failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// Names that a message holds; the rest is counted.
const SHOWN: usize = 3;

/// "a, b, c and 7 more"; `None` of nothing.
pub(super) fn few(names: impl Iterator<Item = String>) -> Option<String> {
    let all: BTreeSet<String> = names.collect();
    let shown: Vec<&str> = all.iter().take(SHOWN).map(String::as_str).collect();
    match all.len().checked_sub(SHOWN) {
        _ if all.is_empty() => None,
        None | Some(0) => Some(shown.join(", ")),
        Some(more) => Some(format!("{} and {more} more", shown.join(", "))),
    }
}

/// The reason of `Offloaded` where nobody asks for it.
pub(super) const SWITCHED_OFF: &str = "SwitchedOff";

/// `Offloaded`, of so many rules in hardware and in software.
pub(super) fn status_of(
    kind: &str,
    asked_for: bool,
    (hardware, software): (i64, i64),
    reasons: impl Iterator<Item = String>,
) -> Condition {
    if !asked_for {
        let what = "offload is switched off (spec.offload.mode)";
        return Condition::new(kind, ConditionStatus::False, SWITCHED_OFF, what);
    }
    match (hardware, software) {
        (0, 0) => {
            let what = "no traffic has made a rule yet";
            Condition::new(kind, ConditionStatus::Unknown, "NoRules", what)
        }
        (_, 0) => Condition::new(kind, ConditionStatus::True, "InHardware", "every rule runs in hardware"),
        (_, _) => {
            let what = few(reasons).unwrap_or_default();
            Condition::new(
                kind,
                ConditionStatus::False,
                "InSoftware",
                format!("some rules run in software: {what}"),
            )
        }
    }
}

/// The time, as conditions have it.
pub(super) fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_named_and_many_are_counted() {
        let names = |count: u8| few((0..count).map(|it| format!("n{it}")));
        assert_eq!(names(0), None);
        assert_eq!(names(3).as_deref(), Some("n0, n1, n2"));
        assert_eq!(names(5).as_deref(), Some("n0, n1, n2 and 2 more"));
    }

    #[test]
    fn time_is_what_the_schema_takes() {
        let now = now();
        assert_eq!((now.len(), now.parse::<Timestamp>().is_ok()), (20, true), "{now}");
    }
}
