//! What the agent must still know after a restart: the believed attachments and the sandboxes that are over.
//!
//! One JSON file with a version, written beside itself, synced and renamed: a crash leaves the old state or the new one.
//! Files of older versions stay readable; a file of a newer version, or one that is damaged, is an error and is never
//! overwritten silently: the caller moves it aside.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use offload::ids::{CtZone, VfId};
use serde::{Deserialize, Serialize};

use crate::attachment::Attachment;
use crate::claim::SandboxKey;
use crate::config::ZoneRange;
use crate::durable::{self, DurableError};
use crate::management;

const VERSION: u32 = 1;
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
}

/// The ledger in memory. Changes are kept by [`Ledger::save`], which the one task that owns it calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    generation: u64,
    attachments: BTreeMap<SandboxKey, Attachment>,
    detached: VecDeque<SandboxKey>,
}

impl Ledger {
    /// Reads the ledger; a file that is not there is an empty ledger, and `None` says so.
    pub fn load(path: &Path) -> Result<Option<Self>, DurableError> {
        let Some(stored) = durable::read_json::<Stored>(path, VERSION)? else { return Ok(None) };
        let mut ledger =
            Self { generation: stored.generation, attachments: BTreeMap::new(), detached: stored.detached };
        for attachment in stored.attachments {
            ledger.insert(attachment);
        }
        Ok(Some(ledger))
    }

    /// Writes the ledger so that a crash leaves either the old file or the new one.
    pub fn save(&mut self, path: &Path) -> Result<(), DurableError> {
        self.generation += 1;
        let stored = Stored {
            version: VERSION,
            generation: self.generation,
            attachments: self.attachments.values().cloned().collect(),
            detached: self.detached.clone(),
        };
        durable::write_json(path, &stored)
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
        self.attachments().filter(|it| !management::is_management(it))
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
        self.attachments.remove(key)
    }

    /// Takes an attachment out for good: its sandbox does not come back.
    pub fn detach(&mut self, key: &SandboxKey) -> Option<Attachment> {
        let attachment = self.attachments.remove(key);
        if attachment.is_some() {
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

    /// The lowest zone of `range` that no attachment has.
    pub fn free_zone(&self, range: ZoneRange) -> Option<CtZone> {
        let used: BTreeSet<CtZone> = self.attachments.values().map(|a| a.zone).collect();
        range.iter().find(|zone| !used.contains(zone))
    }
}

#[cfg(test)]
mod tests;
