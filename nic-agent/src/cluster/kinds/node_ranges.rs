//! NodeRanges: which addresses the cluster's controller has confirmed for nodes.

use std::collections::HashSet;

use drawbridge_api::{GROUP, VERSION};
use serde_json::Value;

use super::{Resource, Watched, read};
use crate::cluster::receivers::Receivers;
use crate::policy::{NodeRange, ObjectName, Word, WordKind};

#[derive(Debug, Clone)]
pub struct NodeRanges;

impl Watched for NodeRanges {
    const RESOURCE: Resource =
        Resource { group: GROUP, version: VERSION, name: "NodeRange", plural: "noderanges" };
    const IS_OPTIONAL: bool = true;

    type Kept = NodeRange;

    fn read(object: &Value) -> Result<Self::Kept, serde_json::Error> {
        read(object)
    }

    fn put(_: ObjectName, kept: Self::Kept, receivers: &mut Receivers) {
        receivers.policy.hear(Word::Range(kept));
    }

    fn remove(name: ObjectName, _: &str, receivers: &mut Receivers) {
        receivers.policy.hear(Word::RangeGone(name.name));
    }

    fn retain(listed: &HashSet<ObjectName>, receivers: &mut Receivers) {
        receivers.policy.only_words(WordKind::Range, listed);
    }
}
