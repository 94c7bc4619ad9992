//! A root of files, with programs in it, and what devlink said once: from there to the lines.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::ovs::unixctl::testing;
use crate::preflight::checks::{self, OPTIONS};
use crate::preflight::report::{Line, State};
use crate::preflight::system::Bond;

const DEVICE: &str = "pci/0000:03:00.0";
const RELEASE: &str = "6.12.107+deb13-arm64";

struct Fake {
    dir: TempDir,
}

impl Fake {
    /// All that is read from files, as it should be.
    fn new() -> Self {
        let fake = Self { dir: tempfile::tempdir().unwrap() };
        let mut config = String::from("#\n# Linux\n#\n# CONFIG_NETDEVSIM is not set\n");
        for (name, ..) in OPTIONS {
            writeln!(config, "CONFIG_{name}=m").unwrap();
        }
        let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
        gz.write_all(config.as_bytes()).unwrap();
        fake.bytes("proc/config.gz", &gz.finish().unwrap());
        fake.file("proc/sys/kernel/osrelease", RELEASE);
        fake.file("proc/sys/kernel/random/boot_id", "4d3c0a2e-5f1b-4c6a-9a77-0123456789ab\n");
        for (name, value) in [("events", "1"), ("timestamp", "1"), ("max", "262144")] {
            fake.file(&format!("proc/sys/net/netfilter/nf_conntrack_{name}"), &format!("{value}\n"));
        }
        fake.file("sys/class/net/bond0/bonding/mode", "802.3ad 4\n");
        fake.program("usr/bin/mlxprivhost", RESTRICTED);
        fake.program(
            "usr/bin/timedatectl",
            "[ \"$*\" = 'show --property=NTPSynchronized --value' ] && echo yes",
        );
        for name in ["server.crt", "client-ca.crt"] {
            fake.certificate(name, 2040);
        }
        fake.file("nic-agent.toml", &fake.toml());
        fake
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn bytes(&self, path: &str, bytes: &[u8]) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn file(&self, path: &str, text: &str) {
        self.bytes(path, text.as_bytes());
    }

    fn program(&self, path: &str, script: &str) {
        self.file(path, &format!("#!/bin/sh\n{script}\n"));
        std::fs::set_permissions(self.path(path), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn remove(&self, path: &str) {
        std::fs::remove_file(self.path(path)).unwrap();
    }

    fn certificate(&self, name: &str, until: i32) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["nic-agent".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        self.file(&format!("tls/{name}"), &params.self_signed(&key).unwrap().pem());
    }

    fn toml(&self) -> String {
        let dir = self.dir.path().display();
        format!(
            "[node]\nname = \"server1\"\n[server]\nlisten = [\"192.0.2.9:8443\"]\ncert = \"{dir}/tls/server.crt\"\nclient-ca = \"{dir}/tls/client-ca.crt\"\n\
             [ovs]\ndb = \"unix:{dir}/none.sock\"\nrun-dir = \"{dir}\"\n[ovn]\nrun-dir = \"{dir}\"\n\
             [chassis]\nsystem-id = \"nic1\"\novn-remote = \"tcp:192.0.2.10:6642\"\novn-encap-ip = \"192.0.2.1\"\n"
        )
    }

    async fn look(&self) -> System {
        let eswitch = Eswitch {
            device: DEVICE.into(),
            driver: Ok("mlx5_core".into()),
            mode: Ok("switchdev".into()),
            encap: Ok("basic".into()),
            steering: Ok("smfs".into()),
            multiport: Ok("false".into()),
            privileges: Err("not asked".into()),
        };
        let bond = Bond { name: "bond0".into(), mode: Err("not read".into()) };
        let uplink = |name: &str| Uplink {
            name: Some(name.into()),
            device: DEVICE.into(),
            carrier: Ok(true),
            bond: Ok(Some(bond.clone())),
        };
        let netlink = Netlink { eswitches: Ok(vec![eswitch]), uplinks: Ok(vec![uplink("p0"), uplink("p1")]) };
        system(self.dir.path(), &self.path("nic-agent.toml"), netlink).await
    }

    /// The lines of one check, but for those that hang on daemons.
    async fn lines(&self) -> Vec<Line> {
        let of_daemons = ["ovs-version", "ovn-version", "hw-offload", "datapath-type"];
        let mut lines = checks::all(&self.look().await);
        lines.retain(|line| !of_daemons.contains(&line.check.as_str()));
        lines
    }

    /// Lines that are not passed, and how they are.
    async fn wrong(&self) -> Vec<(String, State)> {
        let lines = self.lines().await;
        let wrong = lines.iter().filter(|it| it.state != State::Passed);
        wrong.map(|it| (it.name(), it.state)).collect()
    }
}

const RESTRICTED: &str = "[ \"$*\" = '-d 0000:03:00.0 q' ] || exit 3\ncat <<'END'\nHost configurations\n-------------------\n\
    level                         : RESTRICTED\n\nPort functions status:\n-----------------------\n\
    disable_rshim                 : TRUE\ndisable_tracer                : TRUE\n\
    disable_port_owner            : TRUE\ndisable_counter_rd            : TRUE\n\nEND";

fn is(name: &str, state: State) -> Vec<(String, State)> {
    vec![(name.to_owned(), state)]
}

#[tokio::test]
async fn a_root_as_it_should_be_passes() {
    let fake = Fake::new();
    assert_eq!(fake.wrong().await, []);
    let system = fake.look().await;
    assert_eq!(system.boot_id.as_deref(), Ok("4d3c0a2e5f1b4c6a9a770123456789ab"));
    let why = system.switch.unwrap_err();
    assert!(why.contains("none.sock"), "{why}");
}

#[tokio::test]
async fn each_file_wrong_in_turn_is_named() {
    use State::{Failed, Warning};
    for (name, state, path, text) in [
        (
            "sysctl net.netfilter.nf_conntrack_events",
            Warning,
            "proc/sys/net/netfilter/nf_conntrack_events",
            "2",
        ),
        ("sysctl net.netfilter.nf_conntrack_max", Warning, "proc/sys/net/netfilter/nf_conntrack_max", "1024"),
        ("lag pci/0000:03:00", Failed, "sys/class/net/bond0/bonding/mode", "broadcast 3"),
    ] {
        let fake = Fake::new();
        fake.file(path, text);
        let wrong = fake.wrong().await;
        assert_eq!(wrong, is(name, state), "{path}");
    }
    let fake = Fake::new();
    fake.file("nic-agent.toml", "nonsense = 1");
    let expected = [("configuration".to_owned(), Failed), ("certificate".to_owned(), State::Unknown)];
    assert_eq!(fake.wrong().await, expected);
    let fake = Fake::new();
    let level = RESTRICTED.replace(": RESTRICTED", ": PRIVILEGED");
    fake.program("usr/bin/mlxprivhost", &level);
    fake.program("usr/bin/timedatectl", "echo no");
    fake.certificate("server.crt", 2021);
    let expected = [
        ("restricted-mode pci/0000:03:00.0".to_owned(), Failed),
        ("time-synchronised".to_owned(), Warning),
        ("certificate server.cert".to_owned(), Failed),
    ];
    assert_eq!(fake.wrong().await, expected);
}

#[tokio::test]
async fn each_file_that_cannot_be_read_is_unknown() {
    for (name, path) in [
        ("sysctl net.netfilter.nf_conntrack_events", "proc/sys/net/netfilter/nf_conntrack_events"),
        ("sysctl net.netfilter.nf_conntrack_timestamp", "proc/sys/net/netfilter/nf_conntrack_timestamp"),
        ("lag pci/0000:03:00", "sys/class/net/bond0/bonding/mode"),
        ("restricted-mode pci/0000:03:00.0", "usr/bin/mlxprivhost"),
        ("time-synchronised", "usr/bin/timedatectl"),
        ("certificate server.cert", "tls/server.crt"),
    ] {
        let fake = Fake::new();
        fake.remove(path);
        assert_eq!(fake.wrong().await, is(name, State::Unknown), "{path}");
    }
    // There, and no answer.
    for (name, path, text) in [
        ("restricted-mode pci/0000:03:00.0", "usr/bin/mlxprivhost", "echo '-E- Unknown device' >&2; exit 1"),
        ("restricted-mode pci/0000:03:00.0", "usr/bin/mlxprivhost", "echo nothing"),
        ("time-synchronised", "usr/bin/timedatectl", "echo; exit 1"),
        ("time-synchronised", "usr/bin/timedatectl", "echo perhaps"),
        ("certificate server.cert", "tls/server.crt", "no certificate"),
    ] {
        let fake = Fake::new();
        fake.program(path, text);
        assert_eq!(fake.wrong().await, is(name, State::Unknown), "{path}: {text}");
    }
    let fake = Fake::new();
    fake.remove("nic-agent.toml");
    let unknown = fake.wrong().await;
    assert!(unknown.contains(&("configuration".to_owned(), State::Unknown)), "{unknown:?}");
    assert!(unknown.iter().all(|(_, state)| *state == State::Unknown), "{unknown:?}");
}

#[tokio::test]
async fn the_kernels_options_are_where_its_package_put_them() {
    let lines: Vec<String> = OPTIONS.iter().map(|(name, ..)| format!("CONFIG_{name}=y\n")).collect();
    let text = lines.concat();
    for path in [format!("boot/config-{RELEASE}"), format!("lib/modules/{RELEASE}/config")] {
        let fake = Fake::new();
        fake.remove("proc/config.gz");
        let unknown = fake.wrong().await;
        assert_eq!(unknown, is("kernel-option", State::Unknown));
        fake.file(&path, &text);
        assert_eq!(fake.wrong().await, [], "{path}");
        fake.file(&path, &text.replace("CONFIG_NET_TC_SKB_EXT=y", "# CONFIG_NET_TC_SKB_EXT is not set"));
        assert_eq!(fake.wrong().await, is("kernel-option NET_TC_SKB_EXT", State::Failed));
    }
    // Damaged, or empty: nothing is known, rather than everything missing.
    for bytes in [&b"\x1f\x8b\x08nonsense"[..], b""] {
        let fake = Fake::new();
        fake.bytes("proc/config.gz", bytes);
        assert_eq!(fake.wrong().await, is("kernel-option", State::Unknown));
    }
}

#[tokio::test]
async fn the_daemons_say_their_versions() {
    let fake = Fake::new();
    let call = serde_json::json!({"id": 0, "method": "version", "params": []});
    let answer =
        r#"{"id":0,"result":"ovs-vswitchd (Open vSwitch) 2.9.2-0011-25.02-based-3.3.3\n","error":null}"#;
    let ovs = testing::daemon(fake.dir.path(), ("ovs-vswitchd", 7), &[call], answer);
    let system = fake.look().await;
    ovs.await.unwrap();
    assert_eq!(system.ovs_version.as_deref(), Ok("2.9.2-0011-25.02-based-3.3.3"));
    let why = system.ovn_version.unwrap_err();
    assert!(why.contains("is ovn-controller running?"), "{why}");
}

#[tokio::test]
async fn a_kubeconfigs_certificates_are_looked_at() {
    let fake = Fake::new();
    let dir = fake.dir.path().display().to_string();
    fake.certificate("api.crt", 2021);
    fake.certificate("api-ca.crt", 2040);
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
         clusters: [{{name: a, cluster: {{server: \"https://192.0.2.1\", certificate-authority: \"{dir}/tls/api-ca.crt\"}}}}]\n\
         users: [{{name: a, user: {{client-certificate: \"{dir}/tls/api.crt\", client-key: /none}}}}]\n"
    );
    fake.file("kubeconfig", &kubeconfig);
    fake.file("nic-agent.toml", &format!("{}[cluster]\nkubeconfig = \"{dir}/kubeconfig\"\n", fake.toml()));
    let expired = is("certificate cluster.kubeconfig client-certificate", State::Failed);
    assert_eq!(fake.wrong().await, expired);
    // In the file itself, as base64.
    let pem = std::fs::read(fake.path("tls/api-ca.crt")).unwrap();
    let data = serde_json::to_value(k8s_openapi::ByteString(pem)).unwrap();
    let inline = kubeconfig.replace(
        &format!("client-certificate: \"{dir}/tls/api.crt\""),
        &format!("client-certificate-data: {data}"),
    );
    assert_ne!(inline, kubeconfig);
    fake.file("kubeconfig", &inline);
    assert_eq!(fake.wrong().await, []);
    fake.file("kubeconfig", "nonsense");
    assert_eq!(fake.wrong().await, is("certificate cluster.kubeconfig", State::Unknown));
}
