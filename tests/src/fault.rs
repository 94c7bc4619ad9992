//! Faults of the simulated NIC, and what it has counted: `tests/lab/simnic/README.md`. Of programs: [`Throttled`], [`Frozen`].

mod process;

use std::collections::BTreeMap;
use std::fs;

use crate::nic::Nic;
pub use process::{Frozen, Throttled, freeze};

const DEBUGFS: &str = "/sys/kernel/debug/simnic";

/// What holds for one NIC as long as this lives; then what was there before.
#[derive(Debug)]
pub struct Knob {
    path: String,
    before: String,
}

impl Knob {
    #[track_caller]
    pub fn turn(nic: Nic, name: &str, value: &str) -> Self {
        let path = format!("{DEBUGFS}/nic{}/{name}", nic.0);
        let before = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")).trim().to_owned();
        write(&path, value);
        Self { path, before }
    }

    /// Another value; what was there before stays known.
    #[track_caller]
    pub fn set(&self, value: &str) {
        write(&self.path, value);
    }
}

impl Drop for Knob {
    fn drop(&mut self) {
        let _ = fs::write(&self.path, &self.before);
    }
}

#[track_caller]
fn write(path: &str, value: &str) {
    fs::write(path, value).unwrap_or_else(|e| panic!("{value} to {path}: {e}"));
}

/// The eSwitch loses all its rules and tells nobody.
#[track_caller]
pub fn forget(nic: Nic) {
    write(&format!("{DEBUGFS}/forget"), &nic.0.to_string());
}

/// Rules that are in the eSwitch now.
#[track_caller]
pub fn rules(nic: Nic) -> u32 {
    let text = fs::read_to_string(format!("{DEBUGFS}/stats")).expect("simnic's stats");
    let mine = format!("nic {} rules ", nic.0);
    let line = text.lines().find_map(|line| line.strip_prefix(&mine)).unwrap_or_else(|| panic!("{text}"));
    line.split(' ').next().and_then(|count| count.parse().ok()).expect("a number")
}

/// Why something was refused, or lost, and how often, since the NIC was made.
#[track_caller]
pub fn counted(nic: Nic) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(format!("{DEBUGFS}/faults")).expect("simnic's faults");
    let mine = format!("nic {} ", nic.0);
    text.lines()
        .filter_map(|line| line.strip_prefix(&mine)?.split_once(' '))
        .map(|(why, count)| (why.to_owned(), count.parse().expect("a number")))
        .collect()
}
