//! A pod's logical switch port.

use ipnet::IpNet;

use super::{Rows, switch_key};
use crate::cluster::{ObjectName, Pod};
use crate::northbound::{Key, Table, WantedRow};

const POD: &str = "drawbridge.dev/pod";
const POD_UID: &str = "drawbridge.dev/pod-uid";

/// Named as nic-agent's profiles `ovn-kubernetes` and `plain` (by its default template) expect it. The key holds the
/// pod's uid: a pod of the same name that was made anew gets a port of its own, not its predecessor's.
pub(super) fn rows(name: &ObjectName, pod: &Pod, subnets: Vec<IpNet>) -> Rows {
    let key = Key::new(Table::LogicalSwitchPort, format!("pod/{name}/{}", pod.uid));
    let port = WantedRow::marked(&key)
        .column("name", format!("{}_{}", name.namespace, name.name))
        .column("type", "")
        .assigned(subnets)
        .key("external_ids", POD, name.to_string())
        .key("external_ids", POD_UID, &*pod.uid)
        .parent(switch_key(&pod.node), "ports");
    Rows::from([(key, port)])
}
