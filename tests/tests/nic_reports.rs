//! What an agent writes to a real API server, with its own credential: status, PodAttachments, Events; and that the API
//! server may be gone meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nic_agent::attachment::Binding;
use nic_agent::claim::{Attached, Attachments, Claim, PodRef, Refusal, SandboxKey};
use nic_agent::cluster::client::Access;
use nic_agent::cluster::configuration::{Report, Verdict};
use nic_agent::cluster::events::{Teller, Telling};
use nic_agent::cluster::own_node::{self, Own};
use nic_agent::cluster::{attachments, status};
use nic_agent::config::Config;
use nic_agent::metrics::Metrics;
use nic_agent::ovs::daemons::Daemons;
use nic_agent::preflight::{self, Line, State as Check};
use nic_agent::published::{Entry, Published, State, Wiring};
use offload::ids::{CtZone, VfId};
use serde_json::{Value, json};
use tests::control_plane::{ControlPlane, Program};
use tests::until;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_mins(3);

const FILE: &str = "
    [node]
    name = 'server1'
    [server]
    listen = ['192.0.2.21:8443']
    [chassis]
    system-id = 'nic1'
    ovn-remote = 'tcp:192.0.2.10:6642'
    ovn-encap-ip = '192.0.2.1'
";

/// Refuses all claims.
struct Refuses;

impl Attachments for Refuses {
    async fn attach(&self, claim: Claim) -> Result<Attached, Refusal> {
        Err(Refusal::VfHeld { vf: claim.vf, holder: "default/another".to_owned() })
    }

    async fn detach(&self, _: SandboxKey) -> Result<bool, Refusal> {
        Ok(false)
    }

    async fn check(&self, key: SandboxKey, _: Option<String>) -> Result<Attached, Refusal> {
        Err(Refusal::NotAttached { key })
    }

    async fn list(&self) -> Vec<Claim> {
        Vec::new()
    }

    async fn status(&self) -> Result<(), String> {
        Ok(())
    }
}

fn claim(uid: &str) -> Claim {
    Claim {
        key: SandboxKey { sandbox: "s1".to_owned(), interface: "eth0".to_owned() },
        pod: PodRef { namespace: "default".to_owned(), name: "p".to_owned(), uid: uid.to_owned() },
        network: String::new(),
        pci_address: String::new(),
        vf: VfId { pf: 0, vf: 3 },
    }
}

fn published(uid: Option<&str>) -> Published {
    let mut published = Published { passes: 1, ..Published::default() };
    published.health.vfs = 8;
    if let Some(uid) = uid {
        let mac = "0a:00:00:00:00:01".parse().unwrap();
        let attached = Attached {
            mac,
            mtu: 1400,
            addresses: Vec::new(),
            routes: Vec::new(),
            logical_port: "default_p".to_owned(),
        };
        let wiring = Wiring {
            zone: CtZone::new(61000).unwrap(),
            logical_port: "default_p".to_owned(),
            binding: Some(Binding {
                mac,
                ips: vec!["10.244.0.7".parse().unwrap()],
                dhcp: false,
                dhcp_servers: Vec::new(),
            }),
            representor: Some("c1pf0vf3".to_owned()),
        };
        let state = State::Ready(Arc::new(attached));
        let entry = Entry { claim: claim(uid), token: 1, wiring, state, remarks: Vec::new(), problem: None };
        published.attachments.insert(entry.claim.key.clone(), entry);
    }
    published
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|it| it["type"] == kind)
}

fn get(plane: &ControlPlane, what: &[&str]) -> Result<Value, String> {
    let got = plane.kubectl(&[&["get", "-o", "json"], what].concat());
    if got.is_ok() { Ok(serde_json::from_str(&got.stdout).unwrap()) } else { Err(got.stderr) }
}

fn with_condition(plane: &ControlPlane, what: &[&str], kind: &str, is: &str) -> Value {
    until(&format!("{what:?} is {kind}={is}"), PATIENCE, || {
        let object = get(plane, what)?;
        match condition(&object, kind) {
            Some(found) if found["status"] == is => Ok(object),
            other => Err(format!("{other:?}")),
        }
    })
}

