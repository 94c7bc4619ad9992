//! `OVN_Northbound` (ovn-nb(5)).

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::table;

/// The database.
pub const DATABASE: &str = "OVN_Northbound";

table! {
    /// The one row of settings.
    pub struct NbGlobal: "NB_Global" {
        /// Settings, northd's own results among them.
        options: BTreeMap<String, String> = "options",
        /// Other programs' settings.
        external_ids: BTreeMap<String, String> = "external_ids",
    }
}

table! {
    /// A layer-2 network. Names need not differ.
    pub struct LogicalSwitch: "Logical_Switch" {
        /// For people.
        name: String = "name",
        /// Its ports, which live no longer than it.
        ports: BTreeSet<Uuid> = "ports",
        /// Load balancers of its own.
        load_balancer: BTreeSet<Uuid> = "load_balancer",
        /// Load balancers shared with others.
        load_balancer_group: BTreeSet<Uuid> = "load_balancer_group",
        /// `subnet`, `ipv6_prefix` and others.
        other_config: BTreeMap<String, String> = "other_config",
        /// Other programs' marks.
        external_ids: BTreeMap<String, String> = "external_ids",
    }
}

table! {
    /// A switch's port.
    pub struct LogicalSwitchPort: "Logical_Switch_Port" {
        /// Unique among the ports of all switches.
        name: String = "name",
        /// Empty for a VIF, `router`…
        kind: String = "type",
        /// `router-port` and others.
        options: BTreeMap<String, String> = "options",
        /// `"MAC IP…"`, `"dynamic"`, `"router"`, `"unknown"`.
        addresses: BTreeSet<String> = "addresses",
        /// What northd made of `"dynamic"`.
        dynamic_addresses: Option<String> = "dynamic_addresses",
        /// Is it bound, and are its flows there? northd's.
        up: Option<bool> = "up",
        /// How DHCP is answered.
        dhcpv4_options: Option<Uuid> = "dhcpv4_options",
        /// Same, for IPv6.
        dhcpv6_options: Option<Uuid> = "dhcpv6_options",
        /// Other programs' marks; northd copies them to the southbound.
        external_ids: BTreeMap<String, String> = "external_ids",
    }
}

table! {
    /// A router. Names need not differ.
    pub struct LogicalRouter: "Logical_Router" {
        /// For people.
        name: String = "name",
        /// Its ports, which live no longer than it.
        ports: BTreeSet<Uuid> = "ports",
        /// Other programs' marks.
        external_ids: BTreeMap<String, String> = "external_ids",
    }
}

table! {
    /// A router's port.
    pub struct LogicalRouterPort: "Logical_Router_Port" {
        /// Unique among the ports of all routers.
        name: String = "name",
        /// Its MAC.
        mac: String = "mac",
        /// Its addresses, with their prefixes' lengths.
        networks: BTreeSet<String> = "networks",
        /// What router advertisements say; none without `address_mode`.
        ipv6_ra_configs: BTreeMap<String, String> = "ipv6_ra_configs",
        /// Other programs' marks.
        external_ids: BTreeMap<String, String> = "external_ids",
    }
}

table! {
    /// Virtual addresses of one protocol and who answers for them. Names need not differ.
    pub struct LoadBalancer: "Load_Balancer" {
        /// For people.
        name: String = "name",
        /// `"IP:port"` to `"IP:port,…"`.
        vips: BTreeMap<String, String> = "vips",
        /// `tcp`, `udp` or `sctp`.
        protocol: Option<String> = "protocol",
        /// `reject`, `affinity_timeout` and others.
        options: BTreeMap<String, String> = "options",
        /// Other programs' marks.
        external_ids: BTreeMap<String, String> = "external_ids",
    }
}

table! {
    /// Load balancers that several switches have. It has no place for marks but its name.
    pub struct LoadBalancerGroup: "Load_Balancer_Group" {
        /// Unique.
        name: String = "name",
        /// Which.
        load_balancer: BTreeSet<Uuid> = "load_balancer",
    }
}

table! {
    /// What DHCP answers.
    pub struct DhcpOptions: "DHCP_Options" {
        /// For clients of which prefix; its family tells DHCP from DHCPv6.
        cidr: String = "cidr",
        /// `server_id`, `classless_static_route` and others.
        options: BTreeMap<String, String> = "options",
        /// Other programs' marks.
        external_ids: BTreeMap<String, String> = "external_ids",
    }
}
