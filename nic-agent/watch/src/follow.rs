//! From list and watch to events.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Resource};
use reconnect::Reconnect;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc};
use tracing::{debug, info};

use crate::access::{Access, Accesses};
use crate::trouble::{Cause, Trouble};

/// Seconds after which the server ends a watch, so that one on a connection that died unnoticed does not last.
const WATCH: u32 = 240;
/// Objects of a page. Together with the trimming it bounds what a list needs at a time.
const PAGE: u32 = 500;

/// What a watch says, in order.
#[derive(Debug)]
pub enum Event<K> {
    /// A list begins: what it does not name is gone when it ends.
    Begin,
    Object(K),
    Gone(K),
    End,
    /// The server has taken up the watch: nothing is missed from here on.
    Well,
    Failed(Trouble),
}

impl<K> Event<K> {
    /// The same of something else.
    pub fn map<T>(self, of: impl FnOnce(K) -> T) -> Event<T> {
        match self {
            Self::Begin => Event::Begin,
            Self::Object(object) => Event::Object(of(object)),
            Self::Gone(object) => Event::Gone(of(object)),
            Self::End => Event::End,
            Self::Well => Event::Well,
            Self::Failed(trouble) => Event::Failed(trouble),
        }
    }
}

/// Who is told.
pub trait Listener<K>: Send {
    /// Back when it was taken; false: nobody listens any more.
    fn hear(&mut self, event: Event<K>) -> impl Future<Output = bool> + Send;
}

impl<K: Send> Listener<K> for mpsc::Sender<Event<K>> {
    async fn hear(&mut self, event: Event<K>) -> bool {
        self.send(event).await.is_ok()
    }
}

/// How to watch.
#[derive(Clone, Debug)]
pub struct Options {
    /// For people.
    pub kind: &'static str,
    /// Of all objects those that it selects.
    pub fields: Option<String>,
    /// May the server do without the kind? Its CRD may not be there.
    pub is_optional: bool,
    /// Between two tries, from and to.
    pub pauses: (Duration, Duration),
    /// Between two looks for a kind that the server does not have.
    pub absent: Duration,
}

impl Options {
    pub fn new(kind: &'static str) -> Self {
        let pauses = (Duration::from_millis(500), Duration::from_secs(15));
        Self { kind, fields: None, is_optional: false, pauses, absent: Duration::from_secs(30) }
    }
}

/// Why a watch is begun anew.
enum Ended {
    /// There is another credential, or nothing to go on from.
    Renewed,
    /// The server has no streaming lists.
    NoStreaming,
    /// The server does not have the kind.
    Absent,
    /// Nobody listens any more.
    Closed,
}

/// Of all objects of the kind, in all namespaces, until nobody listens, or nobody makes clients any more.
pub async fn follow<K, A, L>(options: Options, mut accesses: Accesses<A>, mut listener: L)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    A: Access,
    L: Listener<K>,
{
    let kind = options.kind;
    let (mut streaming, mut is_absent, mut was_there) = (true, false, false);
    let mut pauses = Reconnect::new(1, options.pauses.0, options.pauses.1);
    loop {
        let access = accesses.borrow_and_update().clone();
        let ended = match access {
            Ok(access) => {
                let mut watch = Watch::<K, L> {
                    listener: &mut listener,
                    options: &options,
                    pauses: &mut pauses,
                    listing: false,
                    listed: false,
                    may_be_absent: options.is_optional && !was_there,
                    well_since: None,
                    objects: std::marker::PhantomData,
                };
                let ended = watch.run(&*access, streaming, &mut accesses).await;
                was_there |= watch.listed;
                ended
            }
            Err(why) => {
                let trouble = Trouble::new(Cause::Unauthorised, why);
                let heard = listener.hear(Event::Failed(trouble)).await;
                match (heard, accesses.changed().await) {
                    (true, Ok(())) => Ended::Renewed,
                    _ => Ended::Closed,
                }
            }
        };
        match ended {
            Ended::Renewed => {}
            Ended::Absent => {
                if !std::mem::replace(&mut is_absent, true) {
                    info!(kind, "API server without this kind, none is there until it has it");
                    for event in [Event::Begin, Event::End] {
                        if !listener.hear(event).await {
                            return;
                        }
                    }
                }
                if !listener.hear(Event::Well).await {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(options.absent) => {}
                    changed = accesses.changed() => if changed.is_err() { return },
                }
            }
            Ended::NoStreaming => {
                info!(kind, "API server without streaming lists, listing by pages");
                streaming = false;
            }
            Ended::Closed => return,
        }
    }
}

struct Watch<'a, K, L> {
    listener: &'a mut L,
    options: &'a Options,
    pauses: &'a mut Reconnect,
    /// Between Begin and End.
    listing: bool,
    /// A list is complete.
    listed: bool,
    /// "Not found" says that there is none. Once there was one, it is trouble, and what is known stays.
    may_be_absent: bool,
    well_since: Option<Instant>,
    objects: std::marker::PhantomData<fn(K)>,
}

