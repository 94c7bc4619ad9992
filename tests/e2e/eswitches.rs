//! A NIC with several eSwitches: its own and two further cards with two PFs each, VFs on all of them. All functions are
//! closed whatever the configuration chooses; pods attach on what it chooses, and nowhere else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tests::command::{Output, place, sh, vm};
use tests::unheld::{Watch, try_once};
use tests::{Nic, Pod, Wish, until};

const NIC: Nic = Nic(1);
const FILE: &str = "/etc/nic-agent/nic-agent.toml";
const VFS: u16 = 3;
const GOOD: &str = "/tmp/eswitches.toml";
/// simnic's numbers, and which server's they say they are.
const CARDS: [(u8, u32); 2] = [(5, 1), (6, 2)];

/// Cards and configuration as they were.
struct Scene;

impl Scene {
    fn new() -> Self {
        NIC.run(&["cp", FILE, GOOD]).ok();
        for (id, controller) in CARDS {
            let [id, vfs] = [id.to_string(), VFS.to_string()];
            let words = [format!("controller={controller}"), format!("names=r{id}_")];
            vm(&["/lab/card", "add", "1", &id, &vfs, "pfs=2", &words[0], &words[1]]).ok();
        }
        Self
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for (id, _) in CARDS {
            vm(&["/lab/card", "del", &id.to_string()]);
        }
        NIC.run(&["mv", GOOD, FILE]);
        NIC.daemon("agent", "restart");
    }
}

/// The agent's choice of eSwitches, after a restart.
fn choose(section: &str) {
    NIC.run(&["sh", "-c", &format!("(cat {GOOD}; printf '\\n[eswitch]\\n{section}\\n') >{FILE}")]).ok();
    NIC.daemon("agent", "restart");
    NIC.settle();
}

/// Of the NIC's side: devlink device, and name in the kernel's notation (`c1pf0vf3`).
type Place = (String, String);

/// Devices of eSwitches by place, from `ip`: name, and whether it is up.
fn devices() -> BTreeMap<Place, (String, bool)> {
    let links: Value = serde_json::from_str(&NIC.run(&["ip", "-j", "-d", "link"]).ok()).expect("ip -j");
    let of = |link: &Value| {
        let text = |key: &str| link[key].as_str().map(str::to_owned);
        let up = link["flags"].as_array()?.iter().any(|flag| flag == "UP");
        Some(((text("parentdev")?, text("phys_port_name")?), (text("ifname")?, up)))
    };
    links
        .as_array()
        .expect("a list")
        .iter()
        .filter(|it| it["phys_switch_id"].is_string())
        .filter_map(of)
        .collect()
}

/// Of servers' functions those that are up.
fn open() -> Vec<String> {
    let is_function = |((_, port), _): &(Place, (String, bool))| port.contains("pf");
    let up = devices().into_iter().filter(is_function).filter(|(_, (_, up))| *up);
    up.map(|((device, port), _)| format!("{device} {port}")).collect()
}

/// Whatever is closed is opened, as a vendor's scripts would: all at once, or the agent closes each while the next is opened.
fn open_all() {
    let name =
        |((_, port), (name, up)): (Place, (String, bool))| (port.contains("pf") && !up).then_some(name);
    let names: Vec<String> = devices().into_iter().filter_map(name).collect();
    let each = |line: &dyn Fn(&String) -> String| names.iter().map(line).collect::<Vec<_>>().join("\\n");
    let (rules, links) =
        (each(&|it| format!("qdisc del dev {it} ingress")), each(&|it| format!("link set {it} up")));
    // Some have no qdisc yet.
    let line =
        format!("printf '{rules}\\n' | tc -force -batch - 2>/dev/null; printf '{links}\\n' | ip -batch -");
    sh("nic1", &line).ok();
}

/// PCI address of a VF on the server.
fn pci(card: u8, pf: u8, vf: u16) -> String {
    let link = format!("/sys/bus/pci/devices/10{card:02x}:03:00.{pf}/virtfn{vf}");
    vm(&["readlink", &link]).ok().trim().trim_start_matches("../").to_owned()
}

fn attach(pod: &Pod, card: u8, pf: u8, vf: u16) -> Output {
    pod.cni("ADD", &[&format!("{{\"deviceID\": \"{}\"}}", pci(card, pf, vf))])
}

fn pod(name: &str, vf: u16) -> Pod {
    // The lab's VF of that number is not used: its address only makes the pod's.
    Pod::create(&Wish { name, host: "host1", vf, options: &[] })
}

/// All interfaces of the further cards that the server has.
fn functions() -> Vec<String> {
    let shown = place("host1", &["ls", "/sys/class/net"]).ok();
    shown
        .split_whitespace()
        .filter(|it| it.starts_with("ens5") || it.starts_with("ens6"))
        .map(str::to_owned)
        .collect()
}

fn all_closed_but(pods: &[&str]) {
    until("all is closed that no pod has", Duration::from_secs(30), || {
        let open = open();
        if open == pods { Ok(()) } else { Err(format!("open: {open:?}")) }
    });
}

