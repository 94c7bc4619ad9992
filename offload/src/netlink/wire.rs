//! Attributes on the wire: a reader that is total and a writer.
//!
//! The reader never panics, whatever the bytes: a length that does not fit is [`Malformed`]. It does not check attributes
//! that nobody asks for.

use std::borrow::Cow;

use crate::ids::MacAddr;

/// Bytes that are no netlink message, or not the one that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub Cow<'static, str>);

impl Malformed {
    pub fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self(what.into())
    }
}

const HEADER: usize = 4;
/// The type without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const TYPE_MASK: u16 = 0x3fff;
const NESTED: u16 = 0x8000;

const fn align(length: usize) -> usize {
    length.div_ceil(4) * 4
}

/// A fixed-size piece at an offset; headers in front of the attributes are read with it.
pub fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    bytes.get(at..).and_then(<[u8]>::first_chunk::<N>).copied().ok_or_else(|| {
        Malformed::new(format!("{} bytes where at least {} were expected", bytes.len(), at + N))
    })
}

pub fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Malformed> {
    array(bytes, at).map(u16::from_ne_bytes)
}

pub fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    array(bytes, at).map(u32::from_ne_bytes)
}

/// One attribute: its type without the flag bits, and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    pub kind: u16,
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    fn exactly<const N: usize>(&self) -> Result<[u8; N], Malformed> {
        self.value.try_into().map_err(|_| {
            Malformed::new(format!("attribute {} has {} bytes instead of {N}", self.kind, self.value.len()))
        })
    }

    pub fn u8(&self) -> Result<u8, Malformed> {
        self.exactly::<1>().map(u8::from_ne_bytes)
    }

    pub fn u16(&self) -> Result<u16, Malformed> {
        self.exactly().map(u16::from_ne_bytes)
    }

    pub fn u32(&self) -> Result<u32, Malformed> {
        self.exactly().map(u32::from_ne_bytes)
    }

    pub fn u64(&self) -> Result<u64, Malformed> {
        self.exactly().map(u64::from_ne_bytes)
    }

    pub fn i32(&self) -> Result<i32, Malformed> {
        self.exactly().map(i32::from_ne_bytes)
    }

    /// A text without its closing zero. The kernel's names are bytes; what is no UTF-8 is shown with replacement characters.
    pub fn text(&self) -> String {
        let bytes = self.value.split(|byte| *byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// An Ethernet address; `None` for addresses of other lengths (InfiniBand, tunnels).
    pub fn mac(&self) -> Option<MacAddr> {
        self.value.try_into().ok().map(MacAddr)
    }

    pub fn nested(&self) -> Attributes<'a> {
        Attributes(self.value)
    }
}

/// The attributes in a buffer, in order. After the first malformed one there is nothing more.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The attributes that follow a fixed header of `header` bytes.
    pub fn after(bytes: &'a [u8], header: usize) -> Result<Self, Malformed> {
        bytes.get(align(header)..).map(Self).ok_or_else(|| {
            Malformed::new(format!("{} bytes where a header of {header} was expected", bytes.len()))
        })
    }

    /// The first attribute of a type.
    pub fn find(self, kind: u16) -> Result<Option<Attribute<'a>>, Malformed> {
        for attribute in self {
            let attribute = attribute?;
            if attribute.kind == kind {
                return Ok(Some(attribute));
            }
        }
        Ok(None)
    }
}

#[expect(clippy::copy_iterator, reason = "a nest is looked through more than once, and it is only a slice")]
impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let read = || {
            let length = usize::from(u16_at(bytes, 0)?);
            let kind = u16_at(bytes, 2)? & TYPE_MASK;
            let value = bytes.get(HEADER..length).ok_or_else(|| {
                Malformed::new(format!(
                    "attribute {kind} claims {length} bytes of the {} that are left",
                    bytes.len()
                ))
            })?;
            // The last attribute's padding may be missing.
            Ok((Attribute { kind, value }, bytes.get(align(length)..).unwrap_or_default()))
        };
        Some(read().map(|(attribute, rest)| {
            self.0 = rest;
            attribute
        }))
    }
}

