//! A table of broken systems: each check wrong in turn is named, with what mends it; each thing unreadable in turn is unknown.

use std::collections::BTreeMap;

use super::checks::{OPTIONS, SYSCTLS, all};
use super::report::{Line, State};
use super::system::{
    Bond, Certificate, Configuration, Eswitch, Kernel, Privileges, System, Uplink, Validity,
};
use crate::ovs::view::{BridgeView, OvsView};

const DAY: i64 = 86_400;
const NOW: i64 = 1_796_000_000;
const P0: &str = "pci/0000:03:00.0";
const P1: &str = "pci/0000:03:00.1";

fn no<T>() -> Result<T, String> {
    Err("Permission denied".to_owned())
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn eswitch(device: &str) -> Eswitch {
    let functions = ["disable_rshim", "disable_tracer", "disable_counter_rd", "disable_port_owner"];
    Eswitch {
        device: device.into(),
        driver: Ok("mlx5_core".into()),
        mode: Ok("switchdev".into()),
        encap: Ok("basic".into()),
        steering: Ok("smfs".into()),
        multiport: Ok("false".into()),
        privileges: Ok(Privileges {
            levels: vec!["RESTRICTED".into()],
            disabled: functions.into_iter().map(|it| (it.to_owned(), true)).collect(),
        }),
    }
}

fn uplink(name: &str, device: &str) -> Uplink {
    let bond = Bond { name: "bond0".into(), mode: Ok("802.3ad".into()) };
    Uplink { name: Some(name.into()), device: device.into(), carrier: Ok(true), bond: Ok(Some(bond)) }
}

fn bridge(datapath: &str) -> BridgeView {
    BridgeView { datapath_type: datapath.to_owned(), ..BridgeView::default() }
}

/// A BlueField with two ports, as it should be.
fn good() -> System {
    let certificate = |key| Certificate {
        key,
        path: format!("/etc/nic-agent/tls/{key}").into(),
        validity: Ok(Validity { not_before: NOW - DAY, not_after: NOW + 90 * DAY }),
    };
    System {
        now: NOW,
        boot_id: Ok("0".repeat(32)),
        configuration: Ok(Configuration {
            problems: None,
            hw_offload: true,
            edge_bridge: "br-edge".into(),
            ovn_bridge: "br-int".into(),
            pod_connections: 32_768,
        }),
        kernel: Kernel {
            options: Ok(OPTIONS.iter().map(|(name, ..)| ((*name).to_owned(), "m".to_owned())).collect()),
            page_size: Ok(4096),
        },
        sysctls: SYSCTLS
            .into_iter()
            .map(|name| (name, Ok(if name.ends_with("_max") { "262144" } else { "1" }.to_owned())))
            .collect(),
        eswitches: Ok(vec![eswitch(P0), eswitch(P1)]),
        uplinks: Ok(vec![uplink("p0", P0), uplink("p1", P1)]),
        switch: Ok(OvsView {
            other_config: map(&[("hw-offload", "true")]),
            bridges: [("br-edge".into(), bridge("system")), ("br-int".into(), bridge(""))].into(),
            ..OvsView::default()
        }),
        ovs_version: Ok("2.9.2-0011-25.02-based-3.3.3".into()),
        ovn_version: Ok("25.03.2".into()),
        synchronised: Ok(true),
        certificates: ["server.cert", "server.client-ca"].map(certificate).into(),
    }
}

fn line<'a>(lines: &'a [Line], name: &str) -> &'a Line {
    lines.iter().find(|it| it.name() == name).unwrap_or_else(|| panic!("no line {name}: {lines:#?}"))
}

/// Lines that are not passed.
fn wrong(lines: &[Line]) -> Vec<String> {
    lines.iter().filter(|it| it.state != State::Passed).map(Line::name).collect()
}

struct Broken {
    /// The line that must say so; no other may.
    name: &'static str,
    state: State,
    /// Stand in what was found and in the remedy.
    found: &'static str,
    remedy: &'static str,
    break_it: fn(&mut System),
}

macro_rules! broken {
    ($($name:literal, $state:ident, $found:literal, $remedy:literal, $break_it:expr;)*) => {
        vec![$(Broken { name: $name, state: State::$state, found: $found, remedy: $remedy, break_it: $break_it }),*]
    };
}

