//! Ranges and whose they are, found by overlap.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Have they an address in common? Prefixes do if one holds the other.
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// Ranges, by node. It may hold ranges that overlap; then [`Held::sole`] has neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    of: BTreeMap<Arc<str>, Vec<IpNet>>,
    whose: BTreeMap<IpNet, BTreeSet<Arc<str>>>,
}

impl Held {
    /// In the order in which they were named.
    pub fn of(&self, node: &str) -> impl Iterator<Item = IpNet> {
        self.of.get(node).into_iter().flatten().copied()
    }

    /// Those of them that no other node's overlap.
    pub fn sole(&self, node: &str) -> impl Iterator<Item = IpNet> {
        self.of(node).filter(move |range| self.overlapping(range, node).next().is_none())
    }

    /// Takes the place of what the node had.
    pub fn set(&mut self, node: &Arc<str>, ranges: Vec<IpNet>) {
        for old in self.of.remove(node).unwrap_or_default() {
            if let Some(nodes) = self.whose.get_mut(&old) {
                nodes.remove(node);
                if nodes.is_empty() {
                    self.whose.remove(&old);
                }
            }
        }
        for range in ranges {
            self.add(node, range);
        }
    }

    pub fn add(&mut self, node: &Arc<str>, range: IpNet) {
        let ranges = self.of.entry(Arc::clone(node)).or_default();
        if !ranges.contains(&range) {
            ranges.push(range);
            self.whose.entry(range).or_default().insert(Arc::clone(node));
        }
    }

    /// Other nodes' ranges that have an address in common with this one.
    pub fn overlapping(&self, range: &IpNet, node: &str) -> impl Iterator<Item = (Arc<str>, IpNet)> {
        // Those that hold it, itself among them; and those within it, which stand behind each other in the order of their
        // addresses.
        let around = (0..=range.prefix_len()).filter_map(move |length| around(range, length));
        let around = around.filter_map(|it| self.whose.get_key_value(&it));
        let within = self.whose.range(first(range)..=last(range));
        let within = within.filter(|(it, _)| it.prefix_len() > range.prefix_len());
        let found = around.chain(within);
        found.flat_map(move |(range, nodes)| {
            nodes.iter().filter(move |it| ***it != *node).map(|it| (Arc::clone(it), *range))
        })
    }
}

fn around(range: &IpNet, length: u8) -> Option<IpNet> {
    IpNet::new(range.addr(), length).ok().map(|it| it.trunc())
}

fn first(range: &IpNet) -> IpNet {
    match range.network() {
        IpAddr::V4(ip) => IpNet::V4(Ipv4Net::new(ip, 0).unwrap_or_default()),
        IpAddr::V6(ip) => IpNet::V6(Ipv6Net::new(ip, 0).unwrap_or_default()),
    }
}

fn last(range: &IpNet) -> IpNet {
    // As a host's own prefix it stands behind all others that begin there.
    IpNet::from(range.broadcast())
}
