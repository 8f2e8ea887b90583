//! The upgrade, frames in any pieces, and the ends of a connection, over a pipe in memory.

use std::io::ErrorKind;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::ask::{read_answer, request};
use super::frame::{FrameError, Header, Opcode, Sender, apply_mask, encode_masked};
use super::{AskError, UpgradeError, Upgraded, WebSocket, accept, ask};

const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const FIN: u8 = 0x80;

/// A frame as a client sends it.
fn frame(first: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_masked(Opcode::Binary, content, MASK, &mut frame);
    frame[0] = first;
    frame
}

/// The frames in `bytes`, as a server sends them: first byte and content.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, length, rest @ ..] = bytes {
        let (length, rest) = match length {
            126 => (usize::from(u16::from_be_bytes(rest[..2].try_into().unwrap())), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize, &rest[8..]),
            length => (usize::from(*length), rest),
        };
        frames.push((*first, rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    frames
}

fn connected(buffer: usize) -> (DuplexStream, WebSocket<DuplexStream>) {
    let (client, server) = duplex(buffer);
    (client, WebSocket::server(server, Vec::new()))
}

/// What a client is answered that sends `request`, and what the server makes of it.
async fn upgrade(request: &str, path: Option<&str>) -> (String, Result<Upgraded<DuplexStream>, UpgradeError>) {
    let (mut client, server) = duplex(64 * 1024);
    client.write_all(request.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let accepted = accept(server, path).await;
    let mut answer = vec![0; 4096];
    let count = client.read(&mut answer).await.unwrap();
    (String::from_utf8(answer[..count].to_vec()).unwrap(), accepted)
}

#[tokio::test]
async fn an_upgrade_is_answered_with_the_hash_of_its_key() {
    let (answer, accepted) = upgrade(&format!("{REQUEST}\r\n"), Some("/mqtt")).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    // The example of RFC 6455, section 1.3.
    assert!(answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
    assert!(!answer.contains("Protocol:"), "none was offered: {answer}");
    accepted.unwrap();
}

#[tokio::test]
async fn the_subprotocol_is_one_that_was_offered() {
    for (offered, chosen) in [
        ("mqtt", "mqtt"),
        ("mqttv3.1", "mqttv3.1"),
        ("mqttv3.1, mqtt", "mqtt"),
        ("chat\r\nSec-WebSocket-Protocol: mqtt", "mqtt"),
    ] {
        let (answer, accepted) = upgrade(&format!("{REQUEST}Sec-WebSocket-Protocol: {offered}\r\n\r\n"), None).await;
        assert!(answer.contains(&format!("\r\nSec-WebSocket-Protocol: {chosen}\r\n")), "{offered}: {answer}");
        accepted.unwrap();
    }
    let (answer, accepted) = upgrade(&format!("{REQUEST}Sec-WebSocket-Protocol: chat\r\n\r\n"), None).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && accepted.is_err(), "{answer}");
}

#[tokio::test]
async fn a_request_for_something_else_is_told_so() {
    let request = |from: &str, to: &str| format!("{}\r\n", REQUEST.replace(from, to));
    for (request, status) in [
        ("GET /mqtt HTTP/1.1\r\nHost: gateway\r\n\r\n".to_owned(), "426"),
        (request("GET", "POST"), "426"),
        (request("Version: 13", "Version: 8"), "426"),
        (request("/mqtt", "/other"), "404"),
        (request("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ"), "400"),
        (request("Sec-WebSocket-Key", "X-Key"), "400"),
        ("\u{10}\u{f}\0\u{4}MQTT".to_owned(), "400"),
        (format!("{REQUEST}X: {}\r\n\r\n", "x".repeat(10_000)), "431"),
        (format!("{REQUEST}{}\r\n", "X: x\r\n".repeat(70)), "431"),
    ] {
        let (answer, accepted) = upgrade(&request, Some("/mqtt")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(matches!(accepted, Err(UpgradeError::Refused(_))));
    }
}

#[tokio::test]
async fn the_page_that_asks_is_named() {
    let (_, accepted) = upgrade(&format!("{REQUEST}Origin: https://plant.example.com\r\n\r\n"), None).await;
    assert_eq!(accepted.unwrap().origin.as_deref(), Some("https://plant.example.com"));
    let (_, accepted) = upgrade(&format!("{REQUEST}\r\n"), None).await;
    assert_eq!(accepted.unwrap().origin, None);
}

#[tokio::test]
async fn a_request_that_never_ends_is_no_upgrade() {
    let (_, accepted) = upgrade(REQUEST, None).await;
    assert!(matches!(accepted, Err(UpgradeError::Failed(error)) if error.kind() == ErrorKind::UnexpectedEof));
}

#[tokio::test]
async fn what_comes_with_the_request_is_not_lost() {
    let (mut client, server) = duplex(4096);
    let mut bytes = format!("{REQUEST}\r\n").into_bytes();
    bytes.extend(frame(FIN | BINARY, b"early"));
    client.write_all(&bytes).await.unwrap();
    client.write_all(&frame(FIN | BINARY, b" late")).await.unwrap();
    let mut socket = accept(server, None).await.unwrap().socket;
    let mut content = [0; 10];
    socket.read_exact(&mut content).await.unwrap();
    assert_eq!(&content, b"early late");
}

#[tokio::test]
async fn frames_that_no_client_may_send_close_with_a_code() {
    let unmasked = vec![FIN | BINARY, 0];
    for (bytes, code) in [
        (frame(FIN | TEXT, b"hello"), 1003u16),
        (frame(FIN | 3, b""), 1002),
        (frame(FIN | 0x40 | BINARY, b""), 1002),
        (unmasked, 1002),
        (frame(PING, b""), 1002),
        (frame(FIN | PING, &[0; 126]), 1002),
        (frame(FIN | CONTINUATION, b""), 1002),
        ([frame(BINARY, b""), frame(FIN | BINARY, b"")].concat(), 1002),
        (vec![FIN | BINARY, 0x80 | 126, 0, 125], 1002),
        (vec![FIN | BINARY, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 1002),
    ] {
        let (mut client, mut socket) = connected(4096);
        client.write_all(&bytes).await.unwrap();
        let error = socket.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{bytes:?}");
        drop(socket);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(frames(&answer), [(FIN | CLOSE, code.to_be_bytes().to_vec())], "{bytes:?}");
    }
}

#[tokio::test]
async fn the_other_sides_close_is_answered_and_ends_the_stream() {
    let (mut client, mut socket) = connected(4096);
    client.write_all(&frame(FIN | BINARY, b"last")).await.unwrap();
    client.write_all(&frame(FIN | CLOSE, &1001u16.to_be_bytes())).await.unwrap();
    client.write_all(&frame(FIN | BINARY, b"too late")).await.unwrap();
    let mut content = Vec::new();
    socket.read_to_end(&mut content).await.unwrap();
    assert_eq!(content, b"last");
    assert_eq!(socket.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(frames(&answer), [(FIN | CLOSE, 1000u16.to_be_bytes().to_vec())]);
}

#[tokio::test]
async fn our_close_waits_for_the_other_sides() {
    let (mut client, mut socket) = connected(4096);
    let closing = tokio::spawn(async move { socket.shutdown().await });
    let mut answer = [0; 4];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(frames(&answer), [(FIN | CLOSE, 1000u16.to_be_bytes().to_vec())]);
    client.write_all(&frame(FIN | BINARY, b"on its way")).await.unwrap();
    tokio::task::yield_now().await;
    assert!(!closing.is_finished());
    client.write_all(&frame(FIN | CLOSE, b"")).await.unwrap();
    closing.await.unwrap().unwrap();
    assert_eq!(client.read(&mut answer).await.unwrap(), 0);
}

#[tokio::test]
async fn a_ping_is_answered_between_frames_only() {
    let (mut client, mut socket) = connected(16);
    let payload: Vec<u8> = (0..200).collect();
    let written = payload.clone();
    let writing = tokio::spawn(async move {
        // The first write fills the pipe; the ping comes while the frame is half written.
        let count = socket.write(&written).await.unwrap();
        assert_eq!(socket.read_u8().await.unwrap(), 7);
        socket.write_all(&written[count..]).await.unwrap();
        socket.flush().await.unwrap();
    });
    client.write_all(&frame(FIN | PING, b"are")).await.unwrap();
    client.write_all(&frame(FIN | PING, b"you")).await.unwrap();
    client.write_all(&frame(FIN | BINARY, &[7])).await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    writing.await.unwrap();
    assert_eq!(frames(&answer), [(FIN | BINARY, payload), (FIN | 10, b"you".to_vec())]);
}

/// What a client makes of a server's answer, whose `ACCEPT` becomes what belongs to its key.
fn answered(answer: &str) -> Result<Option<usize>, AskError> {
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    read_answer(answer.replace("ACCEPT", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=").as_bytes(), key)
}

const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: upgrade\r\n\
                      Sec-WebSocket-Accept: ACCEPT\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

#[test]
fn a_client_asks_as_the_rfc_says() {
    assert_eq!(
        request("broker:8080", "/mqtt?x=1", "KEY"),
        "GET /mqtt?x=1 HTTP/1.1\r\nHost: broker:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: KEY\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
    for length in 0..ANSWER.len() {
        assert_eq!(answered(&ANSWER[..length]).unwrap(), None, "{length}");
    }
    assert!(answered(&format!("{ANSWER}early")).unwrap().is_some());
}

#[test]
fn an_answer_that_gives_no_websocket_for_mqtt_is_told_in_words() {
    for (from, to, words) in [
        ("101 Switching Protocols", "404 Not Found", "the server answers 404 Not Found: is the path of the URL right?"),
        ("101 Switching Protocols", "503 Busy", "the server answers 503 Busy"),
        ("101 Switching Protocols\r\n", "301 Moved\r\nLocation: https://b/x\r\n", "301 Moved: it is at https://b/x"),
        ("HTTP/1.1", "SSH-2.0", "speaks no HTTP"),
        ("upgrade: WebSocket", "upgrade: h2c", "another protocol"),
        ("Connection: upgrade", "Connection: close", "another protocol"),
        ("ACCEPT", "s3pPLMBiTxaQ9kYGzzhZRbK+xOp=", "is not that of our key"),
        ("Sec-WebSocket-Accept: ACCEPT\r\n", "", "is not that of our key"),
        ("Sec-WebSocket-Protocol: mqtt\r\n", "", "has not taken the subprotocol `mqtt`"),
        ("Protocol: mqtt", "Protocol: chat", "has not taken the subprotocol `mqtt`"),
        ("upgrade: Web", "Sec-WebSocket-Extensions: permessage-deflate\r\nupgrade: Web", "an extension"),
    ] {
        let error = answered(&ANSWER.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(words), "{to}: {error}");
    }
}

#[tokio::test]
async fn both_sides_understand_each_other() {
    let (near, far) = duplex(1024);
    let (client, server) = tokio::join!(ask(near, "gateway", "/mqtt"), accept(far, Some("/mqtt")));
    let (mut client, mut server) = (client.unwrap(), server.unwrap().socket);
    let content: Vec<u8> = (0..100_000u32).map(|at| (at % 253) as u8).collect();
    let there = content.clone();
    let talking = tokio::spawn(async move {
        client.write_all(&there).await.unwrap();
        client.flush().await.unwrap();
        let mut back = vec![0; there.len()];
        client.read_exact(&mut back).await.unwrap();
        client.shutdown().await.unwrap();
        back
    });
    let mut came = vec![0; content.len()];
    server.read_exact(&mut came).await.unwrap();
    assert!(came == content);
    server.write_all(&came).await.unwrap();
    server.flush().await.unwrap();
    assert_eq!(server.read(&mut came).await.unwrap(), 0, "the client closes");
    server.shutdown().await.unwrap();
    assert!(talking.await.unwrap() == content);
}

#[tokio::test]
async fn a_client_without_the_servers_path_is_told_so() {
    let (near, far) = duplex(1024);
    let (client, _server) = tokio::join!(ask(near, "gateway", "/other"), accept(far, Some("/mqtt")));
    assert!(matches!(client, Err(AskError::Status { status: 404, .. })), "{client:?}");
}

/// The client's side, and the bare other end of its pipe.
fn as_client(buffer: usize) -> (DuplexStream, WebSocket<DuplexStream>) {
    let (server, client) = duplex(buffer);
    (server, WebSocket::client(client, Vec::new()))
}

/// The frames in `bytes`, as a client sends them: first byte, key and content.
fn masked_frames(mut bytes: &[u8]) -> Vec<(u8, [u8; 4], Vec<u8>)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (header, length) = Header::decode(bytes, Sender::Client).unwrap().unwrap();
        let (content, rest) = bytes[length..].split_at(header.length as usize);
        let mut content = content.to_vec();
        apply_mask(&mut content, header.mask);
        found.push((bytes[0], header.mask, content));
        bytes = rest;
    }
    found
}

#[tokio::test]
async fn each_frame_of_a_client_has_a_key_of_its_own() {
    let (mut server, mut client) = as_client(4096);
    for word in [&b"one"[..], b"two", b"three"] {
        client.write_all(word).await.unwrap();
    }
    server.write_all(&[FIN | PING, 2, b'h', b'i']).await.unwrap();
    server.write_all(&[BINARY, 1, 7]).await.unwrap();
    server.write_all(&[FIN | CONTINUATION, 1, 8]).await.unwrap();
    let mut content = [0; 2];
    client.read_exact(&mut content).await.unwrap();
    assert_eq!(content, [7, 8], "a message in pieces");
    server.write_all(&[FIN | CLOSE, 0]).await.unwrap();
    client.shutdown().await.unwrap();
    let mut sent = Vec::new();
    server.read_to_end(&mut sent).await.unwrap();
    let frames = masked_frames(&sent);
    let plain: Vec<(u8, &[u8])> = frames.iter().map(|(first, _, content)| (*first, content.as_slice())).collect();
    let expected: [(u8, &[u8]); 5] = [
        (FIN | BINARY, b"one"),
        (FIN | BINARY, b"two"),
        (FIN | BINARY, b"three"),
        (FIN | 10, b"hi"),
        (FIN | CLOSE, &[0x03, 0xe8]),
    ];
    assert_eq!(plain, expected);
    let mut keys: Vec<[u8; 4]> = frames.iter().map(|(_, key, _)| *key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 5, "no key comes twice");
}

#[tokio::test]
async fn a_server_that_masks_is_sent_away() {
    let (mut server, mut client) = as_client(4096);
    server.write_all(&frame(FIN | BINARY, b"x")).await.unwrap();
    assert_eq!(client.read_u8().await.unwrap_err().kind(), ErrorKind::InvalidData);
    drop(client);
    let mut sent = Vec::new();
    server.read_to_end(&mut sent).await.unwrap();
    let frames = masked_frames(&sent);
    assert_eq!((frames[0].0, &frames[0].2[..]), (FIN | CLOSE, &1002u16.to_be_bytes()[..]));
}

#[test]
fn an_idle_connection_holds_its_struct_and_no_buffer() {
    let (_client, socket) = connected(16);
    assert!(size_of_val(&socket) - size_of::<DuplexStream>() <= 192, "{}", size_of_val(&socket));
}

#[test]
fn a_mask_goes_on_where_it_stopped() {
    let mut whole: Vec<u8> = (0..=255).collect();
    let mut parts = whole.clone();
    apply_mask(&mut whole, MASK);
    let mut mask = MASK;
    let mut at = 0;
    for length in (0..23).chain([3]) {
        mask = apply_mask(&mut parts[at..at + length], mask);
        at += length;
    }
    assert_eq!((at, &parts), (256, &whole));
}

proptest! {
    #[test]
    fn no_bytes_make_an_answer_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_answer(&bytes, "KEY");
        let _ = read_answer(&[ANSWER.as_bytes(), &bytes].concat(), "KEY");
    }

    #[test]
    fn what_a_client_writes_arrives_masked_and_whole(
        writes in prop::collection::vec(0usize..70_000, 1..4),
        pipe in 1usize..5_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (sent, received) = runtime.block_on(async {
            let (mut server, mut client) = as_client(pipe);
            let writing = async move {
                let mut sent = Vec::new();
                for length in writes {
                    let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
                    client.write_all(&content).await.unwrap();
                    sent.extend(content);
                }
                client.flush().await.unwrap();
                sent
            };
            let mut received = Vec::new();
            let (sent, _) = tokio::join!(writing, server.read_to_end(&mut received));
            (sent, received)
        });
        let frames = masked_frames(&received);
        prop_assert!(frames.iter().all(|(first, _, _)| *first == FIN | BINARY));
        let received: Vec<u8> = frames.into_iter().flat_map(|(_, _, content)| content).collect();
        prop_assert_eq!(received, sent);
    }

    #[test]
    fn no_bytes_make_a_header_panic(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
        for sender in [Sender::Client, Sender::Server] {
            match Header::decode(&bytes, sender) {
                Ok(Some((_, length))) => prop_assert!(length <= bytes.len()),
                Ok(None) => prop_assert!(bytes.len() < 14),
                Err(FrameError::Order) => prop_assert!(false, "a header alone has no order"),
                Err(_) => {}
            }
        }
    }

    #[test]
    fn the_stream_is_the_same_however_it_is_framed_and_cut(
        contents in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<bool>(), any::<bool>()), 0..12),
        cuts in prop::collection::vec(1usize..40, 1..50),
        room in 1usize..80,
    ) {
        let mut bytes = Vec::new();
        let mut in_pieces = false;
        for (content, last, ping) in &contents {
            let opcode = if in_pieces { CONTINUATION } else { BINARY };
            bytes.extend(frame(if *last { FIN | opcode } else { opcode }, content));
            in_pieces = !last;
            if *ping {
                bytes.extend(frame(FIN | PING, &content[..content.len().min(125)]));
            }
        }
        let whole: Vec<u8> = contents.iter().flat_map(|(content, ..)| content.clone()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let came = runtime.block_on(async {
            let (mut client, mut socket) = connected(64 * 1024);
            let reading = async move {
                let mut came = Vec::new();
                let mut buffer = vec![0; room];
                loop {
                    match socket.read(&mut buffer).await.unwrap() {
                        0 => return came,
                        count => came.extend_from_slice(&buffer[..count]),
                    }
                }
            };
            let writing = async move {
                let mut rest = &bytes[..];
                for cut in cuts.iter().cycle() {
                    if rest.is_empty() {
                        break;
                    }
                    let (now, later) = rest.split_at((*cut).min(rest.len()));
                    client.write_all(now).await.unwrap();
                    tokio::task::yield_now().await;
                    rest = later;
                }
                client.shutdown().await.unwrap();
                client
            };
            tokio::join!(reading, writing).0
        });
        prop_assert_eq!(came, whole);
    }

    #[test]
    fn what_is_written_arrives_in_frames(
        writes in prop::collection::vec(0usize..70_000, 1..4),
        pipe in 1usize..5_000,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (sent, received) = runtime.block_on(async {
            let (mut client, mut socket) = connected(pipe);
            let writing = async move {
                let mut sent = Vec::new();
                for length in writes {
                    let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
                    socket.write_all(&content).await.unwrap();
                    socket.flush().await.unwrap();
                    sent.extend(content);
                }
                sent
            };
            let mut received = Vec::new();
            let (sent, _) = tokio::join!(writing, client.read_to_end(&mut received));
            (sent, received)
        });
        let frames = frames(&received);
        prop_assert!(frames.iter().all(|(first, _)| *first == FIN | BINARY));
        let received: Vec<u8> = frames.into_iter().flat_map(|(_, content)| content).collect();
        prop_assert_eq!(received, sent);
    }
}
