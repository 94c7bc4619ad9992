//! The taint of nodes whose NICs are not ready, at a real API server whose controller manager taints them, too.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

const TAINT: &str = "drawbridge.dev/nic-not-ready:NoSchedule";

fn nic_node(node: &str) -> Value {
    json!({
        "apiVersion": "drawbridge.dev/v1alpha1", "kind": "NicNode", "metadata": {"name": node},
        "spec": {
            "nodeName": node, "profile": {"kind": "OVNKubernetes"},
            "ovn": {
                "remotes": ["ssl:192.0.2.10:6642"],
                "encapsulation": {"types": ["Geneve"], "addresses": ["192.0.2.1"]},
            },
        },
    })
}

impl Bench {
    /// The NIC's agent says how it is, as it does once a minute.
    fn beat(&self, nic: &str, ready: bool) {
        static BEATS: AtomicU32 = AtomicU32::new(0);
        let beat = BEATS.fetch_add(1, Ordering::Relaxed);
        let heartbeat = format!("2026-01-01T{:02}:{:02}:{:02}Z", beat / 3600, beat / 60 % 60, beat % 60);
        let status = json!({"status": {"lastHeartbeatTime": heartbeat, "conditions": [{
            "type": "Ready", "status": if ready { "True" } else { "False" }, "reason": "OVNNotConnected",
            "message": "OVN southbound not connected: refused", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]}});
        let patch = ["patch", "nicnode", nic, "--subresource=status", "--type=merge", "-p"];
        self.plane.kubectl(&[&patch[..], &[&status.to_string()]].concat()).ok();
    }

    /// `KEY:EFFECT`.
    fn taints(&self, node: &str) -> Vec<String> {
        let path = "jsonpath={range .spec.taints[*]}{.key}:{.effect} {end}";
        let said = self.plane.kubectl(&["get", "node", node, "-o", path]).ok();
        said.split_whitespace().map(str::to_owned).collect()
    }

    fn is_tainted(&self, node: &str) -> bool {
        self.taints(node).iter().any(|it| it == TAINT)
    }

    /// While these NICs report that they are ready, or not.
    #[track_caller]
    fn until_tainted(&self, what: &str, wanted: &[&str], reporting: &[(&str, bool)]) {
        until(what, PATIENCE, || {
            for (nic, ready) in reporting {
                self.beat(nic, *ready);
            }
            let now: Vec<&str> =
                ["server1", "server2", "plain"].into_iter().filter(|node| self.is_tainted(node)).collect();
            if now == wanted { Ok(()) } else { Err(format!("tainted: {now:?}")) }
        });
    }

    /// Notes of the Events of this reason on this Node.
    fn notes(&self, node: &str, reason: &str) -> Vec<String> {
        let said =
            self.plane.kubectl(&["-n", "default", "get", "events.v1.events.k8s.io", "-o", "json"]).ok();
        let said: Value = serde_json::from_str(&said).unwrap();
        let all = said["items"].as_array().unwrap().iter();
        let of = all.filter(|it| it["regarding"]["kind"] == "Node" && it["regarding"]["name"] == node);
        let of = of.filter(|it| it["reason"] == reason);
        of.map(|it| it["note"].as_str().unwrap().to_owned()).collect()
    }

    #[track_caller]
    fn until_told(&self, node: &str, reason: &str, text: &str) {
        until(&format!("an Event {reason} on {node}"), PATIENCE, || {
            let notes = self.notes(node, reason);
            if notes.iter().any(|it| it.contains(text)) { Ok(()) } else { Err(format!("{notes:?}")) }
        });
    }
}

#[test]
fn a_node_whose_nic_is_not_ready_is_tainted() {
    let bench = Bench::start();
    let admission = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/kubernetes/admission.yaml");
    bench.plane.kubectl(&["apply", "-f", admission.to_str().unwrap()]).ok();
    for name in ["server1", "server2", "plain"] {
        bench.apply(&json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "spec": {"taints": [{"key": "example.org/theirs", "effect": "NoSchedule", "value": "x"}]},
        }));
    }
    for name in ["server1", "server2"] {
        bench.apply(&nic_node(name));
    }
    let theirs = |node: &str| bench.taints(node).iter().any(|it| it == "example.org/theirs:NoSchedule");

    let first = bench.copy("first");
    bench.until_tainted("NICs that have never reported taint their nodes", &["server1", "server2"], &[]);
    assert!(theirs("server1"), "others' taints stay: {:?}", bench.taints("server1"));
    bench.until_told("server1", "NICNotReady", "has not reported yet");
    bench.until_tainted("they report", &[], &[("server1", true), ("server2", true)]);
    assert!(theirs("server1"), "others' taints stay: {:?}", bench.taints("server1"));
    bench.until_told("server1", "NICReady", "its NIC is ready");
    bench.until_tainted(
        "one says that it is not ready",
        &["server1"],
        &[("server1", false), ("server2", true)],
    );
    bench.until_told("server1", "NICNotReady", "OVN southbound not connected");

    // Its server cannot take that away, nor can the controller write anything else of a Node.
    let kubelet = bench.plane.kubeconfig_for("system:node:server1", &["system:nodes"]);
    let none = r#"{"spec": {"taints": null}}"#;
    let tried = bench.plane.kubectl_as(&kubelet, &["patch", "node", "server1", "--type=merge", "-p", none]);
    assert!(tried.stderr.contains("is not allowed to modify taints"), "{tried:?}");
    let label = r#"{"metadata": {"labels": {"a": "b"}}}"#;
    let taints = r#"{"spec": {"taints": [{"key": "drawbridge.dev/nic-not-ready", "effect": "NoSchedule"}]}}"#;
    until("admission holds for the controller", PATIENCE, || {
        for patch in [label, none, taints, r#"{"spec": {"unschedulable": true}}"#] {
            let arguments = ["patch", "node", "server1", "--type=merge", "--dry-run=server", "-p", patch];
            let tried = bench.plane.kubectl_as(&bench.account, &arguments);
            if !tried.stderr.contains("drawbridge.dev/nic-not-ready alone") {
                return Err(format!("{patch}: {tried:?}"));
            }
        }
        Ok(())
    });

    // Another process knows of no heartbeat's age: it changes nothing before one changes.
    first.task.abort();
    let _second = bench.copy("second");
    until("the second leads", PATIENCE, || {
        if bench.leader() == "second" { Ok(()) } else { Err(bench.leader()) }
    });
    assert!(bench.is_tainted("server1"));
    bench.until_tainted("it is ready again", &[], &[("server1", true), ("server2", true)]);
    bench.until_tainted("one stops reporting", &["server1"], &[("server2", true)]);
    bench.until_told("server1", "NICNotReady", "no heartbeat for");
    bench.plane.kubectl(&["delete", "nicnode", "server1"]).ok();
    bench.until_tainted("it has no NIC any more", &[], &[("server2", true)]);
    assert!(theirs("server1") && theirs("plain"));
}
