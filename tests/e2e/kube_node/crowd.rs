//! Pods that ask for a port and will never run: more rows in the northbound than one transaction of cluster-controller's has.

use serde_json::json;
use tests::cluster::{Api, PATIENCE};
use tests::until;

const NODES: &str = "/api/v1/nodes";

/// Nodes that nobody is behind, and the pods bound to them. The pods go with their namespace, the Nodes when this is dropped.
pub struct Crowd {
    api: &'static Api,
    nodes: u32,
}

impl Crowd {
    /// A node's range has room for 250.
    #[track_caller]
    pub fn gather(api: &'static Api, pods: &str, nodes: u32, of_each: u32) -> Self {
        assert!(of_each < 250, "{of_each}");
        let crowd = Self { api, nodes };
        for node in 0..nodes {
            let name = name(node);
            let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
            api.create(NODES, &object);
            let range = format!("/apis/drawbridge.dev/v1alpha1/noderanges/{name}");
            until(&format!("{name} has its range"), PATIENCE, || {
                let range = api.get(&range).map_err(|e| e.message)?;
                let confirmed = range["status"]["ranges"].as_array().map_or(0, Vec::len);
                if confirmed == 2 { Ok(()) } else { Err(range["status"].to_string()) }
            });
            for number in 0..of_each {
                api.create(pods, &pod(&format!("{name}-{number}"), &name));
            }
        }
        crowd
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for node in 0..self.nodes {
            self.api.delete(&format!("{NODES}/{}", name(node)));
        }
    }
}

/// In the alphabet between the pod that waits and the one that runs.
fn name(node: u32) -> String {
    format!("crowd-{node}")
}

fn pod(name: &str, node: &str) -> serde_json::Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "nodeName": node, "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false, "enableServiceLinks": false,
        "containers": [{"name": "main", "image": "registry.local/box:1", "imagePullPolicy": "Never",
            "resources": {"limits": {"drawbridge.dev/vf": "1"}}}]}})
}
