//! The certificates of listeners: `tls`.

use std::sync::Arc;

use serde::Deserialize;

use super::users::Context;
use crate::net::server_tls::{ClientCertificates, Need, ServerFiles, ServerTls};
use crate::net::tls_files::TlsFile;
use crate::settings::{Located, Mistake};

/// The certificates of a listener, PEM files. Paths are relative to the configuration's folder.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// Our certificate, and those between it and its authority: `/etc/edgeway/server.crt`.
    pub cert: Option<Located<String>>,
    /// The key of our certificate.
    pub key: Option<Located<String>>,
    /// The authorities of client certificates. Their common name is the user. Default: none is asked for.
    pub client_ca: Option<Located<String>>,
    /// Whether a client needs a certificate, `required` or `optional`. Default `required`; it wants `client_ca`.
    pub client_certificate: Option<Located<ClientCertificate>>,
}

/// Whether a client needs a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientCertificate {
    /// Who has none is not let in.
    Required,
    /// Who has none is treated as on a listener without `client_ca`.
    Optional,
}

/// What was read already: listeners with the same files share them.
pub(super) type Loaded = Vec<(ServerFiles, Arc<ServerTls>)>;

impl Located<Tls> {
    /// Reads the files. Nothing where there are mistakes.
    pub(super) fn load(
        &self,
        context: &Context<'_>,
        loaded: &mut Loaded,
        mistakes: &mut Vec<Mistake>,
    ) -> Option<Arc<ServerTls>> {
        let folder = context.folder;
        if let (Some(need), None, true) = (&self.client_certificate, &self.client_ca, context.is_whole) {
            mistakes.push(need.mistake("`client_certificate` wants `client_ca`"));
        }
        let missing = match (&self.cert, &self.key) {
            (Some(_), Some(_)) => None,
            (Some(cert), None) => Some(cert.mistake("a `cert` wants its `key`")),
            (None, Some(key)) => Some(key.mistake("a `key` wants its `cert`")),
            (None, None) => Some(self.mistake("TLS wants a `cert` and its `key`")),
        };
        mistakes.extend(missing.filter(|_| context.is_whole));
        let (cert, key) = self.cert.as_ref().zip(self.key.as_ref())?;
        let need = match self.client_certificate.map(|need| need.value) {
            None | Some(ClientCertificate::Required) => Need::Required,
            Some(ClientCertificate::Optional) => Need::Optional,
        };
        let authorities = self.client_ca.as_ref().map(|file| folder.join(&file.value));
        let files = ServerFiles {
            certificate: folder.join(&cert.value),
            key: folder.join(&key.value),
            clients: authorities.map(|authorities| ClientCertificates { authorities, need }),
        };
        if let Some((_, tls)) = loaded.iter().find(|(known, _)| *known == files) {
            return Some(Arc::clone(tls));
        }
        match ServerTls::load(files.clone()) {
            Ok(tls) => {
                let tls = Arc::new(tls);
                loaded.push((files, Arc::clone(&tls)));
                Some(tls)
            }
            Err(error) => {
                let place = match error.file() {
                    TlsFile::Certificate => cert.place,
                    TlsFile::Key => key.place,
                    TlsFile::Authorities => self.client_ca.as_ref().map_or(self.place, |file| file.place),
                };
                mistakes.push(Mistake::new(place, error.to_string()));
                None
            }
        }
    }
}
