use super::*;

fn result() -> AddResult {
    let address = |prefix: &str, gateway: Option<&str>| Address {
        prefix: prefix.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
    };
    AddResult {
        interface: "eth0".into(),
        mac: "0a:58:0a:f4:00:0a".parse().unwrap(),
        mtu: 1400,
        sandbox: "/run/netns/cni-1".into(),
        pci: "0000:03:00.2".parse().unwrap(),
        addresses: vec![address("10.244.0.10/24", Some("10.244.0.1")), address("fd00::a/64", None)],
        routes: vec![
            Route { destination: "0.0.0.0/0".parse().unwrap(), gateway: Some("10.244.0.1".parse().unwrap()) },
            Route { destination: "10.96.0.0/16".parse().unwrap(), gateway: None },
        ],
    }
}

#[track_caller]
fn same(version: CniVersion, fixture: &str) {
    assert_eq!(result().to_json(version, None), serde_json::from_str::<Value>(fixture).unwrap());
}

#[test]
fn each_version_has_its_shape() {
    same(CniVersion::V0_4_0, include_str!("../../tests/fixtures/result-0.4.0.json"));
    same(CniVersion::V1_0_0, include_str!("../../tests/fixtures/result-1.0.0.json"));
    same(CniVersion::V1_1_0, include_str!("../../tests/fixtures/result-1.1.0.json"));
}

#[test]
fn after_other_plugins_the_indices_go_on_and_nothing_is_lost() {
    let prev = json!({
        "cniVersion": "1.1.0", "interfaces": [{ "name": "br0" }, { "name": "net1", "sandbox": "/n" }],
        "ips": [{ "address": "192.0.2.1/24", "interface": 1 }], "dns": { "nameservers": ["192.0.2.53"] }, "x": 1,
    });
    let merged = result().to_json(CniVersion::V1_1_0, Some(&prev));
    assert_eq!(merged["interfaces"][2]["name"], "eth0");
    assert_eq!(merged["ips"][0], prev["ips"][0]);
    assert_eq!((&merged["ips"][1]["interface"], &merged["ips"][2]["interface"]), (&json!(2), &json!(2)));
    assert_eq!((&merged["dns"], &merged["x"]), (&prev["dns"], &json!(1)));
}

#[test]
fn our_own_result_is_read_back() {
    for version in CniVersion::ALL {
        let value = result().to_json(version, None);
        let read = PrevInterface::find(&value, "eth0").unwrap().unwrap();
        assert_eq!(read.mac, Some(result().mac));
        assert_eq!(read.addresses, ["10.244.0.10/24", "fd00::a/64"].map(|text| text.parse().unwrap()));
        assert_eq!(read.routes.len(), 2);
        let newest = version == CniVersion::V1_1_0;
        assert_eq!((read.mtu, read.pci), (newest.then_some(1400), newest.then_some(result().pci)));
        assert_eq!(PrevInterface::find(&value, "eth1").unwrap(), None);
    }
}

#[test]
fn an_interface_of_the_host_is_not_the_pods() {
    let prev = json!({ "interfaces": [{ "name": "eth0", "sandbox": "" }, { "name": "eth0" }] });
    assert_eq!(PrevInterface::find(&prev, "eth0").unwrap(), None);
}

#[test]
fn a_result_that_cannot_be_read_is_named() {
    let field = |prev: Value| PrevInterface::find(&prev, "eth0").unwrap_err().field;
    let interface = json!([{ "name": "eth0", "sandbox": "/n" }]);
    assert_eq!(field(json!({ "interfaces": 1 })), "interfaces");
    assert_eq!(
        field(json!({ "interfaces": [{ "name": "eth0", "sandbox": "/n", "mac": "x" }] })),
        "interfaces[].mac"
    );
    let ips = json!([{ "interface": 0, "address": "10.0.0.1" }]);
    assert_eq!(field(json!({ "interfaces": interface, "ips": ips })), "ips[].address");
    let routes = json!([{ "dst": 5 }]);
    assert_eq!(field(json!({ "interfaces": interface, "routes": routes })), "routes[].dst");
}
