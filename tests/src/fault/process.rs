//! A program of the lab that gets little of the processor, or nothing at all for a while.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::nic::Nic;
use crate::until;

/// The VM's, cgroup v2.
const CGROUPS: &str = "/sys/fs/cgroup";
/// `cpu.max`: the share is had of each such time, in microseconds.
const PERIOD: u32 = 100_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon of a NIC that gets no more than a share of one core, as long as this lives.
#[derive(Debug)]
pub struct Throttled {
    group: PathBuf,
    /// Where it was before, as cgroup(7) has it in `/proc/PID/cgroup`.
    before: PathBuf,
    /// The controller was not handed down before.
    was_off: bool,
}

impl Throttled {
    /// `permille` of a core. One at a time of each daemon.
    #[track_caller]
    pub fn start(nic: Nic, daemon: &str, permille: u32) -> Self {
        let control = Path::new(CGROUPS).join("cgroup.subtree_control");
        let handed_down =
            fs::read_to_string(&control).unwrap_or_else(|e| panic!("{}: {e}", control.display()));
        let was_off = !handed_down.split_whitespace().any(|it| it == "cpu");
        if was_off {
            put(&control, "+cpu");
        }
        let pid = nic.pid(daemon);
        let before = group_of(pid);
        let group = Path::new(CGROUPS).join(format!("test-{}-{daemon}", nic.place()));
        fs::create_dir_all(&group).unwrap_or_else(|e| panic!("{}: {e}", group.display()));
        // From here on, so that a panic below puts all back.
        let it = Self { group, before, was_off };
        put(&it.group.join("cpu.max"), &format!("{} {PERIOD}", PERIOD / 1000 * permille));
        put(&it.group.join("cgroup.procs"), &pid.to_string());
        it
    }

    /// How long it has wanted the processor and was not given it.
    pub fn held_back(&self) -> Duration {
        let stat = fs::read_to_string(self.group.join("cpu.stat")).unwrap_or_default();
        let micros = stat.lines().find_map(|it| it.strip_prefix("throttled_usec ")?.parse().ok());
        Duration::from_micros(micros.unwrap_or_default())
    }
}

impl Drop for Throttled {
    fn drop(&mut self) {
        // A program that has died meanwhile is not in it, nor is the one in its place.
        let inside = fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default();
        for pid in inside.lines() {
            let _ = fs::write(self.before.join("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.group);
        if self.was_off {
            // Fails as long as another one is held back.
            let _ = fs::write(Path::new(CGROUPS).join("cgroup.subtree_control"), "-cpu");
        }
    }
}

#[track_caller]
fn put(path: &Path, value: &str) {
    fs::write(path, value).unwrap_or_else(|e| panic!("{value} to {}: {e}", path.display()));
}

#[track_caller]
fn group_of(pid: Pid) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("a process of the lab");
    let path =
        text.lines().find_map(|it| it.strip_prefix("0::/")).unwrap_or_else(|| panic!("cgroup v2: {text}"));
    Path::new(CGROUPS).join(path)
}

/// A daemon of a NIC that stands still, all its threads, as long as this lives.
#[derive(Debug)]
pub struct Frozen(Pid);

impl Frozen {
    #[track_caller]
    pub fn start(nic: Nic, daemon: &str) -> Self {
        let it = Self(nic.pid(daemon));
        freeze(it.0, daemon);
        it
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

/// Returns when no thread of the program runs any more: on a busy machine the thread that the signal is for gets the
/// processor later than others.
#[track_caller]
pub fn freeze(pid: Pid, name: &str) {
    kill(pid, Signal::SIGSTOP).expect("a program of ours");
    until(&format!("{name} stands still"), PATIENCE, || {
        match states(pid).iter().filter(|it| **it != 'T').count() {
            0 => Ok(()),
            left => Err(format!("{left} of its threads do not")),
        }
    });
}

/// Of a process' threads, as proc(5) has them in `stat`, after the name.
fn states(pid: Pid) -> Vec<char> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("a program of ours");
    let state = |stat: String| stat.rsplit_once(") ").and_then(|(_, after)| after.chars().next());
    // A thread that has ended meanwhile has none.
    threads.filter_map(|it| state(fs::read_to_string(it.ok()?.path().join("stat")).ok()?)).collect()
}
