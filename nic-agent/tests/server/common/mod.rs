//! Certificates, a server that answers from memory, and clients good and bad.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod looping;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nic_agent::claim::{Attached, Attachments, Claim, Refusal, SandboxKey};
use nic_agent::config;
use nic_agent::metrics::Metrics;
use nic_agent::server::{Limits, Server, ServerError, Shims};
use proto::v1;
use proto::v1::nic_agent_client::NicAgentClient;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

pub const HOST: &str = "server1.example";

pub struct Ca(CertifiedIssuer<'static, KeyPair>);

pub struct Cert {
    pub cert: String,
    pub key: String,
}

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// What a server of this CA reads: see [`server_config`].
    pub fn put_server(&self, dir: &TempDir) {
        let server = self.server();
        put(dir, "server.crt", &server.cert);
        put(dir, "server.key", &server.key);
        put(dir, "ca.crt", &self.pem());
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn issue(
        &self,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Cert {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![usage];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        Cert { cert: cert.pem(), key: key.serialize_pem() }
    }

    pub fn client(&self, names: &[&str]) -> Cert {
        self.issue(names, ExtendedKeyUsagePurpose::ClientAuth, |_| {})
    }

    pub fn server(&self) -> Cert {
        self.issue(&["nic1.example"], ExtendedKeyUsagePurpose::ServerAuth, |_| {})
    }
}

/// What the server hands requests to. Answers at once unless `hold` is set.
#[derive(Debug, Default)]
pub struct Fake {
    pub claims: Mutex<Vec<Claim>>,
    pub refuse: Mutex<Option<Refusal>>,
    /// What each Check said.
    pub problems: Mutex<Vec<Option<String>>>,
    pub hold: Mutex<Option<Arc<Notify>>>,
    pub entered: AtomicUsize,
    pub dropped: AtomicUsize,
}

struct CountDrop<'a>(&'a AtomicUsize);

impl Drop for CountDrop<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[derive(Debug)]
pub struct Shared(pub Arc<Fake>);

pub fn attached() -> Attached {
    Attached {
        mac: "0a:58:0a:f4:00:0a".parse().unwrap(),
        mtu: 1400,
        addresses: vec![
            ("10.244.0.10/24".parse().unwrap(), Some("10.244.0.1".parse().unwrap())),
            ("fd00::a/64".parse().unwrap(), None),
        ],
        routes: vec![("10.96.0.0/16".parse().unwrap(), Some("10.244.0.1".parse().unwrap()))],
        logical_port: "default_web-0".to_owned(),
    }
}

impl Attachments for Shared {
    async fn attach(&self, claim: Claim) -> Result<Attached, Refusal> {
        self.0.entered.fetch_add(1, Ordering::SeqCst);
        let _dropped = CountDrop(&self.0.dropped);
        let hold = self.0.hold.lock().unwrap().clone();
        if let Some(hold) = hold {
            hold.notified().await;
        }
        let refuse = self.0.refuse.lock().unwrap().clone();
        if let Some(refusal) = refuse {
            return Err(refusal);
        }
        self.0.claims.lock().unwrap().push(claim);
        Ok(attached())
    }

    async fn detach(&self, key: SandboxKey) -> Result<bool, Refusal> {
        let mut claims = self.0.claims.lock().unwrap();
        let before = claims.len();
        claims.retain(|claim| claim.key != key);
        Ok(claims.len() < before)
    }

    async fn check(&self, key: SandboxKey, problem: Option<String>) -> Result<Attached, Refusal> {
        self.0.problems.lock().unwrap().push(problem);
        let known = self.0.claims.lock().unwrap().iter().any(|claim| claim.key == key);
        if known { Ok(attached()) } else { Err(Refusal::NotAttached { key }) }
    }

    async fn list(&self) -> Vec<Claim> {
        self.0.claims.lock().unwrap().clone()
    }

    async fn status(&self) -> Result<(), String> {
        match &*self.0.refuse.lock().unwrap() {
            Some(refusal) => Err(refusal.to_string()),
            None => Ok(()),
        }
    }
}

/// A running server with its own CA and files.
pub struct Bench {
    pub ca: Ca,
    pub fake: Arc<Fake>,
    pub metrics: Metrics,
    pub address: SocketAddr,
    pub cancel: CancellationToken,
    pub task: JoinHandle<Result<(), ServerError>>,
    pub shims: watch::Sender<Shims>,
    pub dir: TempDir,
}

pub fn quick() -> Limits {
    Limits { reload: Duration::from_millis(20), ..Limits::default() }
}

pub fn server_config(dir: &TempDir, listen: Vec<SocketAddr>) -> config::Server {
    let path = |name: &str| -> PathBuf { dir.path().join(name) };
    config::Server {
        listen,
        cert: path("server.crt"),
        key: path("server.key"),
        client_ca: path("ca.crt"),
        attach_timeout: Duration::from_mins(1),
        max_connections: 8,
    }
}

pub fn node() -> config::Node {
    config::Node { name: "server1".to_owned(), host_identity: HOST.to_owned() }
}

pub fn put(dir: &TempDir, name: &str, text: &str) {
    std::fs::write(dir.path().join(name), text).unwrap();
}

impl Bench {
    pub fn start() -> Self {
        Self::start_with(quick(), |_| {})
    }

    pub fn start_with(limits: Limits, change: impl FnOnce(&mut config::Server)) -> Self {
        let ca = Ca::new();
        let dir = tempfile::tempdir().unwrap();
        ca.put_server(&dir);
        let mut config = server_config(&dir, vec!["127.0.0.1:0".parse().unwrap()]);
        change(&mut config);
        let fake = Arc::new(Fake::default());
        let metrics = Metrics::new();
        let server =
            Server::bind_within(limits, &config, &node(), Shared(Arc::clone(&fake)), metrics.clone())
                .unwrap();
        let (shims, admitted) = watch::channel(Shims::default());
        let server = server.admitting(admitted);
        let address = server.local_addrs()[0];
        let cancel = CancellationToken::new();
        let task = tokio::spawn(server.run(cancel.clone()));
        Self { ca, fake, metrics, address, cancel, task, shims, dir }
    }

    pub fn endpoint(&self, identity: Option<&Cert>) -> Endpoint {
        endpoint(self.address, &self.ca.pem(), identity)
    }

    /// The host-shim as it should be.
    pub async fn client(&self) -> NicAgentClient<Channel> {
        let cert = self.ca.client(&[HOST]);
        NicAgentClient::new(self.endpoint(Some(&cert)).connect().await.unwrap())
    }

    /// A TLS session with this certificate, to put anything into. The server may refuse it afterwards.
    pub async fn tls(&self, identity: &Cert, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.pem().as_bytes()).unwrap()).unwrap();
        let mut config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(identity.cert.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap(),
                )
                .unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("nic1.example").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// That the host still gets its answer.
    pub async fn assert_serves(&self) {
        let answer = self.client().await.status(v1::StatusRequest {}).await.unwrap().into_inner();
        assert!(answer.ready);
    }

    pub fn metric(&self, line: &str) -> u64 {
        let text = self.metrics.encode(nic_agent::metrics::Format::Text).unwrap();
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok());
        value.unwrap_or(0)
    }

    pub async fn until(&self, line: &str, value: u64) {
        for _ in 0..3000 {
            if self.metric(line) == value {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{line} is {}, not {value}", self.metric(line));
    }

    pub async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }
}

