//! The control plane that other tests stand on: it is what it says, and nothing of it stays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tests::{
    control_plane::{ControlPlane, Program},
    until,
};

const PATIENCE: Duration = Duration::from_mins(1);

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// Programs that were started in this directory and still run.
fn processes_of(directory: &Path) -> Vec<String> {
    let directory = directory.to_str().unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let mut line = Vec::new();
        if let Ok(mut file) = std::fs::File::open(entry.path().join("cmdline")) {
            let _ = file.read_to_end(&mut line);
        }
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(directory) && !line.contains("/proc") {
            found.push(line);
        }
    }
    found
}

fn none_left(directory: &Path) {
    until("nothing of it runs", PATIENCE, || match processes_of(directory) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
}

#[test]
fn controllers_work_and_the_api_server_comes_back() {
    let cluster = ControlPlane::start();
    cluster.apply(
        r#"{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "default"}, "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "d"}}, "template": {"metadata": {"labels": {"app": "d"}},
            "spec": {"containers": [{"name": "c", "image": "none"}]}}}}"#,
    );
    let pods = || cluster.kubectl(&["get", "pods", "-l", "app=d", "-o", "json"]);
    until("the Deployment has its pods", PATIENCE, || {
        match json(&pods().ok())["items"].as_array().unwrap().len() {
            2 => Ok(()),
            other => Err(format!("{other} pods")),
        }
    });
    until("the scheduler looked at them", PATIENCE, || {
        let list = json(&pods().ok());
        match list["items"][0]["status"]["conditions"][0]["reason"].as_str() {
            Some("Unschedulable") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });

    cluster.stop(Program::ApiServer);
    assert!(!cluster.kubectl(&["get", "--raw", "/readyz"]).is_ok());
    cluster.start_again(Program::ApiServer);
    assert_eq!(json(&pods().ok())["items"].as_array().unwrap().len(), 2);

    cluster.freeze(Program::ApiServer);
    let asked = cluster.kubectl(&["get", "--raw", "/readyz", "--request-timeout=2s"]);
    cluster.thaw(Program::ApiServer);
    assert!(!asked.is_ok(), "{asked:?}");
    cluster.kubectl(&["get", "--raw", "/readyz"]).ok();

    let directory = cluster.directory().to_owned();
    drop(cluster);
    none_left(&directory);
    assert!(!directory.exists());
}

#[test]
fn a_certificate_says_who_asks_and_nobody_else_is_served() {
    let cluster = ControlPlane::api_only();
    let user = cluster.kubeconfig_for("drawbridge:nic:host1", &["drawbridge:nics", "others"]);
    let whoami = json(&cluster.kubectl_as(&user, &["auth", "whoami", "-o", "json"]).ok());
    let info = &whoami["status"]["userInfo"];
    assert_eq!(info["username"], "drawbridge:nic:host1");
    for group in ["drawbridge:nics", "others", "system:authenticated"] {
        assert!(info["groups"].as_array().unwrap().contains(&group.into()), "{info}");
    }
    let refused = cluster.kubectl_as(&user, &["get", "secrets"]);
    assert!(refused.stderr.contains("Forbidden"), "{refused:?}");

    let ca = cluster.directory().join("pki/ca.crt");
    let url = format!("{}/version", cluster.url());
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
            "--noproxy",
            "*",
            &url,
        ]);
        String::from_utf8(command.args(arguments).output().unwrap().stdout).unwrap()
    };
    assert_eq!(curl(&["--cacert", ca.to_str().unwrap()]), "401", "anonymous");
    assert_eq!(curl(&[]), "000", "a CA that the machine does not know");

    // Another one beside it, with another CA: neither takes the other's certificates.
    let other = ControlPlane::api_only();
    assert_ne!(cluster.url(), other.url());
    let mixed = std::fs::read_to_string(&user).unwrap().replace(&cluster.url(), &other.url());
    let path = other.directory().join("mixed.conf");
    std::fs::write(&path, mixed).unwrap();
    let refused = other.kubectl_as(&path, &["auth", "whoami"]);
    assert!(refused.stderr.contains("certificate"), "{refused:?}");

    // A pod without a service account, and a policy in CEL, are taken.
    cluster.apply(
        r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec":
            {"nodeName": "host1", "containers": [{"name": "c", "image": "none"}]}}"#,
    );
    cluster.kubectl(&["get", "validatingadmissionpolicies.v1.admissionregistration.k8s.io"]).ok();
}

#[test]
fn it_ends_with_the_one_that_started_it() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/kubernetes/control-plane");
    let directory = std::env::temp_dir().join(format!("drawbridge-control-plane-end.{}", std::process::id()));
    let start = || {
        let child = Command::new(script)
            .args(["up", directory.to_str().unwrap(), "--no-controllers", "--attached"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        until("it is ready", PATIENCE * 3, || {
            if directory.join("run/ready").exists() { Ok(()) } else { Err(String::new()) }
        });
        child
    };
    // Its starter goes away.
    let mut child = start();
    assert!(processes_of(&directory).len() >= 3);
    drop(child.stdin.take());
    child.wait().unwrap();
    none_left(&directory);
    // It is killed itself, in a way that leaves it no time for anything.
    let mut child = start();
    child.kill().unwrap();
    child.wait().unwrap();
    drop(child);
    none_left(&directory);
    std::fs::remove_dir_all(&directory).unwrap();
}
