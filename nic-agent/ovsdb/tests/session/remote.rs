//! Remotes: tcp, ssl, several of them, and servers that are none.

use std::time::Duration;

use crate::common::fake::{Act, Fake, answer, refuse};
use crate::common::wire::{Direction, Target, Wire};
use crate::common::{Pki, Server, VSWITCH, connect, free_port, make_root, options, server_tls_args, soon};
use ovsdb_session::rows::vswitch::OpenVSwitch;
use ovsdb_session::{Error, MonitorTable, Op, Options, Remote, Session, State, TlsFiles};
use serde_json::{Value, json};

fn tcp(port: u16) -> Remote {
    Remote::Tcp { host: "127.0.0.1".into(), port }
}

fn ssl(port: u16) -> Remote {
    Remote::Ssl { host: "127.0.0.1".into(), port }
}

/// Waits for an error that says so, and lets the session go.
async fn error_of(session: Session, text: &str) -> String {
    let mut state = session.state();
    let says =
        |state: &State| matches!(state, State::Connecting { error: Some(error) } if error.contains(text));
    let seen = tokio::time::timeout(Duration::from_mins(1), state.wait_for(says)).await;
    match seen.map(|state| state.unwrap().clone()) {
        Ok(State::Connecting { error }) => error.unwrap(),
        other => panic!("{text:?} was never said, but {:?} ({other:?})", *session.state().borrow()),
    }
}

#[tokio::test]
async fn over_tcp_both_sides_probe_and_the_connection_lives() {
    let port = free_port();
    let server = Server::start("vswitch", &[format!("--remote=ptcp:{port}:127.0.0.1")]);
    let wire = Wire::to(Target::Tcp(port)).await;
    // First only the server probes: ours is off.
    let silent = connect(Options { probe_interval: Duration::ZERO, ..options(wire.remote()) }).await;
    make_root(&silent).await;
    // Sent only because the first had been answered: an unanswered probe would have cost the connection.
    wire.see(Direction::ToClient, "\"method\":\"echo\"", 2).await;
    assert_eq!(silent.list_dbs().await.map(|dbs| dbs.len()), Ok(2));
    assert_eq!(silent.connected().await, Ok(1));
    drop(silent);
    let probing =
        connect(Options { probe_interval: Duration::from_millis(50), ..options(server.unix()) }).await;
    let quiet = Wire::to(Target::Unix(server.path("sock"))).await;
    let over_wire =
        connect(Options { probe_interval: Duration::from_millis(50), ..options(quiet.remote()) }).await;
    quiet.see(Direction::ToServer, "\"echo\"", 5).await;
    assert_eq!(over_wire.connected().await, Ok(1));
    assert_eq!(probing.connected().await, Ok(1));
}

#[tokio::test]
async fn the_next_remote_is_taken_when_one_is_gone() {
    let (mut first, second) = (Server::start("vswitch", &[]), Server::start("vswitch", &[]));
    let nobody = tcp(free_port());
    let remotes = vec![nobody, first.unix(), second.unix()];
    let session = connect(Options { remotes, ..options(first.unix()) }).await;
    assert_eq!(*session.state().borrow(), State::Connected { epoch: 1, remote: first.unix() });
    let monitor = session.monitor(VSWITCH, vec![MonitorTable::of::<OpenVSwitch>()]);
    let root = make_root(&session).await;
    soon("row", monitor.watch().wait_for(|s| s.get("Open_vSwitch", root).is_some())).await.unwrap();
    first.kill();
    let there = State::Connected { epoch: 2, remote: second.unix() };
    soon("second", session.state().wait_for(|state| *state == there)).await.unwrap();
    // Another server, another truth.
    let snapshot = soon("rows", monitor.synced_to(0)).await.unwrap();
    assert_eq!(snapshot.len("Open_vSwitch"), 0);
}

