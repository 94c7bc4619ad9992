//! The CMS profile: how a pod's logical port is named, what the CMS says of it on the pod, and what a pod is told that the
//! port does not say.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use crate::attachment::Binding;
use crate::claim::{Attached, Claim};
use crate::config::{Fields, Profile, ProfileKind};
use crate::directory::PodRecord;
use crate::southbound::identity;

/// go-controller/pkg/util/pod_annotation.go, `OvnPodAnnotationName`
const OVN_KUBERNETES: &str = "k8s.ovn.org/pod-networks";
/// pkg/util/const.go of Kube-OVN, `IPAddressAnnotation` and `MacAddressAnnotation`
const KUBE_OVN_IP: &str = "ovn.kubernetes.io/ip_address";
const KUBE_OVN_MAC: &str = "ovn.kubernetes.io/mac_address";

/// What is kept of a pod's annotations.
pub const ANNOTATIONS: [&str; 3] = [OVN_KUBERNETES, KUBE_OVN_IP, KUBE_OVN_MAC];

/// Of the network that the pod's own logical port is in, which is called `default`.
#[derive(Debug, Deserialize)]
struct PodNetworks {
    default: PodNetwork,
}

#[derive(Debug, Deserialize)]
struct PodNetwork {
    mac_address: String,
    #[serde(default)]
    ip_addresses: Vec<String>,
    /// What versions wrote that knew one address only.
    #[serde(default)]
    ip_address: String,
}

/// What the CMS says on the pod of its logical port. `Err`: why that cannot be used; `None`: it says nothing.
///
/// A Node's own credential may write it (`pods/status`), so it holds only until the southbound has said something.
pub fn announced(profile: &Profile, pod: &PodRecord) -> Option<Result<Binding, String>> {
    let text = |key: &str| pod.annotations.get(key).map(String::as_str);
    let (key, addresses) = match &profile.kind {
        ProfileKind::Plain { .. } => return None,
        ProfileKind::OvnKubernetes => {
            let addresses = serde_json::from_str::<PodNetworks>(text(OVN_KUBERNETES)?).map(|networks| {
                let PodNetwork { mac_address, ip_addresses, ip_address } = networks.default;
                let ips = if ip_addresses.is_empty() { ip_address } else { ip_addresses.join(" ") };
                format!("{mac_address} {ips}")
            });
            (OVN_KUBERNETES, addresses.map_err(|e| e.to_string()))
        }
        ProfileKind::KubeOvn => {
            let (mac, ips) = (text(KUBE_OVN_MAC)?, text(KUBE_OVN_IP)?);
            (KUBE_OVN_IP, Ok(format!("{mac} {}", ips.replace(',', " "))))
        }
    };
    let binding = addresses.and_then(|it| identity([it.as_str()], profile.dhcp).map_err(|e| e.to_string()));
    Some(binding.map_err(|e| format!("annotation {key}: {e}")))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../packaging/nic-agent.example.toml");

    fn of(kind: &str, annotations: &[(&str, &str)]) -> Option<Result<Binding, String>> {
        let config: crate::config::Config =
            EXAMPLE.replace("#kind = \"plain\"", &format!("kind = \"{kind}\"")).parse().unwrap();
        let pod = PodRecord {
            uid: "u".into(),
            namespace: "default".into(),
            name: "web".into(),
            node: "server1".into(),
            host_network: false,
            mirror: false,
            phase: "Pending".into(),
            annotations: annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        };
        announced(&config.profile, &pod)
    }

    #[test]
    fn a_cms_says_on_the_pod_what_its_port_is() {
        // As ovn-kubernetes writes it for a dual-stack pod.
        let networks = r#"{"default":{"ip_addresses":["10.244.1.5/24","fd00:10:244:2::5/64"],
            "mac_address":"0a:58:0a:f4:01:05","gateway_ips":["10.244.1.1","fd00:10:244:2::1"],
            "routes":[{"dest":"10.244.0.0/16","nextHop":"10.244.1.1"}],"role":"primary"}}"#;
        let kube = of("ovn-kubernetes", &[(OVN_KUBERNETES, networks)]).unwrap().unwrap();
        assert_eq!((kube.mac.to_string().as_str(), kube.ips.len()), ("0a:58:0a:f4:01:05", 2));
        assert_eq!(kube.ipv4()[0].to_string(), "10.244.1.5");
        let single = r#"{"default":{"ip_address":"10.244.1.5/24","mac_address":"0a:58:0a:f4:01:05"}}"#;
        assert_eq!(of("ovn-kubernetes", &[(OVN_KUBERNETES, single)]).unwrap().unwrap().ips.len(), 1);

        let (mac, ip) = ((KUBE_OVN_MAC, "00:00:00:53:6B:B6"), (KUBE_OVN_IP, "10.16.0.12,fd00:10:16::c"));
        let kube = of("kube-ovn", &[mac, ip]).unwrap().unwrap();
        assert_eq!((kube.mac.to_string().as_str(), kube.ips.len()), ("00:00:00:53:6b:b6", 2));
    }

    #[test]
    fn another_profiles_annotation_and_a_wrong_one_say_nothing() {
        let (mac, ip) = ((KUBE_OVN_MAC, "00:00:00:53:6B:B6"), (KUBE_OVN_IP, "10.16.0.12"));
        assert_eq!(of("plain", &[mac, ip]), None);
        assert_eq!(of("ovn-kubernetes", &[mac, ip]), None);
        assert_eq!(of("kube-ovn", &[ip]), None);
        for wrong in ["", "{", "{}", r#"{"default":{"mac_address":"x"}}"#] {
            let error = of("ovn-kubernetes", &[(OVN_KUBERNETES, wrong)]).unwrap().unwrap_err();
            assert!(error.starts_with("annotation k8s.ovn.org/pod-networks: "), "{error}");
        }
        assert!(of("kube-ovn", &[mac, (KUBE_OVN_IP, "10.16.0.300")]).unwrap().is_err());
        assert!(of("kube-ovn", &[(KUBE_OVN_MAC, "01:00:5e:00:00:01"), ip]).unwrap().is_err());
    }
}
