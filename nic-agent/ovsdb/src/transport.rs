//! Opens the byte stream to a remote.

use std::net::IpAddr;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::remote::Remote;
use crate::tls::{self, TlsError, TlsFiles};

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("TLS handshake: {0}")]
    Handshake(std::io::Error),
    #[error("an ssl: remote needs a key, a certificate and a CA")]
    NoTlsFiles,
    #[error("{0:?} is no host name")]
    HostName(String),
}

pub(crate) async fn connect(
    remote: &Remote,
    tls: Option<&TlsFiles>,
) -> Result<Box<dyn Stream>, ConnectError> {
    match remote {
        Remote::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        Remote::Tcp { host, port } => Ok(Box::new(tcp(host, *port).await?)),
        Remote::Ssl { host, port } => {
            let config = tls::client_config(tls.ok_or(ConnectError::NoTlsFiles)?)?;
            // Only for the handshake's SNI: the verifier looks at no name. rustls knows no zone in an address.
            let bare = host.split('%').next().unwrap_or_default();
            let name = match bare.parse::<IpAddr>() {
                Ok(address) => ServerName::from(address),
                Err(_) => {
                    ServerName::try_from(host.clone()).map_err(|_| ConnectError::HostName(host.clone()))?
                }
            };
            let stream = tcp(host, *port).await?;
            let handshake = TlsConnector::from(config).connect(name, stream);
            Ok(Box::new(handshake.await.map_err(ConnectError::Handshake)?))
        }
    }
}

async fn tcp(host: &str, port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    // Small requests and their answers alternate: waiting for more to send only adds latency.
    stream.set_nodelay(true)?;
    Ok(stream)
}
