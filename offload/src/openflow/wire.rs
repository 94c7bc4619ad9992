//! Bytes in, bytes out. Reading is total: every error is a value.

/// Why bytes are no OpenFlow message that we understand.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{what}: {need} bytes needed, {have} there")]
    Truncated { what: &'static str, need: usize, have: usize },
    #[error("{what}: length {length} is impossible")]
    BadLength { what: &'static str, length: usize },
    #[error("OpenFlow version {0:#04x} where 0x06 (1.5) was agreed")]
    Version(u8),
    #[error("{what}: value {value} is not allowed")]
    BadValue { what: &'static str, value: u64 },
}

/// Why a value cannot be written. All but one mean that the value is nonsense; a flow can simply be too long.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("{what} would take {length} bytes; OpenFlow counts to 65535")]
    TooLong { what: &'static str, length: usize },
    #[error("goto_table must be a flow's last action")]
    GotoNotLast,
    #[error(
        "conjunction clause {clause} of {clauses}: clauses count from 1 to at most 64 and there are at least 2"
    )]
    BadConjunction { clause: u8, clauses: u8 },
    #[error("register bits {offset}..{offset}+{bits} do not exist")]
    BadSlice { offset: u8, bits: u8 },
}

/// Reads from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn len(&self) -> usize {
        self.rest.len()
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated {
            what: self.what,
            need: count,
            have: self.rest.len(),
        })?;
        self.rest = tail;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let have = self.rest.len();
        let error = DecodeError::Truncated { what: self.what, need: N, have };
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(error)?;
        self.rest = tail;
        Ok(*head)
    }

    pub fn skip(&mut self, count: usize) -> Result<(), DecodeError> {
        self.take(count).map(drop)
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A part that begins with a type and a 16-bit length that counts both: the type, and a reader of what follows.
    /// `padded`: the length does not count the padding to the next multiple of eight.
    pub fn tlv(&mut self, what: &'static str, padded: bool) -> Result<(u16, Reader<'a>), DecodeError> {
        let mut head = *self;
        let kind = head.u16()?;
        let length = usize::from(head.u16()?);
        if length < 4 {
            return Err(DecodeError::BadLength { what, length });
        }
        let body = Reader { what, rest: self.take(length)?.get(4..).unwrap_or_default() };
        if padded {
            self.skip(padding(length))?;
        }
        Ok((kind, body))
    }
}

/// How many bytes are missing to a multiple of eight.
pub const fn padding(length: usize) -> usize {
    length.wrapping_neg() % 8
}

/// Appends big-endian numbers to a buffer.
pub trait Put {
    fn put_u8(&mut self, value: u8);
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn put(&mut self, bytes: &[u8]);
    fn put_zeroes(&mut self, count: usize);
    /// Type, length and body; the body is padded to eight bytes, the length counts the padding if `counted`.
    fn put_tlv(&mut self, what: &'static str, kind: u16, body: &[u8], pad: Pad) -> Result<(), EncodeError>;
}

/// Padding of a part to eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pad {
    None,
    Counted,
    Uncounted,
}

impl Put for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_zeroes(&mut self, count: usize) {
        self.resize(self.len().saturating_add(count), 0);
    }

    fn put_tlv(&mut self, what: &'static str, kind: u16, body: &[u8], pad: Pad) -> Result<(), EncodeError> {
        let bare = body.len().saturating_add(4);
        let missing = if pad == Pad::None { 0 } else { padding(bare) };
        let counted = if pad == Pad::Counted { bare.saturating_add(missing) } else { bare };
        self.put_u16(kind);
        self.put_u16(length16(what, counted)?);
        self.put(body);
        self.put_zeroes(missing);
        Ok(())
    }
}

pub fn length16(what: &'static str, length: usize) -> Result<u16, EncodeError> {
    u16::try_from(length).map_err(|_| EncodeError::TooLong { what, length })
}
