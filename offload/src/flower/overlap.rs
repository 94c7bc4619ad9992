//! Can one packet meet two keys? All of a key's bits in one row, so that this is a few operations on words.

use std::collections::{HashMap, HashSet};

use super::key::{CtKey, IpKey, Key, L4, Payload, VlanKey};
use crate::openflow::interpret::{Body, Frame, Ip, L4 as FrameL4, Piece};
use crate::openflow::matches::{
    ETH_ARP, ETH_IPV4, ETH_IPV6, PROTO_ICMP, PROTO_ICMP6, PROTO_SCTP, PROTO_TCP, PROTO_UDP,
};
use crate::openflow::{Bits, CtFlags, Masked};

/// What the kernel says of a packet, and nothing else (`ctinfo_map` in `net/core/flow_dissector.c`): new, established,
/// related and invalid exclude each other.
const STATES: [CtFlags; 7] = {
    const fn state(bits: u32) -> CtFlags {
        CtFlags(CtFlags::TRK.0 | bits)
    }
    [
        CtFlags::NONE,
        state(CtFlags::NEW.0),
        state(CtFlags::EST.0),
        state(CtFlags::EST.0 | CtFlags::RPL.0),
        state(CtFlags::REL.0),
        state(CtFlags::REL.0 | CtFlags::RPL.0),
        state(CtFlags::INV.0),
    ]
};
/// Flower has no key for the others.
const MATCHED: u32 = 0x3f;

/// Where a field lies: word and first bit.
#[derive(Clone, Copy)]
struct At(usize, u32);

const ETH_DST: At = At(0, 0);
const ETH_SRC: At = At(0, 48);
const VLAN: At = At(0, 96);
const IP_SRC: At = At(1, 0);
const IP_DST: At = At(2, 0);
const ETH_TYPE: At = At(3, 0);
const IP_PROTO: At = At(3, 16);
const PORT_SRC: At = At(3, 24);
const PORT_DST: At = At(3, 40);
const ICMP_TYPE: At = At(3, 56);
const ICMP_CODE: At = At(3, 64);
const FRAG: At = At(3, 72);
const CT_ZONE: At = At(3, 80);
const TTL: At = At(3, 96);

/// There is a tag.
const TAGGED: u16 = 0x1000;

type Row = [u128; 4];

fn put<T: Bits>(row: &mut Row, at: At, value: T) {
    if let Some(word) = row.get_mut(at.0) {
        *word |= value.to_bits() << at.1;
    }
}

fn and(a: &Row, b: &Row) -> Row {
    std::array::from_fn(|i| a.get(i).copied().unwrap_or_default() & b.get(i).copied().unwrap_or_default())
}

fn within(inner: &Row, outer: &Row) -> bool {
    and(inner, outer) == *inner
}

/// The mask, and the states of conntrack that match (a bit for each of [`STATES`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Shape {
    mask: Row,
    states: u8,
}

/// A key as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flat {
    value: Row,
    shape: Shape,
    ct_state: Masked<CtFlags>,
}

impl Flat {
    pub fn of(key: &Key) -> Self {
        let (mut value, mut mask) = (Row::default(), Row::default());
        let mut field = FieldWriter { value: &mut value, mask: &mut mask };
        field.masked(ETH_SRC, key.eth_src);
        field.masked(ETH_DST, key.eth_dst);
        match (key.vlan, &key.payload) {
            (VlanKey::None, Payload::Any) => {}
            (VlanKey::None, _) => field.exact(VLAN, 0u16),
            (VlanKey::Id(id), _) => field.exact(VLAN, TAGGED | id),
        }
        match &key.payload {
            Payload::Any => {}
            Payload::Other(other) => field.exact(ETH_TYPE, other.get()),
            Payload::Arp => field.exact(ETH_TYPE, ETH_ARP),
            Payload::Ipv4(ip) => {
                field.exact(ETH_TYPE, ETH_IPV4);
                field.ip(ip, PROTO_ICMP);
            }
            Payload::Ipv6(ip) => {
                field.exact(ETH_TYPE, ETH_IPV6);
                field.ip(ip, PROTO_ICMP6);
            }
        }
        if let Some(zone) = key.ct.zone {
            field.exact(CT_ZONE, zone);
        }
        let ct_state =
            Masked::new(CtFlags(key.ct.state.value().0 & MATCHED), CtFlags(key.ct.state.mask().0 & MATCHED));
        Self { value, shape: Shape { mask, states: states(ct_state) }, ct_state }
    }

    /// Is there a packet that both match?
    pub fn overlaps(&self, other: &Self) -> bool {
        let common = and(&self.shape.mask, &other.shape.mask);
        self.shape.states & other.shape.states != 0 && and(&self.value, &common) == and(&other.value, &common)
    }

    pub fn covers(&self, packet: &PacketBits) -> bool {
        self.ct_state.covers(packet.ct_state) && and(&packet.row, &self.shape.mask) == self.value
    }
}

fn states(wanted: Masked<CtFlags>) -> u8 {
    STATES.iter().enumerate().fold(0, |set, (bit, state)| set | u8::from(wanted.covers(*state)) << bit)
}

struct FieldWriter<'a> {
    value: &'a mut Row,
    mask: &'a mut Row,
}

