//! Code in another network namespace: on a thread of its own, as a thread has one namespace.

use std::fs::File;

use nix::sched::{CloneFlags, setns};

/// `host1`, `nic1`, `central`, `pod:NAME`, or a namespace's own path, as `/proc/PID/ns/net`.
fn path(place: &str) -> String {
    if place.starts_with('/') {
        return place.to_owned();
    }
    format!("/run/netns/{}", place.replace("pod:", "pod-"))
}

/// Whatever is in a network namespace of its own, with an address of each version.
pub trait Located {
    /// As [`within`] takes it.
    fn place(&self) -> String;
    /// IPv4, then IPv6.
    fn ips(&self) -> [String; 2];
}

/// Runs `work` there and returns what it returned.
pub fn within<T: Send>(place: &str, work: impl FnOnce() -> T + Send) -> T {
    let path = path(place);
    std::thread::scope(|scope| {
        scope
            .spawn(move || {
                let file = File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
                setns(file, CloneFlags::CLONE_NEWNET).unwrap_or_else(|e| panic!("{path}: {e}"));
                work()
            })
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Leaves `work` running there.
pub fn spawn<T: Send + 'static>(
    place: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    let path = path(place);
    std::thread::spawn(move || {
        let file = File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        setns(file, CloneFlags::CLONE_NEWNET).unwrap_or_else(|e| panic!("{path}: {e}"));
        work()
    })
}