/// Each function of the server that is left tries, and nothing of it arrives.
fn nothing_passes(pods: &[&Pod]) {
    let functions = functions();
    assert!(functions.len() >= 10, "{functions:?}");
    let watch = Watch::start(&[], pods);
    try_once(NIC, &functions);
    let reached = watch.stop();
    assert!(reached.nothing(), "{functions:?}: {reached:#?}");
    println!("{} functions tried, and reached {reached}", functions.len());
}

/// The witness: a function that is open by hand reaches the fabric, by its own eSwitch's cable.
fn what_is_opened_by_hand_reaches_the_fabric() {
    NIC.daemon("agent", "stop");
    let devices = devices();
    let name = |port: &str| devices[&("2006:03:00.1".to_owned(), port.to_owned())].0.clone();
    let (function, cable) = (name("c2pf1"), name("p1"));
    let lines = [
        format!("ip link set {cable} arp off up"),
        format!("ip link set {function} up"),
        format!("tc qdisc del dev {function} ingress 2>/dev/null; tc qdisc add dev {function} ingress"),
        format!("tc filter add dev {function} ingress matchall action mirred egress redirect dev {cable}"),
    ];
    sh("nic1", &lines.join("\n")).ok();
    let watch = Watch::start(&[], &[]);
    try_once(NIC, &["ens6f1".to_owned()]);
    let reached = watch.stop();
    assert!(reached.0.contains_key("the fabric"), "{reached}");
    println!("opened by hand, ens6f1 reaches {reached}");
    sh("nic1", &format!("tc filter del dev {function} ingress; ip link set {function} down")).ok();
    NIC.daemon("agent", "start");
    NIC.settle();
}

fn far() -> Pod {
    Pod::add(&Wish { name: "esfar", host: "host2", vf: 24, options: &[] })
}

#[test]
fn where_nothing_is_chosen_a_number_of_several_vfs_is_nobodys_and_all_are_closed() {
    let far = far();
    let _scene = Scene::new();
    let id = |device: &str| {
        let name = &devices().into_iter().find(|((at, _), _)| at == device).unwrap().1.0;
        NIC.run(&["cat", &format!("/sys/class/net/{name}/phys_switch_id")]).ok()
    };
    assert_eq!(id("2005:03:00.0"), id("2005:03:00.1"), "one NIC's");
    NIC.settle();
    open_all();
    all_closed_but(&[]);
    let nobody = pod("es0", 24);
    let refused = attach(&nobody, 5, 0, 1);
    assert!(
        !refused.is_ok() && refused.stdout.contains("more than one representor of pf0vf1"),
        "{refused:?}"
    );
    nobody.delete();
    nothing_passes(&[&far]);
    what_is_opened_by_hand_reaches_the_fabric();

    // The same without an agent: all of them, and what no eSwitch of a server's is stays as it is.
    NIC.daemon("agent", "stop");
    open_all();
    let said = sh("nic1", "/run/lab/bin/nic-agent close").ok();
    assert_eq!(open(), Vec::<String>::new(), "{said}");
    assert!(said.contains("5 eSwitches in switchdev mode"), "{said}");
    assert!(devices()[&("2001:03:00.0".to_owned(), "p0".to_owned())].1, "the uplink is up");
    println!("{said}");
}

#[test]
fn pods_attach_on_the_chosen_device_which_is_one_pfs() {
    let far = far();
    let _scene = Scene::new();
    choose("device = \"pci/2005:03:00.0\"");
    let chosen = pod("es1", 24);
    let other = pod("es2", 25);
    attach(&chosen, 5, 0, 1).ok();
    assert!(chosen.pings(&far.ip) && chosen.pings(&far.ip6));
    let refused = attach(&other, 5, 1, 1);
    assert!(!refused.is_ok() && refused.stdout.contains("pf1vf1 has no representor"), "{refused:?}");
    open_all();
    all_closed_but(&["2005:03:00.0 c1pf0vf1"]);
    nothing_passes(&[&chosen, &far]);
    assert!(chosen.pings(&far.ip));
    chosen.delete();
    other.delete();
    all_closed_but(&[]);
}

#[test]
fn pods_attach_on_both_pfs_of_the_chosen_servers_card() {
    let far = far();
    let _scene = Scene::new();
    choose("controller = 2");
    let first = pod("es3", 24);
    let second = pod("es4", 25);
    attach(&first, 6, 0, 2).ok();
    attach(&second, 6, 1, 2).ok();
    assert!(first.pings(&far.ip) && second.pings(&far.ip) && first.pings(&second.ip));
    open_all();
    all_closed_but(&["2006:03:00.0 c2pf0vf2", "2006:03:00.1 c2pf1vf2"]);
    nothing_passes(&[&first, &second, &far]);
    assert!(first.pings(&second.ip) && second.pings(&far.ip6));

    // And of one of its eSwitches.
    first.delete();
    second.delete();
    choose("device = \"pci/2006:03:00.1\"\\ncontroller = 2");
    let third = pod("es5", 24);
    attach(&third, 6, 1, 0).ok();
    assert!(third.pings(&far.ip));
    open_all();
    all_closed_but(&["2006:03:00.1 c2pf1vf0"]);
    nothing_passes(&[&third, &far]);
    third.delete();
}
