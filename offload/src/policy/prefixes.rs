//! Sets of IP addresses, as prefixes.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// Prefixes of both versions, sorted, none inside another and no two that make up one: equal sets are equal values.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<IpNet>", into = "Vec<IpNet>")]
pub struct PrefixSet {
    v4: Vec<Ipv4Net>,
    v6: Vec<Ipv6Net>,
}

impl PrefixSet {
    /// Every address of both versions.
    pub fn any() -> Self {
        Self { v4: vec![Ipv4Net::default()], v6: vec![Ipv6Net::default()] }
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
            IpAddr::V4(ip) => self.v4.iter().any(|net| net.contains(&ip)),
            IpAddr::V6(ip) => self.v6.iter().any(|net| net.contains(&ip)),
        }
    }

    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self {
            v4: Ipv4Net::aggregate(&[self.v4.as_slice(), &other.v4].concat()),
            v6: Ipv6Net::aggregate(&[self.v6.as_slice(), &other.v6].concat()),
        }
    }

    /// What is here and not there.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let v4 = other.v4.iter().fold(self.v4.clone(), |left, hole| {
            left.into_iter()
                .flat_map(|net| {
                    punch(net, *hole, |a, b| a.contains(b), |net| net.subnets(net.prefix_len() + 1).ok())
                })
                .collect()
        });
        let v6 = other.v6.iter().fold(self.v6.clone(), |left, hole| {
            left.into_iter()
                .flat_map(|net| {
                    punch(net, *hole, |a, b| a.contains(b), |net| net.subnets(net.prefix_len() + 1).ok())
                })
                .collect()
        });
        Self { v4: Ipv4Net::aggregate(&v4), v6: Ipv6Net::aggregate(&v6) }
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
        Self { v4: Ipv4Net::aggregate(&v4), v6: Ipv6Net::aggregate(&v6) }
    }
}

impl From<Vec<IpNet>> for PrefixSet {
    fn from(nets: Vec<IpNet>) -> Self {
        nets.into_iter().collect()
    }
}

impl From<PrefixSet> for Vec<IpNet> {
    fn from(set: PrefixSet) -> Self {
        set.v4.into_iter().map(IpNet::from).chain(set.v6.into_iter().map(IpNet::from)).collect()
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
            // Disjoint: a prefix can be met once.
            let disjoint = |set: &PrefixSet| {
                set.v4.iter().enumerate().all(|(i, x)| set.v4[i + 1..].iter().all(|y| !x.contains(y) && !y.contains(x)))
            };
            prop_assert!(disjoint(&set_a) && disjoint(&set_a.difference(&set_b)));
        }
    }
}
