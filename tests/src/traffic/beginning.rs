//! First packets of connections, sent as fast as wanted, by a packet socket: nothing of the sender's own stack takes part,
//! so a connection costs it as much as a packet.

use std::io::IoSlice;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, MultiHeaders, SockFlag, SockType, bind, sendmmsg, setsockopt, socket,
    sockopt,
};

use crate::frame;
use crate::netns;

/// Frames of one call.
const BATCH: usize = 32;
/// A port or identifier each; what is below is served or another's.
const IDS: std::ops::Range<u16> = 10_240..61_000;

/// What begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Begins {
    /// SYN, to this port.
    Tcp(u16),
    /// A datagram of four bytes.
    Udp(u16),
    /// ICMP's or ICMPv6's echo request.
    Echo,
}

/// A pod's end of the wire.
#[derive(Debug, Clone)]
pub struct End {
    pub mac: String,
    pub ip: IpAddr,
}

/// A first packet, of which the source port, or the identifier, can be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beginning {
    frame: Vec<u8>,
    /// Where that is, and the checksum that covers it.
    id: usize,
    checksum: usize,
}

impl Beginning {
    /// Both ends in one version of IP and one network.
    pub fn new(begins: Begins, from: &End, to: &End) -> Self {
        let id = IDS.start;
        let (protocol, checksum, mut message) = match begins {
            Begins::Tcp(port) => {
                let mut segment = [id.to_be_bytes(), port.to_be_bytes()].concat();
                segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xfa, 0xf0, 0, 0, 0, 0]);
                (6, 16, segment)
            }
            Begins::Udp(port) => (17, 6, frame::udp(id, port, b"draw")),
            Begins::Echo => {
                let (protocol, kind) = if from.ip.is_ipv4() { (1, 8) } else { (58, 128) };
                let mut message = vec![kind, 0, 0, 0];
                message.extend(id.to_be_bytes());
                message.extend([0, 1]);
                message.extend(b"drawbridge");
                (protocol, 2, message)
            }
        };
        let mut covered = match (from.ip, to.ip) {
            (IpAddr::V4(_), IpAddr::V4(_)) if protocol == 1 => Vec::new(),
            (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
            (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
            ends => panic!("two versions of IP: {ends:?}"),
        };
        if !covered.is_empty() {
            let length = u16::try_from(message.len()).expect("short");
            covered.extend([0, protocol]);
            covered.extend(length.to_be_bytes());
        }
        covered.extend(&message);
        let sum = frame::checksum(&covered);
        message[checksum..checksum + 2].copy_from_slice(&sum.to_be_bytes());
        let (ethertype, packet) = match (from.ip, to.ip) {
            (IpAddr::V4(from), IpAddr::V4(to)) => (0x0800, frame::ipv4(from, to, protocol, &message)),
            (IpAddr::V6(from), IpAddr::V6(to)) => (0x86dd, frame::ipv6(from, to, protocol, 64, &message)),
            _ => unreachable!("seen above"),
        };
        let transport = 14 + packet.len() - message.len();
        let frame = frame::bytes(&frame::ethernet(&to.mac, &from.mac, ethertype, &packet));
        let id = transport + if begins == Begins::Echo { 4 } else { 0 };
        Self { frame, id, checksum: transport + checksum }
    }

    fn short(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.frame[at], self.frame[at + 1]])
    }

    /// RFC 1624, equation 3.
    pub fn number(&mut self, id: u16) {
        let (before, sum) = (self.short(self.id), self.short(self.checksum));
        let mut folded = u32::from(!sum) + u32::from(!before) + u32::from(id);
        while folded >> 16 != 0 {
            folded = (folded & 0xffff) + (folded >> 16);
        }
        let sum = !u16::try_from(folded).expect("folded");
        self.frame[self.checksum..self.checksum + 2].copy_from_slice(&sum.to_be_bytes());
        self.frame[self.id..self.id + 2].copy_from_slice(&id.to_be_bytes());
    }
}

/// Connections that are begun, one after the other, until this is stopped: each round through the list has a port of its
/// own.
#[derive(Debug)]
pub struct Beginnings {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Beginnings {
    /// `every`: from one to the next; `None` is as fast as the machine makes them. The whole list, then from its beginning.
    #[track_caller]
    pub fn start(place: &str, list: Vec<Beginning>, every: Option<Duration>) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (stop.clone(), sent.clone());
        let socket = netns::within(place, || packet_socket("eth0"));
        let thread = Some(std::thread::spawn(move || run(&socket, list, every, &stopped, &counted)));
        Self { stop, sent, thread }
    }

