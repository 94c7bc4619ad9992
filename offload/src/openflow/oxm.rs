//! OXM and NXM: how a match is written. Class, field, "has a mask", length, value, mask.

use std::collections::BTreeMap;

use super::fields::{Bits, CtFlags, Masked, Oxm, OxmField, Reg};
use super::matches::{
    ArpMatch, ETH_ARP, ETH_IPV4, ETH_IPV6, FragMatch, Icmp6Match, IcmpMatch, Ipv4Match, Ipv6Match, L4Match,
    Match, ND_ADVERT, ND_SOLICIT, OtherEtherType, OtherIcmp6Type, OtherProto, PROTO_ICMP, PROTO_ICMP6,
    PROTO_SCTP, PROTO_TCP, PROTO_UDP, Payload, Ports, VlanMatch,
};
use super::wire::{DecodeError, EncodeError, Pad, Put, Reader};
use crate::ids::OfPort;

const fn nxm1(number: u8) -> OxmField {
    OxmField { class: 0x0001, number }
}

const fn basic(number: u8) -> OxmField {
    OxmField { class: 0x8000, number }
}

pub(super) const CLASS_EXPERIMENTER: u16 = 0xffff;
pub(super) const CT_MARK: OxmField = nxm1(107);
pub(super) const ETH_DST: OxmField = basic(3);
pub(super) const ETH_SRC: OxmField = basic(4);
const CONJ_ID: OxmField = nxm1(37);
const IP_FRAG: OxmField = nxm1(26);
const IP_TTL: OxmField = nxm1(29);
const CT_STATE: OxmField = nxm1(105);
const CT_ZONE: OxmField = nxm1(106);
const IN_PORT: OxmField = basic(0);
const METADATA: OxmField = basic(2);
const ETH_TYPE: OxmField = basic(5);
const VLAN_VID: OxmField = basic(6);
const IP_PROTO: OxmField = basic(10);
const IPV4_SRC: OxmField = basic(11);
const IPV4_DST: OxmField = basic(12);
const TCP_SRC: OxmField = basic(13);
const UDP_SRC: OxmField = basic(15);
const SCTP_SRC: OxmField = basic(17);
const TCP_FLAGS: OxmField = basic(42);
const ICMPV4_TYPE: OxmField = basic(19);
const ICMPV4_CODE: OxmField = basic(20);
const ARP_OP: OxmField = basic(21);
const ARP_SPA: OxmField = basic(22);
const ARP_TPA: OxmField = basic(23);
const ARP_SHA: OxmField = basic(24);
const ARP_THA: OxmField = basic(25);
const IPV6_SRC: OxmField = basic(26);
const IPV6_DST: OxmField = basic(27);
const ICMPV6_TYPE: OxmField = basic(29);
const ICMPV6_CODE: OxmField = basic(30);
const ND_TARGET: OxmField = basic(31);
const ND_SLL: OxmField = basic(32);
const ND_TLL: OxmField = basic(33);

pub(super) const fn reg_field(reg: Reg) -> OxmField {
    nxm1(reg.number())
}

pub(super) fn field_reg(field: OxmField) -> Option<Reg> {
    if field.class == 1 { Reg::from_number(field.number) } else { None }
}

/// `OXM_OF_PKT_REGn`, by which OVS names two registers at once in OpenFlow 1.5.
const CLASS_PKT_REGS: u16 = 0x8001;

fn bytes_of<T: Bits>(value: T) -> Vec<u8> {
    let all = value.to_bits().to_be_bytes();
    all.get(all.len().saturating_sub(T::BYTES)..).unwrap_or_default().to_vec()
}

fn value_of<T: Bits>(bytes: &[u8]) -> Option<T> {
    if bytes.len() != T::BYTES {
        return None;
    }
    Some(T::from_bits(bytes.iter().fold(0u128, |bits, byte| bits << 8 | u128::from(*byte))))
}

impl Oxm {
    pub fn exact<T: Bits>(field: OxmField, value: T) -> Self {
        Self { field, value: bytes_of(value), mask: Vec::new() }
    }

    pub fn masked<T: Bits>(field: OxmField, pair: Masked<T>) -> Self {
        let mask = if pair.is_exact() { Vec::new() } else { bytes_of(pair.mask()) };
        Self { field, value: bytes_of(pair.value()), mask }
    }

