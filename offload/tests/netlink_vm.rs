//! The netlink session against a real kernel with cls_flower, devlink and the simulated NIC. Runs in the lab VM, as root;
//! `cargo test -p offload --test netlink_vm` there. What the kernel was made to do is read back with `ip`, `tc` and
//! `devlink`, never with the code under test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![forbid(unsafe_code)]

#[path = "netlink_vm/bench.rs"]
mod bench;
#[path = "netlink_vm/rules.rs"]
mod rules;
#[path = "netlink_vm/watch.rs"]
mod watch;

use std::collections::BTreeSet;
use std::time::Duration;

use bench::{Bench, batch, json, output, parameter, run, tc_filters};
use offload::ids::{IfIndex, MacAddr, VfId};
use offload::netlink::devlink::{Devlink, EswitchMode, Flavour};
use offload::netlink::link::{self, Link};
use offload::netlink::monitor::{Event, Monitor};
use offload::netlink::socket::{NetlinkSocket, Protocol};
use offload::netlink::{Errno, Error, tc};
use offload::representor::{FindError, RepresentorTable, Selector};
use serde_json::Value;

fn route() -> NetlinkSocket {
    NetlinkSocket::open(Protocol::Route).unwrap()
}

fn mark() -> tc::Cookie {
    tc::Cookie::new(b"drawbridge:c").unwrap()
}

