//! The plugin against a NIC agent over mutual TLS, as far as no network namespace is needed.

use crate::support::{
    Output,
    agent::{FakeAgent, Script},
    certs::Certs,
    run_plugin,
};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Setup {
    directory: TempDir,
    certs: Certs,
    agent: FakeAgent,
}

impl Setup {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let certs = Certs::make(directory.path());
        let agent = FakeAgent::start(&certs, None, Script::default());
        Self { directory, certs, agent }
    }

    fn config(&self, more: Value) -> Value {
        let mut config = json!({
            "cniVersion": "1.1.0", "name": "drawbridge", "type": "host-shim", "agent": self.agent.address.to_string(),
            "tls": self.certs.tls("ca.pem", "host.pem", "host.key"), "timeoutSeconds": 3,
            "stateDir": self.directory.path().join("state").display().to_string(),
        });
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }

    fn status(&self, more: Value) -> Output {
        run_plugin(None, &[("CNI_COMMAND", "STATUS")], &self.config(more))
    }

    fn ready(&self, ready: bool, reason: &str) {
        self.agent.script.lock().unwrap().status =
            proto::v1::StatusResponse { ready, reason: reason.into(), version: "0.1.0".into() };
    }
}

#[test]
fn status_says_what_the_agent_says() {
    let setup = Setup::new();
    setup.ready(true, "");
    assert_eq!(setup.status(json!({})).ok(), Value::Null);
    setup.ready(false, "ovn-controller is not connected");
    let said = setup.status(json!({})).error(50);
    assert!(said.contains("ovn-controller is not connected") && said.contains("nic-agent 0.1.0"), "{said}");
}

#[test]
fn status_and_gc_are_of_1_1_0() {
    let setup = Setup::new();
    for command in ["STATUS", "GC"] {
        let config = setup.config(json!({ "cniVersion": "1.0.0" }));
        let output = run_plugin(None, &[("CNI_COMMAND", command)], &config);
        assert_eq!(output.stdout["cniVersion"], "1.0.0");
        assert!(output.error(1).contains("write \"1.1.0\""));
    }
}

#[test]
fn a_way_that_is_dead_does_not_matter_while_another_lives() {
    let setup = Setup::new();
    setup.ready(true, "");
    // Port 1 of the loopback: refused at once.
    let agents = json!(["127.0.0.1:1", setup.agent.address.to_string()]);
    setup.status(json!({ "agent": agents })).ok();
    let said = setup.status(json!({ "agent": "127.0.0.1:1", "timeoutSeconds": 1 })).error(50);
    assert!(
        said.contains("127.0.0.1:1 could not be reached within 1 s") && said.contains("refused"),
        "{said}"
    );
}

#[test]
fn an_agent_of_another_ca_is_not_believed() {
    let setup = Setup::new();
    setup.ready(true, "");
    let tls = setup.certs.tls("other-ca.pem", "host.pem", "host.key");
    let said = setup.status(json!({ "tls": tls })).error(50);
    assert!(said.contains("no TLS session") && said.contains("UnknownIssuer"), "{said}");
}

#[test]
fn an_agent_of_another_name_is_not_believed() {
    let setup = Setup::new();
    setup.ready(true, "");
    let said = setup.status(json!({ "serverName": "nic-agent.example" })).error(50);
    assert!(said.contains("no TLS session") && said.contains("nic-agent.example"), "{said}");
}

#[test]
fn a_certificate_that_the_agent_does_not_know_is_said_at_once() {
    let setup = Setup::new();
    let tls = setup.certs.tls("ca.pem", "other.pem", "other.key");
    let said = setup.status(json!({ "tls": tls })).error(50);
    assert!(said.contains("no TLS session"), "{said}");
}

#[test]
fn credentials_that_are_not_there_or_no_pem_are_named() {
    let setup = Setup::new();
    let tls = setup.certs.tls("missing.pem", "host.pem", "host.key");
    let said = setup.status(json!({ "tls": tls })).error(50);
    assert!(said.contains("missing.pem") && said.contains("see tls"), "{said}");
    let tls = setup.certs.tls("ca.pem", "host.key", "host.pem");
    let said = setup.status(json!({ "tls": tls })).error(50);
    assert!(said.contains("PEM"), "{said}");
}

#[test]
fn del_of_what_nobody_knows_succeeds() {
    let setup = Setup::new();
    let env = [("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "s"), ("CNI_IFNAME", "eth0")];
    for config in
        [setup.config(json!({})), setup.config(json!({ "agent": "127.0.0.1:1", "timeoutSeconds": 1 }))]
    {
        assert_eq!(run_plugin(None, &env, &config).ok(), Value::Null);
    }
    assert_eq!(setup.agent.calls(), ["Detach s:eth0"]);
}

#[test]
fn errors_of_the_environment_and_the_configuration_have_their_codes() {
    let setup = Setup::new();
    let config = setup.config(json!({}));
    let run = |env: &[(&str, &str)], config: &Value| run_plugin(None, env, config);
    assert!(run(&[("CNI_COMMAND", "MOVE")], &config).error(4).contains("CNI_COMMAND"));
    assert!(run(&[("CNI_COMMAND", "DEL")], &config).error(4).contains("CNI_CONTAINERID"));
    assert!(run(&[("CNI_COMMAND", "STATUS")], &json!([1])).error(6).contains("not JSON"));
    let old = setup.config(json!({ "cniVersion": "0.3.1" }));
    assert!(run(&[("CNI_COMMAND", "STATUS")], &old).error(1).contains("0.3.1"));
    assert!(setup.status(json!({ "agent": 5 })).error(7).contains("agent"));
}

#[test]
fn version_needs_no_configuration() {
    for stdin in [json!({ "cniVersion": "0.4.0" }), json!({ "cniVersion": "9.9.9" })] {
        let said = run_plugin(None, &[("CNI_COMMAND", "VERSION")], &stdin).ok();
        assert_eq!(said["supportedVersions"], json!(["0.4.0", "1.0.0", "1.1.0"]));
    }
}
