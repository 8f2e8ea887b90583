//! A broker that is dialled, as its URL says.

use std::fmt;

use crate::settings::{Endpoint, EndpointError};

/// The path of MQTT over WebSocket where a URL has none, as brokers serve it.
const DEFAULT_PATH: &str = "/mqtt";

/// A broker to dial.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// A name or an address.
    pub host: String,
    /// 1 to 65,535.
    pub port: u16,
    /// Whether TLS is spoken: `mqtts`, `wss`.
    pub tls: bool,
    /// Over WebSocket, the path and query that are asked for: `ws`, `wss`.
    pub path: Option<String>,
}

/// Why a URL is no [`Server`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// No URL at all.
    #[error("{0}")]
    Url(#[from] EndpointError),
    /// A scheme that no broker has.
    #[error("`{0}://` is no broker")]
    Scheme(String),
    /// Port 0.
    #[error("there is no port 0 to dial")]
    Port,
    /// A path where there is no WebSocket.
    #[error("`{0}` has no meaning here")]
    Path(String),
    /// A path with characters that do not stand in a request.
    #[error("`{0}` is no path of a URL: write other characters as %20 and the like, and no #")]
    Characters(String),
}

impl Server {
    /// Reads `mqtt://host`, `mqtts://host:8883`, `ws://host/path` or `wss://host`. Ports default to 1883, 8883, 80 and
    /// 443, the path to `/mqtt`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Self, ServerError> {
        let Endpoint { scheme, host, port, path } = Endpoint::parse(url)?;
        let (tls, websocket, default_port) = match scheme.as_str() {
            "mqtt" => (false, false, 1883),
            "mqtts" => (true, false, 8883),
            "ws" => (false, true, 80),
            "wss" => (true, true, 443),
            _ => return Err(ServerError::Scheme(scheme)),
        };
        let port = port.unwrap_or(default_port);
        if port == 0 {
            return Err(ServerError::Port);
        }
        let path = match (websocket, path.as_str()) {
            (false, "") => None,
            (false, _) => return Err(ServerError::Path(path)),
            (true, "") => Some(DEFAULT_PATH.to_owned()),
            (true, _) if !path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') => {
                return Err(ServerError::Characters(path));
            }
            (true, query) if query.starts_with('?') => Some(format!("/{query}")),
            (true, _) => Some(path),
        };
        Ok(Self { host, port, tls, path })
    }

    /// What a request says in Host: the port is left out where it is the scheme's own [RFC 9110 7.2].
    pub(super) fn http_host(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let default_port = if self.tls { 443 } else { 80 };
        if self.port == default_port { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.tls, &self.path) {
            (false, None) => "mqtt",
            (true, None) => "mqtts",
            (false, Some(_)) => "ws",
            (true, Some(_)) => "wss",
        };
        let (host, path) = (self.host.clone(), self.path.clone().unwrap_or_default());
        Endpoint { scheme: scheme.into(), host, port: Some(self.port), path }.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scheme_has_its_port_and_path() {
        for (url, whole, host) in [
            ("mqtt://a", "mqtt://a:1883", "a:1883"),
            ("mqtts://[::1]", "mqtts://[::1]:8883", "[::1]:8883"),
            ("ws://a", "ws://a:80/mqtt", "a"),
            ("WSS://a", "wss://a:443/mqtt", "a"),
            ("ws://a:443/", "ws://a:443/", "a:443"),
            ("wss://a/b/c?d=e", "wss://a:443/b/c?d=e", "a"),
            ("wss://a?token=1", "wss://a:443/?token=1", "a"),
        ] {
            let server = Server::parse(url).unwrap();
            assert_eq!((server.to_string().as_str(), server.http_host().as_str()), (whole, host));
        }
    }

    #[test]
    fn what_no_broker_has_is_refused() {
        for (url, error) in [
            ("http://a", ServerError::Scheme("http".into())),
            ("mqtt://a/b", ServerError::Path("/b".into())),
            ("mqtts://a/", ServerError::Path("/".into())),
            ("ws://a:0", ServerError::Port),
            ("ws://a/b c", ServerError::Characters("/b c".into())),
            ("ws://a/b\r\nX: y", ServerError::Characters("/b\r\nX: y".into())),
            ("ws://a/b#c", ServerError::Characters("/b#c".into())),
        ] {
            assert_eq!(Server::parse(url), Err(error));
        }
    }
}
