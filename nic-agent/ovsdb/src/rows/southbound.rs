//! `OVN_Southbound` (ovn-sb(5)).

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::table;

/// The database.
pub const DATABASE: &str = "OVN_Southbound";

table! {
    /// A logical port, and where it is bound.
    pub struct PortBinding: "Port_Binding" {
        /// Unique: the name in the northbound.
        logical_port: String = "logical_port",
        /// Empty for a VIF.
        kind: String = "type",
        /// Its logical datapath.
        datapath: Uuid = "datapath",
        /// Its number there.
        tunnel_key: i64 = "tunnel_key",
        /// `"MAC IP…"`, `"unknown"`, `"dynamic"`.
        mac: BTreeSet<String> = "mac",
        /// What it may send from. Absent before OVN 22.03.
        port_security: BTreeSet<String> = "port_security",
        /// Who has bound it.
        chassis: Option<Uuid> = "chassis",
        /// Who else has, during a migration.
        additional_chassis: BTreeSet<Uuid> = "additional_chassis",
        /// Who shall.
        requested_chassis: Option<Uuid> = "requested_chassis",
        /// Are its flows installed there?
        up: Option<bool> = "up",
        /// `requested-chassis` and others.
        options: BTreeMap<String, String> = "options",
        /// Those of the northbound's port.
        external_ids: BTreeMap<String, String> = "external_ids",
    }
}

table! {
    /// A hypervisor, or a NIC that acts as one.
    pub struct Chassis: "Chassis" {
        /// Its `system-id`.
        name: String = "name",
        /// Its host's name.
        hostname: String = "hostname",
        /// Its tunnels' ends.
        encaps: BTreeSet<Uuid> = "encaps",
        /// What else it says of itself.
        other_config: BTreeMap<String, String> = "other_config",
        /// Same, in older versions.
        external_ids: BTreeMap<String, String> = "external_ids",
        /// Its transport zones.
        transport_zones: BTreeSet<String> = "transport_zones",
    }
}

table! {
    /// The end of a chassis' tunnels.
    pub struct Encap: "Encap" {
        /// `geneve`, `vxlan`…
        kind: String = "type",
        /// Its address.
        ip: String = "ip",
        /// Whose.
        chassis_name: String = "chassis_name",
        /// `csum` and others.
        options: BTreeMap<String, String> = "options",
    }
}
