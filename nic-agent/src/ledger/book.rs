//! The ledger, with the disk that it is kept on, and whether the disk has it.

use std::path::PathBuf;
use std::sync::Arc;

use tracing::error;

use super::Ledger;
use crate::durable::{Disk, DurableError};

#[derive(Debug)]
pub struct Book {
    pub ledger: Ledger,
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// The ledger in memory is newer than the one on the disk.
    unsaved: bool,
}

impl Book {
    pub fn new(ledger: Ledger, disk: Arc<dyn Disk>, path: PathBuf) -> Self {
        Self { ledger, disk, path, unsaved: false }
    }

    /// It says something else than the disk.
    pub fn changed(&mut self) {
        self.unsaved = true;
    }

    /// What the ledger says in memory holds; one that cannot be written now is written by a later pass.
    pub fn save(&mut self) {
        let (ledger, save) = self.open();
        if let Err(error) = save(ledger) {
            error!(%error, "ledger not written");
        }
    }

    /// The ledger, and what writes it.
    pub fn open(&mut self) -> (&mut Ledger, impl FnOnce(&mut Ledger) -> Result<(), DurableError>) {
        let Self { ledger, disk, path, unsaved } = self;
        let save = move |ledger: &mut Ledger| {
            let saved = ledger.save(&**disk, path);
            *unsaved = saved.is_err();
            saved
        };
        (ledger, save)
    }

    /// Unless the disk has it already.
    pub fn keep(&mut self) {
        if self.unsaved {
            self.save();
        }
    }
}
