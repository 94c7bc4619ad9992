//! VFs vanish from under running pods and come back, as when the NIC reboots: the NIC's half is restored by its agent, the
//! server's by `host-shim restore`, which udev starts on a real server (`packaging/udev`) and this test does here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use serde_json::Value;
use tests::command::{Output, place, vm};
use tests::{Nic, Pod, Wish, until};

const VFS: [&str; 2] = ["ens1v12", "ens1v13"];
const NUMVFS: &str = "/sys/bus/pci/devices/1001:03:00.0/sriov_numvfs";

fn restore() -> Output {
    place("host1", &["/opt/cni/bin/host-shim", "restore"])
}

fn json(pod: &Pod, arguments: &[&str]) -> Value {
    serde_json::from_str(&pod.run(&[&["ip", "-j"], arguments].concat()).ok()).expect("ip prints JSON")
}

/// The interface's MAC, MTU and addresses, and the routes: all that ADD gave.
fn given(pod: &Pod) -> Value {
    let link = json(pod, &["addr", "show", "dev", "eth0"])[0].clone();
    let addresses = link["addr_info"].as_array().expect("addresses").iter();
    let mut addresses: Vec<String> =
        addresses.map(|it| format!("{}/{}", it["local"], it["prefixlen"])).collect();
    addresses.sort();
    let routes = |family: &str| -> Vec<Value> {
        let routes = json(pod, &[family, "route", "show", "dev", "eth0"]);
        let of = |it: &Value| serde_json::json!([it["dst"], it["gateway"], it["protocol"]]);
        routes.as_array().expect("routes").iter().map(of).collect()
    };
    serde_json::json!([link["address"], link["mtu"], addresses, routes("-4"), routes("-6")])
}

fn has_eth0(pod: &Pod) -> bool {
    pod.run(&["ip", "link", "show", "dev", "eth0"]).is_ok()
}

fn is_on_host(name: &str) -> bool {
    place("host1", &["ip", "link", "show", "dev", name]).is_ok()
}

fn set_vfs(number: &str) {
    vm(&["sh", "-c", &format!("echo {number} >{NUMVFS}")]).ok();
}

/// As the packaged unit does when the server boots.
fn make_vfs(number: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/host-shim/host-shim-vfs");
    let line = format!("echo 1001:03:00.0 {number} >/tmp/vfs.conf && {script} /tmp/vfs.conf");
    let made = vm(&["sh", "-c", &line]);
    assert!(made.is_ok() && made.stderr.contains(&format!("made {number} VFs")), "{made:?}");
    let again = vm(&[script, "/tmp/vfs.conf"]);
    assert!(again.is_ok() && again.stderr.contains(&format!("has its {number} VFs")), "{again:?}");
}

#[test]
fn pods_have_their_vfs_again() {
    let near = Pod::add(&Wish { name: "v1", host: "host1", vf: 12, options: &[] });
    let second = Pod::add(&Wish { name: "v2", host: "host1", vf: 13, options: &[] });
    let far = Pod::add(&Wish { name: "v3", host: "host2", vf: 12, options: &[] });
    assert!(near.pings(&far.ip) && near.pings(&far.ip6) && second.pings(&near.ip));
    let before = [given(&near), given(&second)];
    let vfs = vm(&["cat", NUMVFS]).ok();

    set_vfs("0");
    until("the pods have lost their VFs", Duration::from_secs(10), || {
        if has_eth0(&near) || has_eth0(&second) { Err("they have them".to_owned()) } else { Ok(()) }
    });
    // Nothing is there yet that could be given back, and that is said.
    assert!(!restore().is_ok());
    make_vfs(vfs.trim());
    until("the VFs are on the server", Duration::from_mins(1), || {
        // As vf-return does, which has all the others to bring, too.
        for name in VFS {
            vm(&["ip", "link", "set", "dev", name, "netns", "host1"]);
        }
        if VFS.iter().all(|name| is_on_host(name)) { Ok(()) } else { Err("they are not".to_owned()) }
    });
    restore().ok();
    assert_eq!([given(&near), given(&second)], before);
    until("the pods reach each other again", Duration::from_mins(1), || {
        let reached = near.pings(&far.ip) && near.pings(&far.ip6) && second.pings(&near.ip);
        if reached { Ok(()) } else { Err(format!("ready: {:?}", Nic(1).ready())) }
    });
    // Nothing is left to do.
    restore().ok();
    near.delete();
    second.delete();
    assert!(VFS.iter().all(|name| is_on_host(name)));
}
