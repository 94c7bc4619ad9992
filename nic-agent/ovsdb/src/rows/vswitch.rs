//! `Open_vSwitch` (ovs-vswitchd.conf.db(5)).

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::table;

/// The database.
pub const DATABASE: &str = "Open_vSwitch";

table! {
    /// The one row that everything hangs from.
    pub struct OpenVSwitch: "Open_vSwitch" {
        /// The bridges.
        bridges: BTreeSet<Uuid> = "bridges",
        /// What `ovs-vswitchd` has carried out.
        cur_cfg: i64 = "cur_cfg",
        /// What it is asked to; raised by the asker.
        next_cfg: i64 = "next_cfg",
        /// `system-id`, `ovn-remote`, `ovn-encap-ip` and others.
        external_ids: BTreeMap<String, String> = "external_ids",
        /// `hw-offload` and others.
        other_config: BTreeMap<String, String> = "other_config",
        /// Set by `ovs-ctl`.
        ovs_version: Option<String> = "ovs_version",
        /// The schema's version when the database was made or converted.
        db_version: Option<String> = "db_version",
        /// The distribution.
        system_type: Option<String> = "system_type",
        /// Its version.
        system_version: Option<String> = "system_version",
        /// Kinds of datapath, set by `ovs-vswitchd`.
        datapath_types: BTreeSet<String> = "datapath_types",
        /// Kinds of interface, set by `ovs-vswitchd`.
        iface_types: BTreeSet<String> = "iface_types",
    }
}

table! {
    /// A bridge.
    pub struct Bridge: "Bridge" {
        /// Unique.
        name: String = "name",
        /// `system` when empty.
        datapath_type: String = "datapath_type",
        /// Sixteen hex digits, set by `ovs-vswitchd`.
        datapath_id: Option<String> = "datapath_id",
        /// `standalone` or `secure`.
        fail_mode: Option<String> = "fail_mode",
        /// OpenFlow versions.
        protocols: BTreeSet<String> = "protocols",
        /// OpenFlow controllers.
        controller: BTreeSet<Uuid> = "controller",
        /// The ports.
        ports: BTreeSet<Uuid> = "ports",
        /// Whose it is.
        external_ids: BTreeMap<String, String> = "external_ids",
        /// `hwaddr`, `disable-in-band` and others.
        other_config: BTreeMap<String, String> = "other_config",
    }
}

table! {
    /// A port: one interface, or a bond of several.
    pub struct Port: "Port" {
        /// Unique.
        name: String = "name",
        /// The interfaces.
        interfaces: BTreeSet<Uuid> = "interfaces",
        /// The VLAN of an access port.
        tag: Option<i64> = "tag",
        /// Whose it is.
        external_ids: BTreeMap<String, String> = "external_ids",
        /// Other settings.
        other_config: BTreeMap<String, String> = "other_config",
    }
}

table! {
    /// An interface.
    pub struct Interface: "Interface" {
        /// Unique.
        name: String = "name",
        /// Empty for a device of the system; `internal`, `patch`, `geneve`…
        kind: String = "type",
        /// `peer`, `remote_ip` and others.
        options: BTreeMap<String, String> = "options",
        /// `iface-id`, `attached-mac`, `ovn-installed` and others.
        external_ids: BTreeMap<String, String> = "external_ids",
        /// Other settings.
        other_config: BTreeMap<String, String> = "other_config",
        /// -1 when `ovs-vswitchd` could not make it: see `error`.
        ofport: Option<i64> = "ofport",
        /// The number that is asked for.
        ofport_request: Option<i64> = "ofport_request",
        /// The address that it has.
        mac_in_use: Option<String> = "mac_in_use",
        /// What it has.
        mtu: Option<i64> = "mtu",
        /// What is asked for.
        mtu_request: Option<i64> = "mtu_request",
        /// Why it could not be made.
        error: Option<String> = "error",
        /// The kernel's number.
        ifindex: Option<i64> = "ifindex",
        /// `up` or `down`.
        admin_state: Option<String> = "admin_state",
        /// `up` or `down`.
        link_state: Option<String> = "link_state",
        /// How often the link has gone up or down.
        link_resets: Option<i64> = "link_resets",
    }
}
