//! The reconcile loop's part in what a CMS writes on its pods: a new attachment waits for it, and what is not used is said.

use tracing::warn;

use super::Reconciler;
use super::stage::{Missing, Who};
use crate::attachment::{Attachment, AttachmentId, OverlayPort};
use crate::config::Config;
use crate::directory::Directory;
use crate::platform::{Platform, Southbound as _};
use crate::profile::cms::{self, PodNetwork};

impl<P: Platform> Reconciler<P> {
    /// What the CMS has written on the pod.
    pub(super) fn cms_word(
        &self,
        of: &Attachment,
        config: &Config,
        directory: &Directory,
    ) -> Result<Option<PodNetwork>, Missing> {
        let Some(OverlayPort { logical_port: port, .. }) = of.overlay() else { return Ok(None) };
        let annotations = directory.get(of.owner.uid()).map(|record| &record.annotations);
        let is_new = !config.profile.dhcp && !self.tickets.is_ready(&of.id());
        let external_ids = || self.southbound.external_ids(port);
        cms::word(&config.profile.kind, annotations, is_new, external_ids).map_err(|key| Missing {
            who: Who::Ovn,
            what: format!(
                "the API does not show the annotation {key}, which the CMS of {port} writes on its pod"
            ),
        })
    }

    /// Once for each change.
    pub(super) fn tell_unused(&mut self, of: &AttachmentId, unused: &[String]) {
        let record = self.records.entry(of.clone()).or_default();
        if !unused.is_empty() && record.remarks != unused {
            warn!(key = %of, ?unused, "what the CMS has written on the pod is not all used");
        }
        unused.clone_into(&mut record.remarks);
    }
}
