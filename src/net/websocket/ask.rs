//! The client's side of the upgrade from HTTP to WebSocket [RFC 6455 4.1], with the subprotocol `mqtt` [MQTT-6.0.0-3].

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::WebSocket;
use super::upgrade::{MAX_FIELDS, MAX_HEAD_BYTES, accept_of, words};

/// The subprotocol that is offered, and must be taken [MQTT-6.0.0-4].
const SUBPROTOCOL: &str = "mqtt";

/// Why a server gives no WebSocket.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The connection failed, or ended before the answer.
    #[error("{0}")]
    Failed(#[from] io::Error),
    /// It answers with another status than 101.
    #[error("the server answers {status}{}{}", if reason.is_empty() { "" } else { " " }, reason)]
    Status {
        /// The status.
        status: u16,
        /// Its reason phrase, and what would be right where that can be said.
        reason: String,
    },
    /// It answers with something else than HTTP, or against the rules.
    #[error("{0}")]
    Answer(&'static str),
}

/// Asks the server behind `stream` for a WebSocket at `path` (with its query, if any); `host` is the URL's host, with
/// its port where that is not the scheme's own.
///
/// # Errors
/// Why there is none.
pub async fn ask<S>(mut stream: S, host: &str, path: &str) -> Result<WebSocket<S>, AskError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut nonce = [0; 16];
    SystemRandom::new().fill(&mut nonce).map_err(|_| AskError::Answer("the system has no random numbers"))?;
    let key = STANDARD.encode(nonce);
    stream.write_all(request(host, path, &key).as_bytes()).await?;
    stream.flush().await?;
    let mut input = Vec::with_capacity(512);
    let length = loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the server closed the connection without an answer to the upgrade",
            )
            .into());
        }
        match read_answer(&input, &key)? {
            Some(length) => break length,
            None if input.len() >= MAX_HEAD_BYTES => {
                return Err(AskError::Answer("the server's answer to the upgrade is too long"));
            }
            None => {}
        }
    };
    Ok(WebSocket::client(stream, input.split_off(length)))
}

/// The request for the upgrade.
pub(super) fn request(host: &str, path: &str, key: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    )
}

/// The length of the answer at the beginning of `input`, where it gives a WebSocket for `key`; `None` where it is not
/// whole.
pub(super) fn read_answer(input: &[u8], key: &str) -> Result<Option<usize>, AskError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(AskError::Answer("what answers there speaks no HTTP, and so no WebSocket")),
    };
    let values = |name: &'static str| {
        let fields = response.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| std::str::from_utf8(field.value).unwrap_or_default().trim())
    };
    let status = response.code.unwrap_or_default();
    if status != 101 {
        let reason = response.reason.unwrap_or_default();
        let help = match status {
            200 | 404 => ": is the path of the URL right? Without one it is /mqtt".to_owned(),
            300..400 => values("location").next().map(|to| format!(": it is at {to}")).unwrap_or_default(),
            _ => String::new(),
        };
        return Err(AskError::Status { status, reason: format!("{reason}{help}") });
    }
    let lists = |name, word: &str| values(name).flat_map(words).any(|found| found.eq_ignore_ascii_case(word));
    if !lists("upgrade", "websocket") || !lists("connection", "upgrade") {
        return Err(AskError::Answer("the server changes to another protocol than WebSocket"));
    }
    let mut accepts = values("sec-websocket-accept");
    if accepts.next() != Some(accept_of(key).as_str()) || accepts.next().is_some() {
        return Err(AskError::Answer("the server's Sec-WebSocket-Accept is not that of our key"));
    }
    if values("sec-websocket-extensions").next().is_some() {
        return Err(AskError::Answer("the server wants an extension of WebSocket that was not offered"));
    }
    let mut subprotocols = values("sec-websocket-protocol");
    if subprotocols.next() != Some(SUBPROTOCOL) || subprotocols.next().is_some() {
        return Err(AskError::Answer("the server does not speak MQTT there: it has not taken the subprotocol `mqtt`"));
    }
    Ok(Some(length))
}
