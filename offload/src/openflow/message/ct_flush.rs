//! `NXT_CT_FLUSH`: which connections to forget.

use std::net::{IpAddr, Ipv6Addr};

use crate::openflow::wire::{DecodeError, EncodeError, Pad, Put, Reader};

const ORIGINAL: u16 = 0;
const REPLY: u16 = 1;
const ZONE: u16 = 2;

const SOURCE: u16 = 0;
const DESTINATION: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;

/// Whatever is not given matches all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtFlush {
    pub zone: Option<u16>,
    pub proto: Option<u8>,
    pub original: CtTuple,
    pub reply: CtTuple,
}

/// Part of a connection's tuple in one direction. Ports are of TCP, UDP and SCTP only: there are also id, type and code
/// of ICMP, but `ovs-vswitchd` 3.1 over its userspace datapath dies of a whole ICMPv6 tuple.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtTuple {
    pub src: Option<IpAddr>,
    pub dst: Option<IpAddr>,
    pub src_port: Option<u16>,
    pub dst_port: Option<u16>,
}

impl CtFlush {
    pub(super) fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        out.put_u8(self.proto.unwrap_or(0));
        out.put_zeroes(7);
        for (kind, tuple) in [(ORIGINAL, self.original), (REPLY, self.reply)] {
            if tuple != CtTuple::default() {
                let mut nested = vec![0; 4];
                tuple.put(&mut nested)?;
                out.put_tlv("tuple", kind, &nested, Pad::Uncounted)?;
            }
        }
        if let Some(zone) = self.zone {
            out.put_tlv("zone", ZONE, &pad16(zone), Pad::Uncounted)?;
        }
        Ok(())
    }

    pub(super) fn take(mut body: Reader<'_>) -> Result<Self, DecodeError> {
        let proto = Some(body.u8()?).filter(|proto| *proto != 0);
        body.skip(7)?;
        let mut flush = Self { proto, ..Self::default() };
        while !body.is_empty() {
            let (kind, mut property) = body.tlv("flush property", true)?;
            match kind {
                ORIGINAL => flush.original = CtTuple::take(property)?,
                REPLY => flush.reply = CtTuple::take(property)?,
                ZONE => flush.zone = Some(property.u16()?),
                kind => return Err(DecodeError::BadValue { what: "flush property", value: u64::from(kind) }),
            }
        }
        Ok(flush)
    }
}

/// OVS pads 16-bit properties to four bytes and counts that.
fn pad16(value: u16) -> [u8; 4] {
    let [high, low] = value.to_be_bytes();
    [high, low, 0, 0]
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

impl CtTuple {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        for (kind, address) in [(SOURCE, self.src), (DESTINATION, self.dst)] {
            if let Some(address) = address {
                out.put_tlv("address", kind, &mapped(address), Pad::Uncounted)?;
            }
        }
        for (kind, port) in [(SOURCE_PORT, self.src_port), (DESTINATION_PORT, self.dst_port)] {
            if let Some(port) = port {
                out.put_tlv("port", kind, &pad16(port), Pad::Uncounted)?;
            }
        }
        Ok(())
    }

    fn take(mut body: Reader<'_>) -> Result<Self, DecodeError> {
        body.skip(4)?;
        let mut tuple = Self::default();
        while !body.is_empty() {
            let (kind, mut property) = body.tlv("tuple property", true)?;
            match kind {
                SOURCE => tuple.src = Some(Ipv6Addr::from(property.array::<16>()?).to_canonical()),
                DESTINATION => tuple.dst = Some(Ipv6Addr::from(property.array::<16>()?).to_canonical()),
                SOURCE_PORT => tuple.src_port = Some(property.u16()?),
                DESTINATION_PORT => tuple.dst_port = Some(property.u16()?),
                kind => return Err(DecodeError::BadValue { what: "tuple property", value: u64::from(kind) }),
            }
        }
        Ok(tuple)
    }
}
