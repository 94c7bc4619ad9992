//! The way of a pod in a cluster: a Deployment, the scheduler, a real kubelet with containerd, its device plugin, a CNI call
//! of host-shim, the agent, OVN, packets. On a lab with Kubernetes: `tests/lab/lab up --kubernetes`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::fs;
use std::sync::LazyLock;

use serde_json::{Value, json};
use tests::cluster::{Api, PATIENCE, process};
use tests::command::sh;
use tests::{place, until};

static API: LazyLock<Api> = LazyLock::new(Api::admin);
const RESOURCE: &str = "drawbridge.dev/vf";
const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
const OURS: &str = "/apis/drawbridge.dev/v1alpha1";

fn get(path: &str) -> Result<Value, String> {
    API.get(path).map_err(|e| format!("{path}: {}", e.message))
}

/// What a pod of a Deployment is found by, and where it is.
#[derive(Debug)]
struct Pod {
    name: String,
    node: String,
    ips: Vec<String>,
    container: String,
}

impl Pod {
    fn place(&self) -> String {
        format!("kube:{}", self.name)
    }

    /// The network function that its interface is, as the kernel knows it.
    fn device(&self) -> String {
        let text = place(&self.place(), &["ip", "-details", "-json", "link", "show", "eth0"]).ok();
        let links: Value = serde_json::from_str(&text).expect("ip speaks JSON");
        links[0]["parentdev"].as_str().unwrap_or_else(|| panic!("eth0 is no VF: {text}")).to_owned()
    }

    /// What its container was told by kubelet.
    fn told(&self) -> String {
        let process = process(&self.node, &self.container).expect("a running container has its cgroup");
        let environment = fs::read(format!("/proc/{process}/environ")).expect("it runs");
        let environment = String::from_utf8_lossy(&environment).into_owned();
        let told = environment.split('\0').find_map(|v| v.strip_prefix("PCIDEVICE_DRAWBRIDGE_DEV_VF="));
        told.unwrap_or_else(|| panic!("no device: {environment}")).to_owned()
    }

    /// What the web server of a pod says to it; `None` if nothing comes.
    fn fetch(&self, ip: &str) -> Option<String> {
        let url =
            if ip.contains(':') { format!("http://[{ip}]:8080/") } else { format!("http://{ip}:8080/") };
        let said = place(&self.place(), &["curl", "--silent", "--max-time", "4", &url]);
        said.is_ok().then(|| said.stdout.trim().to_owned())
    }
}

/// A Deployment, its pods on different servers, each a web server that says its name.
fn deployment(name: &str, replicas: u32) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": replicas, "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": {
            "terminationGracePeriodSeconds": 0,
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": name}}}]}},
            "containers": [{
                "name": "web", "image": "registry.local/box:1", "imagePullPolicy": "Never",
                "env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "command": ["/bin/sh", "-c", "echo $POD >/tmp/index.html; exec httpd -f -p 8080 -h /tmp"],
                "resources": {"limits": {RESOURCE: "1"}}}]}}}})
}

fn running(app: &str, count: usize) -> Vec<Pod> {
    until(&format!("{count} pods of {app} run"), PATIENCE, || {
        let list = get(&format!("{PODS}?labelSelector=app%3D{app}"))?;
        let pods: Option<Vec<Pod>> =
            list["items"].as_array().map(Vec::as_slice).unwrap_or_default().iter().map(pod).collect();
        match pods {
            Some(pods) if pods.len() == count => Ok(pods),
            _ => Err(why_not(&list)),
        }
    })
}

fn pod(item: &Value) -> Option<Pod> {
    let status = &item["status"];
    let container = &status["containerStatuses"][0];
    container["ready"].as_bool().filter(|ready| *ready)?;
    Some(Pod {
        name: item["metadata"]["name"].as_str()?.to_owned(),
        node: item["spec"]["nodeName"].as_str()?.to_owned(),
        ips: status["podIPs"]
            .as_array()?
            .iter()
            .filter_map(|ip| ip["ip"].as_str().map(str::to_owned))
            .collect(),
        container: container["containerID"].as_str()?.strip_prefix("containerd://")?.to_owned(),
    })
}

