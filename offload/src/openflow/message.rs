//! OpenFlow messages, both ways. [`Message::encode`] and [`Message::decode`] are inverse to each other for everything
//! that has a variant; the rest is [`Message::Other`].

use std::fmt;

use super::errors::SwitchError;
use super::flow::{FlowMod, InstalledFlow};
use super::meter::{InstalledMeter, MeterMod, MeterStats};
use super::wire::{DecodeError, EncodeError, Put, Reader, length16};

mod ct_flush;
mod flow_mod;
mod meter;
mod stats;

pub use ct_flush::{CtFlush, CtTuple};

pub const VERSION: u8 = 6;
/// Every message begins with version, type, length of the whole and transaction id.
pub const HEADER: usize = 8;

/// Transaction id: the answer carries its question's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub u32);

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The versions offered, as bits. A peer that sends no bitmap offers its header's version and all below.
    Hello {
        versions: u32,
    },
    Error(SwitchError),
    EchoRequest(Vec<u8>),
    EchoReply(Vec<u8>),
    FeaturesRequest,
    FeaturesReply(Features),
    BarrierRequest,
    BarrierReply,
    FlowMod(FlowMod),
    /// All flows of all tables.
    FlowStatsRequest,
    FlowStatsReply {
        flows: Vec<InstalledFlow>,
        more: bool,
    },
    PortDescRequest,
    PortDescReply {
        ports: Vec<PortDesc>,
        more: bool,
    },
    MeterMod(MeterMod),
    /// All meters, as they are configured.
    MeterDescRequest,
    MeterDescReply {
        meters: Vec<InstalledMeter>,
        more: bool,
    },
    /// The counters of all meters.
    MeterStatsRequest,
    MeterStatsReply {
        stats: Vec<MeterStats>,
        more: bool,
    },
    BundleControl {
        bundle: u32,
        step: BundleStep,
    },
    BundleAdd {
        bundle: u32,
        change: FlowMod,
    },
    /// Forget a zone's connections (`NXT_CT_FLUSH_ZONE`). Not answered: ask for a barrier.
    CtFlushZone(u16),
    /// Forget some connections (`NXT_CT_FLUSH`, since OVS 3.1). Not answered.
    CtFlush(CtFlush),
    Other {
        kind: u8,
        body: Vec<u8>,
    },
}

/// Steps of a bundle, each with its answer. Ours are always atomic and ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BundleStep {
    Open,
    Opened,
    Commit,
    Committed,
    Discard,
    Discarded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    pub datapath_id: u64,
    pub buffers: u32,
    pub tables: u8,
    pub auxiliary_id: u8,
    pub capabilities: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortDesc {
    pub number: super::Port,
    pub mac: crate::ids::MacAddr,
    pub name: String,
    /// `OFPPC_*`: what was asked for.
    pub config: u32,
    /// `OFPPS_*`: how it is. Bit 0: link down.
    pub state: u32,
}

const HELLO: u8 = 0;
const ERROR: u8 = 1;
const ECHO_REQUEST: u8 = 2;
const ECHO_REPLY: u8 = 3;
const EXPERIMENTER: u8 = 4;
const FEATURES_REQUEST: u8 = 5;
const FEATURES_REPLY: u8 = 6;
const FLOW_MOD: u8 = 14;
const MULTIPART_REQUEST: u8 = 18;
const MULTIPART_REPLY: u8 = 19;
const BARRIER_REQUEST: u8 = 20;
const BARRIER_REPLY: u8 = 21;
const METER_MOD: u8 = 29;
const BUNDLE_CONTROL: u8 = 33;
const BUNDLE_ADD: u8 = 34;

const MULTIPART_FLOW_DESC: u16 = 1;
const MULTIPART_METER_STATS: u16 = 9;
const MULTIPART_METER_DESC: u16 = 10;
const MULTIPART_PORT_DESC: u16 = 13;
const MULTIPART_MORE: u16 = 1;

const HELLO_BITMAP: u16 = 1;
const BUNDLE_ATOMIC_ORDERED: u16 = 3;

const NICIRA: u32 = 0x0000_2320;
const NXT_CT_FLUSH_ZONE: u32 = 29;
const NXT_CT_FLUSH: u32 = 32;

/// Version, type, length and transaction id of the message that begins here, as soon as those are there.
pub fn header(bytes: &[u8]) -> Result<(u8, u8, usize, Xid), DecodeError> {
    let mut reader = Reader::new("header", bytes);
    let (version, kind) = (reader.u8()?, reader.u8()?);
    let length = usize::from(reader.u16()?);
    if length < HEADER {
        return Err(DecodeError::BadLength { what: "message", length });
    }
    Ok((version, kind, length, Xid(reader.u32()?)))
}

impl Message {
    pub fn encode(&self, xid: Xid) -> Result<Vec<u8>, EncodeError> {
        let mut body = Vec::new();
        let kind = self.put_body(xid, &mut body)?;
        let mut out = Vec::with_capacity(HEADER.saturating_add(body.len()));
        out.put_u8(VERSION);
        out.put_u8(kind);
        out.put_u16(length16("message", HEADER.saturating_add(body.len()))?);
        out.put_u32(xid.0);
        out.put(&body);
        Ok(out)
    }

