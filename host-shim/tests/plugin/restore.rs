//! VFs that vanish under running pods and come back, with a veth that is deleted and made again. Needs root.

use std::fs;

use crate::support::bench::{Bench, Namespace, VF3, VF4};
use serde_json::{Value, json};

/// What the pod sees of its interface, without what differs from one device to the next.
fn state(pod: &Namespace) -> Value {
    let link = pod.link("eth0").unwrap_or_else(|| panic!("no eth0: {:?}", pod.names()));
    let addresses = pod.json(&["addr", "show", "dev", "eth0"])[0]["addr_info"].clone();
    let mut addresses: Vec<String> = addresses
        .as_array()
        .unwrap()
        .iter()
        .map(|it| format!("{}/{}", it["local"], it["prefixlen"]))
        .collect();
    addresses.sort();
    let keep = |route: &Value| {
        json!([
            route["dst"],
            route["gateway"],
            route["dev"],
            route["scope"],
            route["flags"],
            route["protocol"]
        ])
    };
    let routes = |family: &str| -> Vec<Value> {
        pod.json(&[family, "route", "show"]).as_array().unwrap().iter().map(keep).collect()
    };
    json!([
        link["address"],
        link["mtu"],
        link["flags"],
        link["inet6_addr_gen_mode"],
        addresses,
        routes("-4"),
        routes("-6"),
    ])
}

fn problem(bench: &Bench, id: &str) -> Option<String> {
    bench.script(|script| script.problems.get(&(id.to_owned(), "eth0".to_owned())).cloned())
}

/// A server whose VF has gone from under its pod and come back.
fn returned() -> (Bench, Namespace, Value, Value) {
    let bench = Bench::new();
    let pod = Namespace::new();
    let config = bench.config(json!({}));
    bench.cni("ADD", "s", &pod.path(), "eth0", &config).ok();
    let before = state(&pod);
    bench.remove_vf(3);
    assert_eq!(pod.names(), ["lo"]);
    bench.make_vf(3, "02:00:00:00:00:33");
    (bench, pod, config, before)
}

#[test]
fn a_vf_that_came_back_is_given_to_its_pod_again() {
    let (bench, pod, config, before) = returned();
    let (said, code) = bench.restore(&[VF3]);
    assert!(said.contains("eth0 of sandbox s (VF 0000:03:01.3): is in its pod again"), "{said}");
    assert_eq!((code, state(&pod)), (Some(0), before.clone()), "{said}");
    assert_eq!(problem(&bench, "s").as_deref(), Some(""));
    // Again, and of all: nothing is left to do, and what the pod did since is its own.
    pod.ip(&["addr", "add", "192.0.2.1/32", "dev", "eth0"]);
    let changed = state(&pod);
    assert_eq!(bench.restore(&[]), (String::new(), Some(0)));
    assert_eq!(state(&pod), changed);
    // And once more it goes.
    bench.remove_vf(3);
    bench.make_vf(3, "02:00:00:00:00:03");
    assert_eq!(bench.restore(&[VF4]).1, Some(0));
    assert_eq!(pod.names(), ["lo"], "another VF's event");
    assert_eq!((bench.restore(&[VF3]).1, state(&pod)), (Some(0), before));
    // The MAC that it goes home with is that of the new function.
    bench.cni("DEL", "s", &pod.path(), "eth0", &config).ok();
    bench.assert_clean();
}

#[test]
fn the_nic_need_not_be_there_but_its_word_counts() {
    let (mut bench, pod, _, before) = returned();
    let start = bench.stop_agent();
    let (said, code) = bench.restore(&[VF3]);
    assert!(said.contains("the NIC did not confirm it"), "{said}");
    assert_eq!((code, state(&pod)), (Some(0), before), "fail static");
    start(&mut bench);
    bench.script(|script| script.attachment.mac = "0a:58:0a:f4:00:0c".into());
    let (said, code) = bench.restore(&[VF3]);
    assert!(code == Some(1) && said.contains("the NIC gives it other addresses now"), "{said}");
    bench.script(|script| script.held.clear());
    let (said, code) = bench.restore(&[VF3]);
    assert!(code == Some(1) && said.contains("no such attachment"), "{said}");
}

#[test]
fn whose_pod_is_gone_or_going_is_left() {
    let (bench, pod, config, _) = returned();
    let path = pod.path();
    drop(pod);
    let (said, code) = bench.restore(&[]);
    assert!(code == Some(0) && said.contains("its network namespace is gone"), "{said}");
    assert!(bench.host.link("ens1v3").is_some());
    // A DEL that brought the VF home and could not tell the NIC: the record stays, and its return is an event.
    bench.script(|script| script.detach.push_back(tonic::Status::internal("no")));
    bench.cni("DEL", "s", &path, "eth0", &config).error(100);
    let (said, code) = bench.restore(&[VF3]);
    assert!(code == Some(0) && said.contains("is being deleted"), "{said}");
    bench.cni("DEL", "s", &path, "eth0", &config).ok();
    assert_eq!(bench.records(), [] as [&str; 0]);
}

