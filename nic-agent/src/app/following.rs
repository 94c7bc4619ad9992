//! Follows the two sources of configuration, the file and the NicNode, and says what became of them.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::cluster::configuration::{Layers, Report};
use crate::cluster::own_node::Own;
use crate::config::{Config, Source};
use crate::log::Logging;
use crate::metrics::Metrics;
use crate::server::Shims;
use crate::service_manager::ServiceManager;

pub(super) struct Following {
    pub(super) source: Source,
    pub(super) layers: Layers,
    /// Its sender is gone where there is no cluster.
    pub(super) own: watch::Receiver<Own>,
    pub(super) report: watch::Sender<Report>,
    pub(super) config: watch::Sender<Arc<Config>>,
    pub(super) logging: Logging,
    pub(super) metrics: Metrics,
    pub(super) manager: ServiceManager,
    pub(super) shims: watch::Sender<Shims>,
}

impl Following {
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        loop {
            let file = tokio::select! {
                () = cancel.cancelled() => return,
                file = self.source.next_change() => Some(file),
                Ok(()) = self.own.changed() => None,
            };
            match file {
                Some(Ok(file)) => self.layers.set_file(file),
                Some(Err(e)) => {
                    self.refuse(&e.to_string());
                    continue;
                }
                None => {
                    let own = self.own.borrow_and_update().clone();
                    if !self.layers.set_own(&own) {
                        self.admit();
                        continue;
                    }
                }
            }
            let report = match self.layers.wanted() {
                Ok(wanted) => {
                    let waiting = self.take_over(&wanted);
                    self.layers.report(Ok(&waiting))
                }
                Err(problems) => {
                    self.refuse(&problems.join("\n"));
                    self.layers.report(Err(&problems))
                }
            };
            self.report.send_replace(report);
            self.admit();
        }
    }

    /// Says who may speak for the server.
    fn admit(&self) {
        let now = self.layers.shims(&self.config.borrow(), &self.own.borrow());
        self.shims.send_if_modified(|shims| {
            let changed = *shims != now;
            if changed {
                info!(
                    keys = now.keys.len(),
                    revoked = now.revoked,
                    "who may speak for the server has changed"
                );
                shims.clone_from(&now);
            }
            changed
        });
    }

    fn refuse(&self, error: &str) {
        self.metrics.config_rejected.inc();
        error!(error, "configuration refused, the last good one stays in force");
    }

    /// Answers with the keys that wait for a restart.
    fn take_over(&self, new: &Config) -> Vec<&'static str> {
        self.manager.reloading();
        let restart = self.config.borrow().needs_restart(new);
        if !restart.is_empty() {
            warn!(keys = restart.join(", "), "these keys wait for a restart of nic-agent");
        }
        if let Err(e) = self.logging.set_level(&new.log.level) {
            warn!(error = %e, "log level stays");
        }
        info!("configuration taken over");
        let adopted = self.config.borrow().adopt(new);
        self.config.send_replace(Arc::new(adopted));
        self.manager.ready("configuration taken over");
        restart
    }
}
