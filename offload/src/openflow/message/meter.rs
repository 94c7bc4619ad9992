//! Meters: changes, descriptions, counters.

use crate::openflow::meter::{InstalledMeter, Meter, MeterMod, MeterStats};
use crate::openflow::wire::{DecodeError, Put, Reader};

const ADD: u16 = 0;
const MODIFY: u16 = 1;
const DELETE: u16 = 2;

/// `OFPMF_PKTPS`, `OFPMF_BURST`, `OFPMF_STATS`.
const FLAGS: u16 = 2 | 4 | 8;
const BAND_DROP: u16 = 1;
const BAND: u16 = 16;
/// Every meter.
const ALL: u32 = 0xffff_ffff;

pub fn put_change(change: MeterMod, body: &mut Vec<u8>) {
    let (command, id, meter) = match change {
        MeterMod::Add(meter) => (ADD, meter.id, Some(meter)),
        MeterMod::Modify(meter) => (MODIFY, meter.id, Some(meter)),
        MeterMod::Delete(id) => (DELETE, id, None),
    };
    body.put_u16(command);
    body.put_u16(if meter.is_some() { FLAGS } else { 0 });
    body.put_u32(id);
    if let Some(meter) = meter {
        put_band(meter, body);
    }
}

/// `None`: none that we write.
pub fn take_change(mut body: Reader<'_>) -> Result<Option<MeterMod>, DecodeError> {
    let (command, flags, id) = (body.u16()?, body.u16()?, body.u32()?);
    if command == DELETE {
        return Ok(Some(MeterMod::Delete(id)));
    }
    let meter = take_bands(id, flags, body)?;
    Ok(meter.and_then(|meter| match command {
        ADD => Some(MeterMod::Add(meter)),
        MODIFY => Some(MeterMod::Modify(meter)),
        _ => None,
    }))
}

fn put_band(meter: Meter, body: &mut Vec<u8>) {
    body.put_u16(BAND_DROP);
    body.put_u16(BAND);
    body.put_u32(meter.rate);
    body.put_u32(meter.burst);
    body.put_zeroes(4);
}

fn take_bands(id: u32, flags: u16, mut bands: Reader<'_>) -> Result<Option<Meter>, DecodeError> {
    if flags != FLAGS || bands.len() != usize::from(BAND) {
        return Ok(None);
    }
    let (kind, _) = (bands.u16()?, bands.u16()?);
    let (rate, burst) = (bands.u32()?, bands.u32()?);
    Ok((kind == BAND_DROP).then_some(Meter { id, rate, burst }))
}

/// Of descriptions and counters alike.
pub fn put_request(body: &mut Vec<u8>) {
    body.put_u32(ALL);
    body.put_zeroes(4);
}

pub fn put_installed(it: InstalledMeter, body: &mut Vec<u8>) {
    // One of another kind than ours is shown without bands.
    body.put_u16(if it.meter.is_some() { 8 + BAND } else { 8 });
    body.put_u16(if it.meter.is_some() { FLAGS } else { 0 });
    body.put_u32(it.id);
    if let Some(meter) = it.meter {
        put_band(meter, body);
    }
}

pub fn take_installed(body: &mut Reader<'_>) -> Result<InstalledMeter, DecodeError> {
    let length = usize::from(body.u16()?);
    let rest = length.checked_sub(2).ok_or(DecodeError::BadLength { what: "meter", length })?;
    let mut one = Reader::new("meter", body.take(rest)?);
    let (flags, id) = (one.u16()?, one.u32()?);
    Ok(InstalledMeter { id, meter: take_bands(id, flags, one)? })
}

pub fn put_stats(it: MeterStats, body: &mut Vec<u8>) {
    body.put_u32(it.id);
    body.put_u16(56);
    body.put_zeroes(6);
    body.put_u32(0); // flows
    body.put_u64(it.packets);
    body.put_u64(0); // bytes
    body.put_zeroes(8); // for how long
    body.put_u64(it.dropped);
    body.put_u64(0);
}

pub fn take_stats(body: &mut Reader<'_>) -> Result<MeterStats, DecodeError> {
    let (id, length) = (body.u32()?, usize::from(body.u16()?));
    let rest = length.checked_sub(6).ok_or(DecodeError::BadLength { what: "meter counters", length })?;
    let mut one = Reader::new("meter counters", body.take(rest)?);
    one.skip(10)?;
    let packets = one.u64()?;
    one.skip(16)?;
    let mut dropped = 0u64;
    while !one.is_empty() {
        dropped = dropped.saturating_add(one.u64()?);
        one.skip(8)?;
    }
    Ok(MeterStats { id, packets, dropped })
}
