//! What ADD leaves behind for DEL: one small file per interface of a sandbox.
//!
//! In `/run`, so a reboot forgets it, as it forgets the namespaces. A record is written before the agent is asked:
//! whatever a killed ADD has left, DEL finds. A file that cannot be read is said so on stderr and taken as absent: it
//! must not keep a pod from being deleted.
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    args::Sandbox, attachment::Attachment, config::AgentAccess, device::PciAddress, link::Link, note,
};

/// The directory cannot be used.
#[derive(Debug, Error)]
#[error("cannot {op} {path}: {source}")]
pub struct StateError {
    op: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What the VF was before we took it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VfRecord {
    pub pci: PciAddress,
    /// Its interface's name on the host.
    pub name: String,
    /// Its own MAC and MTU; none when they could not be known.
    pub mac: Option<String>,
    pub mtu: Option<u32>,
    /// The alternative names that it had there.
    #[serde(default)]
    pub altnames: Vec<String>,
    #[serde(default)]
    pub alias: String,
}

impl VfRecord {
    /// A VF as it is before we touch it. Away from home its names and MAC are a pod's: then they are not worth keeping.
    pub fn of(pci: PciAddress, link: &Link, at_home: bool) -> Self {
        if !at_home {
            let name = pci.transit_name();
            return Self { pci, name, mac: None, mtu: None, altnames: Vec::new(), alias: String::new() };
        }
        let altnames = link.altnames.iter().filter_map(|name| String::from_utf8(name.clone()).ok());
        Self {
            pci,
            name: link.name.clone(),
            mac: link.mac.map(|mac| mac.to_string()),
            mtu: Some(link.mtu),
            altnames: altnames.collect(),
            alias: String::from_utf8(link.alias.clone()).unwrap_or_default(),
        }
    }
}

/// A VF that could not be given its own name: somebody else on the host has it, or it is where we cannot see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Nameless {
    was: VfRecord,
    /// Its name when it was left; none where nobody knows.
    left_as: Option<String>,
}

/// One attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    pub sandbox: String,
    pub interface: String,
    pub network: String,
    pub pod_uid: String,
    /// Path of the pod's network namespace.
    pub netns: PathBuf,
    /// None: another plugin of the chain owns the interface, we only relayed.
    pub vf: Option<VfRecord>,
    /// The PCI address, also of an interface that we do not own: it must not be given out twice.
    pub pci: PciAddress,
    /// The MAC that the NIC gave to the pod's interface, once it did.
    pub assigned_mac: Option<String>,
    /// The interface's index in the pod's namespace, once it was there. A pod can give its interfaces any name.
    #[serde(default)]
    pub index: Option<u32>,
    /// The kernel says which PCI device is below the VF's interface: nothing else tells it from others then.
    #[serde(default)]
    pub has_parent: bool,
    /// When the ADD began and ended, as [`uptime`] has it.
    #[serde(default)]
    pub began: u64,
    #[serde(default)]
    pub ended: Option<u64>,
    /// Its DEL has begun: it is not to be put back into the pod.
    #[serde(default)]
    pub leaving: bool,
    /// A restore has begun and not ended.
    #[serde(default)]
    pub restoring: bool,
    /// None in a record of a host-shim that could not restore.
    #[serde(default)]
    pub restorable: Option<Restorable>,
}

/// What brings the interface back into the pod without a runtime that asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restorable {
    /// PF and number of the VF: a function of the same address that is another one is not the pod's.
    pub pf: u8,
    pub vf: u32,
    pub attachment: Attachment,
    pub access: AgentAccess,
    pub sysfs: PathBuf,
}

/// Nanoseconds since the machine booted: no clock that is set moves it. The state directory does not outlive a boot.
pub fn uptime() -> u64 {
    let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    u64::try_from(since_boot.as_nanos()).unwrap_or(u64::MAX)
}

const VERSION: u32 = 1;

impl Record {
    pub fn new(sandbox: &Sandbox, network: &str, pod_uid: &str, netns: &Path, pci: PciAddress) -> Self {
        Self {
            version: VERSION,
            sandbox: sandbox.id.clone(),
            interface: sandbox.interface.clone(),
            network: network.to_owned(),
            pod_uid: pod_uid.to_owned(),
            netns: netns.to_owned(),
            vf: None,
            pci,
            assigned_mac: None,
            index: None,
            has_parent: false,
            began: uptime(),
            ended: None,
            leaving: false,
            restoring: false,
            restorable: None,
        }
    }

