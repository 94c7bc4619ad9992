//! What a flow matches. The shape follows the packet, so a field can only be given where its prerequisite is: there is
//! no port without a protocol and no ND target without ICMPv6. Equal matches are equal values.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::fields::{CtFlags, Masked, Oxm, Reg};
use crate::ids::{MacAddr, OfPort};

/// `Match::default()` matches every packet.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Match {
    pub in_port: Option<OfPort>,
    pub metadata: Masked<u64>,
    pub regs: [Masked<u32>; 16],
    pub conj_id: Option<u32>,
    pub ct_state: Masked<CtFlags>,
    pub ct_zone: Option<u16>,
    pub ct_mark: Masked<u32>,
    pub eth_src: Masked<MacAddr>,
    pub eth_dst: Masked<MacAddr>,
    pub vlan: VlanMatch,
    pub payload: Payload,
    /// Fields that this program does not write: a foreign flow's. Kept so that the flow can be named and deleted.
    pub other: BTreeSet<Oxm>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VlanMatch {
    /// Tagged or not. Beware: the fields of `payload` then match inside the tag.
    #[default]
    Any,
    /// No 802.1Q or 802.1ad tag, not even a priority tag.
    Untagged,
    Tagged,
    Vid(u16),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Payload {
    #[default]
    Any,
    Other(OtherEtherType),
    Arp(ArpMatch),
    Ipv4(Ipv4Match),
    Ipv6(Ipv6Match),
}

pub const ETH_IPV4: u16 = 0x0800;
pub const ETH_ARP: u16 = 0x0806;
pub const ETH_IPV6: u16 = 0x86dd;
pub const PROTO_ICMP: u8 = 1;
pub const PROTO_TCP: u8 = 6;
pub const PROTO_UDP: u8 = 17;
pub const PROTO_ICMP6: u8 = 58;
pub const PROTO_SCTP: u8 = 132;
pub const ND_SOLICIT: u8 = 135;
pub const ND_ADVERT: u8 = 136;

/// An Ethernet type that has no variant of its own in [`Payload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OtherEtherType(u16);

impl OtherEtherType {
    pub const fn new(ether_type: u16) -> Option<Self> {
        match ether_type {
            ETH_IPV4 | ETH_ARP | ETH_IPV6 => None,
            other => Some(Self(other)),
        }
    }

    pub const fn get(self) -> u16 {
        self.0
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArpMatch {
    pub op: Option<u16>,
    pub spa: Masked<Ipv4Addr>,
    pub tpa: Masked<Ipv4Addr>,
    pub sha: Masked<MacAddr>,
    pub tha: Masked<MacAddr>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipv4Match {
    pub src: Masked<Ipv4Addr>,
    pub dst: Masked<Ipv4Addr>,
    pub frag: FragMatch,
    pub l4: L4Match<IcmpMatch>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ipv6Match {
    pub src: Masked<Ipv6Addr>,
    pub dst: Masked<Ipv6Addr>,
    pub frag: FragMatch,
    /// The hop limit. OVS keeps it among the fields of the addresses: a flow that asks for it makes OVS look at it in
    /// every packet that this flow cannot be told from by its addresses.
    pub hops: Option<u8>,
    pub l4: L4Match<Icmp6Match>,
}

/// Which fragments match. OVS shows no transport header to a match on a later fragment: ports and types read zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FragMatch {
    #[default]
    Any,
    No,
    Yes,
    First,
    Later,
    NotLater,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum L4Match<I> {
    #[default]
    Any,
    Other(OtherProto),
    Tcp(Ports),
    /// TCP by its flags ([`TCP_SYN`]…), whatever the ports.
    TcpFlags(Masked<u16>),
    Udp(Ports),
    Sctp(Ports),
    Icmp(I),
}

/// In the twelve bits of TCP's flags.
pub const TCP_SYN: u16 = 0x002;
pub const TCP_ACK: u16 = 0x010;

/// An IP protocol that has no variant of its own in [`L4Match`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OtherProto(u8);

impl OtherProto {
    pub const fn new(proto: u8) -> Option<Self> {
        match proto {
            PROTO_ICMP | PROTO_TCP | PROTO_UDP | PROTO_ICMP6 | PROTO_SCTP => None,
            other => Some(Self(other)),
        }
    }

    pub const fn get(self) -> u8 {
        self.0
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    pub src: Masked<u16>,
    pub dst: Masked<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IcmpMatch {
    pub kind: Option<u8>,
    pub code: Option<u8>,
}

/// Neighbour discovery is only parsed by OVS when the code is zero, so it has no code here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Icmp6Match {
    #[default]
    Any,
    Type(OtherIcmp6Type, Option<u8>),
    Solicit {
        target: Masked<Ipv6Addr>,
        sll: Masked<MacAddr>,
    },
    Advert {
        target: Masked<Ipv6Addr>,
        tll: Masked<MacAddr>,
    },
}

impl Icmp6Match {
    pub fn kind(kind: u8) -> Self {
        match OtherIcmp6Type::new(kind) {
            Some(kind) => Self::Type(kind, None),
            None if kind == ND_SOLICIT => Self::Solicit { target: Masked::any(), sll: Masked::any() },
            None => Self::Advert { target: Masked::any(), tll: Masked::any() },
        }
    }
}

/// An ICMPv6 type that has no variant of its own in [`Icmp6Match`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OtherIcmp6Type(u8);

impl OtherIcmp6Type {
    pub const fn new(kind: u8) -> Option<Self> {
        match kind {
            ND_SOLICIT | ND_ADVERT => None,
            other => Some(Self(other)),
        }
    }

    pub const fn get(self) -> u8 {
        self.0
    }
}

// === impl Match ===

impl Match {
    pub fn any() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn in_port(self, port: OfPort) -> Self {
        Self { in_port: Some(port), ..self }
    }

    #[must_use]
    pub fn untagged(self) -> Self {
        Self { vlan: VlanMatch::Untagged, ..self }
    }

    #[must_use]
    pub fn eth_src(self, mac: impl Into<Masked<MacAddr>>) -> Self {
        Self { eth_src: mac.into(), ..self }
    }

    #[must_use]
    pub fn eth_dst(self, mac: impl Into<Masked<MacAddr>>) -> Self {
        Self { eth_dst: mac.into(), ..self }
    }

    #[must_use]
    pub fn reg(mut self, reg: Reg, value: impl Into<Masked<u32>>) -> Self {
        if let Some(slot) = self.regs.get_mut(usize::from(reg.number())) {
            *slot = value.into();
        }
        self
    }

    pub fn reg_match(&self, reg: Reg) -> Masked<u32> {
        self.regs.get(usize::from(reg.number())).copied().unwrap_or_default()
    }

    /// The bits of `set` are one, those of `clear` zero, the rest does not matter.
    #[must_use]
    pub fn ct_state(self, set: CtFlags, clear: CtFlags) -> Self {
        Self { ct_state: Masked::new(set, set | clear), ..self }
    }

    #[must_use]
    pub fn conj_id(self, id: u32) -> Self {
        Self { conj_id: Some(id), ..self }
    }

    #[must_use]
    pub fn arp(self, arp: ArpMatch) -> Self {
        Self { payload: Payload::Arp(arp), ..self }
    }

    #[must_use]
    pub fn ipv4(self, ip: Ipv4Match) -> Self {
        Self { payload: Payload::Ipv4(ip), ..self }
    }

    #[must_use]
    pub fn ipv6(self, ip: Ipv6Match) -> Self {
        Self { payload: Payload::Ipv6(ip), ..self }
    }
}

impl VlanMatch {
    /// `OFPVID_PRESENT`: set in the field's value whenever there is a tag.
    pub(super) const PRESENT: u16 = 0x1000;
    const FULL: u16 = 0x1fff;

    pub(super) fn masked(self) -> Masked<u16> {
        match self {
            Self::Any => Masked::any(),
            Self::Untagged => Masked::new(0, Self::FULL),
            Self::Tagged => Masked::new(Self::PRESENT, Self::PRESENT),
            Self::Vid(vid) => Masked::new(vid | Self::PRESENT, Self::FULL),
        }
    }

    pub(super) fn from_masked(field: Masked<u16>) -> Option<Self> {
        match (field.value(), field.mask() & Self::FULL) {
            (_, 0) => Some(Self::Any),
            (0, Self::FULL) => Some(Self::Untagged),
            (Self::PRESENT, Self::PRESENT) => Some(Self::Tagged),
            (vid, Self::FULL) if vid & Self::PRESENT != 0 => Some(Self::Vid(vid & 0xfff)),
            _ => None,
        }
    }
}

impl FragMatch {
    const FULL: u8 = 3;

    /// Bit 0: a fragment. Bit 1: not the first one.
    pub(crate) fn masked(self) -> Masked<u8> {
        match self {
            Self::Any => Masked::any(),
            Self::No => Masked::new(0, 3),
            Self::Yes => Masked::new(1, 1),
            Self::First => Masked::new(1, 3),
            Self::Later => Masked::new(3, 3),
            Self::NotLater => Masked::new(0, 2),
        }
    }

    pub(super) fn from_masked(field: Masked<u8>) -> Option<Self> {
        match (field.value(), field.mask() & Self::FULL) {
            (_, 0) => Some(Self::Any),
            (0, 3) => Some(Self::No),
            (1, 1) => Some(Self::Yes),
            (1, 3) => Some(Self::First),
            (3, 3) => Some(Self::Later),
            (0, 2) => Some(Self::NotLater),
            _ => None,
        }
    }
}

impl<I> L4Match<I> {
    /// Any UDP packet between these ports.
    pub fn udp(src: u16, dst: u16) -> Self {
        Self::Udp(Ports { src: src.into(), dst: dst.into() })
    }
}

impl Payload {
    pub(super) fn ether_type(&self) -> Option<u16> {
        match self {
            Self::Any => None,
            Self::Other(other) => Some(other.get()),
            Self::Arp(_) => Some(ETH_ARP),
            Self::Ipv4(_) => Some(ETH_IPV4),
            Self::Ipv6(_) => Some(ETH_IPV6),
        }
    }
}

impl<I> L4Match<I> {
    /// The protocol number, given the one that ICMP has in this version of IP.
    pub(super) fn proto(&self, icmp: u8) -> Option<u8> {
        match self {
            Self::Any => None,
            Self::Other(other) => Some(other.get()),
            Self::Tcp(_) | Self::TcpFlags(_) => Some(PROTO_TCP),
            Self::Udp(_) => Some(PROTO_UDP),
            Self::Sctp(_) => Some(PROTO_SCTP),
            Self::Icmp(_) => Some(icmp),
        }
    }
}
