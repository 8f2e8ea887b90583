//! Dialling over loopback: names, protocols and versions that the server sees, and what proves a certificate.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::net::client_tls::{ClientTls, ClientTlsOptions, MinVersion};

/// An authority, and a folder with its certificate.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca"), certificate.pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key), certificate: certificate.der().clone() }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }

    /// Writes certificate and key for `name`.
    fn identity(&self, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.into()]).unwrap();
        let (certificate_path, key_path) = (self.folder.path().join("crt"), self.folder.path().join("key"));
        std::fs::write(&certificate_path, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        std::fs::write(&key_path, key.serialize_pem()).unwrap();
        (certificate_path, key_path)
    }

    /// A server for `name` with one version, which wants certificates of this authority where `wants` says so.
    fn server(&self, name: &str, version: &'static rustls::SupportedProtocolVersion, wants: bool) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = if wants {
            WebPkiClientVerifier::builder_with_provider(Arc::new(self.roots()), Arc::clone(&provider)).build().unwrap()
        } else {
            WebPkiClientVerifier::no_client_auth()
        };
        let (certificate, key) = self.identity(name);
        ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![CertificateDer::from_pem_file(certificate).unwrap()],
                PrivateKeyDer::from_pem_file(key).unwrap(),
            )
            .unwrap()
    }

    fn options(&self) -> ClientTlsOptions {
        ClientTlsOptions { ca: Some(self.folder.path().join("ca")), ..ClientTlsOptions::default() }
    }
}

/// What a server saw of a client: the name it asked for, and the protocol that was chosen.
type Seen = (Option<String>, Option<Vec<u8>>);

/// Serves one connection, and keeps it until the client ends it.
async fn serve(config: ServerConfig) -> (Server, JoinHandle<io::Result<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let mut stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
        let connection = stream.get_ref().1;
        let seen = (connection.server_name().map(str::to_owned), connection.alpn_protocol().map(<[u8]>::to_vec));
        let _ = stream.read_u8().await;
        Ok(seen)
    });
    (Server { host: "localhost".into(), port, tls: true, path: None }, serving)
}

fn means(options: ClientTlsOptions) -> Means {
    let server_name = options.server_name.clone();
    let tls = Some(ClientTls::load(options).unwrap().current());
    let (silence, timeout) = (Duration::from_secs(30), Duration::from_secs(20));
    Means { tls, server_name, proxy: None, silence, timeout }
}

#[tokio::test]
async fn the_server_is_asked_for_the_name_and_protocol_that_are_set() {
    let authority = Authority::new("CA");
    let mut config = authority.server("broker.example.com", &TLS13, false);
    config.alpn_protocols = vec![b"mqtt".to_vec()];
    let (server, serving) = serve(config).await;
    let options = ClientTlsOptions {
        alpn: vec!["x-amzn-mqtt-ca".into(), "mqtt".into()],
        server_name: Some("broker.example.com".into()),
        ..authority.options()
    };
    drop(dial(&server, &means(options)).await.unwrap());
    assert_eq!(serving.await.unwrap().unwrap(), (Some("broker.example.com".into()), Some(b"mqtt".to_vec())));
}

#[tokio::test]
async fn a_protocol_that_the_server_does_not_speak_is_said() {
    let authority = Authority::new("CA");
    let mut config = authority.server("localhost", &TLS13, false);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (server, _serving) = serve(config).await;
    let options = ClientTlsOptions { alpn: vec!["mqtt".into()], ..authority.options() };
    let error = dial(&server, &means(options)).await.unwrap_err();
    assert!(error.to_string().ends_with("the server speaks none of the protocols of `alpn`"), "{error}");
    assert!(error.is_refusal());
}

#[tokio::test]
async fn the_lowest_version_is_kept() {
    let authority = Authority::new("CA");
    for (version, min_version, is_well) in
        [(&TLS12, MinVersion::Tls12, true), (&TLS13, MinVersion::Tls13, true), (&TLS12, MinVersion::Tls13, false)]
    {
        let (server, _serving) = serve(authority.server("localhost", version, false)).await;
        let dialled = dial(&server, &means(ClientTlsOptions { min_version, ..authority.options() })).await;
        match dialled {
            Ok(_) => assert!(is_well),
            Err(error) => {
                let words = "the server speaks no version of TLS that `min_version` allows";
                assert!(!is_well && error.to_string().ends_with(words), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_certificate_proves_itself_after_the_handshake_too() {
    let authority = Authority::new("CA");
    let stranger = Authority::new("Others");
    for version in [&TLS12, &TLS13] {
        let (server, _serving) = serve(authority.server("localhost", version, true)).await;
        let identity = Some(authority.identity("pump"));
        prove(&server, &means(ClientTlsOptions { identity, ..authority.options() })).await.unwrap();

        let (server, _serving) = serve(authority.server("localhost", version, true)).await;
        let identity = Some(stranger.identity("pump"));
        let refused = prove(&server, &means(ClientTlsOptions { identity, ..authority.options() })).await.unwrap_err();
        assert!(refused.is_refusal() && refused.to_string().contains("of our certificate"), "{refused}");

        let (server, _serving) = serve(authority.server("localhost", version, true)).await;
        let refused = prove(&server, &means(authority.options())).await.unwrap_err();
        assert!(refused.is_refusal(), "{refused}");
    }
}

#[tokio::test]
async fn a_network_that_fails_is_no_refusal() {
    let authority = Authority::new("CA");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let server = Server { host: "127.0.0.1".into(), port, tls: true, path: None };
    let error = prove(&server, &means(authority.options())).await.unwrap_err();
    assert!(matches!(error, DialError::Unreachable { .. }) && !error.is_refusal(), "{error}");
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_in_time() {
    let authority = Authority::new("CA");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for (tls, path, proxy) in [
        (true, None, None),
        (false, Some("/mqtt".to_owned()), None),
        (false, None, Some(format!("http://127.0.0.1:{port}"))),
        (false, None, Some(format!("socks5://127.0.0.1:{port}"))),
    ] {
        let server = Server { host: "127.0.0.1".into(), port, tls, path };
        let proxy = proxy.map(|url| Proxy::parse(&url).unwrap());
        let timeout = Duration::from_millis(50);
        let error = dial(&server, &Means { proxy, timeout, ..means(authority.options()) }).await.unwrap_err();
        assert!(matches!(error, DialError::Timeout { .. }), "{error}");
    }
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_socket_has_its_options() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    for (silence, effective) in [(1, 5), (60, 60)] {
        set_options(&stream, Duration::from_secs(silence)).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(effective)));
    }
}
