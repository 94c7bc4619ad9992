//! The ledger on the disk.
//!
//! `ledger.json` has version 1 and says what that can say, so that an older agent can be installed again and finds its
//! attachments. What it cannot say stands in `ledger-more.json`: zones that are not free yet, and DHCP servers. Each file
//! has the generation of the write that it belongs to.
//!
//! The second file is written first. Where its generation is not the first one's, a crash came between the two writes, or
//! another version has written since and may have given away what the second file speaks of: then only what contradicts
//! nothing in the first is taken. A zone that another version gave away it has emptied before, as any version does.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use offload::ids::{CtZone, MacAddr, VfId};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::Ledger;
use crate::attachment::{Attachment, Binding, OverlayPort, Owner, Port, Sandbox};
use crate::claim::{Claim, PodRef, SandboxKey};
use crate::durable::{self, Disk, DurableError};

/// Of `ledger.json`, as it is written. 2 has zones that are not free yet; it was never released.
const VERSION: u32 = 1;
const KNOWN: u32 = 2;
/// The second file, beside the first.
pub const FILE: &str = "ledger-more.json";
/// Its version.
const MORE: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    /// Grows by one with each write.
    generation: u64,
    attachments: Vec<StoredAttachment>,
    detached: VecDeque<SandboxKey>,
    /// Version 2's.
    #[serde(default, skip_serializing)]
    quarantined: BTreeSet<CtZone>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredAttachment {
    /// Of the server's own an empty sandbox's.
    claim: Claim,
    zone: CtZone,
    zone_dirty: bool,
    logical_port: String,
    binding: Option<StoredBinding>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredBinding {
    mac: MacAddr,
    ips: Vec<IpAddr>,
    dhcp: bool,
    /// Version 2's.
    #[serde(default, skip_serializing)]
    dhcp_servers: Vec<IpAddr>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct More {
    version: u32,
    generation: u64,
    /// Not free yet.
    #[serde(default)]
    quarantined: BTreeSet<CtZone>,
    #[serde(default)]
    dhcp_servers: Vec<DhcpServers>,
}

/// Whom the holder of a VF may ask for its address.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DhcpServers {
    vf: VfId,
    servers: Vec<IpAddr>,
}

impl More {
    fn is_empty(&self) -> bool {
        self.quarantined.is_empty() && self.dhcp_servers.is_empty()
    }
}

fn more_path(path: &Path) -> PathBuf {
    path.with_file_name(FILE)
}

pub(super) fn load(disk: &dyn Disk, path: &Path) -> Result<Option<Ledger>, DurableError> {
    let more = durable::read_json::<More>(disk, &more_path(path), MORE)?;
    // One that has nothing in it is not written again until it has.
    let more = more.filter(|it| !it.is_empty());
    let has_more = more.is_some();
    let more = more.unwrap_or_default();
    let Some(stored) = durable::read_json::<Stored>(disk, path, KNOWN)? else { return Ok(None) };
    let mut ledger =
        Ledger { generation: stored.generation, detached: stored.detached, has_more, ..Ledger::default() };
    let is_of_this = !has_more || more.generation == stored.generation;
    if !is_of_this {
        warn!(
            ledger = stored.generation,
            more = more.generation,
            "the ledger's two files are of two writes, the first one counts"
        );
    }
    for stored in stored.attachments {
        let vf = stored.claim.vf;
        let mut attachment = Attachment::from(stored);
        if let Some(port) = attachment.overlay_mut() {
            let servers = more.dhcp_servers.iter().find(|it| it.vf == vf && is_of_this);
            if let (Some(binding), Some(of)) = (&mut port.binding, servers) {
                binding.dhcp_servers.clone_from(&of.servers);
            }
        }
        ledger.insert(attachment);
    }
    let used: BTreeSet<CtZone> = ledger.attachments().map(|it| it.port.zone()).collect();
    for zone in stored.quarantined.into_iter().chain(more.quarantined).filter(|it| !used.contains(it)) {
        ledger.quarantine.put(zone);
    }
    Ok(Some(ledger))
}

pub(super) fn save(ledger: &mut Ledger, disk: &dyn Disk, path: &Path) -> Result<(), DurableError> {
    let servers = ledger.attachments().filter_map(|it| {
        let servers = it.binding().map(|it| it.dhcp_servers.clone()).filter(|it| !it.is_empty())?;
        Some(DhcpServers { vf: it.vf, servers })
    });
    let more = More {
        version: MORE,
        generation: ledger.generation,
        quarantined: ledger.quarantine.zones().collect(),
        dhcp_servers: servers.collect(),
    };
    // Mostly there is nothing in it, and one write is half as long as two.
    if !more.is_empty() || ledger.has_more {
        durable::write_json(disk, &more_path(path), &more)?;
        ledger.has_more = !more.is_empty();
    }
    let stored = Stored {
        version: VERSION,
        generation: ledger.generation,
        attachments: ledger.attachments().map(StoredAttachment::from).collect(),
        detached: ledger.detached.clone(),
        quarantined: BTreeSet::new(),
    };
    durable::write_json(disk, path, &stored)
}

impl From<StoredAttachment> for Attachment {
    fn from(stored: StoredAttachment) -> Self {
        let StoredAttachment { claim, zone, zone_dirty, logical_port, binding } = stored;
        let binding = binding.map(|StoredBinding { mac, ips, dhcp, dhcp_servers }| Binding {
            mac,
            ips,
            dhcp,
            dhcp_servers,
        });
        let port = Port::Overlay(OverlayPort { zone, zone_dirty, logical_port, binding });
        let Claim { key, pod, network, pci_address, vf } = claim;
        let owner =
            if key.sandbox.is_empty() { Owner::Host } else { Owner::Pod(Sandbox { key, pod, pci_address }) };
        Self { owner, vf, network, port }
    }
}

impl From<&Attachment> for StoredAttachment {
    fn from(attachment: &Attachment) -> Self {
        let Port::Overlay(OverlayPort { zone, zone_dirty, logical_port, binding }) = attachment.port.clone();
        let binding = binding.map(|Binding { mac, ips, dhcp, .. }| StoredBinding {
            mac,
            ips,
            dhcp,
            dhcp_servers: Vec::new(),
        });
        let claim = attachment.claim().unwrap_or_else(|| Claim {
            key: SandboxKey { sandbox: String::new(), interface: "management".to_owned() },
            pod: PodRef { namespace: String::new(), name: attachment.owner.to_string(), uid: String::new() },
            network: attachment.network.clone(),
            pci_address: String::new(),
            vf: attachment.vf,
        });
        Self { claim, zone, zone_dirty, logical_port, binding }
    }
}
