//! The PEM files of TLS on both sides: read whole, what is wrong with them in words, and whether they were replaced.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The largest file that is read: chains and lists of authorities are far smaller.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Which of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFile {
    /// Our certificate.
    Certificate,
    /// Its key.
    Key,
    /// The authorities that we trust.
    Authorities,
}

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// It cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Unreadable {
        /// Which one.
        file: TlsFile,
        /// Its path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// It holds something else, or nothing of use.
    #[error("{} {problem}", path.display())]
    Content {
        /// Which one.
        file: TlsFile,
        /// Its path.
        path: PathBuf,
        /// What is wrong with it, as the end of a sentence.
        problem: String,
    },
}

impl TlsFileError {
    /// The file that it is about.
    pub fn file(&self) -> TlsFile {
        match self {
            Self::Unreadable { file, .. } | Self::Content { file, .. } => *file,
        }
    }

    pub(super) fn content(file: TlsFile, path: &Path, problem: impl Into<String>) -> Self {
        Self::Content { file, path: path.into(), problem: problem.into() }
    }

    /// What `error` says of a certificate and a key that rustls was given together.
    pub(super) fn of_identity(error: &rustls::Error, certificate: &Path, key: &Path) -> Self {
        match error {
            rustls::Error::InconsistentKeys(_) => {
                Self::content(TlsFile::Key, key, format!("is not the key of {}", certificate.display()))
            }
            rustls::Error::InvalidCertificate(error) => {
                Self::content(TlsFile::Certificate, certificate, format!("cannot be used: {error}"))
            }
            error => Self::content(TlsFile::Key, key, format!("cannot be used: {error}")),
        }
    }
}

/// The bytes of a file.
pub(super) fn read(file: TlsFile, path: &Path) -> Result<Vec<u8>, TlsFileError> {
    let unreadable = |error| TlsFileError::Unreadable { file, path: path.into(), error };
    if fs::metadata(path).map_err(unreadable)?.len() > MAX_FILE_BYTES {
        return Err(unreadable(io::Error::other("larger than any PEM file")));
    }
    fs::read(path).map_err(unreadable)
}

/// The certificates in `content`; at least one.
pub(super) fn certificates(
    file: TlsFile,
    path: &Path,
    content: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let found = CertificateDer::pem_slice_iter(content)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsFileError::content(file, path, format!("is no PEM: {error}")))?;
    if found.is_empty() {
        return Err(TlsFileError::content(file, path, "holds no certificate in PEM"));
    }
    Ok(found)
}

/// The key in `content`.
pub(super) fn private_key(path: &Path, content: &[u8]) -> Result<PrivateKeyDer<'static>, TlsFileError> {
    PrivateKeyDer::from_pem_slice(content).map_err(|error| {
        let problem = match error {
            pem::Error::NoItemsFound => "holds no key that is not encrypted".to_owned(),
            error => format!("is no PEM: {error}"),
        };
        TlsFileError::content(TlsFile::Key, path, problem)
    })
}

/// The authorities in `content`.
pub(super) fn authorities(path: &Path, content: &[u8]) -> Result<RootCertStore, TlsFileError> {
    let mut roots = RootCertStore::empty();
    for authority in certificates(TlsFile::Authorities, path, content)? {
        roots.add(authority).map_err(|error| {
            TlsFileError::content(TlsFile::Authorities, path, format!("holds no authority: {error}"))
        })?;
    }
    Ok(roots)
}

/// Looks whether files were replaced, without reading them.
#[derive(Debug)]
pub struct Watch {
    paths: Vec<PathBuf>,
    seen: Option<Vec<Stamp>>,
}

/// What tells that a file has been replaced; nothing where it is not there.
type Stamp = Option<(SystemTime, u64, u64)>;

impl Watch {
    /// Looks at `paths`.
    pub fn new<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Self {
        Self { paths: paths.into_iter().map(Path::to_owned).collect(), seen: None }
    }

    /// Whether one of them is another file than at the last look. At the first look all of them are: they may have
    /// been replaced between loading and then.
    pub async fn look(&mut self) -> bool {
        let paths = self.paths.clone();
        let looked = tokio::task::spawn_blocking(move || paths.iter().map(|path| stamp(path)).collect::<Vec<_>>());
        // It fails only where the runtime stops.
        let Ok(stamps) = looked.await else { return false };
        let changed = self.seen.as_ref() != Some(&stamps);
        self.seen = Some(stamps);
        changed
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}