fn index(socket: &mut NetlinkSocket, name: &str) -> IfIndex {
    link::link_by_name(socket, name).unwrap().unwrap_or_else(|| panic!("no device {name}")).ifindex
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// One device as iproute2 sees it against ours.
fn same(link: &Link, ip: &Value, all: &[Value]) {
    assert_eq!(Some(link.name.clone()), text(ip, "ifname"));
    assert_eq!(link.mac.map(|mac| mac.to_string()), text(ip, "address"), "{ip}");
    assert_eq!(Some(u64::from(link.mtu)), ip["mtu"].as_u64(), "{ip}");
    let flags: BTreeSet<&str> = ip["flags"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(link.up, flags.contains("UP"), "{ip}");
    assert_eq!(link.carrier, link.up && !flags.contains("NO-CARRIER"), "{ip}");
    assert_eq!(link.phys_switch_id.as_ref().map(ToString::to_string), text(ip, "phys_switch_id"), "{ip}");
    assert_eq!(link.phys_port_name, text(ip, "phys_port_name"), "{ip}");
    let parent = text(ip, "parentbus").zip(text(ip, "parentdev"));
    assert_eq!(link.parent, parent, "{ip}");
    assert_eq!(link.link_netnsid.map(i64::from), ip.get("link_netnsid").and_then(Value::as_i64), "{ip}");
    let master = link
        .master
        .and_then(|master| all.iter().find(|ip| ip["ifindex"] == master.0))
        .and_then(|ip| text(ip, "ifname"));
    assert_eq!(master, text(ip, "master"), "{ip}");
    assert_eq!(link.kind, ip.get("linkinfo").and_then(|info| text(info, "info_kind")), "{ip}");
}

#[test]
fn vm_links_are_what_ip_shows() {
    let mut bench = Bench::new();
    let nic = bench.nic(4);
    run("ip link add bridge0 type bridge");
    run("ip link add v0 type veth peer name v1");
    run("ip link set v0 master bridge0 up");
    run("ip link set pf0vf2 up mtu 9000");
    run("ip netns add nlvm-other");
    run("ip link set v1 netns nlvm-other");
    let ip = json("ip -d -j link");
    let mut socket = route();
    let links = link::links(&mut socket).unwrap();
    run("ip netns del nlvm-other");
    let all = ip.as_array().unwrap();
    assert_eq!(links.len(), all.len());
    assert!(links.len() > 7);
    for (link, ip) in links.iter().zip(all) {
        assert_eq!(Some(u64::from(link.ifindex.0)), ip["ifindex"].as_u64());
        same(link, ip, all);
    }
    let vf = links.iter().find(|link| link.name == "pf0vf2").unwrap();
    assert_eq!(vf.devlink_port.as_ref().unwrap().to_string(), format!("{}/3", nic.device));
    assert_eq!(link::link_by_index(&mut socket, vf.ifindex).unwrap().as_ref(), Some(vf));
    assert_eq!(link::link_by_name(&mut socket, "pf0vf2").unwrap().as_ref(), Some(vf));
    assert_eq!(link::link_by_name(&mut socket, "nothing").unwrap(), None);
    assert_eq!(link::link_by_index(&mut socket, IfIndex(99_999)).unwrap(), None);
}

#[test]
fn vm_link_settings() {
    let mut bench = Bench::new();
    bench.nic(1);
    let mut socket = route();
    let vf = index(&mut socket, "pf0vf0");
    let shown = || json("ip -d -j link show dev pf0vf0")[0].clone();
    let is_up = |ip: &Value| ip["flags"].as_array().unwrap().iter().any(|flag| flag == "UP");

    link::silence(&mut socket, vf).unwrap();
    link::set_up(&mut socket, vf).unwrap();
    link::set_mtu(&mut socket, vf, 8950).unwrap();
    let ip = shown();
    assert!(is_up(&ip), "{ip}");
    assert_eq!(ip["mtu"], 8950);
    assert_eq!(ip["inet6_addr_gen_mode"], "none");
    let setting = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/pf0vf0/{name}"));
    for (name, value) in
        [("arp_ignore", "8"), ("forwarding", "0"), ("proxy_arp", "0"), ("accept_redirects", "0")]
    {
        assert_eq!(setting(name).unwrap().trim(), value, "{name}");
    }
    assert!(json("ip -j -6 addr show dev pf0vf0")[0]["addr_info"].as_array().is_none_or(Vec::is_empty));

    link::set_down(&mut socket, vf).unwrap();
    assert!(!is_up(&shown()));

    let too_big = link::set_mtu(&mut socket, vf, 100_000).unwrap_err();
    assert_eq!(too_big.errno(), Some(Errno::EINVAL));
    assert_eq!(
        too_big.to_string(),
        format!(
            "set the MTU of network device {vf} to 100000: Invalid argument (os error 22): mtu greater than device maximum"
        )
    );
    assert!(link::set_up(&mut socket, IfIndex(99_999)).unwrap_err().is_gone());
}

#[test]
fn vm_a_silent_representor_does_not_answer_arp() {
    let _bench = Bench::new();
    run("ip netns add nlvm-peer");
    run("ip link add rep type veth peer name peer");
    run("ip link set peer netns nlvm-peer");
    run("ip addr add 10.9.0.1/32 dev lo");
    run("ip link set rep up");
    run("ip -n nlvm-peer addr add 10.9.0.2/24 dev peer");
    run("ip -n nlvm-peer link set peer up");
    // No route back: the NIC must not ask for the peer, from whose question that one would learn the address, too.
    let learned = || {
        let _ = output("ip netns exec nlvm-peer ping -c 1 -W 2 10.9.0.1");
        json("ip -n nlvm-peer -j neigh show 10.9.0.1")[0].get("lladdr").is_some()
    };
    let before = learned();
    run("ip -n nlvm-peer neigh flush dev peer");
    let mut socket = route();
    let rep = index(&mut socket, "rep");
    link::silence(&mut socket, rep).unwrap();
    let after = learned();
    run("ip netns del nlvm-peer");
    assert!(before, "the test is worth nothing if the kernel did not answer before");
    assert!(!after);
}

#[test]
fn vm_addresses_are_flushed_from_one_device_only() {
    let _bench = Bench::new();
    for name in ["dum0", "dum1"] {
        run(&format!("ip link add {name} type dummy"));
        run(&format!("ip link set {name} up"));
    }
    for (device, address) in [
        ("dum0", "10.1.0.1/24"),
        ("dum0", "10.1.0.2/24"),
        ("dum0", "fd00::1/64"),
        ("dum0", "10.2.0.1/32"),
        ("dum1", "10.3.0.1/24"),
    ] {
        run(&format!("ip addr add {address} dev {device}"));
    }
    let mut socket = route();
    let a = index(&mut socket, "dum0");
    let count = |device: &str| {
        json(&format!("ip -j addr show dev {device}"))[0]["addr_info"].as_array().unwrap().len()
    };
    let (had, other) = (count("dum0"), count("dum1"));
    assert!(had >= 5, "four of ours and the link-local one");
    assert_eq!(link::addresses(&mut socket, a).unwrap().len(), had);
    assert_eq!(link::flush_addresses(&mut socket, a).unwrap().len(), had);
    assert_eq!((count("dum0"), count("dum1")), (0, other));
    assert!(link::flush_addresses(&mut socket, a).unwrap().is_empty());
}

#[test]
fn vm_devlink_is_what_devlink_shows() {
    let mut bench = Bench::new();
    let nic = bench.nic(3);
    let mut devlink = Devlink::open().unwrap();
    let device = nic.device.parse().unwrap();
    assert_eq!(devlink.devices().unwrap(), [device]);
    let device = nic.device.parse().unwrap();
    assert_eq!(devlink.eswitch_mode(&device).unwrap(), EswitchMode::Switchdev);

    let info = devlink.info(&device).unwrap();
    let shown = json(&format!("devlink -j dev info {}", nic.device))["info"][&nic.device].clone();
    assert_eq!(info.driver, text(&shown, "driver"));
    assert_eq!(info.serial, text(&shown, "serial_number"));
    let running = shown["versions"]["running"].as_object().unwrap();
    assert_eq!(info.running.len(), running.len());
    for (name, version) in &info.running {
        assert_eq!(running[name], **version);
    }

    let ports = devlink.ports().unwrap();
    let shown = json("devlink -j port show")["port"].clone();
    assert_eq!(ports.len(), shown.as_object().unwrap().len());
    assert_eq!(ports.len(), 5);
    for port in &ports {
        let shown = &shown[port.handle.to_string()];
        assert_eq!(port.netdev.as_ref().map(|netdev| netdev.name.clone()), text(shown, "netdev"));
        let number = |key: &str| shown.get(key).and_then(Value::as_u64);
        let flavour = match port.flavour {
            Flavour::Physical { number: own } => {
                assert_eq!(own.map(u64::from), number("port"));
                "physical"
            }
            Flavour::PciPf { controller, pf, external } => {
                assert_eq!(
                    (number("controller"), number("pfnum")),
                    (Some(controller.into()), Some(pf.into()))
                );
                assert_eq!(shown["external"], external);
                "pcipf"
            }
            Flavour::PciVf { controller, pf, vf, external } => {
                assert_eq!(
                    (number("controller"), number("pfnum")),
                    (Some(controller.into()), Some(pf.into()))
                );
                assert_eq!(number("vfnum"), Some(vf.into()));
                assert_eq!(shown["external"], external);
                "pcivf"
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(shown["flavour"], flavour);
        assert_eq!(
            port.function_mac.map(|mac| mac.to_string()),
            shown.get("function").and_then(|f| text(f, "hw_addr"))
        );
    }
}

#[test]
fn vm_the_function_behind_a_port_gets_its_mac() {
    let mut bench = Bench::new();
    let nic = bench.nic(2);
    std::fs::write(format!("/sys/bus/pci/devices/{:04x}:03:00.0/sriov_numvfs", 0x1000 + nic.id), "2")
        .unwrap();
    let mut devlink = Devlink::open().unwrap();
    let mac: MacAddr = "02:00:5e:00:53:01".parse().unwrap();
    let ports = devlink.ports().unwrap();
    let port = ports.iter().find(|port| matches!(port.flavour, Flavour::PciVf { vf: 1, .. })).unwrap();
    devlink.set_function_mac(&port.handle, mac).unwrap();
    let shown = json("devlink -j port show");
    assert_eq!(shown["port"][port.handle.to_string()]["function"]["hw_addr"], mac.to_string());
    assert_eq!(devlink.port(&port.handle).unwrap().function_mac, Some(mac));

    let mut missing = port.handle.clone();
    missing.index = 4711;
    assert!(devlink.set_function_mac(&missing, mac).unwrap_err().is_gone());
    // The kernel's own words come along: the cable has no function behind it.
    let uplink = ports.iter().find(|port| matches!(port.flavour, Flavour::Physical { .. })).unwrap();
    let error = devlink.set_function_mac(&uplink.handle, mac).unwrap_err();
    assert!(matches!(&error, Error::Refused { errno: Errno::EOPNOTSUPP, extack: Some(_), .. }), "{error:?}");
}

fn table(selector: Selector) -> RepresentorTable {
    let ports = Devlink::open().unwrap().ports().unwrap();
    RepresentorTable::new(&ports, &link::links(&mut route()).unwrap(), selector)
}

#[test]
fn vm_representors_are_found_whatever_their_names() {
    let mut bench = Bench::new();
    let nic = bench.nic(3);
    // The most misleading names there are.
    run("ip link set pf0vf0 name tmp");
    run("ip link set pf0vf1 name pf0vf0");
    run("ip link set tmp name pf0vf1");
    let found = table(Selector::default());
    let shown = json("devlink -j port show")["port"].clone();
    for vf in 0..3 {
        let representor = found.find(Some(1), VfId { pf: 0, vf }).unwrap();
        let port = representor.port.unwrap().to_string();
        assert_eq!(shown[&port]["vfnum"], vf);
        assert_eq!(text(&shown[&port], "netdev"), Some(representor.name));
    }
    assert_eq!(found.find(None, VfId { pf: 0, vf: 0 }).unwrap().name, "pf0vf1");
    assert_eq!(found.pf_representors().iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["pf0hpf"]);
    assert_eq!(found.uplinks().iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["p0"]);
    assert_eq!(found.all_vf_representors().len(), 3);
    let missing = found.find(Some(1), VfId { pf: 0, vf: 9 }).unwrap_err();
    assert_eq!(
        missing.to_string(),
        format!("no representor of c1pf0vf9 on this NIC; there are: c1pf0vf0-2 ({})", nic.device)
    );

    // Taken away into another namespace, if its driver lets it go.
    run("ip netns add nlvm-away");
    let moved = output("ip link set pf0vf2 netns nlvm-away");
    let away = table(Selector::default()).find(Some(1), VfId { pf: 0, vf: 2 });
    if moved.is_ok() {
        run("ip -n nlvm-away link set pf0vf2 netns 1");
    }
    run("ip netns del nlvm-away");
    match moved {
        Ok(_) => {
            assert!(
                matches!(&away, Err(FindError::NoNetdev { why, .. }) if why.contains("namespace")),
                "{away:?}"
            );
        }
        Err(error) => {
            assert!(error.contains("immutable"), "{error}");
            assert_eq!(away.unwrap().name, "pf0vf2");
        }
    }
}

#[test]
fn vm_two_nics_are_told_apart_by_the_devlink_device() {
    let mut bench = Bench::new();
    let first = bench.nic(2);
    for name in ["p0", "pf0hpf", "pf0vf0", "pf0vf1"] {
        run(&format!("ip link set {name} name x{name}"));
    }
    let second = bench.nic(2);
    let vf = VfId { pf: 0, vf: 1 };
    let both = table(Selector::default()).find(Some(1), vf).unwrap_err();
    assert!(
        matches!(&both, FindError::Ambiguous { candidates, .. }
        if *candidates == format!("c1pf0vf1 ({}); c1pf0vf1 ({})", first.device, second.device)),
        "{both}"
    );
    for (nic, name) in [(&first, "xpf0vf1"), (&second, "pf0vf1")] {
        let selector = Selector { device: Some(nic.device.parse().unwrap()), controller: None };
        assert_eq!(table(selector).find(Some(1), vf).unwrap().name, name);
    }
}

/// `tc`'s view of our filter.
fn assert_shown_closed(filter: &Value, in_hw: bool) {
    assert_eq!(
        (&filter["pref"], &filter["protocol"], &filter["chain"]),
        (&1.into(), &"all".into(), &0.into()),
        "{filter}"
    );
    assert_eq!(filter["kind"], "flower");
    assert_eq!(filter["options"]["keys"], serde_json::json!({}));
    let action = &filter["options"]["actions"][0];
    assert_eq!(
        (&action["kind"], &action["control_action"]["type"]),
        (&"gact".into(), &"drop".into()),
        "{filter}"
    );
    assert_eq!(action["cookie"], "647261776272696467653a63");
    let place = if in_hw { "in_hw" } else { "not_in_hw" };
    assert_eq!(filter["options"][place], true, "{filter}");
}

#[test]
fn vm_close_and_open() {
    let mut bench = Bench::new();
    bench.nic(2);
    let mut socket = route();
    let vf = index(&mut socket, "pf0vf0");
    assert!(!tc::is_closed(&mut socket, vf, &mark()).unwrap());
    assert_eq!(
        tc::close(&mut socket, vf, mark(), tc::Skip::None).unwrap(),
        tc::Closed::Now { warning: None }
    );
    assert_eq!(json("tc -j qdisc show dev pf0vf0 ingress")[0]["kind"], "ingress");
    let shown = tc_filters("pf0vf0");
    assert_eq!(shown.len(), 1);
    assert_shown_closed(&shown[0], true);
    assert!(tc::is_closed(&mut socket, vf, &mark()).unwrap());
    assert_eq!(tc::close(&mut socket, vf, mark(), tc::Skip::None).unwrap(), tc::Closed::Already);
    assert_eq!(tc_filters("pf0vf0"), shown);

    // OVS takes the port: it deletes the qdisc and makes its own.
    run("tc qdisc del dev pf0vf0 ingress");
    run("tc qdisc add dev pf0vf0 ingress");
    assert!(!tc::is_closed(&mut socket, vf, &mark()).unwrap());
    tc::close(&mut socket, vf, mark(), tc::Skip::None).unwrap();
    run(
        "tc filter add dev pf0vf0 ingress pref 2 protocol ip flower ip_proto tcp dst_port 80 action drop cookie 0102",
    );

    assert!(tc::open(&mut socket, vf, &mark()).unwrap());
    let left = tc_filters("pf0vf0");
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0]["pref"], 2);
    assert!(!tc::open(&mut socket, vf, &mark()).unwrap());
    assert_eq!(tc_filters("pf0vf0"), left);
}

#[test]
fn vm_a_closed_port_lets_nothing_by() {
    let mut bench = Bench::new();
    let nic = bench.nic(1);
    std::fs::write(format!("/sys/bus/pci/devices/{:04x}:03:00.0/sriov_numvfs", 0x1000 + nic.id), "1")
        .unwrap();
    run("ip netns add nlvm-pod");
    run(&format!("nsenter --net=/proc/1/ns/net ip link set ens{}v0 netns nlvm-pod name eth0", nic.id));
    run("ip -n nlvm-pod addr add 10.8.0.2/24 dev eth0");
    run("ip -n nlvm-pod link set eth0 up");
    run("ip addr add 10.8.0.1/24 dev pf0vf0");
    run("ip link set pf0vf0 up");
    let mut socket = route();
    let vf = index(&mut socket, "pf0vf0");
    let reaches = || output("ip netns exec nlvm-pod ping -c 1 -W 3 10.8.0.1").is_ok();
    let mut seen = vec![reaches()];
    for skip in [tc::Skip::None, tc::Skip::Hardware] {
        tc::close(&mut socket, vf, mark(), skip).unwrap();
        seen.push(reaches());
        tc::open(&mut socket, vf, &mark()).unwrap();
        seen.push(reaches());
    }
    run("ip netns del nlvm-pod");
    assert_eq!(seen, [true, false, true, false, true]);
}

#[test]
fn vm_a_clsact_serves_as_well_and_stays() {
    let mut bench = Bench::new();
    bench.nic(1);
    run("tc qdisc add dev pf0vf0 clsact");
    let mut socket = route();
    let vf = index(&mut socket, "pf0vf0");
    tc::close(&mut socket, vf, mark(), tc::Skip::None).unwrap();
    assert_shown_closed(&tc_filters("pf0vf0")[0], true);
    assert_eq!(json("tc -j qdisc show dev pf0vf0 clsact")[0]["kind"], "clsact");
    assert!(!tc::ensure_ingress(&mut socket, vf).unwrap());
    let qdiscs = tc::qdiscs(&mut socket).unwrap();
    let hook = qdiscs.iter().find(|qdisc| qdisc.ifindex == vf && qdisc.has_ingress_hook()).unwrap();
    assert_eq!((hook.kind.as_str(), hook.ingress_block), ("clsact", None));
    assert_eq!(tc::remove_ingress(&mut socket, vf).unwrap_err().errno(), Some(Errno::EINVAL));
}

#[test]
fn vm_the_hardware_says_why_it_leaves_a_filter_to_software() {
    let mut bench = Bench::new();
    bench.nic(1);
    let mut socket = route();
    let vf = index(&mut socket, "pf0vf0");
    parameter("fail_errno", "28");
    parameter("fail_count", "1");
    let closed = tc::close(&mut socket, vf, mark(), tc::Skip::None).unwrap();
    let tc::Closed::Now { warning: Some(warning) } = &closed else { panic!("{closed:?}") };
    assert!(!warning.is_empty());
    assert_shown_closed(&tc_filters("pf0vf0")[0], false);
    let ours = tc::filters(&mut socket, vf).unwrap();
    let flower = ours[0].flower.as_ref().unwrap();
    assert!((flower.not_in_hw, flower.in_hw, flower.in_hw_count) == (true, false, 0), "{flower:?}");
    tc::open(&mut socket, vf, &mark()).unwrap();

    parameter("fail_count", "1");
    let refused = tc::close(&mut socket, vf, mark(), tc::Skip::Software).unwrap_err();
    assert_eq!(refused.errno(), Some(Errno(28)), "{refused}");
    parameter("fail_errno", "0");
    assert!(tc_filters("pf0vf0").is_empty());

    tc::close(&mut socket, vf, mark(), tc::Skip::Hardware).unwrap();
    assert_eq!(tc_filters("pf0vf0")[0]["options"]["skip_hw"], true);
}

#[test]
fn vm_strangers_in_our_place_are_reported_and_left() {
    let mut bench = Bench::new();
    bench.nic(3);
    let mut socket = route();
    for (name, filter) in [
        ("pf0vf0", "pref 1 protocol all flower action pass"),
        ("pf0vf1", "pref 1 protocol ip flower action drop"),
        ("pf0vf2", "pref 1 protocol all matchall action pass"),
    ] {
        run(&format!("tc qdisc add dev {name} ingress"));
        run(&format!("tc filter add dev {name} ingress {filter}"));
        let before = tc_filters(name);
        let vf = index(&mut socket, name);
        let error = tc::close(&mut socket, vf, mark(), tc::Skip::None).unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }), "{name}: {error}");
        assert!(!tc::is_closed(&mut socket, vf, &mark()).unwrap());
        assert!(!tc::open(&mut socket, vf, &mark()).unwrap());
        assert_eq!(tc_filters(name), before);
    }
    // Not ours, though it drops: another mark, and a key.
    run("tc filter del dev pf0vf0 ingress");
    run(
        "tc filter add dev pf0vf0 ingress pref 1 protocol all flower dst_mac 02:00:00:00:00:01 action drop cookie 647261776272696467653a63",
    );
    let vf = index(&mut socket, "pf0vf0");
    assert!(!tc::is_closed(&mut socket, vf, &mark()).unwrap(), "a filter with keys lets the rest by");
}

