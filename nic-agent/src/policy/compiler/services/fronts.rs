//! The ports of Services, and where to find those that a rule has to do with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use offload::policy::{PrefixSet, Rule, Traffic};

use crate::policy::model::{ObjectName, Protocol};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::policy::compiler) struct FrontId(u32);

/// One port of one address of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::policy::compiler) struct Front {
    pub service: ObjectName,
    pub address: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
    /// Ready ones, sorted, of the address's version.
    pub backends: Vec<(IpAddr, u16)>,
    /// Every protocol and port of the address, with no backend: the Service is more than it may be.
    pub is_whole: bool,
}

#[derive(Debug, Default)]
pub(super) struct Fronts {
    by_id: BTreeMap<FrontId, Front>,
    by_backend: BTreeMap<IpAddr, BTreeSet<FrontId>>,
    by_address: BTreeMap<IpAddr, BTreeSet<FrontId>>,
    /// Its own, and its backends'.
    by_port: BTreeMap<(Protocol, u16), BTreeSet<FrontId>>,
    whole: BTreeSet<FrontId>,
    next: u32,
}

impl Front {
    fn ports(&self) -> impl Iterator<Item = (Protocol, u16)> {
        let of_backends = self.backends.iter().map(|(_, port)| *port);
        of_backends.chain([self.port]).map(|port| (self.protocol, port))
    }
}

impl Fronts {
    pub fn get(&self, id: FrontId) -> Option<&Front> {
        self.by_id.get(&id)
    }

    pub fn insert(&mut self, front: Front) -> FrontId {
        let id = FrontId(self.next);
        self.next += 1;
        self.by_address.entry(front.address).or_default().insert(id);
        for (ip, _) in &front.backends {
            self.by_backend.entry(*ip).or_default().insert(id);
        }
        if front.is_whole {
            self.whole.insert(id);
        } else {
            for port in front.ports() {
                self.by_port.entry(port).or_default().insert(id);
            }
        }
        self.by_id.insert(id, front);
        id
    }

    pub fn remove(&mut self, id: FrontId) -> Option<Front> {
        let front = self.by_id.remove(&id)?;
        forget(&mut self.by_address, &front.address, id);
        for (ip, _) in &front.backends {
            forget(&mut self.by_backend, ip, id);
        }
        for port in front.ports() {
            forget(&mut self.by_port, &port, id);
        }
        self.whole.remove(&id);
        Some(front)
    }

    pub fn with_backend(&self, ip: IpAddr) -> impl Iterator<Item = FrontId> {
        self.by_backend.get(&ip).into_iter().flatten().copied()
    }

    /// Those that have it as their own address, or as a backend's.
    pub fn with_address(&self, ip: IpAddr) -> impl Iterator<Item = FrontId> {
        self.with_backend(ip).chain(self.by_address.get(&ip).into_iter().flatten().copied())
    }

    /// All that one of these rules can have to do with, and perhaps others. Each rule is looked up by its peers and by its
    /// ports at the same time, until one of them is through: everybody on a rare port is few, and so are few on any port.
    pub fn concerned(&self, rules: &[&Rule]) -> BTreeSet<FrontId> {
        let mut all = BTreeSet::new();
        let mut walked: Vec<&PrefixSet> = Vec::new();
        for rule in rules.iter().filter(|it| !it.peers.is_empty()) {
            all.extend(&self.whole);
            if walked.contains(&&rule.peers) {
                continue;
            }
            let mut by_peers = rule.peers.iter().flat_map(|net| self.steps_in(net));
            let mut by_ports = self.with_ports_of(&rule.traffic);
            let (mut of_peers, mut of_ports) = (Vec::new(), Vec::new());
            let found = loop {
                let Some(step) = by_peers.next() else {
                    walked.push(&rule.peers);
                    break of_peers;
                };
                of_peers.extend(step);
                if let Some(by_ports) = &mut by_ports {
                    let Some(id) = by_ports.next() else { break of_ports };
                    of_ports.push(id);
                }
            };
            all.extend(found);
        }
        all
    }

    /// Those with a backend or the address in the prefix. A step without one is the looking up.
    fn steps_in(&self, net: IpNet) -> impl Iterator<Item = Option<FrontId>> {
        let range = net.network()..=net.broadcast();
        let indexes = [&self.by_backend, &self.by_address].into_iter();
        let found = indexes.flat_map(move |index| index.range(range.clone())).flat_map(|(_, ids)| ids);
        std::iter::once(None).chain(found.copied().map(Some))
    }

    /// `None`: on every port.
    fn with_ports_of<'a>(&'a self, traffic: &'a Traffic) -> Option<impl Iterator<Item = FrontId> + 'a> {
        let Traffic::Of(of) = traffic else { return None };
        let by_protocol = [(Protocol::Tcp, &of.tcp), (Protocol::Udp, &of.udp), (Protocol::Sctp, &of.sctp)];
        let ranges = by_protocol.into_iter().flat_map(|(protocol, ports)| {
            ports.ranges().iter().map(move |it| (protocol, it.first())..=(protocol, it.last()))
        });
        Some(ranges.flat_map(move |range| self.by_port.range(range)).flat_map(|(_, ids)| ids.iter().copied()))
    }
}

fn forget<K: Ord>(index: &mut BTreeMap<K, BTreeSet<FrontId>>, key: &K, id: FrontId) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}
