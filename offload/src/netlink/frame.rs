//! Netlink's own framing: messages in a datagram.

use super::wire::{Malformed, u16_at, u32_at};

/// Length, type, flags, sequence number, port.
pub const NLMSG_HEADER: usize = 16;

/// A message of a dump may carry `NLM_F_DUMP_INTR`.
pub const DUMP_INTERRUPTED: u16 = 0x10;

/// The parts of a netlink header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    pub port: u32,
    pub payload: &'a [u8],
}

/// The messages of one datagram, in order.
pub struct Frames<'a>(&'a [u8]);

impl<'a> Frames<'a> {
    pub fn new(datagram: &'a [u8]) -> Self {
        Self(datagram)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let read = || {
            let length = u32_at(bytes, 0)? as usize;
            let payload = bytes.get(NLMSG_HEADER..length).ok_or_else(|| {
                Malformed::new(format!(
                    "a message claims {length} bytes of the {} that are left",
                    bytes.len()
                ))
            })?;
            let frame = Frame {
                kind: u16_at(bytes, 4)?,
                flags: u16_at(bytes, 6)?,
                sequence: u32_at(bytes, 8)?,
                port: u32_at(bytes, 12)?,
                payload,
            };
            Ok((frame, bytes.get(length.div_ceil(4) * 4..).unwrap_or_default()))
        };
        Some(read().map(|(frame, rest)| {
            self.0 = rest;
            frame
        }))
    }
}
