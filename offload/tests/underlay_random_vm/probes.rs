//! Real packets between the hosts, and what of them arrives. Of every host two threads live in its network namespace: one
//! answers and notes every frame that comes in, one sends. Arrival is judged there, at the receiver, by a packet socket:
//! it sees a SYN or a datagram whatever becomes of it afterwards.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use offload::policy::{Direction, Packet, PodPolicy, decide};
use offload::tuple::{ICMP, ICMPV6, L4, TCP, Tuple, UDP};

use crate::outbox::Outbox;
use crate::patience::patience;
use crate::stand::{address, enter};

pub const TCP_PORTS: [u16; 2] = [80, 5000];
pub const UDP_PORTS: [u16; 2] = [443, 5000];
/// Where nobody answers.
pub const SILENT_PORT: u16 = 6500;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Tcp(u16),
    Udp(u16),
    /// A datagram of a flow that goes on from round to round and is never answered: it stays a new connection, and once
    /// it was allowed the eSwitch itself asks the policy about it.
    Silent,
    Echo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Probe {
    pub from: usize,
    pub to: usize,
    pub is_ipv6: bool,
    pub kind: Kind,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = if self.is_ipv6 { "IPv6" } else { "IPv4" };
        write!(f, "host {} to host {}, {version}, {:?}", self.from, self.to, self.kind)
    }
}

impl Probe {
    /// Every ordered pair, each version, each port, echo.
    pub fn all(hosts: usize) -> Vec<Self> {
        let kinds = TCP_PORTS
            .map(Kind::Tcp)
            .into_iter()
            .chain(UDP_PORTS.map(Kind::Udp))
            .chain([Kind::Silent, Kind::Echo]);
        let mut all = Vec::new();
        for from in 0..hosts {
            for to in (0..hosts).filter(|to| *to != from) {
                for is_ipv6 in [false, true] {
                    all.extend(kinds.clone().map(|kind| Self { from, to, is_ipv6, kind }));
                }
            }
        }
        all
    }

    /// Its tuple, and that of an answer. `id` is the source port, the id of an echo, or what a silent datagram says.
    pub fn tuples(&self, id: u16) -> [Tuple; 2] {
        let (src, dst) = (address(self.from, self.is_ipv6), address(self.to, self.is_ipv6));
        let echo = if self.is_ipv6 { (ICMPV6, 128, 129) } else { (ICMP, 8, 0) };
        let (proto, there, back) = match self.kind {
            Kind::Tcp(port) => (TCP, L4::Ports { src: id, dst: port }, L4::Ports { src: port, dst: id }),
            Kind::Silent => (UDP, L4::Ports { src: id, dst: SILENT_PORT }, L4::None),
            Kind::Udp(port) => (UDP, L4::Ports { src: id, dst: port }, L4::Ports { src: port, dst: id }),
            Kind::Echo => {
                (echo.0, L4::Icmp { kind: echo.1, code: 0, id }, L4::Icmp { kind: echo.2, code: 0, id })
            }
        };
        [Tuple { src, dst, proto, l4: there }, Tuple { src: dst, dst: src, proto, l4: back }]
    }

    /// What the policies say of it. Hosts beyond the policies have none.
    pub fn is_allowed(&self, policies: &[PodPolicy]) -> bool {
        let packet: Packet = self.tuples(0)[0].packet();
        let allows = |host: usize, direction| {
            policies.get(host).is_none_or(|it| decide(it.rules(direction), direction, &packet).allowed)
        };
        allows(self.from, Direction::Egress) && allows(self.to, Direction::Ingress)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It arrived although it is denied.
    Passed(Probe),
    /// It, or the answer, did not arrive although it is allowed.
    Lost(Probe),
    /// It arrived at another host.
    Strayed(Probe, usize),
    /// It arrived long after it was sent, when other policies were in force.
    Late(String),
    /// What the session, the plan or the hardware says of itself.
    State(String),
}

type Arrived = Arc<Mutex<HashSet<Tuple>>>;

enum Order {
    Send(Vec<(Probe, u16)>),
    /// The datagrams once more.
    Repeat,
    /// Closes what was opened.
    Close,
}

struct Station {
    arrived: Arrived,
    orders: Option<mpsc::Sender<(Order, mpsc::Sender<()>)>>,
    threads: Vec<JoinHandle<()>>,
}

pub struct Hosts {
    stations: Vec<Station>,
    over: Arc<AtomicBool>,
    next_id: u16,
    denied: HashMap<Tuple, Probe>,
    /// Of all that was asked: allowed, denied, asked once more.
    pub allowed: usize,
    pub refused: usize,
    pub repeated: usize,
}

/// Listeners have lower ports.
const FIRST_ID: u16 = 10_000;

impl Hosts {
    pub fn new(count: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let stations = (0..count).map(|host| Station::new(host, &over)).collect();
        Self {
            stations,
            over,
            next_id: FIRST_ID,
            denied: HashMap::new(),
            allowed: 0,
            refused: 0,
            repeated: 0,
        }
    }

