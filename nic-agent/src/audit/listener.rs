//! The thread that hears of new connections and ends at once those that are denied.
//!
//! It is early, not complete: what it loses, the audit finds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use offload::ids::CtZone;
use offload::netlink;
use offload::netlink::conntrack::{Conntrack, Entry, NewConnection, NewConnections};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::look::Cut;
use super::zones::Zones;
use crate::config::ZoneRange;

/// Messages to the worker that may wait for it.
pub const WAITING: usize = 256;
/// How often it looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(500);
/// What begins is told together, so that a flood does not have the worker turn with each connection.
const TOGETHER: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_secs(1);
/// Events that are read before what is denied of them is deleted.
const BATCH: usize = 256;

#[derive(Debug)]
pub enum Heard {
    /// Cut already, by zone.
    Cut(BTreeMap<CtZone, Cut>),
    /// So many have begun, by zone.
    Began(BTreeMap<CtZone, u32>),
    /// Events were lost, or could not be had.
    Lost,
}

pub struct Listener {
    pub range: ZoneRange,
    pub zones: watch::Receiver<Arc<Zones>>,
    pub found: mpsc::Sender<Heard>,
    pub cancel: CancellationToken,
}

impl Listener {
    pub fn run(self) {
        let mut failing = false;
        while !self.ends() {
            match self.listen() {
                Ok(()) => return,
                Err(error) => {
                    if !failing {
                        warn!(%error, "not listening for new connections; the audit goes on alone");
                    }
                    failing = true;
                    // From here on nobody knows what is missed.
                    if self.found.blocking_send(Heard::Lost).is_err() {
                        return;
                    }
                    std::thread::sleep(RETRY);
                }
            }
        }
    }

    fn ends(&self) -> bool {
        self.cancel.is_cancelled() || self.found.is_closed()
    }

    fn listen(&self) -> netlink::Result<()> {
        let mut socket = NewConnections::open(self.range.first()..=self.range.last())?;
        let mut conntrack = Conntrack::open()?;
        let (mut began, mut told) = (BTreeMap::new(), Instant::now());
        info!(zones = %self.range, "listening for new connections");
        while !self.ends() {
            let mut events = socket.wait(PATIENCE)?;
            while !events.is_empty() && events.len() < BATCH {
                let more = socket.wait(Duration::ZERO)?;
                if more.is_empty() {
                    break;
                }
                events.extend(more);
            }
            if events.contains(&NewConnection::Lost) && self.found.blocking_send(Heard::Lost).is_err() {
                return Ok(());
            }
            let zones = self.zones.borrow().clone();
            count(&events, &mut began);
            if !began.is_empty() && told.elapsed() >= TOGETHER {
                told = Instant::now();
                // While the worker is busy they wait here: that must not keep what is denied.
                match self.found.try_send(Heard::Began(std::mem::take(&mut began))) {
                    Err(TrySendError::Full(Heard::Began(untold))) => began = untold,
                    Err(TrySendError::Closed(_)) => return Ok(()),
                    Ok(()) | Err(TrySendError::Full(_)) => {}
                }
            }
            let denied: Vec<Entry> = events
                .into_iter()
                .filter_map(|event| match event {
                    NewConnection::Began(entry) => Some(entry),
                    NewConnection::Lost => None,
                })
                .filter(|entry| {
                    let rules = entry.zone.and_then(|zone| zones.get(&zone));
                    rules.is_some_and(|rules| rules.denies(&entry.orig))
                })
                .collect();
            if denied.is_empty() {
                continue;
            }
            let deleted = conntrack.delete(&denied);
            let mut cut: BTreeMap<CtZone, Cut> = BTreeMap::new();
            for entry in &denied {
                if let Some((zone, rules)) = entry.zone.and_then(|zone| Some((zone, zones.get(&zone)?))) {
                    cut.entry(zone).or_insert_with(|| Cut::of(rules)).add(entry, false);
                }
            }
            // Also before an error: some of it is cut, and that must be waited for.
            if self.found.blocking_send(Heard::Cut(cut)).is_err() {
                return Ok(());
            }
            deleted?;
        }
        Ok(())
    }
}

fn count(events: &[NewConnection], began: &mut BTreeMap<CtZone, u32>) {
    for event in events {
        if let NewConnection::Began(Entry { zone: Some(zone), .. }) = event {
            let count = began.entry(*zone).or_default();
            *count = count.saturating_add(1);
        }
    }
}
