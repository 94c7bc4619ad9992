//! The CNI project's own `cnitool` drives host-shim: what a runtime sees is what the specification says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::Value;
use tests::command::{Output, in_place, sh};
use tests::{Pod, Wish, command};

/// Where `tests/setup` puts cnitool: the repository is mounted in the VM.
fn tool() -> String {
    let tools = std::env::var("DRAWBRIDGE_TOOLS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/bin").to_owned());
    let path = format!("{tools}/cnitool");
    assert!(std::path::Path::new(&path).exists(), "{path} is missing: tests/setup builds it");
    path
}

fn cnitool(pod: &Pod, verb: &str) -> Output {
    let mut command =
        in_place(&pod.host, &[&tool(), verb, "toolnet", &format!("/run/netns/pod-{}", pod.name)]);
    command
        .env("CNI_PATH", "/opt/cni/bin")
        .env("NETCONFPATH", "/tmp/cnitool.d")
        .env("CAP_ARGS", format!("{{\"deviceID\": \"1001:03:00.{}\"}}", pod.vf + 1))
        .env(
            "CNI_ARGS",
            format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={};K8S_POD_UID={}",
                pod.name, pod.uid
            ),
        );
    let done = command.output().expect("cnitool");
    Output {
        command: format!("cnitool {verb}"),
        code: done.status.code(),
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}

#[test]
fn cnitool_adds_checks_and_deletes() {
    command::vm(&["mkdir", "-p", "/opt/cni/bin", "/tmp/cnitool.d"]).ok();
    command::vm(&["cp", "/share/bin/host-shim", "/opt/cni/bin/host-shim.new"]).ok();
    command::vm(&["mv", "/opt/cni/bin/host-shim.new", "/opt/cni/bin/host-shim"]).ok();
    // The lab's configuration as a list whose plugin takes its device from the runtime, as Multus gives it.
    sh(
        "host1",
        "jq '{cniVersion: \"1.1.0\", name: \"toolnet\", plugins: [del(.cniVersion, .name) + {capabilities: {deviceID: true}}]}' \
         /etc/cni/net.d/10-drawbridge.conf >/tmp/cnitool.d/10-toolnet.conflist",
    )
    .ok();
    let pod = Pod::create(&Wish { name: "tool", host: "host1", vf: 5, options: &[] });

    let status = cnitool(&pod, "status");
    assert!(status.is_ok(), "{status:?}");
    let added = cnitool(&pod, "add");
    assert!(added.is_ok(), "{added:?}");
    let result: Value = serde_json::from_str(&added.stdout).expect("a CNI result");
    assert_eq!(result["cniVersion"], "1.1.0");
    assert_eq!(result["interfaces"][0]["mac"], pod.mac.as_str());
    let addresses: Vec<&str> =
        result["ips"].as_array().unwrap().iter().filter_map(|ip| ip["address"].as_str()).collect();
    assert_eq!(addresses, [format!("{}/16", pod.ip), format!("{}/64", pod.ip6)]);
    assert!(pod.pings("10.244.0.1"));
    let checked = cnitool(&pod, "check");
    assert!(checked.is_ok(), "{checked:?}");

    let deleted = cnitool(&pod, "del");
    assert!(deleted.is_ok(), "{deleted:?}");
    assert!(!pod.run(&["ip", "link", "show", "eth0"]).is_ok(), "the VF left the pod");
    sh("host1", "ip link show ens1v5").ok();
    let again = cnitool(&pod, "del");
    assert!(again.is_ok(), "DEL twice succeeds: {again:?}");
    pod.nic().settle();
    pod.forget();
}
