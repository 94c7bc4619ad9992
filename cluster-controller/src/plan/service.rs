//! A Service's load balancers: one for each protocol, with a virtual address for each ClusterIP and port; where the clients
//! of each zone, or of each node, get other endpoints, one for each of these ([`kube_services`] says which).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use kube_services::{Backing, Client, Scope};
use ovsdb_session::Datum;

use super::{Rows, group_key, switch_key, zone_key};
use crate::cluster::{Endpoint, ObjectName, Port, Protocol, Service};
use crate::northbound::{Key, Table, WantedRow};

const SERVICE: &str = "drawbridge.dev/service";

/// The most that OVN takes (ovn-nb(5), `affinity_timeout`); Kubernetes allows a day.
const LONGEST_AFFINITY: u32 = 65_535;

/// `zones`: nodes with a switch, by their zones.
pub(super) fn rows<F: Fn(&Endpoint) -> bool>(
    name: &ObjectName,
    service: &Service,
    backing: &Backing<'_, F>,
    zones: &BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
) -> Rows {
    let mut by_protocol: BTreeMap<Protocol, Vec<&Port>> = BTreeMap::new();
    for port in &service.ports {
        by_protocol.entry(port.protocol).or_default().push(port);
    }
    let mut rows = Rows::new();
    for (protocol, ports) in by_protocol {
        let of_address =
            |port: &Port| service.cluster_ips.iter().map(|ip| backing.scope(port, ip.is_ipv4())).max();
        let scope = ports.iter().filter_map(|port| of_address(port)).max().unwrap_or_default();
        let id = format!("{name}/{}", ovn_name(protocol));
        let mut add = |id: &str, client: Client<'_>, parent: Key| {
            let (key, row) = load_balancer(name, service, id, protocol, |port, is_v4| {
                backing.backends(port, is_v4, client)
            });
            rows.insert(key, row.parent(parent, "load_balancer"));
        };
        match scope {
            Scope::Cluster => add(&id, Client { node: "", zone: "" }, group_key()),
            Scope::Zone => {
                for zone in zones.keys() {
                    // A node's name cannot have a slash.
                    add(&format!("{id}/zone/{zone}"), Client { node: "", zone }, zone_key(zone));
                }
            }
            Scope::Node => {
                for (zone, node) in
                    zones.iter().flat_map(|(zone, nodes)| nodes.iter().map(move |it| (zone, it)))
                {
                    add(&format!("{id}/{node}"), Client { node, zone }, switch_key(node));
                }
            }
        }
    }
    rows
}

fn load_balancer(
    name: &ObjectName,
    service: &Service,
    id: &str,
    protocol: Protocol,
    backends: impl Fn(&Port, bool) -> Vec<(std::net::IpAddr, u16)>,
) -> (Key, WantedRow) {
    let key = Key::new(Table::LoadBalancer, format!("service/{id}"));
    let mut vips: BTreeMap<String, String> = BTreeMap::new();
    for port in service.ports.iter().filter(|port| port.protocol == protocol) {
        for ip in &service.cluster_ips {
            let backends = backends(port, ip.is_ipv4()).into_iter();
            let backends: Vec<String> = backends.map(|it| SocketAddr::from(it).to_string()).collect();
            vips.insert(SocketAddr::new(*ip, port.number).to_string(), backends.join(","));
        }
    }
    let mut row = WantedRow::marked(&key)
        .column("name", id)
        .column("protocol", ovn_name(protocol))
        .column("vips", Datum::map(vips))
        .key("external_ids", SERVICE, name.to_string())
        // Nobody there: a refusal, as from kube-proxy, not silence.
        .key("options", "reject", "true");
    if !has_end(protocol) {
        // A client that keeps its source port would else stay with an endpoint that is gone, for as long as it sends.
        row = row.key("options", "ct_flush", "true");
    }
    if let Some(seconds) = service.affinity {
        row = row.key("options", "affinity_timeout", seconds.clamp(1, LONGEST_AFFINITY).to_string());
    }
    (key, row)
}

const fn ovn_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// Does a client notice by itself that who answered it is gone? kube-proxy clears what is known of the others' flows
/// (`IsClearConntrackNeeded` in pkg/proxy/conntrack), and leaves TCP's alone.
const fn has_end(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Tcp)
}
