//! ClusterIPs and what they balance to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::policy::model::{AddressKind, EndpointSlice, ObjectName, Protocol, Service};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FrontId(u32);

/// One port of one address of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Front {
    pub service: ObjectName,
    pub address: IpAddr,
    pub protocol: Protocol,
    pub port: u16,
    /// Ready ones, sorted, of the address's version.
    pub backends: Vec<(IpAddr, u16)>,
}

#[derive(Debug, Default)]
pub(super) struct Services {
    by_name: HashMap<ObjectName, Service>,
    /// By Service, then by the slice's name.
    slices: HashMap<ObjectName, BTreeMap<ObjectName, EndpointSlice>>,
    service_of: HashMap<ObjectName, ObjectName>,
    fronts: BTreeMap<FrontId, Front>,
    by_service: HashMap<ObjectName, Vec<FrontId>>,
    by_backend: BTreeMap<IpAddr, BTreeSet<FrontId>>,
    by_address: BTreeMap<IpAddr, BTreeSet<FrontId>>,
    next: u32,
}

/// What became of a Service's ports.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub gone: BTreeSet<FrontId>,
    pub new: BTreeSet<FrontId>,
    /// Addresses of backends, before and after.
    pub backends: BTreeSet<IpAddr>,
}

impl Services {
    pub fn front(&self, id: FrontId) -> Option<&Front> {
        self.fronts.get(&id)
    }

    pub fn names(&self) -> impl Iterator<Item = &ObjectName> {
        self.by_name.keys()
    }

    /// Of those that are some Service's.
    pub fn slice_names(&self) -> impl Iterator<Item = &ObjectName> {
        self.service_of.keys()
    }

    pub fn with_backend(&self, ip: IpAddr) -> impl Iterator<Item = FrontId> {
        self.by_backend.get(&ip).into_iter().flatten().copied()
    }

    pub fn with_backends_in(&self, range: RangeInclusive<IpAddr>) -> impl Iterator<Item = FrontId> {
        self.by_backend.range(range).flat_map(|(_, fronts)| fronts.iter().copied())
    }

    pub fn with_address_in(&self, range: RangeInclusive<IpAddr>) -> impl Iterator<Item = FrontId> {
        self.by_address.range(range).flat_map(|(_, fronts)| fronts.iter().copied())
    }

    pub fn put(&mut self, service: Service, moved: &mut Moved) {
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
        let slices = || self.slices.get(name).into_iter().flat_map(BTreeMap::values);
        let mut fronts = Vec::new();
        for address in &service.cluster_ips {
            for port in &service.ports {
                let mut backends = BTreeSet::new();
                for slice in slices().filter(|it| it.kind == AddressKind::Ip) {
                    let same = |it: &&_| same_port(it, port);
                    for target in slice.ports.iter().filter(same) {
                        let ready = slice.endpoints.iter().filter(|it| it.ready).flat_map(|it| &it.addresses);
                        let ready = ready.filter(|it| it.is_ipv4() == address.is_ipv4());
                        backends.extend(ready.map(|ip| (*ip, target.port)));
                    }
                }
                fronts.push(Front {
                    service: name.clone(),
                    address: *address,
                    protocol: port.protocol,
                    port: port.port,
                    backends: backends.into_iter().collect(),
                });
            }
        }
        fronts
    }

    fn refresh(&mut self, name: &ObjectName, moved: &mut Moved) {
        let wanted = self.wanted(name);
        let ids = self.by_service.get(name).cloned().unwrap_or_default();
        if ids.iter().filter_map(|id| self.fronts.get(id)).eq(&wanted) {
            return;
        }
        for id in ids {
            let Some(front) = self.fronts.remove(&id) else { continue };
            forget(&mut self.by_address, front.address, id);
            for (ip, _) in &front.backends {
                forget(&mut self.by_backend, *ip, id);
                moved.backends.insert(*ip);
            }
            if !moved.new.remove(&id) {
                moved.gone.insert(id);
            }
        }
        self.by_service.remove(name);
        for front in wanted {
            let id = FrontId(self.next);
            self.next += 1;
            self.by_address.entry(front.address).or_default().insert(id);
            for (ip, _) in &front.backends {
                self.by_backend.entry(*ip).or_default().insert(id);
                moved.backends.insert(*ip);
            }
            self.by_service.entry(name.clone()).or_default().push(id);
            self.fronts.insert(id, front);
            moved.new.insert(id);
        }
    }
}

fn same_port(target: &crate::policy::model::EndpointPort, port: &crate::policy::model::ServicePort) -> bool {
    target.name == port.name && target.protocol == port.protocol
}

fn forget(index: &mut BTreeMap<IpAddr, BTreeSet<FrontId>>, ip: IpAddr, id: FrontId) {
    if let Some(ids) = index.get_mut(&ip) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(&ip);
        }
    }
}
