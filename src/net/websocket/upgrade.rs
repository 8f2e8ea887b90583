//! The server's side of the upgrade from HTTP to WebSocket [RFC 6455 4.2], with the subprotocol of MQTT [MQTT-6.0.0-3].

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::WebSocket;

/// The largest head of a request or an answer.
pub(super) const MAX_HEAD_BYTES: usize = 8 * 1024;
/// The most header fields of one; browsers send about 15.
pub(super) const MAX_FIELDS: usize = 64;
/// What a key is joined with before it is hashed [RFC 6455 1.3].
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The subprotocols of MQTT: the registered name, and the one of clients from before it was.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// Why there is no WebSocket.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The connection failed, or ended too early.
    #[error("{0}")]
    Failed(#[from] io::Error),
    /// The request asks for something else, and was answered so.
    #[error("no WebSocket upgrade for MQTT: {0}")]
    Refused(&'static str),
}

/// A WebSocket, and the page that asked for it.
#[derive(Debug)]
pub struct Upgraded<S> {
    /// The byte stream.
    pub socket: WebSocket<S>,
    /// The origin of the web page that opened it, `https://dashboard.example.com`; browsers name it, others may.
    pub origin: Option<String>,
}

/// What the answer to an upgrade is made of.
struct Accepted {
    answer: String,
    /// Bytes of the request.
    length: usize,
    origin: Option<String>,
}

/// An answer that is no upgrade: a status, further header lines, and why.
struct Refusal(&'static str, &'static str, &'static str);

/// Takes the client's request and answers it. With a `path` only that one is served, else any.
///
/// # Errors
/// Why there is no WebSocket. The client has been told where it spoke HTTP.
pub async fn accept<S>(mut stream: S, path: Option<&str>) -> Result<Upgraded<S>, UpgradeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut input = Vec::with_capacity(512);
    let answered = loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        match answer(&input, path) {
            Some(answered) => break answered,
            None if input.len() >= MAX_HEAD_BYTES => {
                break Err(Refusal("431 Request Header Fields Too Large", "", "the request is too large"));
            }
            None => {}
        }
    };
    match answered {
        Ok(Accepted { answer, length, origin }) => {
            stream.write_all(answer.as_bytes()).await?;
            stream.flush().await?;
            Ok(Upgraded { socket: WebSocket::server(stream, input.split_off(length)), origin })
        }
        Err(Refusal(status, fields, why)) => {
            let length = why.len() + 1;
            let answer = format!(
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain\r\n\
                 Content-Length: {length}\r\n{fields}\r\n{why}\n"
            );
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await?;
            Err(UpgradeError::Refused(why))
        }
    }
}

/// The answer to the request at the beginning of `input`; `None` where it is not whole.
fn answer(input: &[u8], path: Option<&str>) -> Option<Result<Accepted, Refusal>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let bad = |why| Some(Err(Refusal("400 Bad Request", "", why)));
    let length = match request.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return None,
        Err(httparse::Error::TooManyHeaders) => {
            return Some(Err(Refusal("431 Request Header Fields Too Large", "", "the request has too many fields")));
        }
        Err(_) => return bad("this is no HTTP request"),
    };
    let wanted = request.path.unwrap_or_default();
    if path.is_some_and(|path| wanted.split('?').next() != Some(path)) {
        return Some(Err(Refusal("404 Not Found", "", "nothing is served at this path")));
    }
    let values = |name: &'static str| {
        let fields = request.headers.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| std::str::from_utf8(field.value).unwrap_or_default().trim())
    };
    let lists = |name, word: &str| values(name).flat_map(words).any(|found| found.eq_ignore_ascii_case(word));
    let upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    if request.method != Some("GET") || !lists("upgrade", "websocket") || !lists("connection", "upgrade") {
        return Some(Err(Refusal("426 Upgrade Required", upgrade, "MQTT is served here, over WebSocket")));
    }
    if values("sec-websocket-version").next() != Some("13") {
        return Some(Err(Refusal("426 Upgrade Required", upgrade, "the version of WebSocket is 13")));
    }
    let mut keys = values("sec-websocket-key");
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return bad("the request has no Sec-WebSocket-Key, or several");
    };
    if STANDARD.decode(key).map_or(true, |nonce| nonce.len() != 16) {
        return bad("Sec-WebSocket-Key is no 16 bytes in base64");
    }
    let offered: Vec<&str> = values("sec-websocket-protocol").flat_map(words).collect();
    let Some(subprotocol) = choose(&offered) else {
        return bad("the subprotocol is mqtt");
    };
    let accept = accept_of(key);
    let subprotocol = subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{subprotocol}\r\n"
    );
    let origin = values("origin").next().map(str::to_owned);
    Some(Ok(Accepted { answer, length, origin }))
}

/// The subprotocol of those that a client offers; `Some(None)` where it offers none, as many clients do.
fn choose<'a>(offered: &[&'a str]) -> Option<Option<&'a str>> {
    if offered.is_empty() {
        return Some(None);
    }
    SUBPROTOCOLS.iter().find_map(|name| offered.iter().find(|offer| *offer == name)).map(|name| Some(*name))
}

/// What the answer to an upgrade with `key` says in Sec-WebSocket-Accept.
pub(super) fn accept_of(key: &str) -> String {
    let bytes = [key.as_bytes(), ACCEPT_SUFFIX.as_bytes()].concat();
    STANDARD.encode(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &bytes))
}

pub(super) fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}
