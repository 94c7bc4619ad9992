//! What arrives at an interface, each packet with the time at which the kernel saw it: tcpdump writes, this reads. For
//! traffic of which there is too much to be printed, and for what counts only from a moment on.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command::in_place;

/// Enough for a second without the processor.
const BUFFER: &str = "16384";
/// Of a file in pcap-savefile(5)'s format, and of each packet in it.
const HEADER: usize = 24;
const RECORD: usize = 16;
/// Headers, and no more.
const SNAP: &str = "128";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A packet's first bytes, from the link-level header on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Since 1970, as `SystemTime` has it.
    pub at: Duration,
    pub bytes: Vec<u8>,
}

/// A running tcpdump.
#[derive(Debug)]
pub struct Recording {
    child: Child,
    said: BufReader<ChildStderr>,
    path: String,
    file: File,
    unread: Vec<u8>,
    begun: bool,
}

impl Recording {
    /// Everything that *arrives* at the interface and matches the filter of pcap-filter(7). Returns when it listens.
    #[track_caller]
    pub fn start(place: &str, interface: &str, filter: &str) -> Self {
        let path = format!("/tmp/recording.{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // The file is there, and is ours, before tcpdump opens it.
        drop(File::create(&path).unwrap_or_else(|e| panic!("{path}: {e}")));
        let options =
            ["-Z", "root", "-n", "-p", "-Q", "in", "-U", "--immediate-mode", "-B", BUFFER, "-s", SNAP];
        let mut arguments = vec!["tcpdump"];
        arguments.extend(options);
        arguments.extend(["-i", interface, "-w", &path, filter]);
        let mut child = in_place(place, &arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump");
        let mut said = BufReader::new(child.stderr.take().expect("stderr"));
        let mut text = String::new();
        while !text.contains("listening on") {
            let read = said.read_line(&mut text).expect("tcpdump's stderr");
            assert!(read > 0, "tcpdump at {place} {interface}: {text}");
        }
        let file = File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        Self { child, said, path, file, unread: Vec::new(), begun: false }
    }

    /// What has been written since the last time.
    #[track_caller]
    pub fn read(&mut self) -> Vec<Packet> {
        self.file.read_to_end(&mut self.unread).unwrap_or_else(|e| panic!("{}: {e}", self.path));
        if !self.begun {
            if self.unread.len() < HEADER {
                return Vec::new();
            }
            let header: Vec<u8> = self.unread.drain(..HEADER).collect();
            // This machine's own byte order, microseconds, Ethernet.
            assert_eq!((word(&header, 0), word(&header, 20) & 0xffff), (0xa1b2_c3d4, 1), "{}", self.path);
            self.begun = true;
        }
        let (packets, used) = parse(&self.unread);
        self.unread.drain(..used);
        packets
    }

    /// Ends it. What was not read before, and how many packets tcpdump was too slow for.
    #[track_caller]
    pub fn stop(mut self) -> (Vec<Packet>, u64) {
        // It does not run through what has come already, so it gets the time for that.
        std::thread::sleep(Duration::from_millis(700));
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, Signal::SIGINT).expect("tcpdump runs until it is told");
        let mut text = String::new();
        self.said.read_to_string(&mut text).expect("tcpdump's stderr");
        let missed = text.lines().find_map(|it| it.split_once(" packets dropped by kernel")?.0.parse().ok());
        let missed = missed.unwrap_or_else(|| panic!("tcpdump does not say how many it missed: {text}"));
        (self.read(), missed)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.path);
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Whole packets, and how many bytes they take.
fn parse(bytes: &[u8]) -> (Vec<Packet>, usize) {
    let (mut packets, mut used) = (Vec::new(), 0);
    while bytes.len() >= used + RECORD {
        let [seconds, micros, length] = [0, 4, 8].map(|it| word(bytes, used + it));
        let (from, to) = (used + RECORD, used + RECORD + length as usize);
        if bytes.len() < to {
            break;
        }
        let at = Duration::new(seconds.into(), micros * 1000);
        packets.push(Packet { at, bytes: bytes[from..to].to_vec() });
        used = to;
    }
    (packets, used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_that_is_half_written_waits() {
        let mut bytes = Vec::new();
        for (seconds, payload) in [(7u32, b"abc".as_slice()), (8, b"de")] {
            let length = u32::try_from(payload.len()).unwrap();
            bytes.extend([seconds, 250, length, 1500].map(u32::to_ne_bytes).as_flattened());
            bytes.extend(payload);
        }
        let packet =
            |seconds, payload: &[u8]| Packet { at: Duration::new(seconds, 250_000), bytes: payload.to_vec() };
        let both = vec![packet(7, b"abc"), packet(8, b"de")];
        assert_eq!(parse(&bytes), (both.clone(), bytes.len()));
        for length in 0..bytes.len() {
            let (packets, used) = parse(&bytes[..length]);
            assert_eq!((packets.len(), used), if length < 19 { (0, 0) } else { (1, 19) });
            let (rest, _) = parse(&bytes[used..]);
            assert_eq!([packets, rest].concat(), both);
        }
    }
}