/// A file of the preflight's, as it changes.
fn preflight_is_told(plane: &ControlPlane, file: &Path) {
    let told = |status: &str, reason: &str| {
        until(&format!("the preflight is {status}, {reason}"), PATIENCE, || {
            let node = get(plane, &["nicnode", "server1"])?;
            match condition(&node, "PreflightPassed") {
                Some(it) if it["status"] == status && it["reason"] == reason => Ok(it["message"].to_string()),
                other => Err(format!("{other:?}")),
            }
        })
    };
    told("Unknown", "NotRun");
    let report = |state, boot_id| preflight::Report {
        version: 1,
        boot_id,
        time: "2026-11-30T12:00:00Z".to_owned(),
        checks: vec![Line::new(
            "eswitch-mode",
            "pci/0000:03:00.0",
            state,
            "legacy",
            "switchdev",
            "devlink dev",
        )],
    };
    let write = |state, boot_id| preflight::file::write(file, &report(state, boot_id)).unwrap();
    let boot = preflight::boot::current();
    write(Check::Failed, boot.clone());
    let said = told("False", "Failed");
    assert!(said.contains("pci/0000:03:00.0") && said.contains("mend: devlink dev"), "{said}");
    write(Check::Unknown, boot.clone());
    told("Unknown", "NotAllRead");
    write(Check::Failed, Some("0".repeat(32)));
    told("Unknown", "OtherBoot");
    std::fs::write(file, "{").unwrap();
    told("Unknown", "Unreadable");
    write(Check::Passed, boot);
    told("True", "Passed");
}

