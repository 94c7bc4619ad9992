//! A new connection between two pods, and what became of it.

use std::fmt;
use std::net::IpAddr;

use crate::kube_oracle::Traffic;

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Tcp(u16),
    Udp(u16),
    Sctp(u16),
    /// An ICMP echo request.
    Echo,
}

impl Kind {
    pub fn traffic(self) -> Traffic {
        match self {
            Self::Tcp(port) => Traffic::Port("TCP", port),
            Self::Udp(port) => Traffic::Port("UDP", port),
            Self::Sctp(port) => Traffic::Port("SCTP", port),
            Self::Echo => Traffic::Other,
        }
    }

    /// As it is shown.
    pub fn parse(text: &str) -> Option<Self> {
        let port = |prefix: &str| text.strip_prefix(prefix)?.parse().ok();
        match text {
            "ICMP echo" => Some(Self::Echo),
            _ => port("TCP ")
                .map(Self::Tcp)
                .or_else(|| port("UDP ").map(Self::Udp))
                .or_else(|| port("SCTP ").map(Self::Sctp)),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "TCP {port}"),
            Self::Udp(port) => write!(f, "UDP {port}"),
            Self::Sctp(port) => write!(f, "SCTP {port}"),
            Self::Echo => f.write_str("ICMP echo"),
        }
    }
}

/// A new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Probe {
    /// Index of the pod.
    pub from: usize,
    /// A pod's address, or any other, as a Service's.
    pub to: IpAddr,
    pub kind: Kind,
}

/// What became of a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The pod at whose interface its first packet arrived.
    pub arrived: Option<usize>,
    /// It became a connection: data went there and back. For ICMP, the reply came.
    pub answered: bool,
}

impl Seen {
    /// Allowed is what arrives and is answered, denied what does neither.
    pub fn is_wrong(self, allowed: bool) -> bool {
        (self.arrived.is_some(), self.answered) != (allowed, allowed)
    }
}

/// A probe that fared otherwise than it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    pub probe: Probe,
    /// What is right.
    pub allowed: bool,
    pub seen: Seen,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_read_as_they_are_written() {
        for kind in [Kind::Tcp(80), Kind::Udp(53), Kind::Sctp(80), Kind::Echo] {
            assert_eq!(Kind::parse(&kind.to_string()), Some(kind));
        }
        assert_eq!(Kind::parse("GRE 80"), None);
    }
}
