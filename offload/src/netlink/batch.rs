//! Many requests for few system calls: messages in one buffer that is used again.

use super::frame::NLMSG_HEADER;
use super::request::{Request, flags};
use super::wire::{Malformed, Writer, overwrite};

/// Most requests of a batch in one datagram: their errors must fit the receive buffer even where it cannot be raised.
const MESSAGES: usize = 128;
/// The kernel copies a datagram into one piece of memory, and refuses what is larger than the send buffer (`EMSGSIZE`).
const BYTES: usize = 96 << 10;

/// Requests that go to the kernel in one datagram. What is in a full one should be sent before more is added.
#[derive(Debug, Default)]
pub struct Batch {
    writer: Writer,
    /// Where each message starts.
    starts: Vec<usize>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.starts.len() >= MESSAGES || self.writer.bytes().len() >= BYTES
    }

    pub fn clear(&mut self) {
        self.writer.bytes_mut().clear();
        self.starts.clear();
    }

    /// Adds a message. With `acknowledge` the kernel answers it even if it succeeds.
    pub fn push(
        &mut self,
        kind: u16,
        flags: u16,
        acknowledge: bool,
        header: &[u8],
        fill: impl FnOnce(&mut Writer),
    ) -> Result<(), Malformed> {
        let start = self.writer.bytes().len();
        let ack = if acknowledge { flags::ACK } else { 0 };
        self.writer.message(kind, flags | ack | flags::REQUEST, header, fill)?;
        self.starts.push(start);
        Ok(())
    }

    pub(super) fn push_request(&mut self, request: &Request, acknowledge: bool) -> Result<(), Malformed> {
        self.push(request.kind, request.flags, acknowledge, &request.payload, |_| ())
    }

    pub(super) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Numbers the messages from `first` on, and asks for an answer to the last one. Returns what is to be sent.
    pub(super) fn seal(&mut self, first: u32, port: u32) -> &[u8] {
        let last = self.starts.last().copied();
        let bytes = self.writer.bytes_mut();
        for (sequence, start) in (first..).zip(&self.starts) {
            overwrite(bytes, start + 8, &sequence.to_ne_bytes());
            overwrite(bytes, start + NLMSG_HEADER - 4, &port.to_ne_bytes());
        }
        if let Some(at) = last.map(|start| start + 6)
            && let Some([a, b]) = bytes.get(at..).and_then(<[u8]>::first_chunk::<2>).copied()
        {
            overwrite(bytes, at, &(u16::from_ne_bytes([a, b]) | flags::ACK).to_ne_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::frame::Frames;

    #[test]
    fn messages_are_numbered_and_the_last_is_acknowledged() {
        let mut batch = Batch::default();
        for round in 0..2u32 {
            for n in 0..3u8 {
                batch
                    .push(44, flags::CREATE, n == 0, &[n; 5], |w| {
                        w.put_u8(7, n);
                    })
                    .unwrap();
            }
            let too_long = batch.push(44, 0, false, &[], |w| {
                w.put(1, &vec![0; 70_000]);
            });
            assert!(too_long.is_err());
            let frames: Vec<_> = Frames::new(batch.seal(10, 99)).map(Result::unwrap).collect();
            let seen: Vec<_> = frames.iter().map(|f| (f.sequence, f.port, f.flags, f.payload[0])).collect();
            assert_eq!(seen, [(10, 99, 0x405, 0), (11, 99, 0x401, 1), (12, 99, 0x405, 2)], "{round}");
            assert_eq!(frames[2].payload, [2, 2, 2, 2, 2, 0, 0, 0, 5, 0, 7, 0, 2, 0, 0, 0]);
            batch.clear();
        }
    }

    #[test]
    fn full_is_by_number_or_by_bytes() {
        let mut batch = Batch::default();
        while !batch.is_full() {
            batch.push(1, 0, false, &[], |_| ()).unwrap();
        }
        assert_eq!(batch.len(), MESSAGES);
        batch.clear();
        while !batch.is_full() {
            batch.push(1, 0, false, &vec![0; 40_000], |_| ()).unwrap();
        }
        assert_eq!(batch.len(), 3);
    }
}
