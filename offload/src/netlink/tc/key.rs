//! The keys of a flower filter: `TCA_FLOWER_KEY_*` from a [`Key`]. The way back is in [`read`].

pub(super) mod read;

use super::unwritable::Unwritable;
use crate::flower::{IpKey, Key, L4, Payload, Ports, VlanKey};
use crate::netlink::wire::Writer;
use crate::openflow::{Bits, CtFlags, FragMatch, Masked};

/// `ETH_P_ALL`: frames of every protocol.
pub const PROTOCOL_ALL: u16 = 0x0003;
pub const PROTOCOL_VLAN: u16 = 0x8100;
pub const PROTOCOL_IPV4: u16 = 0x0800;
pub const PROTOCOL_ARP: u16 = 0x0806;
pub const PROTOCOL_IPV6: u16 = 0x86dd;

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMP6: u8 = 58;
pub const SCTP: u8 = 132;

const VLAN_ID_MASK: u16 = 0x0fff;
/// `TCA_FLOWER_KEY_FLAGS_IS_FRAGMENT`, `…_FRAG_IS_FIRST`.
const IS_FRAGMENT: u32 = 1;
const IS_FIRST: u32 = 2;

/// `TCA_FLOWER_KEY_*`.
#[rustfmt::skip]
mod attribute {
    pub const ETH_DST: u16 = 4;
    pub const ETH_DST_MASK: u16 = 5;
    pub const ETH_SRC: u16 = 6;
    pub const ETH_SRC_MASK: u16 = 7;
    pub const ETH_TYPE: u16 = 8;
    pub const IP_PROTO: u16 = 9;
    pub const IPV4_SRC: u16 = 10;
    pub const IPV4_SRC_MASK: u16 = 11;
    pub const IPV4_DST: u16 = 12;
    pub const IPV4_DST_MASK: u16 = 13;
    pub const IPV6_SRC: u16 = 14;
    pub const IPV6_SRC_MASK: u16 = 15;
    pub const IPV6_DST: u16 = 16;
    pub const IPV6_DST_MASK: u16 = 17;
    pub const TCP_SRC: u16 = 18;
    pub const TCP_DST: u16 = 19;
    pub const UDP_SRC: u16 = 20;
    pub const UDP_DST: u16 = 21;
    pub const VLAN_ID: u16 = 23;
    pub const VLAN_ETH_TYPE: u16 = 25;
    pub const TCP_SRC_MASK: u16 = 35;
    pub const TCP_DST_MASK: u16 = 36;
    pub const UDP_SRC_MASK: u16 = 37;
    pub const UDP_DST_MASK: u16 = 38;
    pub const SCTP_SRC_MASK: u16 = 39;
    pub const SCTP_DST_MASK: u16 = 40;
    pub const SCTP_SRC: u16 = 41;
    pub const SCTP_DST: u16 = 42;
    pub const FLAGS: u16 = 47;
    pub const FLAGS_MASK: u16 = 48;
    pub const ICMPV4_CODE: u16 = 49;
    pub const ICMPV4_CODE_MASK: u16 = 50;
    pub const ICMPV4_TYPE: u16 = 51;
    pub const ICMPV4_TYPE_MASK: u16 = 52;
    pub const ICMPV6_CODE: u16 = 53;
    pub const ICMPV6_CODE_MASK: u16 = 54;
    pub const ICMPV6_TYPE: u16 = 55;
    pub const ICMPV6_TYPE_MASK: u16 = 56;
    pub const IP_TTL: u16 = 75;
    pub const IP_TTL_MASK: u16 = 76;
    pub const CT_STATE: u16 = 91;
    pub const CT_STATE_MASK: u16 = 92;
    pub const CT_ZONE: u16 = 93;
    pub const CT_ZONE_MASK: u16 = 94;
}
use attribute as a;

