//! An older agent is installed again, and later this one: what each finds of the other's.
//!
//! [`then`] is the code of the last agent that wrote version 1 alone, as it was: never bring it up to date.

use std::path::{Path, PathBuf};

use super::*;

mod then {
    use std::collections::{BTreeMap, BTreeSet, VecDeque};
    use std::fs;
    use std::net::IpAddr;
    use std::path::Path;

    use offload::ids::{CtZone, MacAddr};
    use serde::{Deserialize, Serialize};

    use crate::claim::{Claim, SandboxKey};
    use crate::config::ZoneRange;

    const VERSION: u32 = 1;

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Attachment {
        pub claim: Claim,
        pub zone: CtZone,
        pub zone_dirty: bool,
        pub logical_port: String,
        pub binding: Option<Binding>,
    }

    #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    pub struct Binding {
        pub mac: MacAddr,
        pub ips: Vec<IpAddr>,
        pub dhcp: bool,
    }

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Stored {
        version: u32,
        generation: u64,
        attachments: Vec<Attachment>,
        detached: VecDeque<SandboxKey>,
    }

    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct Ledger {
        generation: u64,
        attachments: BTreeMap<SandboxKey, Attachment>,
        detached: VecDeque<SandboxKey>,
    }

    impl Ledger {
        pub fn load(path: &Path) -> Self {
            let stored: Stored = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            assert_eq!(stored.version, VERSION);
            let mut ledger = Self {
                generation: stored.generation,
                attachments: BTreeMap::new(),
                detached: stored.detached,
            };
            for attachment in stored.attachments {
                ledger.insert(attachment);
            }
            ledger
        }

        pub fn save(&mut self, path: &Path) {
            self.generation += 1;
            let stored = Stored {
                version: VERSION,
                generation: self.generation,
                attachments: self.attachments.values().cloned().collect(),
                detached: self.detached.clone(),
            };
            fs::write(path, serde_json::to_vec_pretty(&stored).unwrap()).unwrap();
        }

        pub fn attachments(&self) -> impl Iterator<Item = &Attachment> {
            self.attachments.values()
        }

        pub fn insert(&mut self, attachment: Attachment) {
            self.attachments.insert(attachment.claim.key.clone(), attachment);
        }

        pub fn detach(&mut self, key: &SandboxKey) -> Option<Attachment> {
            let attachment = self.attachments.remove(key);
            if attachment.is_some() {
                self.detached.push_back(key.clone());
            }
            attachment
        }

        pub fn is_detached(&self, key: &SandboxKey) -> bool {
            self.detached.contains(key)
        }

        pub fn free_zone(&self, range: ZoneRange) -> Option<CtZone> {
            let used: BTreeSet<CtZone> = self.attachments.values().map(|a| a.zone).collect();
            range.iter().find(|zone| !used.contains(zone))
        }
    }
}

/// A directory with the state of this agent: pods 1 and 2, which may ask DHCP servers, the server's own port, pod 0 over and its
/// zone not free yet.
fn today() -> (tempfile::TempDir, PathBuf, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.json");
    let mut ledger = Ledger::default();
    for n in 0..3 {
        let mut it = attachment(n);
        let binding = it.overlay_mut().unwrap().binding.as_mut().unwrap();
        binding.dhcp = true;
        binding.dhcp_servers = vec!["10.244.0.1".parse().unwrap()];
        ledger.insert(it);
    }
    let Port::Overlay(port) = attachment(9).port;
    ledger.insert(crate::management::attachment(VfId { pf: 0, vf: 9 }, port.zone, port.logical_port));
    ledger.detach(&key(0)).unwrap();
    ledger.save(&SystemDisk, &path).unwrap();
    (dir, path, ledger)
}

fn load(path: &Path) -> Ledger {
    Ledger::load(&SystemDisk, path).unwrap().unwrap()
}