/// Statuses and events: what kubelet has to say when a pod does not start.
fn why_not(list: &Value) -> String {
    let statuses: Vec<&Value> =
        list["items"].as_array().into_iter().flatten().map(|pod| &pod["status"]["phase"]).collect();
    let events = get("/api/v1/namespaces/default/events").unwrap_or_default();
    let last: Vec<&Value> =
        events["items"].as_array().into_iter().flatten().map(|event| &event["message"]).collect();
    format!("{statuses:?}; events: {:?}", last.iter().rev().take(5).collect::<Vec<_>>())
}

/// Status and reason of a condition.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<(&'a str, &'a str)> {
    let conditions = object["status"]["conditions"].as_array()?;
    let it = conditions.iter().find(|it| it["type"] == kind)?;
    Some((it["status"].as_str()?, it["reason"].as_str()?))
}

/// The pod's PodAttachment, once this condition is as it should be.
fn attachment(pod: &Pod, kind: &str, wanted: (&str, &str)) -> Value {
    let path = format!("{OURS}/namespaces/default/podattachments/{}-eth0", pod.name);
    until(&format!("{} of {}'s attachment is {wanted:?}", kind, pod.name), PATIENCE, || {
        let found = get(&path)?;
        if condition(&found, kind) == Some(wanted) { Ok(found) } else { Err(found["status"].to_string()) }
    })
}

fn nic(pod: &Pod) -> String {
    pod.node.replace("host", "nic")
}

