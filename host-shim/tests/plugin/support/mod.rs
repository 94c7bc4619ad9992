//! What the tests share: a NIC agent and a kubelet in this process, certificates, servers and pods as network
//! namespaces, and the plugin run as a runtime runs it.
#![allow(dead_code, reason = "each test binary uses a part")]

pub mod agent;
pub mod bench;
pub mod certs;
pub mod kubelet;
mod lingering;

use std::{
    io::{ErrorKind, Write},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

/// What the plugin said.
#[derive(Debug)]
pub struct Output {
    pub success: bool,
    pub stdout: Value,
    pub stderr: String,
}

impl Output {
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.success, "host-shim failed: {} {}", self.stdout, self.stderr);
        self.stdout
    }

    #[track_caller]
    pub fn error(self, code: u64) -> String {
        assert!(!self.success, "host-shim succeeded: {}", self.stdout);
        assert_eq!(self.stdout["code"], code, "{} {}", self.stdout, self.stderr);
        format!(
            "{} | {}",
            self.stdout["msg"].as_str().unwrap(),
            self.stdout["details"].as_str().unwrap_or_default()
        )
    }
}

/// Runs `host-shim restore ARGS` in a network namespace, as udev's unit does: what it said, and its exit status.
pub fn run_restore(netns: &str, args: &[&str]) -> (String, Option<i32>) {
    let output = Command::new("nsenter")
        .arg(format!("--net=/run/netns/{netns}"))
        .args([env!("CARGO_BIN_EXE_host-shim"), "restore"])
        .args(args)
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"");
    (String::from_utf8(output.stderr).unwrap(), output.status.code())
}

/// Runs the plugin, in the network namespace `netns` if one is given.
pub fn run_plugin(netns: Option<&str>, env: &[(&str, &str)], stdin: &Value) -> Output {
    let binary = Path::new(env!("CARGO_BIN_EXE_host-shim"));
    let mut command = match netns {
        // Not `ip netns exec`: that mounts a sysfs of its own.
        Some(netns) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/run/netns/{netns}")).arg(binary);
            command
        }
        None => Command::new(binary),
    };
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let mut child = command
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have said no, and be gone, before it read anything.
    match child.stdin.take().unwrap().write_all(stdin.to_string().as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => panic!("{error}"),
        _ => {}
    }
    let output = child.wait_with_output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let value = if stdout.trim().is_empty() { Value::Null } else { serde_json::from_str(&stdout).unwrap() };
    Output {
        success: output.status.success(),
        stdout: value,
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}
