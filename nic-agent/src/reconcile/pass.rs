//! One pass: observe, plan, apply, publish.
//!
//! The order is what makes it safe. Representors that nobody holds are closed before anything else is tried. A
//! boundary's flows go in before its ports, and its representor opens when both are there; it closes before they go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use offload::ids::VfId;
use tracing::{debug, info, warn};

use super::closing::refused;
use super::enforce::{Enforcement, policy_known};
use super::links;
use super::management::ManagementError;
use super::outcome::Outcome;
use super::stage::{self, Facts, Plugging};
use super::{Reconciler, admission};
use crate::attachment::{self, Attachment, Binding, OverlayPort, Sandbox};
use crate::config::Config;
use crate::edge::{self, EdgeError};
use crate::kernel::view::{LinkStep, RepView};
use crate::metrics::OutcomeLabel;
use crate::ovs::datapath::Unsupported;
use crate::ovs::plan::{self as ovs_plan, Conflict, OvsStep};
use crate::ovs::restore::Restore;
use crate::ovs::spec::{self, Bridge, BridgeSpec, OvsSpec};
use crate::ovs::view::OvsView;
use crate::platform::{Links as _, Ovs as _, Platform, Southbound as _};
use crate::profile::{self, Answer};
use crate::published::{Entry, Health, Published, State, Wiring};
use crate::southbound::state::PortState;

/// What a pass has come to know of the world around.
struct Found<'a> {
    view: Result<&'a OvsView, &'a str>,
    ports: &'a BTreeMap<String, PortState>,
    conflicts: &'a [Conflict],
    /// A datapath that is none of ours: all is closed.
    refused: Option<&'a Unsupported>,
    /// Whether the flows are in.
    flows: Result<(), &'a str>,
    enforced: &'a Enforcement,
    /// Whether the management port is in the ledger, if it should be.
    management: &'a Result<(), ManagementError>,
}

/// Why boundaries are not in place.
#[derive(Debug, thiserror::Error)]
enum FlowsError {
    #[error("bridge {0} is not there yet")]
    NoBridge(String),
    #[error(transparent)]
    Datapath(Unsupported),
    #[error(transparent)]
    Edge(#[from] EdgeError),
}

impl<P: Platform> Reconciler<P> {
    /// True when nothing failed and nothing is left to do.
    pub(super) async fn pass(&mut self) -> bool {
        let started = self.clock.now();
        let config = self.config.borrow_and_update().clone();
        let mut outcome = Outcome::default();
        self.drop_the_dead(&config);
        let management = self.keep_management(&config);
        self.close_unheld(&mut outcome).await;

        let ports = self.learn_identities(&config);
        self.tell_access(&config);
        self.address_management(&mut outcome).await;
        let enforced = self.resolve_policies(&mut outcome);
        let view = self.ovs.view();
        self.metrics.set_connected("ovsdb", view.is_ok());
        self.metrics.set_connected("southbound", self.southbound.unready().is_none());
        let refused = view.as_ref().ok().and_then(|view| refused(&config, view));
        let flows = match &refused {
            None => self.sync_flows(&config, view.as_ref().ok(), &enforced, &mut outcome).await,
            Some(why) => Err(FlowsError::Datapath(why.clone())),
        };
        let conflicts = match (&view, &refused) {
            // Whoever uses it has what he wrote there; of us he hears nothing that would work by half.
            (Ok(_), Some(why)) => {
                outcome.failed("Open vSwitch", why);
                vec![Conflict::from(why.clone())]
            }
            (Ok(view), None) => self.sync_ovs(&config, view, &ports, flows.is_ok(), &mut outcome).await,
            (Err(why), _) => {
                outcome.failed("Open vSwitch", why);
                Vec::new()
            }
        };
        self.flush_zones(&mut outcome).await;
        self.offer_anew(&config);

        if let (Ok(view), Ok(()), Ok(seen)) = (&view, &flows, &self.seen) {
            let ready = with_boundary(self.ledger.attachments(), &seen.reps, view, &outcome.moved);
            let steps = links::open(&seen.reps, &ready, config.edge.mtu);
            if !steps.is_empty() {
                self.apply_links(steps, &mut outcome).await;
                self.observe_kernel(&mut outcome).await;
            }
        }
        // From here on it is texts: what is said of an attachment, and of the whole.
        let (view, flows) = (view.map_err(|why| why.to_string()), flows.map_err(|why| why.to_string()));
        let found = Found {
            view: view.as_ref().map_err(String::as_str),
            ports: &ports,
            conflicts: &conflicts,
            refused: refused.as_ref(),
            flows: flows.as_ref().copied().map_err(String::as_str),
            enforced: &enforced,
            management: &management,
        };
        self.publish(&config, &found, &outcome);
        self.account(outcome, started)
    }

