//! Sets of IP addresses, as prefixes.

mod ranges;
#[cfg(test)]
mod tests;
mod tree;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use ranges::{Range, blocks};
use tree::Tree;

/// Prefixes of both versions, sorted, none inside another and no two that make up one: equal sets are equal values.
///
/// A cluster's sets are large, stand in the rules of many pods, and change by one address at a time. So a copy costs
/// nothing, a change as much as the logarithm, and comparing costs what the two do not share.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<IpNet>", into = "Vec<IpNet>")]
pub struct PrefixSet {
    v4: Tree<Ipv4Net>,
    v6: Tree<Ipv6Net>,
}

impl PrefixSet {
    /// Every address of both versions.
    pub fn any() -> Self {
        Self { v4: Tree::unit(Ipv4Net::default()), v6: Tree::unit(Ipv6Net::default()) }
    }

    /// Is it every address of both versions?
    pub fn is_any(&self) -> bool {
        self.len() == 2 && self.iter().all(|it| it.prefix_len() == 0)
    }

    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Sorted.
    pub fn v4(&self) -> impl ExactSizeIterator<Item = Ipv4Net> {
        self.v4.iter().copied()
    }

    /// Sorted.
    pub fn v6(&self) -> impl ExactSizeIterator<Item = Ipv6Net> {
        self.v6.iter().copied()
    }

    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => tree::holder(&self.v4, &ip.into()).is_some(),
            IpAddr::V6(ip) => tree::holder(&self.v6, &ip.into()).is_some(),
        }
    }

    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let (large, small) = if self.len() < other.len() { (other, self) } else { (self, other) };
        let mut union = large.clone();
        small.v4().for_each(|net| tree::insert(&mut union.v4, net));
        small.v6().for_each(|net| tree::insert(&mut union.v6, net));
        union
    }

    /// The same as a union with this one address.
    pub fn insert(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => tree::insert(&mut self.v4, ip.into()),
            IpAddr::V6(ip) => tree::insert(&mut self.v6, ip.into()),
        }
    }

    /// The same as the difference from this one address.
    pub fn remove(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => tree::remove(&mut self.v4, &ip.into()),
            IpAddr::V6(ip) => tree::remove(&mut self.v6, &ip.into()),
        }
    }

    /// What is here and not there.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let v4 = blocks(32, self.ranges_v4(), other.ranges_v4()).filter_map(v4_net).collect();
        let v6 = blocks(128, self.ranges_v6(), other.ranges_v6()).filter_map(v6_net).collect();
        Self { v4, v6 }
    }

    /// The same, if it is at most so many prefixes: a hole of one address in a large prefix leaves one for each of its
    /// bits.
    ///
    /// # Errors
    /// How many they would be.
    pub fn difference_within(&self, other: &Self, most: usize) -> Result<Self, usize> {
        let count = blocks(32, self.ranges_v4(), other.ranges_v4()).count()
            + blocks(128, self.ranges_v6(), other.ranges_v6()).count();
        if count > most { Err(count) } else { Ok(self.difference(other)) }
    }

    /// How many prefixes.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// As they are kept: sorted, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpNet> {
        self.v4().map(IpNet::from).chain(self.v6().map(IpNet::from))
    }

    fn ranges_v4(&self) -> impl Iterator<Item = Range> {
        let bits = |ip: Ipv4Addr| u128::from(u32::from(ip));
        self.v4().map(move |net| (bits(net.network()), bits(net.broadcast())))
    }

    fn ranges_v6(&self) -> impl Iterator<Item = Range> {
        self.v6().map(|net| (net.network().into(), net.broadcast().into()))
    }
}

fn v4_net((address, length): (u128, u8)) -> Option<Ipv4Net> {
    Ipv4Net::new(Ipv4Addr::from(u32::try_from(address).ok()?), length).ok()
}

fn v6_net((address, length): (u128, u8)) -> Option<Ipv6Net> {
    Ipv6Net::new(Ipv6Addr::from(address), length).ok()
}

impl FromIterator<IpNet> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            match net {
                IpNet::V4(net) => v4.push(net.trunc()),
                IpNet::V6(net) => v6.push(net.trunc()),
            }
        }
        Self {
            v4: Ipv4Net::aggregate(&v4).into_iter().collect(),
            v6: Ipv6Net::aggregate(&v6).into_iter().collect(),
        }
    }
}

impl From<Vec<IpNet>> for PrefixSet {
    fn from(nets: Vec<IpNet>) -> Self {
        nets.into_iter().collect()
    }
}

impl From<PrefixSet> for Vec<IpNet> {
    fn from(set: PrefixSet) -> Self {
        set.iter().collect()
    }
}

impl FromIterator<IpAddr> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(ips: I) -> Self {
        ips.into_iter().map(IpNet::from).collect()
    }
}

impl From<IpNet> for PrefixSet {
    fn from(net: IpNet) -> Self {
        std::iter::once(net).collect()
    }
}
