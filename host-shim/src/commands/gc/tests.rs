use std::path::Path;

use super::*;

fn record(id: &str, network: &str) -> Record {
    let pci = "0000:03:00.2".parse().unwrap();
    Record::new(&sandbox(id), network, "u", Path::new("/run/netns/x"), pci)
}

fn sandbox(id: &str) -> Sandbox {
    Sandbox { id: id.into(), interface: "eth0".into() }
}

#[test]
fn another_networks_records_are_left() {
    let records = [record("a", "ours"), record("b", "ours"), record("c", "theirs")];
    let stale: Vec<_> =
        stale(&records, &[sandbox("b")], "ours").iter().map(|record| record.sandbox.clone()).collect();
    assert_eq!(stale, ["a"]);
}

#[test]
fn what_nobody_knows_is_detached() {
    let held = [sandbox("a"), sandbox("b"), sandbox("c")];
    let records = [record("c", "theirs")];
    assert_eq!(unknown(&held, &[sandbox("b")], &records), [&held[0]]);
}
