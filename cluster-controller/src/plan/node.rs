//! A node's switch, its ports, and DHCP for the server's management port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use offload::ids::MacAddr;
use ovsdb_session::Datum;

use super::trust::Nic;
use super::{Rows, copp, group_key, router_key, zone_key};
use crate::northbound::{Had, Key, Table, WantedRow};
use crate::settings::{RouterAddress, Settings};

/// How long a server keeps its management port's address without asking again.
const LEASE_SECONDS: &str = "3600";

/// The mark by which a logical switch port is a DHCP client's: nic-agent reads it in the southbound.
const DHCP: &str = "drawbridge.dev/dhcp";
/// From where it is answered; nic-agent lets it hear nobody else.
const DHCP_SERVERS: &str = "drawbridge.dev/dhcp-servers";
const MANAGEMENT_OF: &str = "drawbridge.dev/management-of";

/// The node's switch.
pub fn switch_key(node: &str) -> Key {
    Key::new(Table::LogicalSwitch, format!("node/{node}"))
}

/// The name of the logical port by which the server itself reaches its pods. A pod's port has an underscore in its name,
/// which no node's name has: so no pod can take this one.
pub fn management_port(node: &str) -> String {
    format!("k8s-{node}")
}

/// Where the node's pods are, and the router there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Subnets {
    v4: Option<(Ipv4Net, Ipv4Addr)>,
    v6: Option<(Ipv6Net, Ipv6Addr)>,
}

impl Subnets {
    fn nets(&self) -> Vec<IpNet> {
        let v4 = self.v4.map(|(net, _)| IpNet::V4(net));
        v4.into_iter().chain(self.v6.map(|(net, _)| IpNet::V6(net))).collect()
    }
}

/// Of which OVN gives the node's ports their addresses.
pub(super) fn assigned(settings: &Settings, ranges: &[IpNet]) -> Vec<IpNet> {
    subnets(settings, ranges).nets()
}

/// Is it the router's, there?
pub(super) fn is_routers(settings: &Settings, ranges: &[IpNet], ip: IpAddr) -> bool {
    let subnets = subnets(settings, ranges);
    subnets.v4.is_some_and(|(_, router)| ip == router) || subnets.v6.is_some_and(|(_, router)| ip == router)
}

/// As OVN writes it, if a pod can have it: one station's, and not the router's.
pub(super) fn pods_mac(settings: &Settings, ranges: &[IpNet], text: &str) -> Option<String> {
    let octets: Option<Vec<u8>> = text
        .split(':')
        .map(|octet| if octet.len() == 2 { u8::from_str_radix(octet, 16).ok() } else { None })
        .collect();
    let octets = octets.filter(|octets| octets.len() == 6 && octets.iter().any(|octet| *octet != 0))?;
    let group = octets.first().is_none_or(|first| first & 1 == 1);
    let mac = text.to_ascii_lowercase();
    (!group && mac != router_mac(&subnets(settings, ranges))).then_some(mac)
}

/// The first prefix of each family. OVN's own management takes IPv4 prefixes with room for a router and a pod, and makes
/// IPv6 addresses of 64 bits and the MAC.
fn subnets(settings: &Settings, ranges: &[IpNet]) -> Subnets {
    let mut subnets = Subnets::default();
    for cidr in ranges {
        match cidr {
            IpNet::V4(v4) if subnets.v4.is_none() && v4.prefix_len() <= 29 => {
                let (first, last) = (u32::from(v4.network()) + 1, u32::from(v4.broadcast()) - 1);
                let router = match settings.router_address {
                    RouterAddress::First => first,
                    RouterAddress::Last => last,
                };
                subnets.v4 = Some((v4.trunc(), Ipv4Addr::from(router)));
            }
            IpNet::V6(v6) if subnets.v6.is_none() && v6.prefix_len() <= 64 => {
                let network = v6.network();
                let router = Ipv6Addr::from(u128::from(network) + 1);
                subnets.v6 = Ipv6Net::new(network, 64).ok().map(|v6| (v6, router));
            }
            _ => {}
        }
    }
    subnets
}

