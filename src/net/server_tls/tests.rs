//! Handshakes over a pipe in memory, with certificates made for each test.

use std::fs;
use std::io::ErrorKind;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsConnector;
use tokio_rustls::client;

use super::*;

/// A certificate authority, and a folder where a listener's files stand.
struct Plant {
    folder: TempDir,
    authority: Issuer<'static, KeyPair>,
    pem: String,
}

impl Plant {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Plant CA");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { folder: tempfile::tempdir().unwrap(), authority: Issuer::new(params, key), pem }
    }

    /// Certificate and key of `name` in PEM.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &self.authority).unwrap().pem(), key.serialize_pem())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).unwrap();
    }

    fn install(&self, (certificate, key): &(String, String)) {
        self.write("cert", certificate);
        self.write("key", key);
    }

    fn files(&self, need: Option<Need>) -> ServerFiles {
        self.write("ca", &self.pem);
        ServerFiles {
            certificate: self.path("cert"),
            key: self.path("key"),
            clients: need.map(|need| ClientCertificates { authorities: self.path("ca"), need }),
        }
    }

    /// A client that trusts the authority and shows `identity`.
    fn client(&self, identity: Option<&(String, String)>, version: &'static SupportedProtocolVersion) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        }
    }
}

type Server = (TlsStream<DuplexStream>, Option<Arc<str>>);

async fn connect(
    tls: &ServerTls,
    client: ClientConfig,
) -> (Result<Server, HandshakeError>, io::Result<client::TlsStream<DuplexStream>>) {
    let (near, far) = duplex(64 * 1024);
    let connector = TlsConnector::from(Arc::new(client));
    tokio::join!(tls.accept(near), connector.connect(ServerName::try_from("localhost").unwrap(), far))
}

/// The common name of the certificate that a new client is shown.
async fn shown(plant: &Plant, tls: &ServerTls) -> String {
    let (server, client) = connect(tls, plant.client(None, &TLS13)).await;
    server.unwrap();
    let client = client.unwrap();
    common_name(&client.get_ref().1.peer_certificates().unwrap()[0]).unwrap().to_owned()
}

#[tokio::test]
async fn both_versions_are_spoken_and_the_certificate_names_the_user() {
    let plant = Plant::new();
    plant.install(&plant.sign("gateway"));
    let tls = ServerTls::load(plant.files(Some(Need::Required))).unwrap();
    let pump = plant.sign("pump");
    for (version, spoken) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let (server, client) = connect(&tls, plant.client(Some(&pump), version)).await;
        let ((mut server, user), mut client) = (server.unwrap(), client.unwrap());
        assert_eq!((user.as_deref(), server.get_ref().1.protocol_version()), (Some("pump"), Some(spoken)));
        client.write_all(b"ping").await.unwrap();
        let mut content = [0; 4];
        server.read_exact(&mut content).await.unwrap();
        assert_eq!(&content, b"ping");
    }
}

#[tokio::test]
async fn who_has_no_certificate_comes_in_only_where_it_is_optional() {
    let plant = Plant::new();
    plant.install(&plant.sign("gateway"));
    for version in [&TLS12, &TLS13] {
        let tls = ServerTls::load(plant.files(Some(Need::Required))).unwrap();
        let (server, _) = connect(&tls, plant.client(None, version)).await;
        assert!(matches!(server, Err(HandshakeError::Failed(_))));
        let tls = ServerTls::load(plant.files(Some(Need::Optional))).unwrap();
        let (server, _) = connect(&tls, plant.client(None, version)).await;
        assert_eq!(server.unwrap().1, None);
        let (server, _) = connect(&tls, plant.client(Some(&plant.sign("pump")), version)).await;
        assert_eq!(server.unwrap().1.as_deref(), Some("pump"));
        let stranger = Plant::new().sign("pump");
        let (server, _) = connect(&tls, plant.client(Some(&stranger), version)).await;
        assert!(matches!(server, Err(HandshakeError::Failed(_))), "of another authority");
    }
}

