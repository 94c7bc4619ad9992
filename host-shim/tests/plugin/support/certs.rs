//! A CA, the agent's certificate and the host's, and a stranger's.
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

pub struct Certs {
    pub ca: String,
    pub server: (String, String),
    pub directory: PathBuf,
}

impl Certs {
    /// Writes `ca.pem`, `host.pem`, `host.key`, and `other-ca.pem`, `other.pem`, `other.key` of another CA.
    pub fn make(directory: &Path) -> Self {
        let (ca, issuer) = authority("Drawbridge");
        let (other_ca, other_issuer) = authority("somebody else");
        let host = leaf(&issuer, "host1");
        let other = leaf(&other_issuer, "host1");
        let files = [
            ("ca.pem", &ca),
            ("host.pem", &host.0),
            ("host.key", &host.1),
            ("other-ca.pem", &other_ca),
            ("other.pem", &other.0),
            ("other.key", &other.1),
        ];
        for (name, text) in files {
            std::fs::write(directory.join(name), text).unwrap();
        }
        Self { ca, server: leaf(&issuer, "nic-agent"), directory: directory.to_owned() }
    }

    pub fn tls(&self, ca: &str, cert: &str, key: &str) -> Value {
        let path = |name| self.directory.join(name).display().to_string();
        json!({ "ca": path(ca), "cert": path(cert), "key": path(key) })
    }
}

fn authority(name: &str) -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let cert = params.self_signed(&key).unwrap();
    (cert.pem(), Issuer::new(params, key))
}

fn leaf(issuer: &Issuer<'static, KeyPair>, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}
