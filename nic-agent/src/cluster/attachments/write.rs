//! Keeps the API's PodAttachments as planned.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use drawbridge_api::PodAttachment;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, Resource};
use kube_watch::{Event, Options};
use reconnect::Reconnect;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::seen::OwnAttachment;
use super::{FIRST_FIGURES, Key, Step, Taken, plan, wanted};
use crate::cluster::words::{MANAGER, PATIENCE, now};
use crate::config::Config;
use crate::jitter::jittered;
use crate::published::Published;

/// Between two rounds of writing, for what was written to come back by the watch.
const APART: Duration = Duration::from_millis(500);
/// Of the watch, while something is written.
const WAITING: usize = 64;
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(2));

#[derive(Clone)]
pub struct Inputs {
    pub published: watch::Receiver<Arc<Published>>,
    pub config: watch::Receiver<Arc<Config>>,
}

/// What the API has of this node.
#[derive(Default)]
struct Observed {
    listed: bool,
    objects: BTreeMap<Key, PodAttachment>,
    listing: Option<BTreeMap<Key, PodAttachment>>,
}

impl Observed {
    fn hear(&mut self, event: Event<OwnAttachment>) {
        match event {
            Event::Begin => self.listing = Some(BTreeMap::new()),
            Event::Object(OwnAttachment(object)) => {
                let of = self.listing.as_mut().unwrap_or(&mut self.objects);
                of.insert(key(&object), object);
            }
            Event::Gone(OwnAttachment(object)) => {
                let of = self.listing.as_mut().unwrap_or(&mut self.objects);
                of.remove(&key(&object));
            }
            Event::End => {
                self.objects = self.listing.take().unwrap_or_default();
                self.listed = true;
            }
            Event::Well => {}
            Event::Failed(error) => {
                self.listing = None;
                // The watch comes back by itself; what was seen before is still the best that is known.
                debug!(%error, "PodAttachments cannot be followed");
            }
        }
    }
}

