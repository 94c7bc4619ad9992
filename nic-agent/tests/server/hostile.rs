//! What a host does that has a good certificate and bad intentions, or neither.

use std::time::Duration;

use crate::common::{Bench, HOST, quick, reason, request};
use proto::v1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::Code;

/// A TLS session of the host's, to put anything into.
async fn tls(bench: &Bench, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
    bench.tls(&bench.ca.client(&[HOST]), alpn).await
}

/// Bytes from a fixed generator: garbage, and the same garbage every time.
fn garbage(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Reads until the server closes; what it says on the way does not matter.
async fn until_closed(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut buffer = [0; 4096];
    let closed = async { while matches!(stream.read(&mut buffer).await, Ok(read) if read > 0) {} };
    tokio::time::timeout(Duration::from_mins(2), closed).await.expect("the server does not close");
}

#[tokio::test]
async fn garbage_before_tls_is_closed() {
    let bench = Bench::start();
    for seed in 0..20 {
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        // The server may close while we still write.
        let _ = stream.write_all(&garbage(seed, 3000)).await;
        until_closed(&mut stream).await;
    }
    bench.until("drawbridge_nic_agent_tls_failures_total{cause=\"garbage\"}", 20).await;
    bench.assert_serves().await;
    bench.stop().await;
}

#[tokio::test]
async fn garbage_inside_tls_is_closed() {
    let bench = Bench::start();
    for seed in 0..20 {
        let mut stream = tls(&bench, &[b"h2"]).await.unwrap();
        let mut bytes = if seed % 2 == 0 { b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec() } else { Vec::new() };
        bytes.extend(garbage(seed, 20_000));
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        until_closed(&mut stream).await;
    }
    bench.until("drawbridge_nic_agent_connections", 0).await;
    bench.assert_serves().await;
    assert!(bench.fake.claims.lock().unwrap().is_empty());
    bench.stop().await;
}

#[tokio::test]
async fn other_protocols_are_refused() {
    let bench = Bench::start();
    assert!(tls(&bench, &[b"http/1.1"]).await.is_err());
    bench.until("drawbridge_nic_agent_tls_failures_total{cause=\"incompatible\"}", 1).await;
    let mut stream = tls(&bench, &[]).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: nic\r\n\r\n").await.unwrap();
    until_closed(&mut stream).await;
    bench.assert_serves().await;
    bench.stop().await;
}

#[tokio::test]
async fn oversize_messages_are_refused_with_their_reason() {
    let bench = Bench::start();
    let mut client = bench.client().await;
    let mut big = request();
    big.network = "a".repeat(70_000);
    let status = client.attach(big).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::OutOfRange, "oversize"));
    bench.until("drawbridge_nic_agent_requests_total{method=\"other\",reason=\"oversize\"}", 1).await;
    // The same connection goes on.
    client.attach(request()).await.unwrap();
    let mut huge = request();
    huge.network = "a".repeat(50_000_000);
    assert!(client.attach(huge).await.is_err());
    bench.assert_serves().await;
    bench.stop().await;
}

#[tokio::test]
async fn undecodable_messages_and_unknown_methods_have_reasons() {
    let bench = Bench::start();
    let cert = bench.ca.client(&[HOST]);
    let channel = bench.endpoint(Some(&cert)).connect().await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    // A ListResponse where an AttachRequest is due: its first field is no Sandbox.
    let codec = tonic_prost::ProstCodec::<v1::CheckResponse, v1::AttachResponse>::default();
    let wrong = v1::CheckResponse {
        attachment: Some(v1::AttachResponse { mac: "\u{fffd}".to_owned(), mtu: 7, ..Default::default() }),
    };
    let path = "/drawbridge.nic.v1.NicAgent/Attach".parse().unwrap();
    let status = grpc.unary(tonic::Request::new(wrong.clone()), path, codec).await.unwrap_err();
    assert!(["undecodable", "malformed"].contains(&reason(&status)), "{status:?}");

    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<v1::CheckResponse, v1::AttachResponse>::default();
    let path = "/drawbridge.nic.v1.NicAgent/Destroy".parse().unwrap();
    let status = grpc.unary(tonic::Request::new(wrong), path, codec).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unimplemented, "unknown-method"));
    bench.stop().await;
}

