//! A pod's logical switch port.

use std::sync::Arc;

use ipnet::IpNet;

use super::{Rows, switch_key};
use crate::cluster::{ObjectName, Pod};
use crate::northbound::{Had, Key, Table, WantedRow};

const POD: &str = "drawbridge.dev/pod";
const POD_UID: &str = "drawbridge.dev/pod-uid";

/// As nic-agent's profiles `ovn-kubernetes` and `plain` (by its default template) expect it.
pub(super) fn port_name(name: &ObjectName) -> String {
    format!("{}_{}", name.namespace, name.name)
}

/// The key holds the pod's uid: a pod of the same name that was made anew gets a port of its own, not its predecessor's.
/// Who had the predecessor's cannot take it: `ovn-controller` binds a port with `iface-id-ver` to an interface that bears
/// the same one, and one with `requested-chassis` on that chassis alone.
///
/// A pod that runs keeps its address when the northbound is lost: see [`crate::northbound::addresses`].
pub(super) fn rows(
    name: &ObjectName,
    pod: &Pod,
    port: String,
    subnets: Vec<IpNet>,
    had: Option<Had>,
    chassis: Option<Arc<str>>,
) -> Rows {
    let key = Key::new(Table::LogicalSwitchPort, format!("pod/{name}/{}", pod.uid));
    let mut port = WantedRow::marked(&key)
        .column("name", port)
        .column("type", "")
        .assigned(subnets)
        .had(had)
        .key("external_ids", POD, name.to_string())
        .key("external_ids", POD_UID, &*pod.uid)
        .key("options", "iface-id-ver", &*pod.uid)
        .parent(switch_key(&pod.node), "ports");
    if let Some(chassis) = chassis {
        port = port.key("options", "requested-chassis", &*chassis);
    }
    Rows::from([(key, port)])
}
