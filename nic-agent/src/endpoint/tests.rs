use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::service_manager::Heartbeat;

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    get_as(address, path, "*/*").await
}

async fn get_as(address: std::net::SocketAddr, path: &str, accept: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn endpoint_shows_metrics_health_and_readiness() {
    let endpoint = Endpoint::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = endpoint.local_addr();
    let (ready, readiness) = watch::channel(Err("no OVSDB yet".to_owned()));
    let cancel = CancellationToken::new();
    let hearts = Hearts::default().with("reconcile loop", Heartbeat::new(Duration::from_hours(1)));
    let server = tokio::spawn(endpoint.run(Metrics::new(), hearts, readiness, published(), cancel.clone()));

    let answer = get(address, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("drawbridge_nic_agent_attachments 0") && !answer.contains("# EOF"), "{answer}");
    assert!(answer.contains("# TYPE drawbridge_nic_agent_connections_refused_total counter"), "{answer}");
    assert!(answer.contains("process_cpu_seconds_total ") && !answer.contains("agent_process"), "{answer}");
    let accepting = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let answer = get_as(address, "/metrics", accepting).await;
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"), "{answer}");
    assert!(answer.contains("# TYPE drawbridge_nic_agent_connections_refused counter"), "{answer}");
    assert!(answer.contains("# EOF"), "{answer}");
    assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200"));
    let answer = get(address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("no OVSDB yet"), "{answer}");
    ready.send(Ok(())).unwrap();
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(get(address, "/etc/passwd").await.starts_with("HTTP/1.1 404"));

    // A client that says nothing does not hold the stop up for ever.
    let _silent = TcpStream::connect(address).await.unwrap();
    cancel.cancel();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stuck_loop_is_not_healthy() {
    let endpoint = Endpoint::bind("[::1]:0".parse().unwrap()).await.unwrap();
    let address = endpoint.local_addr();
    let (_ready, readiness) = watch::channel(Ok(()));
    let cancel = CancellationToken::new();
    let server = tokio::spawn(
        endpoint.run(
            Metrics::new(),
            Hearts::default()
                .with("reconcile loop", Heartbeat::new(Duration::from_hours(1)))
                .with("policy compiler", Heartbeat::new(Duration::ZERO)),
            readiness,
            published(),
            cancel.clone(),
        ),
    );
    let answer = get(address, "/healthz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("policy compiler"), "{answer}");
    let answer = get(address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("policy compiler"), "{answer}");
    cancel.cancel();
    server.await.unwrap().unwrap();
}

fn published() -> watch::Receiver<std::sync::Arc<Published>> {
    watch::channel(std::sync::Arc::default()).1
}