impl<K, L> Watch<'_, K, L>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    L: Listener<K>,
{
    async fn run<A: Access>(&mut self, access: &A, streaming: bool, accesses: &mut Accesses<A>) -> Ended {
        let answered = Arc::new(Notify::new());
        let note = answered.clone();
        let client = match access.watched_client(Arc::new(move || note.notify_one())) {
            Ok(client) => client,
            Err(why) => {
                let trouble = Trouble::new(Cause::Unauthorised, why);
                return self.failed(trouble, accesses).await.unwrap_or(Ended::Renewed);
            }
        };
        let mut config = watcher::Config::default().timeout(WATCH).page_size(PAGE);
        config.field_selector.clone_from(&self.options.fields);
        if streaming {
            config = config.streaming_lists();
        }
        let mut events = pin!(watcher(Api::<K>::all(client), config));
        loop {
            let next = tokio::select! {
                biased;
                changed = accesses.changed() => {
                    return if changed.is_ok() { Ended::Renewed } else { Ended::Closed };
                }
                () = answered.notified() => {
                    // Of a list by pages nothing follows for the watch; a streaming list is one.
                    if (streaming || !self.listing) && !self.well().await {
                        return Ended::Closed;
                    }
                    continue;
                }
                next = events.next() => next,
            };
            let event = match next {
                Some(Ok(event)) => event,
                Some(Err(error)) => {
                    if streaming && !self.listed && is_refused(&error) {
                        return Ended::NoStreaming;
                    }
                    if self.may_be_absent && !self.listed && code(&error) == Some(404) {
                        return Ended::Absent;
                    }
                    match gone(&error) {
                        // The watcher lists anew by itself.
                        Some(Gone::InWatch) => {
                            self.listing = false;
                            continue;
                        }
                        // And here it would ask for the same version for ever.
                        Some(Gone::AtStart) => return Ended::Renewed,
                        None => {}
                    }
                    debug!(kind = self.options.kind, error = %error, "watch failed");
                    if let Some(ended) = self.failed(Trouble::of_watch(&error), accesses).await {
                        return ended;
                    }
                    continue;
                }
                None => return Ended::Renewed,
            };
            if matches!(event, watcher::Event::Init) && self.listing {
                if streaming {
                    // The server took it for a plain watch, and ended that.
                    return Ended::NoStreaming;
                }
                tokio::time::sleep(self.pauses.next_try().delay).await;
            }
            if !self.pass_on(event).await {
                return Ended::Closed;
            }
        }
    }

    async fn well(&mut self) -> bool {
        self.well_since.get_or_insert_with(Instant::now);
        self.listener.hear(Event::Well).await
    }

    async fn pass_on(&mut self, event: watcher::Event<K>) -> bool {
        let event = match event {
            watcher::Event::Init => {
                self.listing = true;
                Event::Begin
            }
            watcher::Event::InitDone => {
                (self.listing, self.listed) = (false, true);
                // A client that does not say what is answered has been answered by now.
                self.well_since.get_or_insert_with(Instant::now);
                Event::End
            }
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => Event::Object(object),
            watcher::Event::Delete(object) => Event::Gone(object),
        };
        self.listener.hear(event).await
    }

    /// Says it, and waits. `Some`: the watch is over.
    async fn failed<A: Access>(&mut self, trouble: Trouble, accesses: &mut Accesses<A>) -> Option<Ended> {
        self.listing = false;
        if let Some(since) = self.well_since.take() {
            self.pauses.lost(since.elapsed());
        }
        if !self.listener.hear(Event::Failed(trouble)).await {
            return Some(Ended::Closed);
        }
        tokio::select! {
            () = tokio::time::sleep(self.pauses.next_try().delay) => None,
            changed = accesses.changed() => {
                Some(if changed.is_ok() { Ended::Renewed } else { Ended::Closed })
            }
        }
    }
}

/// The server no longer knows what came after the version that we have.
enum Gone {
    InWatch,
    AtStart,
}

fn gone(error: &watcher::Error) -> Option<Gone> {
    match error {
        watcher::Error::WatchError(status) if status.code == 410 => Some(Gone::InWatch),
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410 => {
            Some(Gone::AtStart)
        }
        _ => None,
    }
}

/// Has the server no streaming lists? One without the feature `WatchList` says 422; one whose etcd lacks progress
/// notifications says 500. Lists by pages always work, so a doubt is one for them, as in client-go's reflector.
fn is_refused(error: &watcher::Error) -> bool {
    matches!(code(error), Some(400 | 405 | 422 | 500 | 501))
}

fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        // Said in the stream, after it was taken up.
        | watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}
