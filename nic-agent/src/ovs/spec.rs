//! What the Open_vSwitch database shall say: the chassis, `br-edge`, and each pod's ports.

use std::collections::{BTreeMap, BTreeSet};

use offload::ids::{OfPort, VfId};
use serde::Serialize;

use super::restore::Restore;
use super::view::StringMap;
use crate::attachment::{self, Attachment};
use crate::config::Chassis;

/// Key in `external_ids` that marks a row as ours; what lacks it is never touched.
const OWNER: &str = "drawbridge.dev/owner";
const OWNER_VALUE: &str = "nic-agent";
/// Does a row with these `external_ids` bear our mark?
pub fn is_ours(external_ids: &StringMap) -> bool {
    external_ids.get(OWNER).is_some_and(|v| v == OWNER_VALUE)
}

/// Which sandbox an interface was made for: another value means another pod, and a new row.
const SANDBOX: &str = "drawbridge.dev/sandbox";
const POD: &str = "drawbridge.dev/pod";

/// All that the database shall say. Maps name the keys we own: `None` is a key that shall not be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OvsSpec {
    pub external_ids: BTreeMap<String, Option<String>>,
    pub other_config: BTreeMap<String, Option<String>>,
    pub edge: BridgeSpec,
    /// The bridge of ovn-controller, which makes it: our ports there wait for it.
    pub integration: String,
    pub ports: Vec<PortSpec>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BridgeSpec {
    pub name: String,
}

impl BridgeSpec {
    /// Without flows nothing passes: a bridge that has lost its flows drops (`ovs-vswitchd.conf.db(5)`, `fail_mode`).
    pub const FAIL_MODE: &'static str = "secure";
    /// In the kernel, with TC for the hardware. There is no other that we know how to close.
    pub const DATAPATH_TYPE: &'static str = "system";
    /// 1.5 for us, 1.0 for whoever looks with plain `ovs-ofctl`.
    pub const PROTOCOLS: [&'static str; 2] = ["OpenFlow10", "OpenFlow15"];

    pub fn protocols() -> BTreeSet<String> {
        Self::PROTOCOLS.map(str::to_owned).into()
    }

    pub fn external_ids() -> StringMap {
        StringMap::from([(OWNER.to_owned(), OWNER_VALUE.to_owned())])
    }

    pub fn other_config() -> StringMap {
        // No controller of anyone's is reached through this bridge.
        StringMap::from([("disable-in-band".to_owned(), "true".to_owned())])
    }

    /// An Interface that is no VIF and has no iface-id makes ovn-controller recompute all whenever it changes
    /// (OVN, `controller/binding.c`): this one is bound to nothing.
    pub fn local_external_ids(&self) -> StringMap {
        StringMap::from([("iface-id".to_owned(), format!("edge-{}", self.name))])
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PortSpec {
    pub bridge: Bridge,
    pub name: String,
    /// Interface `type`: empty for a device, `patch`.
    pub kind: &'static str,
    pub options: StringMap,
    pub ofport: Option<OfPort>,
    pub external_ids: StringMap,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Bridge {
    Edge,
    Integration,
}

impl PortSpec {
    /// Does a row with these ids stand for the same attachment?
    pub fn is_same_attachment(&self, external_ids: &StringMap) -> bool {
        [SANDBOX, POD].iter().all(|key| external_ids.get(*key) == self.external_ids.get(*key))
    }
}

/// The three ports of a pod: its representor, and the patch pair whose far end OVN binds the logical port to.
pub fn pod_ports(attachment: &Attachment, representor: &str) -> Vec<PortSpec> {
    let vf = attachment.vf;
    let (Some(port), Some((rep_port, patch_port))) = (attachment.overlay(), attachment::of_ports(vf)) else {
        return Vec::new();
    };
    let (edge, int) = (attachment::edge_patch(vf), attachment::int_patch(vf));
    let mark = |iface_id: String| {
        StringMap::from([
            (OWNER.to_owned(), OWNER_VALUE.to_owned()),
            (SANDBOX.to_owned(), attachment.id().to_string()),
            (POD.to_owned(), attachment.owner.to_string()),
            ("iface-id".to_owned(), iface_id),
        ])
    };
    let mut bound = mark(port.logical_port.clone());
    // OVN binds only when this equals the logical port's own iface-id-ver, where the CMS sets one (ovn-kubernetes does).
    let uid = attachment.owner.uid();
    if !uid.is_empty() {
        bound.insert("iface-id-ver".to_owned(), uid.to_owned());
    }
    if let Some(binding) = &port.binding {
        bound.insert("attached-mac".to_owned(), binding.mac.to_string());
    }
    let peer = |name: &str| StringMap::from([("peer".to_owned(), name.to_owned())]);
    vec![
        PortSpec {
            bridge: Bridge::Edge,
            name: representor.to_owned(),
            kind: "",
            options: StringMap::new(),
            ofport: Some(rep_port),
            external_ids: mark(unbound("rep", vf)),
        },
        PortSpec {
            bridge: Bridge::Edge,
            name: edge.clone(),
            kind: "patch",
            options: peer(&int),
            ofport: Some(patch_port),
            external_ids: mark(unbound("patch", vf)),
        },
        PortSpec {
            bridge: Bridge::Integration,
            name: int,
            kind: "patch",
            options: peer(&edge),
            ofport: None,
            external_ids: bound,
        },
    ]
}

/// An iface-id that no logical port has (see [`BridgeSpec::local_external_ids`]).
fn unbound(what: &str, vf: VfId) -> String {
    format!("edge-{what}-{vf}")
}

/// The keys of the Open_vSwitch row that are ours: what ovn-controller(8) reads of the chassis, and OVS's own settings.
/// A key with no value is one that the configuration leaves out, and that shall not be there.
pub fn chassis(
    chassis: &Chassis,
    hostname: &str,
    restore_wait: &str,
) -> (BTreeMap<String, Option<String>>, BTreeMap<String, Option<String>>) {
    let list = |items: Vec<String>| (!items.is_empty()).then(|| items.join(","));
    let remotes = chassis.ovn_remote.iter().map(ToString::to_string).collect();
    let encaps = chassis.ovn_encap_type.iter().map(|e| e.as_str().to_owned()).collect();
    let encap_ips = chassis.ovn_encap_ip.iter().map(ToString::to_string).collect();
    let mappings = chassis.ovn_bridge_mappings.iter().map(ToString::to_string).collect();
    let external_ids = [
        ("system-id", Some(chassis.system_id.clone())),
        ("hostname", Some(hostname.to_owned())),
        ("ovn-remote", list(remotes)),
        ("ovn-encap-type", list(encaps)),
        ("ovn-encap-ip", list(encap_ips)),
        ("ovn-bridge", Some(chassis.ovn_bridge.clone())),
        ("ovn-bridge-mappings", list(mappings)),
        ("ovn-transport-zones", list(chassis.ovn_transport_zones.clone())),
        ("ct-zone-range", Some(chassis.ct_zone_range.to_string())),
    ];
    let other_config = [
        ("hw-offload", chassis.hw_offload.to_string()),
        ("tc-policy", chassis.tc_policy.as_str().to_owned()),
        (Restore::KEY, restore_wait.to_owned()),
    ];
    (
        external_ids.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        other_config.into_iter().map(|(k, v)| (k.to_owned(), Some(v))).collect(),
    )
}