    /// Pods that the cluster says are no more, or not here.
    fn drop_the_dead(&mut self, config: &Config) {
        let directory = self.directories.borrow_and_update().clone();
        let dead: Vec<_> = self
            .ledger
            .pods()
            .filter(|(_, sandbox)| admission::is_dead(sandbox, &directory, config.served()))
            .map(|(_, sandbox)| sandbox.clone())
            .collect();
        let any = !dead.is_empty();
        for Sandbox { key, pod, .. } in dead {
            if let Some(attachment) = self.ledger.detach(&key) {
                info!(%key, %pod, vf = %attachment.vf, "pod is gone, VF taken back");
                self.forget(&attachment);
            }
        }
        if any || self.unsaved {
            self.save();
        }
    }

    pub(super) async fn observe_kernel(&mut self, outcome: &mut Outcome) {
        self.seen = self.kernel.observe().await.map_err(Arc::new);
        match &self.seen {
            Ok(seen) => {
                if let Some(taken) = seen.asked {
                    let outcome = if taken { "taken" } else { "refused" };
                    self.metrics.offload_probes.get_or_create(&OutcomeLabel { outcome }).inc();
                }
                for rep in &seen.reps {
                    if let Some(vf) = rep.vf {
                        self.rep_names.insert(vf, rep.name.clone());
                    }
                }
                let closed = seen.reps.iter().filter(|r| r.closed && !r.up).count();
                self.metrics.closed_representors.set(i64::try_from(closed).unwrap_or(i64::MAX));
            }
            Err(why) => outcome.failed("representors", why),
        }
    }

    pub(super) async fn apply_links(&self, steps: Vec<LinkStep>, outcome: &mut Outcome) {
        outcome.steps += steps.len();
        for step in &steps {
            match step {
                LinkStep::Close { name, .. } => info!(representor = name, "closing representor"),
                LinkStep::Open { name, .. } => info!(representor = name, "opening representor"),
                LinkStep::SetMtu { name, mtu, .. } => info!(representor = name, mtu, "setting MTU"),
                LinkStep::SetMac { name, mac, .. } => info!(representor = name, %mac, "setting the VF's MAC"),
            }
        }
        if steps.is_empty() {
            return;
        }
        for error in self.kernel.apply(steps).await {
            outcome.failed("representors", error);
        }
    }

    /// What the southbound says of each logical port; identities go into the ledger.
    fn learn_identities(&mut self, config: &Config) -> BTreeMap<String, PortState> {
        let ports = self.ledger.attachments().filter_map(|it| Some((it, it.overlay()?)));
        let claimed: BTreeMap<String, String> =
            ports.map(|(it, port)| (port.logical_port.clone(), it.owner.uid().to_owned())).collect();
        self.southbound.ask_for(&claimed.keys().cloned().collect());
        let answers = self.southbound.ports(&claimed, &config.chassis.system_id, &config.profile);
        let mut learned = false;
        for attachment in self.ledger.attachments_mut() {
            let asks = attachment.is_host();
            let Some(port) = attachment.overlay_mut() else { continue };
            let said = answers.get(&port.logical_port).and_then(|(_, binding)| binding.clone());
            // The server's own port asks OVN for its address, whatever pods do.
            let said = said.map(|it| Binding { dhcp: it.dhcp || asks, ..it });
            if let Some(binding) = said
                && port.binding.as_ref() != Some(&binding)
            {
                info!(port = port.logical_port, mac = %binding.mac, ips = ?binding.ips, "identity learned");
                port.binding = Some(binding);
                learned = true;
            }
        }
        self.unsaved |= learned;
        answers.into_iter().map(|(name, (state, _))| (name, state)).collect()
    }

