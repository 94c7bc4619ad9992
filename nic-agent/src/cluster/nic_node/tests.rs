use std::net::IpAddr;

use drawbridge_api::NicNodeSpec;
use serde_json::{Value, json};

use super::{configure, path_of};
use crate::config::{Config, EncapType, ProfileKind};

const FILE: &str = "
    [node]
    name = 'server1'
    [server]
    listen = ['192.0.2.21:8443']
    [chassis]
    system-id = 'nic1'
    ovn-remote = 'tcp:192.0.2.10:6642'
    ovn-encap-ip = '192.0.2.1'
    [edge]
    mtu = 1400
";

fn file() -> Config {
    FILE.parse().unwrap()
}

fn spec() -> Value {
    json!({
        "nodeName": "server1",
        "profile": { "kind": "OVNKubernetes" },
        "ovn": {
            "remotes": ["tcp:192.0.2.20:6642"],
            "encapsulation": { "types": ["Geneve"], "interface": "p0" },
        },
    })
}

fn of_device(device: &str) -> Vec<IpAddr> {
    if device == "p0" { vec!["192.0.2.9".parse().unwrap(), "127.0.0.1".parse().unwrap()] } else { Vec::new() }
}

fn tried(spec: Value) -> Result<Config, Vec<String>> {
    let spec: NicNodeSpec = serde_json::from_value(spec).unwrap();
    configure(&file(), &spec, of_device).map_err(|all| all.iter().map(ToString::to_string).collect())
}

#[test]
fn the_spec_counts_more_and_the_file_fills_in() {
    let config = tried(spec()).unwrap();
    assert_eq!(config.profile.kind, ProfileKind::OvnKubernetes);
    assert_eq!(config.chassis.ovn_encap_ip, ["192.0.2.9".parse::<IpAddr>().unwrap()]);
    assert_eq!(config.chassis.ovn_encap_type, [EncapType::Geneve]);
    assert_eq!((config.chassis.system_id.as_str(), config.edge.mtu), ("nic1", Some(1400)));
    assert_eq!(config.edge.ct_zones, file().edge.ct_zones);
    let keys = file().needs_restart(&config);
    assert_eq!(keys.into_iter().map(path_of).collect::<Vec<_>>(), ["spec.ovn.remotes"]);
}

#[test]
fn all_of_a_spec_arrives() {
    let mut all = spec();
    all["profile"] = json!({ "kind": "Plain", "template": "{uid}", "addressing": "DHCP", "dhcpServers": ["10.0.0.1", "fe80::1"] });
    all["ovn"]["encapsulation"] = json!({ "types": ["VXLAN", "Geneve"], "addresses": ["2001:db8::1"] });
    all["ovn"]["bridgeMappings"] = json!([{ "network": "physnet1", "bridge": "br-phys" }]);
    all["ovn"]["transportZones"] = json!(["a", "b"]);
    all["ovn"]["ctZoneRange"] = json!({ "first": 1, "last": 100 });
    all["podZones"] = json!({ "first": 101, "last": 110 });
    all["offload"] = json!({ "mode": "Software", "tcPolicy": "SkipSW" });
    all["mtu"] = json!(9000);
    all["staticPods"] = json!("Allowed");
    all["vfBudget"] = json!(3);
    all["podLimits"] = json!({"connections": 5000, "newConnectionsPerSecond": 70});
    all["managementPort"] = json!({ "pf": 0, "vf": 7 });
    all["hostIdentity"] = json!("server1.example.org");
    all["shim"] = json!({ "keyPins": ["ab".repeat(32)] });
    let config = tried(all).unwrap();
    let chassis = &config.chassis;
    assert_eq!(chassis.ovn_bridge_mappings[0].to_string(), "physnet1:br-phys");
    assert_eq!((chassis.ovn_transport_zones.len(), chassis.ct_zone_range.to_string().as_str()), (2, "1-100"));
    assert_eq!((chassis.hw_offload, chassis.tc_policy.as_str()), (false, "skip_sw"));
    assert_eq!((config.edge.mtu, config.edge.vf_budget), (Some(9000), Some(3)));
    assert_eq!((config.edge.pod_connections, config.edge.pod_connection_rate.get()), (5000, 70));
    assert!(config.edge.static_pods);
    assert_eq!(config.edge.ct_zones.to_string(), "101-110");
    assert_eq!(config.edge.management_port.map(|it| it.to_string()).as_deref(), Some("pf0vf7"));
    assert_eq!(config.shim_keys.iter().map(ToString::to_string).collect::<Vec<_>>(), ["ab".repeat(32)]);
    assert_eq!(
        config.profile.dhcp_servers,
        ["10.0.0.1", "fe80::1"].map(|ip| ip.parse::<std::net::IpAddr>().unwrap())
    );
    assert_eq!((config.node.host_identity.as_str(), config.profile.dhcp), ("server1.example.org", true));
}

