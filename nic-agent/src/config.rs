//! The agent's configuration: one TOML file, checked as a whole before anything uses it.
//!
//! Owns the file's format, its defaults and its checks; `nic-agent.toml(5)` and `packaging/nic-agent.example.toml`
//! describe it to people. It never reads anything but that one file and never applies a value.
//!
//! Failure: every mistake is reported at once, each with its key, the value that stands there and what to write
//! instead. A [`Source`] whose file turns bad reports that and the last good configuration stays in force.

pub(crate) mod defaults;
mod read;
mod restart;
mod section;
mod source;
mod template;
#[cfg(test)]
mod tests;
pub(crate) mod value;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use offload::ids::{CtZone, VfId};
use offload::netlink::devlink::DeviceHandle;
use serde::{Deserialize, Serialize};

use crate::key_pin::KeyPin;
use crate::policy::Budget;

pub use ovsdb_session::Remote;
pub use section::Problem;
pub use source::Source;
pub use template::{Fields, Template};

/// A configuration file that was read in full and found to be in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub node: Node,
    /// Keys that the host-shim's certificate may have; none: any. The NicNode says so, the file does not.
    #[serde(skip)]
    pub shim_keys: BTreeSet<KeyPin>,
    pub server: Server,
    pub ovs: Ovs,
    pub ovn: Ovn,
    pub chassis: Chassis,
    pub southbound: Southbound,
    pub edge: Edge,
    pub eswitch: Eswitch,
    pub profile: Profile,
    /// `None`: files say what the cluster would.
    pub cluster: Option<Cluster>,
    pub directory: Directory,
    pub policy: Policy,
    pub state: State,
    pub metrics: Metrics,
    pub log: Log,
}

/// Whom this NIC serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The Kubernetes node's name.
    pub name: String,
    /// DNS name that the host-shim's certificate must hold.
    pub host_identity: String,
}

/// The gRPC server that the host-shim talks to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// At least one. Port 0 lets the kernel choose.
    pub listen: Vec<SocketAddr>,
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_ca: PathBuf,
    pub attach_timeout: Duration,
    pub max_connections: usize,
}

/// Where this NIC's Open vSwitch is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ovs {
    /// Never `Remote::Ssl`.
    pub db: Remote,
    /// Holds `<bridge>.mgmt`, the OpenFlow sockets, and ovs-vswitchd's control socket.
    pub run_dir: PathBuf,
    /// The chassis' name as `ovs-ctl` writes it into the database at each start.
    pub system_id_file: PathBuf,
}

/// Where this NIC's `ovn-controller` is. What it is told stands in [`Chassis`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ovn {
    /// Holds its control socket.
    pub run_dir: PathBuf,
}

/// What `ovn-controller` reads from the Open_vSwitch table, and OVS's own settings there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chassis {
    pub system_id: String,
    /// `None`: the system's.
    pub hostname: Option<String>,
    /// At least one.
    pub ovn_remote: Vec<Remote>,
    /// At least one.
    pub ovn_encap_type: Vec<EncapType>,
    /// At least one.
    pub ovn_encap_ip: Vec<IpAddr>,
    pub ovn_bridge: String,
    pub ovn_bridge_mappings: Vec<BridgeMapping>,
    pub ovn_transport_zones: Vec<String>,
    pub ct_zone_range: ZoneRange,
    pub hw_offload: bool,
    pub tc_policy: TcPolicy,
}

/// How to reach OVN's southbound database, whose addresses are [`Chassis::ovn_remote`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Southbound {
    /// Always there when a remote is `ssl:`.
    pub tls: Option<SouthboundTls>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SouthboundTls {
    pub private_key: PathBuf,
    pub certificate: PathBuf,
    pub ca_cert: PathBuf,
}

/// The boundary bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    pub bridge: String,
    /// At most [`Edge::MAX_ZONES`], none of them OVN's.
    pub ct_zones: ZoneRange,
    /// The pods' MTU; `None` leaves it as it is.
    pub mtu: Option<u32>,
    /// How many attachments there may be; only a NicNode says it.
    pub vf_budget: Option<u32>,
    /// Connections that an attachment may have at a time.
    pub pod_connections: u32,
    /// Connections that may begin in a second, of an attachment, in each direction.
    pub pod_connection_rate: NonZeroU32,
    /// May the server's static pods hold a VF? Only a NicNode says it.
    pub static_pods: bool,
    /// The server's own VF, which is no pod's; only a NicNode names it.
    pub management_port: Option<VfId>,
}

impl Edge {
    /// mlx5 restores a zone from eight bits, so an eSwitch has 255 of them at a time
    /// (drivers/net/ethernet/mellanox/mlx5/core/en/tc_ct.c, `ESW_ZONE_ID_BITS`).
    pub const MAX_ZONES: u32 = 255;
    /// The least that IPv6 may have (RFC 8200, section 5), and the largest that a ConnectX takes.
    pub const MTU: RangeInclusive<u32> = 1280..=9978;
    pub const POD_CONNECTIONS: RangeInclusive<u32> = 64..=4_000_000;
    pub const POD_CONNECTION_RATE: RangeInclusive<u32> = 10..=1_000_000;
}

