//! A NIC boots: all its representors are up, as its vendor's scripts leave them, and `nic-agent close` runs before Open
//! vSwitch, `ovn-controller` and the agent, which then start in any order. The server's functions try all the time.
//!
//! A boot here: all daemons gone, the kernel's datapath and TC rules, too, and each representor up and as the kernel makes
//! it. Open vSwitch's database and the agent's ledger stay, as on a disk.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use tests::command::{Output, sh};
use tests::unheld::{Trying, Watch};
use tests::{Nic, Pod, State, Wish, until};

const NIC: Nic = Nic(1);
const PROGRAM: &str = "/run/lab/bin/nic-agent";
const OVS: &str = "Open vSwitch";
const OVN: &str = "ovn-controller";
const AGENT: &str = "nic-agent";
/// Who starts next has this time to do harm by itself.
const PAUSE: Duration = Duration::from_secs(3);

/// Daemons that are one unit on a NIC.
fn daemons(unit: &str) -> &'static [&'static str] {
    match unit {
        OVS => &["ovsdb", "vswitchd"],
        OVN => &["ovn-controller"],
        _ => &["agent"],
    }
}

fn start(daemons: &[&str]) {
    for daemon in daemons {
        NIC.daemon(daemon, "start");
    }
}

/// The lab's own order again, whatever a test left.
struct Restored;

impl Drop for Restored {
    fn drop(&mut self) {
        NIC.daemon("ovsdb", "start");
        sh("nic1", "ovs-vsctl --timeout=60 --no-wait --if-exists del-br ovsbr1");
        for daemon in ["vswitchd", "ovn-controller", "agent"] {
            NIC.daemon(daemon, "start");
        }
    }
}

fn boot() {
    for daemon in ["agent", "ovn-controller", "vswitchd", "ovsdb"] {
        NIC.daemon(daemon, "stop");
    }
    sh("nic1", "ovs-dpctl del-dp system@ovs-system; ip link del genev_sys_6081 2>/dev/null; true").ok();
    for name in NIC.representors().keys() {
        open(name);
    }
    assert!(NIC.representors().values().all(|up| *up));
}

/// As a representor is that its vendor's scripts have just set up.
fn open(representor: &str) {
    let line = format!(
        "tc qdisc del dev {representor} ingress 2>/dev/null; echo 0 >/proc/sys/net/ipv4/conf/{representor}/arp_ignore; ip link set {representor} up"
    );
    sh("nic1", &line).ok();
}

fn close(arguments: &str) -> Output {
    sh("nic1", &format!("{PROGRAM} close {arguments}"))
}

fn up() -> Vec<String> {
    NIC.representors().into_iter().filter(|(_, up)| *up).map(|(name, _)| name).collect()
}

fn orders() -> Vec<[&'static str; 3]> {
    let mut orders = Vec::new();
    for first in [OVS, OVN, AGENT] {
        for second in [OVS, OVN, AGENT] {
            for third in [OVS, OVN, AGENT] {
                if first != second && second != third && first != third {
                    orders.push([first, second, third]);
                }
            }
        }
    }
    orders
}

#[test]
fn closed_first_nothing_passes_whoever_starts_next() {
    let _restored = Restored;
    let pod = Pod::add(&Wish { name: "boot1", host: "host1", vf: 21, options: &[] });
    let far = Pod::add(&Wish { name: "boot2", host: "host2", vf: 21, options: &[] });
    assert!(pod.pings(&far.ip));
    let (pf, vf) = (Trying::start(NIC, "ens1", 1), Trying::start(NIC, "ens1v23", 2));
    let functions = [&pf, &vf];
    let orders = orders();
    assert_eq!(orders.len(), 6);
    for order in orders {
        boot();
        // What all the rest hangs on: open, they reach something, and it is seen.
        let watch = Watch::start(&functions, &[&pod, &far]);
        std::thread::sleep(tests::patience(Duration::from_secs(1)));
        let before = watch.stop();
        assert_eq!(before.0.len(), 2, "open, both are answered by the NIC: {before}");

        let began = Instant::now();
        let said = close("").ok();
        let took = began.elapsed();
        assert_eq!(up(), Vec::<String>::new(), "{said}");
        let again = close("").ok();
        assert!(again.contains(" 0 were up"), "once more changes nothing: {again}");

        let watch = Watch::start(&functions, &[&pod, &far]);
        for unit in order {
            start(daemons(unit));
            std::thread::sleep(tests::patience(PAUSE));
        }
        NIC.settle();
        until("the pod is reached again", Duration::from_mins(1), || {
            if pod.pings(&far.ip) { Ok(()) } else { Err("no answer".to_owned()) }
        });
        assert_eq!(up(), ["pf0vf21"], "{order:?}: none but the pod's");
        let after = watch.stop();
        assert!(after.nothing(), "{order:?}: {after:#?}");
        println!(
            "{order:?}: before close {before}; close took {} ms; from then on {after}",
            took.as_millis()
        );
    }
}

