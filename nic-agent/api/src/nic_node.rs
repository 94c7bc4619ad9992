//! `NicNode`: one SmartNIC.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Condition;

/// Condition types of a [`NicNode`].
pub mod conditions {
    /// This generation of the spec is in force. If not: what is wrong with it, or what it waits for; the last good one is
    /// in force then.
    pub const CONFIGURED: &str = "Configured";
    /// A pod could be attached now.
    pub const READY: &str = "Ready";
    /// The server's shim has been heard of, with a good certificate.
    pub const HOST_SHIM_CONNECTED: &str = "HostShimConnected";
    /// The Open_vSwitch database and `br-edge` are as they should be.
    pub const OVS_READY: &str = "OVSReady";
    /// The southbound database answers.
    pub const OVN_CONNECTED: &str = "OVNConnected";
    /// Each attached pod has the policy that the cluster says, and no connection is left that it denies.
    pub const POLICY_ENFORCED: &str = "PolicyEnforced";
    /// Every TC rule of the datapath runs in hardware.
    pub const OFFLOADED: &str = "Offloaded";
    /// What the server's kubelet says of its pods is as this NIC, or what is confirmed, has it. If not, the rest counts for
    /// nothing: it is said here what that is.
    pub const NODE_BELIEVED: &str = "NodeBelieved";
    /// What `nic-agent preflight` found of kernel, eSwitch, uplinks, Open vSwitch, OVN, clock and certificates is as the
    /// agent needs it. If not: what is wrong, and what mends it. Unknown where something of it could not be read.
    pub const PREFLIGHT_PASSED: &str = "PreflightPassed";
    /// The server reaches its pods by the management port that the spec names. Absent when it names none.
    pub const MANAGEMENT_PORT: &str = "ManagementPort";
}

/// What a SmartNIC is to do. Named after the node that it serves, so that the API itself sees to there being one for each.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "drawbridge.dev",
    version = "v1alpha1",
    kind = "NicNode",
    plural = "nicnodes",
    singular = "nicnode",
    shortname = "nic",
    category = "drawbridge",
    status = "NicNodeStatus",
    derive = "PartialEq",
    doc = "A SmartNIC: what it is to do, and what became of that. Named after the node that it serves.",
    validation = Rule::new("self.metadata.name == self.spec.nodeName").message("a NicNode has the name of its node, spec.nodeName: so no node has two"),
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name": "Configured", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Configured')].status"}"#,
    printcolumn = r#"{"name": "Policy", "type": "string", "jsonPath": ".status.conditions[?(@.type=='PolicyEnforced')].status"}"#,
    printcolumn = r#"{"name": "Offloaded", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Offloaded')].status"}"#,
    printcolumn = r#"{"name": "VFs", "type": "string", "jsonPath": ".status.vfs.summary"}"#,
    printcolumn = r#"{"name": "Version", "type": "string", "jsonPath": ".status.versions.agent", "priority": 1}"#,
    printcolumn = r#"{"name": "Encap-IP", "type": "string", "jsonPath": ".status.addresses[?(@.type=='Encapsulation')].address", "priority": 1}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].message", "priority": 1}"#,
    printcolumn = r#"{"name": "Heartbeat", "type": "date", "jsonPath": ".status.lastHeartbeatTime"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct NicNodeSpec {
    /// Name of the Kubernetes node that this NIC sits in. For ever: another server is another NicNode.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("spec.nodeName cannot be changed: delete this NicNode and make another"))]
    pub node_name: String,
    /// DNS name that the server's certificate must hold. Absent: `nodeName`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub host_identity: Option<String>,
    pub profile: Profile,
    pub ovn: Ovn,
    #[serde(default)]
    pub offload: HardwareOffload,
    /// Conntrack zones of the pods' boundaries: 255 at most, as the eSwitch has no more, and outside of
    /// `ovn.ctZoneRange`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.last - self.first < 255").message("spec.podZones may have 255 zones at most, as the eSwitch has no more"))]
    pub pod_zones: Option<ZoneRange>,
    /// How many VFs pods may hold at a time. Absent: all that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 0, max = 1024))]
    pub vf_budget: Option<u32>,
    /// What each pod may take of the NIC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_limits: Option<PodLimits>,
    /// The pods' MTU. Absent: it stays as it is. Geneve over IPv4 takes 58 bytes of the fabric's, over IPv6 78.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 1280, max = 9978))]
    pub mtu: Option<u32>,
    /// The server's management port: the VF by which it reaches its pods and the cluster's services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_port: Option<Vf>,
    /// May static pods, which the server makes up itself, have a VF, and answer for Services?
    #[serde(default)]
    pub static_pods: StaticPods,
    /// Who may speak for the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shim: Option<Shim>,
}

