//! The loopback HTTP listener: `/metrics` for Prometheus, `/policy` for who asks what is enforced (JSON), `/healthz` and `/readyz` for
//! whoever watches the process.
//!
//! Failure: a listener that cannot be bound is an error at the start; a scrape never waits for anything.

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use exposition::Format;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::published::Published;
use crate::service_manager::Hearts;

/// `Err` says why an attach could not succeed now.
pub type Readiness = Result<(), String>;

/// How long a scrape that is under way may go on once we stop.
const DRAIN: Duration = Duration::from_secs(1);

/// The bound listener.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    local_addr: SocketAddr,
}

#[derive(Debug, Clone)]
struct Shown {
    metrics: Metrics,
    hearts: Hearts,
    readiness: watch::Receiver<Readiness>,
    published: watch::Receiver<Arc<Published>>,
}

impl Endpoint {
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let local_addr = listener.local_addr()?;
        Ok(Self { listener, local_addr })
    }

    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Serves until `cancel`.
    pub async fn run(
        self,
        metrics: Metrics,
        hearts: Hearts,
        readiness: watch::Receiver<Readiness>,
        published: watch::Receiver<Arc<Published>>,
        cancel: CancellationToken,
    ) -> io::Result<()> {
        let router = Router::new()
            .route("/metrics", get(show_metrics))
            .route("/healthz", get(show_health))
            .route("/readyz", get(show_readiness))
            .route("/policy", get(show_policy))
            .with_state(Shown { metrics, hearts, readiness, published });
        let drained = {
            let cancel = cancel.clone();
            async move {
                cancel.cancelled().await;
                tokio::time::sleep(DRAIN).await;
            }
        };
        let serve = axum::serve(self.listener, router).with_graceful_shutdown(cancel.cancelled_owned());
        tokio::select! {
            served = serve.into_future() => served,
            () = drained => Ok(()),
        }
    }
}

async fn show_metrics(State(shown): State<Shown>, headers: HeaderMap) -> axum::response::Response {
    let format = Format::accepted(headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()));
    match shown.metrics.encode(format) {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn show_policy(State(shown): State<Shown>) -> axum::response::Response {
    let text = serde_json::to_string_pretty(&shown.published.borrow().policy);
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn show_health(State(shown): State<Shown>) -> (StatusCode, String) {
    stands_still(&shown).unwrap_or_else(|| (StatusCode::OK, "ok\n".to_owned()))
}

fn stands_still(shown: &Shown) -> Option<(StatusCode, String)> {
    let (which, age) = shown.hearts.still()?;
    Some((StatusCode::SERVICE_UNAVAILABLE, format!("the {which} has not moved for {} s\n", age.as_secs())))
}

async fn show_readiness(State(shown): State<Shown>) -> (StatusCode, String) {
    if let Some(still) = stands_still(&shown) {
        return still;
    }
    match &*shown.readiness.borrow() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}
