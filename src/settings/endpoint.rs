//! Addresses as users write them: `mqtt://host:1883`, `127.0.0.1:8081`.

use std::fmt;
use std::net::IpAddr;

/// `scheme://host:port/path`. The port is what was written, the default is the reader's business.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// `mqtt`, `mqtts`, ... in lower case.
    pub scheme: String,
    /// A name or an address; IPv6 without its brackets.
    pub host: String,
    /// 0 to 65,535.
    pub port: Option<u16>,
    /// What follows, from the `/` on; empty where nothing does.
    pub path: String,
}

/// Why a text is no [`Endpoint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// `host:1883` without `mqtt://`.
    #[error("a URL begins with a scheme: mqtt://host:1883")]
    Scheme,
    /// `mqtt://:1883`, or characters that no host name has.
    #[error("a host is a name or an address: mqtt://broker.example.com, mqtt://192.168.1.5, mqtt://[::1]")]
    Host,
    /// No number, or above 65,535.
    #[error("a port is a number from 0 to 65535")]
    Port,
    /// `mqtt://user:password@host`.
    #[error("a URL has no user and password here: they have keys of their own, `username` and `password`")]
    UserInfo,
}

impl Endpoint {
    /// Reads `text`.
    ///
    /// # Errors
    /// Where it is no URL.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let (scheme, rest) = text.split_once("://").ok_or(EndpointError::Scheme)?;
        if scheme.is_empty() || !scheme.chars().all(|c| c.is_ascii_alphanumeric() || c == '+') {
            return Err(EndpointError::Scheme);
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(EndpointError::UserInfo);
        }
        let (host, port) = split_host(authority)?;
        Ok(Self { scheme: scheme.to_ascii_lowercase(), host, port, path: path.into() })
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        if self.host.contains(':') { write!(f, "[{}]", self.host) } else { f.write_str(&self.host) }?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.path)
    }
}

/// Host and port of `host:port`, `[::1]:port` or a host alone.
///
/// # Errors
/// Where there is no host, or no valid port behind the colon.
pub fn split_host(text: &str) -> Result<(String, Option<u16>), EndpointError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(EndpointError::Host)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| EndpointError::Host)?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(EndpointError::Host),
            }
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':') || !c.is_ascii();
    if host.is_empty() || host.len() > 255 || !host.chars().all(valid) {
        return Err(EndpointError::Host);
    }
    let port = match port {
        Some(port) if port.chars().all(|c| c.is_ascii_digit()) => Some(port.parse().map_err(|_| EndpointError::Port)?),
        Some(_) => return Err(EndpointError::Port),
        None => None,
    };
    Ok((host.into(), port))
}

/// `text` with `%41` and the like decoded; `None` where that gives no UTF-8, or no two hexadecimal digits follow a `%`.
pub fn decode_percent(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push((digit()? << 4 | digit()?) as u8);
    }
    String::from_utf8(decoded).ok()
}

/// Whether `host` is this machine and no other one can reach it there.
pub fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        for (text, host, port) in [
            ("mqtt://broker.example.com", "broker.example.com", None),
            ("MQTT://10.0.0.1:1884", "10.0.0.1", Some(1884)),
            ("mqtt://[::1]:0", "::1", Some(0)),
            ("mqtt://[fe80::1]", "fe80::1", None),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!((endpoint.scheme.as_str(), endpoint.host.as_str(), endpoint.port), ("mqtt", host, port));
        }
        assert_eq!(Endpoint::parse("ws://[::1]:80/mqtt").unwrap().to_string(), "ws://[::1]:80/mqtt");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for (text, error) in [
            ("localhost:1883", EndpointError::Scheme),
            ("://x", EndpointError::Scheme),
            ("mqtt://", EndpointError::Host),
            ("mqtt://:1883", EndpointError::Host),
            ("mqtt://a b", EndpointError::Host),
            ("mqtt://[::1", EndpointError::Host),
            ("mqtt://a:", EndpointError::Port),
            ("mqtt://a:70000", EndpointError::Port),
            ("mqtt://a:+1", EndpointError::Port),
            ("mqtt://user:secret@a", EndpointError::UserInfo),
        ] {
            let found = Endpoint::parse(text);
            assert_eq!(found, Err(error), "{text}");
        }
    }

    #[test]
    fn loopback_is_this_machine_only() {
        assert!(is_loopback("127.0.0.1") && is_loopback("127.8.8.8") && is_loopback("::1") && is_loopback("LocalHost"));
        assert!(!is_loopback("0.0.0.0") && !is_loopback("::") && !is_loopback("10.0.0.1") && !is_loopback("gateway"));
    }
}