fn servers(ledger: &Ledger, n: u16) -> usize {
    ledger.of_sandbox(&key(n)).unwrap().binding().unwrap().dhcp_servers.len()
}

#[test]
fn an_older_agent_finds_its_attachments() {
    let (_dir, path, ledger) = today();
    let then = then::Ledger::load(&path);
    let of_then: Vec<_> =
        then.attachments().map(|it| (it.claim.vf, it.zone, it.logical_port.clone(), it.zone_dirty)).collect();
    let of_today: Vec<_> = ledger
        .attachments()
        .map(|it| {
            let port = it.overlay().unwrap();
            (it.vf, port.zone, port.logical_port.clone(), port.zone_dirty)
        })
        .collect();
    assert_eq!(of_then, of_today);
    let claims: Vec<_> =
        then.attachments().filter(|it| !it.claim.key.sandbox.is_empty()).map(|it| it.claim.clone()).collect();
    assert_eq!(claims, ledger.attachments().filter_map(Attachment::claim).collect::<Vec<_>>());
    for (then, today) in then.attachments().zip(ledger.attachments()) {
        let binding = then.binding.as_ref().map(|it| (it.mac, it.ips.clone(), it.dhcp));
        assert_eq!(binding, today.binding().map(|it| (it.mac, it.ips.clone(), it.dhcp)));
    }
    assert!(then.is_detached(&key(0)));
}

/// Nothing happened in between: what only this agent knows is still true of what it has.
#[test]
fn and_this_agent_finds_its_own_again() {
    let (_dir, path, ledger) = today();
    assert_eq!(load(&path), ledger);
    assert_eq!(load(&path).quarantined(), 1);
    assert_eq!(servers(&load(&path), 1), 1);
    // It wrote, and changed nothing: whether it did, nobody can say.
    then::Ledger::load(&path).save(&path);
    let read = load(&path);
    assert_eq!(read.quarantined(), 1);
    assert_eq!(servers(&read, 1), 0, "the southbound says it again");
    assert_eq!(read.attachments().count(), ledger.attachments().count());
}

#[test]
fn what_the_older_agent_gave_away_is_not_taken_back() {
    let (_dir, path, _) = today();
    let mut then = then::Ledger::load(&path);
    // Pod 1's VF and name of the port go to another sandbox, in the zone that was not free yet.
    let mut given = then.detach(&key(1)).unwrap();
    given.claim.key.sandbox = "another".to_owned();
    given.zone = then.free_zone(zones(61000, 61002)).unwrap();
    assert_eq!(given.zone, attachment(0).port.zone());
    then.insert(given.clone());
    then.save(&path);

    let mut read = load(&path);
    assert_eq!(read.quarantined(), 0);
    assert!(read.of_sandbox(&key(1)).is_none() && read.is_detached(&key(1)));
    let other = read.of_sandbox(&given.claim.key).unwrap();
    assert_eq!((other.vf, other.port.zone()), (given.claim.vf, given.zone));
    assert!(other.binding().unwrap().dhcp_servers.is_empty());
    // Its next write is whole again.
    read.save(&SystemDisk, &path).unwrap();
    assert_eq!(load(&path), read);
}

/// As a crash leaves it: the second file is of a write that the first one has not seen.
#[test]
fn a_crash_between_the_two_files_loses_no_zone() {
    let (_dir, path, before) = today();
    let old = fs::read(&path).unwrap();
    let mut ledger = before.clone();
    ledger.detach(&key(2)).unwrap();
    ledger.save(&SystemDisk, &path).unwrap();
    fs::write(&path, old).unwrap();
    let read = load(&path);
    // Pod 2 is there as before; its zone is its own, and the one that was not free is not.
    assert_eq!(read.attachments().count(), before.attachments().count());
    assert_eq!(read.free_zone(zones(61000, 61003)).unwrap().get(), 61003);
    assert_eq!(read.quarantined(), 1);
}
