//! Sets of IP addresses, as prefixes.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// Prefixes of both versions, sorted, none inside another and no two that make up one: equal sets are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<IpNet>", into = "Vec<IpNet>")]
pub struct PrefixSet {
    // Shared: a cluster's sets are large, and stand in the rules of many pods.
    v4: Arc<[Ipv4Net]>,
    v6: Arc<[Ipv6Net]>,
}

impl PrefixSet {
    /// Every address of both versions.
    pub fn any() -> Self {
        Self { v4: [Ipv4Net::default()].into(), v6: [Ipv6Net::default()].into() }
    }

    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    pub fn v4(&self) -> &[Ipv4Net] {
        &self.v4
    }

    pub fn v6(&self) -> &[Ipv6Net] {
        &self.v6
    }

    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => {
                holder(&self.v4, |net| net.network() <= ip).is_some_and(|(_, net)| net.contains(&ip))
            }
            IpAddr::V6(ip) => {
                holder(&self.v6, |net| net.network() <= ip).is_some_and(|(_, net)| net.contains(&ip))
            }
        }
    }

    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self {
            v4: Ipv4Net::aggregate(&[&*self.v4, &*other.v4].concat()).into(),
            v6: Ipv6Net::aggregate(&[&*self.v6, &*other.v6].concat()).into(),
        }
    }

    /// The same as a union with this one address, at the cost of a copy.
    pub fn insert(&mut self, ip: IpAddr) {
        if self.contains(ip) {
            return;
        }
        match ip {
            IpAddr::V4(ip) => self.v4 = joined(&self.v4, ip.into()),
            IpAddr::V6(ip) => self.v6 = joined(&self.v6, ip.into()),
        }
    }

    /// The same as the difference from this one address, at the cost of a copy.
    pub fn remove(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => {
                if let Some((at, net)) =
                    holder(&self.v4, |net| net.network() <= ip).filter(|it| it.1.contains(&ip))
                {
                    let halves = |net: Ipv4Net| net.subnets(net.prefix_len() + 1).ok();
                    self.v4 = replaced(&self.v4, at, punch(net, ip.into(), |a, b| a.contains(b), halves));
                }
            }
            IpAddr::V6(ip) => {
                if let Some((at, net)) =
                    holder(&self.v6, |net| net.network() <= ip).filter(|it| it.1.contains(&ip))
                {
                    let halves = |net: Ipv6Net| net.subnets(net.prefix_len() + 1).ok();
                    self.v6 = replaced(&self.v6, at, punch(net, ip.into(), |a, b| a.contains(b), halves));
                }
            }
        }
    }

    /// What is here and not there.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let v4 = other.v4.iter().fold(self.v4.to_vec(), |left, hole| {
            left.into_iter()
                .flat_map(|net| {
                    punch(net, *hole, |a, b| a.contains(b), |net| net.subnets(net.prefix_len() + 1).ok())
                })
                .collect()
        });
        let v6 = other.v6.iter().fold(self.v6.to_vec(), |left, hole| {
            left.into_iter()
                .flat_map(|net| {
                    punch(net, *hole, |a, b| a.contains(b), |net| net.subnets(net.prefix_len() + 1).ok())
                })
                .collect()
        });
        Self { v4: Ipv4Net::aggregate(&v4).into(), v6: Ipv6Net::aggregate(&v6).into() }
    }
}

/// What the last of the sorted prefixes is that does not begin `after`, and where it stands.
fn holder<N: Copy>(nets: &[N], not_after: impl Fn(&N) -> bool) -> Option<(usize, N)> {
    let at = nets.partition_point(not_after).checked_sub(1)?;
    nets.get(at).map(|net| (at, *net))
}

/// With a prefix that none of them holds: put in its place, and made one with its other half as long as that is there.
fn joined<N: Into<IpNet> + TryFromNet + Copy + Ord>(nets: &[N], net: N) -> Arc<[N]> {
    let at = nets.partition_point(|other| *other < net);
    let (before, after) = nets.split_at_checked(at).unwrap_or((nets, &[]));
    let (mut before, mut after, mut net) = (before, after, net);
    while let Some(parent) = net.into().supernet() {
        let is_other_half = |other: &N| {
            let other: IpNet = (*other).into();
            other.prefix_len() == parent.prefix_len() + 1 && parent.contains(&other)
        };
        if let Some((last, rest)) = before.split_last()
            && is_other_half(last)
        {
            before = rest;
        } else if let Some((first, rest)) = after.split_first()
            && is_other_half(first)
        {
            after = rest;
        } else {
            break;
        }
        let Some(whole) = N::of(parent) else { break };
        net = whole;
    }
    before.iter().copied().chain([net]).chain(after.iter().copied()).collect()
}

