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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::Plan;
    use crate::net::client_tls::MinVersion;

    fn resolve(json: &str, folder: &Path) -> Result<Plan, Vec<Mistake>> {
        let settings: Settings = serde_json::from_str(json).unwrap();
        settings.resolve("edge-01", &Located::nowhere("cloud".to_string()), folder)
    }

    #[test]
    fn tls_has_its_options() {
        let text = r#"{"url": ["wss://a", "mqtts://b"], "proxy": "socks5://u:secret@p",
            "tls": {"alpn": ["x-amzn-mqtt-ca", "mqtt"], "server_name": "c", "min_version": "1.3"}}"#;
        let plan = resolve(text, Path::new("/nowhere")).unwrap();
        let servers: Vec<String> = plan.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["wss://a:443/mqtt", "mqtts://b:8883"]);
        assert_eq!(plan.tls.alpn, ["x-amzn-mqtt-ca", "mqtt"]);
        assert_eq!((plan.tls.server_name.as_deref(), plan.tls.min_version), (Some("c"), MinVersion::Tls13));
        assert_eq!(plan.proxy.as_ref().unwrap().to_string(), "socks5://p:1080");
        assert!(!format!("{plan:?}").contains("secret"), "{plan:?}");
        let plain = resolve(r#"{"url": ["mqtts://b"]}"#, Path::new("/nowhere")).unwrap();
        assert_eq!((plain.tls, plain.proxy), (ClientTlsOptions::default(), None));
    }

    #[test]
    fn files_of_tls_that_are_of_no_use_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let write = |file: &str, content: &str| std::fs::write(folder.path().join(file), content).unwrap();
        let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.into()]).unwrap();
        let (ours, other) = (made("a"), made("b"));
        write("a.crt", &ours.cert.pem());
        write("a.key", &ours.signing_key.serialize_pem());
        write("b.key", &other.signing_key.serialize_pem());
        write("empty", "");
        let mistakes = |tls: &str| {
            let text = format!(r#"{{"url": ["mqtts://a"], "tls": {tls}}}"#);
            let resolved = resolve(&text, folder.path());
            resolved.err().unwrap_or_default().into_iter().map(|mistake| mistake.message).collect::<Vec<_>>()
        };
        assert_eq!(mistakes(r#"{"ca": "a.crt", "cert": "a.crt", "key": "a.key"}"#), [""; 0]);
        for (tls, words) in [
            (r#"{"ca": "empty"}"#, "empty holds no certificate in PEM"),
            (r#"{"ca": "a.crt", "cert": "a.crt", "key": "b.key"}"#, "a.crt"),
            (r#"{"ca": "a.crt", "cert": "a.key", "key": "a.key"}"#, "a.key holds no certificate in PEM"),
            (r#"{"ca": "a.crt", "cert": "a.crt", "key": "a.crt"}"#, "a.crt holds no key that is not encrypted"),
        ] {
            let found = mistakes(tls);
            assert!(found.len() == 1 && found[0].ends_with(words), "{tls}: {found:?}");
        }
    }
}
