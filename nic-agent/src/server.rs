//! The gRPC server that the host-shim talks to: mutual TLS, one host's identity, and bounds on everything a hostile host
//! may send.
//!
//! ```text
//! TcpListener ─ handshake (bounded, timed) ─ slot ─► tonic ─ identity ─ form ─► Attachments
//!                    ▲ rustls::ServerConfig, replaced when the files change
//! ```
//!
//! Owns the listeners, their certificates and every connection. It never believes a claim: it checks who speaks and
//! whether the request is well-formed, and hands it to [`Attachments`]. A request's future is dropped when its client
//! goes away or its deadline passes, so an implementation must be able to stop at any await.
//!
//! Failure: certificates that are bad at the start are an error; new ones that are bad leave the old in force. Whatever
//! one connection does, others go on: handshakes, connections, streams, header lists and messages are bounded, the oldest
//! unfinished handshake makes room for a new one, and each key may ask for each thing so often.

mod accept;
mod answer;
mod budget;
mod connection;
mod deadline;
mod form;
mod identity;
mod service;
mod shims;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use proto::v1::nic_agent_server::NicAgentServer;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::health_server::HealthServer;
use tower::util::MapResponseLayer;
use tracing::{info, warn};

use crate::claim::Attachments;
use crate::config;
use crate::metrics::Metrics;
use accept::Acceptor;
use budget::Budgets;
pub use budget::Rates;
use identity::HostIdentity;
use service::Service;
pub use shims::Shims;
pub use tls::TlsError;
use tls::{Reloader, TlsFiles};

/// A request of ours has some hundred bytes.
const MAX_MESSAGE: usize = 64 << 10;
const MAX_HEADER_LIST: u32 = 16 << 10;
const MAX_STREAMS: u32 = 32;
/// HTTP/2's own first window: an unread message holds no more than this.
const STREAM_WINDOW: u32 = 65_535;
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;
/// Streams that were reset before we looked at them (CVE-2023-44487, "rapid reset").
const MAX_PENDING_RESETS: usize = 16;
/// Streams that we reset for the client's mistakes.
const MAX_ERROR_RESETS: usize = 32;
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// What a request may take beyond the attach's own time-out: its body may come slowly.
const REQUEST_GRACE: Duration = Duration::from_secs(5);
const BACKLOG: u32 = 128;

/// Bounds that a deployment has no reason to change; a test has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the TCP connection to the end of the TLS handshake.
    pub handshake: Duration,
    /// From there to HTTP/2's preface.
    pub preface: Duration,
    /// A connection older than this is asked to end, and is ended once its requests must be done.
    pub connection_age: Duration,
    /// How often the certificates' files are read.
    pub reload: Duration,
    /// What requests under way have left once we stop.
    pub drain: Duration,
    /// How often each key may ask for what.
    pub rates: Rates,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            preface: Duration::from_secs(10),
            connection_age: Duration::from_mins(5),
            reload: Duration::from_secs(10),
            drain: Duration::from_secs(5),
            rates: Rates::default(),
        }
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error(
        "server.listen = {address}: cannot listen: {source}; name an address that nobody else listens on"
    )]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("node.host-identity = {0:?}: no DNS name; write the one that the client certificate holds")]
    HostIdentity(String),
    #[error("gRPC server ended: {0}")]
    Serve(#[source] tonic::transport::Error),
}

/// Bound, with good certificates, and not yet serving.
#[derive(Debug)]
pub struct Server<A> {
    config: config::Server,
    limits: Limits,
    identity: HostIdentity,
    listeners: Vec<TcpListener>,
    local_addrs: Vec<SocketAddr>,
    reloader: Reloader,
    attachments: Arc<A>,
    metrics: Metrics,
    shims: watch::Receiver<Shims>,
}

impl<A: Attachments> Server<A> {
    pub fn bind(
        config: &config::Server,
        node: &config::Node,
        attachments: A,
        metrics: Metrics,
    ) -> Result<Self, ServerError> {
        Self::bind_within(Limits::default(), config, node, attachments, metrics)
    }

