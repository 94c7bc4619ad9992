//! Which endpoints a client gets, and what its policy makes of the ClusterIP: hints for zones, `internalTrafficPolicy`, and
//! an endpoint that serves while it terminates. The policy lets the client to those that it should get, and to no others: so
//! it is refused everything else, and has to be let through to these.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tests::cluster::{Api, in_force, version};
use tests::{netns, until};

use crate::herald::{By, ask};
use crate::{NAMESPACE, PORT, Scene, service_with};

const PATIENCE: Duration = Duration::from_mins(2);
/// Connections of which one of two backends has none: one case in a million.
const ENOUGH: usize = 20;
const CLIENT: &str = "client-near";
const ZONE: &str = "topology.kubernetes.io/zone";
/// It is the only one behind `leaving`, and serves on long after it was told to end.
pub const LEAVES: &str = "last";

/// The servers' zones, until dropped.
pub struct Zones<'a>(&'a Api);

impl<'a> Zones<'a> {
    pub fn set(api: &'a Api) -> Self {
        for (node, zone) in [("host1", "z1"), ("host2", "z2")] {
            label(api, node, &json!(zone));
        }
        Self(api)
    }
}

impl Drop for Zones<'_> {
    fn drop(&mut self) {
        for node in ["host1", "host2"] {
            label(self.0, node, &Value::Null);
        }
    }
}

fn label(api: &Api, node: &str, zone: &Value) {
    api.patch(&format!("/api/v1/nodes/{node}"), &json!({"metadata": {"labels": {ZONE: zone}}}));
}

/// At each address, by each protocol, until none but this one answers.
fn answers(scene: &Scene, client: &str, ips: [std::net::IpAddr; 2], name: &str) -> usize {
    let mut asked = 0;
    for (ip, by) in ips.into_iter().flat_map(|ip| [(ip, By::Tcp), (ip, By::Udp)]) {
        let to = SocketAddr::new(ip, PORT);
        let what = format!("{client} is answered by {name} at {to} by {by:?}");
        netns::within(&scene.pods[client].place(), || {
            let all = || {
                (0..ENOUGH).try_for_each(|at| match ask(to, by) {
                    Ok(answered) if answered == name => Ok(()),
                    other => Err(format!("connection {at}: {other:?}")),
                })
            };
            until(&what, PATIENCE, all);
            // From then on by nobody else.
            all().unwrap_or_else(|e| panic!("{what}: {e}"));
        });
        asked += ENOUGH;
    }
    asked
}

pub fn run(api: &Api, scene: &Scene) {
    let close = service_with(api, "close", "mixed", &json!({"trafficDistribution": "PreferClose"}));
    let local = service_with(api, "local", "mixed", &json!({"internalTrafficPolicy": "Local"}));
    let leaving = service_with(api, "leaving", "leaving", &json!({}));
    let mut asked = 0;
    for (client, near) in [(CLIENT, "near"), ("client-far", "far")] {
        for ips in [close, local] {
            asked += answers(scene, client, ips, near);
        }
    }
    let policy = api.create(
        &format!("/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies"),
        &json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "to-near"},
            "spec": {"podSelector": {"matchLabels": {"pod": CLIENT}}, "policyTypes": ["Egress"], "egress": [{"to": [
                {"podSelector": {"matchExpressions": [{"key": "pod", "operator": "In", "values": ["near", LEAVES]}]}}]}]}}),
    );
    in_force(scene.pods[CLIENT].nic(), &[("networkpolicies", version(&policy))].into());
    // All backends or none: of this one's the policy does not allow the far one.
    netns::within(&scene.pods[CLIENT].place(), || {
        let to = SocketAddr::new(scene.services["mixed"][0], PORT);
        let said = ask(to, By::Udp);
        assert!(said.is_err(), "the policy does not allow all that is behind {to}: {said:?}");
    });
    for ips in [close, local] {
        asked += answers(scene, CLIENT, ips, "near");
    }
    asked += answers(scene, CLIENT, leaving, LEAVES);

    let goes = &scene.pods[LEAVES];
    api.delete(&goes.path());
    let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices");
    let mut newest = 0;
    until("its endpoints terminate and serve", PATIENCE, || {
        let of = |it: &&Value| it["metadata"]["labels"]["kubernetes.io/service-name"] == "leaving";
        let all = api.list(&slices);
        let mut conditions = all.iter().filter(of).map(|it| &it["endpoints"][0]["conditions"]);
        newest = all.iter().filter(of).map(version).max().unwrap_or_default();
        let expected = json!({"ready": false, "serving": true, "terminating": true});
        if conditions.all(|it| *it == expected) { Ok(()) } else { Err(format!("{all:?}")) }
    });
    // The agent knows it when it says so, or with its next pass.
    std::thread::sleep(Duration::from_secs(12));
    assert!(!goes.is_dead(), "it serves to its end, which is far");
    asked += answers(scene, CLIENT, leaving, LEAVES);
    assert!(!goes.is_dead(), "it has served to its end, which is far");
    println!(
        "{asked} connections by whom policy and load balancer mean alike; the last ones by one that terminates (slice {newest})"
    );
    goes.kill();
}
