//! OVN's networks: a boundary for each pod on `br-edge`, and behind it a patch port to the integration bridge, where
//! `ovn-controller` has the rest.
//!
//! ```text
//!  southbound ─► identities ─► ledger ─┐
//!  intents ────────────────────────────┼─► flows ──► OpenFlow bundle on br-edge, conntrack; the audit of connections
//!  Open_vSwitch ─► view ───────────────┴─► ports ──► OVSDB transaction: chassis, bridges, ports
//!                                          boundary ─► which representors may be opened
//! ```
//!
//! A boundary's flows go in before its ports, and its representor closes before they go.

mod boundary;
mod connections;
mod flows;
mod identities;
mod ports;
mod stage;
mod system_id;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;

use offload::ids::{CtZone, IfIndex};
use offload::policy::PodPolicy;

use super::{Backend, Brought, Facts, InForce, Missing, Pass, Who};
use crate::attachment::{Attachment, AttachmentId};
use crate::audit::Auditor;
use crate::config::Config;
use crate::durable::Disk;
use crate::edge::{Edge, EdgeError};
use crate::intent::Intents;
use crate::kernel::view::RepView;
use crate::ledger::book::Book;
use crate::log::Throttle;
use crate::metrics::Metrics;
use crate::outcome::Outcome;
use crate::ovs::datapath::Unsupported;
use crate::ovs::link::Unseen;
use crate::ovs::plan::Conflict;
use crate::ovs::restore::Restore;
use crate::ovs::view::OvsView;
use crate::platform::{Clock, Ovs as _, Platform, Southbound as _};
use crate::profile::{self, Answer};
use crate::published::Health;
use crate::southbound::state::PortState;
use connections::ConnectionLimits;
use stage::Sight;

/// What the backend is given.
pub struct Parts<P: Platform> {
    pub ovs: P::Ovs,
    pub southbound: P::Southbound,
    pub edge: Edge<P::Switch>,
    pub auditor: Auditor,
    pub disk: Arc<dyn Disk>,
    pub clock: Arc<dyn Clock>,
    /// `external_ids:hostname` of the chassis.
    pub hostname: String,
    pub metrics: Metrics,
}

pub struct Overlay<P: Platform> {
    ovs: P::Ovs,
    southbound: P::Southbound,
    edge: Edge<P::Switch>,
    auditor: Auditor,
    disk: Arc<dyn Disk>,
    /// Open vSwitch starts with the name that the chassis shall have.
    has_system_id: bool,
    clock: Arc<dyn Clock>,
    hostname: String,
    metrics: Metrics,
    throttle: Throttle,
    connections: ConnectionLimits,
    /// The policies that the flows have.
    in_force: BTreeMap<AttachmentId, Arc<PodPolicy>>,
    /// What the southbound says of each logical port.
    ports: BTreeMap<String, PortState>,
    last: Last,
}

/// What the last pass found, and what it came to; in words, since it is only told.
struct Last {
    view: Result<OvsView, String>,
    /// A datapath that is none of ours: all is closed.
    refused: Option<Unsupported>,
    /// Whether the flows are in.
    flows: Result<(), String>,
    /// Rows of others, in our ports' places.
    conflicts: Vec<Conflict>,
}

impl Default for Last {
    fn default() -> Self {
        let not_yet = || "not looked at yet".to_owned();
        Self { view: Err(not_yet()), refused: None, flows: Err(not_yet()), conflicts: Vec::new() }
    }
}

impl<P: Platform> Overlay<P> {
    pub fn new(parts: Parts<P>) -> Self {
        let Parts { ovs, southbound, edge, auditor, disk, clock, hostname, metrics } = parts;
        Self {
            ovs,
            southbound,
            edge,
            auditor,
            disk,
            has_system_id: false,
            clock,
            hostname,
            throttle: Throttle::new(metrics.lines_withheld.clone()),
            metrics,
            connections: ConnectionLimits::default(),
            in_force: BTreeMap::new(),
            ports: BTreeMap::new(),
            last: Last::default(),
        }
    }

    /// Resolves when the OpenFlow session is lost.
    pub async fn lost(&mut self) {
        self.edge.lost().await;
    }

    fn observe(&mut self, config: &Config) -> (Result<OvsView, Unseen>, Option<Unsupported>) {
        let view = self.ovs.view();
        self.metrics.set_connected("ovsdb", view.is_ok());
        self.metrics.set_connected("southbound", self.southbound.unready().is_none());
        let refused = view.as_ref().ok().and_then(|view| ports::refused(config, view));
        (view, refused)
    }

    fn keep_system_id(&mut self, Pass { config, outcome, .. }: &mut Pass<'_, P::Links>) {
        if !self.has_system_id {
            let Config { ovs, chassis, .. } = config;
            self.has_system_id =
                system_id::keep(&*self.disk, &ovs.system_id_file, &chassis.system_id, outcome);
        }
    }

    async fn flush_zone(&mut self, zone: CtZone, outcome: &mut Outcome) -> Result<(), EdgeError> {
        self.edge.flush_zone(zone).await.inspect_err(|e| outcome.failed("conntrack", e))
    }
}

impl<P: Platform> Backend<P::Links> for Overlay<P> {
    async fn changed(&mut self) {
        tokio::select! {
            () = self.auditor.changed() => {}
            () = self.ovs.changed() => {}
            () = self.southbound.changed() => {}
            () = self.edge.lost() => {}
        }
    }

