//! `br-edge`'s flows: the OpenFlow session, kept up, and the boundaries and rule sets of all attachments brought in
//! through it.

mod tables;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use offload::ids::CtZone;
use offload::openflow::{Flow, InstalledFlow, diff};
use offload::policy::PodPolicy;
use offload::ruleset::RuleSetId;
use tracing::{debug, info};

use crate::marks::Marks;
use crate::metrics::Metrics;
use crate::openflow::Session;
use crate::reconcile::restore::Restore;
pub use tables::Pod;
use tables::Tables;

const CONNECT: Duration = Duration::from_secs(2);
/// A bridge of our own that someone else wrote to is set right within this time. In between, what was written last is
/// taken for what is there: a change of policy must not wait for a dump of everything.
const LOOK_AGAIN: Duration = Duration::from_secs(9);

/// What a sync did.
#[derive(Debug, Default)]
pub struct Synced {
    /// How many flows had to change.
    pub changes: usize,
    /// Policies that do not fit in OVS's tables. Their pods begin no connection, and are begun none with.
    pub too_large: Vec<String>,
}

pub struct Edge {
    bridge: String,
    socket: PathBuf,
    session: Option<Session>,
    tables: Tables,
    /// What this session wrote last, and when it last looked at what there is.
    written: Option<(Vec<Flow>, Instant)>,
    /// Whether OVS, as of this session, still waits for its flows.
    pub restore: Restore,
    metrics: Metrics,
}

impl Edge {
    pub fn new(bridge: String, run_dir: &std::path::Path, metrics: Metrics) -> Self {
        let socket = run_dir.join(format!("{bridge}.mgmt"));
        Self {
            bridge,
            socket,
            session: None,
            tables: Tables::default(),
            written: None,
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

    async fn session(&mut self) -> Result<&Session, String> {
        if self.session.is_none() {
            let session = Session::connect(&self.socket, CONNECT).await.map_err(|e| e.to_string())?;
            info!(bridge = self.bridge, "OpenFlow session up");
            self.metrics.set_connected("openflow", true);
            self.session = Some(session);
        }
        self.session.as_ref().ok_or_else(|| "no session".to_owned())
    }

    /// The rule sets, egress and ingress, of a policy that was in the last sync.
    pub fn rule_sets(&self, policy: &Arc<PodPolicy>) -> Option<(RuleSetId, RuleSetId)> {
        self.tables.ids(policy)
    }

    /// Brings the bridge to just these pods' flows. A rule leaves its mark in the connections that it admits.
    pub async fn sync(&mut self, pods: Vec<Pod<'_>>, marks: &Marks) -> Result<Synced, String> {
        let (wanted, too_large) = self.tables.flows(&pods, marks);
        match self.try_sync(wanted).await {
            Ok(changes) => Ok(Synced { changes, too_large }),
            Err(e) => {
                // A session that failed once may hold half of an answer: the next pass makes a new one.
                self.drop_session();
                Err(e)
            }
        }
    }

    async fn try_sync(&mut self, wanted: Vec<Flow>) -> Result<usize, String> {
        self.session().await?;
        let Some(session) = &self.session else { return Err("no session".to_owned()) };
        let installed = match &self.written {
            Some((flows, looked)) if looked.elapsed() < LOOK_AGAIN => {
                if *flows == wanted {
                    return Ok(0);
                }
                flows.iter().cloned().map(InstalledFlow::fresh).collect()
            }
            _ => session.dump_flows().await.map_err(|e| e.to_string())?,
        };
        let looked = match &self.written {
            Some((_, looked)) if looked.elapsed() < LOOK_AGAIN => *looked,
            _ => Instant::now(),
        };
        let changes = diff(&wanted, &installed);
        if !changes.is_empty() {
            debug!(changes = changes.len(), installed = installed.len(), "changing flows");
            session.apply(&changes).await.map_err(|e| e.to_string())?;
            info!(changes = changes.len(), flows = wanted.len(), "flows changed");
        }
        self.written = Some((wanted, looked));
        Ok(changes.len())
    }

    /// Forgets the zone's connections, in the kernel and so in the eSwitch.
    pub async fn flush_zone(&mut self, zone: CtZone) -> Result<(), String> {
        let outcome = self.session().await?.flush_ct_zone(zone).await.map_err(|e| e.to_string());
        if outcome.is_err() {
            self.drop_session();
        }
        outcome
    }
}