/// The return of the VF by DEL is what starts a restore: at the worst moment, when the NIC is being told.
#[test]
fn a_restore_beside_a_del_or_an_add_takes_no_vf() {
    let bench = Bench::new();
    let pod = Namespace::new();
    let config = bench.config(json!({ "timeoutSeconds": 3 }));
    let state = bench.directory.path().join("state").display().to_string();
    let host = bench.host.0.clone();
    let restore = move || {
        let (said, code) = crate::support::run_restore(&host, &["--state-dir", &state]);
        assert!(code == Some(0) && said.contains("ADD has not ended"), "{said}");
    };
    bench.script(|script| script.during.insert("Attach", Box::new(restore)));
    bench.cni("ADD", "s", &pod.path(), "eth0", &config).ok();
    let state = bench.directory.path().join("state").display().to_string();
    let host = bench.host.0.clone();
    let restore = move || {
        let (said, code) = crate::support::run_restore(&host, &["--state-dir", &state]);
        assert!(code == Some(0) && said.contains("is being deleted"), "{said}");
    };
    bench.script(|script| script.during.insert("Detach", Box::new(restore)));
    bench.cni("DEL", "s", &pod.path(), "eth0", &config).ok();
    assert_eq!(pod.names(), ["lo"]);
    bench.assert_clean();
}

#[test]
fn a_vf_that_another_sandbox_has_claimed_is_left() {
    let (bench, old, config, _) = returned();
    let new = Namespace::new();
    bench.cni("ADD", "new", &new.path(), "eth0", &config).ok();
    let before = state(&new);
    assert_eq!(bench.restore(&[]).1, Some(0));
    assert_eq!((state(&new), old.names()), (before, vec!["lo".to_owned()]));
}

#[test]
fn another_function_of_the_address_is_refused_and_the_nic_told() {
    let (bench, pod, _, _) = returned();
    let devices = bench.directory.path().join("sys/bus/pci/devices/0000:03:00.1");
    fs::rename(devices.join("virtfn3"), devices.join("virtfn7")).unwrap();
    let (said, code) = bench.restore(&[VF3]);
    assert!(code == Some(1) && said.contains("was number 3 of PF 1, and is number 7 of PF 1 now"), "{said}");
    assert_eq!(pod.names(), ["lo"]);
    assert!(problem(&bench, "s").unwrap().contains("it is another function"));
    fs::rename(devices.join("virtfn7"), devices.join("virtfn3")).unwrap();
    assert_eq!(bench.restore(&[VF3]).1, Some(0));
    assert_eq!(problem(&bench, "s").as_deref(), Some(""), "well again");
}

#[test]
fn what_cannot_be_restored_is_said() {
    // The VF is not there yet.
    let (bench, pod, _, _) = returned();
    bench.remove_vf(3);
    let (said, code) = bench.restore(&[]);
    assert!(code == Some(1) && said.contains("is not on the host"), "{said}");
    bench.make_vf(3, "02:00:00:00:00:03");
    // A host-shim that could not restore has written the record.
    let path = bench.directory.path().join("state/s:eth0.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for key in ["restorable", "restoring", "leaving"] {
        record.as_object_mut().unwrap().remove(key).unwrap();
    }
    fs::write(&path, record.to_string()).unwrap();
    let (said, code) = bench.restore(&[]);
    assert!(code == Some(1) && said.contains("written by an older host-shim"), "{said}");
    assert!(said.contains("delete the pod"), "{said}");
    assert_eq!(pod.names(), ["lo"]);
    let (said, code) = bench.restore(&["ens1v3"]);
    assert!(code == Some(64) && said.contains("PCI address"), "{said}");
}

/// The pod has made itself another eth0 meanwhile, so that a restore stops half way; the next one goes on there.
#[test]
fn a_restore_that_stopped_half_way_is_ended_by_the_next() {
    let (bench, pod, config, before) = returned();
    pod.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "x"]);
    let (said, code) = bench.restore(&[VF3]);
    assert!(code == Some(1) && said.contains("eth0 has that name"), "{said} {:?}", pod.names());
    assert!(problem(&bench, "s").unwrap().contains("eth0"));
    pod.ip(&["link", "del", "eth0"]);
    assert_eq!((bench.restore(&[VF3]).1, state(&pod)), (Some(0), before));
    bench.remove_vf(3);
    bench.make_vf(3, "02:00:00:00:00:03");
    // Stopped half way, it does not keep the pod from being deleted.
    pod.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "x"]);
    assert_eq!(bench.restore(&[VF3]).1, Some(1));
    bench.cni("DEL", "s", &pod.path(), "eth0", &config).ok();
    bench.assert_clean();
}

#[test]
fn del_brings_home_the_vf_and_not_what_the_pod_made_after_it() {
    let (bench, pod, config, _) = returned();
    for number in 0..4 {
        pod.ip(&[
            "link",
            "add",
            &format!("a{number}"),
            "type",
            "veth",
            "peer",
            "name",
            &format!("b{number}"),
        ]);
    }
    bench.cni("DEL", "s", &pod.path(), "eth0", &config).ok();
    assert_eq!(pod.names().len(), 9);
    bench.assert_clean();
}
