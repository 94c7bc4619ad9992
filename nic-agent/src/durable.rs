//! Files that survive a crash whole: the old one or the new one, never half of either.
//!
//! Each is one JSON object with a `version`, which grows when an older nic-agent could no longer read the file. Failure:
//! one of an unknown version, or one that is damaged, is an error and stays as it is.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is damaged: {source}")]
    Damaged { path: PathBuf, source: serde_json::Error },
    #[error("{path} was written by another nic-agent: it has version {found}, this one knows 1 to {known}")]
    Version { path: PathBuf, found: u32, known: u32 },
}

#[derive(Deserialize)]
struct Header {
    version: u32,
}

/// Where the files are.
pub trait Disk: fmt::Debug + Send + Sync {
    /// [`io::ErrorKind::NotFound`]: there is no such file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// When this returns, a crash leaves the new file; before, the old one or the new one.
    fn replace(&self, path: &Path, contents: &[u8]) -> io::Result<()>;
}

/// The kernel's file systems.
#[derive(Debug, Clone, Copy)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    /// Written beside itself, synced, renamed.
    fn replace(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let temporary = path.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }
}

/// `None`: there is no such file. Versions 1 to `known` are read.
pub fn read_json<T: DeserializeOwned>(
    disk: &dyn Disk,
    path: &Path,
    known: u32,
) -> Result<Option<T>, DurableError> {
    let text = match disk.read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DurableError::Io { path: path.to_owned(), source }),
    };
    let damaged = |source| DurableError::Damaged { path: path.to_owned(), source };
    // First: the rest of another version's file may look like anything.
    let Header { version } = serde_json::from_slice(&text).map_err(damaged)?;
    if !(1..=known).contains(&version) {
        return Err(DurableError::Version { path: path.to_owned(), found: version, known });
    }
    serde_json::from_slice(&text).map(Some).map_err(damaged)
}

/// The whole file, as [`Disk::replace`] writes it.
pub fn write_json(disk: &dyn Disk, path: &Path, value: &impl Serialize) -> Result<(), DurableError> {
    let failed = |source| DurableError::Io { path: path.to_owned(), source };
    let mut contents = serde_json::to_vec_pretty(value).map_err(|e| failed(e.into()))?;
    contents.push(b'\n');
    disk.replace(path, &contents).map_err(failed)
}