#[test]
fn vm_many_ports_are_closed_in_one_go() {
    let mut bench = Bench::new();
    bench.nic(200);
    let mut socket = route();
    let links = link::links(&mut socket).unwrap();
    let mut ports: Vec<_> =
        links.iter().filter(|link| link.name.starts_with("pf0vf")).map(|link| link.ifindex).collect();
    assert_eq!(ports.len(), 200);
    ports.insert(77, IfIndex(99_999));
    let results = tc::close_many(&mut socket, &ports, mark(), tc::Skip::None).unwrap();
    assert_eq!(results.len(), 201);
    for (position, (port, result)) in results.iter().enumerate() {
        if position == 77 {
            assert_eq!(*port, IfIndex(99_999));
            assert!(result.as_ref().unwrap_err().is_gone(), "{result:?}");
        } else {
            assert_eq!(*result.as_ref().unwrap(), tc::Closed::Now { warning: None }, "{port}");
        }
    }
    for vf in [0, 1, 63, 64, 127, 128, 199] {
        assert_shown_closed(&tc_filters(&format!("pf0vf{vf}"))[0], true);
    }
    let rules = std::fs::read_to_string("/sys/kernel/debug/simnic/stats").unwrap();
    assert!(rules.contains("rules 200 "), "{rules}");
    ports.remove(77);
    let again = tc::close_many(&mut socket, &ports, mark(), tc::Skip::None).unwrap();
    assert!(again.iter().all(|(_, result)| matches!(result, Ok(tc::Closed::Already))));
}

