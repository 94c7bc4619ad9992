//! Who speaks: the names in a client's certificate against the one host that this NIC serves.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, DnsName, ServerName};
use webpki::EndEntityCert;

use crate::key_pin::KeyPin;

/// `node.host-identity`.
#[derive(Debug, Clone)]
pub(super) struct HostIdentity(DnsName<'static>);

/// The other end of a connection; its chain is good.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// DNS names of its certificate.
    pub(super) names: Arc<[String]>,
    pub(super) is_our_host: bool,
    /// Of its certificate.
    pub(super) key: Option<KeyPin>,
}

impl HostIdentity {
    pub(super) fn new(name: &str) -> Option<Self> {
        DnsName::try_from(name.to_owned()).ok().map(Self)
    }

    pub(super) fn peer(&self, address: SocketAddr, leaf: Option<&CertificateDer<'_>>) -> Peer {
        let stranger = || Peer { address, names: Arc::new([]), is_our_host: false, key: None };
        let Some(certificate) = leaf.and_then(|leaf| EndEntityCert::try_from(leaf).ok()) else {
            return stranger();
        };
        let names: Arc<[String]> = certificate.valid_dns_names().map(str::to_owned).collect();
        let valid =
            certificate.verify_is_valid_for_subject_name(&ServerName::DnsName(self.0.clone())).is_ok();
        // A wildcard names many hosts, thus none: the name itself must stand there.
        let named = names.iter().any(|name| name.eq_ignore_ascii_case(self.as_str()));
        let key = KeyPin::of(&certificate.subject_public_key_info());
        Peer { address, names, is_our_host: valid && named, key }
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.as_ref()
    }
}
