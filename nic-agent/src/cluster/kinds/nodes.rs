//! All Nodes: who has a node's name now, and the zone that this one is in. They are large, and written often for what is of
//! no interest here.

use std::collections::HashSet;

use serde_json::Value;

use super::{Resource, Watched, read};
use crate::cluster::receivers::Receivers;
use crate::policy::{Node, ObjectName, Word, WordKind};

#[derive(Debug, Clone)]
pub struct Nodes;

impl Watched for Nodes {
    const RESOURCE: Resource = Resource { group: "", version: "v1", name: "Node", plural: "nodes" };
    const METADATA_ONLY: bool = true;

    type Kept = Node;

    fn read(object: &Value) -> Result<Self::Kept, serde_json::Error> {
        read(object)
    }

    fn put(_: ObjectName, kept: Self::Kept, receivers: &mut Receivers) {
        receivers.policy.hear(Word::Node(kept));
    }

    fn remove(name: ObjectName, _: &str, receivers: &mut Receivers) {
        receivers.policy.hear(Word::NodeGone(name.name));
    }

    fn retain(listed: &HashSet<ObjectName>, receivers: &mut Receivers) {
        receivers.policy.only_words(WordKind::Node, listed);
    }
}
