//! Our certificate and the CA of the host-shim's, read from files that may change under way.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

#[derive(Debug, Clone)]
pub(super) struct TlsFiles {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) client_ca: PathBuf,
}

/// Why the certificates will not do. The keys are those of the configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{key} = {}: cannot be read: {source}; put the PEM file there or name another", path.display())]
    Read {
        key: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{key} = {}: {problem}; put PEM there", path.display())]
    Pem { key: &'static str, path: PathBuf, problem: String },
    #[error("server.cert = {} and server.key = {}: {source}; put a certificate and its own key there", cert.display(), key.display())]
    Pair {
        cert: PathBuf,
        key: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("TLS cannot be set up: {0}")]
    Rustls(String),
}

/// What the files held.
#[derive(PartialEq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Vec<u8>,
}

impl TlsFiles {
    fn read(&self) -> Result<Contents, TlsError> {
        let read = |key, path: &Path| {
            std::fs::read(path).map_err(|source| TlsError::Read { key, path: path.to_owned(), source })
        };
        Ok(Contents {
            cert: read("server.cert", &self.cert)?,
            key: read("server.key", &self.key)?,
            client_ca: read("server.client-ca", &self.client_ca)?,
        })
    }

    fn config(&self, contents: &Contents) -> Result<ServerConfig, TlsError> {
        let pem = |key, path: &Path, problem: String| TlsError::Pem { key, path: path.to_owned(), problem };
        let certificates = |key, path: &Path, bytes: &[u8]| {
            let list = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
            match list {
                Ok(list) if list.is_empty() => Err(pem(key, path, "holds no certificate".to_owned())),
                Ok(list) => Ok(list),
                Err(error) => Err(pem(key, path, error.to_string())),
            }
        };
        let chain = certificates("server.cert", &self.cert, &contents.cert)?;
        let private_key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|error| pem("server.key", &self.key, error.to_string()))?;
        let mut roots = RootCertStore::empty();
        for root in certificates("server.client-ca", &self.client_ca, &contents.client_ca)? {
            roots.add(root).map_err(|error| pem("server.client-ca", &self.client_ca, error.to_string()))?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|error| pem("server.client-ca", &self.client_ca, error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| TlsError::Rustls(error.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, private_key)
            .map_err(|source| TlsError::Pair { cert: self.cert.clone(), key: self.key.clone(), source })?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would outlive its certificate: rustls checks the chain in full handshakes only.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// Keeps the TLS configuration at what the files say, or said when they last made sense.
pub(super) struct Reloader {
    files: TlsFiles,
    /// What was looked at last, good or bad: `None` when it could not even be read.
    seen: Option<Contents>,
    current: watch::Sender<Arc<ServerConfig>>,
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the contents: one is a private key.
        f.debug_struct("Reloader").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Reloader {
    pub(super) fn new(files: TlsFiles) -> Result<Self, TlsError> {
        let contents = files.read()?;
        let config = files.config(&contents)?;
        Ok(Self { files, seen: Some(contents), current: watch::Sender::new(Arc::new(config)) })
    }

    pub(super) fn current(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.current.subscribe()
    }

    pub(super) async fn run(mut self, every: Duration) {
        let mut interval = tokio::time::interval(every);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.look();
        }
    }

    /// Says once what became of each new content.
    fn look(&mut self) {
        let contents = match self.files.read() {
            Ok(contents) => contents,
            Err(error) => {
                if self.seen.take().is_some() {
                    warn!(%error, "certificates cannot be read, keeping the ones in use");
                }
                return;
            }
        };
        if self.seen.as_ref() == Some(&contents) {
            return;
        }
        match self.files.config(&contents) {
            Ok(config) => {
                self.current.send_replace(Arc::new(config));
                info!("certificates replaced");
            }
            Err(error) => warn!(%error, "new certificates are no good, keeping the ones in use"),
        }
        self.seen = Some(contents);
    }
}
