//! What NICs and cluster-controller say.

use std::collections::HashSet;
use std::sync::Arc;

use super::Trust;
use crate::policy::model::{ObjectName, Word};
use crate::policy::snapshot::WordKind;

impl Trust {
    pub fn hear(&mut self, word: Word) {
        match word {
            Word::Attachment(attachment) => {
                let name = &attachment.name;
                if self.attachments.get(name) == Some(&attachment) {
                    return;
                }
                self.remove_attachment(&name.clone());
                self.dirt.pods.insert(attachment.pod.clone());
                self.attached.entry(attachment.pod.clone()).or_default().insert(name.clone());
                self.attachments.insert(name.clone(), attachment);
            }
            Word::AttachmentGone(name) => self.remove_attachment(&name),
            Word::Nic(nic) => {
                if self.nics.get(&nic.name) == Some(&nic) {
                    return;
                }
                self.remove_nic(&nic.name);
                let nics = self.with_nic.entry(nic.node.clone()).or_default();
                nics.count += 1;
                nics.allowing += usize::from(nic.static_pods);
                self.dirt.nodes.insert(nic.node.clone());
                self.nics.insert(nic.name.clone(), nic);
            }
            Word::NicGone(name) => self.remove_nic(&name),
            Word::Range(range) => {
                let before = match range.confirmed.clone() {
                    Some(confirmed) => self.confirmed.insert(range.node.clone(), confirmed),
                    None => self.confirmed.remove(&range.node),
                };
                if before != range.confirmed {
                    self.dirt.nodes.insert(range.node);
                }
            }
            Word::RangeGone(node) => {
                if self.confirmed.remove(&node).is_some() {
                    self.dirt.nodes.insert(node);
                }
            }
            Word::Node(node) => {
                if node.name == self.node && self.zone != node.zone {
                    self.zone = node.zone;
                    self.dirt.zone = true;
                }
                if self.nodes.get(&node.name) != Some(&node.uid) {
                    self.dirt.nodes.insert(node.name.clone());
                    self.nodes.insert(node.name, node.uid);
                }
            }
            Word::NodeGone(name) => {
                if self.nodes.remove(&name).is_some() {
                    self.dirt.nodes.insert(name);
                }
            }
        }
    }

    /// As [`Self::only`]; of an object of the cluster's the name is in `name`.
    pub fn only_words(&mut self, kind: WordKind, listed: &HashSet<ObjectName>) {
        let is_gone = |name: &Arc<str>| !listed.contains(&ObjectName::new("", name.clone()));
        let words: Vec<Word> = match kind {
            WordKind::Attachment => {
                let gone = self.attachments.keys().filter(|it| !listed.contains(*it));
                gone.cloned().map(Word::AttachmentGone).collect()
            }
            WordKind::Nic => self.nics.keys().filter(|it| is_gone(it)).cloned().map(Word::NicGone).collect(),
            WordKind::Range => {
                self.confirmed.keys().filter(|it| is_gone(it)).cloned().map(Word::RangeGone).collect()
            }
            WordKind::Node => {
                self.nodes.keys().filter(|it| is_gone(it)).cloned().map(Word::NodeGone).collect()
            }
        };
        for word in words {
            self.hear(word);
        }
    }

    fn remove_attachment(&mut self, name: &ObjectName) {
        let Some(old) = self.attachments.remove(name) else { return };
        if let Some(names) = self.attached.get_mut(&old.pod) {
            names.remove(name);
            if names.is_empty() {
                self.attached.remove(&old.pod);
            }
        }
        self.dirt.pods.insert(old.pod);
    }

    fn remove_nic(&mut self, name: &str) {
        let Some(nic) = self.nics.remove(name) else { return };
        if let Some(nics) = self.with_nic.get_mut(&nic.node) {
            nics.count -= 1;
            nics.allowing -= usize::from(nic.static_pods);
            if nics.count == 0 {
                self.with_nic.remove(&nic.node);
            }
        }
        self.dirt.nodes.insert(nic.node);
    }
}
