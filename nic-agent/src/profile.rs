//! The CMS profile: how a pod's logical port is named, and what a pod is told that the port does not say.
//!
//! What the CMS writes on the pod ([`cms`]) decides what the pod's interface gets, and nothing else: the pod's node may write
//! that, too. What the pod may ask for on its link ([`on_link`]) is the operator's word alone.

pub mod cms;
mod interface;

use std::net::IpAddr;

use ipnet::IpNet;

use crate::attachment::Binding;
use crate::claim::Claim;
use crate::config::{Fields, Profile, ProfileKind};

pub use interface::{Answer, answer};

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

/// Where the pod's neighbours and gateways are, whether it was told so or asked DHCP: whom it may ask for, and of whom it
/// may hear.
pub fn on_link(profile: &Profile, binding: &Binding) -> Vec<IpNet> {
    let prefix = |ip: &IpAddr| {
        let length = if ip.is_ipv4() { profile.ipv4.prefix_length } else { profile.ipv6.prefix_length };
        IpNet::new(*ip, length).ok().map(|net| net.trunc())
    };
    let gateways = [profile.ipv4.gateway.map(IpAddr::V4), profile.ipv6.gateway.map(IpAddr::V6)];
    let routes = profile.routes.iter().map(|route| route.gateway.map_or(route.destination, IpNet::from));
    let mut link: Vec<IpNet> = binding.ips.iter().filter_map(prefix).collect();
    link.extend(gateways.into_iter().flatten().map(IpNet::from).chain(routes));
    link.sort_unstable();
    link.dedup();
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_is_what_the_profile_says_of_the_pods_addresses() {
        let config: crate::config::Config = "[node]\nname = 'server1'\n[server]\nlisten = ['192.0.2.21:8443']\n[chassis]\nsystem-id = 'nic1'\n\
             ovn-remote = 'tcp:192.0.2.10:6642'\novn-encap-ip = '192.0.2.1'\n\
             [profile.ipv4]\nprefix-length = 16\ngateway = '169.254.1.1'\n\
             [[profile.routes]]\ndestination = '10.96.0.0/16'\ngateway = '10.244.0.1'\n\
             [[profile.routes]]\ndestination = '192.0.2.0/24'\n"
            .parse()
            .unwrap();
        let ips = ["10.244.3.7", "fd00::7"].map(|ip| ip.parse().unwrap()).to_vec();
        let binding =
            Binding { mac: "0a:00:00:00:00:01".parse().unwrap(), ips, dhcp: false, dhcp_servers: Vec::new() };
        let wanted = ["10.244.0.0/16", "10.244.0.1/32", "169.254.1.1/32", "192.0.2.0/24", "fd00::/64"]
            .map(|net| net.parse().unwrap());
        assert_eq!(on_link(&config.profile, &binding), wanted);
    }
}
