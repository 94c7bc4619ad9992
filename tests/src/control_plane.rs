//! A Kubernetes control plane of a test's own on this machine: etcd, API server and, unless left out, controller manager
//! and scheduler (`tests/kubernetes/control-plane`). It ends with the value, and when the test is killed.
//!
//! No node is in it: pods are objects whose status a test writes itself.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::fault::freeze;
use crate::{Output, until};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kubernetes/control-plane");
/// Under load, with the programs not yet in the page cache, seconds become a minute.
const PATIENCE: Duration = Duration::from_mins(3);

/// What can be stopped and started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    Etcd,
    ApiServer,
    ControllerManager,
    Scheduler,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
        }
    }
}

/// A running control plane.
#[derive(Debug)]
pub struct ControlPlane {
    directory: PathBuf,
    script: Child,
    /// Its end is the script's sign to stop, also when this process is killed.
    _stdin: ChildStdin,
}

impl ControlPlane {
    /// With controller manager and scheduler: Deployments become pods, Services get EndpointSlices, namespaces go away.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The API server alone: ready sooner; a pod's service account is not asked for, a deleted namespace never ends.
    pub fn api_only() -> Self {
        Self::start_with(&["--no-controllers"])
    }

    /// `control-plane help` lists the options.
    pub fn start_with(options: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory =
            std::env::temp_dir().join(format!("drawbridge-control-plane.{}.{number}", std::process::id()));
        let mut script = Command::new(SCRIPT)
            .arg("up")
            .arg(&directory)
            .arg("--attached")
            .args(options)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{SCRIPT}: {e}"));
        let stdin = script.stdin.take().expect("a pipe was asked for");
        let mut started = Self { directory, script, _stdin: stdin };
        until("the control plane is ready", PATIENCE, || {
            if let Some(status) = started.script.try_wait().expect("wait") {
                panic!(
                    "the control plane ended: {status}; its logs: {}",
                    started.directory.join("log").display()
                );
            }
            if started.directory.join("run/ready").exists() { Ok(()) } else { Err("not yet".to_owned()) }
        });
        started
    }

    /// Logs are in `log`, the cluster's CA in `pki/ca.crt`.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The admin's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join("admin.conf")
    }

    /// The API server's address.
    pub fn url(&self) -> String {
        let port = std::fs::read_to_string(self.directory.join("port")).expect("the script wrote it");
        format!("https://127.0.0.1:{}", port.trim())
    }

    /// A kubeconfig with a client certificate for a user in these groups; the file lives as long as the control plane.
    pub fn kubeconfig_for(&self, user: &str, groups: &[&str]) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut arguments = vec![user];
        arguments.extend(groups);
        let text = self.script("kubeconfig", &arguments).ok();
        let path = self.directory.join(format!("user.{number}.conf"));
        std::fs::write(&path, text).expect("a file in the control plane's directory");
        path
    }

    /// kubectl as admin.
    pub fn kubectl(&self, arguments: &[&str]) -> Output {
        self.kubectl_as(&self.kubeconfig(), arguments)
    }

    /// kubectl with another kubeconfig.
    pub fn kubectl_as(&self, kubeconfig: &Path, arguments: &[&str]) -> Output {
        self.kubectl_with(kubeconfig, arguments, "")
    }

    /// Applies YAML or JSON, as admin.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        self.kubectl_with(&self.kubeconfig(), &["apply", "-f", "-"], manifest).ok()
    }

    /// kubectl with something on its standard input.
    pub fn kubectl_with(&self, kubeconfig: &Path, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(self.directory.join("bin/kubectl"));
        command.arg("--kubeconfig").arg(kubeconfig).args(arguments);
        run(command, &format!("kubectl {}", arguments.join(" ")), input)
    }

    /// Kills a program.
    #[track_caller]
    pub fn stop(&self, program: Program) {
        self.script("stop", &[program.name()]).ok();
    }

    /// Starts one that was killed; the API server is ready when this returns.
    #[track_caller]
    pub fn start_again(&self, program: Program) {
        self.script("start", &[program.name()]).ok();
    }

    /// Freezes a program: its connections stay and nothing answers on them.
    #[track_caller]
    pub fn freeze(&self, program: Program) {
        let pid = self.pid(program);
        freeze(pid, program.name());
    }

    /// Lets a frozen program go on.
    #[track_caller]
    pub fn thaw(&self, program: Program) {
        kill(self.pid(program), Signal::SIGCONT).expect("a program of ours");
    }

    fn pid(&self, program: Program) -> Pid {
        let path = self.directory.join("run").join(format!("{}.pid", program.name()));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Pid::from_raw(text.trim().parse().expect("a process id"))
    }

    fn script(&self, verb: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(SCRIPT);
        command.arg(verb).arg(&self.directory).args(arguments);
        run(command, &format!("control-plane {verb} {}", arguments.join(" ")), "")
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // TERM, not the end of stdin: a frozen program must not be waited for either way, and this is told at once.
        let _ = kill(Pid::from_raw(self.script.id().cast_signed()), Signal::SIGTERM);
        let _ = self.script.wait();
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

fn run(mut command: Command, shown: &str, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{shown}: {e}"));
    let mut stdin = child.stdin.take().expect("a pipe was asked for");
    // A program that reads nothing may be gone already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let done = child.wait_with_output().unwrap_or_else(|e| panic!("{shown}: {e}"));
    Output {
        command: shown.to_owned(),
        code: done.status.code(),
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}
