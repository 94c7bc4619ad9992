//! A Service's load balancers: one for each protocol, with a virtual address for each ClusterIP and port.
//!
//! Endpoints are chosen as kube-proxy does (pkg/proxy/topology.go, `CategorizeEndpoints`): those that are ready; if there
//! are none, those that still serve while they terminate. Hints about zones (`trafficDistribution`) are not followed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ovsdb_session::Datum;

use super::{Rows, group_key, switch_key};
use crate::cluster::{Endpoint, ObjectName, Port, Protocol, Service, Slice};
use crate::northbound::{Key, Table, WantedRow};

const SERVICE: &str = "drawbridge.dev/service";

/// The most that OVN takes (ovn-nb(5), `affinity_timeout`); Kubernetes allows a day.
const LONGEST_AFFINITY: u32 = 65_535;

pub(super) fn rows<'a>(
    name: &ObjectName,
    service: &Service,
    slices: &[&Slice],
    switches: impl Iterator<Item = &'a Arc<str>>,
    answers: &dyn Fn(&Endpoint) -> bool,
) -> Rows {
    let mut protocols: Vec<Protocol> = service.ports.iter().map(|port| port.protocol).collect();
    protocols.sort_unstable();
    protocols.dedup();
    let nodes: Vec<Option<&str>> =
        if service.local { switches.map(|node| Some(&**node)).collect() } else { vec![None] };
    let mut rows = Rows::new();
    for protocol in protocols {
        for node in &nodes {
            let (key, row) = load_balancer(name, service, slices, protocol, *node, answers);
            rows.insert(key, row);
        }
    }
    rows
}

fn load_balancer(
    name: &ObjectName,
    service: &Service,
    slices: &[&Slice],
    protocol: Protocol,
    node: Option<&str>,
    answers: &dyn Fn(&Endpoint) -> bool,
) -> (Key, WantedRow) {
    let mut id = format!("{name}/{}", protocol.as_str());
    if let Some(node) = node {
        id = format!("{id}/{node}");
    }
    let key = Key::new(Table::LoadBalancer, format!("service/{id}"));
    let mut vips: BTreeMap<String, String> = BTreeMap::new();
    for port in service.ports.iter().filter(|port| port.protocol == protocol) {
        for ip in &service.cluster_ips {
            let backends = backends(slices, port, ip.is_ipv4(), node, answers);
            let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
            vips.insert(SocketAddr::new(*ip, port.number).to_string(), backends.join(","));
        }
    }
    let mut row = WantedRow::marked(&key)
        .column("name", id)
        .column("protocol", protocol.as_str())
        .column("vips", Datum::map(vips))
        .key("external_ids", SERVICE, name.to_string())
        // Nobody there: a refusal, as from kube-proxy, not silence.
        .key("options", "reject", "true");
    if !protocol.has_end() {
        // A client that keeps its source port would else stay with an endpoint that is gone, for as long as it sends.
        row = row.key("options", "ct_flush", "true");
    }
    if let Some(seconds) = service.affinity {
        row = row.key("options", "affinity_timeout", seconds.clamp(1, LONGEST_AFFINITY).to_string());
    }
    let row = match node {
        Some(node) => row.parent(switch_key(node), "load_balancer"),
        None => row.parent(group_key(), "load_balancer"),
    };
    (key, row)
}

/// In order, each once. An address that two slices list is taken as the better of the two says: it is in both for a moment
/// only, while it moves.
fn backends(
    slices: &[&Slice],
    wanted: &Port,
    v4: bool,
    node: Option<&str>,
    answers: &dyn Fn(&Endpoint) -> bool,
) -> Vec<SocketAddr> {
    let mut ready = Vec::new();
    let mut terminating = Vec::new();
    for slice in slices {
        let ports =
            slice.ports.iter().filter(|port| port.name == wanted.name && port.protocol == wanted.protocol);
        for port in ports {
            let here = |endpoint: &&Endpoint| node.is_none() || endpoint.node.as_deref() == node;
            for endpoint in slice.endpoints.iter().filter(here) {
                let address = SocketAddr::new(endpoint.address, port.number);
                if endpoint.address.is_ipv4() != v4 || !answers(endpoint) {
                    continue;
                }
                if endpoint.ready {
                    ready.push(address);
                } else if endpoint.serving && endpoint.terminating {
                    terminating.push(address);
                }
            }
        }
    }
    let mut chosen = if ready.is_empty() { terminating } else { ready };
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}