    fn order(&self, orders: impl Iterator<Item = (usize, Order)>) {
        let (done, all_done) = mpsc::channel();
        for (host, order) in orders {
            self.stations[host].orders.as_ref().unwrap().send((order, done.clone())).unwrap();
        }
        drop(done);
        // Ends when each has dropped its end.
        for () in all_done {}
    }

    /// Sends all of them and compares what arrives with what the policies say. What is allowed and was not seen is asked
    /// twice more; what is denied and was seen is a difference at once.
    pub fn judge(&mut self, policies: &[PodPolicy], probes: &[Probe]) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut left = probes.to_vec();
        for wait in [250, 300, 1500].map(Duration::from_millis) {
            let allowed = left.iter().filter(|probe| probe.is_allowed(policies)).count();
            if wait == Duration::from_millis(250) {
                self.allowed += allowed;
                self.refused += left.len() - allowed;
            } else {
                self.repeated += left.len();
            }
            left = self.attempt(policies, &left, patience(wait), &mut differences);
            if left.is_empty() || !differences.is_empty() {
                break;
            }
        }
        differences.extend(left.into_iter().map(Difference::Lost));
        differences
    }

    /// Returns what is allowed and was not seen.
    fn attempt(
        &mut self,
        policies: &[PodPolicy],
        probes: &[Probe],
        patience: Duration,
        differences: &mut Vec<Difference>,
    ) -> Vec<Probe> {
        let id = self.next_id;
        self.next_id = if id == u16::MAX { FIRST_ID } else { id + 1 };
        let mut by_host: HashMap<usize, Vec<(Probe, u16)>> = HashMap::new();
        let (mut wanted, mut asked) = (HashMap::new(), HashMap::new());
        for probe in probes {
            by_host.entry(probe.from).or_default().push((*probe, id));
            let [there, back] = probe.tuples(id);
            // The same tuple of 55 000 attempts ago, if it is there, is no longer meant.
            self.denied.remove(&there);
            if probe.is_allowed(policies) {
                wanted.insert((probe.to, there), *probe);
                if probe.kind != Kind::Silent {
                    wanted.insert((probe.from, back), *probe);
                }
            } else {
                self.denied.insert(there, *probe);
            }
            asked.insert(there, *probe);
            asked.insert(back, *probe);
        }
        let senders: Vec<usize> = by_host.keys().copied().collect();
        self.order(by_host.into_iter().map(|(host, shots)| (host, Order::Send(shots))));
        // What was answered is established, and the eSwitch's own; what was denied stays denied.
        for part in 0..3 {
            std::thread::sleep(patience / 3);
            if part < 2 {
                self.order(senders.iter().map(|host| (*host, Order::Repeat)));
            }
        }
        // Nothing of it goes on: not a SYN is sent once more when other policies are in force.
        self.order(senders.into_iter().map(|host| (host, Order::Close)));
        for (host, seen) in self.stations.iter().enumerate() {
            for tuple in std::mem::take(&mut *seen.arrived.lock().unwrap()) {
                if wanted.remove(&(host, tuple)).is_some() {
                    continue;
                }
                match (asked.get(&tuple), self.denied.get(&tuple)) {
                    (Some(probe), _) if address(host, probe.is_ipv6) != tuple.dst => {
                        differences.push(Difference::Strayed(*probe, host));
                    }
                    (Some(probe), _) => differences.push(Difference::Passed(*probe)),
                    (None, Some(probe)) => differences.push(Difference::Late(probe.to_string())),
                    // The end of a connection of an earlier round.
                    (None, None) => {}
                }
            }
        }
        let mut left: Vec<Probe> = wanted.into_values().collect();
        left.sort_unstable();
        left.dedup();
        left
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for station in &mut self.stations {
            station.orders = None;
            for thread in station.threads.drain(..) {
                let _ = thread.join();
            }
        }
    }
}

