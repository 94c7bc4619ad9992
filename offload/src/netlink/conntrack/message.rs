//! ctnetlink's messages. Numbers in them are in network byte order.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::{Entry, Status};
use crate::ids::CtZone;
use crate::netlink::wire::{Attribute, Attributes, Malformed, Writer};
use crate::tuple::{ICMP, ICMPV6, L4, Tuple};

/// `NFNL_SUBSYS_CTNETLINK`.
const SUBSYSTEM: u16 = 1 << 8;
/// Of a connection that is new or has changed; in the group of new ones, only the former.
pub(super) const NEW: u16 = SUBSYSTEM;
pub(super) const GET: u16 = SUBSYSTEM | 1;
pub(super) const DELETE: u16 = SUBSYSTEM | 2;
pub(super) const GET_STATS: u16 = SUBSYSTEM | 5;

/// `struct nfgenmsg`: family, version, resource. No family is both IP versions.
pub(super) const HEADER: [u8; 4] = [0; 4];

const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const TIMEOUT: u16 = 7;
const MARK: u16 = 8;
const ID: u16 = 12;
pub(super) const ZONE: u16 = 18;
const TIMESTAMP: u16 = 20;

const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;

const V4_SRC: u16 = 1;
const V4_DST: u16 = 2;
const V6_SRC: u16 = 3;
const V6_DST: u16 = 4;

const PROTO_NUM: u16 = 1;
const SRC_PORT: u16 = 2;
const DST_PORT: u16 = 3;
/// Id, type and code of ICMP, and three higher those of ICMPv6.
const ICMP_FIRST: u16 = 4;
const ICMPV6_FIRST: u16 = 7;

const TIMESTAMP_START: u16 = 1;

const STATS_ENTRIES: u16 = 1;

fn be16(attribute: &Attribute<'_>) -> Result<u16, Malformed> {
    attribute.u16().map(u16::from_be)
}

fn be32(attribute: &Attribute<'_>) -> Result<u32, Malformed> {
    attribute.u32().map(u32::from_be)
}

/// A request for all entries, or for those of a zone.
pub(super) fn dump(zone: Option<CtZone>) -> Result<Vec<u8>, Malformed> {
    let mut writer = Writer::new(&HEADER);
    if let Some(zone) = zone {
        writer.put(ZONE, &zone.get().to_be_bytes());
    }
    writer.finish()
}

/// A request to delete one entry. The tuple must be there: without one the kernel deletes everything.
pub(super) fn delete(entry: &Entry) -> Result<Vec<u8>, Malformed> {
    let family = if entry.orig.src.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    let [family, ..] = family.to_le_bytes();
    let mut writer = Writer::new(&[family, 0, 0, 0]);
    put_tuple(&mut writer, &entry.orig);
    if let Some(zone) = entry.zone {
        writer.put(ZONE, &zone.get().to_be_bytes());
    }
    writer.put(ID, &entry.id.to_be_bytes());
    writer.finish()
}

fn put_tuple(writer: &mut Writer, tuple: &Tuple) {
    writer.nest(TUPLE_ORIG, |nest| {
        nest.nest(TUPLE_IP, |ip| {
            for (address, v4, v6) in [(tuple.src, V4_SRC, V6_SRC), (tuple.dst, V4_DST, V6_DST)] {
                match address {
                    IpAddr::V4(address) => ip.put(v4, &address.octets()),
                    IpAddr::V6(address) => ip.put(v6, &address.octets()),
                };
            }
        });
        nest.nest(TUPLE_PROTO, |proto| {
            proto.put(PROTO_NUM, &[tuple.proto]);
            match tuple.l4 {
                L4::Ports { src, dst } => {
                    proto.put(SRC_PORT, &src.to_be_bytes()).put(DST_PORT, &dst.to_be_bytes());
                }
                L4::Icmp { kind, code, id } => {
                    let first = if tuple.proto == ICMPV6 { ICMPV6_FIRST } else { ICMP_FIRST };
                    proto.put(first, &id.to_be_bytes()).put(first + 1, &[kind]).put(first + 2, &[code]);
                }
                L4::None => {}
            }
        });
    });
}

