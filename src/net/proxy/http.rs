//! HTTP CONNECT [RFC 9110 9.3.6], with Basic authentication [RFC 7617].

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{ProxyError, target};

/// The largest head of an answer.
const MAX_HEAD_BYTES: usize = 8 * 1024;
/// The most header fields of one.
const MAX_FIELDS: usize = 64;

pub(super) async fn connect<S>(
    stream: &mut S,
    host: &str,
    port: u16,
    credentials: Option<(&str, &str)>,
) -> Result<(), ProxyError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let target = target(host, port);
    stream.write_all(&encode_request(&target, credentials)).await?;
    stream.flush().await?;
    let mut input = Vec::with_capacity(512);
    loop {
        if stream.read_buf(&mut input).await? == 0 {
            return Err(closed().into());
        }
        match decode_answer(&input, &target, credentials.is_some())? {
            // What comes through speaks after we do.
            Some(length) if length < input.len() => {
                return Err(ProxyError::Answer("it sends something behind its answer"));
            }
            Some(_) => return Ok(()),
            None if input.len() >= MAX_HEAD_BYTES => return Err(ProxyError::Answer("its answer is too long")),
            None => {}
        }
    }
}

pub(super) fn encode_request(target: &str, credentials: Option<(&str, &str)>) -> Vec<u8> {
    let authorization = credentials.map(|(user, password)| {
        format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
    });
    let authorization = authorization.unwrap_or_default();
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n").into_bytes()
}

/// The length of the answer at the beginning of `input`, where the proxy has connected; `None` where it is not whole.
pub(super) fn decode_answer(input: &[u8], target: &str, has_password: bool) -> Result<Option<usize>, ProxyError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(ProxyError::Answer("what answers there is no HTTP proxy")),
    };
    let status = response.code.unwrap_or_default();
    let reason = response.reason.unwrap_or_default();
    let words = if reason.is_empty() { status.to_string() } else { format!("{status} {reason}") };
    let target = target.to_owned();
    Err(match status {
        200..300 => return Ok(Some(length)),
        407 if has_password => ProxyError::WrongPassword,
        407 => ProxyError::WantsPassword,
        403 => ProxyError::Forbidden { target, why: format!(" ({words})") },
        502..=504 => ProxyError::Unreachable { target, why: words },
        _ => ProxyError::Refused(words),
    })
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection without an answer")
}