/// The router's port there, by its address: as stable as the subnet, and another for each.
fn router_mac(subnets: &Subnets) -> String {
    let tail = match (subnets.v4, subnets.v6) {
        (Some((_, router)), _) => router.octets(),
        // What tells one node's /64 from another's is at its end.
        (None, Some((_, router))) => {
            let [_, _, _, _, a, b, c, d, ..] = router.octets();
            [a, b, c, d]
        }
        (None, None) => [0; 4],
    };
    let [a, b, c, d] = tail;
    format!("0a:58:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

/// Of ranges that are confirmed, and no others.
pub(super) fn rows(
    settings: &Settings,
    name: &str,
    zone: &str,
    ranges: &[IpNet],
    nic: Option<&Nic>,
    had: Option<Had>,
) -> Rows {
    let subnets = subnets(settings, ranges);
    let used = subnets.nets();
    for cidr in ranges.iter().filter(|cidr| !used.iter().any(|used| cidr.contains(used))) {
        tracing::warn!(node = name, %cidr, "OVN cannot give addresses of this range");
    }
    let management = nic.filter(|nic| nic.management);
    if subnets == Subnets::default() {
        return Rows::new();
    }
    let switch_key = switch_key(name);
    let router_port = format!("rtos-{name}");
    let mac = router_mac(&subnets);

    let mut switch = WantedRow::marked(&switch_key)
        .column("name", name)
        .member("load_balancer_group", group_key())
        .member("load_balancer_group", zone_key(zone))
        .dated();
    switch = copp::bounded(settings, switch, copp::Of::Switches);
    let mut networks = Vec::new();
    if let Some((subnet, router)) = subnets.v4 {
        switch = switch.key("other_config", "subnet", subnet.to_string());
        networks.push(format!("{router}/{}", subnet.prefix_len()));
    }
    if let Some((prefix, router)) = subnets.v6 {
        switch = switch.key("other_config", "ipv6_prefix", prefix.network().to_string());
        networks.push(format!("{router}/64"));
    }

    let lrp_key = Key::new(Table::LogicalRouterPort, format!("node/{name}"));
    let mut lrp = WantedRow::marked(&lrp_key)
        .column("name", router_port.as_str())
        .column("mac", mac.as_str())
        .column("networks", Datum::set(networks))
        .parent(router_key(), "ports");
    if let (Some(_), Some(_)) = (management, subnets.v6) {
        lrp = advertised(settings, lrp);
    }

    let lsp_key = Key::new(Table::LogicalSwitchPort, format!("router/{name}"));
    let lsp = WantedRow::marked(&lsp_key)
        .column("name", format!("stor-{name}"))
        .column("type", "router")
        .column("addresses", "router")
        .key("options", "router-port", router_port)
        .parent(switch_key.clone(), "ports");

    let mut rows = Rows::from([(lrp_key, lrp), (lsp_key, lsp)]);
    if let Some(nic) = management {
        rows.extend(managed(settings, name, nic, had, &switch_key, &subnets, &mac));
    }
    rows.insert(switch_key, switch);
    rows
}

/// DHCPv6 knows no routes: they come by router advertisements, only when asked for. The default route that comes with
/// them has the lowest preference, so that it is not the server's way out where there is another.
fn advertised(settings: &Settings, lrp: WantedRow) -> WantedRow {
    let lrp = lrp
        .key("ipv6_ra_configs", "address_mode", "dhcpv6_stateful")
        .key("ipv6_ra_configs", "send_periodic", "false")
        .key("ipv6_ra_configs", "router_preference", "LOW")
        .key("ipv6_ra_configs", "mtu", settings.mtu.get().to_string());
    let routes = settings.routes.iter().filter(|route| matches!(route, IpNet::V6(_)));
    let routes: Vec<String> = routes.map(|route| format!("HIGH-{route}")).collect();
    if routes.is_empty() { lrp } else { lrp.key("ipv6_ra_configs", "route_info", routes.join(",")) }
}

/// OVN answers from the `server_id` of DHCP, and from the link-local address of DHCPv6's (`northd.c`,
/// `build_dhcpv6_options_flows()`).
fn dhcp_servers(subnets: &Subnets, mac: &str) -> String {
    let v4 = subnets.v4.map(|(_, router)| IpAddr::V4(router));
    let v6 = subnets.v6.and_then(|_| mac.parse().ok()).map(|mac: MacAddr| IpAddr::V6(mac.link_local()));
    v4.into_iter().chain(v6).map(|ip| ip.to_string()).collect::<Vec<_>>().join(",")
}

/// The server's own port, for which OVN answers DHCP: address, MTU, routes to pods and services, and no default route.
fn managed(
    settings: &Settings,
    node: &str,
    nic: &Nic,
    had: Option<Had>,
    switch: &Key,
    subnets: &Subnets,
    mac: &str,
) -> Rows {
    let mut rows = Rows::new();
    let key = Key::new(Table::LogicalSwitchPort, format!("management/{node}"));
    let mut port = WantedRow::marked(&key)
        .column("name", management_port(node))
        .column("type", "")
        .assigned(subnets.nets())
        .had(had)
        .key("external_ids", MANAGEMENT_OF, node)
        .key("external_ids", DHCP, "true")
        .key("external_ids", DHCP_SERVERS, dhcp_servers(subnets, mac))
        .parent(switch.clone(), "ports");
    if let Some(chassis) = &nic.chassis {
        port = port.key("options", "requested-chassis", &**chassis);
    }
    if let Some((subnet, router)) = subnets.v4 {
        let key = Key::new(Table::DhcpOptions, format!("management/{node}/ipv4"));
        let mut options = WantedRow::marked(&key).column("cidr", subnet.to_string());
        let mut pairs = vec![
            ("server_id", router.to_string()),
            ("server_mac", mac.to_owned()),
            ("lease_time", LEASE_SECONDS.to_owned()),
            ("mtu", settings.mtu.get().to_string()),
        ];
        let routes = settings.routes.iter().filter(|route| matches!(route, IpNet::V4(_)));
        let routes: Vec<String> = routes.map(|route| format!("{route},{router}")).collect();
        if !routes.is_empty() {
            pairs.push(("classless_static_route", format!("{{{}}}", routes.join(", "))));
        }
        options = options.column("options", Datum::map(pairs));
        port = port.reference("dhcpv4_options", key.clone());
        rows.insert(key, options);
    }
    if let Some((prefix, _)) = subnets.v6 {
        let key = Key::new(Table::DhcpOptions, format!("management/{node}/ipv6"));
        let options = WantedRow::marked(&key)
            .column("cidr", prefix.to_string())
            .column("options", Datum::map([("server_id", mac)]));
        port = port.reference("dhcpv6_options", key.clone());
        rows.insert(key, options);
    }
    rows.insert(key, port);
    rows
}
