use tempfile::TempDir;

use super::*;

fn record(id: &str, interface: &str) -> Record {
    let key = Sandbox { id: id.into(), interface: interface.into() };
    let pci: PciAddress = "0000:03:00.2".parse().unwrap();
    let mut record = Record::new(&key, "drawbridge", "u-1", Path::new("/run/netns/x"), pci);
    record.vf = Some(VfRecord {
        pci,
        name: "ens1v0".into(),
        mac: Some("02:00:00:00:00:01".into()),
        mtu: Some(1500),
        altnames: Vec::new(),
        alias: String::new(),
    });
    record
}

#[test]
fn what_is_saved_is_loaded_and_removed() {
    let directory = TempDir::new().unwrap();
    let state = StateDir::new(directory.path().join("deep/state"));
    assert_eq!(state.list().unwrap(), []);
    let (first, second) = (record("a", "eth0.5"), record("b", "eth0"));
    assert_eq!(state.load(&first.key()).unwrap(), None);
    state.save(&second).unwrap();
    state.save(&first).unwrap();
    assert_eq!(state.load(&first.key()).unwrap(), Some(first.clone()));
    assert_eq!(state.list().unwrap(), [first.clone(), second.clone()]);
    state.remove(&first.key()).unwrap();
    state.remove(&first.key()).unwrap();
    assert_eq!(state.list().unwrap(), [second]);
}

#[test]
fn files_of_others_and_of_other_versions_are_absent() {
    let directory = TempDir::new().unwrap();
    let state = StateDir::new(directory.path());
    let mut newer = record("a", "eth0");
    newer.version = 2;
    state.save(&newer).unwrap();
    fs::write(directory.path().join("b:eth0.json"), "{").unwrap();
    fs::write(directory.path().join("c:eth0.json"), serde_json::to_vec(&record("d", "eth0")).unwrap())
        .unwrap();
    for id in ["a", "b", "c"] {
        assert_eq!(state.load(&record(id, "eth0").key()).unwrap(), None, "{id}");
    }
}

#[test]
fn version_1_is_read_for_ever() {
    let text = br#"{"version":1,"sandbox":"a","interface":"eth0","network":"drawbridge","pod_uid":"u-1",
        "netns":"/run/netns/x","vf":{"pci":"0000:03:00.2","name":"ens1v0","mac":"02:00:00:00:00:01","mtu":1500},
        "pci":"0000:03:00.2","assigned_mac":null}"#;
    // It did not say when it was written.
    let written = Record { began: 0, ..record("a", "eth0") };
    assert_eq!(parse(Path::new("a"), text), Some(written));
}

#[test]
fn the_lock_keeps_others_out() {
    let directory = TempDir::new().unwrap();
    let state = StateDir::new(directory.path());
    let guard = state.lock().unwrap();
    let open = || File::open(directory.path().join("lock")).unwrap();
    assert!(Flock::lock(open(), FlockArg::LockExclusiveNonblock).is_err());
    drop(guard);
    assert!(Flock::lock(open(), FlockArg::LockExclusiveNonblock).is_ok());
}

#[test]
fn a_name_is_kept_until_it_is_had_again() {
    let directory = TempDir::new().unwrap();
    let state = StateDir::new(directory.path().join("state"));
    let was = record("a", "eth0").vf.unwrap();
    let pci = was.pci;
    assert_eq!(state.lost_name(pci, Some("x")), None);
    state.keep_name(&was, Some("x")).unwrap();
    assert_eq!(state.lost_name(pci, Some("x")), Some(was.clone()));
    assert_eq!(state.lost_name(pci, None), Some(was.clone()));
    for now in ["given-by-hand", &was.name] {
        assert_eq!(state.lost_name(pci, Some(now)), None);
    }
    assert_eq!(state.list().unwrap(), [], "it is no record");
    state.keep_name(&was, Some(&was.name)).unwrap();
    assert_eq!(state.lost_name(pci, Some("x")), None);
    // Where nobody knows under which name it will turn up, any will do.
    state.keep_name(&was, None).unwrap();
    assert_eq!(state.lost_name(pci, Some("dev7")), Some(was));
}
