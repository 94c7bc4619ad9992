//! Who receives what the watches say of objects.

use super::node_traffic::NodeTraffic;
use super::own_pods::OwnPods;
use crate::enforcement::feed::Feed;

pub struct Receivers {
    /// What the pods may do, and whose word on addresses counts.
    pub policy: Feed,
    /// Which pods this node has: claims are held against that.
    pub own_pods: OwnPods,
    /// Whose traffic is the node's own.
    pub node_traffic: NodeTraffic,
}
