//! Boundaries and rules on `br-edge`, and the audit that holds connections against them.

use tracing::info;

use super::Overlay;
use crate::attachment::{Attachment, OverlayPort};
use crate::audit::Wanted;
use crate::backend::Pass;
use crate::edge::{self, EdgeError};
use crate::intent::Intents;
use crate::ledger::Ledger;
use crate::ovs::datapath::Unsupported;
use crate::ovs::spec;
use crate::ovs::view::OvsView;
use crate::platform::Platform;
use crate::profile;

/// Why boundaries are not in place.
#[derive(Debug, thiserror::Error)]
pub(super) enum FlowsError {
    #[error("bridge {0} is not there yet")]
    NoBridge(String),
    #[error(transparent)]
    Datapath(Unsupported),
    #[error(transparent)]
    Edge(#[from] EdgeError),
}

impl<P: Platform> Overlay<P> {
    /// `Err`: why they are not in place.
    pub(super) async fn sync_flows(
        &mut self,
        view: Option<&OvsView>,
        pass: &mut Pass<'_, P::Links>,
    ) -> Result<(), FlowsError> {
        let Pass { config, intents, marks, book, outcome, .. } = pass;
        let bridge = self.edge.bridge().to_owned();
        if !view.is_some_and(|v| v.bridges.get(&bridge).is_some_and(|b| spec::is_ours(&b.external_ids))) {
            return Err(FlowsError::NoBridge(bridge));
        }
        // A zone that had another pod before is emptied before its first flow: the last time, after its quarantine.
        let has_first = |port: &&OverlayPort| port.zone_dirty && port.binding.is_some();
        let ports = book.ledger.attachments().filter_map(Attachment::overlay);
        let dirty: Vec<_> = ports.filter(has_first).map(|port| port.zone).collect();
        for zone in dirty {
            self.flush_zone(zone, outcome).await?;
            let ports = book.ledger.attachments_mut().filter_map(Attachment::overlay_mut);
            for port in ports.filter(|it| it.zone == zone) {
                port.zone_dirty = false;
            }
            book.changed();
        }
        book.keep();
        let ledger = &mut book.ledger;
        self.look_at_connections(config, ledger);
        let wanted = to_audit(ledger, intents);
        let pods = ledger.attachments().filter_map(|attachment| {
            let policy = intents.get(&attachment.id())?.policy.policy();
            let on_link = attachment.binding().map(|it| profile::on_link(&config.profile, it));
            let full = self.is_full(attachment.port.zone());
            Some(edge::Pod { attachment, policy, on_link: on_link.unwrap_or_default(), full })
        });
        let pods = pods.collect();
        self.auditor.coming(&wanted);
        match self.edge.sync(pods, marks, config.edge.pod_connection_rate).await {
            Ok(synced) => {
                outcome.steps += synced.changes;
                for error in synced.too_large {
                    outcome.failed("policy", error);
                }
                for Wanted { key, policy, .. } in &wanted {
                    self.in_force.insert(key.clone(), policy.clone());
                }
                for key in self.auditor.in_tables(wanted, marks) {
                    let pod = ledger.get(&key).map(|it| it.owner.to_string());
                    info!(%key, pod, "policy in the tables");
                }
                ledger.tables_written(self.clock.now());
                Ok(())
            }
            Err(e) => {
                outcome.failed("flows", &e);
                Err(e.into())
            }
        }
    }
}

/// What the tables are to say, as far as it can be said of whom.
fn to_audit(ledger: &Ledger, intents: &Intents) -> Vec<Wanted> {
    let of = |attachment: &Attachment| {
        let key = attachment.id();
        let policy = intents.get(&key)?.policy.policy();
        Some(Wanted {
            zone: attachment.port.zone(),
            key,
            pod: attachment.owner.to_string(),
            addresses: attachment.binding()?.sources(),
            policy,
        })
    };
    ledger.attachments().filter_map(of).collect()
}
