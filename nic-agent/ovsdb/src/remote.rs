//! Where a server is, in OVS's words: `unix:/path`, `tcp:host:port`, `tcp:[v6]:port`, `ssl:host:port`.
//!
//! The port is not optional here: OVS's default (6640) is none of OVN's, so leaving it out is mostly a mistake.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Remote {
    /// A Unix socket.
    Unix(PathBuf),
    /// TCP, in the clear.
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
    /// TLS over TCP.
    Ssl {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
    },
}

/// Why a text is no remote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// None of unix, tcp, ssl. (`ptcp:` and its like listen: they are a server's.)
    #[error("{0:?}: a remote starts with \"unix:\", \"tcp:\" or \"ssl:\"")]
    Scheme(String),
    /// `unix:` and nothing.
    #[error("{0:?}: the path is missing")]
    Path(String),
    /// No host.
    #[error("{0:?}: the host is missing, or an IPv6 address without its brackets")]
    Host(String),
    /// No port.
    #[error("{0:?}: the port, 1 to 65535, is missing")]
    Port(String),
}

impl FromStr for Remote {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<Self, RemoteError> {
        let text = text.trim();
        let (scheme, rest) = text.split_once(':').ok_or_else(|| RemoteError::Scheme(text.into()))?;
        match scheme {
            "unix" if rest.is_empty() => Err(RemoteError::Path(text.into())),
            "unix" => Ok(Self::Unix(rest.into())),
            "tcp" => host_port(text, rest).map(|(host, port)| Self::Tcp { host, port }),
            "ssl" => host_port(text, rest).map(|(host, port)| Self::Ssl { host, port }),
            _ => Err(RemoteError::Scheme(text.into())),
        }
    }
}

fn host_port(text: &str, rest: &str) -> Result<(String, u16), RemoteError> {
    let (host, port) = if let Some(inner) = rest.strip_prefix('[') {
        let (host, tail) = inner.split_once(']').ok_or_else(|| RemoteError::Host(text.into()))?;
        (host, tail.strip_prefix(':').ok_or_else(|| RemoteError::Port(text.into()))?)
    } else {
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| RemoteError::Port(text.into()))?;
        if host.contains(':') {
            return Err(RemoteError::Host(text.into()));
        }
        (host, port)
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '[' || c == ']') {
        return Err(RemoteError::Host(text.into()));
    }
    match port.parse() {
        Ok(port) if port != 0 => Ok((host.into(), port)),
        _ => Err(RemoteError::Port(text.into())),
    }
}

impl Remote {
    /// Reads a list as in `ovn-remote`: `tcp:a:1,tcp:b:1`.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, RemoteError> {
        text.split(',').map(str::parse).collect()
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Self::Unix(path) => return write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } => ("tcp", host, port),
            Self::Ssl { host, port } => ("ssl", host, port),
        };
        if host.contains(':') {
            write!(f, "{scheme}:[{host}]:{port}")
        } else {
            write!(f, "{scheme}:{host}:{port}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_and_back() {
        for (text, wanted) in [
            ("unix:/run/a b", Remote::Unix("/run/a b".into())),
            ("tcp:10.0.0.1:6642", Remote::Tcp { host: "10.0.0.1".into(), port: 6642 }),
            ("tcp:[fd00::1]:6642", Remote::Tcp { host: "fd00::1".into(), port: 6642 }),
            ("ssl:[fe80::1%eth0]:1", Remote::Ssl { host: "fe80::1%eth0".into(), port: 1 }),
            ("ssl:ovn.example.org:65535", Remote::Ssl { host: "ovn.example.org".into(), port: 65535 }),
        ] {
            let remote: Remote = text.parse().unwrap();
            assert_eq!(remote, wanted);
            assert_eq!(remote.to_string(), text);
        }
    }

    #[test]
    fn lists_keep_their_order() {
        let list = Remote::parse_list("tcp:a:1, tcp:b:2,unix:/c").unwrap();
        let texts: Vec<String> = list.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["tcp:a:1", "tcp:b:2", "unix:/c"]);
    }

    #[test]
    fn refused() {
        use RemoteError::{Host, Path, Port, Scheme};
        let s = String::from;
        for (text, error) in [
            ("", Scheme(s(""))),
            ("ptcp:6640", Scheme(s("ptcp:6640"))),
            ("10.0.0.1:6642", Scheme(s("10.0.0.1:6642"))),
            ("unix:", Path(s("unix:"))),
            ("tcp:10.0.0.1", Port(s("tcp:10.0.0.1"))),
            ("tcp:10.0.0.1:", Port(s("tcp:10.0.0.1:"))),
            ("tcp:10.0.0.1:0", Port(s("tcp:10.0.0.1:0"))),
            ("tcp:10.0.0.1:70000", Port(s("tcp:10.0.0.1:70000"))),
            ("tcp:fd00::1:6642", Host(s("tcp:fd00::1:6642"))),
            ("tcp:[fd00::1]", Port(s("tcp:[fd00::1]"))),
            ("tcp:[fd00::1:6642", Host(s("tcp:[fd00::1:6642"))),
            ("ssl::6642", Host(s("ssl::6642"))),
            ("tcp:[]:1", Host(s("tcp:[]:1"))),
        ] {
            assert_eq!(text.parse::<Remote>(), Err(error));
        }
        assert!(Remote::parse_list("tcp:a:1,,tcp:b:1").is_err());
    }
}
