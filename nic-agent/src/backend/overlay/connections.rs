//! What is said of how many connections each attachment has, and may have. Who counts them is the audit; who keeps them
//! from becoming more, `br-edge`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use offload::ids::CtZone;
use tracing::info;

use super::Overlay;
use crate::attachment;
use crate::audit::Load;
use crate::config::Config;
use crate::ledger::Ledger;
use crate::platform::Platform;
use crate::published::Connections;

/// A pod that has met its limit is said to for so long: who goes up and down at it is not written anew each time.
const REMEMBERED: Duration = Duration::from_mins(5);

/// Attachments that had as many as they may.
#[derive(Debug, Default)]
pub(super) struct ConnectionLimits(BTreeMap<CtZone, Instant>);

impl ConnectionLimits {
    /// These zones have no room. Returns those that had some.
    fn look(
        &mut self,
        full: impl Iterator<Item = CtZone>,
        is_known: impl Fn(&CtZone) -> bool,
        now: Instant,
    ) -> Vec<CtZone> {
        self.0.retain(|zone, at| is_known(zone) && now.saturating_duration_since(*at) < REMEMBERED);
        full.filter(|zone| self.0.insert(*zone, now).is_none()).collect()
    }

    fn are(&self, zone: CtZone) -> bool {
        self.0.contains_key(&zone)
    }
}

impl<P: Platform> Overlay<P> {
    pub(super) fn is_full(&self, zone: CtZone) -> bool {
        self.auditor.load(zone).is_some_and(|load| load.full)
    }

    /// What pods may have, and who has it.
    pub(super) fn look_at_connections(&mut self, config: &Config, ledger: &Ledger) {
        self.auditor.limit(config.edge.pod_connections);
        let zones: BTreeMap<CtZone, String> =
            ledger.attachments().map(|it| (it.port.zone(), it.owner.to_string())).collect();
        let full: Vec<CtZone> = zones.keys().copied().filter(|zone| self.is_full(*zone)).collect();
        let now = self.clock.now();
        for zone in self.connections.look(full.into_iter(), |zone| zones.contains_key(zone), now) {
            if let (Some(pod), Some(withheld)) = (zones.get(&zone), self.throttle.admit()) {
                let limit = config.edge.pod_connections;
                info!(pod, limit, withheld, "pod has as many connections as it may, no other begins");
            }
        }
        self.metrics.limited_pods.set(i64::try_from(self.connections.0.len()).unwrap_or(i64::MAX));
    }

    pub(super) fn connections_of(&self, of: &attachment::Attachment, config: &Config) -> Option<Connections> {
        let Load { connections: used, .. } = self.auditor.load(of.port.zone())?;
        let ports = attachment::of_ports(of.vf);
        Some(Connections {
            limit: config.edge.pod_connections,
            used,
            limited: self.connections.are(of.port.zone()),
            refused_by_rate: ports.map_or(0, |(rep, patch)| self.edge.refused([rep, patch])),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_met_is_told_once_and_remembered() {
        let (start, zone) = (Instant::now(), CtZone::new(1).unwrap());
        let mut limits = ConnectionLimits::default();
        let mut look = |is_full: bool, is_known: bool, at: Instant| {
            let new = limits.look(is_full.then_some(zone).into_iter(), |_| is_known, at).len();
            (new, limits.are(zone))
        };
        assert_eq!(look(false, true, start), (0, false));
        assert_eq!(look(true, true, start), (1, true));
        let soon = start + REMEMBERED / 2;
        assert_eq!(look(true, true, soon), (0, true));
        assert_eq!(look(false, true, start + REMEMBERED), (0, true));
        assert_eq!(look(false, true, soon + REMEMBERED), (0, false));
        assert_eq!(look(true, true, soon + REMEMBERED), (1, true));
        assert_eq!(look(false, false, soon + REMEMBERED), (0, false), "the zone is nobody's");
    }
}
