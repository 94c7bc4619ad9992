//! What the watches of all kinds say, in one queue.

use std::pin::Pin;
use std::time::Duration;

pub use kube_watch::Event;
use kube_watch::{Listener, Options};
use tokio::sync::mpsc;

use super::client::Accesses;
use super::kinds::{ForEachKind, Kind, Listed, for_each_kind};
use super::object::{Seen, Unread};
use crate::config::Config;
use crate::policy::ObjectName;

/// Of a kind.
#[derive(Debug)]
pub struct Said {
    pub kind: Kind,
    pub event: Event<Named>,
}

/// An object.
#[derive(Debug)]
pub struct Named {
    pub name: ObjectName,
    pub uid: String,
    pub version: u64,
    pub unread: Unread,
}

struct Teller(mpsc::Sender<Said>);

impl<K: Listed> Listener<Seen<K>> for Teller {
    async fn hear(&mut self, event: Event<Seen<K>>) -> bool {
        let named = |seen: Seen<K>| Named {
            name: seen.name(),
            uid: seen.uid(),
            version: seen.version(),
            unread: seen.unread,
        };
        let event = match event.map(named) {
            Event::Failed(trouble) => Event::Failed(trouble.configured_in("cluster.kubeconfig")),
            event => event,
        };
        self.0.send(Said { kind: K::KIND, event }).await.is_ok()
    }
}

/// Those of this agent's tests are short.
pub(super) fn options(kind: &'static str) -> Options {
    if cfg!(test) {
        let pauses = (Duration::from_millis(5), Duration::from_millis(20));
        Options { pauses, absent: Duration::from_millis(20), ..Options::new(kind) }
    } else {
        Options::new(kind)
    }
}

/// Watches each kind that this configuration needs, until nobody listens. Returns these.
pub fn start(
    config: &Config,
    accesses: &Accesses,
    out: mpsc::Sender<Said>,
    run: impl FnMut(Watching),
) -> Vec<Kind> {
    let mut start = Start { config, accesses, out, run, kinds: Vec::new() };
    for_each_kind(&mut start);
    start.kinds
}

/// The watch of one kind, which never ends by itself.
pub type Watching = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Start<'a, F> {
    config: &'a Config,
    accesses: &'a Accesses,
    out: mpsc::Sender<Said>,
    run: F,
    kinds: Vec<Kind>,
}

impl<F: FnMut(Watching)> ForEachKind for Start<'_, F> {
    fn visit<K: Listed>(&mut self) {
        if !K::is_needed(self.config) {
            return;
        }
        self.kinds.push(K::KIND);
        let fields = K::field_selector(self.config);
        let options = Options { fields, is_optional: K::IS_OPTIONAL, ..options(K::LABEL) };
        let (accesses, teller) = (self.accesses.clone(), Teller(self.out.clone()));
        (self.run)(Box::pin(kube_watch::follow::<Seen<K>, _, _>(options, accesses, teller)));
    }
}
