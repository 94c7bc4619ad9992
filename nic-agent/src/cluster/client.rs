//! From a kubeconfig to clients of the Kubernetes API, and to new ones when a credential is renewed.
//!
//! What is asked of a kubeconfig is stricter than what `kubectl` takes: `https`, the CA that signed the server's
//! certificate, and a credential that is data or a file; nothing is run to get one, and no proxy of the environment is
//! used. A token's file is read again by the client itself, at least once a minute; all other files here.
//!
//! Failure: a kubeconfig that cannot be used leaves the clients that were made of the last good one in use.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{HeaderValue, USER_AGENT};
use kube::Client;
use kube::client::ClientBuilder;
use kube::config::{AuthInfo, Cluster, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube_watch::Answered;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::util::MapResponseLayer;
use tracing::{info, warn};

use crate::kubeconfig::current;

/// How often the files are looked at.
const POLL: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 10_000 });
const CONNECT: Duration = Duration::from_secs(10);
/// A watch hears a bookmark about once a minute; a connection that is silent for longer is dead.
const SILENCE: Duration = Duration::from_secs(100);

const AGENT: &str = concat!("nic-agent/", env!("CARGO_PKG_VERSION"));

/// Why a kubeconfig gives no client.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("{path}: {}", told(&**source))]
    Kubeconfig { path: PathBuf, source: Box<KubeconfigError> },
    #[error("{path}: the cluster of its current context {what}")]
    Cluster { path: PathBuf, what: &'static str },
    #[error("{path}: the user of its current context {what}")]
    User { path: PathBuf, what: &'static str },
    #[error("{path}: {}", told(&**source))]
    Client { path: PathBuf, source: Box<kube::Error> },
}

fn told(error: &(dyn std::error::Error + 'static)) -> String {
    kube_watch::chain(error)
}

/// What a kubeconfig said when it was read. Makes clients; each has connections of its own.
#[derive(Debug, Clone)]
pub struct Access {
    path: PathBuf,
    config: kube::Config,
    /// Of all that was read for it.
    digest: [u8; 32],
}

/// The newest, or why there is none yet.
pub type Accesses = kube_watch::Accesses<Access>;

impl Access {
    pub async fn load(path: &Path) -> Result<Self, AccessError> {
        let failed = |source| AccessError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
        let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
        let digest = digest(path, &kubeconfig);
        let (cluster, user) = current(&kubeconfig);
        if let Some(what) = cluster.and_then(cluster_fault) {
            return Err(AccessError::Cluster { path: path.to_owned(), what });
        }
        if let Some(what) = user.and_then(user_fault) {
            return Err(AccessError::User { path: path.to_owned(), what });
        }
        let options = KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(failed)?;
        // That of the environment is not meant for us.
        config.proxy_url = None;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(SILENCE);
        // Whoever asks waits as he sees fit, and hears why.
        config.default_retry = false;
        config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
        let access = Self { path: path.to_owned(), config, digest };
        access.client()?;
        Ok(access)
    }

    pub fn client(&self) -> Result<Client, AccessError> {
        let builder = ClientBuilder::try_from(self.config.clone());
        Ok(builder.map_err(|e| self.failed(e))?.build())
    }

    fn failed(&self, source: kube::Error) -> AccessError {
        AccessError::Client { path: self.path.clone(), source: Box::new(source) }
    }
}

impl kube_watch::Access for Access {
    fn watched_client(&self, answered: Answered) -> Result<Client, String> {
        let note = move |response: axum::http::Response<_>| {
            if response.status().is_success() {
                answered();
            }
            response
        };
        let builder = ClientBuilder::try_from(self.config.clone());
        let builder = builder.map_err(|e| self.failed(e).to_string())?;
        Ok(builder.with_layer(&MapResponseLayer::new(note)).build())
    }
}

fn cluster_fault(cluster: &Cluster) -> Option<&'static str> {
    if cluster.insecure_skip_tls_verify == Some(true) {
        return Some("has insecure-skip-tls-verify: write certificate-authority instead");
    }
    if cluster.certificate_authority.is_none() && cluster.certificate_authority_data.is_none() {
        return Some("has no certificate-authority: write the CA that signed the API server's certificate");
    }
    if cluster.proxy_url.as_ref().is_some_and(|it| !it.is_empty()) {
        return Some("has a proxy-url: nic-agent uses none, remove it");
    }
    let secure = cluster.server.as_ref().is_some_and(|it| it.starts_with("https://"));
    (!secure).then_some("has no https server: write https://address:port")
}

fn user_fault(user: &AuthInfo) -> Option<&'static str> {
    if user.exec.is_some() || user.auth_provider.is_some() {
        return Some("gets its credential from a program: write a client certificate or a tokenFile");
    }
    let certificate = user.client_certificate.is_some() || user.client_certificate_data.is_some();
    let token = user.token.is_some() || user.token_file.is_some();
    (!certificate && !token).then_some("has no credential: write a client certificate or a tokenFile")
}

/// Over the kubeconfig and the files that it names, but the token's.
fn digest(path: &Path, kubeconfig: &Kubeconfig) -> [u8; 32] {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut add = |path: &Path| {
        let text = std::fs::read(path).unwrap_or_default();
        context.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
        context.update(&text);
    };
    add(path);
    let (cluster, user) = current(kubeconfig);
    let files = [
        cluster.and_then(|it| it.certificate_authority.as_ref()),
        user.and_then(|it| it.client_certificate.as_ref()),
        user.and_then(|it| it.client_key.as_ref()),
    ];
    for file in files.into_iter().flatten() {
        add(Path::new(file));
    }
    context.finish().as_ref().try_into().unwrap_or_default()
}

/// Follows the kubeconfig until cancelled. The first look is over when this returns.
pub async fn start(
    path: PathBuf,
    cancel: CancellationToken,
) -> (Accesses, impl Future<Output = ()> + Send + 'static) {
    let first = Access::load(&path).await.map(Arc::new).map_err(|e| e.to_string());
    if let Err(error) = &first {
        warn!(error, "no access to the Kubernetes API");
    }
    let mut told = first.as_ref().err().cloned();
    let (publish, accesses) = watch::channel(first);
    let follow = async move {
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(POLL) => {}
            }
            match Access::load(&path).await {
                Ok(new) => {
                    told = None;
                    publish.send_if_modified(|current| {
                        let same = current.as_ref().is_ok_and(|it| it.digest == new.digest);
                        if !same {
                            info!("credential for the Kubernetes API taken over");
                            *current = Ok(Arc::new(new));
                        }
                        !same
                    });
                }
                Err(e) => {
                    let error = e.to_string();
                    if told.as_ref() != Some(&error) {
                        warn!(
                            error,
                            "kubeconfig not usable, what was made of the last good one stays in use"
                        );
                        publish.send_if_modified(|current| {
                            let is_news = current.is_err();
                            if is_news {
                                *current = Err(error.clone());
                            }
                            is_news
                        });
                        told = Some(error);
                    }
                }
            }
        }
    };
    (accesses, follow)
}

#[cfg(test)]
mod tests;
