//! Traffic that counts itself: a UDP echo at a steady rate, each datagram numbered; a TCP connection; new connections, and
//! packets that only begin them.

mod beginning;
mod denied;
mod newcomers;
mod stream;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};

pub use beginning::{Beginning, Beginnings, Begins, End};
pub use denied::Denied;
pub use newcomers::{By, Newcomers};
pub use stream::{Stream, TcpEcho};

use crate::netns::{self, Located};
use crate::patience::patience;

/// How long the last answers may take: those who are to give them may not have the processor for a while.
const LAST: Duration = Duration::from_secs(5);

/// A thread that does not get the processor for a second must not lose what came meanwhile.
fn roomy(socket: &UdpSocket) {
    setsockopt(socket, sockopt::RcvBufForce, &(8 << 20)).expect("root may have any buffer");
}

/// Answers every datagram until dropped.
pub struct Echo {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    pub port: u16,
}

impl Echo {
    pub fn start(pod: &impl Located, port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let socket =
            netns::within(&pod.place(), move || UdpSocket::bind(("::", port)).expect("bind in the pod"));
        roomy(&socket);
        let thread = std::thread::spawn(move || {
            socket.set_read_timeout(Some(Duration::from_millis(100))).expect("time-out");
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..length], from);
                }
            }
        });
        Self { stop, thread: Some(thread), port }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What became of the datagrams.
#[derive(Debug, Clone)]
pub struct Report {
    pub sent: u32,
    pub answered: u32,
    /// Of datagrams that are numbered: the first and the last one without an answer, from 0. At the very end they may only
    /// have been late.
    pub unanswered: Option<(u32, u32)>,
    /// The longest time without an answer.
    pub longest_gap: Duration,
}

impl Report {
    pub fn lost(&self) -> u32 {
        self.sent - self.answered
    }
}

/// A client that keeps one connection (one 5-tuple) busy until it is stopped.
pub struct Client {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
    thread: JoinHandle<Report>,
}

impl Client {
    /// Sends to `address:port` every `interval`.
    pub fn start(pod: &impl Located, address: &str, port: u16, interval: Duration) -> Self {
        let address: IpAddr = address.parse().expect("an address");
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (stopped, counted) = (stop.clone(), answered.clone());
        let any: SocketAddr = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().expect("any");
        let socket = netns::within(&pod.place(), move || {
            let socket = UdpSocket::bind(any).expect("bind in the pod");
            socket.connect((address, port)).expect("connect");
            socket
        });
        roomy(&socket);
        let thread = std::thread::spawn(move || run(&socket, &stopped, &counted, interval));
        Self { stop, answered, thread }
    }

    /// Datagrams until now.
    pub fn answered(&self) -> u32 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Sends no more. Of several, so that they wait for their last answers together.
    pub fn halt(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for the last answers and reports.
    pub fn stop(self) -> Report {
        self.halt();
        self.thread.join().expect("the client's thread")
    }
}

fn run(socket: &UdpSocket, stop: &AtomicBool, answered: &AtomicU32, interval: Duration) -> Report {
    let mut answers = BTreeSet::new();
    let (mut sent, mut last, mut gap) = (0u32, Instant::now(), Duration::ZERO);
    let mut next = Instant::now();
    let mut take = |wait: Duration, last: &mut Instant, gap: &mut Duration| {
        socket.set_read_timeout(Some(wait.max(Duration::from_millis(1)))).expect("time-out");
        let mut buffer = [0; 64];
        if let Ok(4) = socket.recv(&mut buffer) {
            answers.insert(u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]));
            *gap = (*gap).max(last.elapsed());
            *last = Instant::now();
            answered.store(u32::try_from(answers.len()).expect("few"), Ordering::Relaxed);
        }
        answers.len()
    };
    while !stop.load(Ordering::Relaxed) {
        // A refused or unroutable datagram is a lost one.
        let _ = socket.send(&sent.to_be_bytes());
        sent += 1;
        next += interval;
        while let Some(left) = next.checked_duration_since(Instant::now()) {
            take(left, &mut last, &mut gap);
        }
    }
    let end = Instant::now() + patience(LAST);
    while Instant::now() < end && take(Duration::from_millis(50), &mut last, &mut gap) < sent as usize {}
    let missing = |number: &u32| !answers.contains(number);
    Report {
        sent,
        answered: u32::try_from(answers.len()).expect("few"),
        unanswered: (0..sent).find(missing).zip((0..sent).rev().find(missing)),
        longest_gap: gap,
    }
}