fn eswitches(system: &mut System) -> &mut Vec<Eswitch> {
    system.eswitches.as_mut().unwrap()
}

fn uplinks(system: &mut System) -> &mut Vec<Uplink> {
    system.uplinks.as_mut().unwrap()
}

fn switch(system: &mut System) -> &mut OvsView {
    system.switch.as_mut().unwrap()
}

fn sysctl(system: &mut System, name: &'static str, value: &str) {
    system.sysctls.insert(name, Ok(value.to_owned()));
}

fn privileges(system: &mut System) -> &mut Privileges {
    eswitches(system)[1].privileges.as_mut().unwrap()
}

fn bond(system: &mut System, mode: Result<&str, &str>) {
    for uplink in uplinks(system) {
        let mode = mode.map(ToOwned::to_owned).map_err(ToOwned::to_owned);
        uplink.bond = Ok(Some(Bond { name: "bond0".into(), mode }));
    }
}

fn unbonded(system: &mut System, multiport: Result<&str, &str>) {
    for uplink in uplinks(system) {
        uplink.bond = Ok(None);
    }
    for eswitch in eswitches(system) {
        eswitch.multiport = multiport.map(ToOwned::to_owned).map_err(ToOwned::to_owned);
    }
}

fn valid(system: &mut System, not_before: i64, not_after: i64) {
    system.certificates[1].validity =
        Ok(Validity { not_before: NOW + not_before, not_after: NOW + not_after });
}