    /// Value and mask, if they are of this type's length.
    pub fn as_masked<T: Bits>(&self) -> Option<Masked<T>> {
        let value = value_of(&self.value)?;
        if self.mask.is_empty() {
            Some(Masked::exact(value))
        } else {
            Some(Masked::new(value, value_of(&self.mask)?))
        }
    }

    pub fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let length = self.value.len().saturating_add(self.mask.len());
        let short = u8::try_from(length).map_err(|_| EncodeError::TooLong { what: "match field", length })?;
        out.put_u32(self.field.header(!self.mask.is_empty(), short));
        out.put(&self.value);
        out.put(&self.mask);
        Ok(())
    }

    pub fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (field, has_mask, length) = OxmField::from_header(reader.u32()?);
        let length = usize::from(length);
        let mut body = Reader::new("match field", reader.take(length)?);
        if !has_mask {
            return Ok(Self { field, value: body.rest().to_vec(), mask: Vec::new() });
        }
        // An experimenter's id stands before the value and has no mask.
        let id = if field.class == CLASS_EXPERIMENTER { 4 } else { 0 };
        let half = length.checked_sub(id).filter(|n| n % 2 == 0).map(|n| n / 2);
        let half = half.ok_or(DecodeError::BadLength { what: "match field", length })?;
        let value = body.take(id.saturating_add(half))?.to_vec();
        Ok(Self { field, value, mask: body.rest().to_vec() })
    }
}

/// Appends `struct ofp_match` with its padding.
pub fn put_match(matches: &Match, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut body = Vec::new();
    for field in fields(matches) {
        field.put(&mut body)?;
    }
    out.put_tlv("match", 1, &body, Pad::Uncounted)
}

/// All fields, each after its prerequisites.
pub fn fields(matches: &Match) -> Vec<Oxm> {
    let mut out = Out(Vec::new());
    out.exact(IN_PORT, matches.in_port.map(OfPort::get));
    out.masked(METADATA, matches.metadata);
    out.masked(ETH_SRC, matches.eth_src);
    out.masked(ETH_DST, matches.eth_dst);
    match matches.vlan.masked() {
        vlan if vlan.is_any() => {}
        // The field is 13 bits wide on the wire of 16: a full match has no mask.
        vlan if matches.vlan == VlanMatch::Tagged => out.masked(VLAN_VID, vlan),
        vlan => out.exact(VLAN_VID, Some(vlan.value())),
    }
    out.exact(ETH_TYPE, matches.payload.ether_type());
    match &matches.payload {
        Payload::Any | Payload::Other(_) => {}
        Payload::Arp(arp) => {
            out.exact(ARP_OP, arp.op);
            out.masked(ARP_SPA, arp.spa);
            out.masked(ARP_TPA, arp.tpa);
            out.masked(ARP_SHA, arp.sha);
            out.masked(ARP_THA, arp.tha);
        }
        Payload::Ipv4(ip) => {
            out.masked(IPV4_SRC, ip.src);
            out.masked(IPV4_DST, ip.dst);
            out.frag(ip.frag);
            out.exact(IP_PROTO, ip.l4.proto(PROTO_ICMP));
            out.ports(&ip.l4);
            if let L4Match::Icmp(icmp) = &ip.l4 {
                out.exact(ICMPV4_TYPE, icmp.kind);
                out.exact(ICMPV4_CODE, icmp.code);
            }
        }
        Payload::Ipv6(ip) => {
            out.masked(IPV6_SRC, ip.src);
            out.masked(IPV6_DST, ip.dst);
            out.frag(ip.frag);
            out.exact(IP_TTL, ip.hops);
            out.exact(IP_PROTO, ip.l4.proto(PROTO_ICMP6));
            out.ports(&ip.l4);
            if let L4Match::Icmp(icmp) = &ip.l4 {
                out.icmp6(icmp);
            }
        }
    }
    for reg in Reg::ALL {
        out.masked(reg_field(reg), matches.reg_match(reg));
    }
    out.exact(CONJ_ID, matches.conj_id);
    out.masked(CT_STATE, matches.ct_state);
    out.exact(CT_ZONE, matches.ct_zone);
    out.masked(CT_MARK, matches.ct_mark);
    out.0.extend(matches.other.iter().cloned());
    out.0
}

struct Out(Vec<Oxm>);

impl Out {
    fn exact<T: Bits>(&mut self, field: OxmField, value: Option<T>) {
        self.0.extend(value.map(|value| Oxm::exact(field, value)));
    }

