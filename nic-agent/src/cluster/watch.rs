//! One kind's watch: what kube's watcher makes of list, watch, bookmarks and 410, with what it leaves open: which way to
//! list, when to try again, and whether anybody answers.
//!
//! Failure: whatever goes wrong is said once per try, and tried again after a pause that grows.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::Api;
use kube::runtime::watcher::{self, watcher};
use ovsdb_session::reconnect::Reconnect;
use tokio::sync::{Notify, mpsc};
use tracing::{debug, info};

use super::client::{Access, Accesses};
use super::object::{Content, Kind, Seen, Watched};
use super::trouble::{Cause, Trouble};
use crate::policy::ObjectName;

/// Seconds after which the server ends a watch, so that one on a connection that died unnoticed does not last.
const WATCH: u32 = 240;
/// Between two looks for a kind that the server does not have.
const ABSENT: Duration = if cfg!(test) { Duration::from_millis(20) } else { Duration::from_secs(30) };
/// Objects of a page. Together with the trimming it bounds what a list needs at a time.
const PAGE: u32 = 500;
const PAUSE: (Duration, Duration) = if cfg!(test) {
    (Duration::from_millis(5), Duration::from_millis(20))
} else {
    (Duration::from_millis(500), Duration::from_secs(15))
};

/// What a watch says, in order.
#[derive(Debug)]
pub enum Event {
    /// A list begins: what it does not name is gone when it ends.
    Begin,
    Object {
        name: ObjectName,
        version: u64,
        content: Result<Content, String>,
    },
    Gone {
        name: ObjectName,
        uid: String,
        version: u64,
    },
    End,
    /// The server has taken up the watch: nothing is missed from here on.
    Well,
    Failed(Trouble),
}

#[derive(Debug)]
pub struct Said {
    pub kind: Kind,
    pub event: Event,
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

/// Of all objects of the kind, or of those that the field selector selects, until nobody listens.
pub async fn follow<K: Watched>(fields: Option<String>, mut accesses: Accesses, out: mpsc::Sender<Said>) {
    let (mut streaming, mut is_absent, mut was_there) = (true, false, false);
    let mut pauses = Reconnect::new(1, PAUSE.0, PAUSE.1);
    loop {
        let access = accesses.borrow_and_update().clone();
        let ended = match access {
            Ok(access) => {
                let mut watch = Watch::<K>::new(&out, &mut pauses);
                watch.may_be_absent = K::KIND.is_optional() && !was_there;
                let ended = watch.run(&access, fields.as_deref(), streaming, &mut accesses).await;
                was_there |= watch.listed;
                ended
            }
            Err(why) => {
                let trouble = Trouble::new(Cause::Unauthorised, why);
                let failed = out.send(Said { kind: K::KIND, event: Event::Failed(trouble) }).await;
                match (failed, accesses.changed().await) {
                    (Ok(()), Ok(())) => Ended::Renewed,
                    _ => Ended::Closed,
                }
            }
        };
        match ended {
            Ended::Renewed => {}
            Ended::Absent => {
                if !std::mem::replace(&mut is_absent, true) {
                    info!(
                        kind = K::KIND.plural(),
                        "API server without this kind, none is there until it has it"
                    );
                    for event in [Event::Begin, Event::End] {
                        if out.send(Said { kind: K::KIND, event }).await.is_err() {
                            return;
                        }
                    }
                }
                if out.send(Said { kind: K::KIND, event: Event::Well }).await.is_err() {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(ABSENT) => {}
                    changed = accesses.changed() => if changed.is_err() { return },
                }
            }
            Ended::NoStreaming => {
                info!(kind = K::KIND.plural(), "API server without streaming lists, listing by pages");
                streaming = false;
            }
            Ended::Closed => return,
        }
    }
}

struct Watch<'a, K> {
    out: &'a mpsc::Sender<Said>,
    pauses: &'a mut Reconnect,
    /// Between Begin and End.
    listing: bool,
    /// A list is complete.
    listed: bool,
    /// "Not found" says that there is none. Once there was one, it is trouble, and what is known stays.
    may_be_absent: bool,
    well_since: Option<Instant>,
    kind: std::marker::PhantomData<K>,
}

impl<'a, K: Watched> Watch<'a, K> {
    fn new(out: &'a mpsc::Sender<Said>, pauses: &'a mut Reconnect) -> Self {
        Self {
            out,
            pauses,
            listing: false,
            listed: false,
            may_be_absent: false,
            well_since: None,
            kind: std::marker::PhantomData,
        }
    }

    async fn run(
        &mut self,
        access: &Access,
        fields: Option<&str>,
        streaming: bool,
        accesses: &mut Accesses,
    ) -> Ended {
        let answered = Arc::new(Notify::new());
        let note = answered.clone();
        let client = match access.watched_client(move || note.notify_one()) {
            Ok(client) => client,
            Err(e) => {
                let trouble = Trouble::new(Cause::Unauthorised, e.to_string());
                return self.failed(trouble, accesses).await.unwrap_or(Ended::Renewed);
            }
        };
        let mut config = watcher::Config::default().timeout(WATCH).page_size(PAGE);
        config.field_selector = fields.map(ToOwned::to_owned);
        if streaming {
            config = config.streaming_lists();
        }
        let mut events = pin!(watcher(Api::<Seen<K>>::all(client), config));
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
                    debug!(kind = K::KIND.plural(), error = %error, "watch failed");
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

    async fn say(&self, event: Event) -> bool {
        self.out.send(Said { kind: K::KIND, event }).await.is_ok()
    }

    async fn well(&mut self) -> bool {
        self.well_since.get_or_insert_with(Instant::now);
        self.say(Event::Well).await
    }

    async fn pass_on(&mut self, event: watcher::Event<Seen<K>>) -> bool {
        let of = |seen: Seen<K>| Event::Object {
            name: seen.name(),
            version: seen.version(),
            content: seen.content,
        };
        let event = match event {
            watcher::Event::Init => {
                self.listing = true;
                Event::Begin
            }
            watcher::Event::InitDone => {
                (self.listing, self.listed) = (false, true);
                Event::End
            }
            watcher::Event::InitApply(seen) | watcher::Event::Apply(seen) => of(seen),
            watcher::Event::Delete(seen) => {
                Event::Gone { name: seen.name(), uid: seen.uid(), version: seen.version() }
            }
        };
        self.say(event).await
    }

    /// Says it, and waits. `Some`: the watch is over.
    async fn failed(&mut self, trouble: Trouble, accesses: &mut Accesses) -> Option<Ended> {
        self.listing = false;
        if let Some(since) = self.well_since.take() {
            self.pauses.lost(since.elapsed());
        }
        if !self.say(Event::Failed(trouble)).await {
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
