//! What names a connection.

use std::net::IpAddr;

/// Addresses, protocol, and ports; of an echo, its id twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub proto: u8,
    pub ports: (u16, u16),
}

impl Tuple {
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src, ports: (self.ports.1, self.ports.0), ..self }
    }
}
