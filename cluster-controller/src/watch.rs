//! The cluster's objects as a stream of changes, from one watch for each kind.
//!
//! [`kube_watch`] lists and watches. Here an object is trimmed as soon as it is read. A list that begins anew takes nothing
//! away until it has ended: then what it did not name is gone.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use kube::{Client, Resource};
use kube_watch::{Accesses, Event, Listener, Options};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
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
    // The client reads its credential again by itself.
    let (keep, accesses) = watch::channel(Ok(Arc::new(client.clone())));
    let teller =
        |kind| Teller { kind, resources: resources.clone(), out: out.clone(), metrics: metrics.clone() };
    tasks.spawn(follow::<NodeObject>(None, accesses.clone(), teller(Kind::Node)));
    tasks.spawn(follow::<RangeObject>(None, accesses.clone(), teller(Kind::NodeRange)));
    tasks.spawn(follow::<NicNodeObject>(None, accesses.clone(), teller(Kind::NicNode)));
    tasks.spawn(follow::<PodObject>(Some(RUNNING), accesses.clone(), teller(Kind::Pod)));
    tasks.spawn(follow::<ServiceObject>(None, accesses.clone(), teller(Kind::Service)));
    tasks.spawn(follow::<SliceObject>(None, accesses.clone(), teller(Kind::EndpointSlice)));
    tasks.spawn(follow::<AttachmentObject>(None, accesses, teller(Kind::PodAttachment)));
    let until_closed = out.clone();
    tasks.spawn(async move {
        until_closed.closed().await;
        drop(keep);
    });
    tasks
}

async fn follow<K>(fields: Option<&str>, accesses: Accesses<Client>, teller: Teller)
where
    K: Watched + Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let options = Options { fields: fields.map(str::to_owned), ..Options::new(teller.kind.as_str()) };
    let known = Known::<K>::new(teller.kind);
    kube_watch::follow::<K, _, _>(options, accesses, Telling { known, teller }).await;
}

struct Teller {
    kind: Kind,
    resources: VfResources,
    out: mpsc::Sender<Input>,
    metrics: Metrics,
}

struct Telling<K> {
    known: Known<K>,
    teller: Teller,
}

impl<K: Watched + Resource + Send> Listener<K> for Telling<K> {
    async fn hear(&mut self, event: Event<K>) -> bool {
        let Teller { kind, resources, out, metrics } = &self.teller;
        if let Event::Failed(error) = &event {
            metrics.watch_failures.get_or_create(&KindLabel { kind: kind.as_str() }).inc();
            tracing::warn!(kind = kind.as_str(), %error, "watch failed, trying again");
        }
        for input in self.known.take(event, resources) {
            if out.send(input).await.is_err() {
                return false;
            }
        }
        true
    }
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
            Event::Begin => {
                self.listing = Some(HashSet::new());
                Vec::new()
            }
            Event::Object(object) => {
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
            Event::Gone(object) => {
                let Some(name) = name_of(&object) else { return Vec::new() };
                if let Some(listing) = &mut self.listing {
                    listing.remove(&name);
                }
                if self.there.remove(&name) { Self::gone(&name).into_iter().collect() } else { Vec::new() }
            }
            Event::End => {
                let named = self.listing.take().unwrap_or_default();
                let gone: Vec<Name> = self.there.difference(&named).cloned().collect();
                self.there = named;
                let gone = gone.iter().filter_map(Self::gone);
                gone.chain([Input::Listed(self.kind)]).collect()
            }
            // A list that was under way begins anew.
            Event::Failed(_) => {
                self.listing = None;
                Vec::new()
            }
            Event::Well => Vec::new(),
        }
    }

    fn gone((namespace, name): &Name) -> Option<Input> {
        K::absent(namespace.as_deref(), name).map(Input::Change)
    }
}

#[cfg(test)]
mod tests;