fn table() -> Vec<Broken> {
    broken! {
        "configuration", Failed, "ovn-remote", "nic-agent --check",
            |it| it.configuration.as_mut().unwrap().problems = Some("chassis.ovn-remote is missing".into());
        "page-size", Warning, "64 KiB", "4 KiB", |it| it.kernel.page_size = Ok(65_536);
        "sysctl net.netfilter.nf_conntrack_events", Warning, "2", "sysctl -w net.netfilter.nf_conntrack_events=1",
            |it| sysctl(it, SYSCTLS[0], "2");
        "sysctl net.netfilter.nf_conntrack_timestamp", Warning, "0",
            "sysctl -w net.netfilter.nf_conntrack_timestamp=1", |it| sysctl(it, SYSCTLS[1], "0");
        "sysctl net.netfilter.nf_conntrack_max", Warning, "65536", "sysctl -w net.netfilter.nf_conntrack_max=262144",
            |it| sysctl(it, SYSCTLS[2], "65536");
        "eswitch-mode pci/0000:03:00.1", Failed, "legacy", "devlink dev eswitch set pci/0000:03:00.1 mode switchdev",
            |it| eswitches(it)[1].mode = Ok("legacy".into());
        "encap-mode pci/0000:03:00.1", Failed, "none", "devlink dev eswitch set pci/0000:03:00.1 encap-mode basic",
            |it| eswitches(it)[1].encap = Ok("none".into());
        "steering-mode pci/0000:03:00.1", Warning, "dmfs",
            "devlink dev param set pci/0000:03:00.1 name flow_steering_mode value smfs cmode runtime",
            |it| eswitches(it)[1].steering = Ok("dmfs".into());
        "restricted-mode pci/0000:03:00.1", Failed, "PRIVILEGED", "mlxprivhost -d 0000:03:00.1 r --disable_rshim",
            |it| privileges(it).levels = vec!["PRIVILEGED".into()];
        "restricted-mode pci/0000:03:00.1", Failed, "RESTRICTED, PRIVILEGED", "mlxprivhost",
            |it| privileges(it).levels.push("PRIVILEGED".into());
        "restricted-mode pci/0000:03:00.1", Failed, "without disable_rshim", "--disable_rshim",
            |it| { privileges(it).disabled.insert("disable_rshim".into(), false); };
        "restricted-mode pci/0000:03:00.1", Failed, "without disable_port_owner", "--disable_port_owner",
            |it| { privileges(it).disabled.remove("disable_port_owner"); };
        "uplink p1", Warning, "no carrier", "ethtool p1", |it| uplinks(it)[1].carrier = Ok(false);
        "lag pci/0000:03:00", Failed, "balance-rr, which no hardware does", "mode 802.3ad",
            |it| bond(it, Ok("balance-rr"));
        "lag pci/0000:03:00", Failed, "bond0 has not all of p0 p1", "a bond of p0 p1",
            |it| uplinks(it)[1].bond = Ok(None);
        "lag pci/0000:03:00", Warning, "neither in a bond nor in a multiport", "a bond of p0 p1",
            |it| unbonded(it, Ok("false"));
        "lag pci/0000:03:00", Warning, "neither in a bond nor in a multiport", "a bond of p0 p1",
            |it| { unbonded(it, Ok("true")); eswitches(it)[0].multiport = Ok("false".into()); };
        "ovs-version", Warning, "tunnel flags", "3.5.3", |it| it.ovs_version = Ok("3.5.0".into());
        "ovs-version", Warning, "tunnel flags", "3.5.3", |it| it.ovs_version = Ok("3.5.2-1".into());
        "ovs-version", Warning, "tunnel flags", "3.6.2", |it| it.ovs_version = Ok("3.6.1".into());
        "ovs-version", Warning, "tunnel flags", "3.6.2",
            |it| it.ovs_version = Ok("3.0.0-0056-25.10-based-3.6.0".into());
        "ovs-version", Warning, "rules of others", "install", |it| it.ovs_version = Ok("2.17.8".into());
        "ovn-version", Warning, "gateway", "25.03.2", |it| it.ovn_version = Ok("25.03.0".into());
        "ovn-version", Warning, "gateway", "25.03.2", |it| it.ovn_version = Ok("25.03.1".into());
        "ovn-version", Failed, "ct-zone-range", "25.03.2", |it| it.ovn_version = Ok("24.03.2".into());
        "hw-offload", Failed, "false", "ovs-vsctl set Open_vSwitch . other_config:hw-offload=true",
            |it| drop(switch(it).other_config.insert("hw-offload".into(), "false".into()));
        "hw-offload", Failed, "not set", "ovs-vsctl set Open_vSwitch . other_config:hw-offload=true",
            |it| switch(it).other_config.clear();
        "hw-offload", Warning, "as the agent is told", "chassis.hw-offload", |it| {
            it.configuration.as_mut().unwrap().hw_offload = false;
            switch(it).other_config.insert("hw-offload".into(), "false".into());
        };
        "datapath-type", Failed, "other_config:doca-init=true", "remove Open_vSwitch . other_config doca-init",
            |it| drop(switch(it).other_config.insert("doca-init".into(), "true".into()));
        "datapath-type", Failed, "bridge br-int: datapath_type=netdev", "set Bridge br-int datapath_type=system",
            |it| drop(switch(it).bridges.insert("br-int".into(), bridge("netdev")));
        "datapath-type", Failed, "bridge br-edge: datapath_type=netdev", "set Bridge br-edge datapath_type=system",
            |it| drop(switch(it).bridges.insert("br-edge".into(), bridge("netdev")));
        "datapath-type", Failed, "ovn-bridge-datapath-type=netdev",
            "remove Open_vSwitch . external_ids ovn-bridge-datapath-type",
            |it| drop(switch(it).external_ids.insert("ovn-bridge-datapath-type".into(), "netdev".into()));
        "time-synchronised", Warning, "no", "timedatectl set-ntp true", |it| it.synchronised = Ok(false);
        "certificate server.client-ca", Failed, "expired 2 days ago", "/etc/nic-agent/tls/server.client-ca",
            |it| valid(it, -9 * DAY, -2 * DAY - 1);
        "certificate server.client-ca", Failed, "valid in 3 days only", "/etc/nic-agent/tls/server.client-ca",
            |it| valid(it, 3 * DAY, 9 * DAY);
        "certificate server.client-ca", Warning, "13 days left", "/etc/nic-agent/tls/server.client-ca",
            |it| valid(it, -DAY, 14 * DAY - 1);
    }
}

#[test]
fn a_nic_as_it_should_be_passes_everything() {
    let lines = all(&good());
    assert_eq!(wrong(&lines), Vec::<String>::new(), "{lines:#?}");
    let mut names: Vec<String> = lines.iter().map(Line::name).collect();
    names.sort();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all, "each line has its own name");
}