/// Where the pod is wired, as the cluster has it, is where it is.
fn says_where(pod: &Pod) {
    let found = attachment(pod, "Bound", ("True", "Bound"));
    assert_eq!(found["spec"]["nodeName"], pod.node.as_str(), "{found}");
    assert_eq!(found["metadata"]["ownerReferences"][0]["name"], pod.name.as_str(), "{found}");
    let status = &found["status"];
    let said: BTreeSet<&str> =
        status["ips"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    assert_eq!(said, pod.ips.iter().map(String::as_str).collect(), "{found}");
    let representor = status["representor"].as_str().expect("its name");
    assert!(ports(&nic(pod)).contains(representor), "{found}");
    let zone = status["conntrackZone"].as_u64().expect("a number");
    assert!(flows(&nic(pod)).contains(&format!("zone={zone}")), "{found}");
}

/// What is said of the pod's policy is what the NIC has.
fn says_how(pod: &Pod) {
    let found = attachment(pod, "PolicyEnforced", ("True", "Enforced"));
    let set = found["status"]["ruleSets"]["ingress"].as_u64().expect("a number");
    assert_ne!(set, 0, "{found}");
    assert!(flows(&nic(pod)).contains(&format!("{set:#x}")), "{found}");
}

fn flows(nic: &str) -> String {
    place(nic, &["ovs-ofctl", "-O", "OpenFlow15", "dump-flows", "br-edge"]).ok()
}

fn ports(nic: &str) -> BTreeSet<String> {
    place(nic, &["ovs-vsctl", "list-ports", "br-edge"]).ok().lines().map(str::to_owned).collect()
}

#[test]
fn a_deployment_becomes_pods_on_vfs_that_talk_as_policy_says() {
    let before = ["nic1", "nic2"].map(ports);
    API.create(DEPLOYMENTS, &deployment("web", 2));
    API.create(DEPLOYMENTS, &deployment("client", 1));
    let (web, client) = (running("web", 2), running("client", 1));
    let client = &client[0];
    assert_eq!(web.iter().map(|pod| pod.node.as_str()).collect::<BTreeSet<_>>(), ["host1", "host2"].into());

    // Each has a VF of its own, of its own server's NIC, and it is the one that kubelet allocated.
    let mut devices = BTreeSet::new();
    for pod in web.iter().chain([client]) {
        let device = pod.device();
        assert_eq!(device, pod.told(), "{pod:?}");
        assert!(
            device.starts_with(&format!("100{}:03:", pod.node.strip_prefix("host").unwrap())),
            "{pod:?}: {device}"
        );
        assert!(devices.insert(device), "{pod:?}");
    }

    for pod in web.iter().chain([client]) {
        says_where(pod);
    }

    for server in &web {
        assert_eq!(server.ips.len(), 2, "both families: {server:?}");
        for ip in &server.ips {
            until(&format!("{} is reached at {ip}", server.name), PATIENCE, || match client.fetch(ip) {
                Some(name) if name == server.name => Ok(()),
                other => Err(format!("{other:?}")),
            });
        }
    }

    // A policy that lets nobody to the web servers, then one that names the client.
    let policy = |name: &str, from: Value| {
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name},
            "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": from}})
    };
    API.create(POLICIES, &policy("deny", json!([])));
    for server in &web {
        for ip in &server.ips {
            until(&format!("the policy shuts {ip}"), PATIENCE, || match client.fetch(ip) {
                None => Ok(()),
                Some(name) => Err(name),
            });
        }
    }
    for server in &web {
        says_how(server);
    }
    API.create(
        POLICIES,
        &policy("client", json!([{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]}])),
    );
    for server in &web {
        for ip in &server.ips {
            until(&format!("the policy opens {ip} to the client"), PATIENCE, || {
                client.fetch(ip).ok_or_else(String::new)
            });
        }
    }
    // One web server is none of the client's.
    for ip in &web[1].ips {
        assert_eq!(web[0].fetch(ip), None, "{ip}");
    }

    // All goes, and nothing of it stays on the NICs.
    for name in ["web", "client"] {
        API.delete(&format!("{DEPLOYMENTS}/{name}"));
    }
    for name in ["deny", "client"] {
        API.delete(&format!("{POLICIES}/{name}"));
    }
    until("the pods are gone", PATIENCE, || {
        let list = get(PODS)?;
        if list["items"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(why_not(&list)) }
    });
    until("no PodAttachment is left", PATIENCE, || {
        let list = get(&format!("{OURS}/podattachments"))?;
        if list["items"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(list.to_string()) }
    });
    for (nic, before) in ["nic1", "nic2"].iter().zip(before) {
        until(&format!("{nic} has no port of theirs"), PATIENCE, || {
            let now = ports(nic);
            if now == before { Ok(()) } else { Err(format!("{now:?}")) }
        });
    }
}

/// What ovn-controller is told.
fn transport_zones(nic: &str) -> String {
    let key = "external_ids:ovn-transport-zones";
    place(nic, &["ovs-vsctl", "--if-exists", "get", "Open_vSwitch", ".", key])
        .ok()
        .trim()
        .trim_matches('"')
        .to_owned()
}

/// Changes the spec of NIC 1's NicNode, and waits for what the agent says of that.
fn edit(ovn: &Value, wanted: (&str, &str)) -> Value {
    let path = format!("{OURS}/nicnodes/host1");
    let now = API.patch(&path, &json!({"spec": {"ovn": ovn}}));
    until(&format!("the edit is {wanted:?}"), PATIENCE, || {
        let found = get(&path)?;
        let seen = found["status"]["observedGeneration"] == now["metadata"]["generation"];
        if seen && condition(&found, "Configured") == Some(wanted) {
            Ok(found)
        } else {
            Err(found["status"].to_string())
        }
    })
}

/// The version that NIC 1's NicNode has of this is what the daemon says of itself.
fn says_what_runs(key: &str, daemon: &str) {
    let answer = place("nic1", &[&format!("{key}-appctl"), "--target", daemon, "version"]).ok();
    let first = answer.lines().next().expect("a line");
    until(&format!("the version of {key} is that of {first:?}"), PATIENCE, || {
        let mut found = get(&format!("{OURS}/nicnodes/host1"))?;
        let versions = found["status"]["versions"].take();
        let is_it = versions[key].as_str().is_some_and(|it| first.split(' ').next_back() == Some(it));
        if is_it && first.starts_with(daemon) { Ok(()) } else { Err(versions.to_string()) }
    });
}