    pub fn bind_within(
        limits: Limits,
        config: &config::Server,
        node: &config::Node,
        attachments: A,
        metrics: Metrics,
    ) -> Result<Self, ServerError> {
        let identity = HostIdentity::new(&node.host_identity)
            .ok_or_else(|| ServerError::HostIdentity(node.host_identity.clone()))?;
        let files = TlsFiles {
            cert: config.cert.clone(),
            key: config.key.clone(),
            client_ca: config.client_ca.clone(),
        };
        let reloader = Reloader::new(files)?;
        let mut listeners = Vec::new();
        let mut local_addrs = Vec::new();
        for &address in &config.listen {
            let listen = || {
                let listener = listen(address)?;
                let local = listener.local_addr()?;
                Ok((listener, local))
            };
            let (listener, local) = listen().map_err(|source| ServerError::Listen { address, source })?;
            listeners.push(listener);
            local_addrs.push(local);
        }
        let attachments = Arc::new(attachments);
        Ok(Self {
            config: config.clone(),
            limits,
            identity,
            listeners,
            local_addrs,
            reloader,
            attachments,
            metrics,
            shims: watch::channel(Shims::default()).1,
        })
    }

    /// Who may speak for the server, from now on; without this, whoever's certificate is good.
    #[must_use]
    pub fn admitting(self, shims: watch::Receiver<Shims>) -> Self {
        Self { shims, ..self }
    }

    /// In the order of `server.listen`.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Serves until `cancel`; then takes no new requests and gives those under way [`Limits::drain`].
    pub async fn run(self, cancel: CancellationToken) -> Result<(), ServerError> {
        let Self { config, limits, identity, listeners, local_addrs, reloader, attachments, metrics, shims } =
            self;
        // Ends every connection, whatever it is doing.
        let kill = CancellationToken::new();
        let _kill_on_return = kill.clone().drop_guard();
        let longest_request = config.attach_timeout + REQUEST_GRACE;
        let (connections, incoming) = mpsc::channel(1);
        let acceptor = Arc::new(Acceptor::new(
            accept::Bounds {
                handshake: limits.handshake,
                preface: limits.preface,
                lifetime: limits.connection_age + longest_request,
                connections: config.max_connections,
            },
            identity.clone(),
            reloader.current(),
            metrics.clone(),
            kill.clone(),
        ));
        let mut tasks = JoinSet::new();
        for listener in listeners {
            let (acceptor, connections) = (Arc::clone(&acceptor), connections.clone());
            tasks.spawn(async move { acceptor.run(listener, connections).await });
        }
        drop(connections);
        tasks.spawn(reloader.run(limits.reload));

        let budgets = Budgets::new(limits.rates);
        let service =
            Service::new(attachments, identity, shims, config.attach_timeout, budgets, metrics.clone());
        let service = Arc::new(service);
        let router = tonic::transport::Server::builder()
            .layer(MapResponseLayer::new(move |response| answer::with_reason(response, &metrics)))
            .timeout(longest_request)
            .max_connection_age(limits.connection_age)
            .max_concurrent_streams(MAX_STREAMS)
            .concurrency_limit_per_connection(usize::try_from(MAX_STREAMS).unwrap_or(usize::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_header_list_size(MAX_HEADER_LIST)
            .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
            .http2_max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .add_service(
                NicAgentServer::from_arc(Arc::clone(&service)).max_decoding_message_size(MAX_MESSAGE),
            )
            .add_service(HealthServer::from_arc(service).max_decoding_message_size(MAX_MESSAGE));
        let serve = router
            .serve_with_incoming_shutdown(ReceiverStream::new(incoming), cancel.clone().cancelled_owned());
        tokio::pin!(serve);
        info!(addresses = ?local_addrs, "listening for the host-shim");

        let overdue = async {
            cancel.cancelled().await;
            tasks.shutdown().await;
            tokio::time::sleep(limits.drain).await;
        };
        tokio::select! {
            served = &mut serve => return served.map_err(ServerError::Serve),
            () = overdue => {}
        }
        warn!(
            drain_seconds = limits.drain.as_secs(),
            "requests were under way for too long, closing their connections"
        );
        kill.cancel();
        serve.await.map_err(ServerError::Serve)
    }
}

/// Also on an address that is not there yet: tmfifo_net0 may get its own after we start, and no order of units says
/// when.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
