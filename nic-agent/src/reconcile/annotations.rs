//! The reconcile loop's part in what a CMS writes on its pods: a new attachment waits for it, and what is not used is said.

use std::collections::BTreeMap;

use tracing::warn;

use super::Reconciler;
use super::stage::{Missing, Who};
use crate::attachment::Attachment;
use crate::claim::SandboxKey;
use crate::config::Config;
use crate::directory::Directory;
use crate::platform::{Platform, Southbound as _};
use crate::profile::cms::{self, PodNetwork};
use crate::published::Entry;

impl<P: Platform> Reconciler<P> {
    /// What the CMS has written on the pod.
    pub(super) fn cms_word(
        &self,
        of: &Attachment,
        config: &Config,
        directory: &Directory,
    ) -> Result<Option<PodNetwork>, Missing> {
        let port = &of.logical_port;
        let annotations = directory.get(&of.claim.pod.uid).map(|record| &record.annotations);
        let is_new = !config.profile.dhcp && !self.tickets.is_ready(&of.claim.key);
        let external_ids = || self.southbound.external_ids(port);
        cms::word(&config.profile.kind, annotations, is_new, external_ids).map_err(|key| Missing {
            who: Who::Ovn,
            what: format!(
                "the API does not show the annotation {key}, which the CMS of {port} writes on its pod"
            ),
        })
    }

    /// Once for each change.
    pub(super) fn tell_unused(&mut self, attachments: &BTreeMap<SandboxKey, Entry>) {
        let unused = attachments.iter().filter(|(_, entry)| !entry.remarks.is_empty());
        let now: BTreeMap<_, _> = unused.map(|(key, entry)| (key.clone(), entry.remarks.clone())).collect();
        for (key, unused) in now.iter().filter(|(key, unused)| self.remarked.get(*key) != Some(*unused)) {
            warn!(%key, ?unused, "what the CMS has written on the pod is not all used");
        }
        self.remarked = now;
    }
}
