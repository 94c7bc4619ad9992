//! What arrives at an interface, as tcpdump sees it: the judge of every isolation test.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::command::in_place;
use crate::patience::patience;

/// A running tcpdump. One line a frame, link-level header first.
pub struct Capture {
    child: Child,
    lines: Receiver<String>,
}

impl Capture {
    /// Everything that *arrives* at the interface and matches the filter of pcap-filter(7).
    #[track_caller]
    pub fn start(place: &str, interface: &str, filter: &str) -> Self {
        let arguments = [
            "tcpdump",
            "-n",
            "-e",
            "-l",
            "-U",
            "-p",
            "-Q",
            "in",
            "--immediate-mode",
            "-i",
            interface,
            filter,
        ];
        let mut child = in_place(place, &arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tcpdump");
        // It listens once it says so.
        let mut said = String::new();
        let mut stderr = BufReader::new(child.stderr.take().expect("stderr"));
        while !said.contains("listening on") {
            let mut line = String::new();
            let read = stderr.read_line(&mut line).expect("tcpdump's stderr");
            assert!(read > 0, "tcpdump at {place} {interface}: {said}");
            said.push_str(&line);
        }
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        let (send, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("stdout"));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Waits for stragglers, stops, and returns what arrived.
    pub fn stop(mut self) -> Vec<String> {
        std::thread::sleep(patience(Duration::from_millis(700)));
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.lines.iter().collect()
    }
}
