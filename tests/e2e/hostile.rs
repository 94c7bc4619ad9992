//! A server that lies to its NIC: every lie is refused with its reason, and nothing has changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use proto::v1::AttachRequest;
use tests::host::{Liar, Refused, claim};
use tests::{Nic, Pod, State, Wish, netns};
use tonic::Code;

const HOST: Liar<'static> = Liar { place: "host1", certificate: Some("host1") };

fn refused(who: Liar<'_>, request: AttachRequest) -> Refused {
    who.attach(request).expect_err("refused")
}

#[test]
fn every_lie_is_refused_and_changes_nothing() {
    let nic = Nic(1);
    let held = Pod::add(&Wish { name: "held", host: "host1", vf: 2, options: &[] });
    let free = Pod::create(&Wish { name: "free", host: "host1", vf: 3, options: &[] });
    let elsewhere = Pod::create(&Wish { name: "elsewhere", host: "host2", vf: 4, options: &[] });
    let hostnet = Pod::create(&Wish { name: "hostnet", host: "host1", vf: 5, options: &["--host-network"] });
    let done = Pod::create(&Wish { name: "done", host: "host1", vf: 6, options: &["--phase", "Succeeded"] });
    nic.settle();
    let before = State::of(nic);

    let with = |request: AttachRequest, change: &dyn Fn(&mut AttachRequest)| {
        let mut request = request;
        change(&mut request);
        request
    };
    let lies: Vec<(&str, AttachRequest)> = vec![
        (
            "unknown-pod",
            with(claim(&free), &|r| {
                r.pod.as_mut().unwrap().uid = "11111111-2222-3333-4444-555555555555".into();
            }),
        ),
        ("wrong-pod", with(claim(&free), &|r| r.pod.as_mut().unwrap().name = "held".into())),
        ("wrong-node", claim(&elsewhere)),
        ("host-network", claim(&hostnet)),
        ("finished", claim(&done)),
        ("vf-held", with(claim(&free), &|r| r.vf.as_mut().unwrap().vf = 2)),
        ("no-such-vf", with(claim(&free), &|r| r.vf.as_mut().unwrap().vf = 200)),
        ("no-such-vf", with(claim(&free), &|r| r.vf.as_mut().unwrap().pf = 9)),
        ("malformed", with(claim(&free), &|r| r.sandbox.as_mut().unwrap().id = "../../etc".into())),
        ("malformed", with(claim(&free), &|r| r.sandbox.as_mut().unwrap().interface = "a/b".into())),
        ("malformed", with(claim(&free), &|r| r.pod.as_mut().unwrap().name = "x".repeat(300))),
        ("malformed", with(claim(&free), &|r| r.pod = None)),
        ("sandbox-in-use", with(claim(&held), &|r| r.vf.as_mut().unwrap().vf = 3)),
    ];
    for (reason, request) in lies {
        let refusal = refused(HOST, request.clone());
        assert_eq!(refusal.reason, reason, "{request:?}: {refusal:?}");
        assert!(!refusal.message.is_empty());
        assert_ne!(refusal.code, Code::Unavailable, "a refusal is no outage: {refusal:?}");
    }
    let who = |certificate| Liar { place: "host1", certificate };
    for certificate in [None, Some("foreign-host1"), Some("expired-host1")] {
        let refusal = refused(who(certificate), claim(&free));
        // Cancelled: the connection ended before the request had gone out.
        let in_transport = matches!(refusal.code, Code::Unavailable | Code::Unknown | Code::Cancelled);
        let unanswered = matches!(refusal.reason.as_str(), "" | "connection");
        assert!(in_transport && unanswered, "{certificate:?} does not get as far as a request: {refusal:?}");
    }
    let refusal = refused(who(Some("host2")), claim(&free));
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (Code::PermissionDenied, "wrong-identity"),
        "{refusal:?}"
    );

    // Oversize: far more than any claim, in a field that is checked only after decoding.
    let huge = with(claim(&free), &|r| r.network = "n".repeat(1 << 20));
    let refusal = refused(HOST, huge);
    assert!(
        matches!(refusal.code, Code::OutOfRange | Code::ResourceExhausted | Code::Internal),
        "{refusal:?}"
    );

    garbage();
    nic.settle();
    assert_eq!(State::of(nic), before);
    assert!(held.pings("10.244.0.1"), "and who was attached still is");

    // After all that, the honest claim is granted.
    free.cni("ADD", &[]).ok();
    assert!(free.pings(&held.ip));
    // A sandbox that was detached does not come back.
    let replay = claim(&free);
    free.cni("DEL", &[]).ok();
    assert_eq!(refused(HOST, replay).reason, "sandbox-replayed");
}

/// Bytes that are no TLS, TLS that is never finished, and many connections: others are served all the same.
fn garbage() {
    netns::within("host1", || {
        let connect = || TcpStream::connect("192.168.100.2:8443").expect("the agent listens");
        let mut stuck = Vec::new();
        for round in 0..40u8 {
            let mut stream = connect();
            stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let bytes: Vec<u8> =
                (0..=u8::MAX).cycle().take(600).map(|n| n.wrapping_mul(round).wrapping_add(round)).collect();
            let _ =
                stream.write_all(if round % 3 == 0 { b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" } else { &bytes });
            let _ = stream.read(&mut [0; 64]);
            if round % 2 == 0 {
                stuck.push(stream);
            }
        }
        drop(stuck);
    });
}
