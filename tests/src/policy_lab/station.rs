//! One thread in each pod: serves every port, and sends what it is told to.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, sendto, socket,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Kind;
use super::range::{Event, Key, PORTS, SCTP_PORTS};
use crate::netns;

const WORD: &[u8; 10] = b"drawbridge";
/// What is not answered is sent again, after this and then after twice as long each time: a datagram may get lost where the
/// emulated VM is late, and hundreds that are denied must not be what makes it late.
const AGAIN: Duration = Duration::from_millis(500);
/// But not after more than this: who waits for the answer waits for that, too.
const LONGEST: Duration = Duration::from_secs(4);

/// Of a probe's packets.
pub(super) fn protocol(kind: Kind, source: IpAddr) -> u8 {
    match (kind, source) {
        (Kind::Tcp(_), _) => 6,
        (Kind::Udp(_), _) => 17,
        (Kind::Sctp(_), _) => 132,
        (Kind::Echo, IpAddr::V4(_)) => 1,
        (Kind::Echo, IpAddr::V6(_)) => 58,
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Shot {
    pub(super) key: Key,
    pub(super) to: IpAddr,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Order {
    Fire(Vec<Shot>),
    /// Ends what is under way, but for these: connections that are not yet there will not come, those that are, end.
    CeaseBut(HashSet<Key>),
}

pub(super) struct Station {
    /// None: it is to end.
    orders: Option<UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Station {
    /// Returns when all ports are served.
    #[track_caller]
    pub(super) fn start(
        place: &str,
        addresses: [IpAddr; 2],
        exchanges: usize,
        events: Sender<Event>,
    ) -> Self {
        let (orders, incoming) = unbounded_channel();
        let (serving, is_serving) = std::sync::mpsc::channel();
        let thread = netns::spawn(place, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
            runtime.block_on(async {
                for port in PORTS {
                    let listener = TcpListener::bind(("::", port)).await.expect("a free port");
                    tokio::spawn(accept(listener));
                    let socket = UdpSocket::bind(("::", port)).await.expect("a free port");
                    tokio::spawn(echo(socket));
                }
                // One address each: an association has all that its end is bound to, and probes are of one IP version.
                for (address, port) in addresses.iter().flat_map(|ip| SCTP_PORTS.map(|port| (*ip, port))) {
                    let socket = sctp(SocketAddr::new(address, port)).expect("a free port");
                    tokio::spawn(accept(socket.listen(128).expect("a listening socket")));
                }
                serving.send(()).expect("the starter waits");
                follow(incoming, exchanges, events).await;
            });
        });
        is_serving.recv().expect("the station starts");
        Self { orders: Some(orders), thread: Some(thread) }
    }

    #[track_caller]
    pub(super) fn order(&self, order: Order) {
        let sent = self.orders.as_ref().map(|orders| orders.send(order));
        assert!(matches!(sent, Some(Ok(()))), "the station has ended; its panic is above");
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener) {
    loop {
        // A connection that was reset before it was accepted is no fault.
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    }
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let mut word = [0; 64];
    loop {
        match stream.read(&mut word).await? {
            0 => return Ok(()),
            length => stream.write_all(&word[..length]).await?,
        }
    }
}

async fn echo(socket: UdpSocket) {
    let mut word = [0; 64];
    loop {
        if let Ok((length, from)) = socket.recv_from(&mut word).await {
            // Who has gone meanwhile needs no answer.
            let _ = socket.send_to(&word[..length], from).await;
        }
    }
}

async fn follow(mut orders: UnboundedReceiver<Order>, exchanges: usize, events: Sender<Event>) {
    // Dropped, each ends.
    let mut under_way: HashMap<Key, JoinSet<()>> = HashMap::new();
    while let Some(order) = orders.recv().await {
        match order {
            Order::Fire(shots) => {
                for shot in shots {
                    let events = events.clone();
                    under_way.entry(shot.key).or_default().spawn(async move {
                        if let Err(error) = fire(shot, exchanges, &events).await {
                            let _ = events.send(Event::Broken(format!("{shot:?}: {error}")));
                        }
                    });
                }
            }
            Order::CeaseBut(these) => {
                for (_, mut task) in under_way.extract_if(|key, _| !these.contains(key)) {
                    // Returns when its socket is closed: its port may be the next one's.
                    task.shutdown().await;
                }
            }
        }
    }
}

/// An error is one of this machine: what the network does is told as events, or by none.
async fn fire(shot: Shot, exchanges: usize, events: &Sender<Event>) -> std::io::Result<()> {
    let own = SocketAddr::new(shot.key.source, shot.key.id);
    match shot.kind {
        Kind::Tcp(port) | Kind::Sctp(port) => {
            let _ = events.send(Event::Sent(shot.key));
            let mut stream = loop {
                let socket = if matches!(shot.kind, Kind::Sctp(_)) { sctp(own)? } else { tcp(own)? };
                match socket.connect(SocketAddr::new(shot.to, port)).await {
                    Ok(stream) => break stream,
                    // While a neighbour's address was looked for in vain, for one.
                    Err(_) => sleep(AGAIN).await,
                }
            };
            // Ends with a reset, and leaves nothing behind in conntrack.
            stream.set_zero_linger()?;
            let mut word = *WORD;
            for _ in 0..exchanges {
                let there = stream.write_all(WORD).await;
                if there.is_err() || stream.read_exact(&mut word).await.is_err() {
                    return Ok(());
                }
            }
            let _ = events.send(Event::Answered(shot.key));
        }
        Kind::Udp(port) => {
            let socket = UdpSocket::bind(own).await?;
            socket.connect(SocketAddr::new(shot.to, port)).await?;
            let mut word = *WORD;
            let (mut answers, mut pause) = (0, AGAIN);
            let _ = events.send(Event::Sent(shot.key));
            while answers < exchanges {
                // A refusal of an earlier datagram may come back here; who does not answer is found silent.
                let _ = socket.send(WORD).await;
                match timeout(pause, socket.recv(&mut word)).await {
                    Ok(Ok(_)) => {
                        (answers, pause) = (answers + 1, AGAIN);
                        continue;
                    }
                    Ok(Err(_)) => sleep(pause).await,
                    Err(_) => {}
                }
                pause = LONGEST.min(pause * 2);
            }
            let _ = events.send(Event::Answered(shot.key));
        }
        Kind::Echo => {
            let socket = icmp(own)?;
            let to = SockaddrStorage::from(SocketAddr::new(shot.to, 0));
            let _ = events.send(Event::Sent(shot.key));
            let mut pause = AGAIN;
            for sequence in 0.. {
                sendto(socket.as_raw_fd(), &request(shot.to, shot.key.id, sequence), &to, MsgFlags::empty())?;
                // The witness sees the reply.
                sleep(pause).await;
                pause = LONGEST.min(pause * 2);
            }
        }
    }
    Ok(())
}

fn tcp(own: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = if own.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(own)?;
    Ok(socket)
}

/// SCTP's one-to-one sockets are used as TCP's are (RFC 6458, section 4).
fn sctp(own: SocketAddr) -> std::io::Result<TcpSocket> {
    let family = if own.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, SockProtocol::Sctp)?;
    let socket = TcpSocket::from_std_stream(socket.into());
    socket.set_reuseaddr(true)?;
    socket.bind(own)?;
    Ok(socket)
}

fn icmp(own: SocketAddr) -> std::io::Result<OwnedFd> {
    let (family, protocol) = if own.is_ipv4() {
        (AddressFamily::Inet, SockProtocol::Icmp)
    } else {
        (AddressFamily::Inet6, SockProtocol::IcmpV6)
    };
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, protocol)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(own.ip(), 0)))?;
    Ok(socket)
}

/// An echo request. The kernel fills in ICMPv6's checksum, not ICMP's.
fn request(to: IpAddr, id: u16, sequence: u16) -> Vec<u8> {
    let mut message = vec![if to.is_ipv4() { 8 } else { 128 }, 0, 0, 0];
    message.extend(id.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend(WORD);
    if to.is_ipv4() {
        let sum = crate::frame::checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}
