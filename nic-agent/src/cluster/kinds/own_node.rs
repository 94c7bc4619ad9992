//! This NIC's Node, alone and in full: its addresses are those from which the node reaches its pods, unless the
//! configuration names these.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::Value;

use super::{Resource, Watched, text};
use crate::cluster::receivers::Receivers;
use crate::config::Config;
use crate::policy::ObjectName;

#[derive(Debug, Clone)]
pub struct OwnNode;

impl Watched for OwnNode {
    const RESOURCE: Resource = Resource { group: "", version: "v1", name: "Node", plural: "nodes" };
    const LABEL: &'static str = "own-node";

    /// The node's addresses.
    type Kept = Vec<IpAddr>;

    fn is_needed(config: &Config) -> bool {
        config.policy.node_addresses.is_empty()
    }

    fn field_selector(config: &Config) -> Option<String> {
        Some(format!("metadata.name={}", config.node.name))
    }

    fn read(object: &Value) -> Result<Self::Kept, serde_json::Error> {
        let all = object.pointer("/status/addresses").and_then(Value::as_array);
        let is_address = |it: &&Value| matches!(text(it, "/type"), "InternalIP" | "ExternalIP");
        let mut ips: Vec<IpAddr> = (all.into_iter().flatten().filter(is_address))
            .filter_map(|it| text(it, "/address").parse().ok())
            .filter(|ip: &IpAddr| !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast()))
            .collect();
        ips.sort_unstable();
        ips.dedup();
        Ok(ips)
    }

    fn put(_: ObjectName, kept: Self::Kept, receivers: &mut Receivers) {
        receivers.node_traffic.set_of_node(kept, &mut receivers.policy);
    }

    /// A Node that is made again has the same addresses, most likely; kubelet goes on without it.
    fn remove(_: ObjectName, _: &str, _: &mut Receivers) {}

    fn retain(_: &HashSet<ObjectName>, _: &mut Receivers) {}
}
