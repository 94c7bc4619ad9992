//! Running programs in the lab's places.

use std::path::Path;
use std::process::{Command, Stdio};

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct Output {
    pub command: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    pub fn is_ok(&self) -> bool {
        self.code == Some(0)
    }

    /// The standard output of a program that must succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert!(self.is_ok(), "{self:#?}");
        self.stdout
    }
}

fn run(mut command: Command, shown: String) -> Output {
    let done = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{shown}: {e}"));
    Output {
        command: shown,
        code: done.status.code(),
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}

/// In the VM itself.
pub fn vm(arguments: &[&str]) -> Output {
    let mut command = Command::new(arguments[0]);
    command.args(&arguments[1..]);
    run(command, arguments.join(" "))
}

/// In `nic1`, `host1`, `central`, `pod:NAME`, or the network namespace that this path is.
pub fn place(place: &str, arguments: &[&str]) -> Output {
    run(in_place(place, arguments), format!("{place}: {}", arguments.join(" ")))
}

/// The same, not yet started.
pub fn in_place(place: &str, arguments: &[&str]) -> Command {
    if place.starts_with('/') {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={place}")).arg("--").args(arguments);
        return command;
    }
    // What /lab/enter would do, without the shell in which it does it: that takes longer than most of what is run.
    let mount = format!("/run/lab/ns/{place}.mnt");
    if Path::new(&mount).exists() {
        let mut command = Command::new("nsenter");
        command
            .args([format!("--net=/run/netns/{place}"), format!("--mount={mount}")])
            .arg(format!("--uts=/run/lab/ns/{place}.uts"))
            .arg("--")
            .args(arguments);
        return command;
    }
    if let Some(name) = place.strip_prefix("pod:") {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("pod-{name}")]).args(arguments);
        return command;
    }
    let mut command = Command::new("/lab/enter");
    command.arg(place).args(arguments);
    command
}

/// A shell line in a place.
pub fn sh(at: &str, line: &str) -> Output {
    place(at, &["sh", "-c", line])
}

/// The lab's supervisor: `start`, `stop`, `restart`, `kill`, `pid`, `status`.
#[track_caller]
pub fn daemon(at: &str, name: &str, verb: &str) -> String {
    vm(&["/lab/daemon", at, name, verb]).ok().trim().to_owned()
}
