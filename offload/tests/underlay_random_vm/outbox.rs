//! The sending half of a host.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, sendto,
    setsockopt, socket, sockopt,
};

use crate::probes::{Kind, Probe, SILENT_PORT};
use crate::stand::address;

/// Where silent datagrams come from.
const SILENT_SOURCE: u16 = 9000;

pub struct Outbox {
    host: usize,
    echo: [OwnedFd; 2],
    silent: [OwnedFd; 2],
    /// UDP sockets by version and source port; connections.
    pub opened: Vec<(Option<(bool, u16)>, OwnedFd)>,
    /// What was sent last.
    pub last: Vec<(Probe, u16)>,
}

impl Outbox {
    pub fn new(host: usize) -> Self {
        let raw =
            |family, protocol| socket(family, SockType::Raw, SockFlag::SOCK_NONBLOCK, protocol).unwrap();
        let echo =
            [raw(AddressFamily::Inet, SockProtocol::Icmp), raw(AddressFamily::Inet6, SockProtocol::IcmpV6)];
        let silent = [false, true].map(|is_ipv6| open(host, SockType::Datagram, is_ipv6, SILENT_SOURCE));
        Self { host, echo, silent, opened: Vec::new(), last: Vec::new() }
    }

    /// What cannot be sent at once counts as sent: it does not arrive.
    pub fn send(&mut self, probe: Probe, id: u16) {
        let to =
            |port: u16| SockaddrStorage::from(SocketAddr::from((address(probe.to, probe.is_ipv6), port)));
        match probe.kind {
            Kind::Tcp(port) => {
                let client = open(self.host, SockType::Stream, probe.is_ipv6, id);
                // It ends with one frame, and no memory of it stays.
                setsockopt(&client, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
                let _ = connect(client.as_raw_fd(), &to(port));
                self.opened.push((None, client));
            }
            Kind::Udp(port) => {
                let mark = Some((probe.is_ipv6, id));
                if !self.opened.iter().any(|(other, _)| *other == mark) {
                    self.opened.push((mark, open(self.host, SockType::Datagram, probe.is_ipv6, id)));
                }
                let (_, client) = self.opened.iter().find(|(other, _)| *other == mark).unwrap();
                let _ = sendto(client.as_raw_fd(), b"probe", &to(port), MsgFlags::empty());
            }
            Kind::Silent => {
                let socket = &self.silent[usize::from(probe.is_ipv6)];
                let _ = sendto(socket.as_raw_fd(), &id.to_be_bytes(), &to(SILENT_PORT), MsgFlags::empty());
            }
            Kind::Echo => {
                let socket = &self.echo[usize::from(probe.is_ipv6)];
                let _ = sendto(socket.as_raw_fd(), &echo(probe.is_ipv6, id), &to(0), MsgFlags::empty());
            }
        }
    }
}

fn open(host: usize, kind: SockType, is_ipv6: bool, port: u16) -> OwnedFd {
    let family = if is_ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let made = socket(family, kind, SockFlag::SOCK_NONBLOCK, None).unwrap();
    setsockopt(&made, sockopt::ReuseAddr, &true).unwrap();
    let own = SockaddrStorage::from(SocketAddr::from((address(host, is_ipv6), port)));
    bind(made.as_raw_fd(), &own).unwrap();
    made
}

/// An echo request. The kernel writes the checksum of ICMPv6.
fn echo(is_ipv6: bool, id: u16) -> [u8; 8] {
    let [high, low] = id.to_be_bytes();
    let kind = if is_ipv6 { 128 } else { 8 };
    let sum = (u32::from(kind) << 8) + u32::from(id) + 1;
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    let [sum_high, sum_low] = if is_ipv6 { [0, 0] } else { sum.to_be_bytes() };
    [kind, 0, sum_high, sum_low, high, low, 0, 1]
}
