//! A private `ovsdb-server` for one test, and a wire between it and the session that can be listened to and cut.
#![allow(dead_code)] // each test binary takes what it needs

pub mod fake;
pub mod wire;

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ovsdb_session::{Datum, NamedUuid, Op, Options, Remote, Session, TlsFiles, Uuid};
use tempfile::TempDir;

pub const VSWITCH: &str = "Open_vSwitch";
pub const SOUTHBOUND: &str = "OVN_Southbound";

/// Only against hanging for ever: no test measures time.
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(Duration::from_mins(2), future).await {
        Ok(output) => output,
        Err(elapsed) => panic!("never happened: {what} ({elapsed})"),
    }
}

pub fn tool(name: &str) -> Command {
    let found = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists());
    let path = found.unwrap_or_else(|| {
        panic!("{name} is not installed: these tests need the Debian package openvswitch-common (apt-get install openvswitch-common)")
    });
    Command::new(path)
}

pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server; killed when dropped.
pub struct Server {
    pub dir: TempDir,
    args: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// A database of `schema` (`vswitch`, `ovn-sb`, or a file's path), served on a Unix socket and whatever `args` say.
    pub fn start(schema: &str, args: &[String]) -> Self {
        let mut server = Self::prepare(args);
        server.create(schema);
        server.spawn();
        server
    }

    /// The same as a cluster of one: such a server remembers transactions.
    pub fn start_clustered(schema: &str) -> Self {
        let mut server = Self::prepare(&[]);
        let raft = format!("unix:{}", server.path("raft").display());
        run(tool("ovsdb-tool")
            .arg("create-cluster")
            .arg(server.path("db"))
            .arg(schema_file(schema))
            .arg(raft));
        server.spawn();
        server
    }

    /// Another member of the cluster that `first` began.
    pub fn join_cluster(db: &str, first: &Self) -> Self {
        let mut server = Self::prepare(&[]);
        let raft = |server: &Self| format!("unix:{}", server.path("raft").display());
        let (own, of_first) = (raft(&server), raft(first));
        run(tool("ovsdb-tool").arg("join-cluster").arg(server.path("db")).args([db, &own, &of_first]));
        server.spawn();
        server
    }

    fn prepare(args: &[String]) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), args: args.to_vec(), child: None }
    }

    pub fn create(&self, schema: &str) {
        run(tool("ovsdb-tool").arg("create").arg(self.path("db")).arg(schema_file(schema)));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn spawn(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut remote = std::ffi::OsString::from("--remote=punix:");
        remote.push(self.path("sock"));
        let child = tool("ovsdb-server")
            .arg(self.path("db"))
            .arg(remote)
            .arg(format!("--unixctl={}", self.path("ctl").display()))
            .args(["--no-chdir", "-vconsole:info", "-vsyslog:off", "-vfile:off"])
            .args(&self.args)
            .env("OVS_RUNDIR", self.dir.path())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        // The socket's file may be a dead server's: only one who accepts is there.
        while std::os::unix::net::UnixStream::connect(self.path("sock")).is_err() {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert_eq!(ended, None, "ovsdb-server has ended");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub fn unix(&self) -> Remote {
        Remote::Unix(self.path("sock"))
    }

    /// A session on the Unix socket, connected.
    pub async fn session(&self) -> Session {
        connect(options(self.unix())).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- ovsdb-server said last:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
        self.kill();
    }
}

pub fn schema_file(schema: &str) -> PathBuf {
    if Path::new(schema).is_absolute() {
        return schema.into();
    }
    let file = format!("tests/schema/{schema}.ovsschema");
    let ours = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(&file);
    // cluster-controller's tests have this module, too, but not the schemas.
    if ours.exists() {
        ours
    } else {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../nic-agent/ovsdb").join(file)
    }
}

/// As a program would have them, but for the pauses.
pub fn options(remote: Remote) -> Options {
    Options {
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(100),
        ..Options::new(vec![remote])
    }
}

pub async fn connect(options: Options) -> Session {
    let session = Session::start(options);
    soon("connection", session.connected()).await.unwrap();
    session
}

/// The one row that all others hang from.
pub async fn make_root(session: &Session) -> Uuid {
    let ops = vec![Op::insert("Open_vSwitch").into()];
    session.transact(VSWITCH, ops).await.unwrap()[0].uuid().unwrap()
}

/// Operations that add a bridge with its own port and interface.
pub fn add_bridge(name: &str) -> Vec<Op> {
    let [bridge, port, interface] =
        ["br", "p", "i"].map(|prefix| NamedUuid::new(&format!("{prefix}-{name}")));
    vec![
        Op::insert("Interface").named(&interface).set("name", name).set("type", "internal").into(),
        Op::insert("Port").named(&port).set("name", name).set("interfaces", &interface).into(),
        Op::insert("Bridge").named(&bridge).set("name", name).set("ports", &port).into(),
        Op::mutate("Open_vSwitch").with(ovsdb_session::Mutation::insert("bridges", &bridge)).into(),
    ]
}

/// Operations that add a logical port (and, named after it, its datapath).
pub fn add_logical_port(name: &str, key: u32) -> Vec<Op> {
    let datapath = NamedUuid::new(name);
    vec![
        Op::insert("Datapath_Binding").named(&datapath).set("tunnel_key", key).into(),
        Op::insert("Port_Binding")
            .set("logical_port", name)
            .set("datapath", &datapath)
            .set("tunnel_key", 1u32)
            .set("mac", Datum::set(["02:00:00:00:00:01 10.0.0.1"]))
            .into(),
    ]
}

/// A CA with files, as `ovs-pki` lays them out.
pub struct Pki {
    dir: PathBuf,
    ca: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
}

impl Pki {
    pub fn new(dir: &Path, name: &str) -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
        let dir = dir.join(name);
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
        Self { dir, ca }
    }

    /// A certificate for a name that nobody is reached under.
    pub fn issue(&self, name: &str) -> TlsFiles {
        self.issue_with(name, |_| ())
    }

    pub fn issue_with(&self, name: &str, change: impl FnOnce(&mut rcgen::CertificateParams)) -> TlsFiles {
        let mut params = rcgen::CertificateParams::new(vec![format!("{name}.invalid")]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        change(&mut params);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        let files = TlsFiles {
            key: self.dir.join(format!("{name}-key.pem")),
            certificate: self.dir.join(format!("{name}.pem")),
            ca: self.dir.join("ca.pem"),
        };
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        files
    }
}

pub fn server_tls_args(files: &TlsFiles) -> Vec<String> {
    vec![
        format!("--private-key={}", files.key.display()),
        format!("--certificate={}", files.certificate.display()),
        format!("--ca-cert={}", files.ca.display()),
    ]
}
