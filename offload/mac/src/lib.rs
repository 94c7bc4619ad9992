//! An Ethernet address. In text always lower case with colons; upper case is read.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a MAC address such as 0a:58:0a:f4:00:0a")]
pub struct ParseMacError {
    pub text: String,
}

impl MacAddr {
    pub const ZERO: Self = Self([0; 6]);
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Can an interface have it: neither a group's nor all zeroes?
    pub fn is_unicast(self) -> bool {
        !self.is_group() && self != Self::ZERO
    }

    /// Multicast or broadcast (IEEE 802, the I/G bit).
    pub const fn is_group(self) -> bool {
        let [first, ..] = self.0;
        first & 1 == 1
    }

    /// None but of six bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The link-local address that a host derives from its MAC (RFC 4291, appendix A).
    pub fn link_local(self) -> Ipv6Addr {
        let [first, b, c, d, e, last] = self.0;
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, first ^ 2, b, c, 0xff, 0xfe, d, e, last])
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

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseMacError { text: text.to_owned() };
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
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text() {
        let mac: MacAddr = "0A:58:0a:f4:00:0a".parse().unwrap();
        assert_eq!(mac.to_string(), "0a:58:0a:f4:00:0a");
        assert_eq!(serde_json::to_string(&mac).unwrap(), "\"0a:58:0a:f4:00:0a\"");
        assert_eq!(serde_json::from_str::<MacAddr>("\"0a:58:0a:f4:00:0a\"").unwrap(), mac);
        for text in ["", "0a:58:0a:f4:00", "0a:58:0a:f4:00:0a:00", "0a:58:0a:f4:00:a", "+a:58:0a:f4:00:0a"] {
            assert_eq!(text.parse::<MacAddr>(), Err(ParseMacError { text: text.to_owned() }));
        }
    }

    #[test]
    fn kinds() {
        assert!(MacAddr([2, 0, 0, 0, 0, 0]).is_unicast());
        assert!(!MacAddr([1, 0, 0, 0, 0, 0]).is_unicast() && !MacAddr::BROADCAST.is_unicast());
        assert!(!MacAddr::ZERO.is_unicast() && !MacAddr::ZERO.is_group());
    }

    #[test]
    fn link_local() {
        let mac: MacAddr = "0a:00:00:00:00:0b".parse().unwrap();
        assert_eq!(mac.link_local().to_string(), "fe80::800:ff:fe00:b");
    }
}
