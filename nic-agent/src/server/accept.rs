//! From a TCP connection to one whose client showed a certificate of the right CA.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::{CertificateError, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::connection::Connection;
use super::identity::HostIdentity;
use crate::log::Throttle;
use crate::metrics::Metrics;

/// After an error of accept(2) itself, such as EMFILE.
const PAUSE: Duration = Duration::from_millis(100);

/// Connections at a time of clients that hold another host's certificate: enough to be told so, too few to matter.
const STRANGERS: usize = 4;

/// How long, and for how much, a client that was refused is listened to.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 << 10;

#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) handshake: Duration,
    pub(super) preface: Duration,
    pub(super) lifetime: Duration,
    pub(super) connections: usize,
}

#[derive(Debug)]
pub(super) struct Acceptor {
    bounds: Bounds,
    identity: HostIdentity,
    tls: watch::Receiver<Arc<ServerConfig>>,
    metrics: Metrics,
    kill: CancellationToken,
    slots: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

impl Acceptor {
    pub(super) fn new(
        bounds: Bounds,
        identity: HostIdentity,
        tls: watch::Receiver<Arc<ServerConfig>>,
        metrics: Metrics,
        kill: CancellationToken,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(bounds.connections));
        Self { bounds, identity, tls, metrics, kill, slots, strangers: Arc::new(Semaphore::new(STRANGERS)) }
    }

    /// Accepts until it is dropped or nobody takes the connections.
    pub(super) async fn run(
        self: Arc<Self>,
        listener: TcpListener,
        connections: mpsc::Sender<io::Result<Connection>>,
    ) {
        let mut handshakes = JoinSet::new();
        let mut oldest: VecDeque<AbortHandle> = VecDeque::new();
        let throttle = Throttle::new(self.metrics.lines_withheld.clone());
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                Some(_) = handshakes.join_next() => continue,
                () = connections.closed() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    if let Some(withheld) = throttle.admit() {
                        warn!(%error, withheld, "cannot accept a connection");
                    }
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            oldest.retain(|handshake| !handshake.is_finished());
            if oldest.len() >= self.bounds.connections
                && let Some(handshake) = oldest.pop_front()
            {
                // Half-open connections must not keep the honest out; an honest handshake takes milliseconds.
                handshake.abort();
                self.metrics.tls_failure("evicted");
            }
            let (acceptor, connections) = (Arc::clone(&self), connections.clone());
            oldest.push_back(
                handshakes.spawn(async move { acceptor.admit(stream, address, connections).await }),
            );
        }
    }

    async fn admit(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        connections: mpsc::Sender<io::Result<Connection>>,
    ) {
        // Requests are small and answered at once: nothing is gained by waiting for more bytes.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%address, %error, "connection is gone already");
            return;
        }
        let tls = TlsAcceptor::from(Arc::clone(&self.tls.borrow()));
        let accept = tls.accept(stream).into_fallible();
        let stream = match tokio::time::timeout(self.bounds.handshake, accept).await {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, stream))) => {
                let cause = cause(&error);
                self.metrics.tls_failure(cause);
                debug!(%address, cause, %error, "TLS handshake failed");
                linger(stream).await;
                return;
            }
            Err(_) => {
                self.metrics.tls_failure("timeout");
                debug!(%address, cause = "timeout", "TLS handshake failed");
                return;
            }
        };
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let peer = self.identity.peer(address, leaf);
        let slots = if peer.is_our_host { &self.slots } else { &self.strangers };
        let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
            self.metrics.connections_refused.inc();
            debug!(%address, is_our_host = peer.is_our_host, "too many connections, closing this one");
            return;
        };
        let times = (self.bounds.preface, self.bounds.lifetime);
        let gauge = self.metrics.connections.clone();
        let connection = Connection::new(stream, peer, slot, times, self.kill.clone(), gauge);
        // Nobody listens any more: we are stopping.
        let _ = connections.send(Ok(connection)).await;
    }
}

/// Until the client has heard the alert: a connection closed with bytes unread is reset, and a reset takes away what was
/// sent before. A client of TLS 1.3 sends its first request along with its certificate.
async fn linger(mut stream: TcpStream) {
    let until_it_hangs_up = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // Whether it did is no concern of ours.
    let _ = tokio::time::timeout(LINGER, until_it_hangs_up).await;
}

/// A handshake's failure in one of few words, for the metrics.
fn cause(error: &io::Error) -> &'static str {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return "closed";
    };
    match error {
        rustls::Error::NoCertificatesPresented => "no-certificate",
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => "unknown-issuer",
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "not-valid-yet",
            CertificateError::BadSignature => "bad-signature",
            _ => "bad-certificate",
        },
        rustls::Error::DecryptError | rustls::Error::PeerMisbehaved(_) => "bad-signature",
        rustls::Error::PeerIncompatible(_) | rustls::Error::NoApplicationProtocol => "incompatible",
        rustls::Error::AlertReceived(_) => "alert",
        _ => "garbage",
    }
}
