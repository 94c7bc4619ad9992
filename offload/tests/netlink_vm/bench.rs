//! What each test needs: a network namespace of its own, a simulated NIC in it, and observers that are not ours.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

/// Not in the way of the lab's own NICs, which count from 1.
static NEXT_NIC: AtomicU32 = AtomicU32::new(0x300);
/// simnic's faults are the module's, not one NIC's: one test at a time.
static SERIAL: Mutex<()> = Mutex::new(());

const DEBUGFS: &str = "/sys/kernel/debug/simnic";

/// A fresh network namespace around this test's thread. Children and netlink sockets inherit it.
pub struct Bench {
    nics: Vec<u32>,
    _serial: MutexGuard<'static, ()>,
}

impl Bench {
    /// Panics, with the reason, where these tests cannot tell anything.
    pub fn new() -> Self {
        let serial = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            Path::new(DEBUGFS).is_dir(),
            "{DEBUGFS} is not there: these tests need the lab VM with simnic.ko loaded"
        );
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of its own needs root");
        run("ip link set lo up");
        run("ip link add probe type dummy");
        run("tc qdisc add dev probe clsact");
        let flower = output("tc filter add dev probe ingress pref 1 protocol all flower action drop");
        assert!(flower.is_ok(), "this kernel has no cls_flower or no act_gact: {flower:?}");
        run("ip link del probe");
        Self { nics: vec![], _serial: serial }
    }

    /// A NIC whose side is in this namespace.
    pub fn nic(&mut self, vfs: u32) -> Nic {
        let id = NEXT_NIC.fetch_add(1, Ordering::Relaxed);
        write("new", &format!("{id} {vfs}"));
        self.nics.push(id);
        let nic = Nic { device: format!("pci/{:04x}:03:00.0", 0x2000 + id), id };
        nic.usual_names();
        nic
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        for id in self.nics.drain(..) {
            let deleted = std::fs::write(Path::new(DEBUGFS).join("del"), id.to_string());
            if let Err(error) = deleted {
                eprintln!("simnic {id} stays: {error}");
            }
        }
    }
}

pub struct Nic {
    pub device: String,
    pub id: u32,
}

impl Nic {
    /// The lab may have told simnic to give names that say nothing. These tests speak of p0, pf0hpf and pf0vfN.
    fn usual_names(&self) {
        let ports = json("devlink -j port show")["port"].clone();
        let wrong = ports.as_object().unwrap().iter().filter_map(|(handle, port)| {
            let usual = match port["flavour"].as_str().unwrap() {
                "physical" => "p0".to_owned(),
                "pcipf" => "pf0hpf".to_owned(),
                _ => format!("pf0vf{}", port["vfnum"]),
            };
            let name = port["netdev"].as_str().unwrap();
            (handle.starts_with(&self.device) && name != usual)
                .then(|| format!("link set {name} name {usual}"))
        });
        let renames: Vec<_> = wrong.collect();
        if !renames.is_empty() {
            batch("ip", renames);
        }
    }
}

fn write(file: &str, text: &str) {
    let path = PathBuf::from(DEBUGFS).join(file);
    std::fs::write(&path, text).unwrap_or_else(|error| panic!("{text:?} to {}: {error}", path.display()));
}

/// A module parameter of simnic.
pub fn parameter(name: &str, value: &str) {
    let path = format!("/sys/module/simnic/parameters/{name}");
    std::fs::write(&path, value).unwrap_or_else(|error| panic!("{value:?} to {path}: {error}"));
}

pub fn output(line: &str) -> Result<String, String> {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap();
    let output = Command::new(program).args(words).output().unwrap_or_else(|error| panic!("{line}: {error}"));
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

pub fn run(line: &str) -> String {
    output(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// What a tool says in JSON.
pub fn json(line: &str) -> Value {
    let text = run(line);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error}: {text}"))
}

/// `tc`'s view of a device's ingress filters, without the entries that stand for a classifier.
pub fn tc_filters(device: &str) -> Vec<Value> {
    let all = json(&format!("tc -j filter show dev {device} ingress"));
    all.as_array().unwrap().iter().filter(|filter| filter.get("options").is_some()).cloned().collect()
}

/// Many commands of `ip` or `tc` in one process: starting 300 takes a minute in emulation.
pub fn batch(program: &str, lines: impl IntoIterator<Item = String>) {
    let file = std::env::temp_dir().join(format!("netlink-vm-{}", std::process::id()));
    let text: String = lines.into_iter().map(|line| line + "\n").collect();
    std::fs::write(&file, text).unwrap();
    run(&format!("{program} -batch {}", file.display()));
    std::fs::remove_file(&file).unwrap();
}
