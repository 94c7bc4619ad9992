//! What a pass tells the rest of the agent.

use std::collections::BTreeMap;
use std::sync::Arc;

use tracing::{info, warn};

use super::Reconciler;
use super::management::ManagementError;
use crate::attachment::{AttachmentId, OverlayPort};
use crate::backend::{Backend as _, Facts};
use crate::config::Config;
use crate::intent::{Intents, PodIntent};
use crate::outcome::Outcome;
use crate::platform::Platform;
use crate::profile::Answer;
use crate::published::{Entry, Health, Published, State, Wiring};

impl<P: Platform> Reconciler<P> {
    /// `management`: whether the management port is in the ledger, if it should be.
    pub(super) fn publish(
        &mut self,
        config: &Config,
        intents: &Intents,
        management: &Result<(), ManagementError>,
        outcome: &Outcome,
    ) {
        let mut published = Published {
            attachments: BTreeMap::new(),
            health: self.health(),
            passes: self.publish.borrow().passes + 1,
            steps: outcome.steps,
            policy: self.policy_status(intents, config),
            management: None,
        };
        let directory = self.inputs.directories.borrow().clone();
        let now = self.clock.now();
        let mut of_host = None;
        let mut unused = Vec::new();
        for attachment in self.book.ledger.attachments() {
            let (id, zone) = (attachment.id(), attachment.port.zone());
            let Some(OverlayPort { logical_port, binding, .. }) = attachment.overlay() else { continue };
            let facts = Facts {
                config,
                directory: &directory,
                representor: self.representors.of(attachment.vf),
                policy: intents.get(&id).map_or(Err("not looked at yet"), PodIntent::policy_known),
                is_new: !self.tickets.is_ready(&id),
            };
            let ready = self.overlay.ready(attachment, &facts);
            if let Some(Some(waited)) = self.records.get_mut(&id).map(|it| &mut it.waited) {
                waited.until(now, ready.as_ref().err().map(|missing| missing.who));
            }
            let (state, remarks) = match ready {
                Ok(Answer { attached, remarks }) => {
                    if self.tickets.set_ready(&id) {
                        info!(key = %id, pod = %attachment.owner, port = logical_port, "attachment ready");
                    }
                    if let Some(waited) = self.records.get_mut(&id).and_then(|it| it.waited.take()) {
                        waited.count(&self.metrics);
                    }
                    (State::Ready(Arc::new(attached)), remarks)
                }
                Err(missing) => (State::Waiting(missing.what), Vec::new()),
            };
            unused.push((id.clone(), remarks.clone()));
            let (Some(key), Some(claim)) = (id.sandbox(), attachment.claim()) else {
                of_host = Some(state);
                continue;
            };
            let wiring = Wiring {
                zone,
                logical_port: logical_port.clone(),
                binding: binding.clone(),
                representor: self.representors.name(attachment.vf).cloned(),
            };
            let problem = self.records.get(&id).and_then(|it| it.reported.clone());
            let token = self.tickets.token(key);
            let entry = Entry { claim, token, wiring, state, remarks, problem };
            published.attachments.insert(key.clone(), entry);
        }
        for (id, remarks) in unused {
            self.tell_unused(&id, &remarks);
        }
        published.management = self.management(config, management, of_host);
        self.publish.send_replace(Arc::new(published));
    }

    /// Once for each change.
    fn tell_unused(&mut self, of: &AttachmentId, unused: &[String]) {
        let record = self.records.entry(of.clone()).or_default();
        if !unused.is_empty() && record.remarks != unused {
            warn!(key = %of, ?unused, "what the CMS has written on the pod is not all used");
        }
        unused.clone_into(&mut record.remarks);
    }

    fn health(&self) -> Health {
        let why = self.representors.seen().as_ref().err();
        let mut health = Health {
            representors: why.map(|why| format!("representors: {why}")),
            cluster: self.inputs.health.as_ref().and_then(|it| it.borrow().clone().err()),
            vfs: self.representors.all().iter().filter(|rep| rep.vf.is_some()).count(),
            ..Health::default()
        };
        self.overlay.health(&mut health);
        health
    }
}
