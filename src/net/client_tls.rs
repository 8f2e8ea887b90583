//! TLS towards a server: whom we trust, who we are, and new files that may take the place of the old.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use serde::Deserialize;
use tokio::sync::watch;

use super::tls_files::{TlsFile, TlsFileError, Watch, authorities, certificates, private_key, read};
use super::validity::not_after;

/// How long before its end a certificate is warned of.
const WARNING: Duration = Duration::from_secs(14 * 86_400);

/// What TLS towards a server is made of. The default trusts the system's authorities and shows no certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTlsOptions {
    /// Authorities to trust instead of the system's, PEM.
    pub ca: Option<PathBuf>,
    /// Our certificate, with those between it and its authority, and its key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The protocols that are offered, the best first [RFC 7301].
    pub alpn: Vec<String>,
    /// The name that the server is asked for (SNI) and that its certificate must have, instead of the URL's host.
    pub server_name: Option<String>,
    /// The lowest version that is spoken.
    pub min_version: MinVersion,
}

/// The lowest version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum MinVersion {
    /// 1.2, or 1.3 where the server has it.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// 1.3 alone.
    #[serde(rename = "1.3")]
    Tls13,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum ClientTlsError {
    /// One of the files is of no use.
    #[error("{0}")]
    File(#[from] TlsFileError),
    /// No certificate to trust.
    #[error("there is no certificate authority to trust: {0}; `tls: {{ ca: … }}` names a file with one")]
    NoRoots(String),
}

/// TLS towards the servers of one peer. Its files may be replaced at any time; what they hold is used from
/// [`ClientTls::adopt`] on.
#[derive(Debug)]
pub struct ClientTls {
    options: ClientTlsOptions,
    /// With each configuration comes an empty cache of sessions: what one certificate was good for ends with it.
    current: watch::Sender<Arc<ClientConfig>>,
    contents: Mutex<Contents>,
}

/// What the files hold now, not in use yet.
#[derive(Debug)]
pub struct Candidate {
    config: Arc<ClientConfig>,
    contents: Contents,
}

impl Candidate {
    /// What a connection is made with that tries it.
    pub fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }
}

/// The bytes of the files.
#[derive(PartialEq, Eq, Clone, Default)]
struct Contents {
    ca: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Contents")
    }
}

/// A certificate that ends soon, or has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Its file.
    pub path: PathBuf,
    /// How long from now; `None` where it has ended.
    pub left: Option<Duration>,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        match self.left.map(|left| left.as_secs()) {
            None => write!(f, "{path} has expired"),
            Some(left) if left < 2 * 86_400 => write!(f, "{path} expires in {} h", left / 3600),
            Some(left) => write!(f, "{path} expires in {} days", left / 86_400),
        }
    }
}

impl ClientTls {
    /// Reads the files of `options`.
    ///
    /// # Errors
    /// Which of them cannot be used, and why.
    pub fn load(options: ClientTlsOptions) -> Result<Self, ClientTlsError> {
        let contents = Contents::read(&options)?;
        let config = contents.config(&options)?;
        Ok(Self { options, current: watch::Sender::new(config), contents: Mutex::new(contents) })
    }

