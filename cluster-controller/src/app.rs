//! Puts the parts together.

use std::net::SocketAddr;

use exposition::Ends;
use kube::Client;
use ovsdb_session::{Options, Session};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::cluster::object::VfResources;
use crate::controller::Controller;
use crate::health;
use crate::lease::{Candidate, Timing};
use crate::metrics::Metrics;
use crate::publish::Publisher;
use crate::settings::Settings;
use crate::taint::{self, write::Tainter};
use crate::watch;

/// Changes on their way. Few: a list waits rather than to be held twice.
const INPUTS: usize = 256;

/// What it takes.
#[derive(Clone, Debug)]
pub struct Config {
    pub settings: Settings,
    pub resources: VfResources,
    pub northbound: Options,
    pub listen: SocketAddr,
    pub lease_namespace: String,
    pub lease_name: String,
    /// Another for each process.
    pub identity: String,
    pub timing: Timing,
    pub taints: taint::Timing,
}

/// One controller.
pub struct App {
    config: Config,
    client: Client,
    listener: TcpListener,
    cancel: CancellationToken,
}

impl App {
    pub async fn build(config: Config, client: Client) -> std::io::Result<Self> {
        let listener = health::bind(config.listen).await?;
        Ok(Self { config, client, listener, cancel: CancellationToken::new() })
    }

    /// Where health and metrics are.
    pub fn listens_at(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Ends it.
    pub fn canceller(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Runs until it is cancelled; the Lease is given up when nothing is written any more.
    pub async fn run(self) {
        let Self { config, client, listener, cancel } = self;
        let metrics = Metrics::default();
        if let Some(tls) = &config.northbound.tls {
            metrics.certificates.follow_file("northbound.certificate", Ends::First, tls.certificate.clone());
            metrics.certificates.follow_file("northbound.ca-cert", Ends::Last, tls.ca.clone());
        }
        let session = Session::start(config.northbound);
        let (sender, inputs) = mpsc::channel(INPUTS);
        let (mut candidate, leading) = Candidate::new(
            client.clone(),
            &config.lease_namespace,
            &config.lease_name,
            &config.identity,
            config.timing,
        );
        let (controller, health) = Controller::new(
            config.settings,
            session,
            inputs,
            leading.clone(),
            config.identity.clone(),
            metrics.clone(),
            config.taints,
        );
        let tainter = Tainter {
            client: client.clone(),
            wanted: controller.taints(),
            leading: leading.clone(),
            identity: config.identity,
            metrics: metrics.clone(),
        };
        let tainted = tokio::spawn(tainter.run(cancel.clone()));
        let publisher = Publisher {
            client: client.clone(),
            namespace: config.lease_namespace,
            wanted: controller.wanted(),
            leading,
        };
        let published = tokio::spawn(publisher.run(cancel.clone()));
        let mut watches = watch::start(&client, &config.resources, &sender, &metrics);
        drop(sender);
        let served = tokio::spawn(health::serve(listener, metrics, health, cancel.clone()));
        // Whichever ends first takes the other along: a candidate whose controller is gone must not stay leader.
        let controlled = tokio::spawn({
            let cancel = cancel.clone();
            async move {
                let _ended = cancel.clone().drop_guard();
                controller.run(cancel).await;
            }
        });
        candidate.run(&cancel).await;
        if let Err(error) = controlled.await {
            error!(%error, "the controller's task failed");
        }
        if let Err(error) = published.await {
            error!(%error, "the publisher's task failed");
        }
        if let Err(error) = tainted.await {
            error!(%error, "the task of the nodes' taints failed");
        }
        watches.shutdown().await;
        candidate.release().await;
        match served.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!(%error, "health and metrics were not served"),
            Err(error) => error!(%error, "the endpoint's task failed"),
        }
    }
}
