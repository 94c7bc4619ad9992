//! The ports of Services, and where to find those that a rule has to do with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use offload::policy::{PrefixSet, Rule, Traffic};

use crate::policy::index::network::{ByNetwork, NetworkId, NetworkIp};
use crate::policy::model::{ObjectName, Protocol};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrontId(u32);

impl FrontId {
    const FIRST: Self = Self(0);
    const LAST: Self = Self(u32::MAX);
}

/// One port of one address of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    pub service: ObjectName,
    /// On which its address is, and those of its backends.
    pub network: NetworkId,
    pub address: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
    /// Those that a pod of this node gets, or may have got; sorted, of the address's version.
    pub backends: Vec<(IpAddr, u16)>,
    /// Every protocol and port of the address, with no backend: the Service is more than it may be.
    pub is_whole: bool,
}

#[derive(Debug, Default)]
pub struct Fronts {
    by_id: BTreeMap<FrontId, Front>,
    networks: ByNetwork<OnNetwork>,
    next: u32,
}

/// Those of one network, and where to find them.
#[derive(Debug, Default)]
struct OnNetwork {
    /// By its own address, and its backends'. One flat tree: a prefix is looked up once, and a cluster's backends take no
    /// set each.
    by_ip: BTreeSet<(IpAddr, FrontId)>,
    /// Its own, and its backends'.
    by_port: BTreeMap<(Protocol, u16), BTreeSet<FrontId>>,
    whole: BTreeSet<FrontId>,
}

impl Front {
    fn ports(&self) -> impl Iterator<Item = (Protocol, u16)> {
        let of_backends = self.backends.iter().map(|(_, port)| *port);
        of_backends.chain([self.port]).map(|port| (self.protocol, port))
    }

    fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.backends.iter().map(|(ip, _)| *ip).chain([self.address])
    }

    pub fn backend_ips(&self) -> impl Iterator<Item = NetworkIp> {
        self.backends.iter().map(|(ip, _)| NetworkIp { network: self.network, ip: *ip })
    }

    fn has_backend(&self, wanted: IpAddr) -> bool {
        let at = self.backends.partition_point(|(ip, _)| *ip < wanted);
        self.backends.get(at).is_some_and(|(ip, _)| *ip == wanted)
    }
}

impl Fronts {
    pub fn get(&self, id: FrontId) -> Option<&Front> {
        self.by_id.get(&id)
    }

    pub fn insert(&mut self, front: Front) -> FrontId {
        let id = FrontId(self.next);
        self.next += 1;
        self.networks.entry(front.network).or_default().insert(id, &front);
        self.by_id.insert(id, front);
        id
    }

    pub fn remove(&mut self, id: FrontId) -> Option<Front> {
        let front = self.by_id.remove(&id)?;
        if let Some(there) = self.networks.get_mut(&front.network) {
            there.remove(id, &front);
        }
        Some(front)
    }

    pub fn with_backend(&self, at: NetworkIp) -> impl Iterator<Item = FrontId> {
        self.with_address(at).filter(move |id| self.get(*id).is_some_and(|front| front.has_backend(at.ip)))
    }

    /// Those that have it as their own address, or as a backend's.
    pub fn with_address(&self, NetworkIp { network, ip }: NetworkIp) -> impl Iterator<Item = FrontId> {
        self.networks.get(&network).into_iter().flat_map(move |it| it.in_range(ip, ip))
    }

    /// All of a network that one of these rules can have to do with, and perhaps others. Each rule is looked up by its
    /// peers and by its ports at the same time, until one of them is through: everybody on a rare port is few, and so are
    /// few on any port.
    pub fn concerned(&self, network: NetworkId, rules: &[Rule]) -> BTreeSet<FrontId> {
        let Some(there) = self.networks.get(&network) else { return BTreeSet::new() };
        let mut all = Vec::new();
        let mut walked: Vec<&PrefixSet> = Vec::new();
        for rule in rules.iter().filter(|it| !it.peers.is_empty()) {
            all.extend(&there.whole);
            if walked.contains(&&rule.peers) {
                continue;
            }
            let mut by_peers = rule.peers.iter().flat_map(|net| there.steps_in(net));
            let mut by_ports = there.with_ports_of(&rule.traffic);
            let (mut of_peers, mut of_ports) = (Vec::new(), Vec::new());
            let mut steps_of_ports = 0;
            let found = loop {
                let Some(step) = by_peers.next() else {
                    walked.push(&rule.peers);
                    break of_peers;
                };
                of_peers.extend(step);
                let Some(by_ports) = &mut by_ports else { continue };
                if steps_of_ports > 0 {
                    steps_of_ports -= 1;
                    continue;
                }
                let Some(id) = by_ports.next() else { break of_ports };
                of_ports.push(id);
                // Each of its backends will be asked about, whoever's it is: one that is found by its peers is worth that,
                // the other ones of a cluster that have a usual port are not.
                steps_of_ports = self.get(id).map_or(0, |front| front.backends.len());
            };
            all.extend(found);
        }
        // A Service is found once for each of its backends; sorted first, that costs no place in the tree.
        all.sort_unstable();
        all.dedup();
        all.into_iter().collect()
    }
}

impl OnNetwork {
    fn insert(&mut self, id: FrontId, front: &Front) {
        self.by_ip.extend(front.ips().map(|ip| (ip, id)));
        if front.is_whole {
            self.whole.insert(id);
        } else {
            for port in front.ports() {
                self.by_port.entry(port).or_default().insert(id);
            }
        }
    }

    fn remove(&mut self, id: FrontId, front: &Front) {
        for ip in front.ips() {
            self.by_ip.remove(&(ip, id));
        }
        for port in front.ports() {
            if let Some(ids) = self.by_port.get_mut(&port) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_port.remove(&port);
                }
            }
        }
        self.whole.remove(&id);
    }

    fn in_range(&self, first: IpAddr, last: IpAddr) -> impl Iterator<Item = FrontId> {
        self.by_ip.range((first, FrontId::FIRST)..=(last, FrontId::LAST)).map(|(_, id)| *id)
    }

    /// Those with a backend or the address in the prefix. A step without one is the looking up.
    fn steps_in(&self, net: IpNet) -> impl Iterator<Item = Option<FrontId>> {
        std::iter::once(None).chain(self.in_range(net.network(), net.broadcast()).map(Some))
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
