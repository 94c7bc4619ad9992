//! NicNodes: which nodes have a NIC, whose word on their pods' addresses counts. This NIC's own is followed in full by `own_node`
//! of `cluster`, as its configuration.

use std::collections::HashSet;

use drawbridge_api::{GROUP, VERSION};
use serde_json::Value;

use super::{Resource, Watched, read};
use crate::cluster::receivers::Receivers;
use crate::policy::{NicNode, ObjectName, Word, WordKind};

#[derive(Debug, Clone)]
pub struct NicNodes;

impl Watched for NicNodes {
    const RESOURCE: Resource =
        Resource { group: GROUP, version: VERSION, name: "NicNode", plural: "nicnodes" };
    const IS_OPTIONAL: bool = true;

    type Kept = NicNode;

    fn read(object: &Value) -> Result<Self::Kept, serde_json::Error> {
        read(object)
    }

    fn put(_: ObjectName, kept: Self::Kept, receivers: &mut Receivers) {
        receivers.policy.hear(Word::Nic(kept));
    }

    fn remove(name: ObjectName, _: &str, receivers: &mut Receivers) {
        receivers.policy.hear(Word::NicGone(name.name));
    }

    fn retain(listed: &HashSet<ObjectName>, receivers: &mut Receivers) {
        receivers.policy.only_words(WordKind::Nic, listed);
    }
}