#[test]
fn vm_filters_of_all_chains_are_dumped() {
    let mut bench = Bench::new();
    bench.nic(1);
    run("tc qdisc add dev pf0vf0 clsact");
    run(
        "tc filter add dev pf0vf0 ingress pref 2 chain 5 protocol ip flower ip_proto tcp dst_port 80 action ct zone 5 pipe action goto chain 7",
    );
    run("tc filter add dev pf0vf0 ingress pref 9 protocol 802.1Q matchall action drop");
    batch("tc", (1000..1300).map(|port| {
        format!("filter add dev pf0vf0 ingress pref 3 protocol ip flower skip_hw ip_proto udp dst_port {port} action drop")
    }));
    let mut socket = route();
    let vf = index(&mut socket, "pf0vf0");
    let filters = tc::filters(&mut socket, vf).unwrap();
    assert_eq!(filters.len(), tc_filters("pf0vf0").len());
    assert_eq!(filters.len(), 302);
    let chain5 = filters.iter().find(|filter| filter.chain == tc::ChainIndex(5)).unwrap();
    assert_eq!((chain5.pref, chain5.protocol, chain5.kind.as_str()), (2, 0x0800, "flower"));
    let flower = chain5.flower.as_ref().unwrap();
    assert_eq!((flower.in_hw, flower.in_hw_count, flower.actions.len()), (true, 1, 2));
    assert_eq!(flower.actions[1].verdict, Some(tc::Verdict::GotoChain(7)));
    let matchall = filters.iter().find(|filter| filter.kind == "matchall").unwrap();
    assert_eq!((matchall.pref, matchall.protocol, &matchall.flower), (9, 0x8100, &None));

    // A shared block: the kernel names the block instead of the device.
    run("ip link add dum0 type dummy");
    run("tc qdisc add dev dum0 ingress_block 22 clsact");
    run("tc filter add block 22 pref 4 protocol ip flower ip_proto tcp action drop");
    let d = index(&mut socket, "dum0");
    let filters = tc::filters(&mut socket, d).unwrap();
    assert_eq!(filters.iter().map(|f| (f.ifindex, f.block, f.pref)).collect::<Vec<_>>(), [(d, Some(22), 4)]);
    let refused = tc::close(&mut socket, d, mark(), tc::Skip::None).unwrap_err();
    assert_eq!(refused.errno(), Some(Errno::EOPNOTSUPP), "{refused}");
}

