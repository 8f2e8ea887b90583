//! A certificate authority of a test, and what it signs.

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// An authority with a folder, in which its certificate is `ca.crt`.
pub struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub struct Identity {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        Self::named("Edgeway's tests")
    }

    pub fn named(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).expect("a certificate can be signed");
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let authority =
            Self { folder, issuer: Issuer::new(params, key), certificate: certificate.der().clone().into_owned() };
        authority.write("ca.crt", &certificate.pem());
        authority
    }

    /// A certificate for 127.0.0.1 and localhost whose common name is `name`.
    pub fn sign(&self, name: &str) -> Identity {
        self.sign_with(name, |_| {})
    }

    /// The same with changes.
    pub fn sign_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::new(vec!["localhost".into()]).expect("localhost is a name");
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate can be signed");
        Identity { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Signs one, and writes it as `NAME.crt` and `NAME.key`.
    pub fn issue(&self, name: &str) -> Identity {
        let identity = self.sign(name);
        self.install(name, &identity);
        identity
    }

    /// Writes one as `NAME.crt` and `NAME.key`.
    pub fn install(&self, name: &str, identity: &Identity) {
        self.write(&format!("{name}.crt"), &identity.certificate);
        self.write(&format!("{name}.key"), &identity.key);
    }

    pub fn write(&self, file: &str, content: &str) {
        std::fs::write(self.folder.path().join(file), content).expect("the temporary folder can be written");
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// The same as text, for command lines.
    pub fn text(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The client's side of TLS, which trusts this authority.
    pub fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("our own certificate is one");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        Arc::new(builder.expect("ring has both versions").with_root_certificates(roots).with_no_client_auth())
    }

    /// A TLS connection to a port of this machine, after its handshake.
    pub fn connect(&self, port: u16) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let name = ServerName::try_from("localhost").expect("localhost is a name");
        let connection = ClientConnection::new(self.client(), name).map_err(std::io::Error::other)?;
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(super::PATIENCE))?;
        let mut stream = StreamOwned::new(connection, stream);
        stream.flush()?;
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(stream)
    }

    /// Whether the server at that port shows this certificate.
    pub fn shows(&self, port: u16, identity: &Identity) -> bool {
        let expected = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("it is PEM");
        let stream = self.connect(port).expect("the server speaks TLS and is trusted");
        stream.conn.peer_certificates().is_some_and(|chain| chain[0] == expected)
    }
}

/// Reads until the other side ends the connection, in whichever way.
///
/// # Panics
/// When it does not within the stream's timeout.
pub fn read_to_the_end(stream: &mut impl Read) -> Vec<u8> {
    let mut content = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return content,
            Ok(count) => content.extend_from_slice(&chunk[..count]),
            Err(error) => {
                use std::io::ErrorKind::{TimedOut, WouldBlock};
                assert!(!matches!(error.kind(), TimedOut | WouldBlock), "the connection stays open");
                return content;
            }
        }
    }
}