#[tokio::test]
async fn tls_with_certificates_that_name_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (pki, other) = (Pki::new(dir.path(), "ours"), Pki::new(dir.path(), "other"));
    let port = free_port();
    let mut args = server_tls_args(&pki.issue("server"));
    args.push(format!("--remote=pssl:{port}:127.0.0.1"));
    let server = Server::start("vswitch", &args);

    let files = pki.issue("client");
    let with = |tls: TlsFiles| Options { tls: Some(tls), ..options(ssl(port)) };
    let session = connect(with(files.clone())).await;
    make_root(&session).await;
    // More than one TLS record each way.
    let long = "x".repeat(300_000);
    let ops = vec![
        Op::mutate("Open_vSwitch")
            .with_all(ovsdb_session::Mutation::set_keys("external_ids", [("long", long.as_str())]))
            .into(),
        Op::select("Open_vSwitch").columns(["external_ids"]).into(),
    ];
    let results = soon("long", session.transact(VSWITCH, ops)).await.unwrap();
    let value = results[1].rows()[0].get("external_ids").unwrap().value_of(&"long".into()).cloned();
    assert_eq!(value, Some(long.as_str().into()));
    drop(session);

    // The server's certificate is of another CA than ours.
    let session = Session::start(with(TlsFiles { ca: other.issue("x").ca, ..files.clone() }));
    error_of(session, "TLS handshake: invalid peer certificate").await;
    // Ours is of another CA than the server's. TLS 1.3 says so only after the handshake.
    let stranger = other.issue("stranger");
    let session = Session::start(with(TlsFiles { ca: files.ca.clone(), ..stranger }));
    let error = error_of(session, "alert").await;
    assert!(error.starts_with("ssl:127.0.0.1"), "{error}");
    // No files, missing files, files that are something else.
    let session = Session::start(options(ssl(port)));
    error_of(session, "needs a key, a certificate and a CA").await;
    let session = Session::start(with(TlsFiles { key: dir.path().join("nowhere"), ..files.clone() }));
    error_of(session, "nowhere").await;
    let session = Session::start(with(TlsFiles { ca: files.key.clone(), ..files.clone() }));
    error_of(session, "no certificate in it").await;
    // A key that is not the certificate's.
    let session = Session::start(with(TlsFiles { key: pki.issue("another").key, ..files.clone() }));
    error_of(session, "client.pem").await;
    // TLS to one who does not speak it.
    let plain = free_port();
    let _plain_server = Server::start("vswitch", &[format!("--remote=ptcp:{plain}:127.0.0.1")]);
    let session = Session::start(Options { tls: Some(files), ..options(ssl(plain)) });
    error_of(session, "ssl:127.0.0.1").await;
    drop(server);
}

#[tokio::test]
async fn an_expired_server_certificate_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::new(dir.path(), "ours");
    let expired = pki.issue_with("expired", |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let port = free_port();
    let mut args = server_tls_args(&expired);
    args.push(format!("--remote=pssl:{port}:127.0.0.1"));
    let _server = Server::start("vswitch", &args);
    let session = Session::start(Options { tls: Some(pki.issue("client")), ..options(ssl(port)) });
    error_of(session, "TLS handshake: invalid peer certificate: certificate expired").await;
}

#[tokio::test]
async fn certificates_made_by_ovs_pki_work() {
    let dir = tempfile::tempdir().unwrap();
    let pki = |args: &[&str]| {
        crate::common::run(
            crate::common::tool("ovs-pki")
                .current_dir(dir.path())
                .args(["-d", "pki", "-l", "log"])
                .args(args),
        )
    };
    pki(&["init", "--force"]);
    let issue = |name: &str| {
        pki(&["req+sign", name, "switch"]);
        TlsFiles {
            key: dir.path().join(format!("{name}-privkey.pem")),
            certificate: dir.path().join(format!("{name}-cert.pem")),
            ca: dir.path().join("pki/switchca/cacert.pem"),
        }
    };
    let port = free_port();
    let mut args = server_tls_args(&issue("sc"));
    args.push(format!("--remote=pssl:{port}:127.0.0.1"));
    let _server = Server::start("vswitch", &args);
    let session = connect(Options { tls: Some(issue("client")), ..options(ssl(port)) }).await;
    assert_eq!(session.list_dbs().await.map(|dbs| dbs.contains(&VSWITCH.to_owned())), Ok(true));
}

/// Behaves, but for `method` on its first connection.
fn rude(method: &'static str, act: impl Fn(&Value) -> Act + Send + 'static) -> Fake {
    Fake::start(move |connection, request| match request["method"].as_str() {
        Some(asked) if asked == method && connection == 1 => act(request),
        Some("echo") => Act::Send(answer(request, &json!([]))),
        _ => Act::Send(answer(request, &json!(["db"]))),
    })
}

#[tokio::test]
async fn garbage_costs_the_connection_and_no_more() {
    for (bytes, text) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "cannot start a message"),
        (b"{\"id\":1,}", "no JSON"),
        (b"{\"id\":\xff}", "no JSON"),
        (b"{\"hello\":1}", "neither request"),
        (b"{\"id\":77,\"result\":[],\"error\":null}", "an answer to no request"),
        (b"{\"id\":null,\"method\":\"update3\",\"params\":[1]}", "malformed update"),
        (b"{\"id\":null,\"method\":\"monitor_canceled\",\"params\":[1]}", "cancelled"),
        (b"{\"id\":1,\"result\":", "closed by the server"),
    ] {
        let fake = rude("list_dbs", move |_| Act::Hang(bytes.to_vec()));
        let session = connect(options(fake.remote())).await;
        match soon("loss", session.list_dbs()).await {
            Err(Error::Lost(reason)) => assert!(reason.contains(text), "{reason} is not {text}"),
            other => panic!("{text}: {other:?}"),
        }
        assert_eq!(soon("reconnection", session.connected()).await, Ok(2), "{text}");
        assert_eq!(session.list_dbs().await, Ok(vec!["db".into()]), "{text}");
    }
}

