//! All that an attachment, or a lie about one, could change on a NIC: two of these are equal when nothing did.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::nic::Nic;

#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub flows: BTreeSet<String>,
    pub ports: BTreeMap<String, BTreeSet<String>>,
    pub representors: BTreeMap<String, bool>,
    pub attachments: Value,
    /// What the chassis is configured to be.
    pub chassis: String,
}

impl State {
    #[track_caller]
    pub fn of(nic: Nic) -> Self {
        // ovn-controller counts its own starts in keys of its own.
        let column = |name| -> String {
            let map = nic.vsctl(&["--bare", "get", "Open_vSwitch", ".", name]);
            let mut pairs: Vec<&str> = map.trim().trim_matches(['{', '}']).split(", ").collect();
            pairs.retain(|pair| !pair.contains("ovn-chassis-idx"));
            pairs.join(", ")
        };
        Self {
            flows: nic.flows(),
            ports: nic.ports(),
            representors: nic.representors(),
            attachments: nic.ledger()["attachments"].clone(),
            chassis: column("external_ids") + &column("other_config"),
        }
    }
}
