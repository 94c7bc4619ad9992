//! Policy from a file, without a cluster: read once a second and at SIGHUP, compiled by what has changed since.
//!
//! Failure: a file that is gone or turns bad changes nothing that is in force, and is reported once. A file that could
//! never be read leaves policy unknown: see [`Policies::Unknown`].

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::feed::Feed;
use super::{Policies, PolicyWatch};
use crate::config;
use crate::metrics::Metrics;
use crate::policy::{ObjectKind, Settings, Snapshot};
use crate::service_manager::Heartbeat;

const POLL: Duration = Duration::from_secs(1);

/// Follows the configured file until cancelled. What it holds at first is there when this returns.
pub fn start(
    configured: &config::Policy,
    node: &str,
    metrics: &Metrics,
    heartbeat: Heartbeat,
    cancel: CancellationToken,
) -> (PolicyWatch, impl Future<Output = ()> + Send + 'static) {
    let settings = Settings {
        node: node.into(),
        zone: "".into(),
        node_addresses: configured.node_addresses.iter().copied().collect(),
        budget: configured.budget,
    };
    let mut source = configured.file.clone().map(|path| Source::new(path, settings, metrics));
    let first = source.as_mut().map_or(Policies::Off, Source::look_first);
    let (publish, policies) = watch::channel(first);
    let follow = async move {
        let Some(mut source) = source else {
            // Nothing to compile, and so nothing that could stand still.
            return beat(&heartbeat, &cancel).await;
        };
        let mut tick = tokio::time::interval(POLL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Without it the file is looked at all the same, a little later.
        let mut hangup =
            signal(SignalKind::hangup()).inspect_err(|e| warn!(error = %e, "SIGHUP not heard")).ok();
        let asked = async |hangup: &mut Option<Signal>| match hangup {
            Some(hangup) => drop(hangup.recv().await),
            None => std::future::pending().await,
        };
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = tick.tick() => {}
                () = asked(&mut hangup) => {}
            }
            heartbeat.tick();
            let looked = spawn_blocking(move || {
                let policies = source.look();
                (source, policies)
            });
            let policies;
            (source, policies) = match looked.await {
                Ok(looked) => looked,
                // The heart stops, and the watchdog sees to the rest.
                Err(error) => return error!(%error, "policy compiler ended"),
            };
            if let Some(policies) = policies {
                publish.send_replace(policies);
            }
        }
    };
    (policies, follow)
}

async fn beat(heartbeat: &Heartbeat, cancel: &CancellationToken) {
    let mut tick = tokio::time::interval(POLL);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = tick.tick() => heartbeat.tick(),
        }
    }
}

struct Source {
    path: PathBuf,
    /// What the file held when it was last read, good or bad.
    text: Vec<u8>,
    /// What is in force.
    feed: Feed,
    /// Reported, and still so.
    error: Option<String>,
}

impl Source {
    fn new(path: PathBuf, settings: Settings, metrics: &Metrics) -> Self {
        Self { path, text: Vec::new(), feed: Feed::of_file(settings, metrics.clone()), error: None }
    }

    fn look_first(&mut self) -> Policies {
        self.look().unwrap_or_else(|| Policies::Unknown {
            why: self.error.clone().unwrap_or_else(|| "the policy file was not read yet".to_owned()),
        })
    }

    /// `None`: nothing new.
    fn look(&mut self) -> Option<Policies> {
        let read = std::fs::read(&self.path).map_err(|e| format!("policy.file {}: {e}", self.path.display()));
        let parsed = read.and_then(|text| {
            if text == self.text {
                return Ok(None);
            }
            self.text = text;
            Snapshot::parse(&self.path, &self.text).map(Some).map_err(|e| e.to_string())
        });
        match parsed {
            Ok(None) => None,
            Ok(Some(snapshot)) => {
                if self.error.take().is_some() {
                    info!("policy file readable again");
                }
                self.take_over(snapshot);
                Some(Policies::Known(self.feed.known()))
            }
            Err(error) => {
                if self.error.as_ref() != Some(&error) {
                    warn!(error, "policy file not readable, what is in force stays");
                    self.error = Some(error);
                }
                None
            }
        }
    }

    fn take_over(&mut self, snapshot: Snapshot) {
        for kind in ObjectKind::ALL {
            self.feed.only(kind, &snapshot.names(kind));
        }
        for change in snapshot.into_changes() {
            self.feed.put(change);
        }
        self.feed.settle(digest(&self.text));
        info!("policy file taken over");
    }
}

/// As `sha256sum` prints it.
fn digest(text: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text);
    digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        // Writing into a String does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use offload::policy::PodPolicy;

    use super::*;

    fn cluster(policies: &str) -> String {
        format!(
            r#"{{"kind": "List", "items": [
                {{"kind": "Namespace", "metadata": {{"name": "default"}}}},
                {{"kind": "Pod", "metadata": {{"namespace": "default", "name": "a", "uid": "u-a"}},
                  "spec": {{"nodeName": "server1", "containers": []}},
                  "status": {{"phase": "Running", "podIPs": [{{"ip": "10.0.0.1"}}]}}}}
                {policies}]}}"#
        )
    }

    const DENY: &str = r#", {"kind": "NetworkPolicy",
        "metadata": {"namespace": "default", "name": "deny", "uid": "u-p"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}"#;

    fn source(path: PathBuf) -> Source {
        let settings = Settings {
            node: "server1".into(),
            zone: "".into(),
            node_addresses: offload::policy::PrefixSet::default(),
            budget: crate::policy::Budget::default(),
        };
        Source::new(path, settings, &Metrics::new())
    }

    fn of_a(policies: &Policies) -> Arc<PodPolicy> {
        match policies {
            Policies::Known(known) => known.pods["u-a"].clone(),
            other => panic!("{other:?}"),
        }
    }

    fn source_of(policies: &Policies) -> &str {
        match policies {
            Policies::Known(known) => &known.source,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_digest_is_what_sha256sum_prints() {
        assert_eq!(digest(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn a_file_is_followed_and_a_bad_one_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy.json");
        let mut source = source(path.clone());
        assert!(matches!(source.look_first(), Policies::Unknown { why } if why.contains("policy.json")));

        std::fs::write(&path, cluster("")).unwrap();
        let open = source.look().unwrap();
        assert_eq!(*of_a(&open), PodPolicy::default());
        assert!(source.look().is_none(), "nothing new");

        std::fs::write(&path, cluster(DENY)).unwrap();
        let known = source.look().unwrap();
        let denied = of_a(&known);
        assert!(!denied.ingress.is_open() && denied.egress.is_open());

        assert_ne!(source_of(&known), source_of(&open), "each text is told from the others");

        std::fs::write(&path, "{").unwrap();
        assert!(source.look().is_none() && source.error.is_some());
        std::fs::remove_file(&path).unwrap();
        assert!(source.look().is_none() && source.error.is_some());

        std::fs::write(&path, cluster("")).unwrap();
        assert_eq!(*of_a(&source.look().unwrap()), PodPolicy::default());
        assert!(source.error.is_none());
    }
}
