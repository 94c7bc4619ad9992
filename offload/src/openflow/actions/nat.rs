//! `NXAST_NAT`, which only stands inside of `ct`.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Nat, NatRange};
use crate::openflow::wire::{DecodeError, Put, Reader};

const SOURCE: u16 = 1;
const DESTINATION: u16 = 2;
const IPV4_MIN: u16 = 1;
const IPV4_MAX: u16 = 2;
const IPV6_MIN: u16 = 4;
const IPV6_MAX: u16 = 8;
const PORT_MIN: u16 = 16;
const PORT_MAX: u16 = 32;

/// Everything after the subtype, without the padding at the end.
pub fn put(nat: Nat, out: &mut Vec<u8>) {
    out.put_u16(0);
    let range = match nat {
        Nat::Restore => {
            out.put_u16(0);
            out.put_u16(0);
            return;
        }
        Nat::Source(range) => {
            out.put_u16(SOURCE);
            range
        }
        Nat::Destination(range) => {
            out.put_u16(DESTINATION);
            range
        }
    };
    let mut present = 0;
    let mut body = Vec::new();
    let ports = match range {
        NatRange::Ipv4 { addresses: (first, last), ports } => {
            present |= IPV4_MIN;
            body.put(&first.octets());
            if first != last {
                present |= IPV4_MAX;
                body.put(&last.octets());
            }
            ports
        }
        NatRange::Ipv6 { addresses: (first, last), ports } => {
            present |= IPV6_MIN;
            body.put(&first.octets());
            if first != last {
                present |= IPV6_MAX;
                body.put(&last.octets());
            }
            ports
        }
    };
    if let Some((first, last)) = ports {
        present |= PORT_MIN;
        body.put_u16(first);
        if first != last {
            present |= PORT_MAX;
            body.put_u16(last);
        }
    }
    out.put_u16(present);
    out.put(&body);
}

/// `None`: a translation that this program does not write.
pub fn take(reader: &mut Reader<'_>) -> Result<Option<Nat>, DecodeError> {
    reader.skip(2)?;
    let flags = reader.u16()?;
    let present = reader.u16()?;
    if flags == 0 && present == 0 {
        return Ok(Some(Nat::Restore));
    }
    let has = |bit: u16| present & bit != 0;
    let ipv4 = if has(IPV4_MIN) {
        let first = Ipv4Addr::from(reader.array::<4>()?);
        Some((first, if has(IPV4_MAX) { Ipv4Addr::from(reader.array::<4>()?) } else { first }))
    } else {
        None
    };
    let ipv6 = if has(IPV6_MIN) {
        let first = Ipv6Addr::from(reader.array::<16>()?);
        Some((first, if has(IPV6_MAX) { Ipv6Addr::from(reader.array::<16>()?) } else { first }))
    } else {
        None
    };
    let ports = if has(PORT_MIN) {
        let first = reader.u16()?;
        Some((first, if has(PORT_MAX) { reader.u16()? } else { first }))
    } else {
        None
    };
    let range = match (ipv4, ipv6) {
        (Some(addresses), None) => NatRange::Ipv4 { addresses, ports },
        (None, Some(addresses)) => NatRange::Ipv6 { addresses, ports },
        _ => return Ok(None),
    };
    Ok(match flags {
        SOURCE => Some(Nat::Source(range)),
        DESTINATION => Some(Nat::Destination(range)),
        _ => None,
    })
}