#[tokio::test]
async fn a_certificate_without_a_name_is_refused() {
    let plant = Plant::new();
    plant.install(&plant.sign("gateway"));
    let tls = ServerTls::load(plant.files(Some(Need::Optional))).unwrap();
    let (server, _) = connect(&tls, plant.client(Some(&plant.sign("")), &TLS13)).await;
    assert!(matches!(server, Err(HandshakeError::Name(NameError::Missing))));
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_the_old_ones_live_on() {
    let plant = Plant::new();
    plant.install(&plant.sign("first"));
    let tls = ServerTls::load(plant.files(None)).unwrap();
    let (server, client) = connect(&tls, plant.client(None, &TLS13)).await;
    let ((mut server, _), mut client) = (server.unwrap(), client.unwrap());
    assert!(!tls.reload().unwrap(), "nothing is new");
    assert_eq!(shown(&plant, &tls).await, "first");
    plant.install(&plant.sign("second"));
    assert!(tls.reload().unwrap());
    assert_eq!(shown(&plant, &tls).await, "second");
    client.write_all(b"still").await.unwrap();
    let mut content = [0; 5];
    server.read_exact(&mut content).await.unwrap();
    assert_eq!(&content, b"still");
}

#[tokio::test]
async fn files_that_cannot_be_used_leave_the_old_ones_in_use() {
    let plant = Plant::new();
    plant.install(&plant.sign("good"));
    let tls = ServerTls::load(plant.files(None)).unwrap();
    plant.write("cert", &plant.sign("other").0);
    assert_eq!(tls.reload().unwrap_err().file(), TlsFile::Key, "the key is not its key");
    plant.write("cert", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n");
    assert_eq!(tls.reload().unwrap_err().file(), TlsFile::Certificate);
    fs::remove_file(plant.path("cert")).unwrap();
    assert!(matches!(tls.reload(), Err(TlsFileError::Unreadable { error, .. }) if error.kind() == ErrorKind::NotFound));
    assert_eq!(shown(&plant, &tls).await, "good");
}

#[tokio::test]
async fn the_watch_takes_a_certificate_whose_key_comes_later() {
    let plant = Plant::new();
    plant.install(&plant.sign("first"));
    let tls = Arc::new(ServerTls::load(plant.files(None)).unwrap());
    let watch = tokio::spawn(Arc::clone(&tls).watch(Duration::from_millis(5)));
    let second = plant.sign("second");
    plant.write("cert", &second.0);
    for _ in 0..10 {
        assert_eq!(shown(&plant, &tls).await, "first");
    }
    plant.write("key", &second.1);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while shown(&plant, &tls).await != "second" {
        assert!(std::time::Instant::now() < deadline, "the new certificate is not taken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    watch.abort();
}

#[tokio::test]
async fn other_authorities_are_taken_too() {
    let plant = Plant::new();
    plant.install(&plant.sign("gateway"));
    let tls = ServerTls::load(plant.files(Some(Need::Required))).unwrap();
    let others = Plant::new();
    plant.write("ca", &others.pem);
    assert!(tls.reload().unwrap());
    let (server, _) = connect(&tls, plant.client(Some(&plant.sign("pump")), &TLS13)).await;
    assert!(server.is_err());
    let (server, _) = connect(&tls, plant.client(Some(&others.sign("pump")), &TLS13)).await;
    assert_eq!(server.unwrap().1.as_deref(), Some("pump"));
}

#[test]
fn each_mistake_names_its_file() {
    let plant = Plant::new();
    let (certificate, key) = plant.sign("gateway");
    for (certificate, key, ca, file, words) in [
        ("", key.as_str(), plant.pem.as_str(), TlsFile::Certificate, "holds no certificate"),
        (&key, &key, &plant.pem, TlsFile::Certificate, "holds no certificate"),
        (&certificate, &certificate, &plant.pem, TlsFile::Key, "holds no key"),
        (&certificate, &key, "nothing", TlsFile::Authorities, "holds no certificate"),
        (&certificate, &plant.sign("other").1, &plant.pem, TlsFile::Key, "is not the key of"),
    ] {
        plant.install(&(certificate.to_owned(), key.to_owned()));
        let files = plant.files(Some(Need::Required));
        plant.write("ca", ca);
        let error = ServerTls::load(files).unwrap_err();
        assert_eq!(error.file(), file, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}
