//! A connection's tuple, as conntrack keeps one for each direction.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::policy::{Packet, Transport};

/// Addresses, protocol and what conntrack keeps of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    pub src: IpAddr,
    pub dst: IpAddr,
    /// The number in the IP header.
    pub proto: u8,
    pub l4: L4,
}

/// What tells two connections between the same addresses apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum L4 {
    /// Ports, or the keys of GRE.
    Ports { src: u16, dst: u16 },
    /// Of ICMP and ICMPv6. The id is zero where the type has none.
    Icmp { kind: u8, code: u8, id: u16 },
    /// Nothing: one connection for the whole protocol.
    None,
}

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const GRE: u8 = 47;
pub const ICMPV6: u8 = 58;
pub const DCCP: u8 = 33;
pub const SCTP: u8 = 132;
pub const UDPLITE: u8 = 136;

impl Tuple {
    /// A packet of this direction, as a policy looks at it.
    pub fn packet(&self) -> Packet {
        let transport = match (self.proto, self.l4) {
            (TCP, L4::Ports { src, dst }) => Transport::Tcp { src, dst },
            (UDP, L4::Ports { src, dst }) => Transport::Udp { src, dst },
            (SCTP, L4::Ports { src, dst }) => Transport::Sctp { src, dst },
            (ICMP | ICMPV6, L4::Icmp { kind, code, .. }) => Transport::Icmp { kind, code },
            (proto, _) => Transport::Other(proto),
        };
        Packet { src: self.src, dst: self.dst, transport }
    }
}

/// `6 10.0.0.1:1234 > 10.0.0.2:80`
impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { src, dst, proto, l4 } = *self;
        match l4 {
            L4::Ports { src: from, dst: to } => {
                write!(f, "{proto} {} > {}", SocketAddr::new(src, from), SocketAddr::new(dst, to))
            }
            L4::Icmp { kind, code, id } => {
                write!(f, "{proto} {src} > {dst} type {kind} code {code} id {id}")
            }
            L4::None => write!(f, "{proto} {src} > {dst}"),
        }
    }
}