#[test]
fn each_check_wrong_in_turn_is_named_with_what_mends_it() {
    for Broken { name, state, found, remedy, break_it } in table() {
        let mut system = good();
        break_it(&mut system);
        let lines = all(&system);
        assert_eq!(wrong(&lines), [name], "nothing else is wrong: {lines:#?}");
        let line = line(&lines, name);
        assert_eq!(line.state, state, "{line:?}");
        assert!(line.found.contains(found), "{line:?} finds {found:?}");
        assert!(line.remedy.contains(remedy), "{line:?} says {remedy:?}");
        assert!(!line.wanted.is_empty());
    }
}

#[test]
fn each_option_of_the_kernel_is_missed() {
    for (name, _, purpose) in OPTIONS {
        for value in [None, Some("n"), Some("is not set")] {
            let mut system = good();
            let options = system.kernel.options.as_mut().unwrap();
            options.remove(name);
            options.extend(value.map(|value| (name.to_owned(), value.to_owned())));
            let lines = all(&system);
            let expected = format!("kernel-option {name}");
            assert_eq!(wrong(&lines), [expected.as_str()]);
            let line = line(&lines, &expected);
            assert_eq!(line.state, State::Failed);
            assert!(
                line.wanted.contains(purpose) && line.remedy.contains(&format!("CONFIG_{name}=y")),
                "{line:?}"
            );
        }
    }
}

#[test]
fn what_is_wrong_as_a_whole_is_one_failure() {
    let of = |break_it: &dyn Fn(&mut System), name: &str, found: &str| {
        let mut system = good();
        break_it(&mut system);
        let lines = all(&system);
        let line = line(&lines, name).clone();
        assert_eq!(line.state, State::Failed, "{line:?}");
        assert!(line.found.contains(found) && !line.remedy.is_empty(), "{line:?}");
    };
    of(&|it| eswitches(it).clear(), "eswitch", "no device has one");
    of(&|it| uplinks(it).clear(), "uplink", "none");
    let dark = |it: &mut System| uplinks(it).iter_mut().for_each(|it| it.carrier = Ok(false));
    of(&dark, "uplink p0", "no other uplink");
    of(&dark, "uplink p1", "no other uplink");
}

/// What passes in more than one way.
#[test]
fn what_is_right_in_another_way_is_right() {
    let passes = |change: &dyn Fn(&mut System)| {
        let mut system = good();
        change(&mut system);
        let lines = all(&system);
        assert_eq!(wrong(&lines), Vec::<String>::new(), "{lines:#?}");
    };
    passes(&|it| unbonded(it, Ok("true")));
    passes(&|it| bond(it, Ok("active-backup")));
    passes(&|it| {
        eswitches(it).truncate(1);
        uplinks(it).truncate(1);
        unbonded(it, Ok("false"));
    });
    passes(&|it| eswitches(it)[0].steering = Ok("hmfs".into()));
    for version in ["3.3.3", "3.4.9", "3.5.3", "3.6.2", "3.7.0", "4.0.0"] {
        passes(&|it| it.ovs_version = Ok(version.into()));
    }
    for version in ["24.09.0", "24.09.3", "25.09.0", "26.03.1"] {
        passes(&|it| it.ovn_version = Ok(version.into()));
    }
    passes(&|it| drop(switch(it).other_config.insert("doca-init".into(), "false".into())));
    // Another NIC than mlx5 needs none of its options.
    passes(&|it| {
        for eswitch in eswitches(it) {
            eswitch.driver = Ok("simnic".into());
        }
        it.kernel.options.as_mut().unwrap().remove("MLX5_TC_CT");
    });
}

struct Unreadable {
    /// The lines that must be unknown, by the beginnings of their names; no other line may be anything but passed.
    names: &'static [&'static str],
    hide: fn(&mut System),
}