#[test]
fn an_edit_of_a_nic_node_is_applied_or_refused() {
    let found = edit(&json!({"transportZones": ["rack1"]}), ("True", "InForce"));
    assert_eq!(transport_zones("nic1"), "rack1");
    assert_eq!(condition(&found, "OVSReady").map(|it| it.0), Some("True"), "{found}");
    assert_eq!(condition(&found, "OVNConnected").map(|it| it.0), Some("True"), "{found}");
    let said = &found["status"];
    assert_eq!(
        said["versions"]["kernel"],
        place("nic1", &["uname", "--kernel-release"]).ok().trim(),
        "{found}"
    );
    says_what_runs("ovs", "ovs-vswitchd");
    says_what_runs("ovn", "ovn-controller");
    let serial = said["serial"].as_str().expect("of the NIC");
    assert!(place("nic1", &["devlink", "dev", "info"]).ok().contains(serial), "{found}");

    // What no schema can know: the bridge is the agent's own.
    let mapping = json!([{"network": "physnet", "bridge": "br-edge"}]);
    let found = edit(&json!({"transportZones": ["rack2"], "bridgeMappings": mapping}), ("False", "Refused"));
    assert!(found["status"].to_string().contains("spec.ovn.bridgeMappings[0].bridge"), "{found}");
    assert_eq!(transport_zones("nic1"), "rack1", "the last good one stays");

    edit(&json!({"transportZones": null, "bridgeMappings": null}), ("True", "InForce"));
    assert_eq!(transport_zones("nic1"), "");
}

/// As the unit nic-agent-preflight does, which the lab has no systemd for.
fn preflight(nic: &str) -> Value {
    let program = "/run/lab/bin/nic-agent preflight --json --write /run/nic-agent/preflight.json";
    let said = sh(nic, &format!("mkdir -p /run/nic-agent && {program}"));
    serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"))
}

/// The condition of NIC 1's NicNode, once it is so; with its message.
fn said_of(kind: &str, wanted: (&str, &str)) -> String {
    until(&format!("{kind} is {wanted:?}"), PATIENCE, || {
        let found = get(&format!("{OURS}/nicnodes/host1"))?;
        if condition(&found, kind) != Some(wanted) {
            return Err(found["status"]["conditions"].to_string());
        }
        let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let it = conditions.into_iter().find(|it| it["type"] == kind).unwrap_or_default();
        Ok(it["message"].as_str().unwrap_or_default().to_owned())
    })
}

#[test]
fn an_open_vswitch_that_is_not_supported_is_said_at_the_nic_node() {
    let vsctl = |what: &str| sh("nic1", &format!("ovs-vsctl --timeout=20 {what}")).ok();
    // The lab has no timedatectl, and its NIC no mlx5: that is not known, and not passed.
    preflight("nic1");
    let said = said_of("PreflightPassed", ("Unknown", "NotAllRead"));
    assert!(said.contains("time-synchronised") && said.contains("restricted-mode"), "{said}");

    vsctl("set Open_vSwitch . other_config:doca-init=true");
    preflight("nic1");
    let said = said_of("PreflightPassed", ("False", "Failed"));
    assert!(said.contains("datapath-type: found other_config:doca-init=true"), "{said}");
    assert!(said.contains("mend: ovs-vsctl remove Open_vSwitch . other_config doca-init"), "{said}");
    // The agent by itself, whoever runs a preflight or not.
    let said = said_of("OVSReady", ("False", "DatapathNotSupported"));
    assert!(said.contains("doca-init=true") && said.contains("ovs-vsctl remove"), "{said}");
    said_of("Ready", ("False", "OVSNotReady"));

    vsctl("remove Open_vSwitch . other_config doca-init");
    said_of("OVSReady", ("True", "Ready"));
    preflight("nic1");
    said_of("PreflightPassed", ("Unknown", "NotAllRead"));
}
