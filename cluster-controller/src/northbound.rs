//! The northbound's rows as values: what is wanted, what is there, and the operations between the two.
//!
//! A row of ours is known by its mark in `external_ids` ([`OWNER`], [`KEY`]); a `Load_Balancer_Group`, which has no
//! place for one, by its name. Rows without the mark are never changed. Of our own rows only what we set is ours: columns
//! that the plan names, and of maps and sets of references the elements that it names. So whoever adds a port of his own
//! to one of our switches, or a key to its `other_config`, keeps it.

pub mod addresses;
pub mod band;
pub mod batch;
pub mod maps;
pub mod observed;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::jiff::Timestamp;
use ovsdb_session::Datum;

use band::Band;

/// In `external_ids`: whose row it is.
pub const OWNER: &str = "drawbridge.dev/owner";
/// What stands there.
pub const OWNER_VALUE: &str = "cluster-controller";
/// In `external_ids`: which of ours.
pub const KEY: &str = "drawbridge.dev/key";
/// In `external_ids` of a port: the addresses that OVN has given it, once it has.
pub const ADDRESSES: &str = "drawbridge.dev/addresses";
/// In `external_ids` of a switch: since when it is there.
pub const SINCE: &str = "drawbridge.dev/since";
/// All of our keys in `external_ids` begin so.
pub const PREFIX: &str = "drawbridge.dev/";
/// The column by which a switch or router refers to its control plane protection.
pub const COPP: &str = "copp";
/// The group of the load balancers that are the same for the whole cluster.
pub const GROUP_NAME: &str = "drawbridge.dev/cluster-controller";
/// The name of the group of those that are a zone's own begins so, and ends with the zone's name.
pub const ZONE_GROUPS: &str = "drawbridge.dev/cluster-controller/zone/";

/// The tables that we write, those first whose rows others refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    LoadBalancerGroup,
    Meter,
    Copp,
    LogicalRouter,
    DhcpOptions,
    LogicalSwitch,
    LogicalRouterPort,
    LogicalSwitchPort,
    LoadBalancer,
}

/// Where a row refers to rows that hang from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    pub column: &'static str,
    pub holds: Table,
}

impl Table {
    pub const ALL: [Self; 9] = [
        Self::LoadBalancerGroup,
        Self::Meter,
        Self::Copp,
        Self::LogicalRouter,
        Self::DhcpOptions,
        Self::LogicalSwitch,
        Self::LogicalRouterPort,
        Self::LogicalSwitchPort,
        Self::LoadBalancer,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::LoadBalancerGroup => "Load_Balancer_Group",
            Self::Meter => "Meter",
            Self::Copp => "Copp",
            Self::LogicalRouter => "Logical_Router",
            Self::DhcpOptions => "DHCP_Options",
            Self::LogicalSwitch => "Logical_Switch",
            Self::LogicalRouterPort => "Logical_Router_Port",
            Self::LogicalSwitchPort => "Logical_Switch_Port",
            Self::LoadBalancer => "Load_Balancer",
        }
    }

    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// The columns that are read: those that are written and `dynamic_addresses`, and no more, so that what else northd
    /// writes wakes nobody.
    pub const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::LoadBalancerGroup => &["name", "load_balancer"],
            Self::Meter => &["name", "unit", "bands", "external_ids"],
            Self::Copp => &["name", "meters", "external_ids"],
            Self::LogicalRouter => &["name", "ports", COPP, "external_ids"],
            Self::DhcpOptions => &["cidr", "options", "external_ids"],
            Self::LogicalSwitch => &[
                "name",
                "ports",
                "load_balancer",
                "load_balancer_group",
                COPP,
                "other_config",
                "external_ids",
            ],
            Self::LogicalRouterPort => &["name", "mac", "networks", "ipv6_ra_configs", "external_ids"],
            Self::LogicalSwitchPort => &[
                "name",
                "type",
                "options",
                "addresses",
                "dynamic_addresses",
                "dhcpv4_options",
                "dhcpv6_options",
                "external_ids",
            ],
            Self::LoadBalancer => &["name", "vips", "protocol", "options", "external_ids"],
        }
    }

    /// May it stand by itself? Rows of the others are gone as soon as nothing refers to them.
    pub const fn is_root(self) -> bool {
        !matches!(self, Self::LogicalRouterPort | Self::LogicalSwitchPort)
    }

    /// Must names differ?
    pub const fn unique_names(self) -> bool {
        matches!(
            self,
            Self::LoadBalancerGroup
                | Self::Meter
                | Self::Copp
                | Self::LogicalRouterPort
                | Self::LogicalSwitchPort
        )
    }

    /// Is it there for control plane protection alone, which an older OVN's schema does not have?
    pub const fn is_of_copp(self) -> bool {
        matches!(self, Self::Meter | Self::Copp)
    }

    /// What hangs from its rows.
    pub const fn slots(self) -> &'static [Slot] {
        match self {
            Self::LoadBalancerGroup => &[Slot { column: "load_balancer", holds: Self::LoadBalancer }],
            Self::LogicalRouter => &[Slot { column: "ports", holds: Self::LogicalRouterPort }],
            Self::LogicalSwitch => &[
                Slot { column: "ports", holds: Self::LogicalSwitchPort },
                Slot { column: "load_balancer", holds: Self::LoadBalancer },
            ],
            _ => &[],
        }
    }

    /// What its rows refer to, and cannot outlive.
    pub const fn memberships(self) -> &'static [Slot] {
        match self {
            Self::LogicalSwitch => &[Slot { column: "load_balancer_group", holds: Self::LoadBalancerGroup }],
            _ => &[],
        }
    }

    /// Is this key of this map ours to set and to take away?
    pub fn owns_key(self, column: &str, key: &str) -> bool {
        match (self, column) {
            (_, "external_ids") => key.starts_with(PREFIX),
            (Self::LogicalSwitch, "other_config") => matches!(key, "subnet" | "ipv6_prefix" | "exclude_ips"),
            (Self::LogicalSwitchPort, "options") => {
                matches!(key, "router-port" | "iface-id-ver" | "requested-chassis")
            }
            (Self::LogicalRouterPort, "ipv6_ra_configs") => {
                matches!(key, "address_mode" | "mtu" | "route_info" | "router_preference" | "send_periodic")
            }
            (Self::LoadBalancer, "options") => matches!(key, "reject" | "affinity_timeout" | "ct_flush"),
            _ => false,
        }
    }
}

