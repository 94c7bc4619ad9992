use serde_json::json;

use super::*;

fn base() -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "drawbridge", "type": "host-shim", "agent": "192.168.100.2:8443",
        "tls": { "ca": "/etc/host-shim/ca.pem", "cert": "/etc/host-shim/host.pem", "key": "/etc/host-shim/host.key" },
    })
}

fn parse(value: &Value) -> Result<Config, ConfigError> {
    Config::parse(value.to_string().as_bytes())
}

fn with(key: &str, value: Value) -> Result<Config, ConfigError> {
    let mut config = base();
    config[key] = value;
    parse(&config)
}

#[test]
fn defaults() {
    let config = parse(&base()).unwrap();
    assert_eq!(config.access.agents, ["192.168.100.2:8443"]);
    assert_eq!(config.access.server_name, "nic-agent");
    assert_eq!(config.timeout, Duration::from_secs(90));
    assert_eq!(config.state_dir, PathBuf::from("/run/host-shim"));
    assert_eq!(config.sysfs, PathBuf::from("/sys"));
    assert_eq!(config.pod_resources_socket, PathBuf::from("/var/lib/kubelet/pod-resources/kubelet.sock"));
    assert_eq!((config.device, config.resource, config.mtu), (None, None, None));
    assert_eq!(config.valid_attachments, None);
}

#[test]
fn the_packaged_example_is_valid() {
    let text = include_str!("../../../packaging/host-shim/10-drawbridge.conflist");
    let list: Value = serde_json::from_str(text).unwrap();
    // As libcni builds a plugin's configuration out of the list.
    let mut plugin = list["plugins"][0].clone();
    plugin["name"] = list["name"].clone();
    plugin["cniVersion"] = list["cniVersion"].clone();
    assert_eq!(parse(&plugin).unwrap().resource.as_deref(), Some("drawbridge.dev/vf"));
}

#[test]
fn each_wrong_key_is_named_with_what_to_write_instead() {
    for (field, key, value, remedy) in [
        ("name", "name", json!(null), "name the network"),
        ("name", "name", json!("a b"), "name the network"),
        ("agent", "agent", json!(null), "192.168.100.2:8443"),
        ("agent", "agent", json!(5), "or a list"),
        ("agent", "agent", json!([]), "or a list"),
        ("agent", "agent", json!(["a:1", 5]), "or a list"),
        ("agent", "agent", json!("192.168.100.2"), "address and port"),
        ("agent", "agent", json!("fe80::1:8443"), "address and port"),
        ("agent", "agent", json!("nic:0"), "address and port"),
        ("agent", "agent", json!("https://nic:8443"), "address and port"),
        ("serverName", "serverName", json!("a b"), "DNS name"),
        ("serverName", "serverName", json!(""), "DNS name"),
        ("tls", "tls", json!(null), "ca"),
        ("tls", "tls", json!("x"), "ca"),
        ("tls", "tls", json!({ "ca": "/a", "cert": "/b", "key": "/c", "insecure": true }), "ca"),
        ("tls.ca", "tls", json!({ "cert": "/b", "key": "/c" }), "signed the agent's certificate"),
        ("tls.cert", "tls", json!({ "ca": "/a", "key": "/c" }), "certificate"),
        ("tls.key", "tls", json!({ "ca": "/a", "cert": "/b" }), "key"),
        ("tls.key", "tls", json!({ "ca": "/a", "cert": "/b", "key": "c" }), "absolute path"),
        ("timeoutSeconds", "timeoutSeconds", json!(0), "1 to 600"),
        ("timeoutSeconds", "timeoutSeconds", json!("90"), "1 to 600"),
        ("timeoutSeconds", "timeoutSeconds", json!(1.5), "1 to 600"),
        ("resourceName", "resourceName", json!("vf"), "drawbridge.dev/vf"),
        ("podResourcesSocket", "podResourcesSocket", json!("kubelet.sock"), "absolute path"),
        ("deviceID", "deviceID", json!("mlx5_core.sf.2"), "0000:03:00.2"),
        ("deviceID", "deviceID", json!(3), "0000:03:00.2"),
        ("runtimeConfig.deviceID", "runtimeConfig", json!({ "deviceID": "x" }), "0000:03:00.2"),
        ("runtimeConfig", "runtimeConfig", json!([]), "object"),
        ("mtu", "mtu", json!(67), "68 to 65535"),
        ("mtu", "mtu", json!("1400"), "68 to 65535"),
        ("stateDir", "stateDir", json!("run"), "absolute path"),
        ("sysfs", "sysfs", json!("sys"), "absolute path"),
        ("prevResult", "prevResult", json!("x"), "object"),
        ("cni.dev/valid-attachments", "cni.dev/valid-attachments", json!({}), "list"),
        (
            "cni.dev/valid-attachments",
            "cni.dev/valid-attachments",
            json!([{ "ifname": "eth0" }]),
            "containerID",
        ),
    ] {
        let error = with(key, value.clone()).expect_err(&format!("{key} = {value}"));
        let text = error.to_string();
        assert!(text.starts_with(&format!("{field}: ")) && text.contains(remedy), "{key} = {value}: {text}");
    }
}

#[test]
fn versions() {
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        assert_eq!(with("cniVersion", json!(version)).unwrap().version.as_str(), version);
    }
    for version in [json!("0.3.1"), json!("1.2.0"), json!(null)] {
        assert!(matches!(with("cniVersion", version), Err(ConfigError::Version { .. })));
    }
    assert!(matches!(Config::parse(b"{"), Err(ConfigError::Json(_))));
}

#[test]
fn agents_of_all_forms() {
    let agents = json!(["192.168.100.2:8443", "[fe80::1%tmfifo_net0]:8443", "nic.example:8443"]);
    assert_eq!(with("agent", agents).unwrap().access.agents.len(), 3);
}

#[test]
fn device_of_multus_or_of_the_runtime() {
    let device = |config: Config| config.device.map(|device| device.to_string());
    assert_eq!(device(with("deviceID", json!("1001:03:00.1")).unwrap()).as_deref(), Some("1001:03:00.1"));
    let runtime = json!({ "deviceID": "0000:03:00.2", "bandwidth": {"egressRate": 1} });
    let mut config = with("runtimeConfig", runtime).unwrap();
    let unsupported = config.take_unsupported().unwrap().to_string();
    assert!(unsupported.starts_with("runtimeConfig.bandwidth = {\"egressRate\":1}: "), "{unsupported}");
    assert_eq!(device(config).as_deref(), Some("0000:03:00.2"));
}

#[test]
fn attachments_that_are_null_are_none_at_all() {
    let key = "cni.dev/valid-attachments";
    assert_eq!(with(key, json!(null)).unwrap().valid_attachments, Some(Vec::new()));
    let one = json!([{ "containerID": "a", "ifname": "eth0" }]);
    let sandbox = Sandbox { id: "a".into(), interface: "eth0".into() };
    assert_eq!(with(key, one.clone()).unwrap().valid_attachments, Some(vec![sandbox.clone()]));
    assert_eq!(with("cni.dev/attachments", one).unwrap().valid_attachments, Some(vec![sandbox]));
}