    fn put_body(&self, xid: Xid, body: &mut Vec<u8>) -> Result<u8, EncodeError> {
        Ok(match self {
            Self::Hello { versions } => {
                body.put_u16(HELLO_BITMAP);
                body.put_u16(8);
                body.put_u32(*versions);
                HELLO
            }
            Self::Error(error) => {
                body.put_u16(error.kind);
                body.put_u16(error.code);
                body.put(&error.data);
                ERROR
            }
            Self::EchoRequest(data) => {
                body.put(data);
                ECHO_REQUEST
            }
            Self::EchoReply(data) => {
                body.put(data);
                ECHO_REPLY
            }
            Self::FeaturesRequest => FEATURES_REQUEST,
            Self::FeaturesReply(features) => {
                features.put(body);
                FEATURES_REPLY
            }
            Self::BarrierRequest => BARRIER_REQUEST,
            Self::BarrierReply => BARRIER_REPLY,
            Self::FlowMod(change) => {
                flow_mod::put(change, body)?;
                FLOW_MOD
            }
            Self::FlowStatsRequest => {
                put_multipart(MULTIPART_FLOW_DESC, false, body);
                stats::put_request(body)?;
                MULTIPART_REQUEST
            }
            Self::FlowStatsReply { flows, more } => {
                put_multipart(MULTIPART_FLOW_DESC, *more, body);
                for flow in flows {
                    stats::put_flow(flow, body)?;
                }
                MULTIPART_REPLY
            }
            Self::PortDescRequest => {
                put_multipart(MULTIPART_PORT_DESC, false, body);
                body.put_u32(u32::MAX); // any port
                body.put_zeroes(4);
                MULTIPART_REQUEST
            }
            Self::PortDescReply { ports, more } => {
                put_multipart(MULTIPART_PORT_DESC, *more, body);
                for port in ports {
                    stats::put_port(port, body);
                }
                MULTIPART_REPLY
            }
            Self::MeterMod(change) => {
                meter::put_change(*change, body);
                METER_MOD
            }
            Self::MeterDescRequest => {
                put_multipart(MULTIPART_METER_DESC, false, body);
                meter::put_request(body);
                MULTIPART_REQUEST
            }
            Self::MeterDescReply { meters, more } => {
                put_multipart(MULTIPART_METER_DESC, *more, body);
                for it in meters {
                    meter::put_installed(*it, body);
                }
                MULTIPART_REPLY
            }
            Self::MeterStatsRequest => {
                put_multipart(MULTIPART_METER_STATS, false, body);
                meter::put_request(body);
                MULTIPART_REQUEST
            }
            Self::MeterStatsReply { stats, more } => {
                put_multipart(MULTIPART_METER_STATS, *more, body);
                for it in stats {
                    meter::put_stats(*it, body);
                }
                MULTIPART_REPLY
            }
            Self::BundleControl { bundle, step } => {
                body.put_u32(*bundle);
                body.put_u16(step.number());
                body.put_u16(BUNDLE_ATOMIC_ORDERED);
                BUNDLE_CONTROL
            }
            Self::BundleAdd { bundle, change } => {
                body.put_u32(*bundle);
                body.put_zeroes(2);
                body.put_u16(BUNDLE_ATOMIC_ORDERED);
                // The message inside is a whole one, of the same transaction.
                body.put(&Self::FlowMod(change.clone()).encode(xid)?);
                BUNDLE_ADD
            }
            Self::CtFlushZone(zone) => {
                body.put_u32(NICIRA);
                body.put_u32(NXT_CT_FLUSH_ZONE);
                body.put_zeroes(6);
                body.put_u16(*zone);
                EXPERIMENTER
            }
            Self::CtFlush(flush) => {
                body.put_u32(NICIRA);
                body.put_u32(NXT_CT_FLUSH);
                flush.put(body)?;
                EXPERIMENTER
            }
            Self::Other { kind, body: bytes } => {
                body.put(bytes);
                *kind
            }
        })
    }

    /// One whole message. The version is checked for all but hello and error, which precede the agreement.
    pub fn decode(bytes: &[u8]) -> Result<(Xid, Self), DecodeError> {
        let (version, kind, length, xid) = header(bytes)?;
        if length != bytes.len() {
            return Err(DecodeError::BadLength { what: "message", length });
        }
        if version != VERSION && kind != HELLO && kind != ERROR {
            return Err(DecodeError::Version(version));
        }
        let body = bytes.get(HEADER..).unwrap_or_default();
        Ok((xid, Self::take_body(version, kind, body)?))
    }

