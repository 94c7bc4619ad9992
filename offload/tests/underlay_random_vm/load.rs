//! Traffic that goes on while something changes: what is always allowed, of which nothing may be lost, and what is never
//! allowed, of which nothing may arrive.

use std::collections::{BTreeSet, VecDeque};
use std::io::{ErrorKind, Read};
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use offload::tuple::{L4, UDP};

use crate::patience::patience;
use crate::probes::{capture, parse};
use crate::stand::{address, enter};

/// Room for what is not read at once.
const BUFFER: usize = 8 << 20;
/// What was sent so long ago has arrived, and its answer, too, or is lost. On a busy machine who echoes may be seconds late; and
/// for so long each connection of one datagram keeps its socket.
const GRACE: Duration = Duration::from_secs(5);

fn bound(host: usize, is_ipv6: bool) -> UdpSocket {
    let socket = UdpSocket::bind((address(host, is_ipv6), 0)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

// === allowed ===

/// What became of a stream.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    pub sent: u64,
    pub missing: Vec<u64>,
    pub answered: u64,
    /// Connections, the first one included.
    pub connections: u64,
}

/// Datagrams with a number each, and their echoes. Every tenth begins a connection of its own, the others belong to one.
pub struct Stream {
    over: Arc<AtomicBool>,
    sender: JoinHandle<Carried>,
    echoer: JoinHandle<BTreeSet<u64>>,
    is_echoer_over: Arc<AtomicBool>,
}

impl Stream {
    pub fn start(from: usize, to: usize, is_ipv6: bool, port: u16, per_second: u32) -> Self {
        let (over, is_echoer_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (ready, is_ready) = mpsc::channel();
        let end = Arc::clone(&is_echoer_over);
        let echoer = spawn(move || {
            enter(to);
            let socket = UdpSocket::bind((address(to, is_ipv6), port)).unwrap();
            setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            ready.send(()).unwrap();
            let (mut seen, mut bytes) = (BTreeSet::new(), [0; 8]);
            while !end.load(Ordering::Relaxed) {
                if let Ok((8, from)) = socket.recv_from(&mut bytes) {
                    seen.insert(u64::from_be_bytes(bytes));
                    let _ = socket.send_to(&bytes, from);
                }
            }
            seen
        });
        is_ready.recv().unwrap();
        let end = Arc::clone(&over);
        let sender = spawn(move || {
            enter(from);
            send(&end, from, (to, port), is_ipv6, per_second)
        });
        Self { over, sender, echoer, is_echoer_over }
    }

    pub fn finish(self) -> Carried {
        self.over.store(true, Ordering::Relaxed);
        let mut carried = self.sender.join().unwrap();
        self.is_echoer_over.store(true, Ordering::Relaxed);
        let seen = self.echoer.join().unwrap();
        carried.missing = (0..carried.sent).filter(|number| !seen.contains(number)).collect();
        carried
    }
}

fn send(over: &AtomicBool, from: usize, (to, port): (usize, u16), is_ipv6: bool, per_second: u32) -> Carried {
    let to = SocketAddr::from((address(to, is_ipv6), port));
    let steady = bound(from, is_ipv6);
    setsockopt(&steady, sockopt::RcvBufForce, &BUFFER).unwrap();
    let mut others: VecDeque<(Instant, UdpSocket)> = VecDeque::new();
    let mut carried = Carried { connections: 1, ..Carried::default() };
    let mut bytes = [0; 8];
    let start = Instant::now();
    let mut answers = |socket: &UdpSocket| std::iter::from_fn(|| socket.recv(&mut bytes).ok()).count() as u64;
    while !over.load(Ordering::Relaxed) {
        let due = u64::try_from(start.elapsed().as_millis()).unwrap() * u64::from(per_second) / 1000;
        while carried.sent < due {
            let number = carried.sent.to_be_bytes();
            if carried.sent % 10 == 9 {
                let other = bound(from, is_ipv6);
                send_one(&other, &number, to);
                others.push_back((Instant::now(), other));
                carried.connections += 1;
            } else {
                send_one(&steady, &number, to);
            }
            carried.sent += 1;
        }
        carried.answered += answers(&steady);
        // By age, not by number: who is late sends many at once.
        while others.front().is_some_and(|(sent, _)| sent.elapsed() > patience(GRACE)) {
            let (_, other) = others.pop_front().unwrap();
            carried.answered += answers(&other);
        }
        sleep(Duration::from_millis(1));
    }
    // What is on its way arrives.
    sleep(patience(GRACE));
    carried.answered += answers(&steady) + others.iter().map(|(_, other)| answers(other)).sum::<u64>();
    carried
}

/// The socket does not block, for the sake of the answers; when it is full it waits all the same.
fn send_one(socket: &UdpSocket, number: &[u8], to: SocketAddr) {
    while let Err(error) = socket.send_to(number, to) {
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        sleep(Duration::from_millis(1));
    }
}

// === denied ===

/// From, to, version, port.
pub type Path = (usize, usize, bool, u16);

/// Datagrams that no policy allows, the whole time, and whether one arrives.
pub struct Denied {
    over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    arrived: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

/// The port that its datagrams come from. It never changes: once one of them was allowed, they belong to a connection.
pub const DENIED_SOURCE: u16 = 9100;

impl Denied {
    pub fn start(paths: &[Path]) -> Self {
        let denied =
            Self { over: Arc::default(), sent: Arc::default(), arrived: Arc::default(), threads: Vec::new() };
        let (ready, is_ready) = mpsc::channel::<()>();
        let mut threads = Vec::new();
        for to in paths.iter().map(|path| path.1).collect::<BTreeSet<_>>() {
            let ports: BTreeSet<u16> = paths.iter().filter(|path| path.1 == to).map(|path| path.3).collect();
            let (over, arrived, ready) =
                (Arc::clone(&denied.over), Arc::clone(&denied.arrived), ready.clone());
            threads.push(spawn(move || watch(to, &ports, &over, &arrived, ready)));
        }
        drop(ready);
        // Ends when all watch.
        let _ = is_ready.recv();
        for from in paths.iter().map(|path| path.0).collect::<BTreeSet<_>>() {
            let own: Vec<Path> = paths.iter().filter(|path| path.0 == from).copied().collect();
            let (over, sent) = (Arc::clone(&denied.over), Arc::clone(&denied.sent));
            threads.push(spawn(move || {
                enter(from);
                let sockets = [false, true]
                    .map(|is_ipv6| UdpSocket::bind((address(from, is_ipv6), DENIED_SOURCE)).unwrap());
                while !over.load(Ordering::Relaxed) {
                    for (_, to, is_ipv6, port) in &own {
                        let to = (address(*to, *is_ipv6), *port);
                        // On the old connection, and on a new one now and then.
                        let _ = sockets[usize::from(*is_ipv6)].send_to(b"denied", to);
                        if sent.fetch_add(1, Ordering::Relaxed) % 8 == 0 {
                            let _ = bound(from, *is_ipv6).send_to(b"denied", to);
                        }
                    }
                    sleep(Duration::from_millis(15));
                }
            }));
        }
        Self { threads, ..denied }
    }

    pub fn arrived(&self) -> Vec<String> {
        self.arrived.lock().unwrap().clone()
    }

    /// How many were sent, and what of them has arrived.
    pub fn finish(self) -> (u64, Vec<String>) {
        sleep(patience(Duration::from_millis(200)));
        self.over.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        (self.sent.load(Ordering::Relaxed), self.arrived.lock().unwrap().clone())
    }
}

fn watch(
    host: usize,
    ports: &BTreeSet<u16>,
    over: &AtomicBool,
    arrived: &Mutex<Vec<String>>,
    ready: mpsc::Sender<()>,
) {
    enter(host);
    let mut capture = capture();
    // So that nobody answers that there is nobody.
    let any = |port: &u16| UdpSocket::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port))).unwrap();
    let _silent: Vec<UdpSocket> = ports.iter().map(any).collect();
    drop(ready);
    let mut frame = [0; 2048];
    let start = Instant::now();
    while !over.load(Ordering::Relaxed) {
        while let Ok(length) = capture.read(&mut frame) {
            let Some(tuple) = parse(&frame[..length]) else { continue };
            let to_port = matches!(tuple.l4, L4::Ports { dst, .. } if ports.contains(&dst));
            let is_incoming = [false, true].iter().any(|is_ipv6| address(host, *is_ipv6) == tuple.dst);
            if tuple.proto == UDP && to_port && is_incoming {
                let at = start.elapsed().as_millis();
                arrived.lock().unwrap().push(format!("after {at} ms: {tuple}"));
            }
        }
        sleep(Duration::from_millis(2));
    }
}
