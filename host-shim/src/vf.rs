//! A VF's interface on its way: found, sent into a pod, brought home.
//!
//! It arrives under a name that is free on the other side, a transit name of its own if there is no better, and without
//! alternative names: the kernel refuses a move or a new name for any that the other side has already
//! (`__dev_change_net_namespace()`, `netdev_name_in_use()`, net/core/dev.c). The host's are given back when the VF is.
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

use thiserror::Error;

use crate::{
    addr::MacAddr,
    device::{PciAddress, Sysfs},
    link::{GiveWay, Link, LinkError, Links},
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
    pub named: Option<(String, MacAddr)>,
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

fn look(netns: Netns, marks: &Marks) -> Result<Option<Found>, VfError> {
    let links = Link::all(&netns)?;
    Ok(marks.pick(&links).map(|link| Found { netns, link }))
}

/// In the host's own namespace.
pub fn find_at_home(pci: PciAddress, sysfs: &Sysfs) -> Result<Option<Found>, VfError> {
    look(Netns::current()?, &Marks::host(pci, sysfs))
}

/// In the pod of a record, and nowhere else.
pub fn find_in_pod(record: &Record) -> Result<Option<Found>, VfError> {
    look(Netns::open(&record.netns)?, &Marks::pod(record))
}

/// In the pod of a record, or in the kernel's first namespace, where it goes when the pod's dies.
///
/// `also` is what the runtime calls the pod's namespace now.
pub fn find_away(record: &Record, also: Option<&Path>) -> Result<Option<Found>, VfError> {
    let mut paths = vec![record.netns.as_path()];
    paths.extend(also.filter(|path| *path != record.netns));
    for path in paths {
        match Netns::open(path) {
            Ok(netns) => {
                if let Some(found) = look(netns, &Marks::pod(record))? {
                    return Ok(Some(found));
                }
            }
            Err(NetnsError::Gone { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(search([PathBuf::from("/proc/1/ns/net")], record.pci))
}

/// In any namespace of the machine that has a name.
pub fn find_anywhere(pci: PciAddress) -> Option<Found> {
    let entries = fs::read_dir(NETNS_DIR).into_iter().flatten().flatten().map(|entry| entry.path());
    search(entries.chain([PathBuf::from("/proc/1/ns/net")]), pci)
}

/// Foreign namespaces come and go while we look: one that cannot be opened is passed over.
fn search(paths: impl IntoIterator<Item = PathBuf>, pci: PciAddress) -> Option<Found> {
    for path in paths {
        let Ok(netns) = Netns::open(&path) else { continue };
        if let Ok(Some(found)) = look(netns, &Marks::pci_only(pci)) {
            return Some(found);
        }
    }
    None
}

/// A name that nobody can have taken beforehand.
fn unforeseen_name() -> String {
    // Seeded by the system, anew for each.
    format!("vf{:012x}", RandomState::new().hash_one(()) & 0xffff_ffff_ffff)
}

/// Moves an interface, down and without alternative names. It gets `wish` for its name where that is free.
async fn transfer(
    from: &Netns,
    link: &Link,
    to: &Netns,
    pci: PciAddress,
    wish: Option<&str>,
) -> Result<Link, VfError> {
    let source = Links::open(from)?;
    // A VF that is up would keep sending on the way.
    source.down(link).await?;
    let taken = Link::all(to)?;
    let transit = pci.transit_name();
    let wishes = wish.into_iter().chain([transit.as_str()]);
    let free = |name: &&str| !taken.iter().any(|it| it.has_name(name));
    let name = wishes.into_iter().find(free).map_or_else(unforeseen_name, ToOwned::to_owned);
    // What could not be taken, the move says.
    let _ = strip(&source, link).await;
    match source.move_to(link, to, &name).await {
        // Somebody gave it a name again meanwhile: udev, or a pod that wants to keep the VF.
        Err(error) if error.is_name_taken() => detour(&source, link, to, &name, pci).await?,
        other => other?,
    }
    arrived(to, &name, pci)
}

async fn strip(links: &Links<'_>, link: &Link) -> Result<(), LinkError> {
    links.drop_altnames(link, link.altnames.iter().map(Vec::as_slice)).await
}

/// By way of a namespace that nobody else is in: there nobody can give the interface a name, and no name is taken.
async fn detour(
    source: &Links<'_>,
    link: &Link,
    to: &Netns,
    name: &str,
    pci: PciAddress,
) -> Result<(), VfError> {
    let between = Netns::private()?;
    let links = Links::open(&between)?;
    // The loopback device, and those of tunnels: an alternative name may be `lo`.
    for other in links.list()? {
        links.rename(&other, &unforeseen_name()).await?;
    }
    source.move_to(link, &between, name).await?;
    let link = arrived(&between, name, pci)?;
    strip(&links, &link).await?;
    Ok(links.move_to(&link, to, name).await?)
}

/// udev may have renamed it since; a device says nothing of itself in all kernels.
fn arrived(to: &Netns, name: &str, pci: PciAddress) -> Result<Link, VfError> {
    let marks = Marks { names: vec![name.to_owned()], by_device_only: false, ..Marks::pci_only(pci) };
    let vanished = || VfError::Vanished { name: name.to_owned(), to: to.path().to_owned() };
    marks.pick(&Link::all(to)?).ok_or_else(vanished)
}

/// Sends the interface into the pod; it arrives down and under its transit name.
pub async fn send(found: &Found, pod: &Netns, pci: PciAddress) -> Result<Link, VfError> {
    transfer(&found.netns, &found.link, pod, pci, None).await
}

/// Brings the interface to the host's namespace, down, under the names and with the MAC and MTU that it had.
///
/// Being home is what counts: what then cannot be restored is said on stderr only.
pub async fn bring_home(found: &Found, home: &VfRecord) -> Result<Link, VfError> {
    let host = Netns::current()?;
    let mut link = found.link.clone();
    if !found.netns.is(&host) {
        link = transfer(&found.netns, &link, &host, home.pci, Some(&home.name)).await?;
    }
    let links = Links::open(&host)?;
    links.down(&link).await?;
    // Those that a pod gave: they came along if its namespace died.
    let is_known = |name: &[u8]| home.altnames.iter().any(|known| known.as_bytes() == name);
    let foreign = link.altnames.iter().map(Vec::as_slice).filter(|name| !is_known(name));
    say(links.drop_altnames(&link, foreign).await);
    let mac = home.mac.as_deref().and_then(|mac| mac.parse::<MacAddr>().ok());
    if let Some(mac) = mac.filter(|mac| Some(*mac) != link.mac) {
        say(links.set_mac(&link, mac).await);
    }
    if let Some(mtu) = home.mtu.filter(|mtu| *mtu != link.mtu) {
        say(links.set_mtu(&link, mtu).await);
    }
    if link.alias != home.alias.as_bytes() {
        say(links.set_alias(&link, &home.alias).await);
    }
    if link.name != home.name {
        say(links.take_name(&link, &home.name, GiveWay::Own).await);
    }
    for name in home.altnames.iter().filter(|name| !link.has_altname(name)) {
        match links.add_altname(&link, name).await {
            // Given away meanwhile, or given again by udev.
            Err(error) if error.is_name_taken() => {}
            other => say(other),
        }
    }
    let found = links.list()?.into_iter().find(|now| now.index == link.index);
    found.ok_or_else(|| VfError::Vanished { name: link.name, to: host.path().to_owned() })
}

fn say(result: Result<(), LinkError>) {
    if let Err(error) = result {
        note(error);
    }
}

#[cfg(test)]
mod tests;