/// The protocol in `tcm_info`, by which TC looks at a frame before flower does. One (chain, pref) holds only one.
pub fn protocol(key: &Key) -> u16 {
    match (key.vlan, &key.payload) {
        (VlanKey::Id(_), _) => PROTOCOL_VLAN,
        (VlanKey::None, payload) => ether_type(payload).unwrap_or(PROTOCOL_ALL),
    }
}

fn ether_type(payload: &Payload) -> Option<u16> {
    match payload {
        Payload::Any => None,
        Payload::Other(other) => Some(other.get()),
        Payload::Arp => Some(PROTOCOL_ARP),
        Payload::Ipv4(_) => Some(PROTOCOL_IPV4),
        Payload::Ipv6(_) => Some(PROTOCOL_IPV6),
    }
}

pub(super) fn check(key: &Key) -> Result<(), Unwritable> {
    if let VlanKey::Id(id) = key.vlan
        && id > VLAN_ID_MASK
    {
        return Err(Unwritable::VlanId(id));
    }
    match &key.payload {
        Payload::Other(other) if matches!(other.get(), 0 | PROTOCOL_ALL) => {
            Err(Unwritable::EtherType(other.get()))
        }
        Payload::Ipv4(IpKey { frag: FragMatch::NotLater, .. })
        | Payload::Ipv6(IpKey { frag: FragMatch::NotLater, .. }) => Err(Unwritable::NotLater),
        _ => Ok(()),
    }
}

/// A value in network byte order, and its mask. Nothing if every value matches.
fn masked<T: Bits>(w: &mut Writer, value: u16, mask: u16, field: Masked<T>) {
    if !field.is_any() {
        put(w, value, field.value());
        put(w, mask, field.mask());
    }
}

fn put<T: Bits>(w: &mut Writer, kind: u16, value: T) {
    let bits = value.to_bits();
    match T::BYTES {
        1 => w.put_u8(kind, Bits::from_bits(bits)),
        2 => w.put_be16(kind, Bits::from_bits(bits)),
        4 => w.put_be32(kind, Bits::from_bits(bits)),
        length => {
            let bytes = bits.to_be_bytes();
            w.put(kind, bytes.get(bytes.len() - length..).unwrap_or_default())
        }
    };
}

/// Writes the keys of a [`check`]ed key.
pub(super) fn write(key: &Key, w: &mut Writer) {
    masked(w, a::ETH_DST, a::ETH_DST_MASK, key.eth_dst);
    masked(w, a::ETH_SRC, a::ETH_SRC_MASK, key.eth_src);
    let inner = ether_type(&key.payload);
    match key.vlan {
        VlanKey::None => {
            if let Some(protocol) = inner {
                w.put_be16(a::ETH_TYPE, protocol);
            }
        }
        VlanKey::Id(id) => {
            put(w, a::ETH_TYPE, PROTOCOL_VLAN);
            // Byte order of the machine, unlike all around it.
            w.put_u16(a::VLAN_ID, id);
            if let Some(protocol) = inner {
                w.put_be16(a::VLAN_ETH_TYPE, protocol);
            }
        }
    }
    match &key.payload {
        Payload::Any | Payload::Other(_) | Payload::Arp => {}
        Payload::Ipv4(ip) => {
            masked(w, a::IPV4_SRC, a::IPV4_SRC_MASK, ip.src);
            masked(w, a::IPV4_DST, a::IPV4_DST_MASK, ip.dst);
            masked(w, a::IP_TTL, a::IP_TTL_MASK, ip.ttl);
            fragments(w, ip.frag);
            transport(w, ip.l4, false);
        }
        Payload::Ipv6(ip) => {
            masked(w, a::IPV6_SRC, a::IPV6_SRC_MASK, ip.src);
            masked(w, a::IPV6_DST, a::IPV6_DST_MASK, ip.dst);
            masked(w, a::IP_TTL, a::IP_TTL_MASK, ip.ttl);
            fragments(w, ip.frag);
            transport(w, ip.l4, true);
        }
    }
    let (state, mask) = (ct_bits(key.ct.state.value()), ct_bits(key.ct.state.mask()));
    if mask != 0 {
        w.put_u16(a::CT_STATE, state).put_u16(a::CT_STATE_MASK, mask);
    }
    if let Some(zone) = key.ct.zone {
        w.put_u16(a::CT_ZONE, zone).put_u16(a::CT_ZONE_MASK, u16::MAX);
    }
}

