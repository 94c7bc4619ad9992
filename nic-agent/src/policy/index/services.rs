//! ClusterIPs and what they balance to.
//!
//! Maps of objects are trees: a hash table of a cluster's objects is copied whole when it must grow.

mod fronts;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use kube_services::{Backing, Client, Limits, Shares};
use offload::policy::Rule;

use super::network::{NetworkId, NetworkIp};
use crate::policy::budget::Excess;
use crate::policy::model::{Endpoint, EndpointSlice, ObjectName, Protocol, Service};
pub(super) use fronts::Fronts;
pub use fronts::{Front, FrontId};

#[derive(Debug)]
pub struct Services {
    /// From where this node's pods ask.
    node: Arc<str>,
    zone: Arc<str>,
    by_name: BTreeMap<ObjectName, Service>,
    /// By Service, then by the slice's name.
    slices: BTreeMap<ObjectName, BTreeMap<ObjectName, EndpointSlice>>,
    service_of: BTreeMap<ObjectName, ObjectName>,
    fronts: Fronts,
    by_service: BTreeMap<ObjectName, Vec<FrontId>>,
    shares: Shares,
}

/// What became of a Service's ports.
#[derive(Debug, Default)]
pub struct Moved {
    pub gone: BTreeMap<FrontId, Front>,
    pub new: BTreeSet<FrontId>,
    /// Addresses of backends, before and after.
    pub backends: BTreeSet<NetworkIp>,
}

impl Services {
    pub fn new(limits: Limits, node: Arc<str>, zone: Arc<str>) -> Self {
        Self {
            node,
            zone,
            by_name: BTreeMap::new(),
            slices: BTreeMap::new(),
            service_of: BTreeMap::new(),
            fronts: Fronts::default(),
            by_service: BTreeMap::new(),
            shares: Shares::new(limits),
        }
    }

    /// Which endpoints the node's pods get may be another matter now.
    pub fn set_zone(&mut self, zone: Arc<str>, moved: &mut Moved) {
        if self.zone != zone {
            self.zone = zone;
            for name in self.by_name.keys().cloned().collect::<Vec<_>>() {
                self.remake(&name, moved);
            }
        }
    }

    /// May [`Self::excesses`] be others than when this was last asked?
    pub fn take_excess_changed(&mut self) -> bool {
        self.shares.take_changed()
    }

    /// Services that are refused as a whole.
    pub fn excesses(&self) -> impl Iterator<Item = (&ObjectName, Excess)> {
        self.shares.refused().map(|(name, excess)| (name, excess.into()))
    }

    pub fn front(&self, id: FrontId) -> Option<&Front> {
        self.fronts.get(id)
    }

    pub fn names(&self) -> impl Iterator<Item = &ObjectName> {
        self.by_name.keys()
    }

    /// Of those that are some Service's.
    pub fn slice_names(&self) -> impl Iterator<Item = &ObjectName> {
        self.service_of.keys()
    }

    pub fn with_backend(&self, at: NetworkIp) -> impl Iterator<Item = FrontId> {
        self.fronts.with_backend(at)
    }

    /// Those that have it as their own address, or as a backend's.
    pub fn with_address(&self, at: NetworkIp) -> impl Iterator<Item = FrontId> {
        self.fronts.with_address(at)
    }

    /// All of a network that one of these rules can have to do with, and perhaps others.
    pub fn concerned(&self, network: NetworkId, rules: &[Rule]) -> BTreeSet<FrontId> {
        self.fronts.concerned(network, rules)
    }

    pub fn put(&mut self, mut service: Service, moved: &mut Moved) {
        // Of what is refused as a whole the ports are of no use.
        let most = self.shares.limits().service.ports;
        if service.ports.len() > most {
            service.ports.truncate(most);
            service.ports.shrink_to_fit();
        }
        let name = service.name.clone();
        self.by_name.insert(name.clone(), service);
        self.refresh(&name, moved);
    }

    pub fn remove(&mut self, name: &ObjectName, moved: &mut Moved) {
        self.by_name.remove(name);
        self.refresh(name, moved);
    }

    pub fn put_slice(&mut self, slice: EndpointSlice, moved: &mut Moved) {
        let owner =
            slice.service.as_ref().map(|it| ObjectName::new(slice.name.namespace.clone(), it.clone()));
        if self.service_of.get(&slice.name) != owner.as_ref() {
            self.remove_slice(&slice.name, moved);
        }
        let Some(owner) = owner else { return };
        self.service_of.insert(slice.name.clone(), owner.clone());
        self.slices.entry(owner.clone()).or_default().insert(slice.name.clone(), slice);
        self.refresh(&owner, moved);
    }

    pub fn remove_slice(&mut self, name: &ObjectName, moved: &mut Moved) {
        let Some(owner) = self.service_of.remove(name) else { return };
        if let Some(slices) = self.slices.get_mut(&owner) {
            slices.remove(name);
            if slices.is_empty() {
                self.slices.remove(&owner);
            }
        }
        self.refresh(&owner, moved);
    }

    fn wanted(&self, name: &ObjectName) -> Vec<Front> {
        let Some(service) = self.by_name.get(name) else { return Vec::new() };
        if self.shares.refuses(name) {
            let whole = |address: &IpAddr| Front {
                service: name.clone(),
                network: NetworkId::Overlay,
                address: *address,
                protocol: Protocol::Tcp,
                port: 0,
                backends: Vec::new(),
                is_whole: true,
            };
            return service.cluster_ips.iter().map(whole).collect();
        }
        let backing = self.backing(name, service);
        let client = Client { node: &self.node, zone: &self.zone };
        let mut fronts = Vec::new();
        for address in &service.cluster_ips {
            for port in &service.ports {
                fronts.push(Front {
                    service: name.clone(),
                    network: NetworkId::Overlay,
                    address: *address,
                    protocol: port.protocol,
                    port: port.number,
                    // Without any that gets a connection: a pod keeps those that it has.
                    backends: backing.backends_or_listed(port, address.is_ipv4(), client),
                    is_whole: false,
                });
            }
        }
        fronts
    }

    fn backing(&self, name: &ObjectName, service: &Service) -> Backing<'_, fn(&Endpoint) -> bool> {
        // What is here is believed.
        Backing::new(service, self.slices_of(name), |_| true)
    }

    fn slices_of(&self, name: &ObjectName) -> impl Iterator<Item = &EndpointSlice> + Clone {
        self.slices.get(name).into_iter().flat_map(BTreeMap::values)
    }

    fn refresh(&mut self, name: &ObjectName, moved: &mut Moved) {
        let service = self.by_name.get(name);
        let cost = service.and_then(|it| self.shares.limits().cost(it, self.slices_of(name)));
        for other in self.shares.set(name, cost) {
            if other != *name {
                self.remake(&other, moved);
            }
        }
        self.remake(name, moved);
    }

    fn remake(&mut self, name: &ObjectName, moved: &mut Moved) {
        let wanted = self.wanted(name);
        let ids = self.by_service.get(name).cloned().unwrap_or_default();
        if ids.iter().filter_map(|id| self.fronts.get(*id)).eq(&wanted) {
            return;
        }
        for id in ids {
            let Some(front) = self.fronts.remove(id) else { continue };
            moved.backends.extend(front.backend_ips());
            if !moved.new.remove(&id) {
                moved.gone.insert(id, front);
            }
        }
        self.by_service.remove(name);
        for front in wanted {
            moved.backends.extend(front.backend_ips());
            let id = self.fronts.insert(front);
            self.by_service.entry(name.clone()).or_default().push(id);
            moved.new.insert(id);
        }
    }
}