fn unreadable() -> Vec<Unreadable> {
    let of = |names, hide| Unreadable { names, hide };
    vec![
        of(
            &["configuration", "sysctl net.netfilter.nf_conntrack_max", "datapath-type", "certificate"],
            |it| it.configuration = no(),
        ),
        of(&["kernel-option"], |it| it.kernel.options = no()),
        of(&["page-size"], |it| it.kernel.page_size = no()),
        of(&["sysctl net.netfilter.nf_conntrack_events"], |it| drop(it.sysctls.insert(SYSCTLS[0], no()))),
        of(&["sysctl net.netfilter.nf_conntrack_timestamp"], |it| drop(it.sysctls.remove(SYSCTLS[1]))),
        of(&["sysctl net.netfilter.nf_conntrack_max"], |it| sysctl(it, SYSCTLS[2], "many")),
        of(&["eswitch"], |it| it.eswitches = no()),
        of(&["eswitch-mode pci/0000:03:00.0"], |it| eswitches(it)[0].mode = no()),
        of(&["encap-mode pci/0000:03:00.0"], |it| eswitches(it)[0].encap = no()),
        of(&["steering-mode pci/0000:03:00.0"], |it| eswitches(it)[0].steering = no()),
        of(&["restricted-mode pci/0000:03:00.0"], |it| eswitches(it)[0].privileges = no()),
        of(&["restricted-mode pci/0000:03:00.1"], |it| privileges(it).levels.clear()),
        of(&["uplink", "lag"], |it| it.uplinks = no()),
        of(&["uplink p0"], |it| uplinks(it)[0].carrier = no()),
        of(&["lag"], |it| uplinks(it)[0].bond = no()),
        of(&["lag"], |it| bond(it, Err("Permission denied"))),
        of(&["lag"], |it| unbonded(it, Err("Permission denied"))),
        of(&["ovs-version"], |it| it.ovs_version = no()),
        of(&["ovs-version"], |it| it.ovs_version = Ok("unknown".into())),
        of(&["ovn-version"], |it| it.ovn_version = no()),
        of(&["hw-offload", "datapath-type"], |it| it.switch = no()),
        of(&["time-synchronised"], |it| it.synchronised = no()),
        of(&["certificate server.cert"], |it| it.certificates[0].validity = no()),
        of(&["kernel-option MLX5"], |it| {
            it.kernel.options.as_mut().unwrap().retain(|name, _| !name.starts_with("MLX5"));
            for eswitch in eswitches(it) {
                eswitch.driver = no();
            }
        }),
    ]
}

#[test]
fn what_cannot_be_read_is_unknown_and_never_passed() {
    for Unreadable { names, hide } in unreadable() {
        let mut system = good();
        hide(&mut system);
        let lines = all(&system);
        let is_named = |line: &Line| names.iter().any(|name| line.name().starts_with(name));
        for name in names {
            assert!(lines.iter().any(|line| line.name().starts_with(name)), "{name} has no line: {lines:#?}");
        }
        for line in &lines {
            let state = if is_named(line) { State::Unknown } else { State::Passed };
            assert_eq!(line.state, state, "{names:?}: {line:?}");
            assert!(line.state != State::Unknown || !line.remedy.is_empty(), "how it is read: {line:?}");
        }
    }
}

#[test]
fn what_is_wrong_is_not_what_is_left_out() {
    let mut system = good();
    let many = (0..60).map(|n| eswitch(&format!("pci/0000:{n:02x}:00.0")));
    *eswitches(&mut system) = many.collect();
    eswitches(&mut system)[59].mode = Ok("legacy".into());
    let lines = all(&system);
    assert_eq!(lines.len(), super::report::MOST_LINES);
    assert_eq!(wrong(&lines), ["eswitch-mode pci/0000:3b:00.0", "report"]);
}

/// No line is left out of the tables.
#[test]
fn every_line_is_broken_once_and_hidden_once() {
    let broken = table();
    let hidden = unreadable();
    for line in all(&good()) {
        let is = |name: &str| line.name() == name || line.check == name;
        let of_check = |name: &str| name.split(' ').next() == Some(&line.check);
        let elsewhere = ["kernel-option", "eswitch", "uplink"].contains(&line.check.as_str());
        assert!(elsewhere || broken.iter().any(|it| of_check(it.name)), "{line:?} is never broken");
        let hides = |it: &Unreadable| it.names.iter().any(|name| is(name) || of_check(name));
        assert!(hidden.iter().any(hides), "{line:?} is never hidden");
    }
}
