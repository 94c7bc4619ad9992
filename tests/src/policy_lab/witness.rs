//! What arrives at a pod's interface, as a packet socket sees it: before the pod's own stack, and whatever that makes of
//! it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::range::{Event, Key, SOURCES};
use crate::netns;

/// Of `sll_pkttype`: what this machine sends itself.
const OUTGOING: u8 = 4;
/// A few thousand frames: none may be missed.
const BUFFER: usize = 16 << 20;

pub(super) struct Witness {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    /// Returns when it sees.
    #[track_caller]
    pub(super) fn start(place: &str, index: usize, events: Sender<Event>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let (seeing, is_seeing) = channel();
        let thread = netns::spawn(place, move || {
            let socket =
                socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
                    .expect("a packet socket");
            setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).expect("a buffer");
            setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, 100_000)).expect("a time-out");
            seeing.send(()).expect("the starter waits");
            let mut frame = [0; 128];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame) else {
                    continue;
                };
                if from.is_none_or(|from| from.pkttype() == OUTGOING) {
                    continue;
                }
                let event = match read(&frame[..length.min(frame.len())]) {
                    Some(Heard::First(key)) => Event::Arrived(key, index),
                    Some(Heard::EchoReply(key)) => Event::Answered(key),
                    None => continue,
                };
                if events.send(event).is_err() {
                    break;
                }
            }
        });
        is_seeing.recv().expect("the witness starts");
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// A probe's own packet: a SYN, a datagram, an echo request.
    First(Key),
    /// To this probe.
    EchoReply(Key),
}

/// `None`: neither.
fn read(frame: &[u8]) -> Option<Heard> {
    let short = |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let packet = frame.get(14..)?;
    let (protocol, source, destination, payload): (u8, IpAddr, IpAddr, &[u8]) = match short(frame, 12)? {
        0x0800 => {
            let address = |at| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
            let header = usize::from(packet.first()? & 0xf) * 4;
            (*packet.get(9)?, address(12)?.into(), address(16)?.into(), packet.get(header..)?)
        }
        0x86dd => {
            let address = |at| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
            (*packet.get(6)?, address(8)?.into(), address(24)?.into(), packet.get(40..)?)
        }
        _ => return None,
    };
    match protocol {
        6 | 17 | 132 => {
            let (id, to) = (short(payload, 0)?, short(payload, 2)?);
            let begins = match protocol {
                // SYN without ACK.
                6 => payload.get(13)? & 0x12 == 0x02,
                // The first chunk is INIT.
                132 => *payload.get(12)? == 1,
                _ => true,
            };
            let is_probe = SOURCES.contains(&id) && !SOURCES.contains(&to);
            (begins && is_probe).then_some(Heard::First(Key { protocol, source, id }))
        }
        1 | 58 => {
            let id = short(payload, 4)?;
            match (protocol, *payload.first()?) {
                (1, 8) | (58, 128) => Some(Heard::First(Key { protocol, source, id })),
                (1, 0) | (58, 129) => Some(Heard::EchoReply(Key { protocol, source: destination, id })),
                _ => None,
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn probes_are_told_from_their_answers() {
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let (a6, b6): (Ipv6Addr, Ipv6Addr) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let mac = "0a:58:0a:f4:01:14";
        let heard = |ethertype, packet: &[u8]| read(&bytes(&frame::ethernet(mac, mac, ethertype, packet)));
        let key = |protocol, source: IpAddr, id| Key { protocol, source, id };
        let tcp = |from: u16, to: u16, flags: u8| {
            let mut segment = from.to_be_bytes().to_vec();
            segment.extend(to.to_be_bytes());
            segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0]);
            segment
        };
        let first = |protocol, source, id| Some(Heard::First(key(protocol, source, id)));
        assert_eq!(heard(0x0800, &frame::ipv4(a, b, 6, &tcp(20_000, 80, 0x02))), first(6, a.into(), 20_000));
        assert_eq!(
            heard(0x86dd, &frame::ipv6(a6, b6, 6, 64, &tcp(20_000, 80, 0x02))),
            first(6, a6.into(), 20_000)
        );
        // An answer, and a later segment.
        assert_eq!(heard(0x0800, &frame::ipv4(b, a, 6, &tcp(80, 20_000, 0x12))), None);
        assert_eq!(heard(0x0800, &frame::ipv4(a, b, 6, &tcp(20_000, 80, 0x10))), None);
        let datagram = |from, to| frame::ipv4(a, b, 17, &frame::udp(from, to, b"x"));
        assert_eq!(heard(0x0800, &datagram(20_000, 53)), first(17, a.into(), 20_000));
        assert_eq!(heard(0x0800, &datagram(53, 20_000)), None);
        let sctp = |from: u16, to: u16, chunk| {
            let mut packet = [from.to_be_bytes(), to.to_be_bytes()].concat();
            packet.extend([0, 0, 0, 0, 0, 0, 0, 0, chunk, 0, 0, 4]);
            frame::ipv4(a, b, 132, &packet)
        };
        assert_eq!(heard(0x0800, &sctp(20_000, 80, 1)), first(132, a.into(), 20_000));
        assert_eq!(heard(0x0800, &sctp(20_000, 80, 10)), None);
        let echo = |kind| [kind, 0, 0, 0, 0x4e, 0x20, 0, 0];
        assert_eq!(heard(0x0800, &frame::ipv4(a, b, 1, &echo(8))), first(1, a.into(), 20_000));
        let reply = Some(Heard::EchoReply(key(1, b.into(), 20_000)));
        assert_eq!(heard(0x0800, &frame::ipv4(a, b, 1, &echo(0))), reply);
        assert_eq!(heard(0x86dd, &frame::icmp6(a6, b6, &echo(128))), first(58, a6.into(), 20_000));
        let reply = Some(Heard::EchoReply(key(58, b6.into(), 20_000)));
        assert_eq!(heard(0x86dd, &frame::icmp6(a6, b6, &echo(129))), reply);
        assert_eq!(heard(0x0806, &[0; 28]), None);
        assert_eq!(read(&[0; 9]), None);
    }
}
