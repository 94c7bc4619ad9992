//! The VFs of a server vanish under kubelet's pods and come back, as when its NIC reboots. In `e2e_vf_return` without kubelet.

use serde_json::Value;
use tests::cluster::{Namespace, PATIENCE};
use tests::command::{Output, daemon, place, vm};
use tests::until;

use crate::{API, ATTACHMENTS, NAMESPACE, Nic, PODS, Server, health, isolated, pod, ready};

const NUMVFS: &str = "/sys/bus/pci/devices/1001:03:00.0/sriov_numvfs";

fn restore() -> Output {
    place("host1", &["/opt/cni/bin/host-shim", "restore"])
}

fn set_vfs(number: &str) {
    vm(&["sh", "-c", &format!("echo {number} >{NUMVFS}")]).ok();
}

fn has_eth0() -> bool {
    place(&format!("kube:{NAMESPACE}/good"), &["ip", "link", "show", "dev", "eth0"]).is_ok()
}

/// Status, reason and message of the condition.
fn bound() -> Result<[String; 3], String> {
    let found = API.get(&format!("{ATTACHMENTS}/good-eth0")).map_err(|e| e.message)?;
    let mut all = found["status"]["conditions"].as_array().into_iter().flatten();
    let bound = all.find(|it| it["type"] == "Bound").ok_or_else(|| found.to_string())?;
    Ok(["status", "reason", "message"].map(|key| bound[key].as_str().unwrap_or_default().to_owned()))
}

fn is_bound(what: &str) {
    until(what, PATIENCE, || match bound()? {
        [status, ..] if status == "True" => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn events() -> Vec<Value> {
    let all = API.list(&format!("/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events"));
    all.into_iter()
        .filter(|it| it["reason"] == "InterfaceMissing" && it["regarding"]["name"] == "good")
        .collect()
}

#[test]
fn kubelets_pods_have_their_vfs_again() {
    let server = Server(Nic(1));
    server.attached();
    server.is_configured();
    let _namespaces = Namespace::create(&API, NAMESPACE);
    let good = isolated("good");
    is_bound("the pod's port is bound");
    assert_eq!(events(), [] as [Value; 0]);

    // Whatever comes back stays where the server does not see it.
    daemon("vm", "vf-return", "stop");
    let vfs = vm(&["cat", NUMVFS]).ok();
    set_vfs("0");
    until("the pod has lost its VF", PATIENCE, || if has_eth0() { Err(String::new()) } else { Ok(()) });
    set_vfs(vfs.trim());
    is_bound("the NIC's half is restored");
    assert!(!restore().is_ok());
    until("the cluster is told that the pod has no interface", PATIENCE, || match bound()? {
        [status, reason, _] if (status.as_str(), reason.as_str()) == ("False", "InterfaceMissing") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let event = until("the pod has an Event", PATIENCE, || events().pop().ok_or_else(String::new));
    println!("{:?}, Event: {}", bound().unwrap(), event["note"]);
    assert_eq!(event["type"], "Warning");
    assert!(!has_eth0());

    daemon("vm", "vf-return", "start");
    // The first of them is the server's own.
    until("the server has its VFs", PATIENCE, || {
        let is_there =
            |vf: u64| place("host1", &["ip", "link", "show", "dev", &format!("ens1v{vf}")]).is_ok();
        let all: u64 = vfs.trim().parse().expect("a number");
        let missing: Vec<u64> = (0..all).filter(|vf| !is_there(*vf)).collect();
        if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}")) }
    });
    restore().ok();
    is_bound("the pod's port is bound again");
    server.attached();
    server.dhcp_again();
    server.is_configured();
    until("the pod is ready again", PATIENCE, || match health("good")? {
        now if now.ready && now.addresses == good.addresses => Ok(()),
        other => Err(format!("{other:?}, before {good:?}")),
    });
    for ip in &good.addresses {
        until(&format!("the server reaches the pod at {ip}"), PATIENCE, || {
            if server.fetch(*ip).as_deref() == Some("good") { Ok(()) } else { Err(String::new()) }
        });
    }
    // Kubelet still has VFs to give.
    API.create(PODS, &pod("another", 8080, 8080));
    let another = ready("another");
    until("the server reaches the other pod", PATIENCE, || {
        if server.fetch(another.addresses[0]).as_deref() == Some("another") {
            Ok(())
        } else {
            Err(String::new())
        }
    });
}
