//! URLs of proxies, and what is said to them and by them, over a pipe in memory.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

fn proxy(url: &str) -> Proxy {
    Proxy::parse(url).unwrap()
}

#[test]
fn a_url_has_the_proxy_and_who_we_are() {
    let whole = proxy("http://ed%40ge:p%3Aw%20x@proxy.lan:8080");
    assert_eq!((whole.kind, whole.host.as_str(), whole.port), (ProxyKind::Http, "proxy.lan", 8080));
    let (user, password) = whole.credentials.clone().unwrap();
    assert_eq!((user.as_str(), password.reveal()), ("ed@ge", "p:w x"));
    assert_eq!(whole.to_string(), "http://proxy.lan:8080");
    assert!(!format!("{whole:?}").contains("p:w"), "{whole:?}");
    assert_eq!(proxy("http://10.0.0.1/").port, 3128);
    let socks = proxy("SOCKS5h://[::1]");
    assert_eq!((socks.kind, socks.port, socks.credentials.as_ref()), (ProxyKind::Socks5, 1080, None));
    assert_eq!(socks.to_string(), "socks5://[::1]:1080");
    assert_eq!(proxy("socks5://a:b@c@d").credentials.unwrap().1.reveal(), "b@c");
}

#[test]
fn what_is_no_proxy_is_refused_without_showing_its_password() {
    let long = format!("http://u:{}@p", "x".repeat(256));
    for (url, error) in [
        ("proxy.lan:3128", ProxyUrlError::Scheme),
        ("https://u:hunter2@p", ProxyUrlError::Https),
        ("mqtt://u:hunter2@p", ProxyUrlError::Scheme),
        ("http://u:hunter2@", ProxyUrlError::Host),
        ("http://p:99999", ProxyUrlError::Port),
        ("http://p:0", ProxyUrlError::Rest),
        ("http://p/path", ProxyUrlError::Rest),
        ("http://u@p", ProxyUrlError::Credentials),
        ("http://u:@p", ProxyUrlError::Credentials),
        ("http://:hunter2@p", ProxyUrlError::Credentials),
        ("http://u%3A:hunter2@p", ProxyUrlError::Credentials),
        ("http://u:%4@p", ProxyUrlError::Credentials),
        (&long, ProxyUrlError::Credentials),
    ] {
        let found = Proxy::parse(url).unwrap_err();
        assert_eq!(found, error, "{url}");
        assert!(!found.to_string().contains("hunter2"));
    }
}

/// What a proxy hears that says `says`, piece by piece, and what we make of it.
async fn talk(proxy: &Proxy, says: &[&[u8]]) -> (Vec<u8>, Result<(), ProxyError>) {
    let (mut near, mut far) = duplex(4096);
    let says: Vec<Vec<u8>> = says.iter().map(|piece| piece.to_vec()).collect();
    let there = tokio::spawn(async move {
        let mut heard = Vec::new();
        for piece in says {
            let mut bytes = [0; 1024];
            let count = far.read(&mut bytes).await.unwrap();
            heard.extend_from_slice(&bytes[..count]);
            far.write_all(&piece).await.unwrap();
        }
        heard
    });
    let connected = proxy.connect(&mut near, "broker.example.com", 8883).await;
    drop(near);
    (there.await.unwrap(), connected)
}

#[tokio::test]
async fn an_http_proxy_is_asked_by_connect() {
    let (heard, connected) = talk(&proxy("http://u:p@h"), &[b"HTTP/1.1 200 Connection established\r\n\r\n"]).await;
    connected.unwrap();
    assert_eq!(
        String::from_utf8(heard).unwrap(),
        "CONNECT broker.example.com:8883 HTTP/1.1\r\nHost: broker.example.com:8883\r\n\
         Proxy-Authorization: Basic dTpw\r\n\r\n"
    );
    assert_eq!(
        String::from_utf8(http::encode_request(&target("::1", 1883), None)).unwrap(),
        "CONNECT [::1]:1883 HTTP/1.1\r\nHost: [::1]:1883\r\n\r\n"
    );
}