    /// One that Open vSwitch does not have has no boundary, and none has where the datapath is none of ours.
    fn keeps(&mut self, config: &Config, book: &Book, reps: &[RepView]) -> BTreeSet<IfIndex> {
        let view = self.ovs.view().ok();
        if view.is_some_and(|view| ports::refused(config, &view).is_some()) {
            return BTreeSet::new();
        }
        boundary::keeps(book.ledger.attachments(), reps)
    }

    fn learn(&mut self, config: &Config, book: &mut Book) {
        self.learn_identities(config, book);
    }

    async fn bring(&mut self, mut pass: Pass<'_, P::Links>) -> Brought {
        let (view, refused) = self.observe(pass.config);
        let flows = match &refused {
            None => self.sync_flows(view.as_ref().ok(), &mut pass).await,
            Some(why) => Err(flows::FlowsError::Datapath(why.clone())),
        };
        let (conflicts, moved) = match (&view, &refused) {
            // Whoever uses it has what he wrote there; of us he hears nothing that would work by half.
            (Ok(_), Some(why)) => {
                pass.outcome.failed("Open vSwitch", why);
                (vec![Conflict::from(why.clone())], BTreeSet::new())
            }
            (Ok(view), None) => {
                self.keep_system_id(&mut pass);
                self.sync_ovs(view, flows.is_ok(), &mut pass).await
            }
            (Err(why), _) => {
                pass.outcome.failed("Open vSwitch", why);
                Default::default()
            }
        };
        let whole = match (&view, &flows) {
            (Ok(view), Ok(())) => {
                boundary::whole(pass.book.ledger.attachments(), pass.representors.all(), view, &moved)
            }
            _ => BTreeSet::new(),
        };
        let in_tables = flows.is_ok();
        self.last = Last {
            view: view.map_err(|why| why.to_string()),
            refused,
            flows: flows.map_err(|why| why.to_string()),
            conflicts,
        };
        Brought { whole, in_tables }
    }

    async fn empty(&mut self, zone: CtZone, outcome: &mut Outcome) -> bool {
        self.flush_zone(zone, outcome).await.is_ok()
    }

    fn forget(&mut self, attachment: &Attachment) {
        self.in_force.remove(&attachment.id());
        self.auditor.forget(attachment.port.zone());
    }

    fn ready(&self, of: &Attachment, facts: &Facts<'_>) -> Result<Answer, Missing> {
        let ovn = |what: &str| Missing { who: Who::Ovn, what: what.to_owned() };
        let port = of.overlay().ok_or_else(|| ovn("not on a network of OVN's"))?;
        let view = self.last.view.as_ref().map_err(String::as_str);
        let taken = facts.representor.zip(view.ok()).is_some_and(|(it, view)| boundary::is_taken(it, view));
        let sight = Sight {
            representor: facts.representor,
            taken,
            ovs: view,
            port: self.ports.get(&port.logical_port).unwrap_or(&PortState::Asking),
            conflicts: &self.last.conflicts,
            flows: self.last.flows.as_ref().copied().map_err(String::as_str),
            policy: facts.policy,
            restoring: self.edge.restore != Restore::Armed,
        };
        stage::ready(of, port, &sight)?;
        let cms = self.cms_word(of, port, facts)?;
        let binding = port.binding.as_ref().ok_or_else(|| ovn("identity not known"))?;
        let Config { profile, edge, .. } = facts.config;
        Ok(profile::answer(profile, edge.mtu, &port.logical_port, binding, cms.as_ref()))
    }

    fn in_force(&self, of: &Attachment, intents: &Intents, config: &Config) -> InForce {
        let id = of.id();
        let has = self.in_force.get(&id);
        // Of the policy that shall hold now, not of one that the tables still have because they cannot be written.
        let is_current =
            has.zip(intents.get(&id)).is_some_and(|(has, wanted)| *has == wanted.policy.policy());
        let (egress, ingress) = has.and_then(|it| self.edge.rule_sets(it)).unwrap_or_default();
        InForce {
            progress: self.auditor.progress(of.port.zone(), &id).filter(|_| is_current),
            egress_rule_set: egress.0,
            ingress_rule_set: ingress.0,
            connections: self.connections_of(of, config),
        }
    }

    fn health(&self, health: &mut Health) {
        let Last { view, refused, flows, .. } = &self.last;
        let down = |why| format!("Open vSwitch not connected: {why}");
        let missing = || flows.as_ref().err().map(|why| format!("flows: {why}"));
        health.ovs = refused
            .as_ref()
            .map(ToString::to_string)
            .or_else(|| view.as_ref().err().map(down))
            .or_else(missing);
        health.datapath_refused = refused.is_some();
        health.ovn = self.southbound.unready();
        health.ovs_version =
            view.as_ref().ok().map(|view| view.ovs_version.clone()).filter(|it| !it.is_empty());
    }

    fn trouble(&self) -> Option<String> {
        self.edge.trouble()
    }

    fn offer_anew(
        &self,
        config: &Config,
    ) -> impl Future<Output = Result<(), Box<dyn Error + Send + Sync>>> + Send + 'static {
        let forget = self.ovs.forget_flows(&config.ovs.run_dir);
        async move { Ok(forget.await?) }
    }
}
