//! Every default of the configuration, as it would stand in the file. `packaging/nic-agent.example.toml` documents
//! them, and a test compares the two.

pub(super) const SERVER_CERT: &str = "/etc/nic-agent/tls/server.crt";
pub(super) const SERVER_KEY: &str = "/etc/nic-agent/tls/server.key";
pub(super) const CLIENT_CA: &str = "/etc/nic-agent/tls/client-ca.crt";
pub(super) const ATTACH_TIMEOUT_SECONDS: u32 = 60;
pub(super) const MAX_CONNECTIONS: u32 = 64;
pub(crate) const OVS_DB: &str = "unix:/run/openvswitch/db.sock";
pub(crate) const OVS_RUN_DIR: &str = "/run/openvswitch";
pub(super) const OVS_SYSTEM_ID_FILE: &str = "/etc/openvswitch/system-id.conf";
pub(crate) const OVN_RUN_DIR: &str = "/run/ovn";
pub(super) const ENCAP_TYPE: &str = "geneve";
pub(crate) const OVN_BRIDGE: &str = "br-int";
pub(super) const CHASSIS_ZONES: &str = "1-59999";
pub(crate) const HW_OFFLOAD: bool = true;
pub(super) const TC_POLICY: &str = "none";
pub(crate) const EDGE_BRIDGE: &str = "br-edge";
pub(super) const EDGE_ZONES: &str = "61000-61254";
/// More than an ingress gateway of some hundred requests a second has, most of them waiting for their end; an eighth of
/// what the kernel tracks on a machine of 16 GB (`nf_conntrack_max`).
pub(crate) const POD_CONNECTIONS: u32 = 32_768;
/// Several times what one server begins or takes without keeping connections; some of what the Arm cores of a NIC can set
/// up in software.
pub(super) const POD_CONNECTION_RATE: u32 = 4_000;
pub(super) const PROFILE_KIND: &str = "plain";
pub(super) const TEMPLATE: &str = "{namespace}_{name}";
pub(super) const DHCP: bool = false;
pub(super) const PREFIX_LENGTH_V4: u8 = 24;
pub(super) const PREFIX_LENGTH_V6: u8 = 64;
pub(super) const KUBECONFIG: &str = "";
pub(super) const DIRECTORY_FILE: &str = "/etc/nic-agent/pods.json";
pub(super) const STATE_DIR: &str = "/var/lib/nic-agent";
pub(super) const METRICS_LISTEN: &str = "127.0.0.1:9464";
pub(super) const LOG_LEVEL: &str = "info";
pub(super) const LOG_FORMAT: &str = "auto";
