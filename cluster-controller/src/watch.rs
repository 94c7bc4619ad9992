//! The cluster's objects as a stream of changes, from one watch for each kind.
//!
//! kube's watcher lists and watches, takes up bookmarks, and lists anew where the server has forgotten (410). Here an
//! object is trimmed as soon as it is read. A list that begins anew takes nothing away until it has ended: then what it
//! did not name is gone. Whatever fails is said once per try, and tried again after a pause that grows.

use std::collections::HashSet;
use std::fmt::Debug;
use std::pin::pin;

use futures::StreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{WatchStreamExt, watcher::Config};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::cluster::Change;
use crate::cluster::object::{
    AttachmentObject, NicNodeObject, NodeObject, PodObject, RangeObject, ServiceObject, SliceObject,
    VfResources, Watched,
};
use crate::metrics::{KindLabel, Metrics};

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Node,
    NodeRange,
    NicNode,
    Pod,
    Service,
    EndpointSlice,
    PodAttachment,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::Node,
        Self::NodeRange,
        Self::NicNode,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::PodAttachment,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "nodes",
            Self::NodeRange => "noderanges",
            Self::NicNode => "nicnodes",
            Self::Pod => "pods",
            Self::Service => "services",
            Self::EndpointSlice => "endpointslices",
            Self::PodAttachment => "podattachments",
        }
    }
}

/// What a watch says.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    Change(Change),
    /// All objects of the kind have been named.
    Listed(Kind),
}

/// Pods that are on a node and not finished: one that finishes is gone, for us.
const RUNNING: &str = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed";

/// Starts a watch for each kind; they end when nobody listens any more.
pub fn start(
    client: &Client,
    resources: &VfResources,
    out: &mpsc::Sender<Input>,
    metrics: &Metrics,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let watch =
        |kind| Watch { kind, resources: resources.clone(), out: out.clone(), metrics: metrics.clone() };
    let all = Config::default();
    tasks.spawn(watch(Kind::Node).run::<NodeObject>(Api::all(client.clone()), all.clone()));
    tasks.spawn(watch(Kind::NodeRange).run::<RangeObject>(Api::all(client.clone()), all.clone()));
    tasks.spawn(watch(Kind::NicNode).run::<NicNodeObject>(Api::all(client.clone()), all.clone()));
    tasks.spawn(watch(Kind::Pod).run::<PodObject>(Api::all(client.clone()), all.clone().fields(RUNNING)));
    tasks.spawn(watch(Kind::Service).run::<ServiceObject>(Api::all(client.clone()), all.clone()));
    tasks.spawn(watch(Kind::EndpointSlice).run::<SliceObject>(Api::all(client.clone()), all.clone()));
    tasks.spawn(watch(Kind::PodAttachment).run::<AttachmentObject>(Api::all(client.clone()), all));
    tasks
}

struct Watch {
    kind: Kind,
    resources: VfResources,
    out: mpsc::Sender<Input>,
    metrics: Metrics,
}

/// Namespace, where there are any, and name.
type Name = (Option<String>, String);

fn name_of<K: Resource>(object: &K) -> Option<Name> {
    let meta = object.meta();
    Some((meta.namespace.clone(), meta.name.clone()?))
}

/// Which objects the plan has of us, and which a list that has begun has named so far. Pure.
struct Known<K> {
    there: HashSet<Name>,
    listing: Option<HashSet<Name>>,
    kind: Kind,
    _objects: std::marker::PhantomData<fn(K)>,
}

impl<K: Watched + Resource> Known<K> {
    fn new(kind: Kind) -> Self {
        Self { there: HashSet::new(), listing: None, kind, _objects: std::marker::PhantomData }
    }

    fn take(&mut self, event: Event<K>, resources: &VfResources) -> Vec<Input> {
        match event {
            Event::Init => {
                self.listing = Some(HashSet::new());
                Vec::new()
            }
            Event::InitApply(object) | Event::Apply(object) => {
                let Some(name) = name_of(&object) else { return Vec::new() };
                let Some(change) = object.present(resources) else { return Vec::new() };
                if change.is_present() {
                    if let Some(listing) = &mut self.listing {
                        listing.insert(name.clone());
                    }
                    self.there.insert(name);
                } else if !self.there.remove(&name) {
                    // It asks for nothing, as before.
                    return Vec::new();
                }
                vec![Input::Change(change)]
            }
            Event::Delete(object) => {
                let Some(name) = name_of(&object) else { return Vec::new() };
                if let Some(listing) = &mut self.listing {
                    listing.remove(&name);
                }
                if self.there.remove(&name) { Self::gone(&name).into_iter().collect() } else { Vec::new() }
            }
            Event::InitDone => {
                let named = self.listing.take().unwrap_or_default();
                let gone: Vec<Name> = self.there.difference(&named).cloned().collect();
                self.there = named;
                let gone = gone.iter().filter_map(Self::gone);
                gone.chain([Input::Listed(self.kind)]).collect()
            }
        }
    }

    fn gone((namespace, name): &Name) -> Option<Input> {
        K::absent(namespace.as_deref(), name).map(Input::Change)
    }
}

impl Watch {
    async fn run<K>(self, api: Api<K>, config: Config)
    where
        K: Watched + Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut events = pin!(watcher(api, config).default_backoff());
        let mut known = Known::<K>::new(self.kind);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    for input in known.take(event, &self.resources) {
                        if self.out.send(input).await.is_err() {
                            return;
                        }
                    }
                }
                Err(error) => self.report(&error),
            }
        }
    }

    fn report(&self, error: &watcher::Error) {
        self.metrics.watch_failures.get_or_create(&KindLabel { kind: self.kind.as_str() }).inc();
        tracing::warn!(kind = self.kind.as_str(), %error, "watch failed, trying again");
    }
}

#[cfg(test)]
mod tests;
