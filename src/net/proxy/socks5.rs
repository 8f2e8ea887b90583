//! SOCKS 5 [RFC 1928], with user name and password [RFC 1929].
//!
//! ```text
//! we     5, count, methods          0 no authentication, 2 user name and password
//! proxy  5, method                  0xff: none of them
//! we     1, length, user, length, password          where the method is 2
//! proxy  1, status                  0 is well
//! we     5, 1 CONNECT, 0, address, port
//! proxy  5, reply, 0, address, port                 reply 0 is well
//!
//! address   1, IPv4 (4) | 3, length, name | 4, IPv6 (16)
//! ```

use std::io;
use std::net::IpAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{ProxyError, target};

const VERSION: u8 = 5;
const VERSION_OF_AUTHENTICATION: u8 = 1;
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

const NO_SOCKS: ProxyError = ProxyError::Answer("what answers there is no SOCKS5 proxy");

pub(super) async fn connect<S>(
    stream: &mut S,
    host: &str,
    port: u16,
    credentials: Option<(&str, &str)>,
) -> Result<(), ProxyError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send(stream, &encode_greeting(credentials.is_some())).await?;
    if decode_method(receive(stream).await?, credentials.is_some())? == USER_AND_PASSWORD
        && let Some((user, password)) = credentials
    {
        send(stream, &encode_credentials(user, password)).await?;
        // A proxy that refuses may close without a word.
        let [_, 0] = receive(stream).await.map_err(|_| ProxyError::WrongPassword)? else {
            return Err(ProxyError::WrongPassword);
        };
    }
    send(stream, &encode_request(host, port)).await?;
    let [version, reply, _, kind] = receive(stream).await?;
    if version != VERSION {
        return Err(NO_SOCKS);
    }
    decode_reply(reply, &target(host, port))?;
    // The address from which it connected says nothing to us, but it must be read.
    match kind {
        IPV4 => drop(receive::<_, 6>(stream).await?),
        IPV6 => drop(receive::<_, 18>(stream).await?),
        NAME => {
            let [length] = receive(stream).await?;
            for _ in 0..usize::from(length) + 2 {
                receive::<_, 1>(stream).await?;
            }
        }
        _ => return Err(NO_SOCKS),
    }
    Ok(())
}

pub(super) fn encode_greeting(has_password: bool) -> Vec<u8> {
    if has_password {
        vec![VERSION, 2, NO_AUTHENTICATION, USER_AND_PASSWORD]
    } else {
        vec![VERSION, 1, NO_AUTHENTICATION]
    }
}

/// The method that the proxy has chosen.
pub(super) fn decode_method([version, method]: [u8; 2], has_password: bool) -> Result<u8, ProxyError> {
    match (version, method) {
        (VERSION, NO_AUTHENTICATION) => Ok(method),
        (VERSION, USER_AND_PASSWORD) if has_password => Ok(method),
        (VERSION, NO_METHOD) if has_password => Err(ProxyError::Refused("that it takes no user and password".into())),
        (VERSION, NO_METHOD) => Err(ProxyError::WantsPassword),
        _ => Err(NO_SOCKS),
    }
}

/// `user` and `password` have 1 to 255 bytes.
pub(super) fn encode_credentials(user: &str, password: &str) -> Vec<u8> {
    let mut bytes = vec![VERSION_OF_AUTHENTICATION];
    put(user, &mut bytes);
    put(password, &mut bytes);
    bytes
}

/// `host` has 1 to 255 bytes.
pub(super) fn encode_request(host: &str, port: u16) -> Vec<u8> {
    let mut bytes = vec![VERSION, CONNECT, 0];
    match host.parse() {
        Ok(IpAddr::V4(address)) => {
            bytes.push(IPV4);
            bytes.extend(address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            bytes.push(IPV6);
            bytes.extend(address.octets());
        }
        Err(_) => {
            bytes.push(NAME);
            put(host, &mut bytes);
        }
    }
    bytes.extend(port.to_be_bytes());
    bytes
}

pub(super) fn decode_reply(reply: u8, target: &str) -> Result<(), ProxyError> {
    let target = target.to_owned();
    let unreachable = |why: &str| ProxyError::Unreachable { target: target.clone(), why: why.into() };
    Err(match reply {
        0 => return Ok(()),
        1 => ProxyError::Refused("that it has failed".into()),
        2 => ProxyError::Forbidden { target, why: String::new() },
        3 => unreachable("network unreachable"),
        4 => unreachable("host unreachable, or its name unknown"),
        5 => unreachable("connection refused"),
        6 => unreachable("its packets live too short"),
        7 => ProxyError::Refused("that it does not connect for others".into()),
        8 => ProxyError::Refused("that it does not know this kind of address".into()),
        other => ProxyError::Refused(format!("{other}, which means nothing")),
    })
}

/// A text of up to 255 bytes behind its length.
fn put(text: &str, into: &mut Vec<u8>) {
    let text = &text.as_bytes()[..text.len().min(255)];
    into.push(text.len() as u8);
    into.extend_from_slice(text);
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

async fn receive<S: AsyncRead + Unpin, const COUNT: usize>(stream: &mut S) -> io::Result<[u8; COUNT]> {
    let mut bytes = [0; COUNT];
    stream.read_exact(&mut bytes).await.map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "it closed the connection without an answer"),
        _ => error,
    })?;
    Ok(bytes)
}