fn fragments(w: &mut Writer, frag: FragMatch) {
    let (value, mask) = match frag {
        FragMatch::Any | FragMatch::NotLater => return,
        FragMatch::No => (0, IS_FRAGMENT),
        FragMatch::Yes => (IS_FRAGMENT, IS_FRAGMENT),
        FragMatch::First => (IS_FRAGMENT | IS_FIRST, IS_FRAGMENT | IS_FIRST),
        FragMatch::Later => (IS_FRAGMENT, IS_FRAGMENT | IS_FIRST),
    };
    put(w, a::FLAGS, value);
    put(w, a::FLAGS_MASK, mask);
}

fn transport(w: &mut Writer, l4: L4, v6: bool) {
    let mut ports = |protocol: u8, ports: Ports, [src, src_mask, dst, dst_mask]: [u16; 4]| {
        w.put_u8(a::IP_PROTO, protocol);
        masked(w, src, src_mask, ports.src);
        masked(w, dst, dst_mask, ports.dst);
    };
    match l4 {
        L4::Any => {}
        L4::Tcp(p) => ports(TCP, p, TCP_PORTS),
        L4::Udp(p) => ports(UDP, p, UDP_PORTS),
        L4::Sctp(p) => ports(SCTP, p, SCTP_PORTS),
        L4::Icmp(icmp) => {
            let (protocol, [code, code_mask, kind, kind_mask]) =
                if v6 { (ICMP6, ICMP6_FIELDS) } else { (ICMP, ICMP_FIELDS) };
            w.put_u8(a::IP_PROTO, protocol);
            masked(w, code, code_mask, icmp.code);
            masked(w, kind, kind_mask, icmp.kind);
        }
        L4::Other(other) => {
            w.put_u8(a::IP_PROTO, other.get());
        }
    }
}

/// Source, its mask, destination, its mask.
const TCP_PORTS: [u16; 4] = [a::TCP_SRC, a::TCP_SRC_MASK, a::TCP_DST, a::TCP_DST_MASK];
const UDP_PORTS: [u16; 4] = [a::UDP_SRC, a::UDP_SRC_MASK, a::UDP_DST, a::UDP_DST_MASK];
const SCTP_PORTS: [u16; 4] = [a::SCTP_SRC, a::SCTP_SRC_MASK, a::SCTP_DST, a::SCTP_DST_MASK];
/// Code, its mask, type, its mask.
const ICMP_FIELDS: [u16; 4] = [a::ICMPV4_CODE, a::ICMPV4_CODE_MASK, a::ICMPV4_TYPE, a::ICMPV4_TYPE_MASK];
const ICMP6_FIELDS: [u16; 4] = [a::ICMPV6_CODE, a::ICMPV6_CODE_MASK, a::ICMPV6_TYPE, a::ICMPV6_TYPE_MASK];

/// `TCA_FLOWER_KEY_CT_FLAGS_*` beside OVS's bits. The kernel has no key for `SNAT` and `DNAT`.
const CT_BITS: [(CtFlags, u16); 6] = [
    (CtFlags::NEW, 1),
    (CtFlags::EST, 2),
    (CtFlags::REL, 4),
    (CtFlags::TRK, 8),
    (CtFlags::INV, 16),
    (CtFlags::RPL, 32),
];

fn ct_bits(flags: CtFlags) -> u16 {
    CT_BITS.iter().filter(|(flag, _)| flags.contains(*flag)).fold(0, |bits, (_, bit)| bits | bit)
}

fn ct_flags(bits: u16) -> CtFlags {
    CT_BITS.iter().filter(|(_, bit)| bits & bit != 0).fold(CtFlags::NONE, |flags, (flag, _)| flags | *flag)
}
