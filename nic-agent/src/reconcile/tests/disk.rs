//! Files, and the time.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use offload::ids::{CtZone, MacAddr, VfId};
use serde::de::DeserializeOwned;

use super::world::{Effect, World};
use crate::claim::Claim;
use crate::durable::Disk;
use crate::ledger::Ledger;
use crate::platform::Clock;
use crate::reconcile::LEDGER;

/// The state directory.
pub const STATE: &str = "/var/lib/nic-agent";

impl Disk for World {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.lock().files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn replace(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let name = path.file_name().map(|name| name.display().to_string()).unwrap_or_default();
        let mut state = self.lock();
        state.attempt(Effect::Write(name)).map_err(io::Error::other)?;
        if path.file_name().is_some_and(|name| name == LEDGER) {
            state.holders = holders(contents);
        }
        state.files.insert(path.to_owned(), contents.to_owned());
        Ok(())
    }
}

/// An attachment, as the disk has it.
#[derive(Debug, Clone)]
pub struct Holder {
    pub claim: Claim,
    pub zone: CtZone,
    pub zone_dirty: bool,
    pub mac: Option<MacAddr>,
}

/// Read as plain JSON, not by the ledger's own code.
fn holders(file: &[u8]) -> BTreeMap<VfId, Holder> {
    fn read<T: DeserializeOwned>(value: &serde_json::Value) -> T {
        serde_json::from_value(value.clone()).expect("a ledger")
    }
    let file: serde_json::Value = serde_json::from_slice(file).expect("a ledger");
    let of = |it: &serde_json::Value| Holder {
        claim: read(&it["claim"]),
        zone: read(&it["zone"]),
        zone_dirty: read(&it["zone_dirty"]),
        mac: it["binding"].get("mac").map(read),
    };
    let all = file["attachments"].as_array().expect("attachments").iter().map(of);
    all.map(|it| (it.claim.vf, it)).collect()
}

impl Clock for World {
    fn now(&self) -> Instant {
        self.began + self.lock().elapsed
    }
}

impl World {
    pub fn wait(&self, duration: Duration) {
        self.lock().elapsed += duration;
    }

    /// As a process that starts now would read it.
    pub fn ledger(&self) -> Ledger {
        let path = Path::new(STATE).join(LEDGER);
        Ledger::load(self, &path).expect("a ledger that can be read").unwrap_or_default()
    }
}