/// Builds the payload of a message: a fixed header, then attributes. All of it in one buffer, nests too.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Writer {
    /// Starts with the message's fixed header.
    pub fn new(header: &[u8]) -> Self {
        let mut writer = Self { bytes: header.to_vec(), too_long: false };
        writer.pad();
        writer
    }

    fn pad(&mut self) {
        let missing = self.bytes.len().wrapping_neg() & 3;
        self.bytes.extend_from_slice([0; 3].get(..missing).unwrap_or_default());
    }

    /// An attribute of up to four bytes with its padding: most are, and of rules there are many.
    fn small<const N: usize>(&mut self, kind: u16, value: [u8; N]) -> &mut Self {
        const { assert!(N > 0 && N <= 4) };
        let ([a, b], [c, d]) = (u16::try_from(HEADER + N).unwrap_or(0).to_ne_bytes(), kind.to_ne_bytes());
        let mut bytes = [a, b, c, d, 0, 0, 0, 0];
        bytes.iter_mut().skip(HEADER).zip(value).for_each(|(to, from)| *to = from);
        self.bytes.extend_from_slice(&bytes);
        self
    }

    fn header(&mut self, kind: u16, value_length: usize) {
        let length = u16::try_from(value_length + HEADER).unwrap_or_else(|_| {
            self.too_long = true;
            0
        });
        let ([a, b], [c, d]) = (length.to_ne_bytes(), kind.to_ne_bytes());
        self.bytes.extend_from_slice(&[a, b, c, d]);
    }

    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.header(kind, value.len());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    pub fn put_u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.small(kind, value.to_ne_bytes())
    }

    pub fn put_u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.small(kind, value.to_ne_bytes())
    }

    pub fn put_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.small(kind, value.to_ne_bytes())
    }

    pub fn put_u64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// In network byte order, as most of what is seen on the wire.
    pub fn put_be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.small(kind, value.to_be_bytes())
    }

    pub fn put_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.small(kind, value.to_be_bytes())
    }

    /// With the closing zero that the kernel's `NLA_NUL_STRING` demands.
    pub fn put_text(&mut self, kind: u16, text: &str) -> &mut Self {
        // Kinds of filters and actions are short, and there are many of them.
        let mut short = [0; 12];
        match short.get_mut(..text.len()) {
            Some(place) if text.len() < 12 => {
                place.copy_from_slice(text.as_bytes());
                self.header(kind, text.len() + 1);
                self.bytes.extend_from_slice(short.get(..align(text.len() + 1)).unwrap_or_default());
            }
            _ => {
                self.header(kind, text.len() + 1);
                self.bytes.extend_from_slice(text.as_bytes());
                self.bytes.push(0);
                self.pad();
            }
        }
        self
    }

    /// A nest. Strict checking wants the flag on every one of them.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.header(kind | NESTED, 0);
        fill(self);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or_else(|_| {
            self.too_long = true;
            0
        });
        overwrite(&mut self.bytes, start, &length.to_ne_bytes());
        self
    }

    /// The payload, or an error if an attribute did not fit its 16-bit length.
    pub fn finish(self) -> Result<Vec<u8>, Malformed> {
        if self.too_long {
            Err(Malformed::new("an attribute is longer than 65531 bytes"))
        } else {
            Ok(self.bytes)
        }
    }

    /// Adds a message to those that the buffer holds: header and payload. Its sequence number and port are zero. A
    /// message whose attributes did not fit is taken back.
    pub(super) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Self),
    ) -> Result<(), Malformed> {
        let start = self.bytes.len();
        let ([a, b], [c, d]) = (kind.to_ne_bytes(), flags.to_ne_bytes());
        self.bytes.extend_from_slice(&[0, 0, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0]);
        self.bytes.extend_from_slice(header);
        self.pad();
        fill(self);
        if std::mem::take(&mut self.too_long) {
            self.bytes.truncate(start);
            return Err(Malformed::new("an attribute is longer than 65531 bytes"));
        }
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        overwrite(&mut self.bytes, start, &length.to_ne_bytes());
        Ok(())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

/// Writes over what is there; beyond the end nothing.
pub(super) fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + with.len()) {
        place.copy_from_slice(with);
    }
}

/// Captured bytes, as the tests write them.
#[cfg(test)]
pub(crate) fn hex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nests_and_padding() {
        let mut w = Writer::new(&[1, 2, 3]);
        w.put_text(3, "p0").nest(26, |w| {
            w.put(8, &[1]);
        });
        let bytes = w.finish().unwrap();
        let expected: &[u8] =
            &[1, 2, 3, 0, 7, 0, 3, 0, b'p', b'0', 0, 0, 12, 0, 26, 0x80, 5, 0, 8, 0, 1, 0, 0, 0];
        assert_eq!(bytes, expected);
        let attributes = Attributes::after(&bytes, 3).unwrap();
        assert_eq!(attributes.find(3).unwrap().unwrap().text(), "p0");
        let nest = attributes.find(26).unwrap().unwrap();
        assert_eq!(nest.nested().find(8).unwrap().unwrap().u8().unwrap(), 1);
        assert!(nest.u32().is_err(), "8 bytes are no u32");
    }

    #[test]
    fn lengths_that_lie_are_malformed() {
        for bytes in [&[3, 0, 1, 0][..], &[9, 0, 1, 0, 1, 2, 3, 4], &[0, 0, 0, 0], &[4, 0, 1]] {
            let all: Vec<_> = Attributes::new(bytes).collect();
            assert_eq!(all.len(), 1, "{bytes:?}");
            assert!(all[0].is_err(), "{bytes:?}");
        }
        let mut w = Writer::default();
        w.put(1, &vec![0; 65532]);
        assert!(w.finish().is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut seen = 0;
            for attribute in Attributes::new(&bytes).flatten() {
                seen += 4 + attribute.value.len();
                let _ = (attribute.text(), attribute.u32(), attribute.nested().count());
            }
            prop_assert!(seen <= bytes.len());
        }

        #[test]
        fn what_was_written_is_read(values in proptest::collection::vec((0u16..0x4000, proptest::collection::vec(any::<u8>(), 0..40)), 0..12)) {
            let mut w = Writer::default();
            for (kind, value) in &values {
                w.put(*kind, value);
            }
            let bytes = w.finish().unwrap();
            let read: Vec<_> = Attributes::new(&bytes).map(|a| a.map(|a| (a.kind, a.value.to_vec())).unwrap()).collect();
            prop_assert_eq!(read, values);
        }
    }
}
