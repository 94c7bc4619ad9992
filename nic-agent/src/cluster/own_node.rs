//! Follows the one NicNode that is this NIC's.
//!
//! The API server holds it against the CRD, but a CRD may be newer than this agent. So reading one never fails: what of it
//! makes no sense here says so with its place, and the watch goes on.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use drawbridge_api::{NicNode, NicNodeSpec, NicNodeStatus};
use kube::core::{ClusterResourceScope, ObjectMeta};
use kube::{Client, Resource};
use kube_watch::{Event, Listener, Options};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::sync::watch;
use tracing::{info, warn};

/// As it was read.
#[derive(Debug, Clone)]
pub struct OwnNode {
    pub metadata: ObjectMeta,
    pub spec: Result<NicNodeSpec, Unreadable>,
    /// What we wrote; none if that makes no sense, and it is written anew.
    pub status: Option<NicNodeStatus>,
}

/// A place in the object, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    path: String,
    why: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, why } = self;
        write!(f, "{path}: {why}: write what this agent knows, or update it: the CRD may be newer")
    }
}

impl<'de> Deserialize<'de> for OwnNode {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(from)?;
        let mut part = |name: &str| object.get_mut(name).map(Value::take).unwrap_or_default();
        let (metadata, spec, status) = (part("metadata"), part("spec"), part("status"));
        Ok(Self {
            // Whatever stands there: one date too many in it must not keep the rest from us.
            metadata: lenient_json::metadata(metadata).map_err(serde::de::Error::custom)?,
            spec: read("spec", spec),
            status: read("status", status).ok(),
        })
    }
}

fn read<T: DeserializeOwned>(part: &str, value: Value) -> Result<T, Unreadable> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let place = error.path().to_string();
        let path = if place == "." { part.to_owned() } else { format!("{part}.{place}") };
        Unreadable { path, why: error.into_inner().to_string() }
    })
}

impl Resource for OwnNode {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        NicNode::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        NicNode::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        NicNode::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        NicNode::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// What the API has under our name.
#[derive(Debug, Clone, Default)]
pub enum Own {
    /// Not asked yet, or never answered.
    #[default]
    Unknown,
    Absent,
    Known(Arc<OwnNode>),
}

/// Until dropped. Losing the API leaves what was last seen.
pub async fn follow(client: Client, name: &str, publish: &watch::Sender<Own>) {
    let options =
        Options { fields: Some(format!("metadata.name={name}")), ..super::watch::options("own nicnode") };
    let (_kept, accesses) = watch::channel(Ok(Arc::new(client)));
    let teller = Teller { name, publish, listing: false, listed: None, failing: false };
    kube_watch::follow(options, accesses, teller).await;
}

struct Teller<'a> {
    name: &'a str,
    publish: &'a watch::Sender<Own>,
    listing: bool,
    listed: Option<OwnNode>,
    failing: bool,
}

impl Listener<OwnNode> for Teller<'_> {
    async fn hear(&mut self, event: Event<OwnNode>) -> bool {
        let Self { name, publish, .. } = *self;
        match event {
            Event::Begin => (self.listing, self.listed) = (true, None),
            Event::Object(node) if self.listing => self.listed = Some(node),
            Event::Object(node) => say(publish, Some(node), name),
            Event::Gone(_) if self.listing => self.listed = None,
            Event::Gone(_) => say(publish, None, name),
            Event::End => {
                self.listing = false;
                say(publish, self.listed.take(), name);
            }
            Event::Well => self.failing = false,
            Event::Failed(error) => {
                self.listing = false;
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(name, %error, "NicNode cannot be followed, what it last said stays in force");
                }
            }
        }
        true
    }
}

fn say(publish: &watch::Sender<Own>, node: Option<OwnNode>, name: &str) {
    publish.send_if_modified(|current| {
        let new = match (node, &*current) {
            (None, Own::Absent) => return false,
            (None, _) => {
                warn!(
                    name,
                    "the cluster has no NicNode of this name: make one, the file is in force meanwhile"
                );
                Own::Absent
            }
            (Some(node), Own::Known(old)) if old.meta().resource_version == node.meta().resource_version => {
                return false;
            }
            (Some(node), Own::Known(_)) => Own::Known(Arc::new(node)),
            (Some(node), _) => {
                info!(name, "NicNode found");
                Own::Known(Arc::new(node))
            }
        };
        *current = new;
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_told_once_of_each_state() {
        let (publish, mut told) = watch::channel(Own::Unknown);
        let node = |version: &str| {
            let text = format!(
                r#"{{"apiVersion": "drawbridge.dev/v1alpha1", "kind": "NicNode",
                    "metadata": {{"name": "n", "resourceVersion": "{version}"}},
                    "spec": {{"nodeName": "n", "profile": {{"kind": "KubeOVN"}},
                        "ovn": {{"remotes": ["tcp:a:1"], "encapsulation": {{"types": ["Geneve"]}}}}}}}}"#
            );
            serde_json::from_str::<OwnNode>(&text).unwrap()
        };
        let mut said = |node: Option<OwnNode>| {
            say(&publish, node, "n");
            let news = told.has_changed().unwrap();
            (news, told.borrow_and_update().clone())
        };
        assert!(matches!(said(None), (true, Own::Absent)));
        assert!(matches!(said(None), (false, Own::Absent)));
        assert!(matches!(said(Some(node("1"))), (true, Own::Known(_))));
        assert!(matches!(said(Some(node("1"))), (false, _)));
        assert!(
            matches!(said(Some(node("2"))), (true, Own::Known(it)) if it.meta().resource_version.as_deref() == Some("2"))
        );
        assert!(matches!(said(None), (true, Own::Absent)));
    }

    #[test]
    fn what_makes_no_sense_is_named_with_its_place() {
        let node = |change: fn(&mut serde_json::Value)| {
            let mut node = serde_json::json!({
                "apiVersion": "drawbridge.dev/v1alpha1", "kind": "NicNode", "metadata": {"name": "n", "generation": 7},
                "spec": {"nodeName": "n", "profile": {"kind": "KubeOVN"},
                    "ovn": {"remotes": ["tcp:a:1"], "encapsulation": {"types": ["Geneve"]}}},
                "status": {"observedGeneration": 6},
            });
            change(&mut node);
            serde_json::from_value::<OwnNode>(node).unwrap()
        };
        let good = node(|_| {});
        assert!(good.spec.is_ok());
        assert_eq!(good.status.unwrap().observed_generation, Some(6));
        let said = |change| node(change).spec.unwrap_err().to_string();
        let newer = said(|it| it["spec"]["profile"]["kind"] = "Newer".into());
        assert!(newer.starts_with("spec.profile.kind: unknown variant `Newer`"), "{newer}");
        let wrong = said(|it| it["spec"]["ovn"]["remotes"][0] = 5.into());
        assert!(wrong.starts_with("spec.ovn.remotes[0]: invalid type"), "{wrong}");
        let none = said(|it| drop(it.as_object_mut().unwrap().remove("spec")));
        assert!(none.starts_with("spec: invalid type: null"), "{none}");
        let dated = node(|it| {
            it["metadata"]["managedFields"] = serde_json::json!([{"time": "10000-01-01T00:00:00Z"}]);
        });
        assert_eq!((dated.spec.is_ok(), dated.metadata.generation), (true, Some(7)));
        let odd = node(|it| it["status"] = "well".into());
        assert_eq!((odd.status, odd.metadata.generation), (None, Some(7)));
    }
}
