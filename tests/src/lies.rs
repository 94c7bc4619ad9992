//! What a server that lies may say, and what its NIC has to answer, whether a file or a cluster says which pods there are.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use proto::v1::AttachRequest;
use tonic::Code;

use crate::host::{Liar, Refused};
use crate::netns;

/// Server 1 with its own certificate.
pub const HOST: Liar<'static> = Liar { place: "host1", certificate: Some("host1") };

/// Another claim.
pub fn with(honest: &AttachRequest, change: impl FnOnce(&mut AttachRequest)) -> AttachRequest {
    let mut request = honest.clone();
    change(&mut request);
    request
}

/// With another uid.
pub fn of_uid(honest: &AttachRequest, uid: &str) -> AttachRequest {
    with(honest, |r| uid.clone_into(&mut r.pod.as_mut().expect("a pod").uid))
}

/// For another VF.
pub fn of_vf(honest: &AttachRequest, pf: u32, vf: u32) -> AttachRequest {
    with(honest, |r| {
        let claimed = r.vf.as_mut().expect("a VF");
        (claimed.pf, claimed.vf) = (pf, vf);
    })
}

/// Claims that are none.
pub fn malformed(honest: &AttachRequest) -> Vec<(&'static str, AttachRequest)> {
    let sandbox = |r: &mut AttachRequest, id: &str, interface: &str| {
        let sandbox = r.sandbox.as_mut().expect("a sandbox");
        (sandbox.id, sandbox.interface) = (id.to_owned(), interface.to_owned());
    };
    vec![
        ("malformed", with(honest, |r| sandbox(r, "../../etc", "eth0"))),
        // What the NIC calls its own attachment, of the management port.
        ("malformed", with(honest, |r| sandbox(r, "", "management"))),
        ("malformed", with(honest, |r| r.sandbox.as_mut().expect("a sandbox").interface = "a/b".into())),
        ("malformed", with(honest, |r| r.pod.as_mut().expect("a pod").name = "x".repeat(300))),
        ("malformed", with(honest, |r| r.pod = None)),
    ]
}

#[track_caller]
pub fn refused(who: Liar<'_>, request: AttachRequest) -> Refused {
    who.attach(request).expect_err("refused")
}

/// Each with its reason.
#[track_caller]
pub fn each_is_refused(lies: Vec<(&str, AttachRequest)>) {
    for (reason, request) in lies {
        let refusal = refused(HOST, request.clone());
        assert_eq!(refusal.reason, reason, "{request:?}: {refusal:?}");
        assert!(!refusal.message.is_empty());
        assert_ne!(refusal.code, Code::Unavailable, "a refusal is no outage: {refusal:?}");
    }
}

/// Whoever is not the server, with a claim that is all right: no certificate, a wrong one, another server's.
#[track_caller]
pub fn strangers_are_refused(honest: &AttachRequest) {
    let who = |certificate| Liar { place: "host1", certificate };
    for certificate in [None, Some("foreign-host1"), Some("expired-host1")] {
        let refusal = refused(who(certificate), honest.clone());
        // Cancelled: the connection ended before the request had gone out.
        let in_transport = matches!(refusal.code, Code::Unavailable | Code::Unknown | Code::Cancelled);
        let unanswered = matches!(refusal.reason.as_str(), "" | "connection");
        assert!(in_transport && unanswered, "{certificate:?} does not get as far as a request: {refusal:?}");
    }
    let refusal = refused(who(Some("host2")), honest.clone());
    assert_eq!(
        (refusal.code, refusal.reason.as_str()),
        (Code::PermissionDenied, "wrong-identity"),
        "{refusal:?}"
    );
}

/// Far more than any claim, in a field that is checked only after decoding.
#[track_caller]
pub fn oversize_is_refused(honest: &AttachRequest) {
    let huge = with(honest, |r| r.network = "n".repeat(1 << 20));
    let refusal = refused(HOST, huge);
    assert!(
        matches!(refusal.code, Code::OutOfRange | Code::ResourceExhausted | Code::Internal),
        "{refusal:?}"
    );
}

/// Bytes that are no TLS, TLS that is never finished, and many connections: others are served all the same.
pub fn garbage() {
    netns::within("host1", || {
        let connect = || TcpStream::connect("192.168.100.2:8443").expect("the agent listens");
        let mut stuck = Vec::new();
        for round in 0..40u8 {
            let mut stream = connect();
            stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out");
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
