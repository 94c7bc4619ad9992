//! Zones whose pod is gone, until they may be given again.
//!
//! ```text
//!  attachment leaves ─► Named ─ the tables are written without it ─► Unnamed ─ emptied at once, and again after SETTLE ─► free
//! ```
//!
//! A zone that is emptied while a flow that names it is in the tables, or in what the switch made of them, is filled again by
//! the next packet; and the next pod would have the last one's connections for its own. Nothing that the agent can ask says
//! when the last such packet has passed, so [`SETTLE`] is waited, and the zone is emptied once more before it is free. It is
//! emptied again before its next pod's first flow.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use offload::ids::CtZone;

/// Longer than OVS takes to follow its tables (`max-revalidator`, half a second) and hardware to follow conntrack (a second).
pub(super) const SETTLE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Flows that name it may be in the tables.
    Named,
    /// There are none `since`; `emptied`: once since then.
    Unnamed { since: Instant, emptied: bool },
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Quarantine(BTreeMap<CtZone, Stage>);

impl Quarantine {
    pub(super) fn put(&mut self, zone: CtZone) {
        self.0.insert(zone, Stage::Named);
    }

    pub(super) fn contains(&self, zone: CtZone) -> bool {
        self.0.contains_key(&zone)
    }

    pub(super) fn zones(&self) -> impl Iterator<Item = CtZone> {
        self.0.keys().copied()
    }

    /// The tables have no flows but those of attachments that are.
    pub(super) fn tables_written(&mut self, now: Instant) {
        for stage in self.0.values_mut().filter(|it| **it == Stage::Named) {
            *stage = Stage::Unnamed { since: now, emptied: false };
        }
    }

    /// Zones that are to be emptied now.
    pub(super) fn due(&self, now: Instant) -> Vec<CtZone> {
        let is_due = |stage: &Stage| match stage {
            Stage::Named => false,
            Stage::Unnamed { since, emptied } => !emptied || now.duration_since(*since) >= SETTLE,
        };
        self.0.iter().filter(|(_, stage)| is_due(stage)).map(|(zone, _)| *zone).collect()
    }

    /// It was, and that was begun at `begun`.
    pub(super) fn emptied(&mut self, zone: CtZone, begun: Instant) {
        match self.0.get_mut(&zone) {
            Some(Stage::Unnamed { since, .. }) if begun.duration_since(*since) >= SETTLE => {
                self.0.remove(&zone);
            }
            Some(Stage::Unnamed { emptied, .. }) => *emptied = true,
            Some(Stage::Named) | None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_emptied_after_its_flows_are_gone_and_again_before_it_is_free() {
        let zone = CtZone::new(61000).unwrap();
        let (mut quarantine, began) = (Quarantine::default(), Instant::now());
        quarantine.put(zone);
        // Emptied by whoever, with flows that fill it again: that does not count.
        assert_eq!(quarantine.due(began + SETTLE * 9), []);
        quarantine.emptied(zone, began + SETTLE * 9);
        assert!(quarantine.contains(zone));

        quarantine.tables_written(began);
        assert_eq!(quarantine.due(began), [zone]);
        quarantine.emptied(zone, began);
        assert_eq!(quarantine.due(began + SETTLE / 2), []);
        assert!(quarantine.contains(zone), "emptied, but packets may be on their way");
        // That the tables are written again and again makes it no longer.
        quarantine.tables_written(began + SETTLE / 2);
        assert_eq!(quarantine.due(began + SETTLE), [zone]);
        assert!(quarantine.contains(zone));
        quarantine.emptied(zone, began + SETTLE);
        assert!(!quarantine.contains(zone));
    }
}
