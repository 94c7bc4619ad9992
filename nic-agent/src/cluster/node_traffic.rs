//! From which addresses the node reaches its pods: policy always lets these in.

use std::net::IpAddr;

use offload::policy::PrefixSet;

use crate::enforcement::feed::Feed;
use crate::management::Access;
use crate::policy::Change;

pub struct NodeTraffic {
    /// From the file: these are the node's, whatever else is.
    given: PrefixSet,
    /// In the Node's status.
    of_node: Vec<IpAddr>,
    access: Access,
}

impl NodeTraffic {
    pub fn new(given: PrefixSet, access: Access) -> Self {
        Self { given, of_node: Vec::new(), access }
    }

    pub fn set_access(&mut self, access: Access, policy: &mut Feed) {
        self.access = access;
        self.publish(policy);
    }

    pub fn set_of_node(&mut self, ips: Vec<IpAddr>, policy: &mut Feed) {
        self.of_node = ips;
        self.publish(policy);
    }

    pub fn publish(&self, policy: &mut Feed) {
        let ips = match &self.access {
            Access::Port(ips) => ips,
            Access::NodeAddresses => &self.of_node,
        };
        let ips: PrefixSet = ips.iter().copied().collect();
        policy.put(Change::NodeAddresses(self.given.union(&ips)));
    }
}
