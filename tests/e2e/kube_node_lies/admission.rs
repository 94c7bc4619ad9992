//! The admission policies for nodes, applied and taken away.

use serde_json::json;
use tests::cluster::{Api, PATIENCE};
use tests::{until, vm};

const NODES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/kubernetes/admission-nodes.yaml");
const ADDRESSES: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/kubernetes/admission-addresses.yaml");
const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";

/// As the lab has it when dropped: for nodes, and not for addresses.
pub struct Admission {
    api: &'static Api,
}

fn kubectl(verb: &str, file: &str) {
    let mut arguments = vec!["/lab/kubectl", verb, "-f", file];
    if verb == "delete" {
        arguments.push("--ignore-not-found");
    }
    vm(&arguments).ok();
}

impl Admission {
    pub fn of(api: &'static Api) -> Self {
        Self { api }
    }

    /// Returns when they hold: policies take effect some time after they are written.
    pub fn on(&mut self) {
        kubectl("apply", NODES);
        kubectl("apply", ADDRESSES);
        let kubelet = Api::kubelet("host1");
        until("both admission policies hold", PATIENCE, || {
            self.probe(&kubelet, "drawbridge-nodes", true)?;
            self.probe(&kubelet, "drawbridge-node-addresses", true)
        });
    }

    /// The same.
    pub fn off(&mut self) {
        kubectl("delete", ADDRESSES);
        kubectl("delete", NODES);
        let kubelet = Api::kubelet("host1");
        until("no admission policy is left", PATIENCE, || self.probe(&kubelet, "drawbridge-nodes", false));
        assert!(
            self.api.list(POLICIES).iter().all(|it| it["metadata"]["name"] != "drawbridge-node-addresses")
        );
    }

    /// Something harmless that the policy refuses: is it refused?
    fn probe(&self, kubelet: &Api, policy: &str, wanted: bool) -> Result<(), String> {
        let tried = if policy == "drawbridge-nodes" {
            let note = |value| json!({"metadata": {"annotations": {"drawbridge.dev/probe": value}}});
            let tried = kubelet.try_patch("/api/v1/nodes/host1", &note(json!("1")));
            if tried.is_ok() {
                self.api.try_patch("/api/v1/nodes/host1", &note(json!(null))).map_err(|e| e.message)?;
            }
            tried
        } else {
            // Documentation's: nobody's.
            let path = "/api/v1/namespaces/evil/pods/x";
            let before = self.api.get(path).map_err(|e| e.message)?;
            let mut said = before.clone();
            said["status"]["podIP"] = json!("192.0.2.99");
            said["status"]["podIPs"] = json!([{"ip": "192.0.2.99"}]);
            // kubelet, which still runs, sets it right.
            kubelet.try_replace(&format!("{path}/status"), &said)
        };
        let refused = matches!(&tried, Err(e) if e.message.contains(policy));
        if refused == wanted { Ok(()) } else { Err(format!("{policy}: {tried:?}")) }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        kubectl("apply", NODES);
        kubectl("delete", ADDRESSES);
    }
}
