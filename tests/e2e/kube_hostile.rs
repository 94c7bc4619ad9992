//! A server that lies to its NIC about the pods of a real cluster: every lie is refused with its reason, nothing has
//! changed, and the cluster says so. kubelet is stopped meanwhile: the liar is all that speaks for the server.
//! On a lab with Kubernetes and cluster-controller.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::sync::LazyLock;
use std::time::Instant;

use proto::v1::{self, AttachRequest};
use serde_json::{Value, json};
use tests::cluster::{Api, Namespace, PATIENCE, Silent};
use tests::host::Liar;
use tests::lies::{self, HOST, of_uid, of_vf, refused};
use tests::nic::NICS;
use tests::{State, place, until};
use tonic::Code;

static API: LazyLock<Api> = LazyLock::new(Api::admin);
const NAMESPACE: &str = "e2e-hostile";
const PODS: &str = "/api/v1/namespaces/e2e-hostile/pods";

/// A pod that the cluster has bound to a node, and that nobody runs. Returns its uid.
#[track_caller]
fn bound(name: &str, node: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
        "nodeName": node, "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": false, "enableServiceLinks": false,
        "containers": [{"name": "main", "image": "registry.local/box:1", "imagePullPolicy": "Never",
            "resources": {"limits": {"drawbridge.dev/vf": "1"}}}]}});
    change(&mut pod);
    // The namespace's service account is made some time after it.
    let made =
        until(&format!("{name} is taken"), PATIENCE, || API.try_create(PODS, &pod).map_err(|e| e.message));
    made["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn claim(name: &str, uid: &str, vf: u32) -> AttachRequest {
    AttachRequest {
        sandbox: Some(v1::Sandbox { id: format!("sandbox-of-{uid}"), interface: "eth0".to_owned() }),
        pod: Some(v1::Pod { namespace: NAMESPACE.to_owned(), name: name.to_owned(), uid: uid.to_owned() }),
        network: "drawbridge".to_owned(),
        vf: Some(v1::Vf { pci_address: "1001:03:00.1".to_owned(), pf: 0, vf }),
    }
}