    /// Boundaries on `br-edge`. `Err`: why they are not in place.
    async fn sync_flows(
        &mut self,
        config: &Config,
        view: Option<&OvsView>,
        enforced: &Enforcement,
        outcome: &mut Outcome,
    ) -> Result<(), FlowsError> {
        let bridge = self.edge.bridge().to_owned();
        if !view.is_some_and(|v| v.bridges.get(&bridge).is_some_and(|b| spec::is_ours(&b.external_ids))) {
            return Err(FlowsError::NoBridge(bridge));
        }
        // A zone that had another pod before is emptied before its first flow: the last time, after its quarantine.
        let has_first = |port: &&OverlayPort| port.zone_dirty && port.binding.is_some();
        let ports = self.ledger.attachments().filter_map(Attachment::overlay);
        let dirty: Vec<_> = ports.filter(has_first).map(|port| port.zone).collect();
        for zone in dirty.iter().copied() {
            if let Err(e) = self.edge.flush_zone(zone).await {
                outcome.failed("conntrack", &e);
                return Err(e.into());
            }
            let ports = self.ledger.attachments_mut().filter_map(Attachment::overlay_mut);
            for port in ports.filter(|it| it.zone == zone) {
                port.zone_dirty = false;
            }
        }
        self.unsaved |= !dirty.is_empty();
        if self.unsaved {
            self.save();
        }
        self.look_at_connections(config);
        let wanted = self.to_audit(enforced);
        let pods = self.ledger.attachments().filter_map(|attachment| {
            let policy = enforced.get(&attachment.id())?.policy();
            let on_link = attachment.binding().map(|it| profile::on_link(&config.profile, it));
            let full = self.is_full(attachment.port.zone());
            Some(edge::Pod { attachment, policy, on_link: on_link.unwrap_or_default(), full })
        });
        let pods = pods.collect();
        self.auditor.coming(&wanted);
        match self.edge.sync(pods, self.marks.current(), config.edge.pod_connection_rate).await {
            Ok(synced) => {
                outcome.steps += synced.changes;
                for error in synced.too_large {
                    outcome.failed("policy", error);
                }
                self.in_tables(wanted);
                self.ledger.tables_written(self.clock.now());
                Ok(())
            }
            Err(e) => {
                outcome.failed("flows", &e);
                Err(e.into())
            }
        }
    }

