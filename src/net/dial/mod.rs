//! Dialling a broker: name, TCP, a proxy, TLS and WebSocket, each where it is asked for.

mod race;
mod server;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::proxy::{Proxy, ProxyError};
use super::websocket::{self, AskError};
use super::{Transport, tls};

pub use server::{Server, ServerError};

/// The shortest time without an acknowledgement after which TCP gives a connection up: a few repetitions fit in it.
const MIN_SILENCE: Duration = Duration::from_secs(5);
/// How long a server may take to say no after a handshake of TLS 1.3 [RFC 8446 4.4.2.4]: it hears of our certificate
/// when we have finished.
const SECOND_THOUGHTS: Duration = Duration::from_secs(2);

/// What servers are dialled with.
#[derive(Debug, Clone)]
pub struct Means {
    /// TLS, for servers that want it.
    pub tls: Option<Arc<ClientConfig>>,
    /// The name that a server is asked for (SNI) and that its certificate must have, instead of its host.
    pub server_name: Option<String>,
    /// What passes the connection on.
    pub proxy: Option<Proxy>,
    /// How long the other side's TCP may leave bytes unacknowledged, or an idle connection unanswered; at least 5 s.
    /// Without it a network that swallows everything is noticed after a quarter of an hour.
    pub silence: Duration,
    /// Until there is a connection.
    pub timeout: Duration,
}

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
    /// The proxy does not pass us on.
    #[error("the proxy {proxy} does not connect us: {error}")]
    Proxy {
        /// The proxy, without user and password.
        proxy: String,
        /// Why.
        error: ProxyError,
    },
    /// TLS failed: the certificate is not trusted, or not for this name.
    #[error("no TLS with {host}:{port}: {}", tls::describe_handshake(error))]
    Tls {
        /// The host as it was given.
        host: String,
        /// The port.
        port: u16,
        /// What failed.
        error: io::Error,
    },
    /// No WebSocket there.
    #[error("no WebSocket at {server}: {}", words_of(error))]
    WebSocket {
        /// The server.
        server: Server,
        /// Why.
        error: AskError,
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

impl DialError {
    /// Whether the server itself does not let us in as we are, rather than nobody having answered, or not to the end.
    pub fn is_refusal(&self) -> bool {
        match self {
            // Whatever the system says of the network is of another kind, and so is an end without a word: that is how
            // a load balancer sounds whose servers are away.
            Self::Tls { error, .. } => matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::Other),
            Self::WebSocket { error: AskError::Failed(_) | AskError::Status { status: 500.., .. }, .. } => false,
            Self::WebSocket { .. } => true,
            Self::Unreachable { .. } | Self::Proxy { .. } | Self::Timeout { .. } => false,
        }
    }
}

/// Connects to `server` by `means`.
///
/// # Errors
/// Why there is no connection.
pub async fn dial(server: &Server, means: &Means) -> Result<Transport, DialError> {
    match tokio::time::timeout(means.timeout, connect(server, means)).await {
        Ok(result) => result,
        Err(_) => Err(DialError::Timeout { host: server.host.clone(), port: server.port, timeout: means.timeout }),
    }
}

/// Tries `means` on `server` by a connection that says nothing of MQTT: it would take the session of the one that
/// there is. Where that takes a handshake of TLS 1.3, the server has a moment to change its mind.
///
/// # Errors
/// Why there is no connection, or that it was closed at once.
pub async fn prove(server: &Server, means: &Means) -> Result<(), DialError> {
    let Transport::Stream(mut stream) = dial(server, means).await? else {
        return Ok(());
    };
    let failed = |error| DialError::Tls { host: server.host.clone(), port: server.port, error };
    match tokio::time::timeout(SECOND_THOUGHTS, stream.read_u8()).await {
        // The alert that says why may be lost on its way.
        Ok(Err(error)) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            let words =
                "the server closed the connection right after the handshake, as some do that refuse a certificate";
            Err(failed(io::Error::other(words)))
        }
        Ok(Err(error)) => Err(failed(error)),
        Ok(Ok(_)) | Err(_) => {
            let _ = tokio::time::timeout(SECOND_THOUGHTS, stream.shutdown()).await;
            Ok(())
        }
    }
}

async fn connect(server: &Server, means: &Means) -> Result<Transport, DialError> {
    let stream = connect_tcp(server, means).await?;
    let not_upgraded = |error| DialError::WebSocket { server: server.clone(), error };
    let Some(config) = means.tls.as_ref().filter(|_| server.tls) else {
        return Ok(match &server.path {
            None => Transport::tcp(stream),
            Some(path) => {
                let asked = websocket::ask(stream, &server.http_host(), path).await;
                Transport::stream(asked.map_err(not_upgraded)?)
            }
        });
    };
    let failed = |error| DialError::Tls { host: server.host.clone(), port: server.port, error };
    let name = means.server_name.as_deref().unwrap_or(&server.host).to_owned();
    let name = ServerName::try_from(name).map_err(|error| failed(io::Error::other(error)))?;
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(failed)?;
    Ok(match &server.path {
        None => Transport::stream(stream),
        Some(path) => {
            let asked = websocket::ask(stream, &server.http_host(), path).await;
            Transport::stream(asked.map_err(not_upgraded)?)
        }
    })
}

/// A TCP connection to the server, or through a proxy.
async fn connect_tcp(server: &Server, means: &Means) -> Result<TcpStream, DialError> {
    let (host, port) = match &means.proxy {
        Some(proxy) => (proxy.host.as_str(), proxy.port),
        None => (server.host.as_str(), server.port),
    };
    let unreachable = |error| DialError::Unreachable { host: host.into(), port, error };
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(unreachable)?;
    let mut stream = race::connect(addresses.collect()).await.map_err(unreachable)?;
    set_options(&stream, means.silence).map_err(unreachable)?;
    if let Some(proxy) = &means.proxy {
        let connected = proxy.connect(&mut stream, &server.host, server.port).await;
        connected.map_err(|error| DialError::Proxy { proxy: proxy.to_string(), error })?;
    }
    Ok(stream)
}

fn set_options(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let silence = silence.max(MIN_SILENCE);
    let socket = SockRef::from(stream);
    // With MQTT's own pings an idle connection is never idle for long; this is for those whose keep alive is hours.
    let keepalive = TcpKeepalive::new().with_time(silence.max(Duration::from_secs(30)));
    socket.set_tcp_keepalive(&keepalive.with_interval(MIN_SILENCE))?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(silence))?;
    Ok(())
}

fn words_of(error: &AskError) -> String {
    match error {
        AskError::Failed(error) => tls::describe(error),
        other => other.to_string(),
    }
}