    /// What connections are made with.
    pub fn current(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.current.borrow())
    }

    /// Tells when [`ClientTls::current`] has changed since now.
    pub fn subscribe(&self) -> watch::Receiver<Arc<ClientConfig>> {
        self.current.subscribe()
    }

    /// The name that servers are asked for instead of their host.
    pub fn server_name(&self) -> Option<&str> {
        self.options.server_name.as_deref()
    }

    /// Looks whether the files were replaced.
    pub fn watch(&self) -> Watch {
        Watch::new(self.options.paths())
    }

    /// Reads the files again. Nothing where they hold what is in use.
    ///
    /// # Errors
    /// Which of them cannot be used, and why.
    pub fn read(&self) -> Result<Option<Candidate>, ClientTlsError> {
        let contents = Contents::read(&self.options)?;
        if contents == *self.contents.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(None);
        }
        Ok(Some(Candidate { config: contents.config(&self.options)?, contents }))
    }

    /// Uses `candidate` from now on, and gives what was used before.
    pub fn adopt(&self, candidate: Candidate) -> Candidate {
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        Candidate {
            contents: std::mem::replace(&mut contents, candidate.contents),
            config: self.current.send_replace(candidate.config),
        }
    }

    /// What ends within 14 days of `now`: our own certificate, or the last of the authorities that we trust.
    pub fn endings(&self, now: SystemTime) -> Vec<Ending> {
        let contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let ours = contents.identity.as_ref().zip(self.options.identity.as_ref());
        let ours = ours.and_then(|((certificate, _), (path, _))| {
            let chain = certificates(TlsFile::Certificate, path, certificate).ok()?;
            Some((path, not_after(chain.first()?)?))
        });
        let trusted = contents.ca.as_ref().zip(self.options.ca.as_ref());
        let trusted = trusted.and_then(|(ca, path)| {
            let authorities = certificates(TlsFile::Authorities, path, ca).ok()?;
            Some((path, authorities.iter().filter_map(|authority| not_after(authority)).max()?))
        });
        let soon = [ours, trusted].into_iter().flatten().filter(|(_, end)| *end <= now + WARNING);
        soon.map(|(path, end)| Ending { path: path.clone(), left: end.duration_since(now).ok() }).collect()
    }
}

impl ClientTlsOptions {
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let (certificate, key) = self.identity.as_ref().map(|(certificate, key)| (certificate, key)).unzip();
        [self.ca.as_ref(), certificate, key].into_iter().flatten().map(PathBuf::as_path)
    }

    fn versions(&self) -> &'static [&'static SupportedProtocolVersion] {
        static TLS13: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
        match self.min_version {
            MinVersion::Tls12 => rustls::DEFAULT_VERSIONS,
            MinVersion::Tls13 => &TLS13,
        }
    }
}

/// Whether `name` can stand in a certificate: a host name or an address.
pub fn is_server_name(name: &str) -> bool {
    ServerName::try_from(name).is_ok()
}

impl Contents {
    fn read(options: &ClientTlsOptions) -> Result<Self, TlsFileError> {
        Ok(Self {
            ca: options.ca.as_ref().map(|path| read(TlsFile::Authorities, path)).transpose()?,
            identity: match &options.identity {
                Some((certificate, key)) => Some((read(TlsFile::Certificate, certificate)?, read(TlsFile::Key, key)?)),
                None => None,
            },
        })
    }

    fn config(&self, options: &ClientTlsOptions) -> Result<Arc<ClientConfig>, ClientTlsError> {
        let roots = match self.ca.as_ref().zip(options.ca.as_ref()) {
            Some((content, path)) => authorities(path, content)?,
            None => roots_of_the_system()?,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(options.versions())
            .expect("ring has suites for both versions")
            .with_root_certificates(roots);
        let mut config = match self.identity.as_ref().zip(options.identity.as_ref()) {
            None => builder.with_no_client_auth(),
            Some(((certificate, key), (certificate_path, key_path))) => {
                let chain = certificates(TlsFile::Certificate, certificate_path, certificate)?;
                builder
                    .with_client_auth_cert(chain, private_key(key_path, key)?)
                    .map_err(|error| TlsFileError::of_identity(&error, certificate_path, key_path))?
            }
        };
        config.alpn_protocols = options.alpn.iter().map(|protocol| protocol.clone().into_bytes()).collect();
        Ok(Arc::new(config))
    }
}

fn roots_of_the_system() -> Result<RootCertStore, ClientTlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(|| "the system has none".to_owned(), ToString::to_string);
        return Err(ClientTlsError::NoRoots(why));
    }
    Ok(roots)
}