/// With `parts` in the place of the one at `at`.
fn replaced<N: Copy + Ord>(nets: &[N], at: usize, mut parts: Vec<N>) -> Arc<[N]> {
    parts.sort_unstable();
    let (before, after) = nets.split_at_checked(at).unwrap_or((nets, &[]));
    before.iter().copied().chain(parts).chain(after.iter().skip(1).copied()).collect()
}

/// Back from the prefix of either version.
trait TryFromNet: Sized {
    fn of(net: IpNet) -> Option<Self>;
}

impl TryFromNet for Ipv4Net {
    fn of(net: IpNet) -> Option<Self> {
        if let IpNet::V4(net) = net { Some(net) } else { None }
    }
}

impl TryFromNet for Ipv6Net {
    fn of(net: IpNet) -> Option<Self> {
        if let IpNet::V6(net) = net { Some(net) } else { None }
    }
}

/// `net` without `hole`: halves it until the hole is one of the halves.
fn punch<N: Copy, S: Iterator<Item = N>>(
    net: N,
    hole: N,
    contains: impl Fn(&N, &N) -> bool,
    halves: impl Fn(N) -> Option<S>,
) -> Vec<N> {
    if contains(&hole, &net) {
        return Vec::new();
    }
    let (mut kept, mut around) = (Vec::new(), net);
    if !contains(&around, &hole) {
        return vec![net];
    }
    while !contains(&hole, &around) {
        let Some(parts) = halves(around) else { break };
        for half in parts {
            if contains(&half, &hole) { around = half } else { kept.push(half) }
        }
    }
    kept
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
        Self { v4: Ipv4Net::aggregate(&v4).into(), v6: Ipv6Net::aggregate(&v6).into() }
    }
}

impl From<Vec<IpNet>> for PrefixSet {
    fn from(nets: Vec<IpNet>) -> Self {
        nets.into_iter().collect()
    }
}

impl From<PrefixSet> for Vec<IpNet> {
    fn from(set: PrefixSet) -> Self {
        set.v4.iter().copied().map(IpNet::from).chain(set.v6.iter().copied().map(IpNet::from)).collect()
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    /// Few addresses, so that prefixes meet.
    fn nets() -> impl Strategy<Value = Vec<IpNet>> {
        let v4 = (0..32u32, 0..=32u8)
            .prop_map(|(low, len)| Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 | low), len).unwrap().into());
        let v6 = (0..32u128, 0..=128u8)
            .prop_map(|(low, len)| Ipv6Net::new(Ipv6Addr::from(0xfd00 << 112 | low), len).unwrap().into());
        let near = (0..32u32, 26..=32u8)
            .prop_map(|(low, len)| Ipv4Net::new(Ipv4Addr::from(0x0a00_0000 | low), len).unwrap().into());
        proptest::collection::vec(prop_oneof![v4, v6, near], 0..8)
    }

    proptest! {
        #[test]
        fn a_set_is_what_its_prefixes_say(a in nets(), b in nets(), far in any::<u32>()) {
            let (set_a, set_b): (PrefixSet, PrefixSet) = (a.iter().copied().collect(), b.iter().copied().collect());
            let v4 = (0..34u32).map(|low| 0x0a00_0000 | low).chain([far]).map(|ip| IpAddr::from(Ipv4Addr::from(ip)));
            let v6 = (0..34u128).map(|low| IpAddr::from(Ipv6Addr::from(0xfd00 << 112 | low)));
            for ip in v4.chain(v6) {
                let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&ip));
                prop_assert_eq!(set_a.contains(ip), within(&a));
                prop_assert_eq!(set_a.union(&set_b).contains(ip), within(&a) || within(&b));
                prop_assert_eq!(set_a.difference(&set_b).contains(ip), within(&a) && !within(&b));
            }
            prop_assert_eq!(set_a.union(&set_b), set_b.union(&set_a));
            // One address at a time is the same value as all at once.
            let mut one_by_one = set_a.clone();
            for ip in (0..40u32).map(|low| IpAddr::from(Ipv4Addr::from(0x0a00_0000 | low))).chain([0x0a00_0007, far].map(|ip| Ipv4Addr::from(ip).into())) {
                let single = PrefixSet::from(IpNet::from(ip));
                let (mut more, mut less) = (set_a.clone(), set_a.clone());
                more.insert(ip);
                less.remove(ip);
                prop_assert_eq!(&more, &set_a.union(&single));
                prop_assert_eq!(&less, &set_a.difference(&single));
                one_by_one.insert(ip);
            }
            for low in 0..40u128 {
                one_by_one.insert(Ipv6Addr::from(0xfd00 << 112 | low).into());
            }
            prop_assert!(one_by_one.v4.len() <= set_a.v4.len() + 4);
            // Disjoint: a prefix can be met once.
            let disjoint = |set: &PrefixSet| {
                set.v4.iter().enumerate().all(|(i, x)| set.v4[i + 1..].iter().all(|y| !x.contains(y) && !y.contains(x)))
            };
            prop_assert!(disjoint(&set_a) && disjoint(&set_a.difference(&set_b)));
        }
    }
}