/// A static pod stands in a file of the server's. Its mirror in the API has a namespace and labels of the server's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StaticPods {
    #[default]
    Refused,
    Allowed,
}

/// Of each attachment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodLimits {
    /// Connections that conntrack holds of it at a time, those that it began and those that it was begun with. Who has as
    /// many begins no other. Absent: as the file on the NIC says, 32768 if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 64, max = 4_000_000))]
    pub connections: Option<u32>,
    /// Connections that may begin in a second, by it and with it each. More are dropped. Absent: as the file on the NIC
    /// says, 4000 if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<i32>", range(min = 10, max = 1_000_000))]
    pub new_connections_per_second: Option<u32>,
}

/// The server's `host-shim`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shim {
    /// SHA-256 of the public keys (`SubjectPublicKeyInfo`, DER) that its certificate may have, in hexadecimal digits.
    /// Empty: any that the CA has signed for the server's name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 64, max = 64)))]
    #[x_kube(validation = Rule::new("self.all(p, p.matches('^[0-9a-f]{64}$'))").message("each of spec.shim.keyPins is a SHA-256 in 64 hexadecimal digits, small letters"))]
    pub key_pins: Vec<String>,
}

/// Which CMS names the logical ports, and how.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.template) == (self.kind == 'Plain')").message("template belongs to kind Plain, and kind Plain needs it: for example \"{namespace}_{name}\""))]
pub struct Profile {
    pub kind: ProfileKind,
    /// Of the logical port's name: `{namespace}`, `{name}`, `{uid}`, `{interface}`, `{network}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub template: Option<String>,
    #[serde(default)]
    pub addressing: Addressing,
    /// From where DHCP is answered, where the port does not say it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 2, max = 45)))]
    pub dhcp_servers: Vec<String>,
}

/// How a pod's interface gets its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Addressing {
    /// The CNI call's result says them.
    #[default]
    CNI,
    /// The pod asks OVN's DHCP.
    DHCP,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProfileKind {
    /// `<namespace>_<pod>`.
    OVNKubernetes,
    /// `<pod>.<namespace>`.
    KubeOVN,
    /// As `template` says.
    Plain,
}

/// What `ovn-controller` is told.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ovn {
    /// The southbound database: `ssl:HOST:PORT` or `tcp:HOST:PORT`, one or more servers of one cluster.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 280)))]
    #[x_kube(validation = Rule::new("self.all(r, r.matches('^(ssl|tcp):.+:[0-9]{1,5}$'))").message("each of spec.ovn.remotes is ssl:HOST:PORT or tcp:HOST:PORT, an IPv6 address in brackets"))]
    pub remotes: Vec<String>,
    pub encapsulation: Encapsulation,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub bridge_mappings: Vec<BridgeMapping>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 253)))]
    pub transport_zones: Vec<String>,
    /// Zones that `ovn-controller` may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ct_zone_range: Option<ZoneRange>,
}

