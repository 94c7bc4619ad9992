//! All objects at one time, and what can happen to them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use offload::policy::PrefixSet;
use serde::Deserialize;
use serde::de::Error;
use serde_json::Value;

use super::model::{EndpointSlice, Namespace, ObjectName, Pod, Policy, Service};

/// What a watch on one kind says. An object that is there already is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Pod(Pod),
    PodGone(ObjectName),
    Namespace(Namespace),
    NamespaceGone(Arc<str>),
    Policy(Policy),
    PolicyGone(ObjectName),
    Service(Service),
    ServiceGone(ObjectName),
    EndpointSlice(EndpointSlice),
    EndpointSliceGone(ObjectName),
    /// As [`Settings::node_addresses`](super::Settings).
    NodeAddresses(PrefixSet),
    /// As [`Settings::zone`](super::Settings).
    NodeZone(Arc<str>),
}

/// The kinds of which there are many objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    Pod,
    Namespace,
    Policy,
    Service,
    EndpointSlice,
}

impl ObjectKind {
    pub const ALL: [Self; 5] = [Self::Namespace, Self::Pod, Self::Service, Self::EndpointSlice, Self::Policy];
}

/// The kinds of [`Word`](super::Word).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WordKind {
    Attachment,
    Nic,
    Range,
    Node,
}

/// Of two objects of one name the last counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub pods: Vec<Pod>,
    pub namespaces: Vec<Namespace>,
    pub policies: Vec<Policy>,
    pub services: Vec<Service>,
    pub slices: Vec<EndpointSlice>,
}

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("policy file {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("policy file {path}: {source}; write a List as `kubectl get -o json` does")]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("policy file {path}: item {index}, {kind} {name}: {source}")]
    Item { path: PathBuf, index: usize, kind: String, name: String, source: serde_json::Error },
}

#[derive(Debug, Deserialize)]
struct List {
    items: Vec<Value>,
}

impl Snapshot {
    /// A Kubernetes `List`, or one object, in JSON. Objects of other kinds are skipped.
    pub fn from_file(path: &Path) -> Result<Self, FileError> {
        let text = std::fs::read(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// As [`Self::from_file`]; the path is for the errors.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, FileError> {
        let broken = |source| FileError::Parse { path: path.to_owned(), source };
        let value: Value = serde_json::from_slice(text).map_err(broken)?;
        let items = if value.get("items").is_some() || value.get("kind").is_none() {
            List::deserialize(value).map_err(broken)?.items
        } else {
            vec![value]
        };
        let mut snapshot = Self::default();
        for (index, item) in items.into_iter().enumerate() {
            let text_at =
                |pointer| item.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
            let (kind, name) = (text_at("/kind"), text_at("/metadata/name"));
            snapshot.add(&kind, item).map_err(|source| FileError::Item {
                path: path.to_owned(),
                index,
                kind,
                name,
                source,
            })?;
        }
        Ok(snapshot)
    }

    fn add(&mut self, kind: &str, item: Value) -> Result<(), serde_json::Error> {
        match kind {
            "Pod" => {
                let pod = Pod::deserialize(item)?;
                if let Some(found) = &pod.unreadable {
                    let what = format!(
                        "status.podIPs[].ip is {found:?}, which is no address; write one such as 10.0.0.1 or fd00::1"
                    );
                    return Err(Error::custom(what));
                }
                self.pods.push(pod);
            }
            "Namespace" => self.namespaces.push(Namespace::deserialize(item)?),
            "NetworkPolicy" => self.policies.push(Policy::deserialize(item)?),
            "Service" => {
                let service = Service::deserialize(item)?;
                all_readable(service.fault.as_deref())?;
                self.services.push(service);
            }
            "EndpointSlice" => {
                let slice = EndpointSlice::deserialize(item)?;
                all_readable(slice.fault.as_deref())?;
                self.slices.push(slice);
            }
            _ => {}
        }
        Ok(())
    }

    pub fn names(&self, kind: ObjectKind) -> HashSet<ObjectName> {
        match kind {
            ObjectKind::Pod => self.pods.iter().map(|it| it.name.clone()).collect(),
            ObjectKind::Namespace => {
                self.namespaces.iter().map(|it| ObjectName::new("", it.name.clone())).collect()
            }
            ObjectKind::Policy => self.policies.iter().map(|it| it.name.clone()).collect(),
            ObjectKind::Service => self.services.iter().map(|it| it.name.clone()).collect(),
            ObjectKind::EndpointSlice => self.slices.iter().map(|it| it.name.clone()).collect(),
        }
    }

    /// The changes that make an empty cluster this one.
    pub fn into_changes(self) -> impl Iterator<Item = Change> {
        // Namespaces first: a policy's set of peers is then made once. The result is the same in any order.
        (self.namespaces.into_iter().map(Change::Namespace))
            .chain(self.pods.into_iter().map(Change::Pod))
            .chain(self.services.into_iter().map(Change::Service))
            .chain(self.slices.into_iter().map(Change::EndpointSlice))
            .chain(self.policies.into_iter().map(Change::Policy))
    }
}

/// Whoever writes the file is told what is wrong with it. In a cluster one node's nonsense must not hold up the others.
fn all_readable(fault: Option<&str>) -> Result<(), serde_json::Error> {
    fault.map_or(Ok(()), |fault| Err(Error::custom(fault)))
}
