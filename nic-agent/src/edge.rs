//! `br-edge`'s flows: the OpenFlow session, kept up, and the boundaries and rule sets of all attachments brought in
//! through it.

mod tables;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use offload::ids::{CtZone, OfPort};
use offload::openflow::{Flow, InstalledFlow, InstalledMeter, Meter, MeterStats, diff, meter};
use offload::policy::PodPolicy;
use offload::ruleset::RuleSetId;
use tracing::{debug, info};

use crate::marks::Marks;
use crate::metrics::Metrics;
use crate::openflow;
use crate::ovs::restore::Restore;
use crate::platform::{Clock, Switch, SwitchSession};
pub use tables::Pod;
use tables::{Content, Tables};

/// A bridge of our own that someone else wrote to is set right within this time. In between, what was written last is
/// taken for what is there: a change of policy must not wait for a dump of everything.
const LOOK_AGAIN: Duration = Duration::from_secs(9);

/// What a sync did.
#[derive(Debug, Default)]
pub struct Synced {
    /// How many flows and meters had to change.
    pub changes: usize,
    /// Policies that do not fit in OVS's tables. Their pods begin no connection, and are begun none with.
    pub too_large: Vec<String>,
}

/// Why the bridge is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    #[error("no session")]
    NoSession,
    #[error(transparent)]
    OpenFlow(#[from] openflow::Error),
}

/// What this session wrote last.
struct Written {
    flows: Vec<Flow>,
    meters: Vec<Meter>,
    /// When it last looked at what there is.
    looked: Instant,
}

pub struct Edge<S: Switch> {
    bridge: String,
    switch: S,
    session: Option<S::Session>,
    clock: Arc<dyn Clock>,
    tables: Tables,
    written: Option<Written>,
    /// By the meters, at the last look.
    counted: Vec<MeterStats>,
    /// Why there are no meters: for as long as this process runs, as a datapath does not learn it.
    unmetered: Option<String>,
    /// Whether OVS, as of this session, still waits for its flows.
    pub restore: Restore,
    metrics: Metrics,
}

impl<S: Switch> Edge<S> {
    /// `switch` is the bridge's socket.
    pub fn new(bridge: String, switch: S, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self {
            bridge,
            switch,
            session: None,
            clock,
            tables: Tables::default(),
            written: None,
            counted: Vec::new(),
            unmetered: None,
            restore: Restore::default(),
            metrics,
        }
    }

    pub fn bridge(&self) -> &str {
        &self.bridge
    }

    /// Resolves when the session is lost: with it, likely, ovs-vswitchd and all flows.
    pub async fn lost(&mut self) {
        match &self.session {
            Some(session) => session.closed().await,
            None => std::future::pending().await,
        }
        info!(bridge = self.bridge, "OpenFlow session lost");
        self.drop_session();
    }

    fn drop_session(&mut self) {
        self.session = None;
        self.written = None;
        self.restore = Restore::default();
        self.metrics.set_connected("openflow", false);
    }

    async fn session(&mut self) -> Result<&S::Session, EdgeError> {
        if self.session.is_none() {
            let session = self.switch.connect().await?;
            info!(bridge = self.bridge, "OpenFlow session up");
            self.metrics.set_connected("openflow", true);
            self.session = Some(session);
        }
        self.session.as_ref().ok_or(EdgeError::NoSession)
    }

    /// The rule sets, egress and ingress, of a policy that was in the last sync.
    pub fn rule_sets(&self, policy: &Arc<PodPolicy>) -> Option<(RuleSetId, RuleSetId)> {
        self.tables.ids(policy)
    }

    /// Brings the bridge to just these pods' flows. A rule leaves its mark in the connections that it admits; `rate` of
    /// them may begin in a second, of each pod in each direction.
    pub async fn sync(
        &mut self,
        pods: Vec<Pod<'_>>,
        marks: &Marks,
        rate: NonZeroU32,
    ) -> Result<Synced, EdgeError> {
        let wanted = self.tables.content(&pods, marks, Some(rate).filter(|_| self.unmetered.is_none()));
        match self.try_sync(wanted).await {
            Ok(synced) => Ok(synced),
            Err(e) => {
                // A session that failed once may hold half of an answer: the next pass makes a new one.
                self.drop_session();
                Err(e)
            }
        }
    }

    async fn try_sync(&mut self, wanted: Content) -> Result<Synced, EdgeError> {
        self.session().await?;
        let Some(session) = &self.session else { return Err(EdgeError::NoSession) };
        let Content { flows, meters, too_large } = wanted;
        let written = self.written.as_ref();
        let now = self.clock.now();
        let is_look = written.is_none_or(|it| now.saturating_duration_since(it.looked) >= LOOK_AGAIN);
        let looked = match written {
            Some(it) if !is_look && it.flows == flows && it.meters == meters => {
                return Ok(Synced { changes: 0, too_large });
            }
            Some(it) if !is_look => it.looked,
            _ => now,
        };
        let installed = match written.filter(|_| !is_look) {
            Some(it) => it.flows.iter().cloned().map(InstalledFlow::fresh).collect(),
            None => session.dump_flows().await?,
        };
        let of_ours = |meter: &Meter| InstalledMeter { id: meter.id, meter: Some(*meter) };
        let installed_meters = match written {
            Some(it) => it.meters.iter().map(of_ours).collect(),
            None => session.meters().await?,
        };
        let (before, mut after) = meter::diff(&meters, &installed_meters);
        if let Err(e) = session.change_meters(&before).await {
            // A datapath without meters keeps no pod from its network. One that somebody else deleted is no such.
            if written.is_none() && e.is_refusal() {
                self.unmetered = Some(e.to_string());
            }
            return Err(e.into());
        }
        let changes = diff(&flows, &installed);
        if !changes.is_empty() {
            debug!(changes = changes.len(), installed = installed.len(), "changing flows");
            session.apply(&changes).await?;
            info!(changes = changes.len(), flows = flows.len(), "flows changed");
        }
        if is_look {
            // What somebody else did to the meters is set right when the flows, which must not wait for it, are.
            let seen = session.meters().await?;
            let (other, gone) = meter::diff(&meters, &seen);
            after = other.into_iter().chain(gone).collect();
        }
        session.change_meters(&after).await?;
        if is_look {
            self.counted = session.meter_stats().await?;
        }
        self.written = Some(Written { flows, meters, looked });
        Ok(Synced { changes: changes.len() + before.len() + after.len(), too_large })
    }

    /// Connections that were too many for a second, of those that entered at these ports, since their meters were made.
    pub fn refused(&self, ports: [OfPort; 2]) -> u64 {
        let of = |it: &&MeterStats| ports.iter().any(|port| port.get() == it.id);
        self.counted.iter().filter(of).map(|it| it.dropped).sum()
    }

    /// For users: why the rate of new connections is not limited, if so.
    pub fn trouble(&self) -> Option<String> {
        let why = self.unmetered.as_ref()?;
        Some(format!(
            "new connections of pods are not limited by their rate, as Open vSwitch takes no meters: {why}"
        ))
    }

    /// Forgets the zone's connections, in the kernel and so in the eSwitch.
    pub async fn flush_zone(&mut self, zone: CtZone) -> Result<(), EdgeError> {
        let outcome = self.session().await?.flush_ct_zone(zone).await.map_err(EdgeError::from);
        if outcome.is_err() {
            self.drop_session();
        }
        outcome
    }
}