    /// Frames until now.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Sends no more; returns how many were sent.
    pub fn stop(mut self) -> u64 {
        self.end();
        self.sent()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Beginnings {
    fn drop(&mut self) {
        self.end();
    }
}

/// One that sends, and to which nothing is delivered: it asks for no protocol.
fn packet_socket(interface: &str) -> OwnedFd {
    let socket =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).expect("a packet socket");
    setsockopt(&socket, sockopt::SndBufForce, &(1 << 20)).expect("a buffer");
    let mut addresses = nix::ifaddrs::getifaddrs().expect("the pod's interfaces");
    let link: LinkAddr = addresses
        .find_map(|it| it.address.filter(|_| it.interface_name == interface)?.as_link_addr().copied())
        .expect("the pod's interface");
    bind(socket.as_raw_fd(), &link).expect("the pod's interface");
    socket
}

fn run(
    socket: &OwnedFd,
    mut list: Vec<Beginning>,
    every: Option<Duration>,
    stop: &AtomicBool,
    sent: &AtomicU64,
) {
    let began = Instant::now();
    let (mut next, mut begun, mut headers) = (0, 0u32, MultiHeaders::<()>::preallocate(BATCH, None));
    let mut id = IDS.start;
    while !stop.load(Ordering::Relaxed) {
        // As many as should be under way by now.
        let due = every.map_or(BATCH, |every| {
            let due = began.elapsed().as_nanos() / every.as_nanos().max(1);
            usize::try_from(due).expect("few").saturating_sub(begun as usize)
        });
        let end = list.len().min(next + due.min(BATCH));
        if end == next {
            std::thread::sleep(
                every.unwrap_or_default().clamp(Duration::from_millis(1), Duration::from_millis(20)),
            );
            continue;
        }
        for it in &mut list[next..end] {
            it.number(id);
        }
        let slices: Vec<[IoSlice<'_>; 1]> =
            list[next..end].iter().map(|it| [IoSlice::new(&it.frame)]).collect();
        let none = vec![None::<()>; slices.len()];
        match sendmmsg(socket.as_raw_fd(), &mut headers, &slices, &none, [], MsgFlags::empty()) {
            Ok(all) => drop(sent.fetch_add(all.count() as u64, Ordering::Relaxed)),
            // The device's queue is full: what does not fit is not sent.
            Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR) => {}
            Err(e) => panic!("sending: {e}"),
        }
        begun += u32::try_from(end - next).expect("few");
        next = end;
        if next == list.len() {
            (next, id) = (0, if id + 1 < IDS.end { id + 1 } else { IDS.start });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(from: &str, to: &str) -> [End; 2] {
        [("0a:58:0a:f4:01:14", from), ("0a:58:0a:f4:02:14", to)]
            .map(|(mac, ip)| End { mac: mac.to_owned(), ip: ip.parse().unwrap() })
    }

    /// Over the pseudo-header and the message, with its checksum in it: nothing is left.
    fn is_sound(it: &Beginning) -> bool {
        let packet = &it.frame[14..];
        let mut covered = Vec::new();
        if packet[0] >> 4 == 4 {
            assert_eq!(frame::checksum(&packet[..20]), 0, "the header's own");
            if packet[9] != 1 {
                covered.extend(&packet[12..20]);
                covered.extend([0, packet[9], 0, u8::try_from(packet.len() - 20).unwrap()]);
            }
            covered.extend(&packet[20..]);
        } else {
            covered.extend(&packet[8..40]);
            covered.extend([0, packet[6]]);
            covered.extend(&packet[4..6]);
            covered.extend(&packet[40..]);
        }
        frame::checksum(&covered) == 0
    }

    #[test]
    fn checksums_follow_the_number() {
        for ends in [ends("10.244.1.20", "10.244.2.20"), ends("fd00::1", "fd00::2")] {
            for begins in [Begins::Tcp(80), Begins::Udp(53), Begins::Echo] {
                let mut it = Beginning::new(begins, &ends[0], &ends[1]);
                assert!(is_sound(&it), "{begins:?} {it:?}");
                for id in [1, 0xffff, 40_000, 0x8000, 0] {
                    it.number(id);
                    assert_eq!(it.short(it.id), id);
                    assert!(is_sound(&it), "{begins:?} {id} {it:?}");
                }
            }
        }
    }
}
