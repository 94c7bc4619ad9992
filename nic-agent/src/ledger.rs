//! What the agent must still know after a restart: the believed attachments and the sandboxes that are over.
//!
//! One JSON file with a version, written beside itself, synced and renamed: a crash leaves the old state or the new one.
//! Files of older versions stay readable; a file of a newer version, or one that is damaged, is an error and is never
//! overwritten silently: the caller moves it aside.

mod quarantine;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::time::Instant;

use offload::ids::{CtZone, VfId};
use serde::{Deserialize, Serialize};

use crate::attachment::Attachment;
use crate::claim::SandboxKey;
use crate::config::ZoneRange;
use crate::durable::{self, Disk, DurableError};
use quarantine::Quarantine;

/// 2 has the zones that are not free yet.
const VERSION: u32 = 2;
/// Sandboxes that are over are remembered this far back. A runtime never uses an id twice; a replay is hostile.
const REMEMBERED: usize = 4096;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    /// Grows by one with each write.
    generation: u64,
    attachments: Vec<Attachment>,
    detached: VecDeque<SandboxKey>,
    /// Not free yet.
    #[serde(default)]
    quarantined: BTreeSet<CtZone>,
}

/// The ledger in memory. Changes are kept by [`Ledger::save`], which the one task that owns it calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    generation: u64,
    attachments: BTreeMap<SandboxKey, Attachment>,
    detached: VecDeque<SandboxKey>,
    quarantine: Quarantine,
}

impl Ledger {
    /// Reads the ledger; a file that is not there is an empty ledger, and `None` says so.
    pub fn load(disk: &dyn Disk, path: &Path) -> Result<Option<Self>, DurableError> {
        let Some(stored) = durable::read_json::<Stored>(disk, path, VERSION)? else { return Ok(None) };
        let mut ledger = Self { generation: stored.generation, detached: stored.detached, ..Self::default() };
        for attachment in stored.attachments {
            ledger.insert(attachment);
        }
        for zone in stored.quarantined {
            ledger.quarantine.put(zone);
        }
        Ok(Some(ledger))
    }

    /// Writes the ledger so that a crash leaves either the old file or the new one.
    pub fn save(&mut self, disk: &dyn Disk, path: &Path) -> Result<(), DurableError> {
        self.generation += 1;
        let stored = Stored {
            version: VERSION,
            generation: self.generation,
            attachments: self.attachments.values().cloned().collect(),
            detached: self.detached.clone(),
            quarantined: self.quarantine.zones().collect(),
        };
        durable::write_json(disk, path, &stored)
    }

    /// How often it was written.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        self.attachments.values()
    }

    /// All but the server's management port.
    pub fn pods(&self) -> impl Iterator<Item = &Attachment> {
        self.attachments().filter(|it| !it.is_management())
    }

    pub fn attachments_mut(&mut self) -> impl Iterator<Item = &mut Attachment> {
        self.attachments.values_mut()
    }

    pub fn get(&self, key: &SandboxKey) -> Option<&Attachment> {
        self.attachments.get(key)
    }

    pub fn holder(&self, vf: VfId) -> Option<&Attachment> {
        self.attachments.values().find(|a| a.claim.vf == vf)
    }

    pub fn insert(&mut self, attachment: Attachment) {
        self.attachments.insert(attachment.claim.key.clone(), attachment);
    }

    /// Takes an attachment out without a trace: it never became ready, so its sandbox may ask again.
    pub fn withdraw(&mut self, key: &SandboxKey) -> Option<Attachment> {
        let attachment = self.attachments.remove(key)?;
        // One that is dirty to this day has had no flow: who asks and gives up, again and again, uses up no zones.
        if !attachment.zone_dirty {
            self.quarantine.put(attachment.zone);
        }
        Some(attachment)
    }

    /// Takes an attachment out for good: its sandbox does not come back. Of a sandbox that is not there it is remembered, too:
    /// a Detach may overtake its Attach, which nobody would undo any more.
    pub fn detach(&mut self, key: &SandboxKey) -> Option<Attachment> {
        let attachment = self.withdraw(key);
        if !self.is_detached(key) {
            self.detached.push_back(key.clone());
            while self.detached.len() > REMEMBERED {
                self.detached.pop_front();
            }
        }
        attachment
    }

    pub fn is_detached(&self, key: &SandboxKey) -> bool {
        self.detached.contains(key)
    }

    /// The lowest zone of `range` that no attachment has, and that has nothing of the last one's.
    pub fn free_zone(&self, range: ZoneRange) -> Option<CtZone> {
        let used: BTreeSet<CtZone> = self.attachments.values().map(|a| a.zone).collect();
        range.iter().find(|zone| !used.contains(zone) && !self.quarantine.contains(*zone))
    }

    /// How many zones are neither an attachment's nor free.
    pub fn quarantined(&self) -> usize {
        self.quarantine.zones().count()
    }

    /// The tables hold flows of these attachments and of no other.
    pub fn tables_written(&mut self, now: Instant) {
        self.quarantine.tables_written(now);
    }

    /// Zones of attachments that are gone, whose connections are to be deleted now.
    pub fn zones_to_empty(&self, now: Instant) -> Vec<CtZone> {
        self.quarantine.due(now)
    }

    /// They were, from `begun` on. What that frees need not be written: at worst it is emptied again.
    pub fn emptied(&mut self, zone: CtZone, begun: Instant) {
        self.quarantine.emptied(zone, begun);
    }
}

#[cfg(test)]
mod tests;