    fn masked<T: Bits>(&mut self, field: OxmField, pair: Masked<T>) {
        if !pair.is_any() {
            self.0.push(Oxm::masked(field, pair));
        }
    }

    fn frag(&mut self, frag: FragMatch) {
        match frag {
            FragMatch::Any => {}
            // Two bits on the wire of eight: a full match has no mask.
            FragMatch::No | FragMatch::First | FragMatch::Later => {
                self.exact(IP_FRAG, Some(frag.masked().value()));
            }
            FragMatch::Yes | FragMatch::NotLater => self.masked(IP_FRAG, frag.masked()),
        }
    }

    fn ports<I>(&mut self, l4: &L4Match<I>) {
        let (source, ports) = match l4 {
            L4Match::Tcp(ports) => (TCP_SRC, ports),
            L4Match::Udp(ports) => (UDP_SRC, ports),
            L4Match::Sctp(ports) => (SCTP_SRC, ports),
            L4Match::TcpFlags(flags) => return self.masked(TCP_FLAGS, *flags),
            L4Match::Any | L4Match::Other(_) | L4Match::Icmp(_) => return,
        };
        self.masked(source, ports.src);
        self.masked(source.next(), ports.dst);
    }

    fn icmp6(&mut self, icmp: &Icmp6Match) {
        match icmp {
            Icmp6Match::Any => {}
            Icmp6Match::Type(kind, code) => {
                self.exact(ICMPV6_TYPE, Some(kind.get()));
                self.exact(ICMPV6_CODE, *code);
            }
            Icmp6Match::Solicit { target, sll } => {
                self.exact(ICMPV6_TYPE, Some(ND_SOLICIT));
                self.masked(ND_TARGET, *target);
                self.masked(ND_SLL, *sll);
            }
            Icmp6Match::Advert { target, tll } => {
                self.exact(ICMPV6_TYPE, Some(ND_ADVERT));
                self.masked(ND_TARGET, *target);
                self.masked(ND_TLL, *tll);
            }
        }
    }
}

/// Reads `struct ofp_match` with its padding.
pub fn take_match(reader: &mut Reader<'_>) -> Result<Match, DecodeError> {
    let (kind, mut body) = reader.tlv("match", true)?;
    if kind != 1 {
        return Err(DecodeError::BadValue { what: "match type", value: u64::from(kind) });
    }
    let mut found = In(BTreeMap::new());
    while !body.is_empty() {
        let oxm = Oxm::take(&mut body)?;
        if oxm.field.class == CLASS_PKT_REGS {
            found.add_register_pair(oxm);
        } else {
            found.0.insert(oxm.field, oxm);
        }
    }
    Ok(found.into_match())
}

/// Fields not yet understood. Each `take_…` removes what it understands; the rest becomes `Match::other`.
struct In(BTreeMap<OxmField, Oxm>);

impl In {
    fn add_register_pair(&mut self, oxm: Oxm) {
        let number = oxm.field.number.saturating_mul(2);
        let pair = oxm.as_masked::<u64>();
        if let (Some(pair), Some(even), Some(odd)) =
            (pair, Reg::from_number(number), Reg::from_number(number | 1))
        {
            for (reg, shift) in [(even, 32), (odd, 0)] {
                let half = |bits: u64| u32::from_bits(u128::from(bits >> shift));
                let part = Masked::new(half(pair.value()), half(pair.mask()));
                if !part.is_any() {
                    self.0.insert(reg_field(reg), Oxm::masked(reg_field(reg), part));
                }
            }
        } else {
            self.0.insert(oxm.field, oxm);
        }
    }

    fn take<T>(&mut self, field: OxmField, understand: impl FnOnce(&Oxm) -> Option<T>) -> Option<T> {
        let value = understand(self.0.get(&field)?)?;
        self.0.remove(&field);
        Some(value)
    }

    fn exact<T: Bits>(&mut self, field: OxmField) -> Option<T> {
        self.take(field, |oxm| oxm.as_masked().filter(|pair: &Masked<T>| pair.is_exact()).map(Masked::value))
    }

    fn masked<T: Bits>(&mut self, field: OxmField) -> Masked<T> {
        self.take(field, Oxm::as_masked).unwrap_or_default()
    }

    fn frag(&mut self) -> FragMatch {
        self.take(IP_FRAG, |oxm| FragMatch::from_masked(oxm.as_masked()?)).unwrap_or_default()
    }

