//! Proxies that pass TCP on: HTTP CONNECT and SOCKS5. They resolve the name of the target, not we.

mod http;
mod socks5;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::settings::{Endpoint, EndpointError, Secret, decode_percent};

/// The port of Squid, which others follow.
const HTTP_PORT: u16 = 3128;
/// The registered port of SOCKS.
const SOCKS_PORT: u16 = 1080;
/// The longest user name and the longest password of SOCKS5, in bytes [RFC 1929 2].
const MAX_CREDENTIAL_BYTES: usize = 255;

/// A proxy, and who we are for it. Neither `Debug` nor `Display` shows the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// What it speaks.
    pub kind: ProxyKind,
    /// A name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User name and password.
    pub credentials: Option<(String, Secret)>,
}

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP CONNECT [RFC 9110 9.3.6].
    Http,
    /// SOCKS 5 [RFC 1928].
    Socks5,
}

/// Why a text is no [`Proxy`]. The text itself is not shown: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyUrlError {
    /// No host, or one that cannot be.
    #[error("a proxy has a host, a name or an address: http://proxy.example.com:3128")]
    Host,
    /// No number, or above 65,535.
    #[error("a port is a number from 1 to 65535")]
    Port,
    /// No scheme, or another one.
    #[error("a proxy is http://HOST:3128 or socks5://HOST:1080")]
    Scheme,
    /// The proxy itself would be spoken to by TLS.
    #[error("the way to a proxy itself is without TLS: http://HOST:3128; what goes through it may be `mqtts://`")]
    Https,
    /// A path, or port 0.
    #[error("behind the host of a proxy stands its port and nothing else: http://HOST:3128")]
    Rest,
    /// A user name or password that cannot be sent.
    #[error(
        "user and password of a proxy are 1 to 255 bytes, the user without a colon, and `%`, `@`, `/` and `:` in them \
         are written %25, %40, %2F and %3A"
    )]
    Credentials,
}

impl From<EndpointError> for ProxyUrlError {
    fn from(error: EndpointError) -> Self {
        match error {
            EndpointError::Scheme => Self::Scheme,
            EndpointError::Host | EndpointError::UserInfo => Self::Host,
            EndpointError::Port => Self::Port,
        }
    }
}

/// Why a proxy gives no connection.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The connection to it failed.
    #[error("{0}")]
    Failed(#[from] io::Error),
    /// It wants to know who we are.
    #[error("it wants a user and a password, which stand in its URL: user:password@host")]
    WantsPassword,
    /// It does not take our user and password.
    #[error("it refuses our user or password")]
    WrongPassword,
    /// It may not pass us on to there.
    #[error("it does not allow connections to {target}{why}")]
    Forbidden {
        /// Host and port.
        target: String,
        /// Its own words in parentheses, or nothing.
        why: String,
    },
    /// It cannot reach the target.
    #[error("it cannot reach {target}: {why}")]
    Unreachable {
        /// Host and port.
        target: String,
        /// Its own words.
        why: String,
    },
    /// Another refusal.
    #[error("it answers {0}")]
    Refused(String),
    /// What it says is not what such a proxy says.
    #[error("{0}")]
    Answer(&'static str),
}

impl Proxy {
    /// Reads `http://user:password@host:3128` or `socks5://user:password@host:1080`; user, password and port may be
    /// left out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Self, ProxyUrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(EndpointError::Scheme)?;
        let authority = &rest[..rest.find(['/', '?']).unwrap_or(rest.len())];
        let (credentials, rest) = match authority.rsplit_once('@') {
            Some((credentials, _)) => (Some(credentials), &rest[credentials.len() + 1..]),
            None => (None, rest),
        };
        let endpoint = Endpoint::parse(&format!("{scheme}://{rest}"))?;
        let (kind, port) = match endpoint.scheme.as_str() {
            "http" => (ProxyKind::Http, HTTP_PORT),
            "socks5" | "socks5h" => (ProxyKind::Socks5, SOCKS_PORT),
            "https" => return Err(ProxyUrlError::Https),
            _ => return Err(ProxyUrlError::Scheme),
        };
        if !matches!(endpoint.path.as_str(), "" | "/") || endpoint.port == Some(0) {
            return Err(ProxyUrlError::Rest);
        }
        let credentials = credentials.map(credentials_of).transpose()?;
        Ok(Self { kind, host: endpoint.host, port: endpoint.port.unwrap_or(port), credentials })
    }

    /// Has the proxy at the other end of `stream` connect to `host` and `port`: `stream` leads there from then on.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn connect<S>(&self, stream: &mut S, host: &str, port: u16) -> Result<(), ProxyError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let credentials = self.credentials.as_ref().map(|(user, password)| (user.as_str(), password.reveal()));
        match self.kind {
            ProxyKind::Http => http::connect(stream, host, port, credentials).await,
            ProxyKind::Socks5 => socks5::connect(stream, host, port, credentials).await,
        }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyKind::Http => "http",
            ProxyKind::Socks5 => "socks5",
        };
        let (scheme, host, path) = (scheme.into(), self.host.clone(), String::new());
        Endpoint { scheme, host, port: Some(self.port), path }.fmt(f)
    }
}

fn credentials_of(text: &str) -> Result<(String, Secret), ProxyUrlError> {
    let decode = |text: &str| {
        let decoded = decode_percent(text).ok_or(ProxyUrlError::Credentials)?;
        let fits = (1..=MAX_CREDENTIAL_BYTES).contains(&decoded.len());
        if fits { Ok(decoded) } else { Err(ProxyUrlError::Credentials) }
    };
    let (user, password) = text.split_once(':').ok_or(ProxyUrlError::Credentials)?;
    let user = decode(user)?;
    // Basic cuts at the first colon [RFC 7617 2].
    if user.contains(':') {
        return Err(ProxyUrlError::Credentials);
    }
    Ok((user, Secret::new(decode(password)?)))
}

/// `host:port`, with brackets around an IPv6 address.
fn target(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
