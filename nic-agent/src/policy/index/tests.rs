//! What is said of an address on one network is said of no other, whoever has the same there.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use offload::policy::{Action, Origin, PrefixSet, Rule, Traffic};

use super::address_sets::{AddressSets, SetKey};
use super::network::{NetworkId, NetworkIp};
use super::pods::{Member, Pods};
use super::services::{Front, Fronts};
use super::{AddressSet, FrontId, Namespaces};
use crate::policy::model::{NamedPort, ObjectName, Protocol};

const NETWORKS: [NetworkId; 2] = [NetworkId::Overlay, NetworkId::Other];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(network: NetworkId, text: &str) -> NetworkIp {
    NetworkIp { network, ip: ip(text) }
}

fn with_block(ips: &[&str]) -> PrefixSet {
    let block: IpNet = "10.9.0.0/16".parse().unwrap();
    ips.iter().map(|it| IpNet::from(ip(it))).chain([block]).collect()
}

fn ports_of(set: &AddressSet, network: NetworkId) -> Vec<u16> {
    let name: Arc<str> = "http".into();
    set.named(network, Protocol::Tcp, &name).map(|(port, _)| port).collect()
}

#[test]
fn a_set_has_a_pods_address_on_its_network_alone_and_a_block_on_all() {
    let (mut sets, mut pods) = (AddressSets::default(), Pods::default());
    let mut key = SetKey::every_pod();
    key.add_block("10.9.0.0/16".parse().unwrap(), Vec::new());
    let names: [(Protocol, Arc<str>); 1] = [(Protocol::Tcp, "http".into())];
    let id = sets.acquire(key, &names, &mut pods, &Namespaces::new());
    let ports = |port| [NamedPort { name: "http".into(), protocol: Protocol::Tcp, port }];
    let set = sets.get_mut(id).unwrap();
    set.add([at(NetworkId::Overlay, "10.0.0.1")].into_iter(), &ports(80));
    let others = ["10.0.0.1", "10.0.0.2"].map(|it| at(NetworkId::Other, it));
    set.add(others.into_iter(), &ports(81));
    assert_eq!(*set.addresses(NetworkId::Overlay), with_block(&["10.0.0.1"]));
    assert_eq!(*set.addresses(NetworkId::Other), with_block(&["10.0.0.1", "10.0.0.2"]));
    assert_eq!(NETWORKS.map(|it| ports_of(set, it)), [[80], [81]]);
    let class = super::ids::ClassId(0);
    let gone = Member { class, ips: others.into(), ports: ports(81).into() };
    set.drop(&gone, |_| std::iter::empty());
    assert_eq!(*set.addresses(NetworkId::Overlay), with_block(&["10.0.0.1"]));
    assert_eq!(*set.addresses(NetworkId::Other), with_block(&[]));
    assert_eq!(NETWORKS.map(|it| ports_of(set, it).len()), [1, 0]);
}

#[test]
fn a_services_port_is_found_on_its_network_alone() {
    let mut fronts = Fronts::default();
    let ids = NETWORKS.map(|network| {
        fronts.insert(Front {
            service: ObjectName::new("x", "s"),
            network,
            address: ip("10.96.0.1"),
            protocol: Protocol::Tcp,
            port: 80,
            backends: vec![(ip("10.0.0.1"), 8080)],
            is_whole: false,
        })
    });
    let rule = |peers| Rule { action: Action::Allow, peers, traffic: Traffic::tcp(80), origin: Origin(0) };
    for (network, id) in NETWORKS.into_iter().zip(ids) {
        let of_one: PrefixSet = [ip("10.0.0.1")].into_iter().collect();
        let found: [Vec<FrontId>; 4] = [
            fronts.with_backend(at(network, "10.0.0.1")).collect(),
            fronts.with_address(at(network, "10.96.0.1")).collect(),
            fronts.concerned(network, &[rule(PrefixSet::any())]).into_iter().collect(),
            fronts.concerned(network, &[rule(of_one)]).into_iter().collect(),
        ];
        for found in found {
            assert_eq!(found, [id]);
        }
    }
    fronts.remove(ids[0]);
    assert_eq!(fronts.with_backend(at(NetworkId::Overlay, "10.0.0.1")).count(), 0);
    assert_eq!(fronts.with_backend(at(NetworkId::Other, "10.0.0.1")).collect::<Vec<_>>(), [ids[1]]);
}
