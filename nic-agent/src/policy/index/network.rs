//! Addresses are keyed by the network that they are on: another one may give the same to somebody else.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::policy::model::Pod;

/// Takes no room while there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NetworkId {
    /// OVN's. Addresses in a pod's status are of this one, and so are Services and what is behind them.
    Overlay,
    #[cfg(test)]
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkIp {
    pub network: NetworkId,
    pub ip: IpAddr,
}

impl NetworkIp {
    pub fn of_pod(pod: &Pod) -> impl Iterator<Item = Self> {
        pod.ips.iter().map(|ip| Self { network: NetworkId::Overlay, ip: *ip })
    }
}

/// Of each network one: a field in each key of a cluster's addresses would cost more than that.
pub type ByNetwork<T> = BTreeMap<NetworkId, T>;
