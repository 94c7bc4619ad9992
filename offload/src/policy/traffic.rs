//! What a rule says of protocols and ports.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{PortSet, Transport};

/// Protocols and ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Traffic {
    /// Every protocol of IP.
    Any,
    Of(Transports),
}

/// A list, protocol by protocol. What is empty matches nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transports {
    /// Destination ports.
    pub tcp: PortSet,
    pub udp: PortSet,
    pub sctp: PortSet,
    /// Of ICMP, in IPv4 only.
    pub icmp: BTreeSet<IcmpKind>,
    /// Of ICMPv6, in IPv6 only.
    pub icmp6: BTreeSet<IcmpKind>,
    /// Any other protocol, by its number. [`NAMED`] ones match nothing here.
    pub other: BTreeSet<u8>,
}

/// The protocols that have a field of their own: ICMP, TCP, UDP, ICMPv6, SCTP.
pub const NAMED: [u8; 5] = [1, 6, 17, 58, 132];

/// ICMP by type and code. `None` matches every one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IcmpKind {
    Any,
    Type(u8),
    TypeCode(u8, u8),
}

impl IcmpKind {
    pub fn covers(self, kind: u8, code: u8) -> bool {
        match self {
            Self::Any => true,
            Self::Type(wanted) => wanted == kind,
            Self::TypeCode(wanted, wanted_code) => (wanted, wanted_code) == (kind, code),
        }
    }
}

impl Traffic {
    pub fn tcp(ports: impl Into<PortSet>) -> Self {
        Self::Of(Transports { tcp: ports.into(), ..Transports::default() })
    }

    pub fn udp(ports: impl Into<PortSet>) -> Self {
        Self::Of(Transports { udp: ports.into(), ..Transports::default() })
    }

    pub fn sctp(ports: impl Into<PortSet>) -> Self {
        Self::Of(Transports { sctp: ports.into(), ..Transports::default() })
    }

    pub fn is_empty(&self) -> bool {
        match self {
            Self::Any => false,
            Self::Of(transports) => *transports == Transports::default(),
        }
    }

    /// How many matches say it, ports as aligned blocks.
    pub fn size(&self) -> usize {
        let Self::Of(of) = self else { return 1 };
        let ports = [&of.tcp, &of.udp, &of.sctp].into_iter().map(|it| it.blocks().count());
        ports.sum::<usize>() + of.icmp.len() + of.icmp6.len() + of.other.len()
    }

    pub fn covers(&self, transport: Transport, is_ipv6: bool) -> bool {
        let Self::Of(of) = self else { return true };
        match transport {
            Transport::Tcp { dst, .. } => of.tcp.contains(dst),
            Transport::Udp { dst, .. } => of.udp.contains(dst),
            Transport::Sctp { dst, .. } => of.sctp.contains(dst),
            Transport::Icmp { kind, code } => {
                let kinds = if is_ipv6 { &of.icmp6 } else { &of.icmp };
                kinds.iter().any(|it| it.covers(kind, code))
            }
            Transport::Other(proto) => !NAMED.contains(&proto) && of.other.contains(&proto),
        }
    }
}

impl Transports {
    /// Everything that either allows.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.tcp = self.tcp.union(&other.tcp);
        self.udp = self.udp.union(&other.udp);
        self.sctp = self.sctp.union(&other.sctp);
        self.icmp.extend(&other.icmp);
        self.icmp6.extend(&other.icmp6);
        self.other.extend(&other.other);
        self
    }
}