    fn take_body(version: u8, kind: u8, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut body = Reader::new("message", bytes);
        let other = || Self::Other { kind, body: bytes.to_vec() };
        Ok(match kind {
            HELLO => Self::Hello { versions: take_versions(version, body)? },
            ERROR => {
                Self::Error(SwitchError { kind: body.u16()?, code: body.u16()?, data: body.rest().to_vec() })
            }
            ECHO_REQUEST => Self::EchoRequest(bytes.to_vec()),
            ECHO_REPLY => Self::EchoReply(bytes.to_vec()),
            FEATURES_REQUEST => Self::FeaturesRequest,
            FEATURES_REPLY => Self::FeaturesReply(Features::take(&mut body)?),
            BARRIER_REQUEST => Self::BarrierRequest,
            BARRIER_REPLY => Self::BarrierReply,
            FLOW_MOD => flow_mod::take(body)?.map_or_else(other, Self::FlowMod),
            MULTIPART_REQUEST => match take_multipart(&mut body)? {
                (MULTIPART_FLOW_DESC, _) if stats::is_request_for_all(body) => Self::FlowStatsRequest,
                (MULTIPART_PORT_DESC, _) => Self::PortDescRequest,
                (MULTIPART_METER_DESC, _) => Self::MeterDescRequest,
                (MULTIPART_METER_STATS, _) => Self::MeterStatsRequest,
                _ => other(),
            },
            MULTIPART_REPLY => match take_multipart(&mut body)? {
                (MULTIPART_FLOW_DESC, more) => {
                    Self::FlowStatsReply { flows: take_all(body, stats::take_flow)?, more }
                }
                (MULTIPART_PORT_DESC, more) => {
                    Self::PortDescReply { ports: take_all(body, stats::take_port)?, more }
                }
                (MULTIPART_METER_DESC, more) => {
                    Self::MeterDescReply { meters: take_all(body, meter::take_installed)?, more }
                }
                (MULTIPART_METER_STATS, more) => {
                    Self::MeterStatsReply { stats: take_all(body, meter::take_stats)?, more }
                }
                _ => other(),
            },
            METER_MOD => meter::take_change(body)?.map_or_else(other, Self::MeterMod),
            BUNDLE_CONTROL => {
                let bundle = body.u32()?;
                BundleStep::from_number(body.u16()?)
                    .map_or_else(other, |step| Self::BundleControl { bundle, step })
            }
            BUNDLE_ADD => {
                let bundle = body.u32()?;
                body.skip(4)?;
                match Self::decode(body.rest())? {
                    (_, Self::FlowMod(change)) => Self::BundleAdd { bundle, change },
                    _ => other(),
                }
            }
            EXPERIMENTER => match (body.u32()?, body.u32()?) {
                (NICIRA, NXT_CT_FLUSH_ZONE) => {
                    body.skip(6)?;
                    Self::CtFlushZone(body.u16()?)
                }
                (NICIRA, NXT_CT_FLUSH) => Self::CtFlush(CtFlush::take(body)?),
                _ => other(),
            },
            _ => other(),
        })
    }
}

fn take_versions(version: u8, mut body: Reader<'_>) -> Result<u32, DecodeError> {
    while !body.is_empty() {
        let (kind, mut element) = body.tlv("hello element", true)?;
        if kind == HELLO_BITMAP {
            return element.u32();
        }
    }
    // Bits 1 to `version`; bit 0 stands for no version.
    Ok(1u32.checked_shl(u32::from(version).saturating_add(1)).unwrap_or(0).wrapping_sub(2))
}

fn put_multipart(kind: u16, more: bool, body: &mut Vec<u8>) {
    body.put_u16(kind);
    body.put_u16(if more { MULTIPART_MORE } else { 0 });
    body.put_zeroes(4);
}

fn take_multipart(body: &mut Reader<'_>) -> Result<(u16, bool), DecodeError> {
    let kind = body.u16()?;
    let more = body.u16()? & MULTIPART_MORE != 0;
    body.skip(4)?;
    Ok((kind, more))
}

fn take_all<T>(
    mut body: Reader<'_>,
    take: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let mut all = Vec::new();
    while !body.is_empty() {
        all.push(take(&mut body)?);
    }
    Ok(all)
}

impl BundleStep {
    const ALL: [(u16, Self); 6] = [
        (0, Self::Open),
        (1, Self::Opened),
        (4, Self::Commit),
        (5, Self::Committed),
        (6, Self::Discard),
        (7, Self::Discarded),
    ];

    fn number(self) -> u16 {
        Self::ALL.into_iter().find(|(_, step)| *step == self).map_or(0, |(number, _)| number)
    }

    fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == number).map(|(_, step)| step)
    }
}

impl Features {
    fn put(self, body: &mut Vec<u8>) {
        body.put_u64(self.datapath_id);
        body.put_u32(self.buffers);
        body.put_u8(self.tables);
        body.put_u8(self.auxiliary_id);
        body.put_zeroes(2);
        body.put_u32(self.capabilities);
        body.put_zeroes(4);
    }

    fn take(body: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (datapath_id, buffers) = (body.u64()?, body.u32()?);
        let (tables, auxiliary_id) = (body.u8()?, body.u8()?);
        body.skip(2)?;
        Ok(Self { datapath_id, buffers, tables, auxiliary_id, capabilities: body.u32()? })
    }
}

#[cfg(test)]
mod tests;
