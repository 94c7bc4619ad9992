//! Certificates, read for the time that they are valid in. Keys are not opened.

use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::parse_x509_certificate;

use super::configuration::Files;
use crate::kubeconfig::{self, Named};
use crate::preflight::Fact;
use crate::preflight::system::{Certificate, Validity};

pub fn all(files: &Files) -> Vec<Certificate> {
    let mut all: Vec<Certificate> = files.pem.iter().map(|(key, path)| of_file(key, path)).collect();
    let Some(kubeconfig) = &files.kubeconfig else { return all };
    match kubeconfig::certificates(kubeconfig) {
        Ok(named) => all.extend(named.into_iter().map(|Named { key, path, pem }| {
            let validity = pem.and_then(|pem| validity(&pem));
            Certificate { key, path, validity }
        })),
        Err(error) => all.push(Certificate {
            key: "cluster.kubeconfig",
            path: kubeconfig.clone(),
            validity: Err(format!("{}: {}", kubeconfig.display(), kube_watch::chain(&error))),
        }),
    }
    all
}

fn of_file(key: &'static str, path: &Path) -> Certificate {
    let pem = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
    Certificate { key, path: PathBuf::from(path), validity: pem.and_then(|pem| validity(&pem)) }
}

/// The time in which all of them are valid.
fn validity(pem: &[u8]) -> Fact<Validity> {
    let mut all = None::<Validity>;
    for der in CertificateDer::pem_slice_iter(pem) {
        let der = der.map_err(|e| format!("no PEM: {e}"))?;
        let (_, certificate) = parse_x509_certificate(&der).map_err(|e| format!("no certificate: {e}"))?;
        let one = certificate.validity();
        let one = Validity { not_before: one.not_before.timestamp(), not_after: one.not_after.timestamp() };
        all = Some(all.map_or(one, |all| Validity {
            not_before: all.not_before.max(one.not_before),
            not_after: all.not_after.min(one.not_after),
        }));
    }
    all.ok_or_else(|| "no certificate in it".to_owned())
}