    /// Chassis, bridges and ports, in one transaction.
    async fn sync_ovs(
        &mut self,
        config: &Config,
        view: &OvsView,
        ports: &BTreeMap<String, PortState>,
        flows_in: bool,
        outcome: &mut Outcome,
    ) -> Vec<Conflict> {
        let before = self.edge.restore;
        if flows_in {
            self.edge.restore = before.advance(view.cur_cfg, view.next_cfg);
        }
        let bump = matches!((before, self.edge.restore), (Restore::Waiting, Restore::Releasing { .. }));
        let (external_ids, other_config) =
            spec::chassis(&config.chassis, &self.hostname, self.edge.restore.value());
        let mut wanted = Vec::new();
        for attachment in self.ledger.attachments() {
            let Some(port) = attachment.overlay() else { continue };
            let plugged = view
                .interface(&attachment::int_patch(attachment.vf))
                .is_some_and(|row| row.external_ids.get("iface-id") == Some(&port.logical_port));
            let behind = view.interface(&attachment::edge_patch(attachment.vf)).is_some();
            let plugging = stage::plugging(ports.get(&port.logical_port), plugged, behind);
            if let Some(name) = self.rep_names.get(&attachment.vf)
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
        let spec = OvsSpec {
            external_ids,
            other_config,
            edge: BridgeSpec { name: config.edge.bridge.clone() },
            integration: config.chassis.ovn_bridge.clone(),
            ports: wanted,
        };
        let plan = ovs_plan::plan(&spec, view);
        outcome.steps += plan.steps.len();
        for step in &plan.steps {
            match step {
                OvsStep::AddPort { bridge, port } => info!(bridge, port = port.name, "adding port"),
                OvsStep::RemovePort { bridge, port } => info!(bridge, port, "removing port"),
                other => debug!(step = ?other, "changing Open vSwitch"),
            }
        }
        let written = match self.close_what_goes(&plan.steps, view, outcome).await {
            Ok(()) => self.ovs.apply(&plan.steps, bump).await.map_err(|e| e.to_string()),
            Err(why) => Err(why.to_string()),
        };
        match written {
            Ok(()) => outcome.moved.extend(plan.steps.iter().filter_map(OvsStep::moved).map(str::to_owned)),
            Err(e) => {
                outcome.failed("Open vSwitch", e);
                // What was not written is planned again.
                self.edge.restore = before;
            }
        }
        plan.conflicts
    }

    /// Connections of pods that are gone.
    async fn flush_zones(&mut self, outcome: &mut Outcome) {
        let now = self.clock.now();
        for zone in self.ledger.zones_to_empty(now) {
            match self.edge.flush_zone(zone).await {
                Ok(()) => self.ledger.emptied(zone, now),
                Err(e) => outcome.failed("conntrack", e),
            }
        }
    }

    fn publish(&mut self, config: &Config, found: &Found<'_>, outcome: &Outcome) {
        let &Found { view, ports, conflicts, refused, flows, enforced, management: kept } = found;
        let mut published = Published {
            attachments: BTreeMap::new(),
            health: self.health(view, refused, flows),
            passes: self.publish.borrow().passes + 1,
            steps: outcome.steps,
            policy: self.policy_status(enforced),
            management: None,
        };
        let restoring = self.edge.restore != Restore::Armed;
        let directory = self.directories.borrow().clone();
        let now = self.clock.now();
        let mut of_host = None;
        let mut unused = Vec::new();
        for attachment in self.ledger.attachments() {
            let (id, zone) = (attachment.id(), attachment.port.zone());
            let Some(OverlayPort { logical_port, binding, .. }) = attachment.overlay() else { continue };
            let representor = self.seen.as_ref().ok().and_then(|it| find(&it.reps, attachment.vf));
            let port = ports.get(logical_port).unwrap_or(&PortState::Asking);
            let facts = Facts {
                representor,
                taken: representor.zip(view.ok()).is_some_and(|(it, ovs)| links::is_taken(it, ovs)),
                ovs: view,
                port,
                conflicts,
                flows,
                policy: policy_known(enforced.get(&id)),
                restoring,
            };
            let missing = attachment.overlay().and_then(|it| stage::ready(attachment, it, &facts).err());
            let cms = self.cms_word(attachment, config, &directory);
            let missing = missing.or_else(|| cms.as_ref().err().cloned());
            let mut remarks = Vec::new();
            let waited = self.records.get_mut(&id).map(|it| &mut it.waited);
            if let Some(Some(waited)) = waited {
                waited.until(now, missing.as_ref().map(|m| m.who));
            }
            let state = match (missing, binding) {
                (None, Some(binding)) => {
                    if self.tickets.set_ready(&id) {
                        info!(key = %id, pod = %attachment.owner, port = logical_port, "attachment ready");
                    }
                    if let Some(waited) = self.records.get_mut(&id).and_then(|it| it.waited.take()) {
                        waited.count(&self.metrics);
                    }
                    let cms = cms.ok().flatten();
                    let Answer { attached, remarks: unused } = profile::answer(
                        &config.profile,
                        config.edge.mtu,
                        logical_port,
                        binding,
                        cms.as_ref(),
                    );
                    remarks = unused;
                    State::Ready(Arc::new(attached))
                }
                (missing, _) => {
                    State::Waiting(missing.map_or_else(|| "identity not known".to_owned(), |m| m.what))
                }
            };
            unused.push((id.clone(), remarks.clone()));
            let (Some(key), Some(claim)) = (id.sandbox(), attachment.claim()) else {
                of_host = Some(state);
                continue;
            };
            let wiring = Wiring {
                zone,
                logical_port: logical_port.clone(),
                binding: binding.clone(),
                representor: self.rep_names.get(&attachment.vf).cloned(),
            };
            let problem = self.records.get(&id).and_then(|it| it.reported.clone());
            let token = self.tickets.token(key);
            let entry = Entry { claim, token, wiring, state, remarks, problem };
            published.attachments.insert(key.clone(), entry);
        }
        for (id, remarks) in unused {
            self.tell_unused(&id, &remarks);
        }
        published.management = self.management(config, kept, of_host);
        self.publish.send_replace(Arc::new(published));
    }

    fn health(
        &self,
        view: Result<&OvsView, &str>,
        refused: Option<&Unsupported>,
        flows: Result<(), &str>,
    ) -> Health {
        let down = |why| format!("Open vSwitch not connected: {why}");
        let flows = || flows.err().map(|why| format!("flows: {why}"));
        let (reps, representors) = match &self.seen {
            Ok(seen) => (seen.reps.as_slice(), None),
            Err(why) => (Default::default(), Some(format!("representors: {why}"))),
        };
        Health {
            representors,
            ovs: refused.map(ToString::to_string).or_else(|| view.err().map(down)).or_else(flows),
            datapath_refused: refused.is_some(),
            ovn: self.southbound.unready(),
            cluster: self.health.as_ref().and_then(|it| it.borrow().clone().err()),
            ovs_version: view.ok().map(|view| view.ovs_version.clone()).filter(|it| !it.is_empty()),
            vfs: reps.iter().filter(|rep| rep.vf.is_some()).count(),
        }
    }

    fn account(&mut self, outcome: Outcome, started: Instant) -> bool {
        for error in outcome.errors.difference(&self.errors) {
            warn!(error, "pass incomplete");
        }
        for error in self.errors.difference(&outcome.errors) {
            info!(error, "resolved");
        }
        let took = self.clock.now().saturating_duration_since(started);
        let complete = outcome.errors.is_empty() && outcome.steps == 0;
        let label = if outcome.errors.is_empty() { "complete" } else { "incomplete" };
        self.metrics.reconciles.get_or_create(&OutcomeLabel { outcome: label }).inc();
        self.metrics.reconcile_seconds.observe(took.as_secs_f64());
        self.metrics
            .steps
            .get_or_create(&OutcomeLabel { outcome: label })
            .inc_by(u64::try_from(outcome.steps).unwrap_or(u64::MAX));
        let attachments = self.ledger.pods().count();
        self.metrics.attachments.set(i64::try_from(attachments).unwrap_or(i64::MAX));
        let free = i64::from(self.config.borrow().edge.ct_zones.size());
        let zones = self.ledger.attachments().count() + self.ledger.quarantined();
        self.metrics.zones_free.set(free - i64::try_from(zones).unwrap_or(free));
        self.metrics.pending_steps.set(i64::try_from(outcome.steps).unwrap_or(i64::MAX));
        debug!(steps = outcome.steps, attachments, "pass");
        self.errors = outcome.errors;
        complete
    }
}

fn find(reps: &[RepView], vf: VfId) -> Option<&RepView> {
    reps.iter().find(|rep| rep.vf == Some(vf))
}

/// VFs whose flows are in, and whose two ports on `br-edge` have the numbers that the flows name and the devices that are
/// there now.
fn with_boundary<'a>(
    attachments: impl Iterator<Item = &'a Attachment>,
    reps: &[RepView],
    view: &OvsView,
    moved: &BTreeSet<String>,
) -> BTreeSet<VfId> {
    let has = |name: &str, number: u32| {
        let row = view.interface(name).filter(|_| !moved.contains(name));
        row.is_some_and(|row| row.ofport == Some(i64::from(number)) && row.error.is_none())
    };
    attachments
        .filter(|a| a.binding().is_some())
        .map(|a| a.vf)
        .filter(|vf| {
            attachment::of_ports(*vf).is_some_and(|(rep_port, patch_port)| {
                find(reps, *vf)
                    .is_some_and(|rep| has(&rep.name, rep_port.get()) && links::is_taken(rep, view))
                    && has(&attachment::edge_patch(*vf), patch_port.get())
            })
        })
        .collect()
}
