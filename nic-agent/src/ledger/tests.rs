use std::fs;

use offload::ids::VfId;

use super::*;
use crate::attachment::Binding;
use crate::claim::{Claim, PodRef};

fn zones(first: u16, last: u16) -> ZoneRange {
    ZoneRange::new(CtZone::new(first).unwrap(), CtZone::new(last).unwrap()).unwrap()
}

fn attachment(n: u16) -> Attachment {
    Attachment {
        claim: Claim {
            key: SandboxKey { sandbox: format!("s{n}"), interface: "eth0".into() },
            pod: PodRef { namespace: "default".into(), name: format!("web-{n}"), uid: format!("u{n}") },
            network: "drawbridge".into(),
            pci_address: "0000:03:00.2".into(),
            vf: VfId { pf: 0, vf: n },
        },
        zone: CtZone::new(61000 + n).unwrap(),
        zone_dirty: false,
        logical_port: format!("default_web-{n}"),
        binding: Some(Binding {
            mac: "0a:00:00:00:00:01".parse().unwrap(),
            ips: vec!["10.244.0.10".parse().unwrap(), "fd00::a".parse().unwrap()],
            dhcp: false,
            dhcp_servers: Vec::new(),
        }),
    }
}

#[test]
fn survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.json");
    assert_eq!(Ledger::load(&path).unwrap(), None);
    let mut ledger = Ledger::default();
    for n in 0..3 {
        ledger.insert(attachment(n));
    }
    ledger.detach(&attachment(1).claim.key);
    ledger.save(&path).unwrap();
    ledger.save(&path).unwrap();
    let read = Ledger::load(&path).unwrap().unwrap();
    assert_eq!(read, ledger);
    assert_eq!(read.generation, 2);
    assert!(read.is_detached(&attachment(1).claim.key));
    assert!(!path.with_extension("new").exists());
}

/// The file as version 1 writes it. It stays readable for ever: never regenerate this text.
#[test]
fn reads_version_1() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.json");
    fs::write(&path, include_str!("fixtures/v1.json")).unwrap();
    let ledger = Ledger::load(&path).unwrap().unwrap();
    assert_eq!(ledger.attachments().collect::<Vec<_>>(), [&attachment(7)]);
    assert!(ledger.is_detached(&attachment(3).claim.key));
}

#[test]
fn refuses_what_it_cannot_keep() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.json");
    fs::write(&path, r#"{"version": 2, "anything": []}"#).unwrap();
    assert!(matches!(Ledger::load(&path), Err(DurableError::Version { found: 2, .. })));
    fs::write(&path, r#"{"version": 1, "generation"#).unwrap();
    assert!(matches!(Ledger::load(&path), Err(DurableError::Damaged { .. })));
    assert!(path.exists(), "a damaged ledger is evidence");
}

#[test]
fn zones_and_vfs_have_one_holder() {
    let mut ledger = Ledger::default();
    ledger.insert(attachment(0));
    ledger.insert(attachment(2));
    assert_eq!(ledger.free_zone(zones(61000, 61002)).unwrap().get(), 61001);
    ledger.insert(attachment(1));
    assert_eq!(ledger.free_zone(zones(61000, 61002)), None);
    assert_eq!(ledger.holder(VfId { pf: 0, vf: 2 }).unwrap().claim.pod.name, "web-2");
    assert!(ledger.holder(VfId { pf: 1, vf: 2 }).is_none());
}

#[test]
fn a_withdrawn_sandbox_may_ask_again_and_a_detached_one_may_not() {
    let mut ledger = Ledger::default();
    let key = attachment(0).claim.key;
    ledger.insert(attachment(0));
    ledger.withdraw(&key).unwrap();
    assert!(!ledger.is_detached(&key));
    ledger.insert(attachment(0));
    ledger.detach(&key).unwrap();
    assert!(ledger.is_detached(&key));
    assert!(ledger.detach(&key).is_none());
    for n in 0..REMEMBERED {
        let mut other = attachment(1);
        other.claim.key.sandbox = format!("many-{n}");
        let key = other.claim.key.clone();
        ledger.insert(other);
        ledger.detach(&key);
    }
    assert_eq!(ledger.detached.len(), REMEMBERED);
}
