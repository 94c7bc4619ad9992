use super::*;

fn response() -> v1::AttachResponse {
    v1::AttachResponse {
        mac: "0a:58:0a:f4:00:0a".into(),
        mtu: 1400,
        addresses: vec![v1::Address { address: "10.244.0.10/24".into(), gateway: "10.244.0.1".into() }],
        routes: vec![v1::Route { destination: "0.0.0.0/0".into(), gateway: "10.244.0.1".into() }],
        logical_port: "default_web-0".into(),
    }
}

fn error(change: impl FnOnce(&mut v1::AttachResponse)) -> AttachmentError {
    let mut response = response();
    change(&mut response);
    Attachment::try_from(response).unwrap_err()
}

#[test]
fn a_good_answer_is_taken() {
    let attachment = Attachment::try_from(response()).unwrap();
    assert_eq!(attachment.mtu, Some(1400));
    assert_eq!(attachment.addresses[0].gateway, Some("10.244.0.1".parse().unwrap()));
    let open = Attachment::try_from(v1::AttachResponse { mtu: 0, ..response() }).unwrap();
    assert_eq!(open.mtu, None);
}

#[test]
fn nonsense_is_named() {
    assert_eq!(
        error(|r| r.mac = String::new()),
        AttachmentError::Addr(AddrError::Mac("".parse::<MacAddr>().unwrap_err()))
    );
    assert_eq!(
        error(|r| r.mac = "01:00:5e:00:00:01".into()),
        AttachmentError::Mac(MacAddr([1, 0, 0x5e, 0, 0, 1]))
    );
    assert_eq!(error(|r| r.mtu = 67), AttachmentError::Mtu(67));
    assert_eq!(error(|r| r.mtu = 65536), AttachmentError::Mtu(65536));
    assert!(matches!(error(|r| r.addresses[0].address = "10.0.0.1".into()), AttachmentError::Addr(_)));
    assert!(matches!(
        error(|r| r.addresses[0].gateway = "x".into()),
        AttachmentError::Addr(AddrError::Ip(_))
    ));
    assert!(matches!(error(|r| r.routes[0].gateway = "fd00::1".into()), AttachmentError::Family { .. }));
    let small = error(|r| {
        r.mtu = 1279;
        r.addresses[0] = v1::Address { address: "fd00::a/64".into(), gateway: String::new() };
    });
    assert_eq!(small, AttachmentError::MtuIpv6(1279));
}

#[test]
fn only_gateways_outside_every_prefix_are_on_link() {
    let attachment = Attachment::try_from(response()).unwrap();
    let route = |gateway: Option<&str>| Route {
        destination: "10.96.0.0/16".parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
    };
    assert!(!attachment.needs_onlink(&route(Some("10.244.0.1"))));
    assert!(attachment.needs_onlink(&route(Some("169.254.1.1"))));
    assert!(!attachment.needs_onlink(&route(Some("fe80::1"))));
    assert!(!attachment.needs_onlink(&route(None)));
}
