//! The reconcile loop's part in the server's management port: it is wanted, or it goes.

use offload::ids::VfId;
use tracing::{info, warn};

use super::Reconciler;
use crate::attachment::{Attachment, AttachmentId, Owner};
use crate::claim::PodRef;
use crate::config::Config;
use crate::management::{self, Access};
use crate::outcome::Outcome;
use crate::platform::Platform;
use crate::published::{ManagementPort, State};
use crate::representors::plan;

/// Why the ledger does not have the management port.
#[derive(Debug, thiserror::Error)]
pub(super) enum ManagementError {
    #[error("{vf} is held by pod {holder}")]
    VfHeld { vf: VfId, holder: Box<Owner> },
    #[error("logical port {logical_port} is that of pod {pod}")]
    LogicalPortHeld { logical_port: String, pod: PodRef },
    #[error("no free conntrack zone: all {size} are in use, or were a moment ago")]
    NoZone { size: u32 },
}

impl<P: Platform> Reconciler<P> {
    /// The ledger has the management port that the configuration names, or none. `Err`: why it has not.
    pub(super) fn keep_management(&mut self, config: &Config) -> Result<(), ManagementError> {
        let wanted = config
            .edge
            .management_port
            .map(|vf| (vf, management::logical_port(&config.profile, &config.node.name)));
        let is_wanted = |it: &Attachment| {
            let has = |port: &str| it.overlay().is_some_and(|it| it.logical_port == *port);
            wanted.as_ref().is_some_and(|(vf, port)| it.vf == *vf && has(port))
        };
        match self.book.ledger.get(&AttachmentId::Host) {
            Some(there) if is_wanted(there) => return Ok(()),
            Some(_) => {
                if let Some(old) = self.book.ledger.withdraw(&AttachmentId::Host) {
                    let port = old.overlay().map(|it| it.logical_port.as_str());
                    info!(vf = %old.vf, port, "management port released");
                    self.forget(&old);
                    self.book.save();
                }
            }
            None => {}
        }
        let Some((vf, logical_port)) = wanted else { return Ok(()) };
        if let Some(holder) = self.book.ledger.holder(vf) {
            return Err(ManagementError::VfHeld { vf, holder: Box::new(holder.owner.clone()) });
        }
        let has_it = |it: &Attachment| it.overlay().is_some_and(|it| it.logical_port == logical_port);
        if let Some((_, holder)) = self.book.ledger.pods().find(|(it, _)| has_it(it)) {
            return Err(ManagementError::LogicalPortHeld { logical_port, pod: holder.pod.clone() });
        }
        let Some(zone) = self.book.ledger.free_zone(config.edge.ct_zones) else {
            return Err(ManagementError::NoZone { size: config.edge.ct_zones.size() });
        };
        info!(%vf, port = logical_port, "management port wanted");
        self.book.ledger.insert(management::attachment(vf, zone, logical_port));
        self.book.save();
        Ok(())
    }

    /// Tells the policies' compiler whose traffic is the node's.
    pub(super) fn tell_access(&self, config: &Config) {
        let now = Access::of(config, &self.book.ledger);
        self.access.send_if_modified(|told| {
            let is_new = *told != now;
            if is_new {
                info!(access = ?now, "whose traffic is the node's own");
                *told = now;
            }
            is_new
        });
    }

    /// The function gets the port's MAC address, so that the server need not know it.
    pub(super) async fn address_management(&mut self, outcome: &mut Outcome) {
        let port = self.book.ledger.get(&AttachmentId::Host);
        let wanted = port.and_then(|port| Some((port.vf, port.binding()?.mac)));
        let step = wanted.and_then(|(vf, mac)| plan::address(self.representors.all(), vf, mac));
        if let Some(step) = step {
            self.representors.apply(vec![step], outcome).await;
            self.representors.observe(outcome).await;
        }
    }

    /// `state` is its attachment's, `kept` why there is none.
    pub(super) fn management(
        &self,
        config: &Config,
        kept: &Result<(), ManagementError>,
        state: Option<State>,
    ) -> Option<ManagementPort> {
        let vf = config.edge.management_port?;
        let state = match (state, kept) {
            (Some(State::Ready(_)), _) => Ok(()),
            (Some(State::Waiting(why)), _) => Err(why),
            (None, Err(why)) => Err(why.to_string()),
            (None, Ok(())) => Err("not looked at yet".to_owned()),
        };
        let binding = self.book.ledger.get(&AttachmentId::Host).and_then(Attachment::binding).cloned();
        let (mac, ips) = binding.map(|it| (Some(it.mac), it.ips)).unwrap_or_default();
        if let Err(why) = &state
            && self.publish.borrow().management.as_ref().is_none_or(|before| before.state != state)
        {
            warn!(%vf, error = why, "management port not ready");
        }
        Some(ManagementPort { vf, mac, ips, state })
    }
}
