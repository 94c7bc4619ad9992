//! Who an attachment is on OVN's networks: what the southbound says, and what the CMS has written on the pod.

use std::collections::BTreeMap;

use tracing::info;

use super::Overlay;
use crate::attachment::{Attachment, Binding, OverlayPort};
use crate::backend::{Facts, Missing, Who};
use crate::config::Config;
use crate::ledger::book::Book;
use crate::platform::{Platform, Southbound as _};
use crate::profile::cms::{self, PodNetwork};

impl<P: Platform> Overlay<P> {
    /// What the southbound says of each logical port; identities go into the ledger.
    pub(super) fn learn_identities(&mut self, config: &Config, book: &mut Book) {
        let ports = book.ledger.attachments().filter_map(|it| Some((it, it.overlay()?)));
        let claimed: BTreeMap<String, String> =
            ports.map(|(it, port)| (port.logical_port.clone(), it.owner.uid().to_owned())).collect();
        self.southbound.ask_for(&claimed.keys().cloned().collect());
        let answers = self.southbound.ports(&claimed, &config.chassis.system_id, &config.profile);
        let mut learned = false;
        for attachment in book.ledger.attachments_mut() {
            let asks = attachment.is_host();
            let Some(port) = attachment.overlay_mut() else { continue };
            let said = answers.get(&port.logical_port).and_then(|(_, binding)| binding.clone());
            // The server's own port asks OVN for its address, whatever pods do.
            let said = said.map(|it| Binding { dhcp: it.dhcp || asks, ..it });
            if let Some(binding) = said
                && port.binding.as_ref() != Some(&binding)
            {
                info!(port = port.logical_port, mac = %binding.mac, ips = ?binding.ips, "identity learned");
                port.binding = Some(binding);
                learned = true;
            }
        }
        if learned {
            book.changed();
        }
        self.ports = answers.into_iter().map(|(name, (state, _))| (name, state)).collect();
    }

    /// What the CMS has written on the pod.
    pub(super) fn cms_word(
        &self,
        of: &Attachment,
        OverlayPort { logical_port: port, .. }: &OverlayPort,
        facts: &Facts<'_>,
    ) -> Result<Option<PodNetwork>, Missing> {
        let annotations = facts.directory.get(of.owner.uid()).map(|record| &record.annotations);
        let profile = &facts.config.profile;
        let external_ids = || self.southbound.external_ids(port);
        cms::word(&profile.kind, annotations, facts.is_new && !profile.dhcp, external_ids).map_err(|key| {
            let what = format!(
                "the API does not show the annotation {key}, which the CMS of {port} writes on its pod"
            );
            Missing { who: Who::Ovn, what }
        })
    }
}
