//! A [`Key`] from what a dump shows, and what of it no `Key` can say.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::super::beyond::Part;
use super::{
    CT_BITS, ICMP, ICMP_FIELDS, ICMP6, ICMP6_FIELDS, IS_FIRST, IS_FRAGMENT, PROTOCOL_ALL, PROTOCOL_ARP,
    PROTOCOL_IPV4, PROTOCOL_IPV6, PROTOCOL_VLAN, SCTP, SCTP_PORTS, TCP, TCP_PORTS, UDP, UDP_PORTS, a,
    ct_flags,
};
use crate::flower::{CtKey, Icmp, IpKey, Key, L4, Payload, Ports, VlanKey};
use crate::netlink::wire::Attribute;
use crate::openflow::{Bits, FragMatch, Masked, OtherEtherType, OtherProto};

/// Why a filter that is there is none of our types. For people to read: foreign filters are only named.
type Why = String;

/// The attributes of one filter by type. What is left after a key was read is what a [`Key`] cannot say.
pub struct Fields<'a>(Vec<Attribute<'a>>);

impl<'a> Fields<'a> {
    pub fn new(attributes: Vec<Attribute<'a>>) -> Self {
        Self(attributes)
    }

    fn take(&mut self, kind: u16) -> Option<&'a [u8]> {
        let at = self.0.iter().position(|attribute| attribute.kind == kind)?;
        Some(self.0.remove(at).value)
    }

    fn value<T: Bits>(&mut self, kind: u16) -> Result<Option<T>, Why> {
        let Some(bytes) = self.take(kind) else { return Ok(None) };
        if bytes.len() != T::BYTES {
            return Err(format!("its key {kind} has {} bytes instead of {}", bytes.len(), T::BYTES));
        }
        let bits = bytes.iter().fold(0u128, |bits, byte| bits << 8 | u128::from(*byte));
        Ok(Some(T::from_bits(bits)))
    }

    /// A mask that is missing stands for all bits.
    fn masked<T: Bits>(&mut self, value: u16, mask: u16) -> Result<Masked<T>, Why> {
        let (value, mask) = (self.value(value)?, self.value(mask)?);
        Ok(match (value, mask) {
            (None, _) => Masked::any(),
            (Some(value), mask) => Masked::new(value, mask.unwrap_or_else(T::ones)),
        })
    }

    /// 16 bits in the machine's own byte order.
    fn masked_native(&mut self, value: u16, mask: u16) -> Result<Option<(u16, u16)>, Why> {
        let (value, mask) = (self.value(value)?, self.value(mask)?);
        Ok(value.map(|value: u16| (u16::from_be(value), mask.map_or(u16::MAX, u16::from_be))))
    }

    /// `protocol` is the one in `tcm_info`.
    pub fn key(mut self, protocol: u16) -> Result<(Key, BTreeSet<Part>), Why> {
        let mut key = Key {
            eth_dst: self.masked(a::ETH_DST, a::ETH_DST_MASK)?,
            eth_src: self.masked(a::ETH_SRC, a::ETH_SRC_MASK)?,
            ct: self.ct()?,
            ..Key::default()
        };
        let eth_type: Option<u16> = self.value(a::ETH_TYPE)?;
        let inner: Option<u16> = self.value(a::VLAN_ETH_TYPE)?;
        let payload = match self.value::<u16>(a::VLAN_ID)? {
            Some(id) if protocol == PROTOCOL_VLAN => {
                key.vlan = VlanKey::Id(u16::from_be(id));
                // Of a tagged frame the kernel shows what is in the tag, not the tag, and only if it was asked for.
                match (eth_type, inner) {
                    (_, Some(inner)) => Some(inner),
                    (None | Some(PROTOCOL_VLAN), None) => None,
                    (Some(other), None) => {
                        return Err(format!("it matches {other:#06x} in a tag without a key for it"));
                    }
                }
            }
            Some(_) => return Err(format!("it matches a VLAN id in protocol {protocol:#06x}")),
            None if inner.is_some() => return Err("it matches tagged frames of any VLAN".to_owned()),
            None => match (protocol, eth_type) {
                (PROTOCOL_ALL, None) => None,
                (PROTOCOL_ALL, Some(other)) => {
                    return Err(format!("it matches {other:#06x} tagged or not"));
                }
                (protocol, Some(shown)) if shown != protocol => {
                    return Err(format!("it matches {shown:#06x} in protocol {protocol:#06x}"));
                }
                (protocol, _) => Some(protocol),
            },
        };
        key.payload = match payload {
            None => Payload::Any,
            Some(PROTOCOL_ARP) => Payload::Arp,
            Some(PROTOCOL_IPV4) => Payload::Ipv4(self.ipv4()?),
            Some(PROTOCOL_IPV6) => Payload::Ipv6(self.ipv6()?),
            Some(other) => Payload::Other(
                OtherEtherType::new(other).ok_or_else(|| format!("it matches Ethernet type {other:#06x}"))?,
            ),
        };
        Ok((key, self.0.into_iter().map(|attribute| Part::of_key(attribute.kind)).collect()))
    }

    fn ct(&mut self) -> Result<CtKey, Why> {
        let state = match self.masked_native(a::CT_STATE, a::CT_STATE_MASK)? {
            Some((_, mask)) if mask & !CT_BITS.iter().fold(0, |all, (_, bit)| all | bit) != 0 => {
                return Err(format!("it matches ct_state bits {mask:#x}"));
            }
            Some((value, mask)) => Masked::new(ct_flags(value), ct_flags(mask)),
            None => Masked::any(),
        };
        let zone = match self.masked_native(a::CT_ZONE, a::CT_ZONE_MASK)? {
            None => None,
            Some((zone, u16::MAX)) => Some(zone),
            Some((zone, mask)) => return Err(format!("it matches ct_zone {zone:#x}/{mask:#x}")),
        };
        Ok(CtKey { state, zone })
    }

    fn ipv4(&mut self) -> Result<IpKey<Ipv4Addr>, Why> {
        Ok(IpKey {
            src: self.masked(a::IPV4_SRC, a::IPV4_SRC_MASK)?,
            dst: self.masked(a::IPV4_DST, a::IPV4_DST_MASK)?,
            ttl: self.masked(a::IP_TTL, a::IP_TTL_MASK)?,
            frag: self.fragments()?,
            l4: self.transport(ICMP, ICMP_FIELDS)?,
        })
    }

    fn ipv6(&mut self) -> Result<IpKey<Ipv6Addr>, Why> {
        Ok(IpKey {
            src: self.masked(a::IPV6_SRC, a::IPV6_SRC_MASK)?,
            dst: self.masked(a::IPV6_DST, a::IPV6_DST_MASK)?,
            ttl: self.masked(a::IP_TTL, a::IP_TTL_MASK)?,
            frag: self.fragments()?,
            l4: self.transport(ICMP6, ICMP6_FIELDS)?,
        })
    }

    fn fragments(&mut self) -> Result<FragMatch, Why> {
        const BOTH: u32 = IS_FRAGMENT | IS_FIRST;
        let flags: Masked<u32> = self.masked(a::FLAGS, a::FLAGS_MASK)?;
        Ok(match (flags.value(), flags.mask()) {
            (_, 0) => FragMatch::Any,
            (0, IS_FRAGMENT) => FragMatch::No,
            (IS_FRAGMENT, IS_FRAGMENT) => FragMatch::Yes,
            (BOTH, BOTH) => FragMatch::First,
            (IS_FRAGMENT, BOTH) => FragMatch::Later,
            (value, mask) => return Err(format!("it matches flags {value:#x}/{mask:#x}")),
        })
    }

    fn transport(&mut self, icmp: u8, [code, code_mask, kind, kind_mask]: [u16; 4]) -> Result<L4, Why> {
        Ok(match self.value::<u8>(a::IP_PROTO)? {
            None => L4::Any,
            Some(TCP) => L4::Tcp(self.ports(TCP_PORTS)?),
            Some(UDP) => L4::Udp(self.ports(UDP_PORTS)?),
            Some(SCTP) => L4::Sctp(self.ports(SCTP_PORTS)?),
            Some(protocol) if protocol == icmp => {
                L4::Icmp(Icmp { kind: self.masked(kind, kind_mask)?, code: self.masked(code, code_mask)? })
            }
            Some(protocol) => L4::Other(
                OtherProto::new(protocol)
                    .ok_or_else(|| format!("it matches IP protocol {protocol} in the other IP version"))?,
            ),
        })
    }

    fn ports(&mut self, [src, src_mask, dst, dst_mask]: [u16; 4]) -> Result<Ports, Why> {
        Ok(Ports { src: self.masked(src, src_mask)?, dst: self.masked(dst, dst_mask)? })
    }
}
