//! Dialling a broker: name, TCP, and TLS where it is asked for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Transport;

/// Why a host cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address, nobody listens, or the network is away.
    #[error("cannot reach {host}:{port}: {error}")]
    Unreachable {
        /// The host as it was given.
        host: String,
        /// The port.
        port: u16,
        /// What the system said.
        error: io::Error,
    },
    /// TLS failed: the certificate is not trusted, or not for this name.
    #[error("no TLS with {host}:{port}: {error}")]
    Tls {
        /// The host as it was given.
        host: String,
        /// The port.
        port: u16,
        /// What failed.
        error: io::Error,
    },
    /// No connection in time.
    #[error("cannot reach {host}:{port} within {} s", timeout.as_secs())]
    Timeout {
        /// The host as it was given.
        host: String,
        /// The port.
        port: u16,
        /// The time that it had.
        timeout: Duration,
    },
}

/// Connects to `host`, by TLS where `tls` says how, within `timeout`.
///
/// # Errors
/// Why there is no connection.
pub async fn dial(
    host: &str,
    port: u16,
    tls: Option<&Arc<ClientConfig>>,
    timeout: Duration,
) -> Result<Transport, DialError> {
    let connect = async {
        let unreachable = |error| DialError::Unreachable { host: host.into(), port, error };
        let stream = TcpStream::connect((host, port)).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let Some(config) = tls else {
            return Ok(Transport::tcp(stream));
        };
        let failed = |error| DialError::Tls { host: host.into(), port, error };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(failed)?;
        Ok(Transport::stream(stream))
    };
    match tokio::time::timeout(timeout, connect).await {
        Ok(result) => result,
        Err(_) => Err(DialError::Timeout { host: host.into(), port, timeout }),
    }
}
