//! The rules of how a bridge gets to its broker: URLs, TLS, proxies.

use std::path::Path;

use super::resolver::Resolver;
use crate::bridge::settings::{Settings, Tls};
use crate::net::client_tls::{ClientTls, ClientTlsError, ClientTlsOptions, is_server_name};
use crate::net::dial::{Server, ServerError};
use crate::net::proxy::Proxy;
use crate::net::tls_files::TlsFile;
use crate::settings::{Located, Mistake, Secret};

/// The longest name of a protocol in ALPN, in bytes [RFC 7301 3.1].
const MAX_PROTOCOL_BYTES: usize = 255;

impl Resolver<'_> {
    pub(super) fn server(&mut self, url: &Located<String>) -> Option<Server> {
        let mistake = match Server::parse(url) {
            Ok(server) => return Some(server),
            Err(ServerError::Url(error)) => {
                url.mistake(format!("`{}` is no URL of a broker", url.value)).help(error.to_string())
            }
            Err(error @ ServerError::Scheme(_)) => {
                url.mistake(error.to_string()).help("mqtt://HOST, mqtts://HOST, ws://HOST/PATH or wss://HOST/PATH")
            }
            Err(error @ ServerError::Path(_)) => url
                .mistake(error.to_string())
                .help("a path is of `ws://` and `wss://`; topics stand in `send` and `receive`"),
            Err(error) => url.mistake(error.to_string()),
        };
        self.mistakes.push(mistake);
        None
    }

    pub(super) fn proxy(&mut self, url: &Located<Secret>) -> Option<Proxy> {
        // The text itself is not shown: it may hold a password.
        let parsed = Proxy::parse(url.reveal());
        parsed.map_err(|error| self.mistakes.push(url.mistake("this is no proxy").help(error.to_string()))).ok()
    }

    pub(super) fn tls(&mut self, tls: &Located<Tls>, settings: &Settings, folder: &Path) -> ClientTlsOptions {
        let known = self.mistakes.len();
        let is_plain = |url: &Located<String>| {
            let scheme = url.split("://").next().unwrap_or_default();
            ["mqtt", "ws"].iter().any(|plain| scheme.eq_ignore_ascii_case(plain))
        };
        if self.is_complete && settings.url.iter().all(is_plain) {
            self.mistakes.push(tls.mistake("`tls` wants a URL with `mqtts://` or `wss://`"));
        }
        match (&tls.cert, &tls.key) {
            _ if !self.is_complete => {}
            (Some(cert), None) => self.mistakes.push(cert.mistake("a `cert` wants its `key`")),
            (None, Some(key)) => self.mistakes.push(key.mistake("a `key` wants its `cert`")),
            _ => {}
        }
        for protocol in tls.alpn.iter().filter(|name| name.is_empty() || name.len() > MAX_PROTOCOL_BYTES) {
            self.mistakes.push(protocol.mistake("a protocol of `alpn` has 1 to 255 bytes"));
        }
        if let Some(name) = tls.server_name.as_ref().filter(|name| !is_server_name(name)) {
            let mistake = name.mistake(format!("`{}` is no name that a certificate has", name.value));
            self.mistakes.push(mistake.help("a host name or an address: broker.example.com"));
        }
        let mut path = |file: &Located<String>| {
            let path = folder.join(&file.value);
            if !path.is_file() {
                self.mistakes.push(file.mistake(format!("there is no file {}", path.display())));
            }
            path
        };
        let options = ClientTlsOptions {
            ca: tls.ca.as_ref().map(&mut path),
            identity: tls.cert.as_ref().zip(tls.key.as_ref()).map(|(cert, key)| (path(cert), path(key))),
            alpn: tls.alpn.iter().map(|protocol| protocol.value.clone()).collect(),
            server_name: tls.server_name.as_ref().map(|name| name.value.clone()),
            min_version: tls.min_version,
        };
        // Files that are there and of no use. Without any, whom the system trusts is that machine's affair.
        if self.mistakes.len() == known
            && (options.ca.is_some() || options.identity.is_some())
            && let Err(ClientTlsError::File(error)) = ClientTls::load(options.clone())
        {
            let file = match error.file() {
                TlsFile::Certificate => &tls.cert,
                TlsFile::Key => &tls.key,
                TlsFile::Authorities => &tls.ca,
            };
            let place = file.as_ref().map_or(tls.place, |file| file.place);
            self.mistakes.push(Mistake::new(place, error.to_string()));
        }
        options
    }
}
