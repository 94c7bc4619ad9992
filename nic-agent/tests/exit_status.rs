//! What systemd hears of an agent that cannot start: the reason in the line of status, and whether another try can help.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

/// Starts the agent with `config` as a service manager does; what it ended with, and every message that it sent.
fn started(config: &Path) -> (Output, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let agent = Command::new(env!("CARGO_BIN_EXE_nic-agent"))
        .arg("--config")
        .arg(config)
        .env("NOTIFY_SOCKET", &socket)
        .output()
        .unwrap();
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    // It has ended: whatever it sent is in the socket's queue.
    while let Ok(length) = manager.recv(&mut buffer) {
        said.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
    }
    (agent, said)
}

#[test]
fn a_configuration_that_is_missing_or_wrong_is_78_and_the_reason_is_in_the_status() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing.toml");
    let wrong = directory.path().join("wrong.toml");
    std::fs::write(&wrong, "[node]\nname = \"server1\"\nnom = 1\n").unwrap();
    for (file, says) in [(&missing, missing.to_str().unwrap()), (&wrong, "node.nom")] {
        let (agent, said) = started(file);
        assert_eq!(agent.status.code(), Some(78), "{agent:?}");
        let last_line = String::from_utf8(agent.stderr).unwrap();
        assert!(last_line.contains(says), "{last_line}");
        let status = said.iter().find(|message| message.starts_with("STATUS=")).unwrap();
        assert!(status.contains(says) && status.contains("not tried again"), "{status}");
        assert!(!status.trim_end().contains('\n'), "one line: {status:?}");
        assert!(!said.iter().any(|message| message.contains("READY=1")), "{said:?}");
    }
}
