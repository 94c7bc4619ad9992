//! Which certificates the agent uses, for the metric that says when they end. Owns none: each is read where it is used.

use std::path::Path;

use exposition::{Certificates, Ends, first_end, last_end};
use k8s_openapi::ByteString;
use kube::config::Kubeconfig;
use serde_json::Value;

use crate::config::Config;

/// By the configuration's keys. What a file names may change while we run, where files are only a start takes over.
pub fn follow(config: &Config, certificates: &Certificates) {
    let server = &config.server;
    certificates.follow_file("server.cert", Ends::First, server.cert.clone());
    certificates.follow_file("server.client-ca", Ends::Last, server.client_ca.clone());
    if let Some(tls) = &config.southbound.tls {
        certificates.follow_file("southbound.certificate", Ends::First, tls.certificate.clone());
        certificates.follow_file("southbound.ca-cert", Ends::Last, tls.ca_cert.clone());
    }
    if let Some(cluster) = &config.cluster {
        let path = cluster.kubeconfig.clone();
        certificates.follow("kubeconfig.client-certificate", move || first_end(&client_certificate(&path)?));
        let path = cluster.kubeconfig.clone();
        certificates.follow("kubeconfig.certificate-authority", move || last_end(&authority(&path)?));
    }
}

/// None, too, where the credential is a token.
fn client_certificate(path: &Path) -> Option<Vec<u8>> {
    let kubeconfig = Kubeconfig::read_from(path).ok()?;
    let (_, user) = crate::kubeconfig::current(&kubeconfig);
    let user = user?;
    content(user.client_certificate_data.as_deref(), user.client_certificate.as_deref())
}

fn authority(path: &Path) -> Option<Vec<u8>> {
    let kubeconfig = Kubeconfig::read_from(path).ok()?;
    let (cluster, _) = crate::kubeconfig::current(&kubeconfig);
    let cluster = cluster?;
    content(cluster.certificate_authority_data.as_deref(), cluster.certificate_authority.as_deref())
}

/// Data, in base64, counts more than a file (`kubectl`).
fn content(data: Option<&str>, file: Option<&str>) -> Option<Vec<u8>> {
    match data {
        Some(data) => serde_json::from_value::<ByteString>(Value::from(data)).ok().map(|it| it.0),
        None => std::fs::read(file?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;
    use crate::metrics::{Format, Metrics};

    fn until(year: i32) -> String {
        let mut params = CertificateParams::new(vec!["server1".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    #[test]
    fn each_certificate_of_the_configuration_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for (name, year) in [("own.pem", 2030), ("ca.pem", 2031), ("nic.pem", 2032), ("api-ca.pem", 2033)] {
            std::fs::write(path(name), until(year)).unwrap();
        }
        // The client's in the file itself, as kubeadm writes it; the CA in another.
        let data = serde_json::to_value(ByteString(until(2034).into_bytes())).unwrap();
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": "https://192.0.2.1:6443", "certificate-authority": path("api-ca.pem")}}],
            "users": [{"name": "u", "user": {"client-certificate-data": data}}],
        });
        std::fs::write(path("kubeconfig"), kubeconfig.to_string()).unwrap();
        let file = format!(
            "[node]\nname = 'server1'\n[server]\nlisten = ['192.0.2.21:8443']\ncert = '{own}'\nkey = '{own}'\nclient-ca = '{ca}'\n\
             [chassis]\nsystem-id = 'nic1'\novn-remote = 'ssl:192.0.2.10:6642'\novn-encap-ip = '192.0.2.1'\n\
             [southbound]\nprivate-key = '{own}'\ncertificate = '{nic}'\nca-cert = '{ca}'\n\
             [cluster]\nkubeconfig = '{kubeconfig}'\n",
            own = path("own.pem").display(),
            ca = path("ca.pem").display(),
            nic = path("nic.pem").display(),
            kubeconfig = path("kubeconfig").display(),
        );
        let metrics = Metrics::new();
        follow(&file.parse().unwrap(), &metrics.certificates);
        let text = metrics.encode(Format::Text).unwrap();
        for (name, year) in [
            ("server.cert", 2030_i64),
            ("server.client-ca", 2031),
            ("southbound.certificate", 2032),
            ("southbound.ca-cert", 2031),
            ("kubeconfig.client-certificate", 2034),
            ("kubeconfig.certificate-authority", 2033),
        ] {
            // Days from 1970 to that year's begin, leap days among them.
            let end = ((year - 1970) * 365 + (year - 1969) / 4) * 86_400;
            let line = format!(
                "drawbridge_nic_agent_certificate_expiration_timestamp_seconds{{certificate=\"{name}\"}} {end}"
            );
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
    }
}