#[test]
fn closed_late_is_open_until_then() {
    let _restored = Restored;
    let pod = Pod::add(&Wish { name: "late1", host: "host1", vf: 21, options: &[] });
    let far = Pod::add(&Wish { name: "late2", host: "host2", vf: 21, options: &[] });
    let (pf, vf) = (Trying::start(NIC, "ens1", 1), Trying::start(NIC, "ens1v23", 2));
    let functions = [&pf, &vf];
    boot();
    let watch = Watch::start(&functions, &[&pod, &far]);
    let began = Instant::now();
    // The vendor's bridge: the uplink and the server's PF (CREATE_OVS_BRIDGES="yes").
    start(&["ovsdb", "vswitchd"]);
    until("the database answers", Duration::from_secs(30), || {
        let asked = NIC.run(&["ovs-vsctl", "--timeout=10", "--no-wait", "list-br"]);
        if asked.is_ok() { Ok(()) } else { Err(asked.stderr) }
    });
    NIC.vsctl(&["remove", "Open_vSwitch", ".", "other_config", "flow-restore-wait"]);
    NIC.vsctl(&["add-br", "ovsbr1", "--", "add-port", "ovsbr1", "p0", "--", "add-port", "ovsbr1", "pf0hpf"]);
    std::thread::sleep(tests::patience(PAUSE));
    let said = close("").ok();
    let open_for = began.elapsed();
    let reached = watch.stop();
    println!("open for {:.1} s; reached: {reached}", open_for.as_secs_f64());
    println!("{}", said.lines().last().unwrap_or_default());
    for place in ["the fabric", "ens1v23, answered"] {
        assert!(reached.0.contains_key(place), "{place}: {reached}");
    }

    // From then on nothing, though the bridge is there.
    assert_eq!(up(), Vec::<String>::new());
    let watch = Watch::start(&functions, &[&pod, &far]);
    std::thread::sleep(tests::patience(PAUSE));
    NIC.vsctl(&["del-br", "ovsbr1"]);
    start(&["ovn-controller", "agent"]);
    NIC.settle();
    until("the pod is reached again", Duration::from_mins(1), || {
        if pod.pings(&far.ip) { Ok(()) } else { Err("no answer".to_owned()) }
    });
    let after = watch.stop();
    assert!(after.nothing(), "{after:#?}");
}

#[test]
fn beside_a_running_agent_nothing_is_changed() {
    let _restored = Restored;
    let pod = Pod::add(&Wish { name: "beside1", host: "host1", vf: 21, options: &[] });
    let far = Pod::add(&Wish { name: "beside2", host: "host2", vf: 21, options: &[] });
    NIC.settle();
    let before = State::of(NIC);
    let refused = close("");
    assert_eq!(refused.code, Some(75), "{refused:?}");
    assert!(refused.stderr.contains("nic-agent runs here") && refused.stdout.is_empty(), "{refused:?}");
    let index = NIC.run(&["cat", "/sys/class/net/pf0vf21/ifindex"]).ok();
    close(&format!("--ifindex {}", index.trim())).ok();
    assert_eq!(State::of(NIC), before);
    assert!(pod.pings(&far.ip));
    // Nor does a second agent begin.
    let second = sh("nic1", &format!("timeout 30 {PROGRAM} --config /etc/nic-agent/nic-agent.toml"));
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains("another nic-agent runs"), "{second:?}");
    assert_eq!(State::of(NIC), before);

    // Who insists cuts the pods off, for as long as the agent needs to see it.
    let began = Instant::now();
    close("--force");
    until("the agent has opened its pod's again", Duration::from_secs(30), || {
        if up() == ["pf0vf21"] { Ok(()) } else { Err(format!("{:?}", up())) }
    });
    println!("--force beside an agent: open again after {} ms", began.elapsed().as_millis());
    assert!(pod.pings(&far.ip));

    // An agent that is stopped does not open it again: its pods are cut off until it starts.
    NIC.daemon("agent", "stop");
    assert!(pod.pings(&far.ip), "stopping changes nothing");
    close("").ok();
    assert_eq!(up(), Vec::<String>::new());
    assert!(!pod.pings(&far.ip));
    NIC.daemon("agent", "start");
    NIC.settle();
    assert!(pod.pings(&far.ip));
}

/// What udev runs for each representor that comes, after whatever set it up. (There is no udev here.)
#[test]
fn one_that_comes_later_is_closed_and_no_other() {
    let _restored = Restored;
    for daemon in ["agent", "ovn-controller", "vswitchd", "ovsdb"] {
        NIC.daemon(daemon, "stop");
    }
    close("").ok();
    open("pf0vf23");
    let index =
        |name: &str| NIC.run(&["cat", &format!("/sys/class/net/{name}/ifindex")]).ok().trim().to_owned();
    open("pf0vf24");
    close(&format!("--ifindex {}", index("pf0vf24"))).ok();
    assert_eq!(up(), ["pf0vf23"], "that one and no other");
    assert!(NIC.run(&["tc", "filter", "show", "dev", "pf0vf24", "ingress"]).ok().contains("drop"));
    // Neither the NIC's own, nor one that has gone.
    for own in ["p0", "oob_net0", "lo"] {
        close(&format!("--ifindex {}", index(own))).ok();
        assert!(NIC.run(&["ip", "-o", "link", "show", "dev", own]).ok().contains(",UP"), "{own}");
    }
    close("--ifindex 65432").ok();
}
