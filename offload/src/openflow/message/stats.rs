//! Multipart bodies: flows with their counters, and ports.

use std::time::Duration;

use super::PortDesc;
use crate::ids::MacAddr;
use crate::openflow::actions::Port;
use crate::openflow::actions::wire::{put_instructions, take_instructions};
use crate::openflow::fields::{Cookie, TableId};
use crate::openflow::flow::{Flow, InstalledFlow};
use crate::openflow::matches::Match;
use crate::openflow::oxm::{put_match, take_match};
use crate::openflow::wire::{DecodeError, EncodeError, Pad, Put, Reader, length16};

const ALL_TABLES: u8 = 0xff;
const PORT_NAME: usize = 16;
const PORT_ETHERNET: u16 = 0;

/// `OXS_OF_*`: class, then field shifted left by one, then length.
const CLASS_BASIC: u16 = 0x8002;
const DURATION: u8 = 0;
const PACKETS: u8 = 4;
const BYTES: u8 = 5;

pub fn put_request(body: &mut Vec<u8>) -> Result<(), EncodeError> {
    body.put_u8(ALL_TABLES);
    body.put_zeroes(3);
    body.put_u32(u32::MAX); // whatever its output port
    body.put_u32(u32::MAX); // whatever its group
    body.put_zeroes(4);
    body.put_u64(0); // whatever its cookie
    body.put_u64(0);
    put_match(&Match::any(), body)
}

pub fn is_request_for_all(body: Reader<'_>) -> bool {
    let mut all = Vec::new();
    put_request(&mut all).is_ok() && body.rest() == all
}

pub fn put_flow(it: &InstalledFlow, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut body = Vec::new();
    body.put_zeroes(2);
    body.put_u8(it.flow.table.0);
    body.put_u8(0);
    body.put_u16(it.flow.priority);
    body.put_u16(it.idle_timeout);
    body.put_u16(it.hard_timeout);
    body.put_u16(it.flags);
    body.put_u16(it.importance);
    body.put_u64(it.flow.cookie.0);
    put_match(&it.flow.matches, &mut body)?;
    let mut stats = Vec::new();
    for (field, value) in [(DURATION, duration_bits(it.duration)), (PACKETS, it.packets), (BYTES, it.bytes)] {
        stats.put_u16(CLASS_BASIC);
        stats.put_u8(field << 1);
        stats.put_u8(8);
        stats.put_u64(value);
    }
    body.put_tlv("flow statistics", 0, &stats, Pad::Uncounted)?;
    put_instructions(&it.flow.actions, &mut body)?;
    out.put_u16(length16("flow description", body.len().saturating_add(2))?);
    out.put(&body);
    Ok(())
}

fn duration_bits(duration: Duration) -> u64 {
    let seconds = u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    u64::from(seconds) << 32 | u64::from(duration.subsec_nanos())
}

pub fn take_flow(body: &mut Reader<'_>) -> Result<InstalledFlow, DecodeError> {
    let length = usize::from(body.u16()?);
    let rest = length.checked_sub(2).ok_or(DecodeError::BadLength { what: "flow description", length })?;
    let mut one = Reader::new("flow description", body.take(rest)?);
    one.skip(2)?;
    let table = TableId(one.u8()?);
    one.skip(1)?;
    let (priority, idle_timeout, hard_timeout) = (one.u16()?, one.u16()?, one.u16()?);
    let (flags, importance, cookie) = (one.u16()?, one.u16()?, Cookie(one.u64()?));
    let matches = take_match(&mut one)?;
    let (_, mut stats) = one.tlv("flow statistics", true)?;
    let (mut duration, mut packets, mut bytes) = (Duration::ZERO, 0, 0);
    while !stats.is_empty() {
        let (class, field) = (stats.u16()?, stats.u8()?);
        let length = usize::from(stats.u8()?);
        let mut value = Reader::new("flow statistic", stats.take(length)?);
        match (class, field >> 1) {
            (CLASS_BASIC, DURATION) => {
                // Not Duration::new, which panics when the nanoseconds carry over the largest second.
                duration =
                    Duration::from_secs(value.u32()?.into()) + Duration::from_nanos(value.u32()?.into());
            }
            (CLASS_BASIC, PACKETS) => packets = value.u64()?,
            (CLASS_BASIC, BYTES) => bytes = value.u64()?,
            _ => {}
        }
    }
    let actions = take_instructions(one)?;
    let flow = Flow { table, priority, cookie, matches, actions };
    Ok(InstalledFlow { flow, packets, bytes, duration, idle_timeout, hard_timeout, flags, importance })
}

pub fn put_port(port: &PortDesc, out: &mut Vec<u8>) {
    out.put_u32(port.number.number());
    out.put_u16(40 + 32);
    out.put_zeroes(2);
    out.put(&port.mac.0);
    out.put_zeroes(2);
    let name = port.name.as_bytes();
    let name = name.get(..PORT_NAME - 1).unwrap_or(name);
    out.put(name);
    out.put_zeroes(PORT_NAME.saturating_sub(name.len()));
    out.put_u32(port.config);
    out.put_u32(port.state);
    out.put_u16(PORT_ETHERNET);
    out.put_u16(32);
    out.put_zeroes(28); // no features and no speeds
}

pub fn take_port(body: &mut Reader<'_>) -> Result<PortDesc, DecodeError> {
    let number = Port::from_number(body.u32()?);
    let length = usize::from(body.u16()?);
    let rest = length.checked_sub(6).ok_or(DecodeError::BadLength { what: "port description", length })?;
    let mut one = Reader::new("port description", body.take(rest)?);
    one.skip(2)?;
    let mac = MacAddr(one.array()?);
    one.skip(2)?;
    let name = one.take(PORT_NAME)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).into_owned();
    Ok(PortDesc { number, mac, name, config: one.u32()?, state: one.u32()? })
}