/// At once, as kubelet is not asked.
fn delete(name: &str) {
    let path = format!("{PODS}/{name}");
    API.delete(&path);
    until(&format!("{name} is gone"), PATIENCE, || match API.get(&path) {
        Err(e) if e.code == 404 => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// Events of this NIC about refused claims, since then.
fn events(since: &str) -> Vec<Value> {
    let mut all = API.list("/api/v1/events");
    all.retain(|it| {
        it["reason"] == "ClaimRefused"
            && it["reportingComponent"] == "drawbridge.dev/nic-agent"
            && it["reportingInstance"] == "host1"
            && it["eventTime"].as_str().is_some_and(|time| time > since)
    });
    all
}

/// Reasons of refusals that the Events on the object of this uid name.
fn told(since: &str, uid: &str) -> BTreeSet<String> {
    let reason =
        |it: &Value| Some(it["message"].as_str()?.rsplit_once('(')?.1.trim_end_matches(')').to_owned());
    events(since).iter().filter(|it| it["involvedObject"]["uid"] == uid).filter_map(reason).collect()
}

#[track_caller]
fn are_told(since: &str, uid: &str, wanted: &[&str]) {
    let wanted: BTreeSet<String> = wanted.iter().map(|it| (*it).to_owned()).collect();
    until(&format!("Events name {wanted:?}"), PATIENCE, || {
        let told = told(since, uid);
        if told == wanted { Ok(()) } else { Err(format!("{told:?}")) }
    });
}

/// A claim that is good, and that a slow machine may have to make again.
#[track_caller]
fn granted(request: &AttachRequest) {
    until("the honest claim is granted", PATIENCE, || {
        HOST.attach(request.clone()).map_err(|refusal| format!("{refusal:?}"))
    });
}

#[test]
fn every_lie_about_a_clusters_pods_is_refused_and_changes_nothing() {
    let [nic, other_nic] = NICS;
    let namespaces = Namespace::create(&API, NAMESPACE);
    let kubelet = Silent::new(&API);
    // Events are counted from its start.
    let (began, started) =
        (Instant::now(), place("vm", &["date", "--utc", "+%Y-%m-%dT%H:%M:%S"]).ok().trim().to_owned());
    nic.daemon("agent", "restart");
    let held = bound("held", "host1", |_| {});
    let free = bound("free", "host1", |_| {});
    let elsewhere = bound("elsewhere", "host1", |pod| pod["spec"]["nodeName"] = json!("host2"));
    let hostnet = bound("hostnet", "host1", |pod| pod["spec"]["hostNetwork"] = json!(true));
    let done = bound("done", "host1", |_| {});
    API.patch(&format!("{PODS}/done/status"), &json!({"status": {"phase": "Succeeded"}}));
    let again = bound("again", "host1", |_| {});
    delete("again");
    let made_again = bound("again", "host1", |_| {});
    assert_ne!(again, made_again);

    // What a server says of its own pod, truly, is believed.
    granted(&claim("held", &held, 20));
    nic.settle();
    other_nic.settle();
    let before = NICS.map(State::of);

    let honest = claim("free", &free, 21);
    let mut all = vec![
        ("unknown-pod", of_uid(&honest, "11111111-2222-3333-4444-555555555555")),
        // The pod of this name is another one.
        ("unknown-pod", claim("again", &again, 21)),
        ("wrong-pod", claim("held", &free, 21)),
        ("wrong-node", claim("elsewhere", &elsewhere, 21)),
        ("host-network", claim("hostnet", &hostnet, 21)),
        ("finished", claim("done", &done, 21)),
        ("vf-held", of_vf(&honest, 0, 20)),
        ("management-port", of_vf(&honest, 0, 0)),
        ("no-such-vf", of_vf(&honest, 0, 200)),
        ("no-such-vf", of_vf(&honest, 9, 3)),
        ("sandbox-in-use", of_vf(&claim("held", &held, 20), 0, 21)),
    ];
    all.extend(lies::malformed(&honest));
    lies::each_is_refused(all);
    lies::strangers_are_refused(&honest);
    lies::oversize_is_refused(&honest);
    lies::garbage();
    // Another server, by its own NIC and with its own certificate, says that it has a pod of this one.
    let other = Liar { place: "host2", certificate: Some("host2") };
    for request in [claim("held", &held, 20), honest.clone()] {
        let refusal = refused(other, request);
        assert_eq!(
            (refusal.code, refusal.reason.as_str()),
            (Code::PermissionDenied, "wrong-node"),
            "{refusal:?}"
        );
    }
    nic.settle();
    other_nic.settle();
    assert_eq!(NICS.map(State::of), before);

    // What the cluster is told, on the pods that are this NIC's; of all others on the NIC's own object.
    are_told(&started, &free, &["vf-held", "management-port", "no-such-vf"]);
    are_told(&started, &held, &["sandbox-in-use"]);
    are_told(&started, &hostnet, &["host-network"]);
    are_told(&started, &done, &["finished"]);
    assert_eq!(told(&started, &elsewhere), BTreeSet::new(), "another node's pod");
    let own = API.get("/apis/drawbridge.dev/v1alpha1/nicnodes/host1").unwrap();
    are_told(&started, own["metadata"]["uid"].as_str().unwrap(), &["unknown-pod", "wrong-pod", "wrong-node"]);

    // Taken back while it waits for a logical port, which a pod that asks for no VF never gets.
    let fleeting = bound("fleeting", "host1", |pod| pod["spec"]["containers"][0]["resources"] = json!({}));
    std::thread::scope(|scope| {
        let attach = scope.spawn(|| HOST.attach(claim("fleeting", &fleeting, 22)));
        until("its claim is believed", PATIENCE, || {
            let ledger = nic.ledger()["attachments"].to_string();
            if ledger.contains(&fleeting) { Ok(()) } else { Err(ledger) }
        });
        delete("fleeting");
        let refusal = attach.join().unwrap().expect_err("there is no such pod any more");
        // Not at the deadline, and not for good: what asks again hears that the pod is unknown.
        assert!(refusal.message.contains("its pod deleted"), "{refusal:?}");
    });
    assert_eq!(refused(HOST, claim("fleeting", &fleeting, 22)).reason, "unknown-pod");
    nic.settle();
    assert_eq!(State::of(nic), before[0]);

    // After all that, the honest claim is granted; a sandbox that was detached does not come back.
    granted(&honest);
    assert!(HOST.detach(honest.sandbox.clone().unwrap()).unwrap());
    assert_eq!(refused(HOST, honest).reason, "sandbox-replayed");

    // However much it says, the cluster hears of little.
    let honest = claim("again", &made_again, 23);
    for vf in 100..160 {
        assert_eq!(refused(HOST, of_vf(&honest, 0, vf)).reason, "no-such-vf");
    }
    until("as many are written as may be", PATIENCE, || {
        let written: u64 =
            events(&started).iter().map(|it| it["series"]["count"].as_u64().unwrap_or(1)).sum();
        let most = 21 + began.elapsed().as_secs() / 10;
        assert!(written <= most, "{written} in {:?}", began.elapsed());
        if written >= 20 { Ok(()) } else { Err(written.to_string()) }
    });

    for name in ["held", "free", "elsewhere", "hostnet", "done", "again"] {
        delete(name);
    }
    until("the NIC has let them go", PATIENCE, || {
        let ledger = nic.ledger()["attachments"].to_string();
        if ledger.contains(NAMESPACE) { Err(ledger) } else { Ok(()) }
    });
    drop(kubelet);
    drop(namespaces);
}
