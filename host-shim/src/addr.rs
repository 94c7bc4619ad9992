//! Addresses as the CNI writes them: MACs, prefixes, routes.
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

pub use mac_addr::MacAddr;
use mac_addr::ParseMacError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Text that is no address.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AddrError {
    #[error(transparent)]
    Mac(#[from] ParseMacError),
    #[error("{0:?} is not a prefix such as 10.244.0.10/24 or fd00::a/64")]
    Prefix(String),
    #[error("{0:?} is not an IP address")]
    Ip(String),
}

/// An address with the length of its prefix; host bits are kept.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    pub addr: IpAddr,
    pub len: u8,
}

impl Prefix {
    pub fn is_ipv6(&self) -> bool {
        self.addr.is_ipv6()
    }

    pub fn is_default(&self) -> bool {
        self.len == 0
    }

    pub fn contains(&self, addr: IpAddr) -> bool {
        let other = Self { addr, len: self.len };
        self.addr.is_ipv4() == addr.is_ipv4() && self.network() == other.network()
    }

    /// The same prefix with its host bits cleared, as routes have it.
    #[must_use]
    pub fn network(&self) -> Self {
        let addr = match self.addr {
            IpAddr::V4(addr) => {
                let mask = u32::MAX.checked_shl(32_u32.saturating_sub(self.len.into())).unwrap_or(0);
                Ipv4Addr::from(u32::from(addr) & mask).into()
            }
            IpAddr::V6(addr) => {
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(self.len.into())).unwrap_or(0);
                Ipv6Addr::from(u128::from(addr) & mask).into()
            }
        };
        Self { addr, len: self.len }
    }
}

impl FromStr for Prefix {
    type Err = AddrError;
    fn from_str(text: &str) -> Result<Self, AddrError> {
        let error = || AddrError::Prefix(text.to_owned());
        let (addr, len) = text.split_once('/').ok_or_else(error)?;
        let addr: IpAddr = addr.parse().map_err(|_| error())?;
        let max = if addr.is_ipv4() { 32 } else { 128 };
        if !len.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        let len = len.parse().ok().filter(|len| *len <= max).ok_or_else(error)?;
        Ok(Self { addr, len })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl TryFrom<String> for Prefix {
    type Error = AddrError;
    fn try_from(text: String) -> Result<Self, AddrError> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(it: Prefix) -> Self {
        it.to_string()
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A route of the pod's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Without host bits.
    pub destination: Prefix,
    /// None: on link.
    pub gateway: Option<IpAddr>,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.gateway {
            Some(gateway) => write!(f, "{} via {gateway}", self.destination),
            None => write!(f, "{} on link", self.destination),
        }
    }
}

/// An address that may be absent, which the contract writes as an empty string.
pub fn parse_optional_ip(text: &str) -> Result<Option<IpAddr>, AddrError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| AddrError::Ip(text.to_owned()))
}

#[cfg(test)]
mod tests;
