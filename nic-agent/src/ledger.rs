//! What the agent must still know after a restart: the attachments and the sandboxes that are over.
//!
//! Two JSON files, each written beside itself, synced and renamed, so that a crash leaves the old state or the new one
//! ([`mod@file`]). Files of older versions stay readable; a file of a newer version, or one that is damaged, is an error and is
//! never overwritten silently: the caller moves it aside.

pub mod book;
mod file;
mod quarantine;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::time::Instant;

use offload::ids::{CtZone, VfId};

use crate::attachment::{Attachment, AttachmentId, Sandbox};
use crate::claim::SandboxKey;
use crate::config::ZoneRange;
use crate::durable::{Disk, DurableError};
pub use file::FILE as MORE;
use quarantine::Quarantine;

/// Sandboxes that are over are remembered this far back. A runtime never uses an id twice; a replay is hostile.
const REMEMBERED: usize = 4096;

/// The ledger in memory. Changes are kept by [`Ledger::save`], which the one task that owns it calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    generation: u64,
    attachments: BTreeMap<AttachmentId, Attachment>,
    detached: VecDeque<SandboxKey>,
    quarantine: Quarantine,
    /// The second file has something in it that only this version can say.
    has_more: bool,
}

impl Ledger {
    /// Reads the ledger; a file that is not there is an empty ledger, and `None` says so.
    pub fn load(disk: &dyn Disk, path: &Path) -> Result<Option<Self>, DurableError> {
        file::load(disk, path)
    }

    /// Writes the ledger so that a crash leaves either the old one or the new one.
    pub fn save(&mut self, disk: &dyn Disk, path: &Path) -> Result<(), DurableError> {
        self.generation += 1;
        file::save(self, disk, path)
    }

    /// How often it was written.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        self.attachments.values()
    }

    /// All but the server's management port.
    pub fn pods(&self) -> impl Iterator<Item = (&Attachment, &Sandbox)> {
        self.attachments().filter_map(|it| Some((it, it.owner.sandbox()?)))
    }

    pub fn attachments_mut(&mut self) -> impl Iterator<Item = &mut Attachment> {
        self.attachments.values_mut()
    }

    pub fn get(&self, id: &AttachmentId) -> Option<&Attachment> {
        self.attachments.get(id)
    }

    pub fn of_sandbox(&self, key: &SandboxKey) -> Option<&Attachment> {
        self.get(&key.clone().into())
    }

    pub fn holder(&self, vf: VfId) -> Option<&Attachment> {
        self.attachments.values().find(|a| a.vf == vf)
    }

    pub fn insert(&mut self, attachment: Attachment) {
        self.attachments.insert(attachment.id(), attachment);
    }

    /// Takes an attachment out without a trace: it never became ready, so its sandbox may ask again.
    pub fn withdraw(&mut self, id: &AttachmentId) -> Option<Attachment> {
        let attachment = self.attachments.remove(id)?;
        let zone = attachment.port.zone();
        // One that is dirty to this day has had no flow: who asks and gives up, again and again, uses up no zones.
        if !attachment.port.is_zone_dirty() && !self.attachments().any(|it| it.port.zone() == zone) {
            self.quarantine.put(zone);
        }
        Some(attachment)
    }

    /// Takes an attachment out for good: its sandbox does not come back. Of a sandbox that is not there it is remembered, too:
    /// a Detach may overtake its Attach, which nobody would undo any more.
    pub fn detach(&mut self, key: &SandboxKey) -> Option<Attachment> {
        let attachment = self.withdraw(&key.clone().into());
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
        let used: BTreeSet<CtZone> = self.attachments.values().map(|a| a.port.zone()).collect();
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
