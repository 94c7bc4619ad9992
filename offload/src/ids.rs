//! Numbers and names that the kernel, OVS and PCI hand out, each with a type of its own so that none stands in for
//! another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An Ethernet address. Always lower case with colons in text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    pub const ZERO: Self = Self([0; 6]);
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Multicast and broadcast addresses are no one's own.
    pub const fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0
    }

    /// The link-local address that a host derives from its MAC (RFC 4291, appendix A).
    pub fn link_local(self) -> std::net::Ipv6Addr {
        let [first, b, c, d, e, last] = self.0;
        std::net::Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, first ^ 2, b, c, 0xff, 0xfe, d, e, last])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for octet in self.0 {
            write!(f, "{separator}{octet:02x}")?;
            separator = ":";
        }
        Ok(())
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text that is no value of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}")]
pub struct ParseIdError {
    pub what: &'static str,
    pub text: String,
}

impl ParseIdError {
    fn new(what: &'static str, text: &str) -> Self {
        Self { what, text: text.to_owned() }
    }
}

impl FromStr for MacAddr {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseIdError::new("MAC address (aa:bb:cc:dd:ee:ff)", text);
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts
                .next()
                .filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
                .ok_or_else(error)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| error())?;
        }
        if parts.next().is_some() { Err(error()) } else { Ok(Self(octets)) }
    }
}

impl Serialize for MacAddr {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

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
    fn mac_text_and_link_local() {
        let mac: MacAddr = "0A:00:00:00:00:0b".parse().unwrap();
        assert_eq!(mac.to_string(), "0a:00:00:00:00:0b");
        assert_eq!(mac.link_local().to_string(), "fe80::800:ff:fe00:b");
        for bad in [
            "",
            "0a:00:00:00:00",
            "0a:00:00:00:00:0b:0c",
            "0a:00:00:00:00:g0",
            "a:0:0:0:0:b",
            "+a:00:00:00:00:0b",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_and_zones_have_bounds() {
        assert!(OfPort::new(0).is_none() && OfPort::new(0xff00).is_none() && OfPort::new(0xfeff).is_some());
        assert!(CtZone::new(0).is_none());
    }
}
