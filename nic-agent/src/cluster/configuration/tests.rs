use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::cluster::own_node::OwnNode;

fn file(state: &Path) -> Config {
    format!(
        "[node]\nname = 'server1'\n\
         [server]\nlisten = ['192.0.2.21:8443']\n\
         [chassis]\nsystem-id = 'nic1'\novn-remote = 'tcp:192.0.2.10:6642'\novn-encap-ip = '192.0.2.1'\n\
         [state]\ndir = '{}'\n",
        state.display()
    )
    .parse()
    .unwrap()
}

fn own(generation: i64, change: impl FnOnce(&mut Value)) -> Own {
    let mut node = json!({
        "apiVersion": "drawbridge.dev/v1alpha1", "kind": "NicNode",
        "metadata": { "name": "server1", "generation": generation },
        "spec": {
            "nodeName": "server1", "mtu": 1400, "profile": { "kind": "KubeOVN" },
            "ovn": {
                "remotes": ["tcp:192.0.2.10:6642"],
                "encapsulation": { "types": ["Geneve"], "addresses": ["192.0.2.1"] },
            },
        },
    });
    change(&mut node["spec"]);
    Own::Known(Arc::new(serde_json::from_value::<OwnNode>(node).unwrap()))
}

fn follow(layers: &mut Layers, in_force: &Config) -> Report {
    let wanted = layers.wanted();
    match wanted {
        Ok(config) => layers.report(Ok(&in_force.needs_restart(&config))),
        Err(problems) => layers.report(Err(&problems)),
    }
}

#[test]
fn a_bad_edit_leaves_the_last_good_one_over_a_restart_too() {
    let state = tempfile::tempdir().unwrap();
    let (mut layers, first) = Layers::begin(file(state.path()), true);
    assert_eq!(first, file(state.path()));
    assert_eq!(follow(&mut layers, &first), Report::default());

    assert!(layers.set_own(&own(1, |_| {})));
    assert!(!layers.set_own(&own(1, |_| {})), "the same again");
    assert_eq!(layers.wanted().unwrap().edge.mtu, Some(1400));
    let report = follow(&mut layers, &first);
    assert_eq!(report, Report { looked_at: Some(1), generation: Some(1), verdict: Verdict::InForce });

    assert!(layers.set_own(&own(2, |spec| spec["mtu"] = json!(1))));
    let report = follow(&mut layers, &first);
    assert_eq!((report.looked_at, report.generation), (Some(2), Some(1)));
    assert!(
        matches!(&report.verdict, Verdict::Refused { problems } if problems[0].starts_with("spec.mtu")),
        "{report:?}"
    );

    let (mut again, config) = Layers::begin(file(state.path()), true);
    assert_eq!(config.edge.mtu, Some(1400), "generation 1, though the API is not there");
    assert!(!again.set_own(&Own::Absent));
    assert_eq!(again.wanted().unwrap().edge.mtu, Some(1400), "a deletion takes nothing back");
}

#[test]
fn the_servers_keys_are_those_of_the_nic_node_and_a_deletion_ends_them() {
    let state = tempfile::tempdir().unwrap();
    let pin = "ab".repeat(32);
    let (mut layers, first) = Layers::begin(file(state.path()), true);
    // One that has not been made yet takes nothing away.
    for own in [Own::Unknown, Own::Absent] {
        assert_eq!(layers.shims(&first, &own), Shims::default());
    }
    let known = own(1, |spec| spec["shim"] = json!({ "keyPins": [pin] }));
    layers.set_own(&known);
    let config = first.adopt(&layers.wanted().unwrap());
    let shims = layers.shims(&config, &known);
    assert_eq!((shims.keys.first().map(ToString::to_string), shims.revoked), (Some(pin), false));
    layers.set_own(&Own::Absent);
    assert!(layers.shims(&config, &Own::Absent).revoked);
    // Over a restart: as it was seen last, until the API answers.
    let (again, kept) = Layers::begin(file(state.path()), true);
    assert_eq!(again.shims(&kept, &Own::Unknown), shims);
    assert!(again.shims(&kept, &Own::Absent).revoked);
}

#[test]
fn what_needs_a_restart_is_said_and_taken_over_by_it() {
    let state = tempfile::tempdir().unwrap();
    let (mut layers, first) = Layers::begin(file(state.path()), true);
    layers.set_own(&own(3, |spec| spec["ovn"]["remotes"] = json!(["tcp:192.0.2.20:6642"])));
    let report = follow(&mut layers, &first);
    assert_eq!(report.verdict, Verdict::NeedsRestart { paths: vec!["spec.ovn.remotes".to_owned()] });
    let (mut again, config) = Layers::begin(file(state.path()), true);
    assert_eq!(config.chassis.ovn_remote[0].to_string(), "tcp:192.0.2.20:6642");
    again.set_own(&own(3, |spec| spec["ovn"]["remotes"] = json!(["tcp:192.0.2.20:6642"])));
    assert_eq!(follow(&mut again, &config).verdict, Verdict::InForce);
}

#[test]
fn what_was_kept_badly_leaves_the_file() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("nic-node.json"), "{").unwrap();
    assert_eq!(Layers::begin(file(state.path()), true).1, file(state.path()));
    let (mut layers, _) = Layers::begin(file(state.path()), true);
    layers.set_own(&own(1, |_| {}));
    layers.wanted().unwrap();
    let other: Config = toml_of(state.path(), "server2");
    assert_eq!(Layers::begin(other.clone(), true).1, other, "the NIC sits in another server now");
}

fn toml_of(state: &Path, node: &str) -> Config {
    let mut config = file(state);
    config.node.name = node.to_owned();
    config
}

#[test]
fn devices_have_addresses() {
    assert!(addresses_of("lo").iter().all(IpAddr::is_loopback));
    assert!(addresses_of("no-such-device").is_empty());
}

mod fuzz;
