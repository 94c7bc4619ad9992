//! Sets of IP addresses, as prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
        self.v4.iter().copied().map(IpNet::from).chain(self.v6.iter().copied().map(IpNet::from))
    }

    fn ranges_v4(&self) -> impl Iterator<Item = Range> {
        let bits = |ip: Ipv4Addr| u128::from(u32::from(ip));
        self.v4.iter().map(move |net| (bits(net.network()), bits(net.broadcast())))
    }

    fn ranges_v6(&self) -> impl Iterator<Item = Range> {
        self.v6.iter().map(|net| (net.network().into(), net.broadcast().into()))
    }
}

/// First and last address.
type Range = (u128, u128);

/// The prefixes that make up `from` without `without`, as address and length. Both are in order and do not overlap; `width` is
/// that of an address.
fn blocks(
    width: u8,
    from: impl Iterator<Item = Range>,
    without: impl Iterator<Item = Range>,
) -> impl Iterator<Item = (u128, u8)> {
    remaining(from, without).flat_map(move |(first, last)| {
        let mut next = Some(first);
        std::iter::from_fn(move || {
            let start = next.filter(|start| *start <= last)?;
            // The largest that begins here and fits.
            let aligned = if start == 0 { u32::from(width) } else { start.trailing_zeros() };
            let fitting = (last - start).checked_add(1).map_or(u128::BITS, u128::ilog2);
            let host_bits = aligned.min(fitting).min(u32::from(width));
            next = 1u128.checked_shl(host_bits).and_then(|size| start.checked_add(size));
            Some((start, width - u8::try_from(host_bits).unwrap_or(width)))
        })
    })
}

/// What is left of ranges, each as long as it can be: two that touch are one.
fn remaining(
    from: impl Iterator<Item = Range>,
    without: impl Iterator<Item = Range>,
) -> impl Iterator<Item = Range> {
    let mut from = touching_joined(from);
    let mut without = touching_joined(without).peekable();
    let mut rest: Option<Range> = None;
    std::iter::from_fn(move || {
        loop {
            let (first, last) = rest.take().or_else(|| from.next())?;
            while without.next_if(|hole| hole.1 < first).is_some() {}
            match without.peek() {
                Some(&(hole, end)) if hole <= last => {
                    // The hole may reach into the next range, so it stays.
                    rest = end.checked_add(1).filter(|next| *next <= last).map(|next| (next, last));
                    if first < hole {
                        return Some((first, hole - 1));
                    }
                }
                _ => return Some((first, last)),
            }
        }
    })
}

fn touching_joined(ranges: impl Iterator<Item = Range>) -> impl Iterator<Item = Range> {
    let mut ranges = ranges.peekable();
    std::iter::from_fn(move || {
        let (first, mut last) = ranges.next()?;
        while let Some((_, end)) = ranges.next_if(|next| last.checked_add(1) == Some(next.0)) {
            last = end;
        }
        Some((first, last))
    })
}

fn v4_net((address, length): (u128, u8)) -> Option<Ipv4Net> {
    Ipv4Net::new(Ipv4Addr::from(u32::try_from(address).ok()?), length).ok()
}

fn v6_net((address, length): (u128, u8)) -> Option<Ipv6Net> {
    Ipv6Net::new(Ipv6Addr::from(address), length).ok()
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

#[cfg(test)]
mod tests {
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

    /// Whole prefixes of each version, with holes anywhere, their ends among them.
    fn holes() -> impl Strategy<Value = Vec<IpNet>> {
        let v4 = (any::<u32>(), 0..=32u8)
            .prop_map(|(bits, len)| IpNet::from(Ipv4Net::new(bits.into(), len).unwrap()));
        let v6 = (any::<u128>(), 0..=128u8)
            .prop_map(|(bits, len)| IpNet::from(Ipv6Net::new(bits.into(), len).unwrap()));
        let ends = prop_oneof![
            Just("0.0.0.0/32"),
            Just("255.255.255.255/32"),
            Just("::/128"),
            Just("128.0.0.0/1"),
            Just("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"),
            Just("0.0.0.0/0"),
            Just("::/0")
        ]
        .prop_map(|it| it.parse::<IpNet>().unwrap());
        proptest::collection::vec(prop_oneof![4 => v4, 4 => v6, 1 => ends], 0..24)
    }

    proptest! {
        /// Asked at every edge of every prefix, where membership can change.
        #[test]
        fn a_difference_is_what_is_in_one_and_not_in_the_other(a in holes(), b in holes()) {
            let (set_a, set_b): (PrefixSet, PrefixSet) = (a.iter().copied().collect(), b.iter().copied().collect());
            let whole = PrefixSet::any();
            for (of, from) in [(set_a.difference(&set_b), &a), (whole.difference(&set_b), &whole.iter().collect())] {
                let beside = |ip: IpAddr| match ip {
                    IpAddr::V4(ip) => [u32::from(ip).wrapping_sub(1), u32::from(ip).wrapping_add(1)].map(|it| Ipv4Addr::from(it).into()),
                    IpAddr::V6(ip) => [u128::from(ip).wrapping_sub(1), u128::from(ip).wrapping_add(1)].map(|it| Ipv6Addr::from(it).into()),
                };
                let ends = a.iter().chain(&b).flat_map(|net| [net.network(), net.broadcast()]);
                for ip in ends.flat_map(|ip| beside(ip).into_iter().chain([ip])) {
                    let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&ip));
                    prop_assert_eq!(of.contains(ip), within(from) && !within(&b), "{}", ip);
                }
                // The one form that such a set has.
                prop_assert_eq!(&of, &of.iter().collect());
                let size = of.len();
                let of_a = from.iter().copied().collect::<PrefixSet>();
                prop_assert_eq!(of_a.difference_within(&set_b, size), Ok(of));
                if let Some(less) = size.checked_sub(1) {
                    prop_assert_eq!(of_a.difference_within(&set_b, less), Err(size));
                }
            }
        }
    }
}
