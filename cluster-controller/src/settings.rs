//! What the plan is told from outside, checked.

use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
pub use kube_services::Limits;

use crate::ranges::Allocation;

/// Which address of a node's IPv4 subnet is the router's. Of an IPv6 subnet it is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterAddress {
    First,
    Last,
}

/// Why a text is none of the wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    #[error("{0:?} is neither \"first\" nor \"last\"")]
    RouterAddress(String),
    #[error("{0:?} is no MTU: a number from 1280, which IPv6 needs, to 9978")]
    Mtu(String),
    #[error("{0:?} is no rate: packets a second, from 10 to 1000000, or 0 for no bound")]
    CoppRate(String),
    #[error("{0:?} is not a valid time: seconds, from 120 (an agent writes each 75) to 3600")]
    HeartbeatTimeout(String),
    #[error("{0:?} is no prefix such as 10.96.0.0/12")]
    Prefix(String),
    #[error("{text:?} has bits set after its length: is {meant} meant?")]
    HostBits { text: String, meant: IpNet },
    #[error("{0:?} is no resource name's beginning such as drawbridge.dev/vf")]
    Resource(String),
}

impl FromStr for RouterAddress {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        match text {
            "first" => Ok(Self::First),
            "last" => Ok(Self::Last),
            _ => Err(SettingError::RouterAddress(text.to_owned())),
        }
    }
}

/// An interface's MTU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mtu(u16);

impl Mtu {
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl FromStr for Mtu {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let refused = || SettingError::Mtu(text.to_owned());
        text.parse().ok().filter(|mtu| (1280..=9978).contains(mtu)).map(Self).ok_or_else(refused)
    }
}

/// How many packets a second of one protocol `ovn-controller` takes from all pods of its NIC; `None` is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoppRate(Option<NonZeroU32>);

impl CoppRate {
    pub const fn get(self) -> Option<NonZeroU32> {
        self.0
    }
}

impl FromStr for CoppRate {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let rate = text.parse().ok().filter(|rate| matches!(rate, 0 | 10..=1_000_000));
        rate.map(|rate| Self(NonZeroU32::new(rate))).ok_or_else(|| SettingError::CoppRate(text.to_owned()))
    }
}

/// After how long without a change a NIC's heartbeat has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatTimeout(Duration);

impl HeartbeatTimeout {
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl FromStr for HeartbeatTimeout {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let seconds = text.parse().ok().filter(|seconds| (120..=3600).contains(seconds));
        let timeout = seconds.map(|seconds| Self(Duration::from_secs(seconds)));
        timeout.ok_or_else(|| SettingError::HeartbeatTimeout(text.to_owned()))
    }
}

/// A prefix without host bits.
pub fn prefix(text: &str) -> Result<IpNet, SettingError> {
    let prefix: IpNet = text.parse().map_err(|_| SettingError::Prefix(text.to_owned()))?;
    if prefix.addr() == prefix.network() {
        Ok(prefix)
    } else {
        Err(SettingError::HostBits { text: text.to_owned(), meant: prefix.trunc() })
    }
}

/// The beginning of an extended resource's name: a domain, a slash, and at least a character.
pub fn resource(text: &str) -> Result<String, SettingError> {
    let parts = text.split_once('/');
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    match parts {
        Some((domain, name)) if plain(domain) && plain(name) => Ok(text.to_owned()),
        _ => Err(SettingError::Resource(text.to_owned())),
    }
}

/// What the plan needs to know beside the cluster's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub router_address: RouterAddress,
    /// What DHCP and router advertisements tell a server for its management port.
    pub mtu: Mtu,
    /// Where a server's management port leads to: all pods', all services'.
    pub routes: Vec<IpNet>,
    /// Which ranges nodes may have.
    pub allocation: Allocation,
    /// What one node's pods may ask of their NIC's `ovn-controller`.
    pub copp_rate: CoppRate,
    /// What the Services of a namespace may cost OVN: beyond it they have no load balancer.
    pub services: Limits,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_and_what_is_refused() {
        assert_eq!("last".parse(), Ok(RouterAddress::Last));
        assert!("middle".parse::<RouterAddress>().is_err());
        for (text, taken) in
            [("1279", false), ("1280", true), ("9978", true), ("9979", false), ("x", false), ("-1", false)]
        {
            assert_eq!(text.parse::<Mtu>().is_ok(), taken, "{text}");
        }
        for (text, taken) in [
            ("0", Some(None)),
            ("1", None),
            ("9", None),
            ("10", Some(NonZeroU32::new(10))),
            ("1000000", Some(NonZeroU32::new(1_000_000))),
            ("1000001", None),
            ("-1", None),
            ("", None),
            ("500pps", None),
        ] {
            assert_eq!(text.parse().ok().map(CoppRate::get), taken, "{text}");
        }
        for (text, taken) in [("119", false), ("120", true), ("3600", true), ("3601", false), ("2m", false)] {
            assert_eq!(text.parse::<HeartbeatTimeout>().is_ok(), taken, "{text}");
        }
        assert_eq!(prefix("10.96.0.0/12"), Ok("10.96.0.0/12".parse().unwrap()));
        let refused = prefix("10.97.0.0/12").unwrap_err();
        assert!(refused.to_string().contains("10.96.0.0/12"), "{refused}");
        assert!(prefix("10.96.0.0").is_err() && prefix("fd00::/129").is_err());
        for (text, taken) in [
            ("drawbridge.dev/vf", true),
            ("drawbridge.dev/", false),
            ("vf", false),
            ("/vf", false),
            ("a/b c", false),
        ] {
            assert_eq!(resource(text).is_ok(), taken, "{text}");
        }
    }
}
