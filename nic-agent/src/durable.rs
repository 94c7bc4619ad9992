//! Files that survive a crash whole: the old one or the new one, never half of either.
//!
//! Each is one JSON object with a `version`, which grows when an older nic-agent could no longer read the file. Failure:
//! one of an unknown version, or one that is damaged, is an error and stays as it is.

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

/// `None`: there is no such file. Versions 1 to `known` are read.
pub fn read_json<T: DeserializeOwned>(path: &Path, known: u32) -> Result<Option<T>, DurableError> {
    let text = match fs::read(path) {
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

/// Written beside itself, synced, renamed.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), DurableError> {
    write(path, value).map_err(|source| DurableError::Io { path: path.to_owned(), source })
}

fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    serde_json::to_writer_pretty(&mut file, value)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}
