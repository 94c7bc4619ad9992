//! A NicNode's spec laid over the configuration file, as a pure function.
//!
//! The file says what the agent needs before it can ask the cluster, and what only the NIC can know; what the spec says
//! counts more, and what it leaves out is as the file has it. The API server has checked the spec against the CRD, whose
//! rules may be older than this agent, so that everything is checked here again.
//!
//! Failure: every mistake is reported at once, with its path in the spec and what to write instead.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use drawbridge_api::{self as api, NicNodeSpec};
use offload::ids::{CtZone, VfId};
use toml::Value;

use crate::config::value::{certificate_name, identifier, interface_name, remote, tunnel_address, unicast};
use crate::config::{
    BridgeMapping, Config, Edge, EncapType, Problem, ProfileKind, Remote, TcPolicy, ZoneRange,
};

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, key: impl Into<String>, value: impl Display, remedy: impl Into<String>) {
        let value = Value::from(value.to_string()).to_string();
        self.0.push(Problem { key: key.into(), value: Some(value), remedy: remedy.into() });
    }

    /// `None` when there was one.
    fn take<T>(
        &mut self,
        key: impl Into<String>,
        value: impl Display,
        checked: Result<T, String>,
    ) -> Option<T> {
        checked.map_err(|remedy| self.add(key, value, remedy)).ok()
    }

    /// Members, each once. One problem does not hide another.
    fn list<T: Ord + Clone, R: Display>(
        &mut self,
        path: &str,
        raw: impl IntoIterator<Item = R>,
        check: impl Fn(&R) -> Result<T, String>,
    ) -> Vec<T> {
        let mut seen = BTreeSet::new();
        let mut list = Vec::new();
        for (index, value) in raw.into_iter().enumerate() {
            let key = format!("{path}[{index}]");
            let checked = check(&value);
            if let Some(item) = self.take(&key, &value, checked) {
                if seen.insert(item.clone()) {
                    list.push(item);
                } else {
                    self.add(key, &value, "name each member once");
                }
            }
        }
        list
    }
}

/// `addresses_of` says which addresses a device of this NIC has.
pub fn configure(
    file: &Config,
    spec: &NicNodeSpec,
    addresses_of: impl Fn(&str) -> Vec<IpAddr>,
) -> Result<Config, Vec<Problem>> {
    let mut problems = Problems::default();
    let mut config = file.clone();
    if spec.node_name != file.node.name {
        let remedy = format!("this NIC serves {}: write that, as it stands in the file", file.node.name);
        problems.add("spec.nodeName", &spec.node_name, remedy);
    }
    if let Some(name) = &spec.host_identity {
        let checked = certificate_name(&Value::from(name.as_str()));
        if let Some(name) = problems.take("spec.hostIdentity", name, checked) {
            config.node.host_identity = name;
        }
    }
    let pins = spec.shim.iter().flat_map(|shim| &shim.key_pins);
    config.shim_keys = problems.list("spec.shim.keyPins", pins, |text| text.parse()).into_iter().collect();
    profile(&mut config, &spec.profile, &mut problems);
    ovn(&mut config, &spec.ovn, &mut problems, addresses_of);
    config.chassis.hw_offload = spec.offload.mode == api::OffloadMode::Hardware;
    config.chassis.tc_policy = match spec.offload.tc_policy {
        api::TcPolicy::None => TcPolicy::None,
        api::TcPolicy::SkipSW => TcPolicy::SkipSw,
        api::TcPolicy::SkipHW => TcPolicy::SkipHw,
    };
    zones(&mut config, spec, &mut problems);
    config.edge.vf_budget = spec.vf_budget;
    if let Some(connections) = spec.pod_limits.and_then(|it| it.connections) {
        let checked = within(connections, &Edge::POD_CONNECTIONS);
        if let Some(connections) = problems.take("spec.podLimits.connections", connections, checked) {
            config.edge.pod_connections = connections;
        }
    }
    if let Some(rate) = spec.pod_limits.and_then(|it| it.new_connections_per_second) {
        let checked = within(rate, &Edge::POD_CONNECTION_RATE);
        let rate = problems.take("spec.podLimits.newConnectionsPerSecond", rate, checked);
        if let Some(rate) = rate.and_then(NonZeroU32::new) {
            config.edge.pod_connection_rate = rate;
        }
    }
    config.edge.static_pods = spec.static_pods == api::StaticPods::Allowed;
    config.edge.management_port = spec.management_port.map(|it| VfId { pf: it.pf, vf: it.vf });
    if let Some(mtu) = spec.mtu
        && let Some(mtu) = problems.take("spec.mtu", mtu, within(mtu, &Edge::MTU))
    {
        config.edge.mtu = Some(mtu);
    }
    if problems.0.is_empty() { Ok(config) } else { Err(problems.0) }
}

