//! Pods made by hand: each on the server that the test names, in namespaces of the test's own.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{Api, PATIENCE};
use crate::netns::Located;
use crate::nic::{NICS, Nic};
use crate::{place, until};

const RESOURCE: &str = "drawbridge.dev/vf";
const ATTACHMENTS: &str = "/apis/drawbridge.dev/v1alpha1/podattachments";

/// A pod that sleeps.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub namespace: String,
    pub name: String,
    /// `host1` or `host2`.
    pub node: &'static str,
    pub labels: Value,
    /// Of the container.
    pub ports: Value,
    /// Seconds that it goes on after it was told to end: it does not listen.
    pub grace: u32,
}

impl Wanted {
    fn object(&self) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.name, "labels": self.labels},
            "spec": {
                "nodeSelector": {"kubernetes.io/hostname": self.node},
                "terminationGracePeriodSeconds": self.grace,
                "automountServiceAccountToken": false, "enableServiceLinks": false,
                "containers": [{"name": "main", "image": "registry.local/box:1", "imagePullPolicy": "Never",
                    "ports": self.ports, "resources": {"limits": {RESOURCE: "1"}}}]}})
    }
}

/// A pod that runs.
#[derive(Debug, Clone)]
pub struct KubePod {
    pub namespace: String,
    pub name: String,
    pub node: String,
    pub uid: String,
    /// IPv4, then IPv6.
    pub addresses: [IpAddr; 2],
    process: String,
}

impl KubePod {
    fn of(pod: &Value) -> Option<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let container = &pod["status"]["containerStatuses"][0];
        container["ready"].as_bool().filter(|ready| *ready)?;
        let node = text(&pod["spec"]["nodeName"])?;
        let container = text(&container["containerID"])?.strip_prefix("containerd://")?.to_owned();
        let mut addresses: Vec<IpAddr> = pod["status"]["podIPs"]
            .as_array()?
            .iter()
            .filter_map(|it| it["ip"].as_str()?.parse().ok())
            .collect();
        addresses.sort_by_key(IpAddr::is_ipv6);
        Some(Self {
            namespace: text(&pod["metadata"]["namespace"])?,
            name: text(&pod["metadata"]["name"])?,
            uid: text(&pod["metadata"]["uid"])?,
            addresses: addresses.try_into().ok()?,
            process: process(&node, &container)?,
            node,
        })
    }

    /// Its network namespace, for [`crate::netns`].
    pub fn place(&self) -> String {
        format!("/proc/{}/ns/net", self.process)
    }

    /// Its container has ended.
    pub fn is_dead(&self) -> bool {
        !Path::new(&self.place()).exists()
    }

    /// At once, whatever its grace.
    pub fn kill(&self) {
        if let Ok(process) = self.process.parse() {
            // Who has ended by itself needs none.
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
    }

    pub fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name)
    }

    pub fn nic(&self) -> Nic {
        Nic(if self.node == "host1" { 1 } else { 2 })
    }
}

impl Located for KubePod {
    fn place(&self) -> String {
        self.place()
    }

    fn ips(&self) -> [String; 2] {
        self.addresses.map(|ip| ip.to_string())
    }
}

/// The first of a container on this node.
pub fn process(node: &str, container: &str) -> Option<String> {
    // kubelet's classes: guaranteed pods have no directory of their own.
    let procs = ["", "/besteffort", "/burstable"]
        .iter()
        .filter_map(|class| fs::read_dir(format!("/sys/fs/cgroup/{node}/kubepods{class}")).ok())
        .flatten()
        .flatten()
        .find_map(|pod| fs::read_to_string(pod.path().join(container).join("cgroup.procs")).ok())?;
    procs.lines().next().map(str::to_owned)
}

/// Ports of `br-edge` that are pods' of these namespaces: NIC and representor.
fn ports(api: &Api, names: &[String]) -> Vec<(Nic, String)> {
    let is_ours = |it: &&Value| names.iter().any(|name| it["metadata"]["namespace"] == **name);
    let port = |it: &Value| {
        let nic = if it["spec"]["nodeName"] == "host1" { NICS[0] } else { NICS[1] };
        Some((nic, it["status"]["representor"].as_str()?.to_owned()))
    };
    api.list(ATTACHMENTS).iter().filter(is_ours).filter_map(port).collect()
}

