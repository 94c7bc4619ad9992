//! What the controller writes into the API: the statuses of `NodeRange`s, and what the admission policy for nodes is told.
//!
//! Level-triggered: the controller's loop says what shall be written and is not ([`Wanted`]); what was written comes back
//! by the watch. An object is replaced with the version that the decision was made of: what another has written meanwhile
//! is never overwritten, but decided anew. Only the leader writes; should two believe to be it, what overlaps counts for
//! neither ([`crate::ranges::Held::sole`]).
//!
//! Failure: what is confirmed stands; it is said once, and tried again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drawbridge_api::{NodeRange, NodeRangeSpec};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::lease::Leading;
use crate::plan::Plan;
use crate::ranges::Decision;

/// How long one write may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries of what is still to be written.
const RETRY: Duration = Duration::from_secs(5);
/// How often the parameters are looked at though nothing has changed.
const LOOK: Duration = Duration::from_mins(1);

/// Of the admission policy `drawbridge-node-addresses`.
pub const PARAMETERS: &str = "drawbridge-node-ranges";
/// The key under which the cluster's prefixes stand. No node's name has an underscore.
const CLUSTER: &str = "_cluster";

/// What shall be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// Decisions that are not in the API, and what is there in their place.
    pub ranges: BTreeMap<Arc<str>, (Decision, Option<NodeRange>)>,
    /// The parameters, whole, once everything has been listed.
    pub parameters: Option<BTreeMap<String, String>>,
}

impl Wanted {
    pub fn of(plan: &Plan, cluster: &[IpNet], now: &str) -> Self {
        let ranges = plan.decisions(now).into_iter();
        let ranges = ranges.map(|(name, (decision, there))| (name, (decision, there.cloned())));
        let join = |texts: &mut dyn Iterator<Item = String>| texts.collect::<Vec<_>>().join(",");
        let nodes = plan.confirmed_ranges().into_iter().map(|(name, (ranges, addresses))| {
            let ranges = join(&mut ranges.iter().map(ToString::to_string));
            (name.to_owned(), format!("{ranges};{}", join(&mut addresses.iter().cloned())))
        });
        let cluster = (CLUSTER.to_owned(), join(&mut cluster.iter().map(ToString::to_string)));
        Self { ranges: ranges.collect(), parameters: Some(nodes.chain([cluster]).collect()) }
    }
}

/// Writes what is wanted, while we lead.
pub struct Publisher {
    pub client: Client,
    pub namespace: String,
    pub wanted: watch::Receiver<Arc<Wanted>>,
    pub leading: watch::Receiver<Leading>,
}

impl Publisher {
    /// Until `cancel`, or until nobody wants anything any more.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut written: Option<(BTreeMap<String, String>, Instant)> = None;
        let mut failing: Option<String> = None;
        loop {
            let wanted = Arc::clone(&self.wanted.borrow_and_update());
            let mut outcome = Ok(());
            for (name, (decision, there)) in &wanted.ranges {
                if !self.leads() || self.wanted.has_changed().unwrap_or(true) {
                    break;
                }
                outcome = outcome.and(self.write(name, decision, there.as_ref()).await);
            }
            if let Some(parameters) = &wanted.parameters
                && self.leads()
                && written.as_ref().is_none_or(|(it, at)| it != parameters || at.elapsed() > LOOK)
            {
                match self.write_parameters(parameters).await {
                    Ok(()) => written = Some((parameters.clone(), Instant::now())),
                    Err(error) => outcome = outcome.and(Err(error)),
                }
            }
            match outcome {
                Ok(()) => failing = None,
                Err(error) => {
                    if failing.as_ref() != Some(&error) {
                        warn!(error, "confirmed ranges not written, trying again");
                    }
                    failing = Some(error);
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                changed = self.wanted.changed() => if changed.is_err() { return },
                changed = self.leading.changed() => if changed.is_err() { return },
                () = sleep(RETRY) => {}
            }
        }
    }

    fn leads(&self) -> bool {
        self.leading.borrow().is_some_and(|until| until > Instant::now())
    }

    async fn write(&self, name: &str, decision: &Decision, there: Option<&NodeRange>) -> Result<(), String> {
        let api = Api::<NodeRange>::all(self.client.clone());
        let written = async {
            match (decision, there) {
                (Decision::Delete, None) => Ok(()),
                (Decision::Delete, Some(there)) => {
                    let preconditions = Preconditions {
                        uid: there.metadata.uid.clone(),
                        resource_version: there.metadata.resource_version.clone(),
                    };
                    let parameters =
                        DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                    api.delete(name, &parameters).await.map(drop)
                }
                // Its status is written when the watch has brought it.
                (Decision::Status(_), None) => {
                    let object = NodeRange::new(name, NodeRangeSpec::default());
                    api.create(&PostParams::default(), &object).await.map(drop)
                }
                (Decision::Status(status), Some(there)) => {
                    let object = NodeRange { status: Some((**status).clone()), ..there.clone() };
                    api.replace_status(name, &PostParams::default(), &object).await?;
                    info!(node = name, ranges = ?status.ranges, "ranges decided");
                    Ok(())
                }
            }
        };
        match timeout(PATIENCE, written).await {
            // Somebody was quicker: the watch will say so, and it is decided anew.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 || status.code == 404 => Ok(()),
            Ok(written) => written.map_err(|error| format!("{name}: {error}")),
            Err(_) => Err(format!("{name}: no answer in time")),
        }
    }

    async fn write_parameters(&self, data: &BTreeMap<String, String>) -> Result<(), String> {
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), &self.namespace);
        let written = async {
            match api.get_opt(PARAMETERS).await? {
                Some(there) if there.data.as_ref() == Some(data) => Ok(()),
                Some(mut there) => {
                    there.data = Some(data.clone());
                    api.replace(PARAMETERS, &PostParams::default(), &there).await.map(drop)
                }
                None => {
                    let mut object = ConfigMap { data: Some(data.clone()), ..ConfigMap::default() };
                    object.metadata.name = Some(PARAMETERS.to_owned());
                    api.create(&PostParams::default(), &object).await.map(drop)
                }
            }
        };
        match timeout(PATIENCE, written).await {
            Ok(written) => written.map_err(|error: kube::Error| format!("{PARAMETERS}: {error}")),
            Err(_) => Err(format!("{PARAMETERS}: no answer in time")),
        }
    }
}
