//! The CMS profile: how a pod's logical port is named, and what a pod is told that the port does not say.
//!
//! What the CMS writes on the pod of its port (annotations) is not read: the pod's node may write that, too.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::attachment::Binding;
use crate::claim::{Attached, Claim};
use crate::config::{Fields, Profile, ProfileKind};

/// The name of the pod's logical port, as its CMS gives it.
pub fn logical_port(profile: &Profile, claim: &Claim) -> String {
    let (namespace, name) = (&claim.pod.namespace, &claim.pod.name);
    match &profile.kind {
        // go-controller/pkg/util/util.go, GetLogicalPortName
        ProfileKind::OvnKubernetes => format!("{namespace}_{name}"),
        // pkg/ovs/util.go, PodNameToPortName
        ProfileKind::KubeOvn => format!("{name}.{namespace}"),
        ProfileKind::Plain { template } => template.render(Fields {
            namespace,
            name,
            uid: &claim.pod.uid,
            network: &claim.network,
            interface: &claim.key.interface,
        }),
    }
}

/// What the pod's interface is to look like. A DHCP client is told only its MAC and MTU.
pub fn answer(profile: &Profile, mtu: Option<u32>, logical_port: &str, binding: &Binding) -> Attached {
    let mut attached = Attached {
        mac: binding.mac,
        mtu: mtu.unwrap_or(0),
        addresses: Vec::new(),
        routes: Vec::new(),
        logical_port: logical_port.to_owned(),
    };
    if profile.dhcp {
        return attached;
    }
    let has = |v4: bool| binding.ips.iter().any(|ip| ip.is_ipv4() == v4);
    let gateway4 = profile.ipv4.gateway.map(IpAddr::V4);
    let gateway6 = profile.ipv6.gateway.map(IpAddr::V6);
    for ip in &binding.ips {
        let (length, gateway) = match ip {
            IpAddr::V4(_) => (profile.ipv4.prefix_length, gateway4),
            IpAddr::V6(_) => (profile.ipv6.prefix_length, gateway6),
        };
        if let Ok(address) = IpNet::new(*ip, length) {
            attached.addresses.push((address, gateway));
        }
    }
    let default = |ip: IpAddr| IpNet::new(ip, 0).ok();
    if let (true, Some(gateway)) = (has(true), gateway4) {
        attached
            .routes
            .extend(default(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)).map(|d| (d, Some(gateway))));
    }
    if let (true, Some(gateway)) = (has(false), gateway6) {
        attached
            .routes
            .extend(default(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)).map(|d| (d, Some(gateway))));
    }
    for route in &profile.routes {
        if has(route.destination.addr().is_ipv4()) {
            attached.routes.push((route.destination, route.gateway));
        }
    }
    attached
}
