use super::*;

fn route(destination: &str, gateway: Option<&str>) -> Route {
    Route {
        destination: destination.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
    }
}

fn observed() -> Observed {
    Observed {
        mac: Some(MacAddr([2, 0, 0, 0, 0, 1])),
        mtu: 1400,
        up: true,
        addresses: vec!["10.0.0.2/24".parse().unwrap(), "fe80::1/64".parse().unwrap()],
        routes: vec![route("10.0.0.0/24", None), route("0.0.0.0/0", Some("10.0.0.1"))],
    }
}

#[test]
fn what_the_pod_added_is_its_own_business() {
    let expected = Expected { addresses: vec!["10.0.0.2/24".parse().unwrap()], ..Expected::default() };
    assert_eq!(expected.missing_in(&observed()), [] as [&str; 0]);
}

#[test]
fn each_difference_is_said() {
    let route = |destination: &str, gateway: Option<&str>| PrevRoute {
        destination: destination.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
    };
    let expected = Expected {
        mac: Some(MacAddr([2, 0, 0, 0, 0, 2])),
        mtu: Some(1500),
        addresses: vec!["10.0.0.2/25".parse().unwrap()],
        routes: vec![
            route("0.0.0.0/0", None),
            route("0.0.0.0/0", Some("10.0.0.1")),
            route("0.0.0.0/0", Some("10.0.0.9")),
            route("10.9.0.0/16", None),
        ],
    };
    let down = Observed { up: false, ..observed() };
    assert_eq!(
        expected.missing_in(&down),
        [
            "the interface is down",
            "MAC is 02:00:00:00:00:01, not 02:00:00:00:00:02",
            "MTU is 1400, not 1500",
            "address 10.0.0.2/25 is missing",
            "route 0.0.0.0/0 via 10.0.0.9 is missing",
            "route 10.9.0.0/16 is missing",
        ]
    );
}