fn key(object: &PodAttachment) -> Key {
    let meta = object.meta();
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Until dropped, or until the agent stops.
pub async fn run(client: Client, mut from: Inputs) {
    let node = from.config.borrow().node.name.clone();
    let own = format!("spec.nodeName={node}");
    let options = Options { fields: Some(own), ..crate::cluster::watch::options("own podattachments") };
    let (_kept, accesses) = watch::channel(Ok(Arc::new(client.clone())));
    let (say, mut said) = mpsc::channel(WAITING);
    let watching = kube_watch::follow::<OwnAttachment, _, _>(options, accesses, say);
    let _watching = AbortOnDropHandle::new(tokio::spawn(watching));
    let mut observed = Observed::default();
    let mut writes: BTreeMap<Key, Instant> = BTreeMap::new();
    let mut pauses = Reconnect::new(1, RETRY.0, RETRY.1);
    let mut failing: Option<String> = None;
    let mut not_before = Instant::now();
    let mut taken = Taken::new(salt());
    loop {
        // All that is there already, so that nothing is planned twice.
        while let Ok(event) = said.try_recv() {
            observed.hear(event);
        }
        let published = from.published.borrow_and_update().clone();
        let hw_offload = from.config.borrow_and_update().chassis.hw_offload;
        if observed.listed && published.passes > 0 && Instant::now() >= not_before {
            let wanted = wanted(&published, &node, hw_offload, &taken);
            writes.retain(|key, _| wanted.contains_key(key));
            let written = |key: &Key| writes.get(key).map(Instant::elapsed);
            let steps = plan(&wanted, &observed.objects, &node, &now(), written);
            let mut outcome = Ok(());
            let some = !steps.is_empty();
            for step in steps {
                match take_step(&client, &step).await {
                    Ok(Done::Squatted) => {
                        if let Step::Create(object) = &step {
                            warn!(
                                namespace = object.metadata.namespace,
                                attachment = object.metadata.name,
                                "another node's NIC has this PodAttachment's name, taking another"
                            );
                            taken.add(key(object));
                        }
                    }
                    Ok(Done::Well) => {
                        if let Step::Status { key, .. } = step {
                            writes.insert(key, Instant::now());
                        }
                    }
                    Err(error) => outcome = Err(error),
                }
            }
            let pause = match outcome {
                Ok(()) => {
                    if some && failing.take().is_some() {
                        pauses = Reconnect::new(1, RETRY.0, RETRY.1);
                    }
                    jittered(APART)
                }
                Err(error) => {
                    if failing.as_ref() != Some(&error) {
                        warn!(error, "PodAttachments not written");
                        failing = Some(error);
                    }
                    pauses.next_try().delay.max(APART)
                }
            };
            if some {
                not_before = Instant::now() + pause;
            }
        }
        // A change that came too early, or figures that were not due, are looked at then.
        let early = Instant::now() < not_before;
        let idle = tokio::time::sleep_until(if early { not_before } else { Instant::now() + FIRST_FIGURES });
        tokio::select! {
            Some(event) = said.recv() => observed.hear(event),
            changed = from.published.changed() => if changed.is_err() { return },
            changed = from.config.changed() => if changed.is_err() { return },
            () = idle => {}
        }
    }
}

/// Nobody else can foresee it.
fn salt() -> [u8; 16] {
    // Seeded by the system, anew for each.
    let half = || RandomState::new().hash_one(()).to_ne_bytes();
    let mut salt = [0; 16];
    let (one, two) = salt.split_at_mut(8);
    one.copy_from_slice(&half());
    two.copy_from_slice(&half());
    salt
}

/// What became of a step.
enum Done {
    Well,
    /// Another node's object has the name.
    Squatted,
}

async fn take_step(client: &Client, step: &Step) -> Result<Done, String> {
    let of = |namespace: &str| Api::<PodAttachment>::namespaced(client.clone(), namespace);
    let as_it_is = |namespace: &str| Api::<OwnAttachment>::namespaced(client.clone(), namespace);
    let work = async {
        match step {
            Step::Create(object) => {
                let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
                let parameters =
                    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
                match of(namespace).create(&parameters, object).await {
                    // The watch has not said so yet; or it is not ours, and it will not.
                    Err(kube::Error::Api(status)) if status.is_already_exists() => {
                        let name = object.metadata.name.as_deref().unwrap_or_default();
                        let there = as_it_is(namespace).get_opt(name).await?;
                        let squatted =
                            there.is_some_and(|OwnAttachment(it)| it.spec.node_name != object.spec.node_name);
                        return Ok(if squatted { Done::Squatted } else { Done::Well });
                    }
                    // The pod's namespace goes, and the pod with it.
                    Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                    other => other.map(drop),
                }
            }
            Step::Status { key: (namespace, name), status, .. } => {
                let patch = Patch::Apply(json!({
                    "apiVersion": PodAttachment::api_version(&()),
                    "kind": PodAttachment::kind(&()),
                    "metadata": { "name": name, "namespace": namespace },
                    "status": status,
                }));
                let parameters = PatchParams::apply(MANAGER).force();
                gone_is_well(of(namespace).patch_status(name, &parameters, &patch).await)
            }
            Step::Delete { key: (namespace, name), uid } => {
                let preconditions = Preconditions { uid: uid.clone(), resource_version: None };
                let parameters =
                    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
                gone_is_well(of(namespace).delete(name, &parameters).await)
            }
        }
        .map(|()| Done::Well)
    };
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(outcome) => outcome.map_err(|error: kube::Error| error.to_string()),
        Err(_) => Err(format!("no answer for {} s", PATIENCE.as_secs())),
    }
}

/// The pod is deleted, and its garbage collected: what we would say of it has no place any more.
fn gone_is_well<T>(outcome: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match outcome {
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        other => other.map(drop),
    }
}
