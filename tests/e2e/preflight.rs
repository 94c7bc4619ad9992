//! A NIC that is not as the agent needs it: the preflight names it with what mends it, and an Open vSwitch whose datapath is
//! not the kernel's is refused as a whole, with every pod closed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::Duration;

use serde_json::Value;
use tests::command::sh;
use tests::{Nic, Pod, Wish, until};

const NIC: Nic = Nic(1);
const GATEWAY: &str = "10.244.0.1";
const REPRESENTOR: &str = "pf0vf9";

/// State, found and remedy of a line.
fn check(report: &Value, check: &str, subject: &str) -> (String, String, String) {
    let lines = report["checks"].as_array().expect("checks");
    let is = |it: &&Value| it["check"] == check && it["subject"].as_str().unwrap_or_default() == subject;
    let line = lines.iter().find(is).unwrap_or_else(|| panic!("no {check} {subject}: {report:#}"));
    let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
    (text("state"), text("found"), text("remedy"))
}

fn preflight() -> (Value, Option<i32>) {
    let said = sh("nic1", "/run/lab/bin/nic-agent preflight -o json");
    let report = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    (report, said.code)
}

#[test]
fn the_lab_s_nic_passes_what_can_be_read() {
    NIC.settle();
    let (report, code) = preflight();
    let failed: Vec<&Value> =
        report["checks"].as_array().unwrap().iter().filter(|it| it["state"] == "Failed").collect();
    assert_eq!((failed.as_slice(), code), ([].as_slice(), Some(0)), "{report:#}");
    let device = {
        let shown: Value = serde_json::from_str(&sh("nic1", "devlink -j dev show").ok()).unwrap();
        shown["dev"].as_object().unwrap().keys().next().unwrap().clone()
    };
    for (name, subject, state, found) in [
        ("configuration", "", "Passed", "no mistakes"),
        ("eswitch-mode", &device, "Passed", "switchdev"),
        ("uplink", "p0", "Passed", "carrier"),
        ("ovs-version", "", "Warning", "3.5.0: matches tunnel flags"),
        ("ovn-version", "", "Warning", "25.03.0: keeps what passes a gateway out"),
        ("hw-offload", "", "Passed", "true"),
        ("datapath-type", "", "Passed", "system"),
        ("certificate", "server.cert", "Passed", "days left"),
        // What simnic and the lab have not; their kernel keeps no configuration.
        ("kernel-option", "", "Unknown", "no /proc/config.gz"),
        ("encap-mode", &device, "Unknown", "does not say"),
        ("steering-mode", &device, "Unknown", "flow_steering_mode"),
        ("restricted-mode", &device, "Unknown", "not installed"),
        ("time-synchronised", "", "Unknown", "timedatectl"),
    ] {
        let line = check(&report, name, subject);
        assert!(
            line.0 == state && line.1.contains(found),
            "{name} {subject} is {state}, {found:?}: {line:?}"
        );
    }
}

#[test]
fn what_is_broken_is_named_with_what_mends_it() {
    NIC.settle();
    let before = sh("nic1", "cat /proc/sys/net/netfilter/nf_conntrack_events").ok();
    sh("nic1", "echo 0 >/proc/sys/net/netfilter/nf_conntrack_events").ok();
    let (state, found, remedy) = check(&preflight().0, "sysctl", "net.netfilter.nf_conntrack_events");
    assert_eq!((state.as_str(), found.as_str()), ("Warning", "0"));
    assert!(remedy.contains("sysctl -w net.netfilter.nf_conntrack_events=1"), "{remedy}");
    sh("nic1", &format!("echo {} >/proc/sys/net/netfilter/nf_conntrack_events", before.trim())).ok();

    // Another file of the agent's, which names a certificate that is no longer valid.
    let file = "/tmp/expired.toml";
    let cert = "cert = \"/share/pki/expired-host1.crt\"";
    sh("nic1", &format!("sed '/^\\[server\\]/a {cert}' /etc/nic-agent/nic-agent.toml >{file}")).ok();
    let said = sh("nic1", &format!("/run/lab/bin/nic-agent preflight --json --config {file}"));
    let report: Value = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    let (state, found, remedy) = check(&report, "certificate", "server.cert");
    assert_eq!((state.as_str(), said.code), ("Failed", Some(1)), "{report:#}");
    assert!(
        found.starts_with("expired") && remedy.contains("/share/pki/expired-host1.crt"),
        "{found} {remedy}"
    );

    // What the agent reads (e2e_kubelet).
    let written =
        "mkdir -p /tmp/preflight && /run/lab/bin/nic-agent preflight --write /tmp/preflight/preflight.json";
    sh("nic1", written).ok();
    let text = sh("nic1", "cat /tmp/preflight/preflight.json").ok();
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["bootId"].as_str().map(str::len), Some(32), "{report:#}");
    let nowhere = sh("nic1", "/run/lab/bin/nic-agent preflight --write /nowhere/preflight.json");
    assert_eq!(nowhere.code, Some(74), "{nowhere:?}");
}

/// Refused, closed, and with what to do; and as before when it is mended.
fn refused(pod: &Pod, break_it: &str, says: &str, mend: &str) {
    assert!(pod.pings(GATEWAY), "before {break_it}");
    sh("nic1", break_it).ok();
    until("the agent refuses the datapath", Duration::from_mins(1), || match NIC.ready() {
        Err(why) if why.contains(says) && why.contains("ovs-vsctl") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    until("every representor of the server is down", Duration::from_mins(1), || {
        let up: Vec<_> = NIC.representors().into_iter().filter(|(_, up)| *up).collect();
        if up.is_empty() { Ok(()) } else { Err(format!("{up:?}")) }
    });
    assert!(!pod.pings(GATEWAY), "closed: {break_it}");
    let (state, found, remedy) = check(&preflight().0, "datapath-type", "");
    assert!(state == "Failed" && !remedy.is_empty(), "{found}");
    sh("nic1", mend).ok();
    until("the pod's representor is up again", Duration::from_mins(2), || {
        NIC.ready()?;
        let up = NIC.representors();
        if up.get(REPRESENTOR) == Some(&true) { Ok(()) } else { Err(format!("{up:?}")) }
    });
    until("the pod goes on", Duration::from_mins(1), || {
        if pod.pings(GATEWAY) { Ok(()) } else { Err("no answer".to_owned()) }
    });
    assert_eq!(check(&preflight().0, "datapath-type", "").0, "Passed");
    NIC.settle();
}

#[test]
fn a_datapath_that_is_not_the_kernels_is_refused_closed() {
    let pod = Pod::add(&Wish { name: "pre", host: "host1", vf: 9, options: &[] });
    NIC.settle();
    refused(
        &pod,
        "ovs-vsctl set Open_vSwitch . other_config:doca-init=true",
        "other_config:doca-init=true",
        "ovs-vsctl remove Open_vSwitch . other_config doca-init",
    );
    refused(
        &pod,
        "ovs-vsctl set Bridge br-int datapath_type=netdev",
        "bridge br-int has datapath_type netdev",
        "ovs-vsctl set Bridge br-int datapath_type=system",
    );
    pod.delete();
}
