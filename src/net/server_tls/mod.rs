//! TLS towards clients: our certificate, whose certificates we take, and new files without a restart.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::net::common_name::{NameError, common_name};

#[cfg(test)]
mod tests;

/// The largest file that is read: chains and lists of authorities are far smaller.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// The files of a listener's TLS, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFiles {
    /// Our certificate, and those between it and the authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whether clients show certificates.
    pub clients: Option<ClientCertificates>,
}

/// Whose client certificates are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The authorities that sign them.
    pub authorities: PathBuf,
    /// Whether a client needs one.
    pub need: Need,
}

/// Whether a client shows a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Need {
    /// Who has none is not let in.
    #[default]
    Required,
    /// Who has none is a client without a certificate; a wrong one is refused.
    Optional,
}

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerFile {
    /// Our certificate.
    Certificate,
    /// Its key.
    Key,
    /// The authorities of client certificates.
    Authorities,
}

/// Why there is no TLS for clients.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// Which one.
        file: ServerFile,
        /// Its path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A file holds something else, or nothing of use.
    #[error("{} {problem}", path.display())]
    Content {
        /// Which one.
        file: ServerFile,
        /// Its path.
        path: PathBuf,
        /// What is wrong with it, as the end of a sentence.
        problem: String,
    },
}

impl ServerTlsError {
    /// The file that it is about.
    pub fn file(&self) -> ServerFile {
        match self {
            Self::Unreadable { file, .. } | Self::Content { file, .. } => *file,
        }
    }
}

/// Why a client has no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// No TLS, no common version, or a certificate that is not trusted.
    #[error("{0}")]
    Failed(io::Error),
    /// The client's certificate is trusted, and names nobody.
    #[error("{0}")]
    Name(NameError),
}

/// TLS 1.2 and 1.3 for the clients of a listener. The files may be replaced at any time.
pub struct ServerTls {
    files: ServerFiles,
    current: Mutex<Current>,
}

struct Current {
    /// With each configuration comes an empty cache of sessions: what one certificate was good for ends with it.
    config: Arc<ServerConfig>,
    contents: Contents,
}

/// The bytes of the files: certificate, key, authorities.
#[derive(PartialEq, Eq)]
struct Contents([Vec<u8>; 3]);

/// What tells that a file has been replaced, without reading it.
type Stamp = Option<(SystemTime, u64, u64)>;

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls").field("files", &self.files).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads `files`.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn load(files: ServerFiles) -> Result<Self, ServerTlsError> {
        let contents = Contents::read(&files)?;
        let config = contents.config(&files)?;
        Ok(Self { files, current: Mutex::new(Current { config, contents }) })
    }

    /// Whether clients may show certificates.
    pub fn names_clients(&self) -> bool {
        self.files.clients.is_some()
    }

    /// Reads the files again; whether something new is used from now on. Connections that there are go on as they are.
    ///
    /// # Errors
    /// Which file cannot be used, and why; what was used before is still used.
    pub fn reload(&self) -> Result<bool, ServerTlsError> {
        let contents = Contents::read(&self.files)?;
        if contents == self.lock().contents {
            return Ok(false);
        }
        let config = contents.config(&self.files)?;
        *self.lock() = Current { config, contents };
        Ok(true)
    }

    /// Looks `every` so often whether the files were replaced, and takes the new ones. Certificate and key come one
    /// after the other, so what does not fit is reported only where it still does not fit at the next look.
    pub async fn watch(self: Arc<Self>, every: Duration) {
        #[derive(PartialEq)]
        enum Trouble {
            None,
            Silent,
            Reported,
        }
        let mut seen = None;
        let mut trouble = Trouble::None;
        loop {
            // The first look is at once: the files may have been replaced between loading and now.
            let tls = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || tls.files.stamps()).await;
            let Ok(stamps) = looked else { return };
            let changed = seen.as_ref() != Some(&stamps);
            if changed || trouble == Trouble::Silent {
                let tls = Arc::clone(&self);
                let Ok(reloaded) = tokio::task::spawn_blocking(move || tls.reload()).await else { return };
                trouble = match reloaded {
                    Ok(new) => {
                        if new {
                            let certificate = self.files.certificate.display();
                            tracing::info!(%certificate, "new TLS files are in use");
                        }
                        Trouble::None
                    }
                    Err(_) if changed => Trouble::Silent,
                    Err(error) => {
                        tracing::warn!(%error, "new TLS files cannot be used; the old ones stay in use");
                        Trouble::Reported
                    }
                };
                seen = Some(stamps);
            }
            tokio::time::sleep(every).await;
        }
    }

    /// Makes a connection of `stream`, and says who shows a certificate: its common name.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn accept<S>(&self, stream: S) -> Result<(TlsStream<S>, Option<Arc<str>>), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.lock().config);
        let stream = TlsAcceptor::from(config).accept(stream).await.map_err(HandshakeError::Failed)?;
        let user = match stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
            Some(certificate) => Some(common_name(certificate).map_err(HandshakeError::Name)?.into()),
            None => None,
        };
        Ok((stream, user))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        // Replacing it is one assignment.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerFiles {
    fn stamps(&self) -> [Stamp; 3] {
        let stamp = |path: &Path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
        };
        let authorities = self.clients.as_ref().and_then(|clients| stamp(&clients.authorities));
        [stamp(&self.certificate), stamp(&self.key), authorities]
    }
}

