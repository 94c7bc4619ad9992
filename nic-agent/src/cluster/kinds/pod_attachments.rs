//! PodAttachments: which addresses NICs have given to pods.

use std::collections::HashSet;

use drawbridge_api::{GROUP, VERSION};
use serde_json::Value;

use super::{Resource, Watched, read};
use crate::cluster::receivers::Receivers;
use crate::policy::{ObjectName, PodAttachment, Word, WordKind};

#[derive(Debug, Clone)]
pub struct PodAttachments;

impl Watched for PodAttachments {
    const RESOURCE: Resource =
        Resource { group: GROUP, version: VERSION, name: "PodAttachment", plural: "podattachments" };
    const IS_OPTIONAL: bool = true;

    type Kept = PodAttachment;

    fn read(object: &Value) -> Result<Self::Kept, serde_json::Error> {
        read(object)
    }

    fn put(_: ObjectName, kept: Self::Kept, receivers: &mut Receivers) {
        receivers.policy.hear(Word::Attachment(kept));
    }

    fn remove(name: ObjectName, _: &str, receivers: &mut Receivers) {
        receivers.policy.hear(Word::AttachmentGone(name));
    }

    fn retain(listed: &HashSet<ObjectName>, receivers: &mut Receivers) {
        receivers.policy.only_words(WordKind::Attachment, listed);
    }
}
