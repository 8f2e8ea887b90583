//! TLS towards clients: our certificate, whose certificates we take, and new files without a restart.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::common_name::{NameError, common_name};
use super::tls_files::{TlsFile, TlsFileError, Watch, authorities, certificates, private_key, read};

#[cfg(test)]
mod tests;

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
    pub fn load(files: ServerFiles) -> Result<Self, TlsFileError> {
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
    pub fn reload(&self) -> Result<bool, TlsFileError> {
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
        let mut files = Watch::new(self.files.paths());
        let mut trouble = Trouble::None;
        loop {
            let changed = files.look().await;
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
    fn paths(&self) -> impl Iterator<Item = &Path> {
        let authorities = self.clients.as_ref().map(|clients| clients.authorities.as_path());
        [self.certificate.as_path(), self.key.as_path()].into_iter().chain(authorities)
    }
}

impl Contents {
    fn read(files: &ServerFiles) -> Result<Self, TlsFileError> {
        let authorities = match &files.clients {
            Some(clients) => read(TlsFile::Authorities, &clients.authorities)?,
            None => Vec::new(),
        };
        let certificate = read(TlsFile::Certificate, &files.certificate)?;
        Ok(Self([certificate, read(TlsFile::Key, &files.key)?, authorities]))
    }

    fn config(&self, files: &ServerFiles) -> Result<Arc<ServerConfig>, TlsFileError> {
        let Self([certificate, key, trusted]) = self;
        let chain = certificates(TlsFile::Certificate, &files.certificate, certificate)?;
        let key = private_key(&files.key, key)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = match &files.clients {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(clients) => {
                let path = clients.authorities.as_path();
                let roots = Arc::new(authorities(path, trusted)?);
                let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
                let builder = match clients.need {
                    Need::Required => builder,
                    Need::Optional => builder.allow_unauthenticated(),
                };
                builder.build().map_err(|error| {
                    TlsFileError::content(TlsFile::Authorities, path, format!("cannot be used: {error}"))
                })?
            }
        };
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has suites for both versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map(Arc::new)
            .map_err(|error| TlsFileError::of_identity(&error, &files.certificate, &files.key))
    }
}
