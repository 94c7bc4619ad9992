//! Conditions, as `metav1.Condition` has them (Kubernetes API conventions, "Typical status properties").

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    True,
    False,
    Unknown,
}

/// One aspect of an object's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// CamelCase.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub kind: String,
    pub status: ConditionStatus,
    /// `metadata.generation` that this was said of. Smaller than that: the newest spec has not been looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// When `status` changed last, RFC 3339, UTC.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// CamelCase, for programs.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// For people.
    #[schemars(length(max = 32768))]
    pub message: String,
}

impl Condition {
    /// The time is filled in by [`Self::after`].
    #[must_use]
    pub fn new(kind: &str, status: ConditionStatus, reason: &str, message: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            status,
            observed_generation: None,
            last_transition_time: String::new(),
            reason: reason.to_owned(),
            message: shortened(message.into()),
        }
    }

    #[must_use]
    pub fn of(self, generation: Option<i64>) -> Self {
        Self { observed_generation: generation, ..self }
    }

    /// What is to be published: `now` counts only if `status` is another than before.
    #[must_use]
    pub fn after(self, before: &[Self], now: &str) -> Self {
        let same = before.iter().find(|it| it.kind == self.kind && it.status == self.status);
        let since = same.map_or(now, |it| &it.last_transition_time).to_owned();
        Self { last_transition_time: since, ..self }
    }
}

/// Far below what the schema allows: a condition is read in a terminal.
const LONGEST_MESSAGE: usize = 2048;

fn shortened(message: String) -> String {
    match message.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", message.get(..end).unwrap_or_default()),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(status: ConditionStatus, reason: &str) -> Condition {
        Condition::new("Ready", status, reason, "").of(Some(1))
    }

    #[test]
    fn time_changes_with_the_status_only() {
        let first = ready(ConditionStatus::False, "Starting").after(&[], "t1");
        assert_eq!(first.last_transition_time, "t1");
        let other_reason = ready(ConditionStatus::False, "OVSDown").after(std::slice::from_ref(&first), "t2");
        assert_eq!(
            (other_reason.last_transition_time.as_str(), other_reason.reason.as_str()),
            ("t1", "OVSDown")
        );
        let up = ready(ConditionStatus::True, "Ready").after(&[other_reason], "t3");
        assert_eq!(up.last_transition_time, "t3");
    }
}