#[tokio::test]
async fn an_oversize_message_costs_the_connection() {
    let fake = rude("list_dbs", |request| Act::Send(answer(request, &json!(["x".repeat(100_000)]))));
    let session = connect(Options { max_message: 50_000, ..options(fake.remote()) }).await;
    match soon("loss", session.list_dbs()).await {
        Err(Error::Lost(reason)) => assert_eq!(reason, "a message is longer than 50000 bytes"),
        other => panic!("{other:?}"),
    }
    assert_eq!(soon("reconnection", session.connected()).await, Ok(2));
    assert_eq!(session.list_dbs().await, Ok(vec!["db".into()]));
}

#[tokio::test]
async fn one_who_only_talks_garbage_is_never_connected_and_not_hammered() {
    let fake = Fake::start(|_, _| Act::Hang(b"SSH-2.0-OpenSSH\r\n".to_vec()));
    let session = Session::start(options(fake.remote()));
    let mut state = session.state();
    let tries = 5;
    for _ in 0..tries {
        // Never "connected", however often it is tried.
        soon("a try", state.changed()).await.unwrap();
        assert!(!state.borrow_and_update().is_connected());
    }
    assert!(matches!(session.list_dbs().await, Err(Error::NotConnected(_))));
    error_of(session, "cannot start a message").await;
}

#[tokio::test]
async fn one_who_falls_silent_is_given_up() {
    let fake = Fake::start(|connection, request| match request["method"].as_str() {
        // The first connection answers once.
        Some("echo") if connection > 1 || request["id"] == 0 => Act::Send(answer(request, &json!([]))),
        _ => Act::Send(Vec::new()),
    });
    let patience = Duration::from_millis(300);
    let session =
        connect(Options { probe_interval: patience / 3, dead_after: patience, ..options(fake.remote()) })
            .await;
    match soon("loss", session.list_dbs()).await {
        Err(Error::Lost(reason)) => assert!(reason.starts_with("silent for"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(soon("reconnection", session.connected()).await, Ok(2));
}

#[tokio::test]
async fn a_server_without_monitor_cond_since_is_asked_with_monitor_cond() {
    let row = "550e8400-e29b-41d4-a716-446655440000";
    let fake = Fake::start(move |_, request| match request["method"].as_str() {
        Some("echo") => Act::Send(answer(request, &json!([]))),
        Some("get_schema") => Act::Send(answer(
            request,
            &json!({"name": "db", "tables": {"T": {"columns": {"set": {"type":
                {"key": "string", "min": 0, "max": "unlimited"}}}}}}),
        )),
        Some("monitor_cond") => {
            let mut bytes = answer(request, &json!({"T": {row: {"initial": {"set": "a"}}}}));
            let update = json!({"id": null, "method": "update2",
                "params": [request["params"][1], {"T": {row: {"modify": {"set": ["set", ["a", "b", "c"]]}}}}]});
            bytes.extend(update.to_string().bytes());
            Act::Send(bytes)
        }
        // Among them monitor_cond_since.
        _ => Act::Send(refuse(request, &json!("unknown method"))),
    });
    let session = connect(options(fake.remote())).await;
    let table =
        MonitorTable { name: "T".into(), columns: vec!["set".into()], conditions: ovsdb_session::Rows::All };
    let monitor = session.monitor("db", vec![table]);
    let uuid = row.parse().unwrap();
    let wanted = ovsdb_session::Datum::set(["b", "c"]);
    let mut watch = monitor.watch();
    let there = watch.wait_for(|s| s.get("T", uuid).and_then(|row| row.get("set")) == Some(&wanted));
    let snapshot = soon("update2", there).await.unwrap().clone();
    assert!(snapshot.synced && snapshot.connected && snapshot.error.is_none());
    assert_eq!((fake.count("monitor_cond_since"), fake.count("monitor_cond")), (1, 1));
}

#[tokio::test]
async fn a_request_of_the_servers_that_nobody_knows_is_refused_politely() {
    let ask = json!({"id": "x", "method": "dance", "params": []}).to_string();
    let asked = ask.clone();
    let fake = Fake::start(move |_, request| match request["method"].as_str() {
        Some("echo") => Act::Send(answer(request, &json!([]))),
        Some("list_dbs") => {
            let mut bytes = asked.clone().into_bytes();
            bytes.extend(answer(request, &json!(["db"])));
            Act::Send(bytes)
        }
        _ => Act::Send(Vec::new()),
    });
    let session = connect(options(fake.remote())).await;
    assert_eq!(session.list_dbs().await, Ok(vec!["db".into()]));
    let refused = json!({"id": "x", "result": null, "error": "unknown method"});
    soon("refusal", async {
        while !fake.requests.lock().unwrap().contains(&refused) {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(session.connected().await, Ok(1));
}
