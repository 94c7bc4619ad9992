//! Writes the taint: one at a time, of each Node as it is now, while we lead.
//!
//! Kubelets, the controller manager and operators write taints, too, and `spec.taints` is one list to the API server
//! (`listType=atomic`), of which server-side apply could own all or nothing. So a JSON patch adds or takes away our taint
//! alone, and tests that the Node is still the version that it was made of.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, ObjectReference, Taint};
use kube::api::{Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{AllWanted, EFFECT, KEY, Wanted, is_ours};
use crate::lease::Leading;
use crate::metrics::{Metrics, OutcomeLabel};

/// How long one write may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries of what is still to be written.
const RETRY: Duration = Duration::from_secs(5);
/// How often somebody else may write the Node between our reading and our writing.
const CONFLICTS: u32 = 4;

/// `reportingController` of our Events.
const CONTROLLER: &str = "drawbridge.dev/cluster-controller";

/// Of `reportingInstance`, in bytes (validation of events.k8s.io).
const LONGEST_INSTANCE: usize = 128;

/// What became of a Node.
enum Written {
    Changed,
    /// It is as it is to be, or another Node, or none.
    Nothing,
    /// Others were quicker each time: the next round tries again.
    Conflict,
}

/// Writes what is wanted, while we lead.
pub struct Tainter {
    pub client: Client,
    pub wanted: watch::Receiver<Arc<AllWanted>>,
    pub leading: watch::Receiver<Leading>,
    /// Who we are, in Events.
    pub identity: String,
    pub metrics: Metrics,
}

impl Tainter {
    /// Until `cancel`, or until nobody wants anything any more.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut failing: Option<String> = None;
        loop {
            let wanted = Arc::clone(&self.wanted.borrow_and_update());
            let mut outcome = Ok(());
            for (name, wanted) in wanted.iter() {
                if !self.leads() || self.wanted.has_changed().unwrap_or(true) || cancel.is_cancelled() {
                    break;
                }
                outcome = outcome.and(self.bring(name, wanted).await);
            }
            match outcome {
                Ok(()) => failing = None,
                Err(error) => {
                    if failing.as_ref() != Some(&error) {
                        warn!(error, "a node's taint not written, trying again");
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

    async fn bring(&self, name: &str, wanted: &Wanted) -> Result<(), String> {
        let written = match timeout(PATIENCE, self.write(name, wanted)).await {
            Ok(written) => written.map_err(|error| format!("{name}: {error}")),
            Err(_) => Err(format!("{name}: no answer in time")),
        };
        let outcome = match &written {
            Ok(Written::Nothing) => return Ok(()),
            Ok(Written::Changed) if wanted.tainted => "tainted",
            Ok(Written::Changed) => "freed",
            Ok(Written::Conflict) => "conflict",
            Err(_) => "failed",
        };
        self.metrics.taint_writes.get_or_create(&OutcomeLabel { outcome }).inc();
        if let Written::Changed = written? {
            info!(node = name, tainted = wanted.tainted, why = wanted.why, "node's taint written");
            self.tell(name, wanted).await;
        }
        Ok(())
    }

    async fn write(&self, name: &str, wanted: &Wanted) -> Result<Written, kube::Error> {
        let api = Api::<Node>::all(self.client.clone());
        for _ in 0..CONFLICTS {
            let Some(node) = api.get_opt(name).await? else { return Ok(Written::Nothing) };
            let Some(patch) = patch(&node, wanted) else { return Ok(Written::Nothing) };
            let patch = serde_json::from_value(patch).map_err(kube::Error::SerdeError)?;
            match api.patch(name, &PatchParams::default(), &Patch::Json::<()>(patch)).await {
                Ok(_) => return Ok(Written::Changed),
                // Another version by now: 422 is what the API server says where a `test` fails.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Written::Conflict)
    }

    /// Stands in the namespace `default`, as all Events on what has none.
    async fn tell(&self, name: &str, wanted: &Wanted) {
        let reference = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(name.to_owned()),
            uid: Some((*wanted.uid).to_owned()),
            ..ObjectReference::default()
        };
        let mut instance = self.identity.clone();
        instance.truncate(instance.floor_char_boundary(LONGEST_INSTANCE));
        let reporter = Reporter { controller: CONTROLLER.to_owned(), instance: Some(instance) };
        // A Recorder counts what it is told twice, whatever the note: each change has its own.
        let recorder = Recorder::new(self.client.clone(), reporter);
        match timeout(PATIENCE, recorder.publish(&event(wanted), &reference)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(node = name, %error, "Event not written"),
            Err(_) => warn!(node = name, "Event not written: no answer in time"),
        }
    }
}

fn event(wanted: &Wanted) -> Event {
    let (type_, reason, what) = if wanted.tainted {
        (EventType::Warning, "NICNotReady", "no more pods are scheduled here")
    } else {
        (EventType::Normal, "NICReady", "pods are scheduled here again")
    };
    Event {
        type_,
        reason: reason.to_owned(),
        note: Some(format!("{what} (taint {KEY}:{EFFECT}): {}", wanted.why)),
        action: "Taint".to_owned(),
        secondary: None,
    }
}

/// The operations that make the Node's taint what is wanted; `None` if there is nothing to do, or it is another Node.
fn patch(node: &Node, wanted: &Wanted) -> Option<Value> {
    let version = node.metadata.resource_version.as_ref()?;
    if node.metadata.uid.as_deref() != Some(&*wanted.uid) {
        return None;
    }
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
    let ours = |taint: &Taint| is_ours(&taint.key, &taint.effect);
    let at = taints.unwrap_or_default().iter().position(ours);
    let same = json!({"op": "test", "path": "/metadata/resourceVersion", "value": version});
    let taint = json!({"key": KEY, "effect": EFFECT});
    let change = match (wanted.tainted, at, taints) {
        (true, Some(_), _) | (false, None, _) => return None,
        (true, None, None) if node.spec.is_none() => {
            json!({"op": "add", "path": "/spec", "value": {"taints": [taint]}})
        }
        (true, None, None) => json!({"op": "add", "path": "/spec/taints", "value": [taint]}),
        (true, None, Some(_)) => json!({"op": "add", "path": "/spec/taints/-", "value": taint}),
        (false, Some(at), _) => json!({"op": "remove", "path": format!("/spec/taints/{at}")}),
    };
    Some(json!([same, change]))
}

#[cfg(test)]
mod tests;