impl FieldWriter<'_> {
    fn masked<T: Bits>(&mut self, at: At, field: Masked<T>) {
        put(self.value, at, field.value());
        put(self.mask, at, field.mask());
    }

    fn exact<T: Bits>(&mut self, at: At, value: T) {
        self.masked(at, Masked::exact(value));
    }

    fn ip<A: Bits>(&mut self, ip: &IpKey<A>, icmp_proto: u8) {
        self.masked(IP_SRC, ip.src);
        self.masked(IP_DST, ip.dst);
        self.masked(TTL, ip.ttl);
        self.masked(FRAG, ip.frag.masked());
        let (proto, ports) = match ip.l4 {
            L4::Any => return,
            L4::Tcp(ports) => (PROTO_TCP, ports),
            L4::Udp(ports) => (PROTO_UDP, ports),
            L4::Sctp(ports) => (PROTO_SCTP, ports),
            L4::Icmp(icmp) => {
                self.exact(IP_PROTO, icmp_proto);
                self.masked(ICMP_TYPE, icmp.kind);
                self.masked(ICMP_CODE, icmp.code);
                return;
            }
            L4::Other(other) => {
                self.exact(IP_PROTO, other.get());
                return;
            }
        };
        self.exact(IP_PROTO, proto);
        self.masked(PORT_SRC, ports.src);
        self.masked(PORT_DST, ports.dst);
    }
}

/// What flower sees of a packet. What the packet does not have reads as zero.
pub struct PacketBits {
    row: Row,
    ct_state: CtFlags,
}

impl PacketBits {
    /// Of a fragment neither ports nor types are seen, not even of the first one (`FLOW_DISSECTOR_F_PARSE_1ST_FRAG`
    /// is not asked for in `fl_classify()`).
    pub fn of(frame: &Frame, ct_state: CtFlags, ct_zone: u16) -> Self {
        let mut row = Row::default();
        put(&mut row, ETH_SRC, frame.eth_src);
        put(&mut row, ETH_DST, frame.eth_dst);
        if let Some(id) = frame.vlan {
            put(&mut row, VLAN, TAGGED | id);
        }
        put(&mut row, CT_ZONE, ct_zone);
        match &frame.body {
            Body::Other(other) => put(&mut row, ETH_TYPE, other.get()),
            Body::Arp(_) => put(&mut row, ETH_TYPE, ETH_ARP),
            Body::Ipv4(ip) => {
                put(&mut row, ETH_TYPE, ETH_IPV4);
                put_ip(&mut row, ip, PROTO_ICMP);
            }
            Body::Ipv6(ip) => {
                put(&mut row, ETH_TYPE, ETH_IPV6);
                put_ip(&mut row, ip, PROTO_ICMP6);
            }
        }
        Self { row, ct_state }
    }
}

fn put_ip<A: Bits>(row: &mut Row, ip: &Ip<A>, icmp_proto: u8) {
    put(row, IP_SRC, ip.src);
    put(row, IP_DST, ip.dst);
    put(row, TTL, ip.ttl);
    let frag: u8 = match ip.piece {
        Piece::Whole => 0,
        Piece::First => 1,
        Piece::Later => 3,
    };
    put(row, FRAG, frag);
    let seen = ip.piece == Piece::Whole;
    let mut ports = |proto: u8, src: u16, dst: u16| {
        put(row, IP_PROTO, proto);
        if seen {
            put(row, PORT_SRC, src);
            put(row, PORT_DST, dst);
        }
    };
    match &ip.l4 {
        FrameL4::Tcp { src, dst, .. } => ports(PROTO_TCP, *src, *dst),
        FrameL4::Udp { src, dst } => ports(PROTO_UDP, *src, *dst),
        FrameL4::Sctp { src, dst } => ports(PROTO_SCTP, *src, *dst),
        FrameL4::Icmp(icmp) => {
            put(row, IP_PROTO, icmp_proto);
            if seen {
                put(row, ICMP_TYPE, icmp.kind);
                put(row, ICMP_CODE, icmp.code);
            }
        }
        FrameL4::Other(proto) => put(row, IP_PROTO, *proto),
    }
}

/// Keys that can be asked which of them a new one meets, without looking at each where masks agree.
#[derive(Clone, Debug, Default)]
pub struct FlatIndex(HashMap<Shape, HashSet<Row>>);

impl FlatIndex {
    pub fn insert(&mut self, flat: Flat) {
        self.0.entry(flat.shape).or_default().insert(flat.value);
    }

    pub fn meets(&self, flat: &Flat) -> bool {
        self.0.iter().any(|(shape, values)| {
            if shape.states & flat.shape.states == 0 {
                return false;
            }
            if within(&shape.mask, &flat.shape.mask) {
                return values.contains(&and(&flat.value, &shape.mask));
            }
            let common = and(&shape.mask, &flat.shape.mask);
            let wanted = and(&flat.value, &common);
            values.iter().any(|value| and(value, &common) == wanted)
        })
    }
}

impl Key {
    /// Is there a packet that both match?
    pub fn overlaps(&self, other: &Self) -> bool {
        Flat::of(self).overlaps(&Flat::of(other))
    }
}

impl CtKey {
    /// An error about a connection that is known.
    pub fn related() -> Self {
        let flags = CtFlags::TRK | CtFlags::REL;
        Self { state: Masked::new(flags, flags), zone: None }
    }
}
