//! What the watches of all kinds say, in one queue.

use std::time::Duration;

pub use kube_watch::Event;
use kube_watch::{Listener, Options};
use tokio::sync::mpsc;

use super::client::Accesses;
use super::object::{Kind, Seen, Unread, Watched};
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

impl<K: Watched> Listener<Seen<K>> for Teller {
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

/// Of all objects of the kind, or of those that the field selector selects, until nobody listens.
pub async fn follow<K: Watched>(fields: Option<String>, accesses: Accesses, out: mpsc::Sender<Said>) {
    let options = Options { fields, is_optional: K::KIND.is_optional(), ..options(K::KIND.plural()) };
    kube_watch::follow::<Seen<K>, _, _>(options, accesses, Teller(out)).await;
}
