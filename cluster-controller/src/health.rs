//! `/metrics` for Prometheus, `/healthz` and `/readyz` for kubelet.
//!
//! Alive is whose loop turns; ready is who could write at once: has all objects and the northbound's rows. Who does not
//! lead is ready, too.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use exposition::Format;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// The loop turns at least every few seconds; a transaction has ten.
const STALE: Duration = Duration::from_mins(1);

/// How long an answer that is under way may take once we stop.
const DRAIN: Duration = Duration::from_secs(1);

/// What the loop says of itself each time it turns.
#[derive(Clone, Debug)]
pub struct Health {
    pub turned: Instant,
    /// Why it could not write at once.
    pub unready: Option<String>,
}

#[derive(Clone, Debug)]
struct Shown {
    metrics: Metrics,
    health: watch::Receiver<Health>,
}

/// Serves until `cancel`.
pub async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    health: watch::Receiver<Health>,
    cancel: CancellationToken,
) -> io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(show_health))
        .route("/readyz", get(show_readiness))
        .with_state(Shown { metrics, health });
    let drained = {
        let cancel = cancel.clone();
        async move {
            cancel.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        }
    };
    let served = axum::serve(listener, router).with_graceful_shutdown(cancel.cancelled_owned());
    tokio::select! {
        served = served.into_future() => served,
        () = drained => Ok(()),
    }
}

/// Binds the listener.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

async fn show_metrics(State(shown): State<Shown>, headers: HeaderMap) -> axum::response::Response {
    let format = Format::accepted(headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()));
    match shown.metrics.encode(format) {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn show_health(State(shown): State<Shown>) -> (StatusCode, String) {
    let age = shown.health.borrow().turned.elapsed();
    if age < STALE {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("the loop has not turned for {} s\n", age.as_secs()))
    }
}

async fn show_readiness(State(shown): State<Shown>) -> (StatusCode, String) {
    match &shown.health.borrow().unready {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}
