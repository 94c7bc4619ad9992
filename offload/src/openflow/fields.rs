//! The values that matches and actions are made of.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::BitOr;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::ids::MacAddr;

/// A table of a bridge. OVS lets controllers use 0 to 253 and refuses the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u8);

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whose flow it is. No part of a flow's identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cookie(pub u64);

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// One of OVS's sixteen 32-bit registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[rustfmt::skip]
pub enum Reg { R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10, R11, R12, R13, R14, R15 }

impl Reg {
    pub const ALL: [Self; 16] = [
        Self::R0,
        Self::R1,
        Self::R2,
        Self::R3,
        Self::R4,
        Self::R5,
        Self::R6,
        Self::R7,
        Self::R8,
        Self::R9,
        Self::R10,
        Self::R11,
        Self::R12,
        Self::R13,
        Self::R14,
        Self::R15,
    ];

    pub const fn number(self) -> u8 {
        self as u8
    }

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// A fixed number of bits that can be masked: what OpenFlow calls a maskable field.
pub trait Bits: Copy + Ord {
    /// Length on the wire, in bytes.
    const BYTES: usize;
    fn to_bits(self) -> u128;
    /// Bits beyond the type's width are ignored.
    fn from_bits(bits: u128) -> Self;

    fn ones() -> Self {
        Self::from_bits(u128::MAX)
    }
}

macro_rules! bits_of_integer {
    ($($t:ty),*) => {$(
        impl Bits for $t {
            const BYTES: usize = std::mem::size_of::<$t>();
            fn to_bits(self) -> u128 {
                u128::from(self)
            }
            #[allow(clippy::cast_possible_truncation)] // the contract: bits beyond the width are ignored
            fn from_bits(bits: u128) -> Self {
                bits as $t
            }
        }
    )*};
}
bits_of_integer!(u8, u16, u32, u64, u128);

impl Bits for MacAddr {
    const BYTES: usize = 6;
    fn to_bits(self) -> u128 {
        self.0.iter().fold(0, |bits, byte| bits << 8 | u128::from(*byte))
    }
    fn from_bits(bits: u128) -> Self {
        let [_, _, octets @ ..] = <u64 as Bits>::from_bits(bits).to_be_bytes();
        Self(octets)
    }
}

impl Bits for Ipv4Addr {
    const BYTES: usize = 4;
    fn to_bits(self) -> u128 {
        u128::from(u32::from(self))
    }
    fn from_bits(bits: u128) -> Self {
        Self::from(<u32 as Bits>::from_bits(bits))
    }
}

impl Bits for Ipv6Addr {
    const BYTES: usize = 16;
    fn to_bits(self) -> u128 {
        u128::from(self)
    }
    fn from_bits(bits: u128) -> Self {
        Self::from(bits)
    }
}

/// A value of which only the bits in the mask count. The others are zero in `value`, so equal matches compare equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Masked<T> {
    value: T,
    mask: T,
}

impl<T: Bits> Masked<T> {
    /// Matches everything.
    pub fn any() -> Self {
        Self { value: T::from_bits(0), mask: T::from_bits(0) }
    }

    pub fn exact(value: T) -> Self {
        Self { value, mask: T::ones() }
    }

    pub fn new(value: T, mask: T) -> Self {
        Self { value: T::from_bits(value.to_bits() & mask.to_bits()), mask }
    }

    pub fn value(self) -> T {
        self.value
    }

    pub fn mask(self) -> T {
        self.mask
    }

    pub fn is_any(self) -> bool {
        self.mask.to_bits() == 0
    }

    pub fn is_exact(self) -> bool {
        self.mask == T::ones()
    }

    pub fn covers(self, candidate: T) -> bool {
        candidate.to_bits() & self.mask.to_bits() == self.value.to_bits()
    }

    /// What `old` becomes when the masked bits are written over it.
    pub fn write_to(self, old: T) -> T {
        T::from_bits(old.to_bits() & !self.mask.to_bits() | self.value.to_bits())
    }
}

impl<T: Bits> Default for Masked<T> {
    fn default() -> Self {
        Self::any()
    }
}

impl<T: Bits> From<T> for Masked<T> {
    fn from(value: T) -> Self {
        Self::exact(value)
    }
}

impl<T: fmt::Debug> fmt::Debug for Masked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}", self.value, self.mask)
    }
}

impl From<Ipv4Net> for Masked<Ipv4Addr> {
    fn from(net: Ipv4Net) -> Self {
        Self::new(net.addr(), net.netmask())
    }
}

impl From<Ipv6Net> for Masked<Ipv6Addr> {
    fn from(net: Ipv6Net) -> Self {
        Self::new(net.addr(), net.netmask())
    }
}

/// Bits of `ct_state`, as `NXM_NX_CT_STATE` numbers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CtFlags(pub u32);

impl CtFlags {
    pub const NONE: Self = Self(0);
    pub const NEW: Self = Self(0x01);
    pub const EST: Self = Self(0x02);
    pub const REL: Self = Self(0x04);
    pub const RPL: Self = Self(0x08);
    pub const INV: Self = Self(0x10);
    pub const TRK: Self = Self(0x20);
    pub const SNAT: Self = Self(0x40);
    pub const DNAT: Self = Self(0x80);

    /// In the order in which `ovs-ofctl` prints them.
    pub const NAMES: [(Self, &'static str); 8] = [
        (Self::NEW, "new"),
        (Self::EST, "est"),
        (Self::REL, "rel"),
        (Self::RPL, "rpl"),
        (Self::INV, "inv"),
        (Self::TRK, "trk"),
        (Self::SNAT, "snat"),
        (Self::DNAT, "dnat"),
    ];

    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for CtFlags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Bits for CtFlags {
    const BYTES: usize = 4;
    fn to_bits(self) -> u128 {
        u128::from(self.0)
    }
    fn from_bits(bits: u128) -> Self {
        Self(<u32 as Bits>::from_bits(bits))
    }
}

/// One field of a match or of a set-field action, as it stands on the wire.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oxm {
    pub field: OxmField,
    pub value: Vec<u8>,
    /// Empty if the match is exact.
    pub mask: Vec<u8>,
}

/// Class and field number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OxmField {
    pub class: u16,
    pub number: u8,
}

impl OxmField {
    /// The four header bytes.
    pub(super) fn header(self, has_mask: bool, length: u8) -> u32 {
        let [high, low] = self.class.to_be_bytes();
        u32::from_be_bytes([high, low, self.number << 1 | u8::from(has_mask), length])
    }

    /// The header of the whole field without a mask, as actions name their source.
    pub(super) fn from_header(header: u32) -> (Self, bool, u8) {
        let [high, low, field, length] = header.to_be_bytes();
        (Self { class: u16::from_be_bytes([high, low]), number: field >> 1 }, field & 1 != 0, length)
    }

    pub(super) const fn next(self) -> Self {
        Self { class: self.class, number: self.number.wrapping_add(1) }
    }
}
