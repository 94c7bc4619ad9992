use std::fs;
use std::time::Duration;

use offload::ids::VfId;
use proptest::prelude::*;

use super::*;
use crate::attachment::{Binding, OverlayPort, Port};
use crate::claim::{Claim, PodRef};
use crate::durable::SystemDisk;

mod version_1;

fn zones(first: u16, last: u16) -> ZoneRange {
    ZoneRange::new(CtZone::new(first).unwrap(), CtZone::new(last).unwrap()).unwrap()
}

fn attachment(n: u16) -> Attachment {
    Attachment::of_claim(
        &Claim {
            key: SandboxKey { sandbox: format!("s{n}"), interface: "eth0".into() },
            pod: PodRef { namespace: "default".into(), name: format!("web-{n}"), uid: format!("u{n}") },
            network: "drawbridge".into(),
            pci_address: "0000:03:00.2".into(),
            vf: VfId { pf: 0, vf: n },
        },
        Port::Overlay(OverlayPort {
            zone: CtZone::new(61000 + n).unwrap(),
            zone_dirty: false,
            logical_port: format!("default_web-{n}"),
            binding: Some(Binding {
                mac: "0a:00:00:00:00:01".parse().unwrap(),
                ips: vec!["10.244.0.10".parse().unwrap(), "fd00::a".parse().unwrap()],
                dhcp: false,
                dhcp_servers: Vec::new(),
            }),
        }),
    )
}

fn key(n: u16) -> SandboxKey {
    attachment(n).owner.sandbox().unwrap().key.clone()
}

fn with_zone(mut attachment: Attachment, zone: CtZone, zone_dirty: bool) -> Attachment {
    let port = attachment.overlay_mut().unwrap();
    (port.zone, port.zone_dirty) = (zone, zone_dirty);
    attachment
}

#[test]
fn survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.json");
    assert_eq!(Ledger::load(&SystemDisk, &path).unwrap(), None);
    let mut ledger = Ledger::default();
    for n in 0..3 {
        ledger.insert(attachment(n));
    }
    ledger.detach(&key(1));
    ledger.save(&SystemDisk, &path).unwrap();
    ledger.save(&SystemDisk, &path).unwrap();
    let read = Ledger::load(&SystemDisk, &path).unwrap().unwrap();
    assert_eq!(read, ledger);
    assert_eq!(read.generation, 2);
    assert!(read.is_detached(&key(1)));
    assert!(!path.with_extension("new").exists());
}

/// The file as version 1 writes it. It stays readable for ever: never regenerate this text.
#[test]
fn reads_version_1() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.json");
    fs::write(&path, include_str!("fixtures/v1.json")).unwrap();
    let ledger = Ledger::load(&SystemDisk, &path).unwrap().unwrap();
    assert_eq!(ledger.attachments().collect::<Vec<_>>(), [&attachment(7)]);
    assert!(ledger.is_detached(&key(3)));
    assert_eq!(ledger.quarantined(), 0);
}

/// As above, of version 2.
#[test]
fn reads_version_2() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.json");
    fs::write(&path, include_str!("fixtures/v2.json")).unwrap();
    let ledger = Ledger::load(&SystemDisk, &path).unwrap().unwrap();
    assert_eq!(ledger.attachments().collect::<Vec<_>>(), [&attachment(7)]);
    assert!(ledger.is_detached(&key(3)));
    assert_eq!(ledger.free_zone(zones(61003, 61005)).unwrap().get(), 61005);
}

#[test]
fn refuses_what_it_cannot_keep() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.json");
    fs::write(&path, r#"{"version": 3, "anything": []}"#).unwrap();
    assert!(matches!(Ledger::load(&SystemDisk, &path), Err(DurableError::Version { found: 3, .. })));
    fs::write(&path, r#"{"version": 1, "generation"#).unwrap();
    assert!(matches!(Ledger::load(&SystemDisk, &path), Err(DurableError::Damaged { .. })));
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
    assert_eq!(ledger.holder(VfId { pf: 0, vf: 2 }).unwrap().owner.to_string(), "default/web-2");
    assert!(ledger.holder(VfId { pf: 1, vf: 2 }).is_none());
}

#[test]
fn who_never_had_a_flow_leaves_no_zone_in_quarantine() {
    let mut ledger = Ledger::default();
    for dirty in [true, false] {
        ledger.insert(with_zone(attachment(0), attachment(0).port.zone(), dirty));
        ledger.withdraw(&key(0).into()).unwrap();
        assert_eq!(ledger.quarantined(), usize::from(!dirty));
    }
    assert_eq!(ledger.free_zone(zones(61000, 61001)).unwrap().get(), 61001);
}

#[test]
fn a_withdrawn_sandbox_may_ask_again_and_a_detached_one_may_not() {
    let mut ledger = Ledger::default();
    let key = key(0);
    ledger.insert(attachment(0));
    ledger.withdraw(&key.clone().into()).unwrap();
    assert!(!ledger.is_detached(&key));
    ledger.insert(attachment(0));
    ledger.detach(&key).unwrap();
    assert!(ledger.is_detached(&key));
    assert!(ledger.detach(&key).is_none());
    for n in 0..REMEMBERED {
        let key = SandboxKey { sandbox: format!("many-{n}"), ..key.clone() };
        let mut claim = attachment(1).claim().unwrap();
        claim.key = key.clone();
        ledger.insert(Attachment::of_claim(&claim, attachment(1).port));
        ledger.detach(&key);
    }
    assert_eq!(ledger.detached.len(), REMEMBERED);
}

/// What the world around the zones does.
#[derive(Debug, Clone, Copy)]
enum Event {
    Attach,
    Detach(u8),
    Withdraw(u8),
    /// The tables are written, and the zones that are due emptied: or not, when Open vSwitch does not answer.
    Pass {
        tables: bool,
        flush: bool,
    },
    Wait,
    /// The agent starts anew, from what it wrote last.
    Restart,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        3 => Just(Event::Attach),
        2 => any::<u8>().prop_map(Event::Detach),
        1 => any::<u8>().prop_map(Event::Withdraw),
        4 => (any::<bool>(), any::<bool>()).prop_map(|(tables, flush)| Event::Pass { tables, flush }),
        4 => Just(Event::Pass { tables: true, flush: true }),
        3 => Just(Event::Wait),
        1 => Just(Event::Restart),
    ];
    proptest::collection::vec(event, 1..80)
}