#[tokio::test]
async fn oversize_headers_do_not_get_through() {
    let bench = Bench::start();
    let mut client = bench.client().await;
    let mut heavy = tonic::Request::new(v1::StatusRequest {});
    for index in 0..64 {
        let key = tonic::metadata::MetadataKey::from_bytes(format!("x-{index}").as_bytes()).unwrap();
        heavy.metadata_mut().insert(key, "a".repeat(1000).parse().unwrap());
    }
    assert!(client.status(heavy).await.is_err());
    assert_eq!(bench.metric("drawbridge_nic_agent_requests_total{method=\"Status\",reason=\"ok\"}"), 0);
    bench.assert_serves().await;
    bench.stop().await;
}

#[tokio::test]
async fn half_open_connections_make_room() {
    let limits = nic_agent::server::Limits { handshake: Duration::from_hours(1), ..quick() };
    let bench = Bench::start_with(limits, |_| {});
    let mut silent = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        // A record header that promises more than will ever come.
        stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00]).await.unwrap();
        silent.push(stream);
    }
    bench.assert_serves().await;
    assert!(bench.metric("drawbridge_nic_agent_tls_failures_total{cause=\"evicted\"}") >= 40);
    bench.stop().await;
}

#[tokio::test]
async fn a_handshake_does_not_last_for_ever() {
    let limits = nic_agent::server::Limits { handshake: Duration::from_millis(50), ..quick() };
    let bench = Bench::start_with(limits, |_| {});
    let mut stream = TcpStream::connect(bench.address).await.unwrap();
    until_closed(&mut stream).await;
    bench.until("drawbridge_nic_agent_tls_failures_total{cause=\"timeout\"}", 1).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_session_that_says_nothing_is_closed() {
    let limits = nic_agent::server::Limits { preface: Duration::from_millis(50), ..quick() };
    let bench = Bench::start_with(limits, |_| {});
    for bytes in [&b""[..], b"PRI * HTTP/2.0"] {
        let mut stream = tls(&bench, &[b"h2"]).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        until_closed(&mut stream).await;
    }
    bench.until("drawbridge_nic_agent_connections", 0).await;
    bench.stop().await;
}

#[tokio::test]
async fn an_old_connection_is_ended() {
    let limits = nic_agent::server::Limits { connection_age: Duration::from_millis(100), ..quick() };
    let bench = Bench::start_with(limits, |config| config.attach_timeout = Duration::from_millis(100));
    let mut stream = tls(&bench, &[b"h2"]).await.unwrap();
    // The preface and empty SETTINGS: a valid client that asks for nothing.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    until_closed(&mut stream).await;
    bench.until("drawbridge_nic_agent_connections", 0).await;
    bench.stop().await;
}

#[tokio::test]
async fn too_many_connections_are_turned_away_and_the_others_go_on() {
    let bench = Bench::start();
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = bench.client().await;
        client.status(v1::StatusRequest {}).await.unwrap();
        clients.push(client);
    }
    let cert = bench.ca.client(&[HOST]);
    assert!(crate::common::try_status(bench.endpoint(Some(&cert))).await.is_err());
    assert!(bench.metric("drawbridge_nic_agent_connections_refused_total") >= 1);
    for client in &mut clients {
        client.status(v1::StatusRequest {}).await.unwrap();
    }
    clients.clear();
    bench.until("drawbridge_nic_agent_connections", 0).await;
    bench.assert_serves().await;
    bench.stop().await;
}

/// Rapid reset (CVE-2023-44487): streams opened and reset at once. The connection is ended, the others go on.
#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let bench = Bench::start();
    let mut stream = tls(&bench, &[b"h2"]).await.unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for id in (1_u32..20_001).step_by(2) {
        // HEADERS with :method POST, :scheme https, :path / by HPACK's static table; END_HEADERS.
        bytes.extend([0, 0, 3, 1, 4]);
        bytes.extend(id.to_be_bytes());
        bytes.extend([0x83, 0x87, 0x84]);
        // RST_STREAM, CANCEL.
        bytes.extend([0, 0, 4, 3, 0]);
        bytes.extend(id.to_be_bytes());
        bytes.extend([0, 0, 0, 8]);
    }
    let _ = stream.write_all(&bytes).await;
    until_closed(&mut stream).await;
    bench.until("drawbridge_nic_agent_connections", 0).await;
    bench.assert_serves().await;
    bench.stop().await;
}
