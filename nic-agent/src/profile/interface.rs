//! What a pod's interface gets in its own network namespace, of the port, the profile and the CMS's word. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::cms::{PodNetwork, Route};
use super::on_link;
use crate::attachment::Binding;
use crate::claim::Attached;
use crate::config::Profile;

/// What the pod's interface is to look like, and what of the CMS's word was not used, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub attached: Attached,
    pub remarks: Vec<String>,
}

/// A DHCP client is told only its MAC and MTU. `cms` is what stands on the pod; what it says is used where it is of this
/// port, and where the pod's boundary lets by what it leads to.
pub fn answer(
    profile: &Profile,
    mtu: Option<u32>,
    logical_port: &str,
    binding: &Binding,
    cms: Option<&PodNetwork>,
) -> Answer {
    let attached = Attached {
        mac: binding.mac,
        mtu: mtu.unwrap_or(0),
        addresses: Vec::new(),
        routes: Vec::new(),
        logical_port: logical_port.to_owned(),
    };
    if profile.dhcp {
        return Answer { attached, remarks: Vec::new() };
    }
    let mut interface = Interface { profile, link: on_link(profile, binding), attached, remarks: Vec::new() };
    interface.remarks.extend(cms.into_iter().flat_map(|it| it.remarks.iter().cloned()));
    let cms = cms.filter(|it| {
        let is_of = it.is_of(binding);
        if !is_of {
            interface.remarks.push("its MAC and addresses are not those of the logical port".to_owned());
        }
        is_of
    });
    interface.take(binding, cms);
    let Interface { attached, mut remarks, .. } = interface;
    remarks.truncate(MOST_REMARKS);
    Answer { attached, remarks }
}

/// Of one pod.
const MOST_REMARKS: usize = 8;

struct Interface<'a> {
    profile: &'a Profile,
    /// Where its boundary lets it find neighbours.
    link: Vec<IpNet>,
    attached: Attached,
    remarks: Vec<String>,
}

impl Interface<'_> {
    fn take(&mut self, binding: &Binding, cms: Option<&PodNetwork>) {
        let gateways = [true, false].map(|v4| self.gateway(v4, cms));
        for ip in &binding.ips {
            let length = self.prefix_length(*ip, cms);
            if let Ok(address) = IpNet::new(*ip, length) {
                let [v4, v6] = gateways;
                self.attached.addresses.push((address, if ip.is_ipv4() { v4 } else { v6 }));
            }
        }
        let has = |v4: bool| binding.ips.iter().any(|ip| ip.is_ipv4() == v4);
        for (v4, gateway) in [true, false].into_iter().zip(gateways) {
            let any = if v4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
            let default = IpNet::new(any, 0).ok().filter(|_| has(v4));
            self.attached.routes.extend(default.zip(gateway).map(|(net, gateway)| (net, Some(gateway))));
        }
        let profiles = self.profile.routes.iter().map(|route| (route.destination, route.gateway));
        let said = cms.map(|it| it.routes.as_slice()).unwrap_or_default();
        let said: Vec<Route> = said.iter().copied().filter(|route| self.is_reached(*route)).collect();
        for route in said.into_iter().chain(profiles) {
            let is_new = !self.attached.routes.iter().any(|(net, _)| *net == route.0);
            if is_new && has(route.0.addr().is_ipv4()) {
                self.attached.routes.push(route);
            }
        }
    }

    /// The CMS's, if it is no shorter than the profile's: what is outside of that is behind the boundary.
    fn prefix_length(&mut self, ip: IpAddr, cms: Option<&PodNetwork>) -> u8 {
        let (key, widest) = match ip {
            IpAddr::V4(_) => ("ipv4", self.profile.ipv4.prefix_length),
            IpAddr::V6(_) => ("ipv6", self.profile.ipv6.prefix_length),
        };
        let said = cms.and_then(|it| it.addresses.iter().find(|net| net.addr() == ip));
        match said.map(IpNet::prefix_len) {
            Some(length) if length < widest => {
                self.remarks.push(format!(
                    "{ip} has a prefix of {length} bits, and profile.{key}.prefix-length is {widest}: write {length} there if \
                     that is the pods' subnet"
                ));
                widest
            }
            Some(length) => length,
            None => widest,
        }
    }

    /// The CMS's first of this family that can be reached, or the profile's.
    fn gateway(&mut self, v4: bool, cms: Option<&PodNetwork>) -> Option<IpAddr> {
        let said = cms.map(|it| it.gateways.as_slice()).unwrap_or_default();
        for gateway in said.iter().filter(|it| it.is_ipv4() == v4) {
            if self.is_on_link(*gateway) {
                return Some(*gateway);
            }
            self.remarks.push(format!("gateway {gateway} is not on the pod's link, {}", self.remedy(v4)));
        }
        if v4 { self.profile.ipv4.gateway.map(IpAddr::V4) } else { self.profile.ipv6.gateway.map(IpAddr::V6) }
    }

    fn is_on_link(&self, ip: IpAddr) -> bool {
        let is_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        is_local || self.link.iter().any(|net| net.contains(&ip))
    }

    fn is_reached(&mut self, (destination, gateway): Route) -> bool {
        let reached = match gateway {
            Some(gateway) => self.is_on_link(gateway),
            None => self.link.iter().any(|net| net.contains(&destination)),
        };
        if !reached {
            let v4 = destination.addr().is_ipv4();
            let to = gateway.map_or_else(|| "itself".to_owned(), |it| format!("by {it}, which"));
            self.remarks
                .push(format!("route to {destination}: {to} is not on the pod's link, {}", self.remedy(v4)));
        }
        reached
    }

    fn remedy(&self, v4: bool) -> String {
        let (key, length) = if v4 {
            ("ipv4", self.profile.ipv4.prefix_length)
        } else {
            ("ipv6", self.profile.ipv6.prefix_length)
        };
        format!("which profile.{key}.prefix-length = {length} and profile.{key}.gateway make")
    }
}