impl Station {
    fn new(host: usize, over: &Arc<AtomicBool>) -> Self {
        let arrived = Arrived::default();
        let (orders, inbox) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        let (over, seen) = (Arc::clone(over), Arc::clone(&arrived));
        let receiver = std::thread::spawn(move || receive(host, &over, &seen, &ready));
        let sender = std::thread::spawn(move || {
            enter(host);
            let mut sender = Outbox::new(host);
            for (order, done) in inbox {
                match order {
                    Order::Send(shots) => {
                        for (probe, id) in &shots {
                            sender.send(*probe, *id);
                        }
                        sender.last = shots;
                    }
                    Order::Repeat => {
                        let shots = std::mem::take(&mut sender.last);
                        for (probe, id) in &shots {
                            if matches!(probe.kind, Kind::Udp(_) | Kind::Silent) {
                                sender.send(*probe, *id);
                            }
                        }
                        sender.last = shots;
                    }
                    Order::Close => sender.opened.clear(),
                }
                drop::<mpsc::Sender<()>>(done);
            }
        });
        is_ready.recv().unwrap();
        Self { arrived, orders: Some(orders), threads: vec![receiver, sender] }
    }
}

// === receiving ===

/// Everything that comes in, on whatever device.
pub fn capture() -> std::fs::File {
    let raw =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_NONBLOCK, SockProtocol::EthAll).unwrap();
    setsockopt(&raw, sockopt::RcvBufForce, &(4 << 20)).unwrap();
    raw.into()
}

fn receive(host: usize, over: &AtomicBool, arrived: &Mutex<HashSet<Tuple>>, ready: &mpsc::Sender<()>) {
    enter(host);
    let mut capture = capture();
    let any = |port: u16| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let tcp = TCP_PORTS.map(|port| TcpListener::bind(any(port)).unwrap());
    let udp = UDP_PORTS.map(|port| UdpSocket::bind(any(port)).unwrap());
    for listener in &tcp {
        listener.set_nonblocking(true).unwrap();
    }
    for socket in &udp {
        socket.set_nonblocking(true).unwrap();
    }
    // Never read: what arrives there is seen by the packet socket.
    let _silent = UdpSocket::bind(any(SILENT_PORT)).unwrap();
    ready.send(()).unwrap();
    let own = [address(host, false), address(host, true)];
    let mut accepted = VecDeque::new();
    let mut frame = [0; 2048];
    while !over.load(Ordering::Relaxed) {
        let files = [capture.as_fd()]
            .into_iter()
            .chain(tcp.iter().map(AsFd::as_fd))
            .chain(udp.iter().map(AsFd::as_fd));
        let mut files: Vec<PollFd<'_>> = files.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let _ = poll(&mut files, PollTimeout::from(100u8));
        for socket in &udp {
            while let Ok((length, from)) = socket.recv_from(&mut frame) {
                let _ = socket.send_to(&frame[..length], from);
            }
        }
        for listener in &tcp {
            while let Ok((stream, _)) = listener.accept() {
                // The client ends it.
                accepted.push_back(stream);
            }
        }
        accepted.drain(..accepted.len().saturating_sub(20));
        while let Ok(length) = capture.read(&mut frame) {
            // What goes out is seen, too.
            if let Some(tuple) = parse(&frame[..length]).filter(|it| !own.contains(&it.src)) {
                arrived.lock().unwrap().insert(tuple);
            }
        }
    }
}

/// The tuple of an untagged IP frame. Of a silent datagram, what it says stands for the source port.
pub fn parse(frame: &[u8]) -> Option<Tuple> {
    let word = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
    let byte = |at: usize| frame.get(at).copied();
    let (src, dst, proto, at): (IpAddr, IpAddr, u8, usize) = match word(12)? {
        0x0800 => {
            let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?));
            (address(26)?.into(), address(30)?.into(), byte(23)?, 14 + usize::from(byte(14)? & 15) * 4)
        }
        0x86dd => {
            let address =
                |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(frame.get(at..at + 16)?).ok()?));
            (address(22)?.into(), address(38)?.into(), byte(20)?, 54)
        }
        _ => return None,
    };
    let l4 = match proto {
        UDP if word(at + 2)? == SILENT_PORT => L4::Ports { src: word(at + 8)?, dst: SILENT_PORT },
        TCP | UDP => L4::Ports { src: word(at)?, dst: word(at + 2)? },
        ICMP | ICMPV6 => L4::Icmp { kind: byte(at)?, code: byte(at + 1)?, id: word(at + 4)? },
        _ => L4::None,
    };
    Some(Tuple { src, dst, proto, l4 })
}