pub(super) fn entry(payload: &[u8]) -> Result<Entry, Malformed> {
    let (mut orig, mut reply, mut id) = (None, None, None);
    let (mut zone, mut timeout, mut mark, mut status) = (None, None, 0, Status::default());
    let mut began = None;
    for attribute in Attributes::after(payload, HEADER.len())? {
        let attribute = attribute?;
        match attribute.kind {
            TUPLE_ORIG => orig = Some(tuple(attribute.nested())?),
            TUPLE_REPLY => reply = Some(tuple(attribute.nested())?),
            STATUS => status = Status(be32(&attribute)?),
            TIMEOUT => timeout = Some(Duration::from_secs(be32(&attribute)?.into())),
            MARK => mark = be32(&attribute)?,
            ID => id = Some(be32(&attribute)?),
            ZONE => zone = CtZone::new(be16(&attribute)?),
            TIMESTAMP => began = start(attribute.nested())?,
            _ => {}
        }
    }
    let missing = |what| move || Malformed::new(format!("a connection without {what}"));
    Ok(Entry {
        zone,
        orig: orig.ok_or_else(missing("its tuple"))?,
        reply: reply.ok_or_else(missing("its reply's tuple"))?,
        mark,
        status,
        id: id.ok_or_else(missing("id"))?,
        timeout,
        began,
    })
}

fn start(timestamp: Attributes<'_>) -> Result<Option<Duration>, Malformed> {
    let Some(start) = timestamp.find(TIMESTAMP_START)? else { return Ok(None) };
    let octets = <[u8; 8]>::try_from(start.value)
        .map_err(|_| Malformed::new(format!("a time of {} bytes", start.value.len())))?;
    Ok(Some(Duration::from_nanos(u64::from_be_bytes(octets))))
}

fn tuple(attributes: Attributes<'_>) -> Result<Tuple, Malformed> {
    let nest = |kind, what| {
        let nest = attributes.find(kind)?.map(|nest| nest.nested());
        nest.ok_or_else(|| Malformed::new(format!("a tuple without {what}")))
    };
    let (mut src, mut dst) = (None, None);
    for attribute in nest(TUPLE_IP, "addresses")? {
        let attribute = attribute?;
        match attribute.kind {
            V4_SRC => src = Some(v4(&attribute)?),
            V4_DST => dst = Some(v4(&attribute)?),
            V6_SRC => src = Some(v6(&attribute)?),
            V6_DST => dst = Some(v6(&attribute)?),
            _ => {}
        }
    }
    let (src, dst) = src.zip(dst).ok_or_else(|| Malformed::new("a tuple without an address"))?;
    let proto = nest(TUPLE_PROTO, "protocol")?;
    let number =
        proto.find(PROTO_NUM)?.ok_or_else(|| Malformed::new("a tuple without a protocol's number"))?;
    let proto_number = number.u8()?;
    Ok(Tuple { src, dst, proto: proto_number, l4: l4(proto, proto_number)? })
}

fn l4(attributes: Attributes<'_>, proto: u8) -> Result<L4, Malformed> {
    let short = |kind| attributes.find(kind)?.map(|it| be16(&it)).transpose();
    let byte = |kind| attributes.find(kind)?.map(|it| it.u8()).transpose();
    if let ICMP | ICMPV6 = proto {
        let first = if proto == ICMPV6 { ICMPV6_FIRST } else { ICMP_FIRST };
        let (id, kind, code) = (short(first)?, byte(first + 1)?, byte(first + 2)?);
        return Ok(match (id, kind, code) {
            (Some(id), Some(kind), Some(code)) => L4::Icmp { kind, code, id },
            _ => L4::None,
        });
    }
    Ok(match (short(SRC_PORT)?, short(DST_PORT)?) {
        (Some(src), Some(dst)) => L4::Ports { src, dst },
        _ => L4::None,
    })
}

fn v4(attribute: &Attribute<'_>) -> Result<IpAddr, Malformed> {
    attribute.u32().map(|bits| Ipv4Addr::from(u32::from_be(bits)).into())
}

fn v6(attribute: &Attribute<'_>) -> Result<IpAddr, Malformed> {
    let octets = <[u8; 16]>::try_from(attribute.value)
        .map_err(|_| Malformed::new(format!("an IPv6 address of {} bytes", attribute.value.len())))?;
    Ok(Ipv6Addr::from(octets).into())
}

/// The count in an answer to [`GET_STATS`].
pub(super) fn kept(payload: &[u8]) -> Result<u32, Malformed> {
    let count = Attributes::after(payload, HEADER.len())?.find(STATS_ENTRIES)?;
    be32(&count.ok_or_else(|| Malformed::new("no count of connections"))?)
}