#[test]
fn the_cluster_is_told_what_is_true() {
    let plane = ControlPlane::api_only();
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/kubernetes");
    plane.kubectl(&["apply", "-k", packaging.to_str().unwrap()]).ok();
    plane.kubectl(&["wait", "--for=condition=Established", "crd", "--all"]).ok();
    plane.apply(
        &json!({
            "apiVersion": "drawbridge.dev/v1alpha1", "kind": "NicNode", "metadata": { "name": "server1" },
            "spec": { "nodeName": "server1", "profile": { "kind": "OVNKubernetes" }, "ovn": {
                "remotes": ["tcp:192.0.2.10:6642"],
                "encapsulation": { "types": ["Geneve"], "addresses": ["192.0.2.1"] } } },
        })
        .to_string(),
    );
    plane.apply(
        &json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p", "namespace": "default" },
            "spec": { "containers": [{ "name": "c", "image": "none" }] },
        })
        .to_string(),
    );
    let uid = get(&plane, &["pod", "p"]).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();

    // An agent's writers, with the NIC's credential, as the agent runs them.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let kubeconfig = plane.kubeconfig_for("drawbridge:nic:server1", &["drawbridge:nics"]);
    let access = runtime.block_on(Access::load(&kubeconfig)).unwrap();
    let client = {
        let _guard = runtime.enter();
        access.client().unwrap()
    };
    let (found, own) = watch::channel(Own::default());
    let (publish, reports_of) = watch::channel(Arc::new(published(None)));
    let (_config, config) = watch::channel(Arc::new(FILE.parse::<Config>().unwrap()));
    let in_force = Report { looked_at: Some(1), generation: Some(1), verdict: Verdict::InForce };
    let (report, report_of) = watch::channel(in_force);
    let (daemons, daemons_of) = watch::channel(Daemons::default());
    let run = tempfile::tempdir().unwrap();
    let file = run.path().join("preflight.json");
    let cancel = CancellationToken::new();
    let (preflight, follow) = preflight::watch::start(file.clone(), cancel.clone());
    runtime.spawn(follow);
    let (telling, refused) = Telling::new(Refuses);
    let mut teller = Teller::new(refused, reports_of.clone(), own.clone());
    let of_status = status::Inputs {
        own,
        published: reports_of.clone(),
        config: config.clone(),
        report: report_of,
        daemons: daemons_of,
        preflight,
        metrics: Metrics::new(),
    };
    let of_pods = attachments::Inputs { published: reports_of, config };
    runtime.spawn(status::run(client.clone(), of_status));
    runtime.spawn(attachments::run(client.clone(), of_pods));
    runtime.spawn({
        let client = client.clone();
        async move { own_node::follow(client, "server1", &found).await }
    });
    runtime.spawn(async move { teller.run(client, "server1").await });

    // The NIC's own status.
    let node = with_condition(&plane, &["nicnode", "server1"], "Ready", "True");
    let status = &node["status"];
    assert_eq!((&status["observedGeneration"], &status["vfs"]["total"]), (&json!(1), &json!(8)));
    assert_eq!(status["addresses"][0]["address"], "192.0.2.1");
    assert!(status["lastHeartbeatTime"].is_string() && status["versions"]["agent"].is_string(), "{status}");
    assert_eq!(condition(&node, "Configured").unwrap()["reason"], "InForce");
    daemons.send_replace(Daemons { ovs: Some("3.5.0".to_owned()), ovn: Some("25.03.0".to_owned()) });
    until("the daemons' versions are said", PATIENCE, || {
        let versions = get(&plane, &["nicnode", "server1"])?["status"]["versions"].take();
        let are = versions["ovs"] == "3.5.0" && versions["ovn"] == "25.03.0";
        if are { Ok(()) } else { Err(versions.to_string()) }
    });

    preflight_is_told(&plane, &file);

    // A pod comes, its object is deleted by mistake, and the API server is gone while the pod goes.
    publish.send_replace(Arc::new(published(Some(&uid))));
    let attachment = with_condition(&plane, &["podattachment", "p-eth0"], "Bound", "True");
    assert_eq!(attachment["metadata"]["ownerReferences"][0]["uid"], uid.as_str());
    assert_eq!(attachment["status"]["ips"], json!(["10.244.0.7"]));
    assert_eq!(attachment["status"]["representor"], "c1pf0vf3");
    let first = attachment["metadata"]["uid"].clone();
    plane.kubectl_as(&kubeconfig, &["delete", "podattachment", "p-eth0"]).ok();
    let again = with_condition(&plane, &["podattachment", "p-eth0"], "Bound", "True");
    assert_ne!(again["metadata"]["uid"], first);

    // A claim that is refused.
    assert!(runtime.block_on(telling.attach(claim(&uid))).is_err());
    until("the pod has an Event", PATIENCE, || {
        let events = get(&plane, &["events.v1.events.k8s.io", "-n", "default"])?;
        let events = events["items"].as_array().unwrap();
        match events
            .iter()
            .find(|it| it["reason"] == "ClaimRefused" && it["regarding"]["uid"] == uid.as_str())
        {
            Some(event) if event["note"].as_str().is_some_and(|it| it.contains("(vf-held)")) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });

    plane.stop(Program::ApiServer);
    let mut worse = published(None);
    worse.health.ovn = Some("the southbound is gone".to_owned());
    publish.send_replace(Arc::new(worse));
    let problems = vec!["spec.mtu = \"1\": write more".to_owned()];
    report.send_replace(Report {
        verdict: Verdict::Refused { problems },
        looked_at: Some(2),
        generation: Some(1),
    });
    plane.start_again(Program::ApiServer);
    let node = with_condition(&plane, &["nicnode", "server1"], "OVNConnected", "False");
    let configured = condition(&node, "Configured").unwrap();
    assert_eq!((&configured["reason"], &configured["observedGeneration"]), (&json!("Refused"), &json!(2)));
    assert!(configured["message"].as_str().unwrap().contains("spec.mtu"), "{configured}");
    until("the attachment is gone", PATIENCE, || match get(&plane, &["podattachment", "p-eth0"]) {
        Err(error) if error.contains("NotFound") => Ok(()),
        other => Err(format!("{other:?}")),
    });

    // Another NIC squats on the name: what this one says has another, and says the same.
    let nic2 = plane.kubeconfig_for("drawbridge:nic:server2", &["drawbridge:nics"]);
    let squatter = json!({
        "apiVersion": "drawbridge.dev/v1alpha1", "kind": "PodAttachment",
        "metadata": { "name": "p-eth0", "namespace": "default" },
        "spec": { "pod": { "name": "p", "uid": uid }, "interface": "eth0", "nodeName": "server2", "vf": { "pf": 0, "vf": 0 } },
    });
    plane.kubectl_with(&nic2, &["create", "-f", "-"], &squatter.to_string()).ok();
    publish.send_replace(Arc::new(published(Some(&uid))));
    until("the NIC's own word is there", PATIENCE, || {
        let list = get(&plane, &["podattachments", "--field-selector=spec.nodeName=server1"])?;
        let said = |it: &&Value| {
            it["status"]["ips"] == json!(["10.244.0.7"]) && it["spec"]["pod"]["uid"] == uid.as_str()
        };
        let found = list["items"].as_array().unwrap().iter().filter(said).count();
        if found == 1 { Ok(()) } else { Err(list.to_string()) }
    });
    let squatter = get(&plane, &["podattachment", "p-eth0"]).unwrap();
    assert!(squatter["spec"]["nodeName"] == "server2" && squatter["status"].is_null(), "{squatter}");
}
