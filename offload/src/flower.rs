//! TC flower rules as values: what one matches and does, in a shape in which nonsense cannot be written.
//!
//! The kernel takes L4 ports without an IP protocol and matches every packet (`cls_flower.c`); here a port stands
//! inside of its protocol. Preference 0, for which the kernel invents one, is no [`Pref`]. Every list of actions ends
//! in a verdict that ends the packet's way or sends it on to a chain other than 0: `goto chain 0` is silently wrong on
//! mlx5, and `continue`, `pipe` or `reclassify` at the end are refused by every driver (facts, section 2.3).
//!
//! Pure: `netlink::tc` encodes and decodes these types, compilers write them, interpreters and checkers read them.

mod action;
mod chain;
mod installed;
pub mod interpret;
mod key;
pub(crate) mod overlap;

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};

use serde::{Deserialize, Serialize};

pub use action::{Actions, Cookie, CtAction, End, Step, VlanTag};
pub use chain::{Chain, ChainBuilder, ChainError};
pub use installed::{Change, Filters, Handle, Installed, Place, PortFilters};
pub use key::{CtKey, Icmp, IpKey, Key, L4, Payload, Ports, VlanKey};

/// The number of a chain. Every packet starts in chain 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChainIndex(pub u32);

impl fmt::Display for ChainIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A chain that a rule may go to: 1 to 0x0fff_ffff, which is what fits beside the verdict (`TC_ACT_EXT_VAL_MASK`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextChain(NonZeroU32);

impl NextChain {
    pub const MAX: u32 = 0x0fff_ffff;
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// So many further on, and never beyond the last.
    #[must_use]
    pub const fn after(self, count: u32) -> Self {
        let next = self.0.saturating_add(count);
        match Self::new(next.get()) {
            Some(next) => next,
            None => self,
        }
    }

    pub const fn new(chain: u32) -> Option<Self> {
        match NonZeroU32::new(chain) {
            Some(number) if chain <= Self::MAX => Some(Self(number)),
            _ => None,
        }
    }

    pub const fn get(self) -> u32 {
        self.0.get()
    }

    pub const fn index(self) -> ChainIndex {
        ChainIndex(self.0.get())
    }
}

/// A filter's preference, which iproute2 also calls prio: low ones are asked first. 0 would make the kernel invent one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pref(pub NonZeroU16);

impl Pref {
    pub const FIRST: Self = Self(NonZeroU16::MIN);
    pub const LAST: Self = Self(NonZeroU16::MAX);

    /// `None` beyond the last.
    pub fn after(self, count: u16) -> Option<Self> {
        self.0.checked_add(count).map(Self)
    }

    pub const fn new(pref: u16) -> Option<Self> {
        match NonZeroU16::new(pref) {
            Some(pref) => Some(Self(pref)),
            None => None,
        }
    }
}

impl fmt::Display for Pref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a filter may run; OVS calls it `tc-policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Skip {
    /// In hardware if it will, and in software: `tc-policy=none`.
    #[default]
    None,
    /// Software only. What stands below a rule that the hardware refused must not be in hardware either.
    Hardware,
    /// Refused unless the hardware takes it.
    Software,
}

/// One flower filter, without its place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    pub key: Key,
    pub actions: Actions,
    pub skip: Skip,
}