pub fn endpoint(address: SocketAddr, ca: &str, identity: Option<&Cert>) -> Endpoint {
    let mut tls =
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca)).domain_name("nic1.example");
    if let Some(cert) = identity {
        tls = tls.identity(Identity::from_pem(&cert.cert, &cert.key));
    }
    Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap()
}

/// One request over a fresh connection; what a client sees that is not let in.
pub async fn try_status(endpoint: Endpoint) -> Result<v1::StatusResponse, String> {
    let channel = endpoint.connect().await.map_err(|error| format!("{error:?}"))?;
    let answer = NicAgentClient::new(channel).status(v1::StatusRequest {}).await;
    answer.map(tonic::Response::into_inner).map_err(|status| format!("{status:?}"))
}

pub fn request() -> v1::AttachRequest {
    v1::AttachRequest {
        sandbox: Some(v1::Sandbox { id: "4f2a1b".to_owned(), interface: "eth0".to_owned() }),
        pod: Some(v1::Pod {
            namespace: "default".to_owned(),
            name: "web-0".to_owned(),
            uid: "6fb59f54-5b0a-4b0e-9ad3-0a3a5c4b7a10".to_owned(),
        }),
        network: "ovn".to_owned(),
        vf: Some(v1::Vf { pci_address: "0000:03:00.2".to_owned(), pf: 0, vf: 3 }),
    }
}

pub fn reason(status: &tonic::Status) -> &'static str {
    proto::reason(status).unwrap_or_default().leak()
}