/// The tunnels' end on this NIC.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.interface) != (size(self.addresses) > 0)").message("either addresses or interface says where tunnels end, not both"))]
pub struct Encapsulation {
    #[schemars(length(min = 1, max = 2))]
    pub types: Vec<EncapsulationType>,
    #[serde(default)]
    #[schemars(length(max = 4), inner(length(max = 45)))]
    #[x_kube(validation = Rule::new("self.all(a, isIP(a))").message("each of spec.ovn.encapsulation.addresses is an IPv4 or IPv6 address"))]
    pub addresses: Vec<String>,
    /// Takes this device's addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15))]
    pub interface: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EncapsulationType {
    Geneve,
    VXLAN,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BridgeMapping {
    /// The physical network's name, as a `localnet` port names it.
    #[schemars(length(min = 1, max = 255))]
    pub network: String,
    #[schemars(length(min = 1, max = 15))]
    pub bridge: String,
}

#[derive(KubeSchema, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("self.first <= self.last").message("first is greater than last"))]
pub struct ZoneRange {
    #[schemars(with = "i32", range(min = 1, max = 65535))]
    pub first: u16,
    #[schemars(with = "i32", range(min = 1, max = 65535))]
    pub last: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HardwareOffload {
    /// `other_config:hw-offload`. A change takes effect when Open vSwitch restarts.
    #[serde(default)]
    pub mode: OffloadMode,
    /// `other_config:tc-policy`.
    #[serde(default)]
    pub tc_policy: TcPolicy,
}

/// Where the datapath's rules run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OffloadMode {
    /// In the eSwitch, as far as it takes them.
    #[default]
    Hardware,
    /// In the NIC's kernel alone.
    Software,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TcPolicy {
    #[default]
    None,
    SkipSW,
    SkipHW,
}

/// A virtual function, by the numbers that the server sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Vf {
    #[schemars(with = "i32", range(min = 0, max = 15))]
    pub pf: u16,
    #[schemars(with = "i32", range(min = 0, max = 1023))]
    pub vf: u16,
}

/// What became of the spec, and what there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NicNodeStatus {
    /// The newest `metadata.generation` that the agent has looked at. `Configured` says whether it is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// When the agent last said that it is alive, RFC 3339: every minute or two. The rest is as of its last change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_heartbeat_time: Option<String>,
    #[serde(default)]
    pub versions: Versions,
    /// The NIC's name in OVN, by which its pods' ports are tied to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chassis: Option<String>,
    /// The NIC's serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    #[serde(default)]
    pub vfs: VfCount,
    #[serde(default)]
    pub offload: OffloadFigures,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub addresses: Vec<Address>,
    /// What the server's management port has, or last had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub management_port: Option<ManagedPort>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What runs on the NIC; absent is what could not be learned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Versions {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ovs: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ovn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VfCount {
    #[schemars(range(min = 0))]
    pub total: i32,
    #[schemars(range(min = 0))]
    pub used: i32,
    /// `used/total`, for people: a column of a table has one field.
    #[serde(default)]
    #[schemars(length(max = 21))]
    pub summary: String,
}

impl VfCount {
    #[must_use]
    pub fn new(used: usize, total: usize) -> Self {
        let [used, total] = [used, total].map(|it| i32::try_from(it).unwrap_or(i32::MAX));
        Self { total, used, summary: format!("{used}/{total}") }
    }
}

/// TC rules on the pods' representors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OffloadFigures {
    #[schemars(range(min = 0))]
    pub hardware_rules: i64,
    #[schemars(range(min = 0))]
    pub software_rules: i64,
}

/// As OVN has given it: a northbound that was lost gives it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ManagedPort {
    #[schemars(length(max = 17))]
    pub mac: String,
    #[schemars(length(max = 8), inner(length(max = 45)))]
    pub ips: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Address {
    #[serde(rename = "type")]
    pub kind: AddressType,
    pub address: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AddressType {
    /// Where tunnels end.
    Encapsulation,
    /// Of the management port.
    Management,
}
