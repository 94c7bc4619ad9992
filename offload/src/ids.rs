//! Numbers and names that the kernel, OVS and PCI hand out, each with a type of its own so that none stands in for
//! another.

use std::fmt;

pub use mac_addr::MacAddr;
use serde::{Deserialize, Serialize};

/// A VF of the server: PF number and index below that PF, as devlink port attributes name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VfId {
    pub pf: u16,
    pub vf: u16,
}

impl fmt::Display for VfId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pf{}vf{}", self.pf, self.vf)
    }
}

/// An OpenFlow port number of a switch port: 1 to 0xff00, without the reserved ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OfPort(u32);

impl OfPort {
    /// Highest number of a port in a bridge of OVS (`OFPP_MAX`).
    pub const MAX: u32 = 0xfeff;

    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 || number > Self::MAX { None } else { Some(Self(number)) }
    }

    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for OfPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A conntrack zone of ours. Zone 0 is the kernel's default and never a pod's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CtZone(std::num::NonZeroU16);

impl CtZone {
    pub const fn new(zone: u16) -> Option<Self> {
        match std::num::NonZeroU16::new(zone) {
            Some(zone) => Some(Self(zone)),
            None => None,
        }
    }

    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for CtZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The kernel's index of a network device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IfIndex(pub u32);

impl fmt::Display for IfIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_zones_have_bounds() {
        assert!(OfPort::new(0).is_none() && OfPort::new(0xff00).is_none() && OfPort::new(0xfeff).is_some());
        assert!(CtZone::new(0).is_none());
    }
}