/// Which of the NIC's devices is the eSwitch; what is not given is found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eswitch {
    pub device: Option<DeviceHandle>,
    /// devlink's number of the server that this NIC serves.
    pub controller: Option<u32>,
}

/// Where a pod's logical port is found, and what the pod is told that the port does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    pub kind: ProfileKind,
    /// The pods ask OVN's DHCP for their addresses.
    pub dhcp: bool,
    /// Who answers them, where the port does not name its own. Nobody else is heard.
    pub dhcp_servers: Vec<IpAddr>,
    pub ipv4: Family<Ipv4Addr>,
    pub ipv6: Family<Ipv6Addr>,
    pub routes: Vec<Route>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProfileKind {
    Plain { template: Template },
    OvnKubernetes,
    KubeOvn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Family<A> {
    pub prefix_length: u8,
    /// The pods' default gateway, if they get one.
    pub gateway: Option<A>,
}

/// A route beyond the default ones. Destination and gateway are of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    pub destination: IpNet,
    /// `None`: on the link.
    pub gateway: Option<IpAddr>,
}

/// How to reach the Kubernetes API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    pub kubeconfig: PathBuf,
}

/// Which pods exist, without [`Cluster`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    pub file: PathBuf,
}

/// What the pods may start and what may reach them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// NetworkPolicies and what they refer to, without [`Cluster`]. `None`: pods have no policy, and nothing is held back.
    pub file: Option<PathBuf>,
    /// The node's own: what comes from there reaches the node's pods whatever their policies say. None, with [`Cluster`]:
    /// those that the Node has.
    pub node_addresses: Vec<IpAddr>,
    /// How much of it one object, one namespace and one pod may have.
    #[serde(skip)]
    pub budget: Budget,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub dir: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// `None`: off.
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    pub level: LogLevel,
    pub format: LogFormat,
}

/// Levels as `tracing_subscriber::filter::Targets` takes them: `info`, or `info,nic_agent::server=debug`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLevel(pub(crate) String);

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    /// The journal when we are a service of systemd's, else text.
    Auto,
    Text,
    Json,
    Journal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EncapType {
    Geneve,
    Vxlan,
}

impl EncapType {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Geneve => "geneve",
            Self::Vxlan => "vxlan",
        }
    }
}

/// Where OVS puts the flows that it offloads (`other_config:tc-policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TcPolicy {
    None,
    SkipSw,
    SkipHw,
}

impl TcPolicy {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SkipSw => "skip_sw",
            Self::SkipHw => "skip_hw",
        }
    }
}

/// `physical network:bridge`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BridgeMapping {
    pub network: String,
    pub bridge: String,
}

impl fmt::Display for BridgeMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.network, self.bridge)
    }
}

/// Conntrack zones from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneRange {
    first: CtZone,
    last: CtZone,
}

impl ZoneRange {
    /// `None` when `first` is above `last`.
    pub fn new(first: CtZone, last: CtZone) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    pub const fn first(self) -> CtZone {
        self.first
    }

    pub const fn last(self) -> CtZone {
        self.last
    }

    pub fn contains(self, zone: CtZone) -> bool {
        self.first <= zone && zone <= self.last
    }

    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// How many zones; never zero.
    pub fn size(self) -> u32 {
        u32::from(self.last.get()) - u32::from(self.first.get()) + 1
    }

    /// From the lowest zone up.
    pub fn iter(self) -> impl Iterator<Item = CtZone> {
        (self.first.get()..=self.last.get()).filter_map(CtZone::new)
    }
}

impl fmt::Display for ZoneRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: cannot be read: {source}; name another file with --config or make this one", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The parser's text shows the line.
    #[error("not TOML: {0}")]
    Syntax(String),
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl FromStr for Config {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let table = text.parse::<toml::Table>().map_err(|error| ConfigError::Syntax(error.to_string()))?;
        read::config(table).map_err(ConfigError::Invalid)
    }
}

/// Whose pods may hold a VF here.
#[derive(Debug, Clone, Copy)]
pub struct Served<'a> {
    /// `node.name`.
    pub node: &'a str,
    /// Do static pods count?
    pub static_pods: bool,
}

impl Config {
    /// Whose pods may hold a VF here.
    pub fn served(&self) -> Served<'_> {
        Served { node: &self.node.name, static_pods: self.edge.static_pods }
    }

    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        source::read(path).and_then(|text| text.parse())
    }

    /// What a running agent takes over of `new`: all but [`Config::needs_restart`].
    #[must_use]
    pub fn adopt(&self, new: &Self) -> Self {
        restart::adopt(self, new)
    }

    /// The keys in which `other` differs from us and that only a new start takes over.
    pub fn needs_restart(&self, other: &Self) -> Vec<&'static str> {
        restart::keys(self, other)
    }
}
