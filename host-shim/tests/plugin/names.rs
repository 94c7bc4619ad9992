//! Names and alternative names, on both sides: whatever they are, a pod gets its VF and the host gets it back. Needs root.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, process::Command};

use crate::support::bench::{Bench, Namespace, VF3};
use serde_json::{Value, json};

fn transit() -> String {
    VF3.parse::<host_shim::device::PciAddress>().unwrap().transit_name()
}

fn altnames(netns: &Namespace, interface: &str) -> Value {
    netns.link(interface).unwrap()["altnames"].clone()
}

fn add_altname(netns: &Namespace, interface: &str, name: &str) {
    netns.ip(&["link", "property", "add", "dev", interface, "altname", name]);
}

/// `ip -n NAME ...`, with arguments that need not be text.
fn ip(netns: &Namespace, args: &[&[u8]]) {
    let args = args.iter().map(|arg| OsStr::from_bytes(arg));
    let output = Command::new("ip").args(["-n", &netns.0]).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_alternative_name_on_the_host_keeps_no_pod_from_its_vf() {
    let bench = Bench::new();
    let config = bench.config(json!({}));
    add_altname(&bench.host, "ens1v3", "eth0");
    add_altname(&bench.host, "ens1v3", "enp3s1f3");
    for _ in 0..2 {
        let pod = Namespace::new();
        bench.cni("ADD", "s", &pod.path(), "eth0", &config).ok();
        assert_eq!(altnames(&pod, "eth0"), Value::Null, "the host's names are no business of the pod's");
        bench.cni("DEL", "s", &pod.path(), "eth0", &config).ok();
        bench.assert_clean();
        assert_eq!(altnames(&bench.host, "ens1v3"), json!(["eth0", "enp3s1f3"]));
    }
    // An ADD that fails gives them back, too.
    let pod = Namespace::new();
    pod.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "other"]);
    bench.cni("ADD", "s", &pod.path(), "eth0", &config).error(102);
    bench.assert_clean();
    assert_eq!(altnames(&bench.host, "ens1v3"), json!(["eth0", "enp3s1f3"]));
}

#[test]
fn an_alternative_name_in_the_pod_gives_way() {
    let bench = Bench::new();
    let pod = Namespace::new();
    pod.ip(&["link", "add", "net1", "type", "veth", "peer", "name", "other"]);
    for name in ["eth0", "storage", transit().as_str()] {
        add_altname(&pod, "net1", name);
    }
    let config = bench.config(json!({}));
    bench.cni("ADD", "s", &pod.path(), "eth0", &config).ok();
    assert_eq!(pod.link("eth0").unwrap()["address"], "0a:58:0a:f4:00:0a");
    assert_eq!(altnames(&pod, "net1"), json!(["storage", transit()]));
    bench.cni("DEL", "s", &pod.path(), "eth0", &config).ok();
    bench.assert_clean();
}

/// All of them are names of the host's, which the kernel refuses to let in a second time.
#[test]
fn no_name_that_a_pod_gives_keeps_the_vf_from_the_host() {
    let bench = Bench::new();
    let pod = Namespace::new();
    let config = bench.config(json!({}));
    bench.cni("ADD", "s", &pod.path(), "eth0", &config).ok();
    pod.ip(&["link", "set", "lo", "down"]);
    pod.ip(&["link", "set", "lo", "name", "mine"]);
    for name in ["rep3", "ens1v4", "ens1v3", "lo", transit().as_str()] {
        add_altname(&pod, "eth0", name);
    }
    pod.ip(&["link", "set", "eth0", "down"]);
    pod.ip(&["link", "set", "eth0", "name", "rep4"]);
    // And in the VF's place another that looks like it.
    pod.ip(&["link", "add", "eth0", "address", "0a:58:0a:f4:00:0a", "type", "veth", "peer", "name", "x"]);
    bench.cni("DEL", "s", &pod.path(), "eth0", &config).ok();
    bench.assert_clean();
    assert_eq!(altnames(&bench.host, "ens1v3"), Value::Null);
    assert_eq!(pod.names(), ["eth0", "mine", "x"]);
}

/// dev_valid_name() of the kernel lets all bytes in but a few; and 64 KiB of alternative names fill a message.
#[test]
fn names_that_are_no_text_and_names_without_end_hide_no_vf() {
    let bench = Bench::new();
    let pod = Namespace::new();
    let config = bench.config(json!({}));
    bench.cni("ADD", "s", &pod.path(), "eth0", &config).ok();
    pod.ip(&["link", "set", "eth0", "down"]);
    ip(&pod, &[b"link", b"set", b"eth0", b"name", b"a\xff\xfe"]);
    ip(&pod, &[b"link", b"property", b"add", b"dev", b"a\xff\xfe", b"altname", b"b\xff"]);
    ip(&pod, &[b"link", b"set", b"a\xff\xfe", b"alias", b"c\xff"]);
    for number in 0..460 {
        let name = format!("{number:0>120}");
        ip(&pod, &[b"link", b"property", b"add", b"dev", b"a\xff\xfe", b"altname", name.as_bytes()]);
    }
    bench.cni("DEL", "s", &pod.path(), "eth0", &config).ok();
    bench.assert_clean();
    assert_eq!(altnames(&bench.host, "ens1v3"), Value::Null);
    assert_eq!(bench.host.link("ens1v3").unwrap()["ifalias"], Value::Null);
    assert_eq!(pod.names(), ["lo"]);
    // It serves the next.
    bench.cni("ADD", "t", &pod.path(), "eth0", &config).ok();
    bench.cni("DEL", "t", &pod.path(), "eth0", &config).ok();
    bench.assert_clean();
}

/// A pod that gives its interface another name every moment.
#[test]
fn a_pod_that_renames_without_pause_wins_no_race() {
    let bench = Bench::new();
    let pod = Namespace::new();
    let config = bench.config(json!({}));
    bench.cni("ADD", "s", &pod.path(), "eth0", &config).ok();
    let batch = bench.directory.path().join("batch");
    let add = "link property add dev eth0 altname rep3\n";
    std::fs::write(&batch, add.repeat(200_000)).unwrap();
    let mut hostile = Command::new("ip")
        .args(["-n", &pod.0, "-force", "-batch", batch.to_str().unwrap()])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while altnames(&pod, "eth0") == Value::Null && std::time::Instant::now() < until {}
    let output = bench.cni("DEL", "s", &pod.path(), "eth0", &config);
    let _ = hostile.kill();
    let _ = hostile.wait();
    output.ok();
    bench.assert_clean();
}

#[test]
fn a_name_that_the_host_has_given_away_comes_back_when_it_is_free() {
    let bench = Bench::new();
    let pod = Namespace::new();
    let config = bench.config(json!({}));
    bench.cni("ADD", "s", &pod.path(), "eth0", &config).ok();
    add_altname(&bench.host, "rep4", "ens1v3");
    let output = bench.cni("DEL", "s", &pod.path(), "eth0", &config);
    assert!(output.stderr.contains("ens1v3") && output.stderr.contains("rep4"), "{}", output.stderr);
    output.ok();
    assert!(bench.host.link(&transit()).is_some(), "{:?}", bench.host.names());
    assert_eq!(altnames(&bench.host, "rep4"), json!(["ens1v3"]), "the administrator's");
    // Neither is it in the way of the next pod, nor forgotten.
    bench.cni("ADD", "t", &pod.path(), "eth0", &config).ok();
    bench.host.ip(&["link", "property", "del", "dev", "rep4", "altname", "ens1v3"]);
    bench.cni("DEL", "t", &pod.path(), "eth0", &config).ok();
    bench.assert_clean();
}
