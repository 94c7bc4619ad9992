//! The server's representors as last seen, and what is done to them: all networks' backends share them.

pub mod plan;

use std::collections::BTreeMap;
use std::sync::Arc;

use offload::ids::VfId;
use tracing::info;

use crate::kernel::view::{LinkStep, RepView};
use crate::kernel::{KernelError, Seen};
use crate::metrics::{Metrics, OutcomeLabel};
use crate::outcome::Outcome;
use crate::platform::Links;

/// What is known of representors, and the kernel that has them.
#[derive(Debug)]
pub struct Representors<L> {
    kernel: L,
    /// What the kernel last showed.
    seen: Result<Seen, Arc<KernelError>>,
    /// As last seen: one that vanished keeps its port's name.
    names: BTreeMap<VfId, String>,
    metrics: Metrics,
}

impl<L: Links> Representors<L> {
    pub fn new(kernel: L, metrics: Metrics) -> Self {
        Self { kernel, seen: Err(Arc::new(KernelError::NotAsked)), names: BTreeMap::new(), metrics }
    }

    /// As of the last look.
    pub fn seen(&self) -> &Result<Seen, Arc<KernelError>> {
        &self.seen
    }

    /// None where they could not be seen.
    pub fn all(&self) -> &[RepView] {
        self.seen.as_ref().map(|seen| seen.reps.as_slice()).unwrap_or_default()
    }

    pub fn of(&self, vf: VfId) -> Option<&RepView> {
        plan::find(self.all(), vf)
    }

    pub fn name(&self, vf: VfId) -> Option<&String> {
        self.names.get(&vf)
    }

    pub async fn observe(&mut self, outcome: &mut Outcome) {
        self.seen = self.kernel.observe().await.map_err(Arc::new);
        match &self.seen {
            Ok(seen) => {
                if let Some(taken) = seen.asked {
                    let outcome = if taken { "taken" } else { "refused" };
                    self.metrics.offload_probes.get_or_create(&OutcomeLabel { outcome }).inc();
                }
                for rep in &seen.reps {
                    if let Some(vf) = rep.vf {
                        self.names.insert(vf, rep.name.clone());
                    }
                }
                let closed = seen.reps.iter().filter(|r| r.closed && !r.up).count();
                self.metrics.closed_representors.set(i64::try_from(closed).unwrap_or(i64::MAX));
            }
            Err(why) => outcome.failed("representors", why),
        }
    }

    pub async fn apply(&self, steps: Vec<LinkStep>, outcome: &mut Outcome) {
        outcome.steps += steps.len();
        for step in &steps {
            match step {
                LinkStep::Close { name, .. } => info!(representor = name, "closing representor"),
                LinkStep::Open { name, .. } => info!(representor = name, "opening representor"),
                LinkStep::SetMtu { name, mtu, .. } => info!(representor = name, mtu, "setting MTU"),
                LinkStep::SetMac { name, mac, .. } => info!(representor = name, %mac, "setting the VF's MAC"),
            }
        }
        if steps.is_empty() {
            return;
        }
        for error in self.kernel.apply(steps).await {
            outcome.failed("representors", error);
        }
    }

    /// All flows are made again: what is known of the old ones says nothing of them.
    pub fn forget_flows(&self) {
        self.kernel.forget_flows();
    }
}
