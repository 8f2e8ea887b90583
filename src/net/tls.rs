//! What both sides of TLS share: the provider of cryptography, and what went wrong in words.

use std::io;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

/// Makes ring the process's provider of cryptography. Called once, first thing in `main`.
pub fn install_provider() {
    // The only failure is that it was installed before, which is as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What a failure of a connection with a server means, and what would be right: a fragment for people. A failure that
/// has nothing to do with TLS stays what it is.
pub fn describe(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(error)) => of_its_certificate(error),
        Some(Error::AlertReceived(alert)) => of_alert(*alert),
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "what answers there does not speak TLS: is it the right port?".into()
        }
        Some(Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::SupportedVersionsExtensionRequired,
        )) => "the server speaks no version of TLS that `min_version` allows".into(),
        Some(Error::NoApplicationProtocol) => "the server speaks none of the protocols of `alpn`".into(),
        Some(other) => other.to_string(),
        // As a peer does that ends without saying so, in the handshake or later.
        None if error.kind() == io::ErrorKind::UnexpectedEof && error.get_ref().is_none_or(is_about_close_notify) => {
            "the server closed the connection".into()
        }
        None => error.to_string(),
    }
}

/// The same of a handshake, in which a server that speaks no TLS just closes the connection.
pub fn describe_handshake(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
            "the server closed the connection in the handshake: does it speak TLS, and at this port?".into()
        }
        _ => describe(error),
    }
}

fn of_its_certificate(error: &CertificateError) -> String {
    let age = |from: &UnixTime, to: &UnixTime| span(to.as_secs().saturating_sub(from.as_secs()));
    match error {
        CertificateError::ExpiredContext { time, not_after } => {
            format!("the server's certificate expired {} ago, by this machine's clock", age(not_after, time))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            let age = age(time, not_before);
            format!("the server's certificate is valid in {age} only, by this machine's clock: is that right?")
        }
        // The second where an authority of the same name, with another key, is trusted.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the server's certificate is of an authority that is not trusted: \
             `tls: { ca: … }` names the file of the right one"
                .into()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(|name| inner_name(name)).collect();
            let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
            let expected = expected.to_str();
            format!(
                "the server's certificate is for {names}, not for {expected}: \
                 `tls: {{ server_name: … }}` says another name than the URL"
            )
        }
        CertificateError::Revoked => "the server's certificate has been revoked".into(),
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "the server shows the certificate of an authority as its own: it needs one that an authority has signed"
                .into()
        }
        error => format!("the server's certificate cannot be used: {error}"),
    }
}

fn of_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            "the server wants a certificate of ours: `tls: { cert: …, key: … }`".into()
        }
        // The second where the server trusts an authority of the same name, with another key.
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            format!("the server does not trust the authority of our certificate ({alert:?})")
        }
        AlertDescription::CertificateExpired => "the server says that our certificate has expired".into(),
        AlertDescription::CertificateRevoked => "the server says that our certificate has been revoked".into(),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => format!("the server refuses our certificate, or wants one ({alert:?})"),
        AlertDescription::HandshakeFailure => {
            "the server refuses: it may want a certificate of ours, or no cipher suite is common (HandshakeFailure)"
                .into()
        }
        AlertDescription::ProtocolVersion => "the server speaks no version of TLS that `min_version` allows".into(),
        AlertDescription::NoApplicationProtocol => "the server speaks none of the protocols of `alpn`".into(),
        AlertDescription::UnrecognisedName => {
            "the server knows nothing of that name: `tls: { server_name: … }` says another name than the URL".into()
        }
        other => format!("the server ended TLS: {other:?}"),
    }
}

/// What rustls says of an end without close_notify; other words of an end are better left as they are.
fn is_about_close_notify(inner: &(dyn std::error::Error + Send + Sync)) -> bool {
    let words = inner.to_string();
    words.contains("close_notify") || words == "tls handshake eof"
}

/// `localhost` of `DnsName("localhost")`.
fn inner_name(presented: &str) -> &str {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(presented);
    inner.trim_matches('"')
}

/// A time in its largest unit.
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
