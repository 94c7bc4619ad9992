//! A frame, as far as our flows can see it, and a little further: what is hidden in a fragment.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::ids::MacAddr;
use crate::openflow::matches::{OtherEtherType, PROTO_ICMP, PROTO_ICMP6, PROTO_SCTP, PROTO_TCP, PROTO_UDP};

use super::tuple::Tuple;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub eth_src: MacAddr,
    pub eth_dst: MacAddr,
    /// The VLAN id of the outer tag. `body` is then what lies inside, and flows see it.
    pub vlan: Option<u16>,
    pub body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Other(OtherEtherType),
    Arp(Arp),
    Ipv4(Ip<Ipv4Addr>),
    Ipv6(Ip<Ipv6Addr>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arp {
    pub op: u16,
    pub spa: Ipv4Addr,
    pub tpa: Ipv4Addr,
    pub sha: MacAddr,
    pub tha: MacAddr,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ip<A> {
    pub src: A,
    pub dst: A,
    /// Time to live, or hop limit.
    pub ttl: u8,
    pub piece: Piece,
    /// What the packet carries, once whole.
    pub l4: L4,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    Whole,
    First,
    Later,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum L4 {
    Tcp {
        src: u16,
        dst: u16,
        /// The first segment of a connection, or its answer; else one from the midst.
        syn: bool,
    },
    Udp {
        src: u16,
        dst: u16,
    },
    Sctp {
        src: u16,
        dst: u16,
    },
    /// ICMP in IPv4, ICMPv6 in IPv6.
    Icmp(Icmp),
    Other(u8),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Icmp {
    pub kind: u8,
    pub code: u8,
    pub id: u16,
    /// Of an error: the packet that it is about.
    pub about: Option<Tuple>,
    /// Of a neighbour solicitation or advertisement, if it can be read: no option is broken or there twice.
    pub nd: Option<Nd>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nd {
    pub target: Ipv6Addr,
    /// The link-layer address that goes with the message: the source's or the target's. Zero if absent.
    pub address: MacAddr,
}

impl Frame {
    /// What conntrack makes of a fragment.
    pub(super) fn reassemble(&mut self) {
        match &mut self.body {
            Body::Ipv4(ip) => ip.reassemble(),
            Body::Ipv6(ip) => ip.reassemble(),
            Body::Other(_) | Body::Arp(_) => {}
        }
    }

    /// Addresses and what is carried, if this is IP.
    pub(super) fn ip(&self) -> Option<(IpAddr, IpAddr, &L4)> {
        match &self.body {
            Body::Ipv4(ip) => Some((ip.src.into(), ip.dst.into(), &ip.l4)),
            Body::Ipv6(ip) => Some((ip.src.into(), ip.dst.into(), &ip.l4)),
            Body::Other(_) | Body::Arp(_) => None,
        }
    }
}

impl<A> Ip<A> {
    /// OVS calls the reassembled packet a first fragment that shows everything.
    fn reassemble(&mut self) {
        if self.piece == Piece::Later {
            self.piece = Piece::First;
        }
    }
}

impl L4 {
    pub(super) fn proto(&self, is_ipv6: bool) -> u8 {
        match self {
            Self::Tcp { .. } => PROTO_TCP,
            Self::Udp { .. } => PROTO_UDP,
            Self::Sctp { .. } => PROTO_SCTP,
            Self::Icmp(_) if is_ipv6 => PROTO_ICMP6,
            Self::Icmp(_) => PROTO_ICMP,
            Self::Other(proto) => *proto,
        }
    }
}