fn within(number: u32, range: &RangeInclusive<u32>) -> Result<u32, String> {
    let remedy = || format!("write a whole number from {} to {}", range.start(), range.end());
    Some(number).filter(|it| range.contains(it)).ok_or_else(remedy)
}

fn profile(config: &mut Config, spec: &api::Profile, problems: &mut Problems) {
    config.profile.dhcp = spec.addressing == api::Addressing::DHCP;
    let remedy = "write an address from which a DHCP server answers, IPv4 or IPv6";
    config.profile.dhcp_servers = problems.list("spec.profile.dhcpServers", &spec.dhcp_servers, |text| {
        text.parse().ok().filter(|ip| unicast(*ip)).ok_or_else(|| remedy.to_owned())
    });
    let key = "spec.profile.template";
    match (spec.kind, &spec.template) {
        (api::ProfileKind::Plain, Some(template)) => {
            if let Some(template) = problems.take(key, template, template.parse()) {
                config.profile.kind = ProfileKind::Plain { template };
            }
        }
        (api::ProfileKind::Plain, None) => problems.0.push(Problem {
            key: key.to_owned(),
            value: None,
            remedy: "write how ports are named, for example \"{namespace}_{name}\"".to_owned(),
        }),
        (_, Some(template)) => {
            problems.add(
                key,
                template,
                "remove it, or write spec.profile.kind: Plain: the others have their own",
            );
        }
        (api::ProfileKind::OVNKubernetes, None) => config.profile.kind = ProfileKind::OvnKubernetes,
        (api::ProfileKind::KubeOVN, None) => config.profile.kind = ProfileKind::KubeOvn,
    }
}

fn ovn(
    config: &mut Config,
    spec: &api::Ovn,
    problems: &mut Problems,
    addresses_of: impl Fn(&str) -> Vec<IpAddr>,
) {
    let tls = config.southbound.tls.is_some();
    let remotes = problems.list("spec.ovn.remotes", &spec.remotes, |text| match remote(text)? {
        Remote::Ssl { .. } if !tls => {
            Err("write [southbound] in the agent's file first: ssl needs its key, \
             certificate and CA, or take tcp"
                .to_owned())
        }
        Remote::Unix(_) => Err("write ssl:HOST:PORT or tcp:HOST:PORT".to_owned()),
        remote => Ok(remote),
    });
    if spec.remotes.is_empty() {
        problems.add(
            "spec.ovn.remotes",
            "",
            "write the southbound's address, for example ssl:192.0.2.10:6642",
        );
    }
    let chassis = &mut config.chassis;
    chassis.ovn_remote = remotes;
    let types = spec.encapsulation.types.iter().map(|it| match it {
        api::EncapsulationType::Geneve => EncapType::Geneve,
        api::EncapsulationType::VXLAN => EncapType::Vxlan,
    });
    chassis.ovn_encap_type = types.collect();
    chassis.ovn_encap_ip = encapsulation(&spec.encapsulation, problems, addresses_of);
    chassis.ovn_transport_zones = problems.list("spec.ovn.transportZones", &spec.transport_zones, |text| {
        identifier(&Value::from(text.as_str()))
    });
    let edge = &config.edge.bridge;
    let mut mappings = Vec::new();
    for (index, mapping) in spec.bridge_mappings.iter().enumerate() {
        let path = format!("spec.ovn.bridgeMappings[{index}]");
        let network = identifier(&Value::from(mapping.network.as_str()));
        let network = problems.take(format!("{path}.network"), &mapping.network, network);
        let bridge = interface_name(&mapping.bridge).and_then(|bridge| {
            if bridge == *edge {
                Err("write another bridge: this one is the agent's own".to_owned())
            } else {
                Ok(bridge)
            }
        });
        let bridge = problems.take(format!("{path}.bridge"), &mapping.bridge, bridge);
        if let (Some(network), Some(bridge)) = (network, bridge) {
            mappings.push(BridgeMapping { network, bridge });
        }
    }
    chassis.ovn_bridge_mappings = mappings;
}

