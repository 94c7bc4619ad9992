//! What a flower filter matches.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::ids::MacAddr;
use crate::openflow::{CtFlags, FragMatch, Masked, OtherEtherType, OtherProto};

/// `Key::default()` matches every frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub eth_src: Masked<MacAddr>,
    pub eth_dst: Masked<MacAddr>,
    pub vlan: VlanKey,
    pub ct: CtKey,
    pub payload: Payload,
}

/// The outer tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VlanKey {
    /// Untagged, if `payload` names a protocol: the filter's own protocol is then that of the frame. With
    /// [`Payload::Any`] tagged frames match, too.
    #[default]
    None,
    /// 802.1Q with this id (`TCA_FLOWER_KEY_VLAN_ID`); `payload` is what lies inside (`…_VLAN_ETH_TYPE`).
    Id(u16),
}

/// Conntrack's state, once act_ct has run. Bits are the kernel's (`TCA_FLOWER_KEY_CT_FLAGS_*`), in the words of
/// [`CtFlags`]; `SNAT` and `DNAT` have no key and are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CtKey {
    pub state: Masked<CtFlags>,
    pub zone: Option<u16>,
}

impl CtKey {
    pub fn new_connection() -> Self {
        Self { state: ones(CtFlags::TRK | CtFlags::NEW), zone: None }
    }

    pub fn established() -> Self {
        Self { state: ones(CtFlags::TRK | CtFlags::EST), zone: None }
    }

    pub fn is_any(&self) -> bool {
        self.state.is_any() && self.zone.is_none()
    }
}

/// These bits are set, whatever the others.
fn ones(flags: CtFlags) -> Masked<CtFlags> {
    Masked::new(flags, flags)
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Payload {
    /// `protocol all`.
    #[default]
    Any,
    Other(OtherEtherType),
    /// No key of ARP's own: the hardware has none (match the MACs).
    Arp,
    Ipv4(IpKey<Ipv4Addr>),
    Ipv6(IpKey<Ipv6Addr>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpKey<A> {
    pub src: Masked<A>,
    pub dst: Masked<A>,
    /// Time to live, or hop limit.
    pub ttl: Masked<u8>,
    pub frag: FragMatch,
    pub l4: L4,
}

impl<A> Default for IpKey<A>
where
    Masked<A>: Default,
{
    fn default() -> Self {
        let (src, dst, ttl) = (Masked::default(), Masked::default(), Masked::any());
        Self { src, dst, ttl, frag: FragMatch::Any, l4: L4::Any }
    }
}

/// `TCA_FLOWER_KEY_IP_PROTO` and what it makes possible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum L4 {
    #[default]
    Any,
    Tcp(Ports),
    Udp(Ports),
    Sctp(Ports),
    /// ICMP in IPv4, ICMPv6 in IPv6.
    Icmp(Icmp),
    Other(OtherProto),
}

/// Bit-masked ports. Ranges (`TCA_FLOWER_KEY_PORT_DST_MIN`) are not written: no hardware that we know takes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    pub src: Masked<u16>,
    pub dst: Masked<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Icmp {
    pub kind: Masked<u8>,
    pub code: Masked<u8>,
}