#[tokio::test]
async fn an_http_proxy_that_says_no_is_told_in_words() {
    for (url, answer, words) in [
        ("http://h", "407 Proxy Authentication Required", "it wants a user and a password"),
        ("http://u:p@h", "407 Proxy Authentication Required", "it refuses our user or password"),
        ("http://h", "403 Forbidden", "does not allow connections to broker.example.com:8883 (403 Forbidden)"),
        ("http://h", "504 Gateway Timeout", "it cannot reach broker.example.com:8883: 504 Gateway Timeout"),
        ("http://h", "400 Bad Request", "it answers 400 Bad Request"),
    ] {
        let (_, connected) = talk(&proxy(url), &[format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes()]).await;
        let error = connected.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    for (answer, words) in [
        (&b"SSH-2.0-OpenSSH_9.2\r\n"[..], "no HTTP proxy"),
        (b"HTTP/1.1 200 OK\r\n\r\n<html>", "something behind its answer"),
        (b"HTTP/1.1 200 OK\r\n", "closed the connection without an answer"),
    ] {
        let (_, connected) = talk(&proxy("http://h"), &[answer]).await;
        let error = connected.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_socks5_proxy_is_told_the_name() {
    let (heard, connected) = talk(&proxy("socks5://h"), &[&[5, 0], &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]]).await;
    connected.unwrap();
    assert_eq!(heard, [&[5, 1, 0, 5, 1, 0, 3, 18][..], b"broker.example.com", &8883u16.to_be_bytes()].concat());
    let name = [&[5, 0, 0, 3, 4][..], b"gate", &[0, 1]].concat();
    let (heard, connected) = talk(&proxy("socks5://us:pass@h"), &[&[5, 2], &[1, 0], &name]).await;
    connected.unwrap();
    assert!(heard.starts_with(b"\x05\x02\x00\x02\x01\x02us\x04pass\x05\x01\x00\x03\x12broker"), "{heard:?}");
    assert_eq!(socks5::encode_request("10.0.0.1", 1), [5, 1, 0, 1, 10, 0, 0, 1, 0, 1]);
    assert_eq!(socks5::encode_request("::1", 1)[3..], [&[4][..], &[0; 15], &[1, 0, 1]].concat());
}

#[tokio::test]
async fn a_socks5_proxy_that_says_no_is_told_in_words() {
    let refusal = |reply: u8| vec![5, reply, 0, 1, 0, 0, 0, 0, 0, 0];
    for (url, says, words) in [
        ("socks5://h", vec![vec![5, 0xff]], "it wants a user and a password"),
        ("socks5://u:p@h", vec![vec![5, 0xff]], "it takes no user and password"),
        ("socks5://u:p@h", vec![vec![5, 2], vec![1, 1]], "it refuses our user or password"),
        ("socks5://u:p@h", vec![vec![5, 2], vec![]], "it refuses our user or password"),
        ("socks5://h", vec![vec![5, 0], refusal(2)], "does not allow connections to broker.example.com:8883"),
        ("socks5://h", vec![vec![5, 0], refusal(4)], "it cannot reach broker.example.com:8883: host unreachable"),
        ("socks5://h", vec![vec![5, 0], refusal(5)], "cannot reach broker.example.com:8883: connection refused"),
        ("socks5://h", vec![vec![5, 0], refusal(200)], "it answers 200, which means nothing"),
        ("socks5://h", vec![vec![5, 2]], "no SOCKS5 proxy"),
        ("socks5://h", vec![b"HTTP/1.1 400 Bad Request".to_vec()], "no SOCKS5 proxy"),
        ("socks5://h", vec![vec![]], "closed the connection without an answer"),
    ] {
        let says: Vec<&[u8]> = says.iter().map(Vec::as_slice).collect();
        let (_, connected) = talk(&proxy(url), &says).await;
        let error = connected.unwrap_err().to_string();
        assert!(error.contains(words), "{url} {says:?}: {error}");
    }
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = http::decode_answer(&bytes, "t", true);
        let _ = http::decode_answer(&[b"HTTP/1.1 ", &bytes[..]].concat(), "t", false);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for url in ["http://u:p@h", "socks5://u:p@h"] {
                let (_, connected) = talk(&proxy(url), &[&bytes]).await;
                prop_assert!(connected.is_err() || bytes.starts_with(b"HTTP/1.") || bytes.first() == Some(&5));
            }
            Ok(())
        })?;
    }
}
