//! When certificates end, read from their files at each scrape: so what is shown is what the next handshake after a
//! reload has, and a file that was renewed is seen at once.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Of several certificates in one file, which end counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// A chain: it is good as long as all of it.
    First,
    /// CAs: while they are changed the old one stands beside the new one.
    Last,
}

/// Seconds since the epoch; `None`: there is none to be read.
type Source = Box<dyn Fn() -> Option<i64> + Send + Sync>;

/// The certificates that a program uses. A clone is the same ones. Register it under the program's prefix.
#[derive(Clone, Default)]
pub struct Certificates(Arc<RwLock<Vec<(&'static str, Source)>>>);

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl Certificates {
    /// A PEM file.
    pub fn follow_file(&self, name: &'static str, ends: Ends, path: PathBuf) {
        self.follow(name, move || {
            let pem = std::fs::read(&path).ok()?;
            match ends {
                Ends::First => first_end(&pem),
                Ends::Last => last_end(&pem),
            }
        });
    }

    /// Whatever says when one ends.
    pub fn follow(&self, name: &'static str, end: impl Fn() -> Option<i64> + Send + Sync + 'static) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push((name, Box::new(end)));
    }
}

impl Collector for Certificates {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let ends: Vec<(&str, i64)> = all.iter().filter_map(|(name, end)| Some((*name, end()?))).collect();
        if ends.is_empty() {
            return Ok(());
        }
        let mut family = encoder.encode_descriptor(
            "certificate_expiration_timestamp_seconds",
            "When a certificate that is in use, or will be after the next reload, ends, in seconds since the epoch",
            None,
            MetricType::Gauge,
        )?;
        for (name, end) in ends {
            ConstGauge::new(end).encode(family.encode_family(&[("certificate", name)])?)?;
        }
        Ok(())
    }
}

/// Of the certificates in a PEM text.
pub fn first_end(pem: &[u8]) -> Option<i64> {
    ends(pem).min()
}

/// Of the certificates in a PEM text.
pub fn last_end(pem: &[u8]) -> Option<i64> {
    ends(pem).max()
}

fn ends(pem: &[u8]) -> impl Iterator<Item = i64> {
    let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok);
    certificates.filter_map(|der| {
        let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
        Some(certificate.validity().not_after.timestamp())
    })
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;
    use crate::{Format, encode};

    /// A certificate that ends on New Year's Day.
    fn until(year: i32) -> String {
        let mut params = CertificateParams::new(vec!["server1".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    const IN_2030: i64 = 1_893_456_000;
    const IN_2040: i64 = 2_208_988_800;

    #[test]
    fn a_chain_ends_with_its_first_and_a_bundle_with_its_last() {
        let both = until(2040) + &until(2030);
        assert_eq!(first_end(both.as_bytes()), Some(IN_2030));
        assert_eq!(last_end(both.as_bytes()), Some(IN_2040));
        assert_eq!(first_end(b"no certificate"), None);
    }

    #[test]
    fn a_renewed_file_is_seen_and_a_missing_one_is_left_out() {
        let path = std::env::temp_dir().join(format!("exposition-{}.pem", std::process::id()));
        let certificates = Certificates::default();
        let mut registry = Registry::with_prefix("drawbridge_x");
        registry.register_collector(Box::new(certificates.clone()));
        certificates.follow_file("server", Ends::First, path.clone());
        certificates.follow("kubernetes", || Some(7));
        let line = |name: &str, end: i64| {
            format!("drawbridge_x_certificate_expiration_timestamp_seconds{{certificate=\"{name}\"}} {end}\n")
        };
        let text = || encode(&registry, Format::Text).unwrap();
        assert!(text().contains(&line("kubernetes", 7)) && !text().contains("\"server\""), "{}", text());
        for (year, end) in [(2030, IN_2030), (2040, IN_2040)] {
            std::fs::write(&path, until(year)).unwrap();
            assert!(text().contains(&line("server", end)), "{}", text());
        }
        std::fs::remove_file(&path).unwrap();
        assert!(!text().contains("\"server\""), "{}", text());
    }
}
