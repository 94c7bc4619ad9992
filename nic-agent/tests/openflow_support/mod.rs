//! A private Open vSwitch in userspace: its own directory, its own database, no kernel datapath, no root needed.
#![allow(dead_code)] // each test binary uses its own part
#![allow(clippy::unwrap_used, clippy::panic)] // a test's helpers

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Where Debian's packages put the schema; `$OVS_SCHEMA` overrides.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
pub const BRIDGE: &str = "br-edge";

pub mod trace;

pub struct PrivateSwitch {
    dir: tempfile::TempDir,
    database: Child,
    pub switch: Child,
}

fn spawn(program: &str, dir: &Path, args: &[&str]) -> Child {
    let log = std::fs::File::create(dir.join(format!("{program}.out"))).unwrap();
    Command::new(program)
        .args(args)
        .envs([("OVS_RUNDIR", dir), ("OVS_LOGDIR", dir), ("OVS_DBDIR", dir)])
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}. Install the package openvswitch-switch."))
}

impl PrivateSwitch {
    /// A secure bridge with ports 1 to `ports`, named p1 and so on.
    pub fn start(ports: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let schema = std::env::var("OVS_SCHEMA").unwrap_or_else(|_| SCHEMA.to_owned());
        let conf = path.join("conf.db");
        let created = Command::new("ovsdb-tool").arg("create").arg(&conf).arg(schema).output();
        let created =
            created.unwrap_or_else(|e| panic!("ovsdb-tool: {e}. Install the package openvswitch-switch."));
        assert!(created.status.success(), "{created:?}");
        let text = |file: &str| path.join(file).to_str().unwrap().to_owned();
        let database = spawn(
            "ovsdb-server",
            path,
            &[
                &text("conf.db"),
                &format!("--remote=punix:{}", text("db.sock")),
                &format!("--unixctl={}", text("db.ctl")),
            ],
        );
        let mut this = Self { database, switch: Self::spawn_switch(path), dir };
        this.wait_for("the database", |it| it.path("db.sock").exists());
        let mut args = vec!["--timeout=60".to_owned(), "--no-wait".to_owned(), "init".to_owned()];
        this.vsctl(&args);
        args = vec!["--timeout=60".to_owned()];
        let bridge =
            format!("-- add-br {BRIDGE} -- set bridge {BRIDGE} datapath_type=dummy fail_mode=secure");
        args.extend(bridge.split(' ').skip(1).map(str::to_owned));
        for n in 1..=ports {
            let port =
                format!("-- add-port {BRIDGE} p{n} -- set interface p{n} type=dummy ofport_request={n}");
            args.extend(port.split(' ').map(str::to_owned));
        }
        this.vsctl(&args);
        this.wait_for("the bridge", |it| it.management().exists());
        this
    }

    fn spawn_switch(path: &Path) -> Child {
        let at = |file: &str| path.join(file).to_str().unwrap().to_owned();
        spawn(
            "ovs-vswitchd",
            path,
            &[
                &format!("unix:{}", at("db.sock")),
                "--enable-dummy=override",
                "--disable-system",
                &format!("--unixctl={}", at("switch.ctl")),
                &format!("--log-file={}", at("switch.log")),
            ],
        )
    }

    fn wait_for(&mut self, what: &str, ready: impl Fn(&Self) -> bool) {
        let begin = Instant::now();
        while !ready(self) {
            // A bound against hanging for ever, not a claim about speed.
            let late = begin.elapsed() > Duration::from_mins(2);
            let ended = [&mut self.database, &mut self.switch].map(|child| child.try_wait().unwrap());
            let output =
                ["ovsdb-server.out", "ovs-vswitchd.out"].map(|f| std::fs::read_to_string(self.path(f)));
            assert!(!late && ended == [None, None], "{what} did not come up: {ended:?} {output:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    pub fn management(&self) -> PathBuf {
        self.path(&format!("{BRIDGE}.mgmt"))
    }

    fn run(program: &str, args: &[String]) -> Output {
        Command::new(program).args(args).output().unwrap()
    }

    fn text(program: &str, args: &[String]) -> String {
        let output = Self::run(program, args);
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn vsctl(&self, args: &[String]) -> String {
        let db = format!("--db=unix:{}", self.path("db.sock").display());
        Self::text("ovs-vsctl", &[&[db], args].concat())
    }

    /// The independent observer.
    pub fn ofctl(&self, args: &[&str]) -> String {
        let socket = format!("unix:{}", self.management().display());
        let mut all: Vec<String> = ["-O", "OpenFlow15", "--timeout=60"].map(str::to_owned).to_vec();
        let (command, rest) = args.split_first().unwrap();
        all.extend([(*command).to_owned(), socket]);
        all.extend(rest.iter().map(|arg| (*arg).to_owned()));
        Self::text("ovs-ofctl", &all)
    }

    pub fn appctl(&self, args: &[&str]) -> String {
        let target = format!("--target={}", self.path("switch.ctl").display());
        let args: Vec<String> =
            [&[target.as_str()], args].concat().iter().map(|arg| (*arg).to_owned()).collect();
        Self::text("ovs-appctl", &args)
    }

    /// `kill -9`.
    pub fn kill_switch(&mut self) {
        self.switch.kill().unwrap();
        self.switch.wait().unwrap();
    }

    pub fn restart_switch(&mut self) {
        self.switch = Self::spawn_switch(self.dir.path());
    }
}

impl Drop for PrivateSwitch {
    fn drop(&mut self) {
        for child in [&mut self.switch, &mut self.database] {
            let _killed = child.kill();
            let _waited = child.wait();
        }
    }
}