#[test]
fn vm_a_dump_is_whole_while_devices_come_and_go() {
    let _bench = Bench::new();
    let stable: Vec<String> = (0..150).map(|n| format!("stable{n}")).collect();
    batch("ip", stable.iter().map(|name| format!("link add {name} type dummy")));
    let mut socket = route();
    let file = std::env::temp_dir().join(format!("netlink-vm-churn-{}", std::process::id()));
    std::fs::write(&file, "link add churn type dummy\nlink del churn\n".repeat(60)).unwrap();
    let mut churn = std::process::Command::new("ip").arg("-batch").arg(&file).spawn().unwrap();
    let mut dumps = 0;
    while churn.try_wait().unwrap().is_none() {
        match link::links(&mut socket) {
            Ok(links) => {
                let names: BTreeSet<&str> = links.iter().map(|link| link.name.as_str()).collect();
                for name in &stable {
                    assert!(names.contains(name.as_str()), "{name} is missing in dump {dumps}");
                }
                dumps += 1;
            }
            // Said, not hidden.
            Err(Error::Interrupted { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    std::fs::remove_file(&file).unwrap();
    assert!(dumps > 0);
}

/// All events until none came for a while.
fn drain(monitor: &mut Monitor) -> Vec<Event> {
    let mut all = Vec::new();
    loop {
        let events = monitor.wait(Duration::from_millis(500)).unwrap();
        if events.is_empty() {
            return all;
        }
        all.extend(events);
    }
}

#[test]
fn vm_the_monitor_sees_links_tc_and_devlink() {
    let mut bench = Bench::new();
    let mut monitor = Monitor::open().unwrap();
    assert_eq!(monitor.wait(Duration::ZERO).unwrap(), []);
    let nic = bench.nic(1);
    let mut socket = route();
    let vf = index(&mut socket, "pf0vf0");
    let events = drain(&mut monitor);
    assert!(events.contains(&Event::Link { ifindex: vf, gone: false }), "{events:?}");
    let new_port = |event: &Event| matches!(event, Event::Devlink { port: Some(port), .. } if port.to_string() == format!("{}/1", nic.device));
    assert!(events.iter().any(new_port), "{events:?}");

    run("tc qdisc add dev pf0vf0 ingress");
    assert_eq!(drain(&mut monitor), [Event::Tc { ifindex: vf }]);
    run("tc filter add dev pf0vf0 ingress pref 1 protocol all flower action drop");
    run("tc filter del dev pf0vf0 ingress");
    assert_eq!(
        drain(&mut monitor).into_iter().collect::<BTreeSet<_>>(),
        BTreeSet::from([Event::Tc { ifindex: vf }])
    );
    run("ip link add dum0 type dummy");
    let d = index(&mut socket, "dum0");
    drain(&mut monitor);
    run("ip link del dum0");
    assert!(drain(&mut monitor).contains(&Event::Link { ifindex: d, gone: true }));
}

#[test]
fn vm_the_monitor_tells_when_it_lost_events() {
    let _bench = Bench::new();
    let mut monitor = Monitor::open().unwrap();
    run("ip link add dum0 type dummy");
    run("tc qdisc add dev dum0 clsact");
    batch("tc", (0..20_000).map(|n| {
        let (a, b) = (n / 200, n % 200);
        format!("filter add dev dum0 ingress pref 1 protocol ip flower skip_hw dst_ip 10.0.{a}.{b} action drop")
    }));
    let events = drain(&mut monitor);
    assert!(events.contains(&Event::Overrun), "{} events and no overrun", events.len());
    // And it goes on working.
    run("ip link set dum0 mtu 1400");
    assert!(drain(&mut monitor).iter().any(|event| matches!(event, Event::Link { .. })));
}
