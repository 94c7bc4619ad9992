//! A VF's interface on its way: found, sent into a pod, brought home.
//!
//! On the way it bears a transit name of its own, so that neither side's names can collide. Whoever finds the interface
//! under that name knows that an ADD or a DEL was killed in between.
//!
//! A pod's namespace that dies gives its VF back to `init_net`, under the pod's name for it or `devN`
//! (`default_device_exit_net()`, net/core/dev.c): so a VF is known by the PCI device below it (IFLA_PARENT_DEV_NAME,
//! Linux 5.14). Where the kernel does not say that, it is known by its index in the pod, which ADD has recorded; by names
//! only on the host, and where an ADD was killed before anything ran in the pod. Names are the pod's to give.
use std::{
    fs,
    hash::{BuildHasher, RandomState},
    path::{Path, PathBuf},
};

use nix::Error as Errno;
use thiserror::Error;

use crate::{
    addr::Mac,
    device::{PciAddress, Sysfs},
    link::{Link, LinkError, Links},
    netns::{Netns, NetnsError},
    note,
    state::{Record, VfRecord},
};

/// A VF that cannot be had.
#[derive(Debug, Error)]
pub enum VfError {
    #[error(
        "VF {0} has no network interface in this host's namespace, nor in any under /run/netns: is its driver loaded?"
    )]
    NotFound(PciAddress),
    #[error("{name} vanished while it moved to {to}")]
    Vanished { name: String, to: PathBuf },
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Where container runtimes keep their namespaces (`/var/run` is a link to `/run`).
const NETNS_DIR: &str = "/run/netns";

/// A VF's interface, where it was found.
#[derive(Debug)]
pub struct Found {
    pub netns: Netns,
    pub link: Link,
}

/// How to know a VF's interface.
#[derive(Debug, Clone)]
pub struct Marks {
    pub pci: PciAddress,
    /// Names that only this VF has in the namespace looked at.
    pub names: Vec<String>,
    /// A name that it had with this MAC.
    pub named: Option<(String, Mac)>,
    /// The index that it has there: then no name counts.
    pub index: Option<u32>,
    /// The kernel says which device is below it: then nothing else counts.
    pub by_device_only: bool,
}

impl Marks {
    fn pci_only(pci: PciAddress) -> Self {
        Self { pci, names: Vec::new(), named: None, index: None, by_device_only: true }
    }

    fn host(pci: PciAddress, sysfs: &Sysfs) -> Self {
        let mut names = sysfs.interfaces(pci);
        names.push(pci.transit_name());
        Self { pci, names, named: None, index: None, by_device_only: false }
    }

    /// In the pod that `record` is of.
    fn pod(record: &Record) -> Self {
        let mac = record.assigned_mac.as_deref().and_then(|mac| mac.parse().ok());
        Self {
            pci: record.pci,
            names: vec![record.pci.transit_name()],
            named: mac.map(|mac| (record.interface.clone(), mac)),
            index: record.index,
            by_device_only: record.has_parent,
        }
    }

    /// The PCI device says more than a name: a link of another device is never taken.
    pub fn pick(&self, links: &[Link]) -> Option<Link> {
        let pci = self.pci.to_string();
        let by_device = links.iter().find(|link| link.parent.as_ref() == Some(&pci));
        let is_named = |link: &&Link| {
            let named = self.named.as_ref();
            self.names.contains(&link.name)
                || named.is_some_and(|(name, mac)| *name == link.name && Some(*mac) == link.mac)
        };
        let otherwise = || {
            let mut unknown = links.iter().filter(|link| link.parent.is_none());
            match self.index {
                _ if self.by_device_only => None,
                Some(index) => unknown.find(|link| link.index == index),
                None => unknown.find(is_named),
            }
        };
        by_device.or_else(otherwise).cloned()
    }
}

async fn look(netns: Netns, marks: &Marks) -> Result<Option<Found>, VfError> {
    let links = Links::open(&netns)?.list().await?;
    Ok(marks.pick(&links).map(|link| Found { netns, link }))
}

/// In the host's own namespace.
pub async fn find_at_home(pci: PciAddress, sysfs: &Sysfs) -> Result<Option<Found>, VfError> {
    look(Netns::current()?, &Marks::host(pci, sysfs)).await
}