/// A zone as the switch has it.
#[derive(Debug, Default, Clone, Copy)]
struct Zone {
    /// A flow in the tables names it, and so do those that the switch made of it.
    named: bool,
    /// When it was last emptied with no flow that named it, and for how long there had been none.
    emptied_after: Option<Duration>,
    unnamed_since: Option<Instant>,
    /// Have there been flows of its last holder, or could there have been?
    used: bool,
}

proptest! {
    // Each event is a file synced to the disk.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes in whatever order: a zone that somebody had is given again only when it was emptied, with the flows
    /// that named it gone from the tables, and gone for a while.
    #[test]
    fn a_zone_is_given_again_only_when_nothing_of_the_last_pod_is_left(events in events()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.json");
        let range = zones(61000, 61003);
        let (mut ledger, mut now, mut number) = (Ledger::default(), Instant::now(), 0);
        let mut switch: BTreeMap<CtZone, Zone> = range.iter().map(|it| (it, Zone::default())).collect();
        let nth = |ledger: &Ledger, nth: u8| {
            let count = ledger.attachments().count().max(1);
            ledger.pods().nth(usize::from(nth) % count).map(|(_, it)| it.key.clone())
        };
        for event in events {
            match event {
                Event::Attach => {
                    let Some(zone) = ledger.free_zone(range) else { continue };
                    let was = switch[&zone];
                    prop_assert!(
                        !was.used || (!was.named && was.emptied_after >= Some(quarantine::SETTLE)),
                        "{zone:?} was {was:?}"
                    );
                    number += 1;
                    ledger.insert(with_zone(attachment(number), zone, true));
                    switch.insert(zone, Zone::default());
                    ledger.save(&SystemDisk, &path).unwrap();
                }
                Event::Detach(which) => {
                    nth(&ledger, which).and_then(|key| ledger.detach(&key));
                    ledger.save(&SystemDisk, &path).unwrap();
                }
                Event::Withdraw(which) => {
                    nth(&ledger, which).and_then(|key| ledger.withdraw(&key.into()));
                    ledger.save(&SystemDisk, &path).unwrap();
                }
                Event::Pass { tables, flush } => {
                    // As a pass does it: emptied, written down, and then the flows.
                    let ports = ledger.attachments_mut().filter_map(Attachment::overlay_mut);
                    for it in ports.filter(|it| it.zone_dirty && flush) {
                        prop_assert!(!switch[&it.zone].named);
                        it.zone_dirty = false;
                        switch.insert(it.zone, Zone { used: true, ..Zone::default() });
                    }
                    ledger.save(&SystemDisk, &path).unwrap();
                    if tables && ledger.attachments().all(|it| !it.port.is_zone_dirty()) {
                        let wanted: BTreeSet<CtZone> = ledger.attachments().map(|it| it.port.zone()).collect();
                        for (zone, it) in &mut switch {
                            it.named = wanted.contains(zone);
                            it.unnamed_since = (!it.named).then(|| it.unnamed_since.unwrap_or(now));
                        }
                        ledger.tables_written(now);
                    }
                    for zone in ledger.zones_to_empty(now).into_iter().filter(|_| flush) {
                        let it = switch.get_mut(&zone).unwrap();
                        prop_assert!(!it.named, "{zone:?} is emptied with flows that fill it again");
                        it.emptied_after = it.unnamed_since.map(|since| now.duration_since(since));
                        ledger.emptied(zone, now);
                    }
                }
                Event::Wait => now += Duration::from_secs(3),
                Event::Restart => ledger = Ledger::load(&SystemDisk, &path).unwrap().unwrap_or_default(),
            }
        }
    }
}
