//! One TCP connection that is kept busy.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{LAST, Report};
use crate::netns::{self, Located};
use crate::patience::patience;

/// Each message is its number.
const MESSAGE: usize = 4;
/// For the handshake, and for the first answer, where SYNs get lost.
const FIRST: Duration = Duration::from_mins(1);

/// Takes every connection and answers what comes, until dropped.
pub struct TcpEcho {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    pub port: u16,
}

impl TcpEcho {
    pub fn start(pod: &impl Located, port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let listener = netns::within(&pod.place(), move || TcpListener::bind(("::", port)).expect("listen"));
        listener.set_nonblocking(true).expect("nonblocking");
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let stopped = stopped.clone();
                        std::thread::spawn(move || answer(stream, &stopped));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(20)),
                }
            }
        });
        Self { stop, thread: Some(thread), port }
    }
}

fn answer(mut stream: TcpStream, stop: &AtomicBool) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_nodelay(true);
    let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) if stream.write_all(&buffer[..length]).is_ok() => {}
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Ok(_) | Err(_) => return,
        }
    }
}

impl Drop for TcpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A connection in which a message is sent every so often until it is stopped. TCP loses nothing: what counts is how
/// long an answer was waited for, and whether all were answered.
pub struct Stream {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
    thread: JoinHandle<Report>,
}

impl Stream {
    /// Returns when the connection is established and the first answer was there.
    #[track_caller]
    pub fn start(pod: &impl Located, address: &str, port: u16, interval: Duration) -> Self {
        let to = SocketAddr::new(address.parse().expect("an address"), port);
        let place = pod.place();
        let mut stream = netns::within(&place, || {
            TcpStream::connect_timeout(&to, patience(FIRST))
                .unwrap_or_else(|e| panic!("{place} to {to}: {e}"))
        });
        stream.set_nodelay(true).expect("no delay");
        stream.set_read_timeout(Some(patience(FIRST))).expect("time-out");
        stream.write_all(&[0; MESSAGE]).expect("the first message");
        stream.read_exact(&mut [0; MESSAGE]).expect("the first answer");
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(1)));
        let (stopped, counted) = (stop.clone(), answered.clone());
        let thread = std::thread::spawn(move || run(stream, &stopped, &counted, interval));
        Self { stop, answered, thread }
    }

    /// Messages until now.
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
        self.thread.join().expect("the stream's thread")
    }
}

fn run(mut stream: TcpStream, stop: &AtomicBool, answered: &AtomicU32, interval: Duration) -> Report {
    stream.set_nonblocking(true).expect("nonblocking");
    let mut report = Report { sent: 1, answered: 1, unanswered: None, longest_gap: Duration::ZERO };
    let (mut received, mut last) = (MESSAGE, Instant::now());
    let mut end = None;
    while end.is_none_or(|end| Instant::now() < end && report.lost() > 0) {
        if stop.load(Ordering::Relaxed) {
            end.get_or_insert_with(|| Instant::now() + patience(LAST));
        } else if stream.write_all(&report.sent.to_be_bytes()).is_ok() {
            report.sent += 1;
        }
        std::thread::sleep(interval);
        let mut buffer = [0; 512];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            received += length;
            report.longest_gap = report.longest_gap.max(last.elapsed());
            last = Instant::now();
        }
        report.answered = u32::try_from(received / MESSAGE).expect("few");
        answered.store(report.answered, Ordering::Relaxed);
    }
    report
}
