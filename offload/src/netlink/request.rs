//! A request to the kernel, before a socket sends it.

use netlink_packet_core::Emitable;

/// Flags of a request.
pub mod flags {
    pub const REQUEST: u16 = 0x1;
    pub const ACK: u16 = 0x4;
    pub const DUMP: u16 = 0x300;
    pub const REPLACE: u16 = 0x100;
    pub const EXCL: u16 = 0x200;
    pub const CREATE: u16 = 0x400;
}

/// A request before it has a sequence number: its type, flags beyond REQUEST and ACK, and what follows the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub kind: u16,
    pub flags: u16,
    pub payload: Vec<u8>,
}

impl Request {
    pub fn new(kind: u16, flags: u16, payload: Vec<u8>) -> Self {
        Self { kind, flags, payload }
    }

    /// From a message of netlink-packet-route.
    pub fn emit(kind: u16, flags: u16, message: &impl Emitable) -> Self {
        let mut payload = vec![0; message.buffer_len()];
        message.emit(&mut payload);
        Self { kind, flags, payload }
    }

    pub(super) fn append_to(&self, datagram: &mut Vec<u8>, flags: u16, sequence: u32, port: u32) {
        let length = u32::try_from(16 + self.payload.len()).unwrap_or(u32::MAX);
        datagram.extend_from_slice(&length.to_ne_bytes());
        datagram.extend_from_slice(&self.kind.to_ne_bytes());
        datagram.extend_from_slice(&(self.flags | flags | self::flags::REQUEST).to_ne_bytes());
        datagram.extend_from_slice(&sequence.to_ne_bytes());
        datagram.extend_from_slice(&port.to_ne_bytes());
        datagram.extend_from_slice(&self.payload);
        datagram.resize(datagram.len().div_ceil(4) * 4, 0);
    }
}