/// In the pod of a record, or in the kernel's first namespace, where it goes when the pod's dies.
///
/// `also` is what the runtime calls the pod's namespace now.
pub async fn find_away(record: &Record, also: Option<&Path>) -> Result<Option<Found>, VfError> {
    let mut paths = vec![record.netns.as_path()];
    paths.extend(also.filter(|path| *path != record.netns));
    for path in paths {
        match Netns::open(path) {
            Ok(netns) => {
                if let Some(found) = look(netns, &Marks::pod(record)).await? {
                    return Ok(Some(found));
                }
            }
            Err(NetnsError::Gone { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    search([PathBuf::from("/proc/1/ns/net")], record.pci).await
}

/// In any namespace of the machine that has a name.
pub async fn find_anywhere(pci: PciAddress) -> Result<Option<Found>, VfError> {
    let entries = fs::read_dir(NETNS_DIR).into_iter().flatten().flatten().map(|entry| entry.path());
    search(entries.chain([PathBuf::from("/proc/1/ns/net")]), pci).await
}

/// Foreign namespaces come and go while we look: one that cannot be opened is passed over.
async fn search(paths: impl IntoIterator<Item = PathBuf>, pci: PciAddress) -> Result<Option<Found>, VfError> {
    for path in paths {
        let Ok(netns) = Netns::open(&path) else { continue };
        if let Ok(Some(found)) = look(netns, &Marks::pci_only(pci)).await {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// How many names are tried when the transit name is taken.
const OTHER_NAMES: u32 = 4;

fn unforeseen_name() -> String {
    // Seeded by the system, anew for each.
    format!("vf{:012x}", RandomState::new().hash_one(()) & 0xffff_ffff_ffff)
}

/// Moves an interface, down and under its transit name.
async fn transfer(from: &Netns, link: &Link, to: &Netns, pci: PciAddress) -> Result<Link, VfError> {
    let source = Links::open(from)?;
    let mut name = pci.transit_name();
    // The kernel refuses to rename what is up (before 6.2), and a VF that is up would keep sending on the way.
    source.down(link).await?;
    let mut tries = 0;
    while link.name != name {
        match source.rename(link, &name).await {
            Ok(()) => break,
            // A pod can take any name, or give it as an alternative one, but none that nobody can foresee.
            Err(error) if error.errno() == Some(Errno::EEXIST) && tries < OTHER_NAMES => {
                tries += 1;
                name = unforeseen_name();
            }
            Err(error) => return Err(error.into()),
        }
    }
    source.move_to(link, to).await?;
    let moved = Links::open(to)?.by_name(&name).await?;
    moved.ok_or_else(|| VfError::Vanished { name, to: to.path().to_owned() })
}

/// Sends the interface into the pod; it arrives down and under its transit name.
pub async fn send(found: &Found, pod: &Netns, pci: PciAddress) -> Result<Link, VfError> {
    transfer(&found.netns, &found.link, pod, pci).await
}

/// Brings the interface to the host's namespace, down, under the name and with the MAC and MTU that it had.
///
/// Being home is what counts: what then cannot be restored is said on stderr only.
pub async fn bring_home(found: &Found, home: &VfRecord) -> Result<Link, VfError> {
    let host = Netns::current()?;
    let mut link = found.link.clone();
    if !found.netns.is(&host) {
        link = transfer(&found.netns, &link, &host, home.pci).await?;
    }
    let links = Links::open(&host)?;
    links.down(&link).await?;
    let mac = home.mac.as_deref().and_then(|mac| mac.parse::<Mac>().ok());
    if let Some(mac) = mac.filter(|mac| Some(*mac) != link.mac) {
        say(links.set_mac(&link, mac).await);
    }
    if let Some(mtu) = home.mtu.filter(|mtu| *mtu != link.mtu) {
        say(links.set_mtu(&link, mtu).await);
    }
    if link.name != home.name {
        say(links.rename(&link, &home.name).await);
    }
    let found = links.list().await?.into_iter().find(|now| now.index == link.index);
    found.ok_or_else(|| VfError::Vanished { name: link.name, to: host.path().to_owned() })
}

fn say(result: Result<(), LinkError>) {
    if let Err(error) = result {
        note(error);
    }
}

#[cfg(test)]
mod tests;
