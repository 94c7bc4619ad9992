//! Specs that went wrong in any way: each is taken or refused as a whole, and the last one that was taken is in force, over
//! a restart too.

use proptest::prelude::*;

use super::*;
use crate::cluster::testing::mutation::{Mutation, mutate, mutations};

/// With every field, so that each can go wrong.
fn full(generation: usize, mutations: &[Mutation]) -> Own {
    let mut node = json!({
        "apiVersion": "drawbridge.dev/v1alpha1", "kind": "NicNode",
        "metadata": { "name": "server1", "generation": generation },
        "spec": {
            "nodeName": "server1", "hostIdentity": "server1.example.org", "mtu": 1400, "vfBudget": 8,
            "podLimits": { "connections": 1000, "newConnectionsPerSecond": 500 },
            "managementPort": { "pf": 0, "vf": 0 },
            "podZones": { "first": 61000, "last": 61200 },
            "offload": { "mode": "Hardware", "tcPolicy": "None" },
            "profile": { "kind": "Plain", "template": "{namespace}_{name}", "addressing": "CNI" },
            "ovn": {
                "remotes": ["tcp:192.0.2.10:6642"], "transportZones": ["a"],
                "bridgeMappings": [{ "network": "physnet1", "bridge": "br-phys" }],
                "ctZoneRange": { "first": 1, "last": 60000 },
                "encapsulation": { "types": ["Geneve"], "addresses": ["192.0.2.1"] },
            },
        },
    });
    mutate(&mut node, "/spec", mutations);
    Own::Known(Arc::new(serde_json::from_value::<OwnNode>(node).unwrap()))
}

/// What must be true of any configuration, whatever was asked for.
fn is_sane(config: &Config) -> bool {
    let chassis = &config.chassis;
    config.node.name == "server1"
        && !chassis.ovn_remote.is_empty()
        && !chassis.ovn_encap_ip.is_empty()
        && !chassis.ovn_encap_type.is_empty()
        && chassis
            .ovn_encap_ip
            .iter()
            .all(|ip| !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast())
        && chassis.ovn_bridge_mappings.iter().all(|it| it.bridge != config.edge.bridge)
        && !chassis.ct_zone_range.overlaps(config.edge.ct_zones)
        && config.edge.ct_zones.size() <= 255
        && (10..=1_000_000).contains(&config.edge.pod_connection_rate.get())
        && (64..=4_000_000).contains(&config.edge.pod_connections)
        && config.edge.mtu.is_none_or(|mtu| (1280..=9978).contains(&mtu))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn the_last_good_one_is_in_force_whatever_comes(edits in proptest::collection::vec(mutations(), 1..8)) {
        let state = tempfile::tempdir().unwrap();
        let file = file(state.path());
        let (mut layers, mut in_force) = Layers::begin(file.clone(), true);
        let mut good = None;
        for (at, edit) in edits.iter().enumerate() {
            let generation = i64::try_from(at).unwrap() + 1;
            layers.set_own(&full(at + 1, edit));
            match layers.wanted() {
                Ok(config) => {
                    prop_assert!(is_sane(&config), "{config:?}");
                    prop_assert!(!edit.is_empty() || config.edge.mtu == Some(1400));
                    (in_force, good) = (config, Some(generation));
                }
                Err(problems) => {
                    prop_assert!(!edit.is_empty(), "a good one was refused: {problems:?}");
                    prop_assert!(problems.iter().all(|it| it.starts_with("spec")), "{problems:?}");
                    prop_assert!(!problems.is_empty() && problems.iter().all(|it| it.len() < 6000));
                    let report = layers.report(Err(&problems));
                    prop_assert_eq!((report.looked_at, report.generation), (Some(generation), good));
                }
            }
            let (_, again) = Layers::begin(file.clone(), true);
            prop_assert_eq!(&again, &in_force, "after a restart");
        }
    }
}