#[test]
fn every_mistake_is_named_with_its_place_and_remedy() {
    for (at, value, says) in [
        ("/nodeName", json!("server2"), "spec.nodeName = \"server2\": this NIC serves server1"),
        ("/profile/template", json!("{pod}"), "spec.profile.template = \"{pod}\": remove it"),
        ("/profile", json!({ "kind": "Plain" }), "spec.profile.template is missing"),
        ("/profile", json!({ "kind": "Plain", "template": "{name}" }), "must not share a port"),
        ("/ovn/remotes", json!(["tcp:192.0.2.1:0"]), "spec.ovn.remotes[0] = \"tcp:192.0.2.1:0\""),
        ("/ovn/remotes", json!([]), "spec.ovn.remotes"),
        (
            "/ovn/remotes",
            json!(["tcp:a:1", "tcp:a:1"]),
            "spec.ovn.remotes[1] = \"tcp:a:1\": name each member once",
        ),
        ("/ovn/remotes", json!(["ssl:192.0.2.1:6642"]), "write [southbound]"),
        ("/ovn/remotes", json!(["unix:/run/sb.sock"]), "write ssl:HOST:PORT"),
        ("/ovn/encapsulation/interface", json!("p1"), "give this device of the NIC an address"),
        ("/ovn/encapsulation/addresses", json!(["192.0.2.7"]), "write either interface or addresses"),
        ("/ovn/encapsulation", json!({ "types": [], "addresses": ["::1"] }), "spec.ovn.encapsulation.types"),
        (
            "/ovn/encapsulation",
            json!({ "types": ["Geneve"], "addresses": ["::1"] }),
            "addresses[0] = \"::1\"",
        ),
        ("/ovn/encapsulation", json!({ "types": ["Geneve"] }), "spec.ovn.encapsulation.addresses"),
        ("/ovn/bridgeMappings", json!([{ "network": "a", "bridge": "br-edge" }]), "bridgeMappings[0].bridge"),
        ("/ovn/bridgeMappings", json!([{ "network": "a b", "bridge": "br" }]), "bridgeMappings[0].network"),
        ("/ovn/transportZones", json!(["a,b"]), "spec.ovn.transportZones[0]"),
        ("/ovn/ctZoneRange", json!({ "first": 1, "last": 65535 }), "spec.ovn.ctZoneRange = \"1-65535\""),
        (
            "/podZones",
            json!({ "first": 100, "last": 200 }),
            "spec.podZones = \"100-200\": write zones outside",
        ),
        ("/podZones", json!({ "first": 60000, "last": 60255 }), "at most 255 zones"),
        ("/podZones", json!({ "first": 2, "last": 1 }), "first not above last"),
        ("/mtu", json!(1279), "spec.mtu"),
        ("/shim", json!({ "keyPins": ["AB".repeat(32)] }), "spec.shim.keyPins[0]"),
        ("/hostIdentity", json!("a b"), "spec.hostIdentity"),
    ] {
        let mut all = spec();
        let (parent, key) = at.rsplit_once('/').unwrap();
        all.pointer_mut(parent).unwrap()[key] = value;
        let problems = tried(all).unwrap_err();
        assert!(problems.iter().any(|it| it.contains(says)), "{at}: {problems:?} should say {says}");
    }
    let mut two = spec();
    two["nodeName"] = json!("x");
    two["mtu"] = json!(1);
    assert_eq!(tried(two).unwrap_err().len(), 2);
}
