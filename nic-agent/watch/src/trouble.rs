//! What is wrong between us and the API server, in words, and as one of a few causes.

use std::error::Error;
use std::fmt;
use std::io;

use kube::runtime::watcher;

/// For metrics: few, and known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// 401: who we are is not believed.
    Unauthorised,
    /// 403: it is believed, and not enough.
    Forbidden,
    /// The server's certificate, or ours, or a clock.
    Tls,
    /// Nobody there, or nobody who answers.
    Unreachable,
    /// It answered that it cannot.
    Server,
    /// It answered what we do not understand.
    Protocol,
}

impl Cause {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthorised => "unauthorised",
            Self::Forbidden => "forbidden",
            Self::Tls => "tls",
            Self::Unreachable => "unreachable",
            Self::Server => "server",
            Self::Protocol => "protocol",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub cause: Cause,
    what: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// An error and what it came from, each text once.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = inner.source();
    }
    text
}

fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // An io::Error hides what it was made of from `source`, and shows what that came from.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|it| find::<E>(it)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

impl Trouble {
    pub fn new(cause: Cause, what: impl Into<String>) -> Self {
        Self { cause, what: what.into() }
    }

    /// With the place where the credential, and the CA, are configured, should it be about these.
    #[must_use]
    pub fn configured_in(mut self, place: &str) -> Self {
        if matches!(self.cause, Cause::Unauthorised | Cause::Tls) {
            self.what = format!("{} [{place}]", self.what);
        }
        self
    }

    pub fn of_watch(error: &watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(e)
            | watcher::Error::WatchStartFailed(e)
            | watcher::Error::WatchFailed(e) => Self::of(e),
            watcher::Error::WatchError(status) => Self::of_status(status),
            watcher::Error::NoResourceVersion => {
                Self::new(Cause::Protocol, "the server's objects bear no resourceVersion")
            }
        }
    }

    pub fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status),
            kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => Self::new(Cause::Protocol, chain(error)),
            _ => match find::<rustls::Error>(error) {
                Some(tls) => Self::new(Cause::Tls, of_tls(tls)),
                None => Self::new(Cause::Unreachable, chain(error)),
            },
        }
    }

    fn of_status(status: &kube::core::Status) -> Self {
        let said = if status.message.is_empty() { &status.reason } else { &status.message };
        match status.code {
            401 => Self::new(
                Cause::Unauthorised,
                format!("401: the credential for the API is not accepted, or has run out ({said})"),
            ),
            403 => Self::new(Cause::Forbidden, format!("403: {said}")),
            code @ (429 | 500..) => Self::new(Cause::Server, format!("{code}: {said}")),
            code => Self::new(Cause::Protocol, format!("{code}: {said}")),
        }
    }
}

fn of_tls(error: &rustls::Error) -> String {
    use rustls::CertificateError as Bad;
    use rustls::{AlertDescription, Error};
    let hint = match error {
        // Clusters like to call their CAs by one name: then the signature tells them apart.
        Error::InvalidCertificate(Bad::UnknownIssuer | Bad::BadSignature) => {
            "the API server's certificate was not signed by the CA that we were given for it"
        }
        Error::InvalidCertificate(
            Bad::Expired | Bad::ExpiredContext { .. } | Bad::NotValidYet | Bad::NotValidYetContext { .. },
        ) => "the API server's certificate is not valid at this time: is this NIC's clock right?",
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "the API server's certificate is for another name than the kubeconfig's"
        }
        Error::AlertReceived(
            AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA,
        ) => "the API server does not accept our certificate",
        _ => return format!("TLS: {error}"),
    };
    format!("{hint} ({error})")
}