fn encapsulation(
    spec: &api::Encapsulation,
    problems: &mut Problems,
    addresses_of: impl Fn(&str) -> Vec<IpAddr>,
) -> Vec<IpAddr> {
    let path = "spec.ovn.encapsulation";
    if spec.types.is_empty() {
        problems.add(format!("{path}.types"), "", "write Geneve, VXLAN or both");
    }
    let Some(device) = &spec.interface else {
        if spec.addresses.is_empty() {
            problems.add(format!("{path}.addresses"), "", "write this NIC's own address in the fabric");
        }
        return problems.list(&format!("{path}.addresses"), &spec.addresses, |text| tunnel_address(text));
    };
    let key = format!("{path}.interface");
    if !spec.addresses.is_empty() {
        problems.add(key, device, "write either interface or addresses");
        return Vec::new();
    }
    let found: Vec<IpAddr> =
        addresses_of(device).into_iter().filter(|ip| tunnel_address(&ip.to_string()).is_ok()).collect();
    if found.is_empty() {
        let remedy = "give this device of the NIC an address, or write spec.ovn.encapsulation.addresses";
        problems.add(key, device, remedy);
    }
    found
}

fn range(spec: api::ZoneRange) -> Result<ZoneRange, String> {
    CtZone::new(spec.first)
        .zip(CtZone::new(spec.last))
        .and_then(|(first, last)| ZoneRange::new(first, last))
        .ok_or_else(|| "write first and last, both from 1 to 65535, first not above last".to_owned())
}

fn zones(config: &mut Config, spec: &NicNodeSpec, problems: &mut Problems) {
    let shown = |it: api::ZoneRange| format!("{}-{}", it.first, it.last);
    if let Some(theirs) = spec.ovn.ct_zone_range
        && let Some(theirs) = problems.take("spec.ovn.ctZoneRange", shown(theirs), range(theirs))
    {
        config.chassis.ct_zone_range = theirs;
    }
    if let Some(ours) = spec.pod_zones
        && let Some(range) = problems.take("spec.podZones", shown(ours), range(ours))
    {
        if range.size() > Edge::MAX_ZONES {
            let remedy = format!("write at most {} zones: the eSwitch has no more", Edge::MAX_ZONES);
            problems.add("spec.podZones", range, remedy);
        }
        config.edge.ct_zones = range;
    }
    let (theirs, ours) = (config.chassis.ct_zone_range, config.edge.ct_zones);
    if theirs.overlaps(ours) {
        let (key, value, other) = if spec.pod_zones.is_some() {
            ("spec.podZones", ours, theirs)
        } else {
            ("spec.ovn.ctZoneRange", theirs, ours)
        };
        problems.add(
            key,
            value,
            format!("write zones outside of {other}: OVN's and the pods' may not overlap"),
        );
    }
}

/// A file's key as the spec names it, where the spec has it.
pub fn path_of(key: &str) -> &str {
    match key {
        "node.host-identity" => "spec.hostIdentity",
        "chassis.ovn-remote" => "spec.ovn.remotes",
        "edge.ct-zones" => "spec.podZones",
        other => other,
    }
}

#[cfg(test)]
mod tests;
