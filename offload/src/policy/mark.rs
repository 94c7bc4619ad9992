//! The rule that a connection was admitted by, as a number that fits into its `ct_mark`.

use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// Bits 0 to 23 of a connection's `ct_mark`. "No rule" is no such number: 0
/// says that none had a say (the pod has no policy), that none is known, or that the connection is older than marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct RuleMark(NonZeroU32);

/// No mark of a rule's: 0, or more than 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no mark of a rule; they are 1 to {max}", max = RuleMark::MAX.get())]
pub struct NoRuleMark(u32);

impl RuleMark {
    /// The bits of `ct_mark` that say which rule it was.
    pub const BITS: u8 = 24;
    pub const MASK: u32 = (1 << Self::BITS) - 1;
    /// The bit of `ct_mark` that every connection has that a boundary committed, whichever rule it was and if none was.
    pub const COMMITTED: u32 = 1 << Self::BITS;
    pub const FIRST: Self = Self(NonZeroU32::MIN);
    pub const MAX: Self = Self(NonZeroU32::MIN.saturating_add(Self::MASK - 1));

    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) if number.get() <= Self::MASK => Some(Self(number)),
            _ => None,
        }
    }

    /// What a connection's `ct_mark` says.
    pub const fn of_connection(ct_mark: u32) -> Option<Self> {
        Self::new(ct_mark & Self::MASK)
    }

    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl TryFrom<u32> for RuleMark {
    type Error = NoRuleMark;

    fn try_from(number: u32) -> Result<Self, NoRuleMark> {
        Self::new(number).ok_or(NoRuleMark(number))
    }
}

impl From<RuleMark> for u32 {
    fn from(mark: RuleMark) -> Self {
        mark.get()
    }
}

/// Decimal, as `conntrack -L` prints it.
impl fmt::Display for RuleMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_24_bits_and_never_zero() {
        assert_eq!(RuleMark::new(0), None);
        assert_eq!(RuleMark::new(1), Some(RuleMark::FIRST));
        assert_eq!(RuleMark::new(0x00ff_ffff), Some(RuleMark::MAX));
        assert_eq!(RuleMark::new(0x0100_0000), None);
        assert_eq!(RuleMark::of_connection(0xab00_0007), RuleMark::new(7));
        assert_eq!(RuleMark::of_connection(0xab00_0000), None);
        assert!(serde_json::from_str::<RuleMark>("0").is_err());
        assert_eq!(serde_json::from_str::<RuleMark>("16777215").unwrap(), RuleMark::MAX);
    }
}