    fn ports(&mut self, source: OxmField) -> Ports {
        Ports { src: self.masked(source), dst: self.masked(source.next()) }
    }

    fn into_match(mut self) -> Match {
        let mut regs = [Masked::any(); 16];
        for (reg, slot) in Reg::ALL.into_iter().zip(&mut regs) {
            *slot = self.masked(reg_field(reg));
        }
        Match {
            in_port: self.take(IN_PORT, |oxm| OfPort::new(value_of(&oxm.value)?)),
            metadata: self.masked(METADATA),
            regs,
            conj_id: self.exact(CONJ_ID),
            ct_state: self.masked::<CtFlags>(CT_STATE),
            ct_zone: self.exact(CT_ZONE),
            ct_mark: self.masked(CT_MARK),
            eth_src: self.masked(ETH_SRC),
            eth_dst: self.masked(ETH_DST),
            vlan: self.take(VLAN_VID, |oxm| VlanMatch::from_masked(oxm.as_masked()?)).unwrap_or_default(),
            payload: self.payload(),
            other: self.0.into_values().collect(),
        }
    }

    fn payload(&mut self) -> Payload {
        match self.exact::<u16>(ETH_TYPE) {
            None => Payload::Any,
            Some(ETH_ARP) => Payload::Arp(ArpMatch {
                op: self.exact(ARP_OP),
                spa: self.masked(ARP_SPA),
                tpa: self.masked(ARP_TPA),
                sha: self.masked(ARP_SHA),
                tha: self.masked(ARP_THA),
            }),
            Some(ETH_IPV4) => Payload::Ipv4(Ipv4Match {
                src: self.masked(IPV4_SRC),
                dst: self.masked(IPV4_DST),
                frag: self.frag(),
                l4: self.l4(PROTO_ICMP, |fields| IcmpMatch {
                    kind: fields.exact(ICMPV4_TYPE),
                    code: fields.exact(ICMPV4_CODE),
                }),
            }),
            Some(ETH_IPV6) => Payload::Ipv6(Ipv6Match {
                src: self.masked(IPV6_SRC),
                dst: self.masked(IPV6_DST),
                frag: self.frag(),
                hops: self.exact(IP_TTL),
                l4: self.l4(PROTO_ICMP6, Self::icmp6),
            }),
            Some(other) => OtherEtherType::new(other).map_or(Payload::Any, Payload::Other),
        }
    }

    fn l4<I>(&mut self, icmp: u8, read_icmp: impl FnOnce(&mut Self) -> I) -> L4Match<I> {
        // A protocol that this version of IP has no name for stays among the fields that are not understood.
        let proto = self.take(IP_PROTO, |oxm| {
            value_of::<u8>(&oxm.value)
                .filter(|proto| *proto == icmp || ![PROTO_ICMP, PROTO_ICMP6].contains(proto))
        });
        match proto {
            None => L4Match::Any,
            Some(PROTO_TCP) => {
                let ports = self.ports(TCP_SRC);
                // Both at once we never write: the flags then stay among the fields that are not understood.
                if ports == Ports::default() {
                    let flags = self.masked(TCP_FLAGS);
                    if flags.is_any() { L4Match::Tcp(ports) } else { L4Match::TcpFlags(flags) }
                } else {
                    L4Match::Tcp(ports)
                }
            }
            Some(PROTO_UDP) => L4Match::Udp(self.ports(UDP_SRC)),
            Some(PROTO_SCTP) => L4Match::Sctp(self.ports(SCTP_SRC)),
            Some(proto) if proto == icmp => L4Match::Icmp(read_icmp(self)),
            Some(proto) => OtherProto::new(proto).map_or(L4Match::Any, L4Match::Other),
        }
    }

    fn icmp6(&mut self) -> Icmp6Match {
        match self.exact::<u8>(ICMPV6_TYPE) {
            None => Icmp6Match::Any,
            Some(ND_SOLICIT) => {
                Icmp6Match::Solicit { target: self.masked(ND_TARGET), sll: self.masked(ND_SLL) }
            }
            Some(ND_ADVERT) => {
                Icmp6Match::Advert { target: self.masked(ND_TARGET), tll: self.masked(ND_TLL) }
            }
            Some(kind) => match OtherIcmp6Type::new(kind) {
                Some(kind) => Icmp6Match::Type(kind, self.exact(ICMPV6_CODE)),
                None => Icmp6Match::Any,
            },
        }
    }
}