/// Namespaces of a test: when dropped they are gone, with all that is in them, on the NICs, too.
pub struct Namespaces<'a> {
    api: &'a Api,
    names: Vec<String>,
}

impl<'a> Namespaces<'a> {
    /// With these labels.
    #[track_caller]
    pub fn create(api: &'a Api, namespaces: &[(&str, Value)]) -> Self {
        let names: Vec<String> = namespaces.iter().map(|(name, _)| (*name).to_owned()).collect();
        // Those of a run that was ended.
        remove(api, &names);
        let made = Self { api, names };
        for (name, labels) in namespaces {
            let object = json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": name, "labels": labels}});
            api.create("/api/v1/namespaces", &object);
        }
        made
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// All objects of a kind in these: `collection` is as `pods`, `api` as `/api/v1`.
    #[track_caller]
    pub fn all(&self, api: &str, collection: &str) -> Vec<Value> {
        let of = |name: &String| self.api.list(&format!("{api}/namespaces/{name}/{collection}"));
        self.names.iter().flat_map(of).collect()
    }

    /// Returns when all of them run.
    #[track_caller]
    pub fn run(&self, wanted: &[Wanted]) -> Vec<KubePod> {
        for pod in wanted {
            let pods = format!("/api/v1/namespaces/{}/pods", pod.namespace);
            // The namespace's service account is made some time after it.
            until(&format!("{} is taken", pod.name), PATIENCE, || {
                self.api.try_create(&pods, &pod.object()).map_err(|e| e.message)
            });
        }
        until("the pods run", PATIENCE, || {
            let mut found: BTreeMap<(String, String), Value> = BTreeMap::new();
            for pod in self.all("/api/v1", "pods") {
                let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
                found.insert((text("namespace"), text("name")), pod);
            }
            let state = |pod: &Wanted| {
                let seen = found.get(&(pod.namespace.clone(), pod.name.clone())).unwrap_or(&Value::Null);
                KubePod::of(seen).ok_or_else(|| format!("{}/{}: {}", pod.namespace, pod.name, seen["status"]))
            };
            let pods: Result<Vec<KubePod>, String> = wanted.iter().map(state).collect();
            pods.map_err(|why| format!("{why}; events: {}", self.events()))
        })
    }

    /// What kubelet has to say when a pod does not start.
    fn events(&self) -> String {
        let events = self.all("/api/v1", "events");
        let said: Vec<&Value> = events.iter().rev().take(6).map(|it| &it["message"]).collect();
        format!("{said:?}")
    }
}

/// Returns when they are gone, with all that was in them, from the NICs, too.
fn remove(api: &Api, names: &[String]) {
    let ports = ports(api, names);
    for name in names {
        api.delete(&format!("/api/v1/namespaces/{name}"));
    }
    until("the namespaces are gone", PATIENCE, || {
        let all = api.list("/api/v1/namespaces");
        let left: Vec<&Value> =
            all.iter().filter(|it| names.iter().any(|name| it["metadata"]["name"] == **name)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    until("no PodAttachment of theirs is left", PATIENCE, || {
        let all = api.list(ATTACHMENTS);
        match all.iter().filter(|it| names.iter().any(|name| it["metadata"]["namespace"] == **name)).count() {
            0 => Ok(()),
            left => Err(left.to_string()),
        }
    });
    for (nic, representor) in ports {
        until(&format!("{nic:?} has no port {representor}"), PATIENCE, || {
            let now = place(&nic.place(), &["ovs-vsctl", "list-ports", "br-edge"]);
            if now.is_ok() && !now.stdout.lines().any(|it| it == representor) {
                Ok(())
            } else {
                Err(now.stdout)
            }
        });
    }
}

impl Drop for Namespaces<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in &self.names {
                let _ = self.api.try_delete(&format!("/api/v1/namespaces/{name}"));
            }
            return;
        }
        remove(self.api, &self.names);
    }
}