    pub fn key(&self) -> Sandbox {
        Sandbox { id: self.sandbox.clone(), interface: self.interface.clone() }
    }
}

/// The directory of records.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

impl StateDir {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    fn file(&self, key: &Sandbox) -> PathBuf {
        // Neither a container's id nor an interface's name holds a colon.
        self.0.join(format!("{}:{}.json", key.id, key.interface))
    }

    fn create(&self) -> Result<(), StateError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0).map_err(fail("create", &self.0))
    }

    /// Keeps other host-shims from choosing a VF at the same time; until the guard is dropped.
    pub fn lock(&self) -> Result<Flock<File>, StateError> {
        self.create()?;
        let path = self.0.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(fail("open", &path))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| fail("lock", &path)(errno.into()))
    }

    pub fn load(&self, key: &Sandbox) -> Result<Option<Record>, StateError> {
        let path = self.file(key);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(fail("read", &path)(source)),
        };
        Ok(parse(&path, &text).filter(|record| record.key() == *key))
    }

    pub fn list(&self) -> Result<Vec<Record>, StateError> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(fail("list", &self.0)(source)),
        };
        let mut records = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|extension| extension == "json") {
                // A DEL may remove it between the listing and here.
                let Ok(text) = fs::read(&path) else { continue };
                records.extend(parse(&path, &text));
            }
        }
        records.sort_by_key(Record::key);
        Ok(records)
    }

    pub fn save(&self, record: &Record) -> Result<(), StateError> {
        self.create()?;
        write_file(&self.file(&record.key()), record)
    }

    fn nameless_file(&self, pci: PciAddress) -> PathBuf {
        self.0.join(format!("{pci}.nameless"))
    }

    /// After a VF has left its pod: `now` is its name on the host. Kept is what it was before, if its name is not that yet.
    pub fn keep_name(&self, was: &VfRecord, now: Option<&str>) -> Result<(), StateError> {
        let path = self.nameless_file(was.pci);
        if now == Some(was.name.as_str()) {
            return remove_file(&path);
        }
        self.create()?;
        let nameless = Nameless { was: was.clone(), left_as: now.map(ToOwned::to_owned) };
        write_file(&path, &nameless)
    }

    /// What a VF was before it lost its name. One that has it again, or has got another since, has lost none.
    pub fn lost_name(&self, pci: PciAddress, now: Option<&str>) -> Option<VfRecord> {
        let text = fs::read(self.nameless_file(pci)).ok()?;
        let nameless: Nameless = serde_json::from_slice(&text).ok()?;
        let Nameless { was, left_as } = nameless;
        let is_renamed = now.is_some() && left_as.is_some() && left_as.as_deref() != now;
        let is_back = now == Some(was.name.as_str());
        (was.pci == pci && !is_renamed && !is_back).then_some(was)
    }

    pub fn remove(&self, key: &Sandbox) -> Result<(), StateError> {
        remove_file(&self.file(key))
    }
}

fn write_file(path: &Path, what: &impl Serialize) -> Result<(), StateError> {
    let scratch = path.with_extension("new");
    let write = || {
        let mut text = serde_json::to_vec(what)?;
        text.push(b'\n');
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&scratch)?;
        file.write_all(&text)?;
        fs::rename(&scratch, path)
    };
    write().map_err(fail("write", path))
}

fn remove_file(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(fail("remove", path)(error)),
        _ => Ok(()),
    }
}

fn fail(op: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError + use<> {
    let path = path.to_owned();
    move |source| StateError { op, path, source }
}

fn parse(path: &Path, text: &[u8]) -> Option<Record> {
    match serde_json::from_slice::<Record>(text) {
        Ok(record) if record.version == VERSION => Some(record),
        Ok(record) => {
            note(format_args!(
                "{}: version {} is not known, taken as absent",
                path.display(),
                record.version
            ));
            None
        }
        Err(error) => {
            note(format_args!("{}: {error}, taken as absent", path.display()));
            None
        }
    }
}

#[cfg(test)]
mod tests;
