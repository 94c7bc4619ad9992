use std::path::Path;

use super::*;

fn record(id: &str, network: &str) -> Record {
    let pci = "0000:03:00.2".parse().unwrap();
    let record = Record::new(&sandbox(id), network, "u", Path::new("/run/netns/x"), pci);
    Record { began: 1_000, ended: Some(1_500), ..record }
}

fn sandbox(id: &str) -> Sandbox {
    Sandbox { id: id.into(), interface: "eth0".into() }
}

#[test]
fn another_networks_records_are_left() {
    let records = [record("a", "ours"), record("b", "ours"), record("c", "theirs")];
    let stale: Vec<_> =
        stale(&records, &[sandbox("b")], "ours", 2_000).iter().map(|record| record.sandbox.clone()).collect();
    assert_eq!(stale, ["a"]);
}

#[test]
fn an_add_that_the_list_cannot_name_is_left() {
    let gc = 2 * LONGEST_ADD;
    let of = |began, ended| [Record { began, ended, ..record("a", "ours") }];
    let is_stale = |began, ended| !stale(&of(began, ended), &[], "ours", gc).is_empty();
    assert!(is_stale(gc - 2, Some(gc - 1)), "it ended before");
    assert!(!is_stale(gc - 2, Some(gc)), "it ran beside us");
    assert!(!is_stale(gc - 2, None), "it runs");
    assert!(!is_stale(gc + 1, Some(gc + 2)) && !is_stale(gc + 1, None), "it began after us");
    assert!(is_stale(gc - LONGEST_ADD, None), "it was killed");
    // As a host-shim wrote it that knew no times.
    let pci = "0000:03:00.2";
    let old = format!(
        r#"{{"version": 1, "sandbox": "a", "interface": "eth0", "network": "ours", "pod_uid": "u",
            "netns": "/run/netns/x", "vf": null, "pci": "{pci}", "assigned_mac": null}}"#
    );
    let old: Record = serde_json::from_str(&old).unwrap();
    assert_eq!(stale(&[old], &[], "ours", LONGEST_ADD).len(), 1);
}

#[test]
fn what_nobody_knows_is_detached() {
    let held = [sandbox("a"), sandbox("b"), sandbox("c")];
    let records = [record("c", "theirs")];
    assert_eq!(unknown(&held, &[sandbox("b")], &records), [&held[0]]);
}
