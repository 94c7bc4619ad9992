//! `packaging/bluefield/bf.cfg`: what it makes of a system that NVIDIA's installer has unpacked, on a directory in its place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/bluefield/bf.cfg");

/// As the installer does: sources the file, calls the function. `chroot` only says what it was asked for.
fn customise(root: &Path, more: &str) -> String {
    let line = format!(
        "set -eu; drawbridge_root={root}; . {FILE}; {more}; chroot() {{ echo \"chroot $*\"; }}; bfb_modify_os",
        root = root.display()
    );
    let done = Command::new("bash").args(["-c", &line]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// With what NVIDIA's image has.
fn image() -> TempDir {
    let root = TempDir::new().unwrap();
    for directory in ["etc/mellanox", "opt/drawbridge", "etc/systemd/system"] {
        fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    let ovs = "CREATE_OVS_BRIDGES=\"yes\"\nOVS_BRIDGE1=\"ovsbr1\"\nOVS_BRIDGE1_PORTS=\"p0 pf0hpf en3f0pf0sf0\"\n\
               OVS_HW_OFFLOAD=\"yes\"\n# OVS_DOCA=\"yes\"\n";
    fs::write(root.path().join("etc/mellanox/mlnx-ovs.conf"), ovs).unwrap();
    fs::write(root.path().join("etc/mellanox/mlnx-sf.conf"), "/sbin/mlnx-sf --action create\n").unwrap();
    fs::write(root.path().join("opt/drawbridge/nic-agent_1_arm64.deb"), "").unwrap();
    root
}

fn text(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn no_bridge_of_others_offload_and_the_uplinks_as_said() {
    let root = image();
    let root = root.path();
    // Also when it is done again.
    for _ in 0..2 {
        let said = customise(root, "drawbridge_p1=192.0.2.12/24");
        assert_eq!(
            said,
            "chroot DIR dpkg --install /opt/drawbridge/nic-agent_1_arm64.deb\n"
                .replace("DIR", root.to_str().unwrap())
        );
    }
    let ovs = text(root, "etc/mellanox/mlnx-ovs.conf");
    for key in ["CREATE_OVS_BRIDGES", "OVS_DOCA"] {
        let lines: Vec<_> = ovs.lines().filter(|line| line.contains(key)).collect();
        assert_eq!(lines, [format!("{key}=\"no\"")], "{ovs}");
    }
    assert!(ovs.contains("OVS_HW_OFFLOAD=\"yes\""), "what is not ours stays: {ovs}");
    assert_eq!(text(root, "etc/mellanox/mlnx-sf.conf"), "");
    assert_eq!(text(root, "etc/hostname"), "nic1\n");
    let uplinks = "network:\n  version: 2\n  ethernets:\n    p0:\n      mtu: 9000\n      dhcp4: false\n      \
                   addresses: [192.0.2.11/24]\n    p1:\n      mtu: 9000\n      dhcp4: false\n      addresses: [192.0.2.12/24]\n";
    assert_eq!(text(root, "etc/netplan/70-drawbridge.yaml"), uplinks);
}

#[test]
fn without_packages_and_a_second_uplink_there_is_none() {
    let root = image();
    fs::remove_dir_all(root.path().join("opt")).unwrap();
    assert_eq!(customise(root.path(), ":"), "");
    let uplinks = text(root.path(), "etc/netplan/70-drawbridge.yaml");
    assert!(uplinks.contains("p0:") && !uplinks.contains("p1:"), "{uplinks}");
}

#[test]
fn its_unit_is_enabled_and_systemd_finds_no_fault_with_it() {
    let root = image();
    customise(root.path(), ":");
    let unit = root.path().join("etc/systemd/system/drawbridge-ovs.service");
    let link = root.path().join("etc/systemd/system/multi-user.target.wants/drawbridge-ovs.service");
    assert_eq!(fs::canonicalize(link).unwrap(), fs::canonicalize(&unit).unwrap());
    let done = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    // Of another machine's units it says that they are not here.
    let findings: Vec<_> = said.lines().filter(|line| line.contains("drawbridge-ovs")).collect();
    assert!(findings.is_empty(), "{said}");
}

/// What the unit runs, with stand-ins for the programs: once, and never again.
#[test]
fn open_vswitch_is_started_anew_once() {
    let root = image();
    customise(root.path(), ":");
    let unit = text(root.path(), "etc/systemd/system/drawbridge-ovs.service");
    let line = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart=/bin/sh -ec '")?.strip_suffix('\''))
        .unwrap();
    let programs = "ovs-vsctl() { case $* in *get*) cat db 2>/dev/null || :;; *set*) echo '\"true\"' >db;; esac; }\n\
                    systemctl() { echo \"systemctl $*\"; }\n";
    let run = || {
        // A shell's functions have no dash in their names everywhere: bash's may.
        let done = Command::new("bash")
            .args(["-ec", &format!("{programs}{line}")])
            .current_dir(root.path())
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    assert_eq!(run(), "systemctl restart openvswitch-switch.service\n");
    assert_eq!(run(), "");
}
