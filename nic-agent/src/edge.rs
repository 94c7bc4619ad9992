//! `br-edge`'s flows: the OpenFlow session, kept up, and the boundaries of all attachments brought in through it.

use std::path::PathBuf;
use std::time::Duration;

use offload::boundary::{self, Boundary};
use offload::ids::CtZone;
use offload::openflow::{Cookie, Flow, diff};
use offload::ruleset::RuleSetId;
use tracing::{debug, info};

use crate::attachment::{self, Attachment};
use crate::metrics::Metrics;
use crate::openflow::Session;
use crate::reconcile::restore::Restore;

const CONNECT: Duration = Duration::from_secs(2);
/// First byte of every cookie of ours, for whoever looks with `ovs-ofctl`.
const COOKIE: u64 = 0xdb << 56;

pub struct Edge {
    bridge: String,
    socket: PathBuf,
    session: Option<Session>,
    /// Whether OVS, as of this session, still waits for its flows.
    pub restore: Restore,
    metrics: Metrics,
}

impl Edge {
    pub fn new(bridge: String, run_dir: &std::path::Path, metrics: Metrics) -> Self {
        let socket = run_dir.join(format!("{bridge}.mgmt"));
        Self { bridge, socket, session: None, restore: Restore::default(), metrics }
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

    /// Brings the bridge to just these attachments' flows. Returns how many had to change.
    pub async fn sync<'a>(
        &mut self,
        attachments: impl Iterator<Item = &'a Attachment>,
    ) -> Result<usize, String> {
        let wanted = flows(attachments);
        let changes = self.try_sync(&wanted).await;
        if changes.is_err() {
            // A session that failed once may hold half of an answer: the next pass makes a new one.
            self.drop_session();
        }
        changes
    }

    async fn try_sync(&mut self, wanted: &[Flow]) -> Result<usize, String> {
        let session = self.session().await?;
        let installed = session.dump_flows().await.map_err(|e| e.to_string())?;
        let changes = diff(wanted, &installed);
        if !changes.is_empty() {
            debug!(changes = changes.len(), installed = installed.len(), "changing flows");
            session.apply(&changes).await.map_err(|e| e.to_string())?;
            info!(changes = changes.len(), flows = wanted.len(), "flows changed");
        }
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

/// All flows of `br-edge`: the tables that the pods share, and a boundary for each attachment whose identity is known.
fn flows<'a>(attachments: impl Iterator<Item = &'a Attachment>) -> Vec<Flow> {
    let mut flows = boundary::common_flows(Cookie(COOKIE));
    for attachment in attachments {
        let (Some(binding), Some((rep, patch))) =
            (&attachment.binding, attachment::of_ports(attachment.claim.vf))
        else {
            continue;
        };
        let boundary = Boundary {
            rep,
            patch,
            zone: attachment.zone,
            mac: binding.mac,
            ipv4: binding.ipv4(),
            ipv6: binding.ipv6(),
            dhcp: binding.dhcp,
            egress: RuleSetId::NONE,
            ingress: RuleSetId::NONE,
            cookie: Cookie(COOKIE | u64::from(attachment.zone.get())),
        };
        flows.extend(boundary.flows());
    }
    flows
}
