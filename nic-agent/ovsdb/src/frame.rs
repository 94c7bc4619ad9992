//! Cuts a byte stream into JSON texts. No I/O.
//!
//! OVSDB's JSON-RPC has neither length nor delimiter: one object follows another, so the end of each is found by
//! counting brackets outside strings. Each byte is looked at once, however the stream was split. A message beyond the
//! limit, or a byte that can start no object, is an error; after an error the stream has no meaning any more.

use std::mem;

/// Why a stream cannot be cut any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// More than the limit arrived without the message's end.
    #[error("a message is longer than {max} bytes")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// Something other than `{` or white space between two messages.
    #[error("byte {byte:#04x} cannot start a message")]
    Garbage {
        /// The byte.
        byte: u8,
    },
}

/// The state of one direction of one connection.
#[derive(Debug)]
pub struct Framer {
    buf: Vec<u8>,
    /// Where the message under way starts.
    start: usize,
    /// Up to where bytes have been looked at.
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    max: usize,
}

impl Framer {
    /// A framer for messages of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { buf: Vec::new(), start: 0, scanned: 0, depth: 0, in_string: false, escaped: false, max }
    }

    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` when more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        while let Some(&byte) = self.buf.get(self.scanned) {
            if self.depth == 0 {
                match byte {
                    b' ' | b'\t' | b'\r' | b'\n' => {
                        self.scanned += 1;
                        self.start = self.scanned;
                        continue;
                    }
                    b'{' => {}
                    byte => return Err(FrameError::Garbage { byte }),
                }
            }
            self.scanned += 1;
            if self.scanned - self.start > self.max {
                return Err(FrameError::TooLong { max: self.max });
            }
            if self.step(byte) {
                return Ok(Some(self.cut()));
            }
        }
        self.compact();
        Ok(None)
    }

    /// Bytes held that belong to no whole message yet.
    pub fn pending(&self) -> usize {
        self.buf.len() - self.start
    }

    /// Takes one byte of a message; true when it ends it.
    fn step(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        self.depth == 0
    }

    fn cut(&mut self) -> Vec<u8> {
        // The common large case, one message and nothing behind it, moves the buffer instead of copying it.
        if self.start == 0 && self.scanned == self.buf.len() {
            self.scanned = 0;
            return mem::take(&mut self.buf);
        }
        let frame = self.buf.get(self.start..self.scanned).unwrap_or_default().to_vec();
        self.start = self.scanned;
        frame
    }

    fn compact(&mut self) {
        if self.start > 0 {
            self.buf.drain(..self.start);
            self.scanned -= self.start;
            self.start = 0;
        }
    }
}

#[cfg(test)]
mod tests;
