//! What the NIC answers to Attach, checked: the addresses that the pod is to have.
//!
//! The NIC is trusted, yet what it says is parsed before anything is moved: a half-configured pod is worse than none.
use std::net::IpAddr;

use proto::v1;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    addr::{AddrError, MacAddr, Prefix, Route, parse_optional_ip},
    config::{MTU_MAX, MTU_MIN},
};

/// RFC 8200, section 5.
const IPV6_MTU_MIN: u32 = 1280;

/// An answer that makes no sense.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AttachmentError {
    #[error("it holds no attachment")]
    Absent,
    #[error(transparent)]
    Addr(#[from] AddrError),
    #[error("MAC {0} is a group's or empty")]
    Mac(MacAddr),
    #[error("MTU {0} is not within 68 and 65535")]
    Mtu(u32),
    #[error("MTU {0} is too small for IPv6, which it gives addresses of")]
    MtuIpv6(u32),
    #[error("gateway {gateway} is not of the family of {of}")]
    Family { gateway: IpAddr, of: Prefix },
}

/// An address and the gateway that CNI results name beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    pub prefix: Prefix,
    pub gateway: Option<IpAddr>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub mac: MacAddr,
    /// None: as it is.
    pub mtu: Option<u32>,
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
}

impl Attachment {
    pub fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(|address| address.prefix.is_ipv6())
    }

    /// Is an interface that was set up by `other` as this says? The MTU may be another's to choose.
    pub fn is_within(&self, other: &Self) -> bool {
        self.mac == other.mac
            && (self.mtu.is_none() || self.mtu == other.mtu)
            && self.addresses.iter().all(|address| other.addresses.contains(address))
            && self.routes.iter().all(|route| other.routes.contains(route))
    }

    /// A gateway that lies in none of the prefixes must be said to be on link. Link-local ones always are.
    pub fn needs_onlink(&self, route: &Route) -> bool {
        route.gateway.is_some_and(|gateway| {
            let link_local = matches!(gateway, IpAddr::V6(addr) if addr.is_unicast_link_local());
            !link_local && !self.addresses.iter().any(|address| address.prefix.contains(gateway))
        })
    }
}

impl TryFrom<v1::AttachResponse> for Attachment {
    type Error = AttachmentError;
    fn try_from(response: v1::AttachResponse) -> Result<Self, AttachmentError> {
        let mac: MacAddr = response.mac.parse().map_err(AddrError::from)?;
        if !mac.is_unicast() {
            return Err(AttachmentError::Mac(mac));
        }
        let mut addresses = Vec::new();
        for address in &response.addresses {
            let prefix: Prefix = address.address.parse()?;
            addresses.push(Address { prefix, gateway: gateway_of(prefix, &address.gateway)? });
        }
        let mut routes = Vec::new();
        for route in &response.routes {
            let destination = route.destination.parse::<Prefix>()?.network();
            routes.push(Route { destination, gateway: gateway_of(destination, &route.gateway)? });
        }
        let mtu = (response.mtu != 0).then_some(response.mtu);
        let attachment = Self { mac, mtu, addresses, routes };
        match mtu {
            Some(mtu) if !(MTU_MIN..=MTU_MAX).contains(&mtu) => Err(AttachmentError::Mtu(mtu)),
            Some(mtu) if mtu < IPV6_MTU_MIN && attachment.has_ipv6() => Err(AttachmentError::MtuIpv6(mtu)),
            _ => Ok(attachment),
        }
    }
}

/// IPv4 by way of an IPv6 gateway (RFC 5549) is not in the contract: a CNI result could not say it.
fn gateway_of(prefix: Prefix, text: &str) -> Result<Option<IpAddr>, AttachmentError> {
    let gateway = parse_optional_ip(text)?;
    match gateway {
        Some(gateway) if gateway.is_ipv6() != prefix.is_ipv6() => {
            Err(AttachmentError::Family { gateway, of: prefix })
        }
        gateway => Ok(gateway),
    }
}

#[cfg(test)]
mod tests;
