//! The chassis, `br-edge` and the pods' ports in Open vSwitch's database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tracing::{debug, info};

use super::Overlay;
use super::stage::{self, Plugging};
use crate::attachment;
use crate::backend::Pass;
use crate::config::Config;
use crate::kernel::{KernelError, Seen};
use crate::ledger::Ledger;
use crate::outcome::Outcome;
use crate::ovs::datapath::{self, Unsupported};
use crate::ovs::plan::{self, Conflict, OvsStep};
use crate::ovs::restore::Restore;
use crate::ovs::spec::{self, Bridge, BridgeSpec, OvsSpec, PortSpec};
use crate::ovs::view::OvsView;
use crate::platform::{Links, Ovs as _, Platform};
use crate::representors::{self, Representors};
use crate::southbound::state::PortState;

/// Why a port does not go.
#[derive(Debug, thiserror::Error)]
enum StaysOpen {
    #[error("no port goes while representors cannot be seen: {0}")]
    Unseen(Arc<KernelError>),
    #[error("no port goes while its representor is open")]
    Open,
}

impl<P: Platform> Overlay<P> {
    /// All in one transaction. Returns what is in its way, and the ports that it added or took away: what `view` says of them
    /// is what they were before.
    pub(super) async fn sync_ovs(
        &mut self,
        view: &OvsView,
        flows_in: bool,
        pass: &mut Pass<'_, P::Links>,
    ) -> (Vec<Conflict>, BTreeSet<String>) {
        let Pass { config, book, representors, outcome, .. } = pass;
        let before = self.edge.restore;
        if flows_in {
            self.edge.restore = before.advance(view.cur_cfg, view.next_cfg);
        }
        let bump = matches!((before, self.edge.restore), (Restore::Waiting, Restore::Releasing { .. }));
        let (external_ids, other_config) =
            spec::chassis(&config.chassis, &self.hostname, self.edge.restore.value());
        let spec = OvsSpec {
            external_ids,
            other_config,
            edge: BridgeSpec { name: config.edge.bridge.clone() },
            integration: config.chassis.ovn_bridge.clone(),
            ports: wanted(&book.ledger, &self.ports, view, representors),
        };
        let plan = plan::plan(&spec, view);
        outcome.steps += plan.steps.len();
        for step in &plan.steps {
            match step {
                OvsStep::AddPort { bridge, port } => info!(bridge, port = port.name, "adding port"),
                OvsStep::RemovePort { bridge, port } => info!(bridge, port, "removing port"),
                other => debug!(step = ?other, "changing Open vSwitch"),
            }
        }
        let written = match close_what_goes(&plan.steps, view, representors, outcome).await {
            Ok(()) => self.ovs.apply(&plan.steps, bump).await.map_err(|e| e.to_string()),
            Err(why) => Err(why.to_string()),
        };
        let moved = match written {
            Ok(()) => plan.steps.iter().filter_map(OvsStep::moved).map(str::to_owned).collect(),
            Err(e) => {
                outcome.failed("Open vSwitch", e);
                // What was not written is planned again.
                self.edge.restore = before;
                BTreeSet::new()
            }
        };
        (plan.conflicts, moved)
    }
}

/// The ports of all attachments whose identity is known.
fn wanted<L: Links>(
    ledger: &Ledger,
    states: &BTreeMap<String, PortState>,
    view: &OvsView,
    representors: &Representors<L>,
) -> Vec<PortSpec> {
    let mut wanted = Vec::new();
    for attachment in ledger.attachments() {
        let Some(port) = attachment.overlay() else { continue };
        let plugged = view
            .interface(&attachment::int_patch(attachment.vf))
            .is_some_and(|row| row.external_ids.get("iface-id") == Some(&port.logical_port));
        let behind = view.interface(&attachment::edge_patch(attachment.vf)).is_some();
        let plugging = stage::plugging(states.get(&port.logical_port), plugged, behind);
        if let Some(name) = representors.name(attachment.vf)
            && port.binding.is_some()
        {
            let of_pod = spec::pod_ports(attachment, name).into_iter();
            wanted.extend(of_pod.filter(|it| match plugging {
                Plugging::Nothing => false,
                Plugging::Boundary => it.bridge == Bridge::Edge,
                Plugging::All => true,
            }));
        }
    }
    wanted
}

/// A representor closes before its port goes, whatever else failed. `Err`: it does not, and the port must stay.
async fn close_what_goes<L: Links>(
    steps: &[OvsStep],
    view: &OvsView,
    representors: &mut Representors<L>,
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
        Ok(seen) => Ok(representors::plan::going(&seen.reps, &ports)),
        Err(why) => Err(StaysOpen::Unseen(why.clone())),
    };
    // Mostly this pass has closed it already.
    representors.observe(outcome).await;
    let steps = open(representors.seen())?;
    if steps.is_empty() {
        return Ok(());
    }
    representors.apply(steps, outcome).await;
    representors.observe(outcome).await;
    if open(representors.seen())?.is_empty() { Ok(()) } else { Err(StaysOpen::Open) }
}

/// `br-edge` is ours, and is made and mended as it has to be.
pub(super) fn refused(config: &Config, view: &OvsView) -> Option<Unsupported> {
    datapath::unsupported(view, [config.chassis.ovn_bridge.as_str()]).next()
}