impl Contents {
    fn read(files: &ServerFiles) -> Result<Self, ServerTlsError> {
        let authorities = match &files.clients {
            Some(clients) => read(ServerFile::Authorities, &clients.authorities)?,
            None => Vec::new(),
        };
        let certificate = read(ServerFile::Certificate, &files.certificate)?;
        Ok(Self([certificate, read(ServerFile::Key, &files.key)?, authorities]))
    }

    fn config(&self, files: &ServerFiles) -> Result<Arc<ServerConfig>, ServerTlsError> {
        let Self([certificate, key, authorities]) = self;
        let wrong = |file, path: &Path, problem: String| ServerTlsError::Content { file, path: path.into(), problem };
        let chain = certificates(ServerFile::Certificate, &files.certificate, certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
            wrong(
                ServerFile::Key,
                &files.key,
                match error {
                    pem::Error::NoItemsFound => "holds no key that is not encrypted".to_owned(),
                    error => format!("is no PEM: {error}"),
                },
            )
        })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = match &files.clients {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(clients) => {
                let path = clients.authorities.as_path();
                let wrong = |problem| wrong(ServerFile::Authorities, path, problem);
                let mut roots = RootCertStore::empty();
                for authority in certificates(ServerFile::Authorities, path, authorities)? {
                    roots.add(authority).map_err(|error| wrong(format!("holds no authority: {error}")))?;
                }
                let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
                let builder = match clients.need {
                    Need::Required => builder,
                    Need::Optional => builder.allow_unauthenticated(),
                };
                builder.build().map_err(|error| wrong(format!("cannot be used: {error}")))?
            }
        };
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has suites for both versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map(Arc::new)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    let certificate = files.certificate.display();
                    wrong(ServerFile::Key, &files.key, format!("is not the key of {certificate}"))
                }
                rustls::Error::InvalidCertificate(error) => {
                    wrong(ServerFile::Certificate, &files.certificate, format!("cannot be used: {error}"))
                }
                error => wrong(ServerFile::Key, &files.key, format!("cannot be used: {error}")),
            })
    }
}

fn read(file: ServerFile, path: &Path) -> Result<Vec<u8>, ServerTlsError> {
    let unreadable = |error| ServerTlsError::Unreadable { file, path: path.into(), error };
    if fs::metadata(path).map_err(unreadable)?.len() > MAX_FILE_BYTES {
        return Err(unreadable(io::Error::other("larger than any PEM file")));
    }
    fs::read(path).map_err(unreadable)
}

fn certificates(file: ServerFile, path: &Path, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, ServerTlsError> {
    let wrong = |problem| ServerTlsError::Content { file, path: path.into(), problem };
    let found = CertificateDer::pem_slice_iter(content)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(format!("is no PEM: {error}")))?;
    if found.is_empty() { Err(wrong("holds no certificate in PEM".to_owned())) } else { Ok(found) }
}
