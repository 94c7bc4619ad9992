//! What a pass closes: first of all what nobody holds, and whatever else is open when its port goes.

use std::collections::BTreeSet;
use std::sync::Arc;

use offload::ids::VfId;
use tracing::warn;

use super::Reconciler;
use super::links;
use super::outcome::Outcome;
use crate::attachment::Attachment;
use crate::config::Config;
use crate::kernel::{KernelError, Seen};
use crate::ovs::datapath::{self, Unsupported};
use crate::ovs::plan::OvsStep;
use crate::ovs::view::OvsView;
use crate::platform::{Ovs as _, Platform};

/// Why a port does not go.
#[derive(Debug, thiserror::Error)]
pub(super) enum StaysOpen {
    #[error("no port goes while representors cannot be seen: {0}")]
    Unseen(Arc<KernelError>),
    #[error("no port goes while its representor is open")]
    Open,
}

impl<P: Platform> Reconciler<P> {
    /// What a start does before it can fail for any other reason.
    pub async fn close_first(&mut self) {
        let mut outcome = Outcome::default();
        self.close_unheld(&mut outcome).await;
        for error in outcome.errors {
            warn!(error, "not all representors closed, the first pass tries again");
        }
    }

    /// Representors that no attachment holds reach nothing, and those that Open vSwitch does not have neither; none where
    /// its datapath is none of ours.
    pub(super) async fn close_unheld(&mut self, outcome: &mut Outcome) {
        let view = self.ovs.view().ok();
        let refused = view.is_some_and(|view| refused(&self.config.borrow(), &view).is_some());
        // One without an identity has no boundary yet: what is open is so for whoever held it before.
        let has_identity = |a: &&Attachment| a.binding().is_some();
        let mut held: BTreeSet<VfId> = self.ledger.attachments().filter(has_identity).map(|a| a.vf).collect();
        if refused {
            held.clear();
        }
        self.observe_kernel(outcome).await;
        if let Ok(seen) = &self.seen {
            let steps = links::close(&seen.reps, &held, links::is_lost);
            self.apply_links(steps, outcome).await;
        }
    }

    /// A representor closes before its port goes, whatever else failed. `Err`: it does not, and the port must stay.
    pub(super) async fn close_what_goes(
        &mut self,
        steps: &[OvsStep],
        view: &OvsView,
        outcome: &mut Outcome,
    ) -> Result<(), StaysOpen> {
        let is_patch = |port: &str| view.interface(port).is_some_and(|row| row.kind == "patch");
        let ports: BTreeSet<&str> = (steps.iter())
            .filter_map(|step| match step {
                OvsStep::RemovePort { port, .. } => Some(port.as_str()),
                _ => None,
            })
            .filter(|port| !is_patch(port))
            .collect();
        if ports.is_empty() {
            return Ok(());
        }
        let open = |seen: &Result<Seen, Arc<KernelError>>| match seen {
            Ok(seen) => Ok(links::going(&seen.reps, &ports)),
            Err(why) => Err(StaysOpen::Unseen(why.clone())),
        };
        // Mostly this pass has closed it already.
        self.observe_kernel(outcome).await;
        let steps = open(&self.seen)?;
        if steps.is_empty() {
            return Ok(());
        }
        self.apply_links(steps, outcome).await;
        self.observe_kernel(outcome).await;
        if open(&self.seen)?.is_empty() { Ok(()) } else { Err(StaysOpen::Open) }
    }
}

/// `br-edge` is ours, and is made and mended as it has to be.
pub(super) fn refused(config: &Config, view: &OvsView) -> Option<Unsupported> {
    datapath::unsupported(view, [config.chassis.ovn_bridge.as_str()]).next()
}
