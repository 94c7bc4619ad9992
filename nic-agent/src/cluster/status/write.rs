//! Writes the status when it is another.

use std::sync::Arc;
use std::time::Duration;

use drawbridge_api::{NicNode, NicNodeStatus};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource};
use reconnect::Reconnect;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Facts, HEARTBEAT, status, without_figures};
use crate::cluster::configuration::Report;
use crate::cluster::machine::{self, Machine};
use crate::cluster::own_node::{Own, OwnNode};
use crate::cluster::words::{MANAGER, PATIENCE, now};
use crate::config::Config;
use crate::jitter::jittered;
use crate::metrics::Metrics;
use crate::ovs::daemons::Daemons;
use crate::preflight::watch::Preflight;
use crate::published::Published;

/// Between two writes.
const APART: Duration = Duration::from_secs(2);
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(2));

/// What the status follows.
#[derive(Clone)]
pub struct Inputs {
    pub own: watch::Receiver<Own>,
    pub published: watch::Receiver<Arc<Published>>,
    pub config: watch::Receiver<Arc<Config>>,
    pub report: watch::Receiver<Report>,
    pub daemons: watch::Receiver<Daemons>,
    pub preflight: watch::Receiver<Preflight>,
    pub metrics: Metrics,
}

/// Until dropped.
pub async fn run(client: Client, mut from: Inputs) {
    // What the API answers is the whole object: whatever its spec says must not make a write look like none.
    let api: Api<OwnNode> = Api::all(client);
    let eswitch = from.config.borrow().eswitch.clone();
    let machine = machine::look(&eswitch).await;
    let mut pauses = Reconnect::new(1, RETRY.0, RETRY.1);
    let mut failing = false;
    let mut due = Instant::now();
    loop {
        let Some((name, wanted)) = next(&mut from, &machine, due).await else { return };
        match write(&api, &name, &wanted).await {
            Ok(()) => {
                debug!(name, "status written");
                if std::mem::take(&mut failing) {
                    pauses = Reconnect::new(1, RETRY.0, RETRY.1);
                }
                due = Instant::now() + jittered(HEARTBEAT);
                tokio::time::sleep(jittered(APART)).await;
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    warn!(name, error, "NicNode's status not written");
                }
                tokio::time::sleep(pauses.next_try().delay.max(APART)).await;
            }
        }
    }
}

/// Waits until there is something to write. `None`: the agent stops.
async fn next(from: &mut Inputs, machine: &Machine, due: Instant) -> Option<(String, NicNodeStatus)> {
    loop {
        let own = from.own.borrow_and_update().clone();
        let published = from.published.borrow_and_update().clone();
        let config = from.config.borrow_and_update().clone();
        let report = from.report.borrow_and_update().clone();
        let daemons = from.daemons.borrow_and_update().clone();
        let preflight = from.preflight.borrow_and_update().clone();
        if let Own::Known(node) = own
            && published.passes > 0
            && let Some(name) = node.meta().name.clone()
        {
            let before = node.status.clone().unwrap_or_default();
            let facts = Facts {
                published: &published,
                config: &config,
                report: &report,
                machine,
                daemons: &daemons,
                preflight: &preflight,
                shim_heard: from.metrics.host_last_request.get() > 0,
                generation: report.looked_at,
            };
            let wanted = status(&facts, &before, &now());
            if Instant::now() >= due || without_figures(&wanted, &before) != before {
                return Some((name, wanted));
            }
        }
        tokio::select! {
            changed = from.own.changed() => changed.ok()?,
            changed = from.published.changed() => changed.ok()?,
            changed = from.config.changed() => changed.ok()?,
            changed = from.report.changed() => changed.ok()?,
            changed = from.daemons.changed() => changed.ok()?,
            changed = from.preflight.changed() => changed.ok()?,
            () = tokio::time::sleep_until(due), if due > Instant::now() => {}
        }
    }
}

async fn write(api: &Api<OwnNode>, name: &str, status: &NicNodeStatus) -> Result<(), String> {
    let patch = Patch::Apply(json!({
        "apiVersion": NicNode::api_version(&()),
        "kind": NicNode::kind(&()),
        "metadata": { "name": name },
        "status": status,
    }));
    // Ours alone: whoever else wrote there is put right.
    let parameters = PatchParams::apply(MANAGER).force();
    let write = api.patch_status(name, &parameters, &patch);
    match tokio::time::timeout(PATIENCE, write).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer for {} s", PATIENCE.as_secs())),
    }
}
