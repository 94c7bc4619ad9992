//! A pod's logical switch port.

use std::sync::Arc;

use ipnet::IpNet;

use super::{Rows, switch_key};
use crate::cluster::{Attached, ObjectName, Pod};
use crate::northbound::{Key, Table, WantedRow};

const POD: &str = "drawbridge.dev/pod";
const POD_UID: &str = "drawbridge.dev/pod-uid";

/// Named as nic-agent's profiles `ovn-kubernetes` and `plain` (by its default template) expect it. The key holds the
/// pod's uid: a pod of the same name that was made anew gets a port of its own, not its predecessor's.
///
/// A pod that runs keeps its address when the northbound is lost: what was `attached` is believed of this very pod and
/// port.
pub(super) fn rows<'a>(
    name: &ObjectName,
    pod: &Pod,
    subnets: Vec<IpNet>,
    mut attached: impl Iterator<Item = &'a Attached>,
) -> Rows {
    let key = Key::new(Table::LogicalSwitchPort, format!("pod/{name}/{}", pod.uid));
    let port = format!("{}_{}", name.namespace, name.name);
    let had = attached.find(|it| it.uid == pod.uid && *it.logical_port == *port);
    let port = WantedRow::marked(&key)
        .column("name", port)
        .column("type", "")
        .assigned(subnets)
        .had(had.map(|it| Arc::clone(&it.addresses)))
        .key("external_ids", POD, name.to_string())
        .key("external_ids", POD_UID, &*pod.uid)
        .parent(switch_key(&pod.node), "ports");
    Rows::from([(key, port)])
}
