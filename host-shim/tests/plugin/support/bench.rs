//! A server as a network namespace, with veths for VFs, a sysfs tree that says so, and pods.
//!
//! The machine's own namespace is not touched: "the host" is a namespace, too.
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use proto::v1;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Output,
    agent::{FakeAgent, Script},
    certs::Certs,
    run_plugin, run_restore,
};

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A network namespace that goes when the test does.
pub struct Namespace(pub String);

impl Namespace {
    pub fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run it as root");
        let name = format!("hs{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        run(&["netns", "add", &name]);
        run(&["-n", &name, "link", "set", "lo", "up"]);
        Self(name)
    }

    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.0)
    }

    /// `ip -n NAME ...`
    #[track_caller]
    pub fn ip(&self, args: &[&str]) -> String {
        run(&[&["-n", self.0.as_str()], args].concat())
    }

    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let text = run(&[&["-j", "-d", "-n", self.0.as_str()], args].concat());
        if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
    }

    pub fn link(&self, name: &str) -> Option<Value> {
        let links = self.json(&["link", "show"]);
        links.as_array()?.iter().find(|link| link["ifname"] == name).cloned()
    }

    pub fn names(&self) -> Vec<String> {
        let links = self.json(&["link", "show"]);
        let mut names: Vec<String> = links
            .as_array()
            .unwrap()
            .iter()
            .map(|link| link["ifname"].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // It may be gone already: some tests take it away.
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

#[track_caller]
fn run(args: &[&str]) -> String {
    let output = Command::new("ip").args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A server with two VFs, ens1v3 and ens1v4, of PF 0000:03:00.1.
pub struct Bench {
    pub directory: TempDir,
    pub certs: Certs,
    pub host: Namespace,
    pub agent: Option<FakeAgent>,
}

pub const VF3: &str = "0000:03:01.3";
pub const VF4: &str = "0000:03:01.4";
pub const POD_ARGS: &str =
    "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=u-1;K8S_POD_X=y";

pub fn attachment() -> v1::AttachResponse {
    let address =
        |address: &str, gateway: &str| v1::Address { address: address.into(), gateway: gateway.into() };
    let route = |destination: &str, gateway: &str| v1::Route {
        destination: destination.into(),
        gateway: gateway.into(),
    };
    v1::AttachResponse {
        mac: "0a:58:0a:f4:00:0a".into(),
        mtu: 1400,
        addresses: vec![
            address("10.244.0.10/24", "10.244.0.1"),
            address("fd00:10:244::a/64", "fd00:10:244::1"),
        ],
        routes: vec![
            route("0.0.0.0/0", "10.244.0.1"),
            route("::/0", "fd00:10:244::1"),
            route("10.96.0.0/16", "169.254.1.1"),
            route("10.244.0.0/24", ""),
        ],
        logical_port: "default_web-0".into(),
    }
}

impl Bench {
    pub fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let certs = Certs::make(directory.path());
        let host = Namespace::new();
        make_vf(&host, 3, "02:00:00:00:00:03");
        make_vf(&host, 4, "02:00:00:00:00:04");
        sysfs(&directory.path().join("sys"));
        let script = Script { attachment: attachment(), ..Script::default() };
        let agent = FakeAgent::start(&certs, Some(host.path()), script);
        Self { directory, certs, host, agent: Some(agent) }
    }

    /// A VF goes from wherever it is, as when its NIC reboots.
    pub fn remove_vf(&self, number: u8) {
        self.host.ip(&["link", "del", &format!("rep{number}")]);
    }

    pub fn make_vf(&self, number: u8, mac: &str) {
        make_vf(&self.host, number, mac);
    }

    /// `host-shim restore ARGS` on this server.
    pub fn restore(&self, args: &[&str]) -> (String, Option<i32>) {
        let state = self.directory.path().join("state").display().to_string();
        run_restore(&self.host.0, &[&["--state-dir", state.as_str()], args].concat())
    }

    pub fn agent(&self) -> &FakeAgent {
        self.agent.as_ref().unwrap()
    }

    pub fn script<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.agent().script.lock().unwrap())
    }

    /// The agent's process is away; its memory is not.
    pub fn stop_agent(&mut self) -> impl FnOnce(&mut Self) + use<> {
        let agent = self.agent.take().unwrap();
        let (address, script) = (agent.address, Arc::clone(&agent.script));
        move |bench| {
            let netns = Some(bench.host.path());
            bench.agent = Some(FakeAgent::start_at(&bench.certs, netns, script, address));
        }
    }

    /// A configuration; `more` adds and replaces keys.
    pub fn config(&self, more: Value) -> Value {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        let agent = self.agent.as_ref().map_or("127.0.0.1:1".to_owned(), |agent| agent.address.to_string());
        let mut config = json!({
            "cniVersion": "1.1.0", "name": "drawbridge", "type": "host-shim", "agent": agent,
            "tls": self.certs.tls("ca.pem", "host.pem", "host.key"),
            "timeoutSeconds": 20, "deviceID": VF3, "sysfs": path("sys"), "stateDir": path("state"),
        });
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }

    pub fn cni(&self, command: &str, id: &str, netns: &Path, interface: &str, config: &Value) -> Output {
        self.later(command, id, netns, interface, config)()
    }

    /// As [`Self::cni`], when it is called.
    pub fn later(
        &self,
        command: &str,
        id: &str,
        netns: &Path,
        interface: &str,
        config: &Value,
    ) -> impl FnOnce() -> Output + Send + use<> {
        let netns = netns.display().to_string();
        let [command, id, interface, host] =
            [command, id, interface, self.host.0.as_str()].map(ToOwned::to_owned);
        let config = config.clone();
        move || {
            let env = [
                ("CNI_COMMAND", command.as_str()),
                ("CNI_CONTAINERID", id.as_str()),
                ("CNI_NETNS", netns.as_str()),
                ("CNI_IFNAME", interface.as_str()),
                ("CNI_ARGS", POD_ARGS),
                ("CNI_PATH", "/opt/cni/bin"),
            ];
            run_plugin(Some(&host), &env, &config)
        }
    }

    /// Names of the files that ADD left for DEL.
    pub fn records(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.directory.path().join("state")) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| Path::new(name).extension().is_some_and(|it| it == "json"));
        names.sort();
        names
    }

    /// Nothing of a pod is left: VFs at home as they were, nothing recorded, nothing held.
    #[track_caller]
    pub fn assert_clean(&self) {
        for (name, mac) in [("ens1v3", "02:00:00:00:00:03"), ("ens1v4", "02:00:00:00:00:04")] {
            let link = self.host.link(name).unwrap_or_else(|| panic!("{name} is not at home"));
            assert_eq!((link["address"].as_str(), link["mtu"].as_u64()), (Some(mac), Some(1500)));
        }
        assert_eq!(self.records(), [] as [&str; 0]);
        assert_eq!(self.agent().held(), []);
    }
}

fn make_vf(host: &Namespace, number: u8, mac: &str) {
    let (vf, peer) = (format!("ens1v{number}"), format!("rep{number}"));
    host.ip(&["link", "add", &vf, "address", mac, "type", "veth", "peer", "name", &peer]);
    host.ip(&["link", "set", &peer, "up"]);
}

fn sysfs(root: &Path) {
    let devices = root.join("bus/pci/devices");
    let pf = devices.join("0000:03:00.1");
    fs::create_dir_all(&pf).unwrap();
    for number in [3, 4] {
        let name = format!("0000:03:01.{number}");
        let vf = devices.join(&name);
        fs::create_dir_all(vf.join("net").join(format!("ens1v{number}"))).unwrap();
        symlink("../0000:03:00.1", vf.join("physfn")).unwrap();
        symlink(format!("../{name}"), pf.join(format!("virtfn{number}"))).unwrap();
    }
}