/// Which row of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub table: Table,
    pub id: Arc<str>,
}

impl Key {
    pub fn new(table: Table, id: impl Into<Arc<str>>) -> Self {
        Self { table, id: id.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.table.name(), self.id)
    }
}

/// What a port had, by its NIC's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Had {
    /// As OVN writes them: the MAC and then the IPs.
    pub addresses: Arc<str>,
    pub said: Said,
}

/// When the API server took that word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Then; should it not say, it is as good as not said.
    At(Option<Timestamp>),
    /// At any time: of the server's own port, which is one for each NIC.
    Undated,
}

/// A row as it shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedRow {
    /// Columns that are ours alone.
    pub columns: BTreeMap<&'static str, Datum>,
    /// Maps in which others may have keys, too.
    pub maps: BTreeMap<&'static str, BTreeMap<&'static str, String>>,
    /// Columns that refer to this row and no other.
    pub references: BTreeMap<&'static str, Key>,
    /// Sets that refer to these rows, and to no others of ours ([`Table::memberships`]).
    pub members: BTreeMap<&'static str, BTreeSet<Key>>,
    /// OVN gives the port an address of each of these: see [`addresses`].
    pub assigned: Vec<IpNet>,
    /// What the port had, for a northbound that knows nothing of it.
    pub had: Option<Had>,
    /// Does the row say since when it is there ([`SINCE`])?
    pub dated: bool,
    /// A Meter's.
    pub band: Option<Band>,
    /// The row that it hangs from, and in which column.
    pub parent: Option<(Key, &'static str)>,
}

impl WantedRow {
    /// With the marks that make it ours.
    pub fn marked(key: &Key) -> Self {
        let marks = BTreeMap::from([(OWNER, OWNER_VALUE.to_owned()), (KEY, key.id.to_string())]);
        Self { maps: BTreeMap::from([("external_ids", marks)]), ..Self::default() }
    }

    #[must_use]
    pub fn column(mut self, column: &'static str, value: impl Into<Datum>) -> Self {
        self.columns.insert(column, value.into());
        self
    }

    #[must_use]
    pub fn key(mut self, column: &'static str, key: &'static str, value: impl Into<String>) -> Self {
        self.maps.entry(column).or_default().insert(key, value.into());
        self
    }

    #[must_use]
    pub fn reference(mut self, column: &'static str, key: Key) -> Self {
        self.references.insert(column, key);
        self
    }

    #[must_use]
    pub fn member(mut self, column: &'static str, key: Key) -> Self {
        self.members.entry(column).or_default().insert(key);
        self
    }

    #[must_use]
    pub fn assigned(mut self, subnets: Vec<IpNet>) -> Self {
        self.assigned = subnets;
        self
    }

    #[must_use]
    pub fn had(mut self, had: Option<Had>) -> Self {
        self.had = had;
        self
    }

    #[must_use]
    pub const fn dated(mut self) -> Self {
        self.dated = true;
        self
    }

    #[must_use]
    pub const fn band(mut self, band: Band) -> Self {
        self.band = Some(band);
        self
    }

    #[must_use]
    pub fn parent(mut self, key: Key, column: &'static str) -> Self {
        self.parent = Some((key, column));
        self
    }

    /// The name, where names must differ.
    pub fn unique_name(&self, table: Table) -> Option<&str> {
        if table.unique_names() { self.columns.get("name").and_then(Datum::as_str) } else { None }
    }
}
