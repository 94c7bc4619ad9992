//! Who is let in, and certificates that change under way.

use std::time::Duration;

use crate::common::{Bench, Ca, Fake, HOST, Shared, endpoint, node, put, reason, server_config, try_status};
use nic_agent::key_pin::KeyPin;
use nic_agent::metrics::Metrics;
use nic_agent::server::{Server, ServerError, Shims};
use proto::v1;
use proto::v1::nic_agent_client::NicAgentClient;
use rcgen::ExtendedKeyUsagePurpose;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

#[tokio::test]
async fn without_a_good_certificate_nobody_gets_in() {
    let bench = Bench::start();
    let error = try_status(bench.endpoint(None)).await.unwrap_err();
    assert!(error.contains("CertificateRequired"), "{error}");
    bench.until("drawbridge_nic_agent_tls_failures_total{cause=\"no-certificate\"}", 1).await;

    let other = Ca::new().client(&[HOST]);
    try_status(bench.endpoint(Some(&other))).await.unwrap_err();
    // Both CAs have the same name, so the chain is built and its signature is what fails.
    bench.until("drawbridge_nic_agent_tls_failures_total{cause=\"bad-signature\"}", 1).await;

    let client = ExtendedKeyUsagePurpose::ClientAuth;
    let expired = bench.ca.issue(&[HOST], client.clone(), |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    try_status(bench.endpoint(Some(&expired))).await.unwrap_err();
    bench.until("drawbridge_nic_agent_tls_failures_total{cause=\"expired\"}", 1).await;

    let future =
        bench.ca.issue(&[HOST], client, |params| params.not_before = rcgen::date_time_ymd(2999, 1, 1));
    try_status(bench.endpoint(Some(&future))).await.unwrap_err();
    bench.until("drawbridge_nic_agent_tls_failures_total{cause=\"not-valid-yet\"}", 1).await;

    // A server's certificate of the same CA is no client's.
    let server = bench.ca.issue(&[HOST], ExtendedKeyUsagePurpose::ServerAuth, |_| {});
    try_status(bench.endpoint(Some(&server))).await.unwrap_err();
    bench.until("drawbridge_nic_agent_tls_failures_total{cause=\"bad-certificate\"}", 1).await;

    bench.assert_serves().await;
    bench.stop().await;
}

/// One that goes on writing, as TLS 1.3 allows, before it reads what became of its certificate: who cannot write does not
/// read, and takes it for a lost connection.
#[tokio::test]
async fn a_refused_client_hears_why() {
    let bench = Bench::start();
    let stranger = Ca::new().client(&[HOST]);
    for _ in 0..5 {
        let mut stream = bench.tls(&stranger, &[b"h2"]).await.unwrap();
        for _ in 0..3 {
            stream.write_all(&[0; 8 << 10]).await.unwrap();
            stream.flush().await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let error = stream.read(&mut [0; 16]).await.unwrap_err();
        assert!(error.to_string().contains("alert"), "{error}");
    }
    bench.stop().await;
}

#[tokio::test]
async fn another_hosts_certificate_is_refused_at_each_request() {
    let bench = Bench::start();
    let others: [&[&str]; 5] = [
        &["server2.example"],
        &["*.example"],
        &["server1.example.org"],
        &["192.0.2.1"],
        &["sub.server1.example"],
    ];
    for names in others {
        let cert = bench.ca.client(names);
        let mut client = NicAgentClient::new(bench.endpoint(Some(&cert)).connect().await.unwrap());
        let status = client.attach(crate::common::request()).await.unwrap_err();
        assert_eq!((status.code(), reason(&status)), (Code::PermissionDenied, "wrong-identity"), "{names:?}");
        assert!(status.message().contains(HOST), "{status}");
        let status = client.list(v1::ListRequest {}).await.unwrap_err();
        assert_eq!(reason(&status), "wrong-identity");
        drop(client);
        bench.until("drawbridge_nic_agent_connections", 0).await;
    }
    assert_eq!(
        bench.metric("drawbridge_nic_agent_requests_total{method=\"Attach\",reason=\"wrong-identity\"}"),
        5
    );
    assert!(bench.fake.claims.lock().unwrap().is_empty());

    // One of several names is enough, and letter case means nothing in DNS.
    let cert = bench.ca.client(&["alias.example", "SERVER1.Example"]);
    assert!(try_status(bench.endpoint(Some(&cert))).await.unwrap().ready);
    bench.stop().await;
}

/// Of a key file, as an operator takes it.
fn pin(key: &str) -> KeyPin {
    let mut shell = std::process::Command::new("sh")
        .args(["-c", "openssl pkey -pubout -outform DER | sha256sum"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut shell.stdin.take().unwrap(), key.as_bytes()).unwrap();
    let said = String::from_utf8(shell.wait_with_output().unwrap().stdout).unwrap();
    said.split_whitespace().next().unwrap().parse().unwrap()
}

/// An earlier tenant's copy has the right name and a good chain.
#[tokio::test]
async fn a_key_that_is_none_of_the_pinned_ends_at_the_next_request() {
    let bench = Bench::start();
    let (own, copy) = (bench.ca.client(&[HOST]), bench.ca.client(&[HOST]));
    let connect = async |cert| NicAgentClient::new(bench.endpoint(Some(cert)).connect().await.unwrap());
    let (mut owns, mut copys) = (connect(&own).await, connect(&copy).await);
    for client in [&mut owns, &mut copys] {
        assert!(client.status(v1::StatusRequest {}).await.unwrap().into_inner().ready);
    }
    // On connections that stand, too.
    bench.shims.send_replace(Shims { keys: [pin(&own.key)].into(), revoked: false });
    assert!(owns.status(v1::StatusRequest {}).await.unwrap().into_inner().ready);
    let status = copys.attach(crate::common::request()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::PermissionDenied, "wrong-key"));
    let status = connect(&copy).await.list(v1::ListRequest {}).await.unwrap_err();
    assert!(status.message().contains(&pin(&copy.key).to_string()), "{status}");
    // Without its NicNode nobody speaks for it, and with it again its own does.
    bench.shims.send_replace(Shims { keys: [pin(&own.key)].into(), revoked: true });
    assert_eq!(reason(&owns.status(v1::StatusRequest {}).await.unwrap_err()), "nic-node-deleted");
    bench.shims.send_replace(Shims::default());
    assert!(copys.status(v1::StatusRequest {}).await.unwrap().into_inner().ready);
    assert!(bench.fake.claims.lock().unwrap().is_empty());
    drop((owns, copys));
    bench.stop().await;
}

#[tokio::test]
async fn strangers_do_not_take_the_hosts_place() {
    let bench = Bench::start();
    let cert = bench.ca.client(&["server2.example"]);
    let mut held = Vec::new();
    for _ in 0..20 {
        let channel = bench.endpoint(Some(&cert)).connect_lazy();
        let mut client = NicAgentClient::new(channel);
        assert!(client.status(v1::StatusRequest {}).await.is_err());
        held.push(client);
    }
    assert!(bench.metric("drawbridge_nic_agent_connections ") <= 4);
    bench.assert_serves().await;
    bench.stop().await;
}

#[tokio::test]
async fn certificates_change_without_a_restart() {
    let bench = Bench::start();
    let old = bench.ca.client(&[HOST]);
    let mut connected = NicAgentClient::new(bench.endpoint(Some(&old)).connect().await.unwrap());
    connected.status(v1::StatusRequest {}).await.unwrap();

    let ca = Ca::new();
    let server = ca.server();
    put(&bench.dir, "server.crt", &server.cert);
    put(&bench.dir, "server.key", &server.key);
    put(&bench.dir, "ca.crt", &ca.pem());
    let new = ca.client(&[HOST]);
    while try_status(endpoint(bench.address, &ca.pem(), Some(&new))).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // The old CA is out for new connections; a request under way on an old one is not cut.
    try_status(endpoint(bench.address, &ca.pem(), Some(&old))).await.unwrap_err();
    connected.status(v1::StatusRequest {}).await.unwrap();
    bench.stop().await;
}

#[tokio::test]
async fn bad_new_certificates_leave_the_old_ones() {
    let bench = Bench::start();
    let other = bench.ca.server();
    let bad: [(&str, &str); 5] = [
        ("server.crt", "no PEM"),
        ("server.crt", ""),
        ("server.key", &other.key),
        ("ca.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("ca.crt", ""),
    ];
    for (name, text) in bad {
        let path = bench.dir.path().join(name);
        let good = std::fs::read_to_string(&path).unwrap();
        put(&bench.dir, name, text);
        // Some periods of the poll; that it goes on serving is what is looked at, not how fast.
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        bench.assert_serves().await;
        put(&bench.dir, name, &good);
    }
    std::fs::remove_file(bench.dir.path().join("server.crt")).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    bench.assert_serves().await;
    bench.stop().await;
}

#[test]
fn bad_certificates_are_no_start_and_the_key_is_named() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = runtime.enter();
    let ca = Ca::new();
    let (server, other) = (ca.server(), ca.server());
    let good = [("server.crt", server.cert.as_str()), ("server.key", &server.key), ("ca.crt", &ca.pem())];
    for (file, text, key) in [
        ("server.crt", None, "server.cert"),
        ("server.key", None, "server.key"),
        ("ca.crt", None, "server.client-ca"),
        ("server.crt", Some("nothing"), "server.cert"),
        ("server.key", Some("nothing"), "server.key"),
        ("ca.crt", Some("nothing"), "server.client-ca"),
        ("server.key", Some(other.key.as_str()), "server.cert"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in good {
            put(&dir, name, text);
        }
        match text {
            Some(text) => put(&dir, file, text),
            None => std::fs::remove_file(dir.path().join(file)).unwrap(),
        }
        let config = server_config(&dir, vec!["127.0.0.1:0".parse().unwrap()]);
        let error =
            Server::bind(&config, &node(), Shared(std::sync::Arc::new(Fake::default())), Metrics::new());
        let Err(error @ ServerError::Tls(_)) = error else { panic!("{file} {text:?} was taken") };
        let text = error.to_string();
        let path = dir.path().join(file);
        assert!(
            text.contains(key) && text.contains(path.to_str().unwrap()) && text.contains("put"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn an_address_may_come_later_but_not_be_taken() {
    let ca = Ca::new();
    let dir = tempfile::tempdir().unwrap();
    ca.put_server(&dir);
    let bind = |listen: &str| {
        let config = server_config(&dir, vec![listen.parse().unwrap()]);
        Server::bind(&config, &node(), Shared(std::sync::Arc::new(Fake::default())), Metrics::new())
    };
    for absent in ["192.0.2.77:0", "[2001:db8::77]:0"] {
        let bound = bind(absent).unwrap();
        assert_ne!(bound.local_addrs()[0].port(), 0);
    }
    let first = bind("127.0.0.1:0").unwrap();
    let taken = first.local_addrs()[0].to_string();
    let error = bind(&taken).unwrap_err().to_string();
    assert!(error.contains("server.listen") && error.contains(&taken), "{error}");
}
